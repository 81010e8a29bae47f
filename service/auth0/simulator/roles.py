"""Roles of a tenant."""

import sqlite3
from typing import Any

from service.auth0.simulator.errors import Refusal, unknown_role
from service.auth0.simulator.operation import Answer, Call, Operation, World
from service.auth0.simulator.shapes import Property, paged, text
from service.auth0.simulator.store import new_id

_CREATE = {
    "name": text(required=True),
    "description": Property(kind="string"),
}


def required(world: World, role_id: str) -> sqlite3.Row:
    """The role. Raises the 404 where there is none."""
    found = world.row("SELECT * FROM roles WHERE tenant = ? AND id = ?", role_id)
    if found is None:
        raise unknown_role()
    return found


def insert(world: World, role_id: str, name: str, description: str) -> dict[str, Any]:
    """Store a new role."""
    world.run(
        "INSERT INTO roles (tenant, id, name, description) VALUES (?, ?, ?, ?)",
        role_id,
        name,
        description,
    )
    return {"id": role_id, "name": name, "description": description}


def of_member(world: World, organization_id: str, user_id: str) -> list[dict[str, Any]]:
    """The roles a user holds in an organization, by name."""
    found = world.rows(
        "SELECT r.* FROM member_roles m JOIN roles r ON r.tenant = m.tenant AND r.id = m.role_id"
        " WHERE m.tenant = ? AND m.organization_id = ? AND m.user_id = ? ORDER BY r.name",
        organization_id,
        user_id,
    )
    return [_shown(row) for row in found]


def _shown(row: sqlite3.Row) -> dict[str, Any]:
    return {"id": row["id"], "name": row["name"], "description": row["description"]}


def _list(call: Call) -> Answer:
    wanted = call.query.text("name_filter")
    rows = [
        _shown(row)
        for row in call.world.rows("SELECT * FROM roles WHERE tenant = ? ORDER BY name")
        if wanted is None or wanted.casefold() in str(row["name"]).casefold()
    ]
    return Answer(body=paged(rows, "roles", call.query))


def _create(call: Call) -> Answer:
    body = call.body(_CREATE)
    name = body["name"]
    if call.world.row("SELECT 1 FROM roles WHERE tenant = ? AND name = ?", name) is not None:
        raise Refusal(status=409, message="The role already exists.")
    return Answer(body=insert(call.world, new_id("rol_"), name, body.get("description", "")))


def _get(call: Call) -> Answer:
    return Answer(body=_shown(required(call.world, call.params["id"])))


def _delete(call: Call) -> Answer:
    """Whoever holds it holds it no more."""
    role_id = required(call.world, call.params["id"])["id"]
    call.world.run("DELETE FROM member_roles WHERE tenant = ? AND role_id = ?", role_id)
    call.world.run("DELETE FROM roles WHERE tenant = ? AND id = ?", role_id)
    return Answer(empty=True)


OPERATIONS = (
    Operation("GET", "/roles", "roles_read", ("read:roles",), _list),
    Operation("POST", "/roles", "roles_write", ("create:roles",), _create),
    Operation("GET", "/roles/{id}", "roles_read", ("read:roles",), _get),
    Operation("DELETE", "/roles/{id}", "roles_write", ("delete:roles",), _delete),
)
