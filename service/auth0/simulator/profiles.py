"""User profiles and their identities as they are kept, and the search index that follows them.

A profile is stored as the document that `GET /users/{id}` answers. Knows no operations.
"""

import json
import sqlite3
from dataclasses import dataclass
from typing import Any

from service.auth0.simulator import happenings, membership
from service.auth0.simulator.errors import Refusal
from service.auth0.simulator.operation import World
from service.auth0.simulator.store import timestamp

Profile = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """How a profile is known in one connection. Keys are lower case, and unique where given."""

    provider: str
    id: str
    connection: str
    email_key: str | None
    username_key: str | None

    @property
    def user_id(self) -> str:
        """`provider|id`."""
        return f"{self.provider}|{self.id}"

    def shown(self) -> dict[str, Any]:
        """The identity as it stands in a profile."""
        return {
            "connection": self.connection,
            "user_id": self.id,
            "provider": self.provider,
            "isSocial": False,
        }


def load(world: World, user_id: str) -> Profile | None:
    """The profile with that id, as written last."""
    row = world.row("SELECT document FROM users WHERE tenant = ? AND user_id = ?", user_id)
    return None if row is None else json.loads(row["document"])


def exists(world: World, user_id: str) -> bool:
    """Whether there is such a profile."""
    found = world.row("SELECT 1 FROM users WHERE tenant = ? AND user_id = ?", user_id)
    return found is not None


def owner(world: World, connection: str, email_key: str) -> str | None:
    """The user_id behind a lower-case address in a connection."""
    row = world.row(
        "SELECT user_id FROM identities WHERE tenant = ? AND connection = ? AND email_key = ?",
        connection,
        email_key,
    )
    return None if row is None else row["user_id"]


def owner_of_identity(world: World, provider: str, identity_id: str) -> str | None:
    """The user_id behind a provider's id."""
    row = world.row(
        "SELECT user_id FROM identities WHERE tenant = ? AND provider = ? AND id = ?",
        provider,
        identity_id,
    )
    return None if row is None else row["user_id"]


def insert(world: World, identity: Identity, profile: Profile) -> Profile:
    """Store a new profile. Raises the 409 where its id, address or username is taken."""
    try:
        add_identity(world, identity, identity.user_id)
    except sqlite3.IntegrityError:
        raise Refusal(
            status=409, message="The user already exists.", error_code="auth0_idp_error"
        ) from None
    return _store(world, identity.user_id, identity.shown(), profile)


def restore(world: World, identity: Profile) -> Profile:
    """Make an unlinked identity, as it stood in a profile, an account of its own again."""
    own = {k: v for k, v in identity.items() if k != "profileData"}
    user_id = f"{identity['provider']}|{identity['user_id']}"
    world.db.execute(
        "UPDATE identities SET user_id = ? WHERE tenant = ? AND provider = ? AND id = ?",
        (user_id, world.tenant, identity["provider"], str(identity["user_id"])),
    )
    return _store(world, user_id, own, identity.get("profileData", {}))


def _store(world: World, user_id: str, identity: Profile, profile: Profile) -> Profile:
    moment = timestamp(world.now)
    document = {
        "user_id": user_id,
        "identities": [identity],
        "created_at": moment,
        "updated_at": moment,
        **profile,
    }
    world.run(
        "INSERT INTO users (tenant, user_id, email, document) VALUES (?, ?, ?, ?)",
        user_id,
        document.get("email"),
        json.dumps(document),
    )
    _index(world, user_id, document)
    happenings.tell(world, "user.created", document)
    return document


def add_identity(world: World, identity: Identity, user_id: str) -> None:
    """Attach an identity to a profile. Raises IntegrityError where it is taken."""
    world.run(
        "INSERT INTO identities (tenant, provider, id, connection, user_id, email_key,"
        " username_key) VALUES (?, ?, ?, ?, ?, ?, ?)",
        identity.provider,
        identity.id,
        identity.connection,
        user_id,
        identity.email_key,
        identity.username_key,
    )


def save(world: World, profile: Profile, *, touched: bool = True, is_news: bool = True) -> None:
    """Store a changed profile, and let search follow it later. `is_news`: whether events tell of it."""
    if touched:
        profile["updated_at"] = timestamp(world.now)
    world.db.execute(
        "UPDATE users SET email = ?, document = ? WHERE tenant = ? AND user_id = ?",
        (profile.get("email"), json.dumps(profile), world.tenant, profile["user_id"]),
    )
    _index(world, profile["user_id"], profile)
    if is_news:
        happenings.tell(world, "user.updated", profile)


def remove(world: World, user_id: str) -> None:
    """Delete a profile with all that hangs on it; an unknown one changes nothing."""
    profile = load(world, user_id)
    if profile is None:
        return
    membership.leave_all(world, user_id)
    for table in (
        "users",
        "identities",
        "sessions",
        "refresh_tokens",
        "tickets",
        "brute_force_blocks",
        "imported_passwords",
    ):
        world.run(f"DELETE FROM {table} WHERE tenant = ? AND user_id = ?", user_id)  # noqa: S608
    _index(world, user_id, None)
    gone = {**profile, "deleted_at": timestamp(world.now)}
    happenings.tell(world, "user.deleted", gone)


def remove_all_of(world: World, connection: str) -> None:
    """Delete the profiles whose primary identity is in a connection."""
    for row in world.rows(
        "SELECT user_id FROM identities WHERE tenant = ? AND connection = ?"
        " AND user_id = provider || '|' || id",
        connection,
    ):
        remove(world, row["user_id"])


def _index(world: World, user_id: str, profile: Profile | None) -> None:
    """Let search show this version when its time has come, and forget versions nobody can see."""
    world.run(
        "DELETE FROM user_index WHERE tenant = ? AND user_id = ? AND seq < ("
        "SELECT max(seq) FROM user_index WHERE tenant = ? AND user_id = ? AND due <= ?)",
        user_id,
        world.tenant,
        user_id,
        world.now,
    )
    row = world.row(
        "SELECT max(due) AS due FROM user_index WHERE tenant = ? AND user_id = ?", user_id
    )
    earliest = 0.0 if row is None or row["due"] is None else float(row["due"])
    # Versions show in the order they were written, so a later one never shows first.
    due = max(earliest, world.due(world.lag.search))
    world.run(
        "INSERT INTO user_index (tenant, user_id, due, document) VALUES (?, ?, ?, ?)",
        user_id,
        due,
        None if profile is None else json.dumps(profile),
    )


def searchable(world: World) -> list[Profile]:
    """What search sees now: of each profile the newest version that is due."""
    found = world.rows(
        "SELECT document FROM user_index i WHERE tenant = ? AND document IS NOT NULL AND seq = ("
        "SELECT max(seq) FROM user_index j"
        " WHERE j.tenant = i.tenant AND j.user_id = i.user_id AND j.due <= ?)"
        " ORDER BY seq",
        world.now,
    )
    return [json.loads(row["document"]) for row in found]
