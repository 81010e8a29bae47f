"""Organizations and the connections that are enabled for them."""

import json
import sqlite3
from typing import Any

from service.auth0.simulator import connections, happenings, membership
from service.auth0.simulator.errors import Refusal, unknown_connection, unknown_organization
from service.auth0.simulator.operation import NO_CONTENT, Answer, Call, Operation, World
from service.auth0.simulator.shapes import (
    FLAG,
    OBJECT,
    Property,
    by_checkpoint,
    checkpointed,
    paged,
    text,
)
from service.auth0.simulator.store import new_id

MOST_CONNECTIONS = 10

_NAME = r"[a-z0-9][a-z0-9_-]*"
_SWITCHES = {
    "assign_membership_on_login": FLAG,
    "is_signup_enabled": FLAG,
    "show_as_button": FLAG,
}
ENABLE = {"connection_id": text(required=True), **_SWITCHES}
_COMMON = {
    "display_name": text(most=255),
    "branding": OBJECT,
    "metadata": OBJECT,
    "token_quota": OBJECT,
}
CREATE = {
    "name": Property(kind="string", required=True, least=1, most=50, pattern=_NAME),
    "enabled_connections": Property(kind="array", items=Property(kind="object", properties=ENABLE)),
    **_COMMON,
}
UPDATE = {"name": Property(kind="string", least=1, most=50, pattern=_NAME), **_COMMON}


def required(world: World, organization_id: str) -> sqlite3.Row:
    """The organization with that id. Raises the 404 where there is none."""
    found = world.row("SELECT * FROM organizations WHERE tenant = ? AND id = ?", organization_id)
    if found is None:
        raise unknown_organization()
    return found


def by_name(world: World, name: str) -> sqlite3.Row | None:
    """The organization with that name."""
    return world.row("SELECT * FROM organizations WHERE tenant = ? AND name = ?", name)


def insert(world: World, organization_id: str, document: dict[str, Any]) -> None:
    """Store a new organization; `document` has its name."""
    world.run(
        "INSERT INTO organizations (tenant, id, name, document) VALUES (?, ?, ?, ?)",
        organization_id,
        document["name"],
        json.dumps(document),
    )
    happenings.tell(world, "organization.created", _told(organization_id, document))


def _told(organization_id: str, document: dict[str, Any]) -> dict[str, Any]:
    """An Organization as its events show it."""
    known = ("name", "display_name", "metadata", "branding")
    return {"id": organization_id, **{name: document[name] for name in known if name in document}}


def enabled(world: World, organization_id: str, connection_id: str) -> dict[str, Any] | None:
    """How a connection is enabled for an organization, or None where it is not."""
    row = world.row(
        "SELECT document FROM organization_connections"
        " WHERE tenant = ? AND organization_id = ? AND connection_id = ?",
        organization_id,
        connection_id,
    )
    return None if row is None else json.loads(row["document"])


def enable(world: World, organization_id: str, wanted: dict[str, Any]) -> dict[str, Any]:
    """Enable a connection for an organization, or change how it is enabled."""
    connection = connections.by_id(world, wanted["connection_id"])
    if connection is None:
        raise unknown_connection(status=400)
    is_database = connection["strategy"] == connections.DATABASE
    document = {
        "connection_id": connection["id"],
        "assign_membership_on_login": False,
        "show_as_button": True,
        "is_signup_enabled": False,
        **wanted,
        "connection": {"name": connection["name"], "strategy": connection["strategy"]},
    }
    if document["is_signup_enabled"] and not (
        is_database and document["assign_membership_on_login"]
    ):
        raise Refusal(
            status=400,
            message="Sign-up needs a database connection that assigns membership on login",
            error_code="invalid_body",
        )
    before = enabled(world, organization_id, connection["id"])
    world.run(
        "INSERT OR REPLACE INTO organization_connections"
        " (tenant, organization_id, connection_id, document) VALUES (?, ?, ?, ?)",
        organization_id,
        connection["id"],
        json.dumps(document),
    )
    kind = "added" if before is None else "updated"
    _tell_of_connection(world, kind, organization_id, document)
    return document


def _tell_of_connection(
    world: World, kind: str, organization_id: str, document: dict[str, Any]
) -> None:
    content = {
        "organization": {"id": organization_id},
        "connection": {"id": document["connection_id"]},
        **{
            name: document[name]
            for name in ("assign_membership_on_login", "show_as_button", "is_signup_enabled")
            if name in document
        },
    }
    happenings.tell(world, f"organization.connection.{kind}", content)


def enabled_connections(world: World, organization_id: str) -> list[dict[str, Any]]:
    """All connections of an organization."""
    found = world.rows(
        "SELECT document FROM organization_connections"
        " WHERE tenant = ? AND organization_id = ? ORDER BY connection_id",
        organization_id,
    )
    return [json.loads(row["document"]) for row in found]


def _shown(row: sqlite3.Row) -> dict[str, Any]:
    return {"id": row["id"], **json.loads(row["document"])}


def _list(call: Call) -> Answer:
    rows = [
        _shown(row)
        for row in call.world.rows("SELECT * FROM organizations WHERE tenant = ? ORDER BY name")
    ]
    if by_checkpoint(call.query):
        return Answer(body=checkpointed(rows, "organizations", call.query))
    return Answer(body=paged(rows, "organizations", call.query))


def _create(call: Call) -> Answer:
    body = call.body(CREATE)
    world = call.world
    wanted = body.pop("enabled_connections", [])
    if wanted:
        call.needs("create:organization_connections")
    _refuse_taken_name(world, body["name"])
    if len(wanted) > MOST_CONNECTIONS:
        raise _too_many_connections()
    organization_id = new_id("org_")
    document = {"display_name": body["name"], **body}
    insert(world, organization_id, document)
    shown: dict[str, Any] = {"id": organization_id, **document}
    if wanted:
        shown["enabled_connections"] = [enable(world, organization_id, item) for item in wanted]
    return Answer(status=201, body=shown)


def _refuse_taken_name(world: World, name: str) -> None:
    if by_name(world, name) is not None:
        raise Refusal(status=409, message="An organization with this name already exists")


def _too_many_connections() -> Refusal:
    return Refusal(
        status=400, message=f"An organization can have at most {MOST_CONNECTIONS} connections"
    )


def _get(call: Call) -> Answer:
    return Answer(body=_shown(required(call.world, call.params["id"])))


def _get_by_name(call: Call) -> Answer:
    found = by_name(call.world, call.params["name"])
    if found is None:
        raise unknown_organization()
    return Answer(body=_shown(found))


def _update(call: Call) -> Answer:
    organization = required(call.world, call.params["id"])
    body = call.body(UPDATE)
    if body.get("name", organization["name"]) != organization["name"]:
        _refuse_taken_name(call.world, body["name"])
    document = {**json.loads(organization["document"]), **body}
    call.world.db.execute(
        "UPDATE organizations SET name = ?, document = ? WHERE tenant = ? AND id = ?",
        (document["name"], json.dumps(document), call.world.tenant, organization["id"]),
    )
    told = _told(organization["id"], document)
    happenings.tell(call.world, "organization.updated", told)
    return Answer(body={"id": organization["id"], **document})


def _delete(call: Call) -> Answer:
    world = call.world
    organization = required(world, call.params["id"])
    membership.dissolve(world, organization["id"])
    world.run("DELETE FROM organizations WHERE tenant = ? AND id = ?", organization["id"])
    for table in ("organization_connections", "invitations"):
        world.run(
            f"DELETE FROM {table} WHERE tenant = ? AND organization_id = ?",  # noqa: S608
            organization["id"],
        )
    told = _told(organization["id"], json.loads(organization["document"]))
    happenings.tell(world, "organization.deleted", told)
    return NO_CONTENT


def _list_connections(call: Call) -> Answer:
    organization = required(call.world, call.params["id"])
    rows = enabled_connections(call.world, organization["id"])
    return Answer(body=paged(rows, "enabled_connections", call.query))


def _add_connection(call: Call) -> Answer:
    organization = required(call.world, call.params["id"])
    body = call.body(ENABLE)
    present = {
        item["connection_id"] for item in enabled_connections(call.world, organization["id"])
    }
    if len(present | {body["connection_id"]}) > MOST_CONNECTIONS:
        raise _too_many_connections()
    return Answer(status=201, body=enable(call.world, organization["id"], body))


def _enabled(call: Call) -> dict[str, Any]:
    organization = required(call.world, call.params["id"])
    found = enabled(call.world, organization["id"], call.params["connection_id"])
    if found is None:
        raise Refusal(status=404, message="The connection is not enabled for the organization")
    return found


def _get_connection(call: Call) -> Answer:
    return Answer(body=_enabled(call))


def _update_connection(call: Call) -> Answer:
    body = call.body(_SWITCHES)
    changed = {**_enabled(call), **body}
    return Answer(body=enable(call.world, call.params["id"], changed))


def _remove_connection(call: Call) -> Answer:
    organization = required(call.world, call.params["id"])
    known = enabled(call.world, organization["id"], call.params["connection_id"])
    if known is not None:
        _tell_of_connection(call.world, "removed", organization["id"], known)
    call.world.run(
        "DELETE FROM organization_connections"
        " WHERE tenant = ? AND organization_id = ? AND connection_id = ?",
        organization["id"],
        call.params["connection_id"],
    )
    return NO_CONTENT


_ENABLED = "/organizations/{id}/enabled_connections"
_READ, _WRITE = "organizations_read", "organizations_write"
_CONNECTIONS_READ, _CONNECTIONS_WRITE = (
    "organization_connections_read",
    "organization_connections_write",
)
OPERATIONS = (
    Operation("GET", "/organizations", _READ, ("read:organizations",), _list),
    Operation("POST", "/organizations", _WRITE, ("create:organizations",), _create),
    Operation("GET", "/organizations/name/{name}", _READ, ("read:organizations",), _get_by_name),
    Operation("GET", "/organizations/{id}", _READ, ("read:organizations",), _get),
    Operation("PATCH", "/organizations/{id}", _WRITE, ("update:organizations",), _update),
    Operation("DELETE", "/organizations/{id}", _WRITE, ("delete:organizations",), _delete),
    Operation(
        "GET", _ENABLED, _CONNECTIONS_READ, ("read:organization_connections",), _list_connections
    ),
    Operation(
        "POST", _ENABLED, _CONNECTIONS_WRITE, ("create:organization_connections",), _add_connection
    ),
    Operation(
        "GET",
        f"{_ENABLED}/{{connection_id}}",
        _CONNECTIONS_READ,
        ("read:organization_connections",),
        _get_connection,
    ),
    Operation(
        "PATCH",
        f"{_ENABLED}/{{connection_id}}",
        _CONNECTIONS_WRITE,
        ("update:organization_connections",),
        _update_connection,
    ),
    Operation(
        "DELETE",
        f"{_ENABLED}/{{connection_id}}",
        _CONNECTIONS_WRITE,
        ("delete:organization_connections",),
        _remove_connection,
    ),
)
