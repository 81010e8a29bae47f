"""Who belongs to which organization: the truth, and the lagging index that lists are read from."""

import sqlite3

from service.auth0.simulator import happenings
from service.auth0.simulator.lag import Range
from service.auth0.simulator.operation import World


def join(world: World, organization_id: str, user_id: str) -> None:
    """Make a user a member; a repeat changes nothing."""
    added = world.run(
        "INSERT OR IGNORE INTO members (tenant, organization_id, user_id, added_at)"
        " VALUES (?, ?, ?, ?)",
        organization_id,
        user_id,
        world.now,
    )
    if added:
        _index(world, organization_id, user_id, world.lag.member_added, added_at=world.now)
        happenings.of_member(world, "organization.member.added", organization_id, user_id)


def leave(world: World, organization_id: str, user_id: str) -> None:
    """End a membership and its roles; a repeat changes nothing."""
    removed = world.run(
        "DELETE FROM members WHERE tenant = ? AND organization_id = ? AND user_id = ?",
        organization_id,
        user_id,
    )
    if removed:
        world.run(
            "DELETE FROM member_roles WHERE tenant = ? AND organization_id = ? AND user_id = ?",
            organization_id,
            user_id,
        )
        _index(world, organization_id, user_id, world.lag.member_removed, added_at=None)
        happenings.of_member(world, "organization.member.deleted", organization_id, user_id)


def leave_all(world: World, user_id: str) -> None:
    """End every membership of a user."""
    for organization_id in organizations_of(world, user_id):
        leave(world, organization_id, user_id)


def dissolve(world: World, organization_id: str) -> None:
    """End all memberships of an organization that goes; its members stay users."""
    for table in ("members", "member_roles", "member_index"):
        world.run(
            f"DELETE FROM {table} WHERE tenant = ? AND organization_id = ?",  # noqa: S608
            organization_id,
        )


def is_member(world: World, organization_id: str, user_id: str) -> bool:
    """Whether the user is a member now, whatever the lists show."""
    found = world.row(
        "SELECT 1 FROM members WHERE tenant = ? AND organization_id = ? AND user_id = ?",
        organization_id,
        user_id,
    )
    return found is not None


def organizations_of(world: World, user_id: str) -> list[str]:
    """Ids of the organizations of a user, by the truth."""
    found = world.rows(
        "SELECT organization_id FROM members WHERE tenant = ? AND user_id = ? ORDER BY added_at",
        user_id,
    )
    return [row["organization_id"] for row in found]


_VISIBLE = (
    "FROM member_index i WHERE i.tenant = ? AND i.organization_id = ? AND i.added_at IS NOT NULL"
    " AND i.seq = (SELECT max(seq) FROM member_index j WHERE j.tenant = i.tenant"
    " AND j.organization_id = i.organization_id AND j.user_id = i.user_id AND j.due <= ?)"
)


def listed(
    world: World, organization_id: str, *, after: tuple[float, str], limit: int, offset: int = 0
) -> list[sqlite3.Row]:
    """Rows (`user_id`, `added_at`) that the list shows now, by time of joining."""
    return world.rows(
        f"SELECT i.user_id, i.added_at {_VISIBLE}"
        " AND (i.added_at, i.user_id) > (?, ?) ORDER BY i.added_at, i.user_id LIMIT ? OFFSET ?",
        organization_id,
        world.now,
        *after,
        limit,
        offset,
    )


def count_listed(world: World, organization_id: str) -> int:
    """How many members the list shows now."""
    row = world.row(f"SELECT count(*) AS n {_VISIBLE}", organization_id, world.now)
    return 0 if row is None else int(row["n"])


def listed_in(world: World) -> dict[str, set[str]]:
    """For search: user_id to the ids of organizations whose lists show the user now."""
    found = world.rows(
        "SELECT i.user_id, i.organization_id FROM member_index i"
        " WHERE i.tenant = ? AND i.added_at IS NOT NULL AND i.seq = ("
        "SELECT max(seq) FROM member_index j WHERE j.tenant = i.tenant"
        " AND j.organization_id = i.organization_id AND j.user_id = i.user_id AND j.due <= ?)",
        world.now,
    )
    shown: dict[str, set[str]] = {}
    for row in found:
        shown.setdefault(row["user_id"], set()).add(row["organization_id"])
    return shown


def _index(
    world: World, organization_id: str, user_id: str, delay: Range, *, added_at: float | None
) -> None:
    row = world.row(
        "SELECT max(due) AS due FROM member_index"
        " WHERE tenant = ? AND organization_id = ? AND user_id = ?",
        organization_id,
        user_id,
    )
    earliest = 0.0 if row is None or row["due"] is None else float(row["due"])
    due = max(earliest, world.due(delay))
    world.run(
        "INSERT INTO member_index (tenant, organization_id, user_id, due, added_at)"
        " VALUES (?, ?, ?, ?, ?)",
        organization_id,
        user_id,
        due,
        added_at,
    )
    world.run(
        "DELETE FROM member_index WHERE tenant = ? AND organization_id = ? AND user_id = ?"
        " AND seq < (SELECT max(seq) FROM member_index WHERE tenant = ? AND organization_id = ?"
        " AND user_id = ? AND due <= ?)",
        organization_id,
        user_id,
        world.tenant,
        organization_id,
        user_id,
        world.now,
    )
