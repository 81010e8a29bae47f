"""What happens to users, organizations, members and roles, kept in order as the Events API tells it.

Sources: Auth0's OpenAPI document (schemas of events) and its pages on the Events API and on events'
best practices: at least once, not in the order in which things happened.
"""

from __future__ import annotations

import json
import sqlite3
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections.abc import Collection, Mapping
from typing import Any, Final

from service.auth0.simulator.lag import drawn
from service.auth0.simulator.operation import World
from service.auth0.simulator.store import new_id, timestamp

TYPES: Final = frozenset(
    {
        "user.created",
        "user.updated",
        "user.deleted",
        "organization.created",
        "organization.updated",
        "organization.deleted",
        "organization.member.added",
        "organization.member.deleted",
        "organization.member.role.assigned",
        "organization.member.role.deleted",
        "organization.connection.added",
        "organization.connection.updated",
        "organization.connection.removed",
        "group.created",
        "group.deleted",
        "group.updated",
        "group.member.added",
        "group.member.deleted",
        "group.role.assigned",
        "group.role.deleted",
        "organization.group.role.assigned",
        "organization.group.role.deleted",
    }
)
"""What may be asked for. Groups are not modelled, so of them nothing is told."""

RETENTION: Final = 259_200.0
"""Seconds that events are kept: three days."""

Offset = tuple[float, int]
"""A position: when the event shows, and its number among those of that moment."""


class BadOffset(Exception):
    """Not an offset of this stream."""


def tell(world: World, kind: str, content: Mapping[str, Any]) -> None:
    """Keeps that something has happened; it shows after a delay of its own."""
    event = {
        "specversion": "1.0",
        "type": kind,
        "source": f"urn:auth0:{world.tenant}.auth0.test",
        "id": new_id("evt_"),
        "time": timestamp(world.now),
        # Without its optional context: the document and the SDK describe that differently.
        "data": {"object": content},
        "a0tenant": world.tenant,
    }
    world.run(
        "INSERT INTO happenings (tenant, due, type, document) VALUES (?, ?, ?, ?)",
        world.now + drawn(world.lag.events, world.random),
        kind,
        json.dumps(event),
    )
    world.told.add(world.tenant)


def of_member(world: World, kind: str, organization_id: str, user_id: str) -> None:
    tell(
        world,
        kind,
        {"organization": _organization(world, organization_id), "user": {"user_id": user_id}},
    )


def of_role(
    world: World, kind: str, organization_id: str, user_id: str, role: Mapping[str, Any]
) -> None:
    content = {
        "organization": {"id": organization_id},  # without its name, other than of members
        "user": {"user_id": user_id},
        "role": {"id": role["id"], "name": role["name"]},
    }
    tell(world, kind, content)


def _organization(world: World, organization_id: str) -> dict[str, Any]:
    row = world.row("SELECT name FROM organizations WHERE tenant = ? AND id = ?", organization_id)
    return {"id": organization_id, **({"name": row["name"]} if row is not None else {})}


def after(
    world: World, offset: Offset, kinds: Collection[str], limit: int = 100
) -> list[sqlite3.Row]:
    """The next events that show by now, of these types or of all."""
    among = f" AND type IN ({', '.join('?' * len(kinds))})" if kinds else ""
    shown = " AND (due, seq) > (?, ?) AND due <= ?"
    return world.rows(
        f"SELECT * FROM happenings WHERE tenant = ?{shown}{among} ORDER BY due, seq LIMIT ?",  # noqa: S608
        *offset,
        world.now,
        *kinds,
        limit,
    )


def newest(world: World) -> Offset:
    """The position after all that shows by now."""
    row = world.row(
        "SELECT due, seq FROM happenings WHERE tenant = ? AND due <= ?"
        " ORDER BY due DESC, seq DESC LIMIT 1",
        world.now,
    )
    return (world.now, 0) if row is None else (float(row["due"]), int(row["seq"]))


def forget_old(world: World) -> None:
    world.run("DELETE FROM happenings WHERE tenant = ? AND due < ?", world.now - RETENTION)


def is_expired(world: World, offset: Offset) -> bool:
    return offset[0] < world.now - RETENTION


def written(offset: Offset) -> str:
    """An offset as callers see it."""
    return urlsafe_b64encode(f"{offset[0]!r} {offset[1]}".encode()).decode()


def read(text: str) -> Offset:
    """The offset that was written so. Raises BadOffset."""
    try:
        due, _, seq = urlsafe_b64decode(text.encode("ascii")).decode().partition(" ")
        return float(due), int(seq)
    except (NotBase64, UnicodeError, ValueError):
        raise BadOffset from None
