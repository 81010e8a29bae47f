"""The rows that our server writes for a user, as bare statements: what a durable write of ours costs
whoever decides nothing. Of the tables it knows the names.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from service.ids import account_key, new_ids

Statements = list[tuple[str, tuple[object, ...]]]

_ORGANIZATION: Final = "hoekstra"
_USER: Final = (
    "INSERT INTO users (id, organization, state, created_at, resource, user_name_key,"
    " display_name_key, external_id, active, version, modified_at, identifier, account_id,"
    " last_event_id) VALUES (?, ?, 'pending', ?, ?, ?, ?, ?, 1, 1, ?, ?, ?, ?)"
)
_EMAIL: Final = "INSERT INTO user_emails (user_id, value_key, organization) VALUES (?, ?, ?)"
_ACCOUNT: Final = (
    "INSERT INTO accounts (id, tenant, connection, user_id, identifier, revision,"
    " applied_revision, observed, due_at, modified_at)"
    " VALUES (?, 'main', 'hoekstra-users', ?, ?, 1, 0, '{}', ?, ?)"
)
_EVENT: Final = (
    "INSERT INTO events (id, organization, door, source, type, headers, body, body_hash, user_id,"
    " state, accepted_at) VALUES (?, ?, 'scim', 'scim', ?, '[]', ?, '', ?, 'accepted', ?)"
)
_WAIT: Final = "INSERT INTO waits (event_id, account_id, user_id, revision) VALUES (?, ?, ?, 1)"
_TOUCH: Final = (
    "UPDATE accounts SET revision = revision + 1, attempts = 0, error = NULL, due_at = ?,"
    " leaver = 0, modified_at = ? WHERE id = ?"
)
_CHANGE: Final = (
    "UPDATE users SET resource = ?, version = version + 1, modified_at = ?, last_event_id = ?"
    " WHERE id = ?"
)


def created(made: str, document: dict[str, Any], body: bytes, answer: bytes) -> Statements:
    """A user, their address, an account with the user's own id, an event and what waits for it."""
    at, event = _now()
    name = document["userName"].casefold()
    shown, known_as = document.get("displayName"), document.get("externalId")
    user = (made, _ORGANIZATION, at, answer.decode(), name, shown, known_as, at, name, made, event)
    return [
        (_USER, user),
        (_EMAIL, (made, name, _ORGANIZATION)),
        (_ACCOUNT, (made, f"auth0|{account_key()}", name, at, at)),
        (_EVENT, _event(event, "user.create", body, made, at)),
        (_WAIT, (event, made, made)),
    ]


def patched(made: str, body: bytes, answer: bytes) -> Statements:
    """The user as they are now, their account due, an event and what waits for it."""
    at, event = _now()
    return [
        (_TOUCH, (at, at, made)),
        (_EVENT, _event(event, "user.patch", body, made, at)),
        (_WAIT, (event, made, made)),
        (_CHANGE, (answer.decode(), at, event, made)),
    ]


def _now() -> tuple[str, str]:
    now = datetime.now(UTC)
    return now.replace(tzinfo=None).isoformat(" "), new_ids(now, 1)[0]


def _event(event: str, kind: str, body: bytes, made: str, at: str) -> tuple[object, ...]:
    return event, _ORGANIZATION, kind, body, made, at
