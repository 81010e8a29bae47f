"""Brute-force blocks (`/user-blocks`): apart from an administrator's `blocked`."""

import json
import sqlite3
from typing import Any

from service.auth0.simulator import users
from service.auth0.simulator.errors import bad_query
from service.auth0.simulator.operation import NO_CONTENT, Answer, Call, Operation, World


def place(world: World, *, user_id: str, identifier: str, ip: str, connection: str) -> None:
    """Block a user from an address after too many wrong passwords."""
    world.run(
        "INSERT OR REPLACE INTO brute_force_blocks (tenant, user_id, identifier, ip, connection)"
        " VALUES (?, ?, ?, ?, ?)",
        user_id,
        identifier,
        ip,
        connection,
    )


def holds(world: World, user_id: str) -> bool:
    """Whether any brute-force block stands."""
    return bool(_of_user(world, user_id))


def _of_user(world: World, user_id: str) -> list[sqlite3.Row]:
    return world.rows(
        "SELECT * FROM brute_force_blocks WHERE tenant = ? AND user_id = ? ORDER BY ip", user_id
    )


def _shown(rows: list[sqlite3.Row]) -> dict[str, Any]:
    names = ("identifier", "ip", "connection")
    return {"blocked_for": [{name: row[name] for name in names} for row in rows]}


def _subjects(call: Call) -> list[str]:
    identifier = call.query.text("identifier")
    if not identifier:
        raise bad_query("Missing required property: identifier")
    wanted = identifier.lower()
    found = call.world.rows("SELECT user_id, document FROM users WHERE tenant = ?")
    return [row["user_id"] for row in found if wanted in _identifiers(json.loads(row["document"]))]


def _identifiers(profile: dict[str, Any]) -> set[str]:
    names = ("email", "username", "phone_number")
    return {str(profile[name]).lower() for name in names if name in profile}


def _list(call: Call) -> Answer:
    users.required(call.world, call.params["id"])
    return Answer(body=_shown(_of_user(call.world, call.params["id"])))


def _list_by_identifier(call: Call) -> Answer:
    rows = [row for user in _subjects(call) for row in _of_user(call.world, user)]
    return Answer(body=_shown(rows))


def _lift(world: World, user_id: str) -> None:
    world.run("DELETE FROM brute_force_blocks WHERE tenant = ? AND user_id = ?", user_id)


def _delete(call: Call) -> Answer:
    users.required(call.world, call.params["id"])
    _lift(call.world, call.params["id"])
    return NO_CONTENT


def _delete_by_identifier(call: Call) -> Answer:
    for user_id in _subjects(call):
        _lift(call.world, user_id)
    return NO_CONTENT


_READ, _WRITE = "user_blocks_read", "user_blocks_write"
OPERATIONS = (
    Operation("GET", "/user-blocks", _READ, ("read:users",), _list_by_identifier),
    Operation("DELETE", "/user-blocks", _WRITE, ("update:users",), _delete_by_identifier),
    Operation("GET", "/user-blocks/{id}", _READ, ("read:users",), _list),
    Operation("DELETE", "/user-blocks/{id}", _WRITE, ("update:users",), _delete),
)
