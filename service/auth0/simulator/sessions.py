"""Sessions and refresh tokens: listing, and revocation that takes effect some time later.

Sources: Management API reference (`DELETE` answers 202), and a recording of its body `{}`.
"""

import sqlite3
from typing import Any

from service.auth0.simulator import profiles, users
from service.auth0.simulator.errors import Refusal
from service.auth0.simulator.operation import Answer, Call, Operation, World
from service.auth0.simulator.shapes import FLAG, checkpointed, text
from service.auth0.simulator.store import new_id, timestamp

SESSION_LIFETIME = 3 * 86_400
ACCEPTED = Answer(status=202, body={})

_REVOKE = {"session_id": text(most=50), "preserve_refresh_tokens": FLAG}


def start(
    world: World, *, user_id: str, client_id: str, organization_id: str | None
) -> tuple[str, str]:
    """Begin a session and issue a refresh token; answers both ids."""
    session_id, token_id = new_id("", 24), new_id("", 24)
    world.run(
        "INSERT INTO sessions (tenant, id, user_id, client_id, organization_id, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        session_id,
        user_id,
        client_id,
        organization_id,
        world.now,
    )
    world.run(
        "INSERT INTO refresh_tokens (tenant, id, user_id, client_id, session_id, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        token_id,
        user_id,
        client_id,
        session_id,
        world.now,
    )
    return session_id, token_id


def live(world: World, table: str, user_id: str | None = None) -> list[sqlite3.Row]:
    """Rows of `sessions` or `refresh_tokens` whose revocation, if any, is not yet in effect."""
    sql = (
        f"SELECT * FROM {table} WHERE tenant = ?"  # noqa: S608
        " AND (revoked_at IS NULL OR revoked_at > ?)"
    )
    if user_id is None:
        return world.rows(f"{sql} ORDER BY created_at", world.now)
    return world.rows(f"{sql} AND user_id = ? ORDER BY created_at", world.now, user_id)


def revoke(world: World, table: str, user_id: str, *, session_id: str | None = None) -> None:
    """Let what exists now end at one drawn moment; what begins later is not touched."""
    column = "id" if table == "sessions" else "session_id"
    sql = (
        f"UPDATE {table} SET revoked_at = ? WHERE revoked_at IS NULL"  # noqa: S608
        " AND tenant = ? AND user_id = ?"
    )
    values: list[object] = [world.due(world.lag.revocation), world.tenant, user_id]
    if session_id is not None:
        sql += f" AND {column} = ?"
        values.append(session_id)
    world.db.execute(sql, values)


def _shown_session(row: sqlite3.Row) -> dict[str, Any]:
    began = timestamp(row["created_at"])
    ends = timestamp(row["created_at"] + SESSION_LIFETIME)
    return {
        "id": row["id"],
        "user_id": row["user_id"],
        "created_at": began,
        "updated_at": began,
        "authenticated_at": began,
        "last_interacted_at": began,
        "idle_expires_at": ends,
        "expires_at": ends,
        "clients": [{"client_id": row["client_id"]}],
    }


def _shown_token(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "user_id": row["user_id"],
        "client_id": row["client_id"],
        "session_id": row["session_id"],
        "created_at": timestamp(row["created_at"]),
        "rotating": True,
    }


def _list_sessions(call: Call) -> Answer:
    users.required(call.world, call.params["user_id"])
    rows = live(call.world, "sessions", call.params["user_id"])
    return Answer(body=checkpointed([_shown_session(r) for r in rows], "sessions", call.query))


def _list_tokens(call: Call) -> Answer:
    users.required(call.world, call.params["user_id"])
    rows = live(call.world, "refresh_tokens", call.params["user_id"])
    return Answer(body=checkpointed([_shown_token(r) for r in rows], "tokens", call.query))


def _delete_sessions(call: Call) -> Answer:
    users.required(call.world, call.params["user_id"])
    revoke(call.world, "sessions", call.params["user_id"])
    return ACCEPTED


def _delete_tokens(call: Call) -> Answer:
    users.required(call.world, call.params["user_id"])
    revoke(call.world, "refresh_tokens", call.params["user_id"])
    return ACCEPTED


def _revoke_access(call: Call) -> Answer:
    body = call.body(_REVOKE) if call.raw else {}
    preserve = body.get("preserve_refresh_tokens", False)
    if not preserve:
        call.needs("delete:refresh_tokens")
    user_id, session_id = call.params["user_id"], body.get("session_id")
    # No 404 is declared for this operation.
    if profiles.exists(call.world, user_id):
        revoke(call.world, "sessions", user_id, session_id=session_id)
        if not preserve:
            revoke(call.world, "refresh_tokens", user_id, session_id=session_id)
    return ACCEPTED


def refuse_without_entitlement() -> Refusal:
    """The 403 of a plan that does not include the session operations."""
    return Refusal(
        status=403,
        message="The plan of this tenant does not include this operation",
        error_code="insufficient_entitlement",
    )


OPERATIONS = (
    Operation(
        "GET", "/users/{user_id}/sessions", "sessions", ("read:sessions",), _list_sessions, True
    ),
    Operation(
        "DELETE",
        "/users/{user_id}/sessions",
        "sessions",
        ("delete:sessions",),
        _delete_sessions,
        True,
    ),
    Operation(
        "GET",
        "/users/{user_id}/refresh-tokens",
        "refresh_tokens",
        ("read:refresh_tokens",),
        _list_tokens,
        True,
    ),
    Operation(
        "DELETE",
        "/users/{user_id}/refresh-tokens",
        "refresh_tokens",
        ("delete:refresh_tokens",),
        _delete_tokens,
        True,
    ),
    Operation(
        "POST",
        "/users/{user_id}/revoke-access",
        "revoke_access",
        ("delete:sessions",),
        _revoke_access,
    ),
)
