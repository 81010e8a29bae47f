"""Connections of a tenant and the applications they are enabled for."""

import json
import sqlite3
from typing import Any

from service.auth0.simulator import profiles
from service.auth0.simulator.errors import Refusal, bad_body, unknown_connection
from service.auth0.simulator.operation import NO_CONTENT, Answer, Call, Operation, World
from service.auth0.simulator.shapes import (
    FLAG,
    OBJECT,
    Property,
    by_checkpoint,
    checked,
    checkpointed,
    paged,
    selected,
    text,
)
from service.auth0.simulator.store import new_id

DATABASE = "auth0"
PASSWORDLESS = frozenset({"email", "sms"})
SOCIAL = frozenset({"google-oauth2", "facebook", "github", "linkedin", "apple", "windowslive"})

_COMMON = {
    "display_name": text(most=128),
    "options": OBJECT,
    "is_domain_connection": FLAG,
    "show_as_button": FLAG,
    "realms": Property(kind="array", items=text()),
    "metadata": OBJECT,
    "authentication": OBJECT,
    "connected_accounts": OBJECT,
}
CREATE = {
    "name": Property(
        kind="string",
        required=True,
        least=1,
        most=128,
        pattern=r"[a-zA-Z0-9](-[a-zA-Z0-9]|[a-zA-Z0-9])*",
    ),
    "strategy": text(required=True),
    "enabled_clients": Property(kind="array", items=text()),
    **_COMMON,
}
UPDATE = {
    "enabled_clients": Property(kind="array", items=text(), nullable=True),
    **_COMMON,
}


def by_id(world: World, connection_id: str) -> sqlite3.Row | None:
    """The connection with that id."""
    return world.row("SELECT * FROM connections WHERE tenant = ? AND id = ?", connection_id)


def by_name(world: World, name: str) -> sqlite3.Row | None:
    """The connection with that name."""
    return world.row("SELECT * FROM connections WHERE tenant = ? AND name = ?", name)


def options(connection: sqlite3.Row) -> dict[str, Any]:
    """The connection's options."""
    return json.loads(connection["document"]).get("options") or {}


def is_enabled(world: World, connection_id: str) -> bool:
    """Whether at least one application may use the connection."""
    found = world.row(
        "SELECT 1 FROM connection_clients WHERE tenant = ? AND connection_id = ?", connection_id
    )
    return found is not None


def is_enterprise(connection: sqlite3.Row) -> bool:
    """Whether profiles come from a customer's identity provider."""
    strategy = connection["strategy"]
    return strategy != DATABASE and strategy not in PASSWORDLESS and strategy not in SOCIAL


def enable(world: World, connection_id: str, clients: list[str]) -> None:
    """Enable a connection for applications."""
    for client_id in clients:
        world.run(
            "INSERT OR IGNORE INTO connection_clients (tenant, connection_id, client_id)"
            " VALUES (?, ?, ?)",
            connection_id,
            client_id,
        )


def insert(world: World, connection_id: str, document: dict[str, Any]) -> None:
    """Store a new connection. `document` has name, strategy and what else it answers with."""
    world.run(
        "INSERT INTO connections (tenant, id, name, strategy, document) VALUES (?, ?, ?, ?, ?)",
        connection_id,
        document["name"],
        document["strategy"],
        json.dumps(document),
    )


def _shown(world: World, connection: sqlite3.Row, *, clients: bool) -> dict[str, Any]:
    document = {"id": connection["id"], **json.loads(connection["document"])}
    if clients:
        document["enabled_clients"] = _clients(world, connection["id"])
    return document


def _clients(world: World, connection_id: str) -> list[str]:
    found = world.rows(
        "SELECT client_id FROM connection_clients WHERE tenant = ? AND connection_id = ?"
        " ORDER BY client_id",
        connection_id,
    )
    return [row["client_id"] for row in found]


def _required(call: Call) -> sqlite3.Row:
    connection = by_id(call.world, call.params["id"])
    if connection is None:
        raise unknown_connection()
    return connection


def _list(call: Call) -> Answer:
    world = call.world
    name, strategy = call.query.text("name"), call.query.text("strategy")
    found = world.rows("SELECT * FROM connections WHERE tenant = ? ORDER BY name")
    rows = [
        _shown(world, row, clients=False)
        for row in found
        if (name is None or row["name"] == name)
        and (strategy is None or row["strategy"] == strategy)
    ]
    rows = selected(rows, call.query)
    if by_checkpoint(call.query):
        return Answer(body=checkpointed(rows, "connections", call.query))
    return Answer(body=paged(rows, "connections", call.query))


def _create(call: Call) -> Answer:
    body = call.body(CREATE)
    world = call.world
    if by_name(world, body["name"]) is not None:
        raise Refusal(status=409, message="A connection with the same name already exists")
    clients = body.pop("enabled_clients", [])
    connection_id = new_id("con_")
    document = {"options": {}, "realms": [body["name"]], "is_domain_connection": False, **body}
    insert(world, connection_id, document)
    enable(world, connection_id, clients)
    return Answer(status=201, body={"id": connection_id, **document, "enabled_clients": clients})


def _get(call: Call) -> Answer:
    shown = _shown(call.world, _required(call), clients=True)
    return Answer(body=selected([shown], call.query)[0])


def _update(call: Call) -> Answer:
    connection = _required(call)
    body = call.body(UPDATE)
    world = call.world
    clients = body.pop("enabled_clients", None)
    if clients is not None:
        world.run(
            "DELETE FROM connection_clients WHERE tenant = ? AND connection_id = ?",
            connection["id"],
        )
        enable(world, connection["id"], clients)
    document = {**json.loads(connection["document"]), **body}
    world.db.execute(
        "UPDATE connections SET document = ? WHERE tenant = ? AND id = ?",
        (json.dumps(document), world.tenant, connection["id"]),
    )
    clients = _clients(world, connection["id"])
    return Answer(body={"id": connection["id"], **document, "enabled_clients": clients})


def _delete(call: Call) -> Answer:
    world, connection_id = call.world, call.params["id"]
    connection = by_id(world, connection_id)
    if connection is not None:
        profiles.remove_all_of(world, connection["name"])
    for table, column in (
        ("connections", "id"),
        ("connection_clients", "connection_id"),
        ("organization_connections", "connection_id"),
    ):
        world.run(
            f"DELETE FROM {table} WHERE tenant = ? AND {column} = ?",  # noqa: S608
            connection_id,
        )
    return NO_CONTENT


def _list_clients(call: Call) -> Answer:
    connection = _required(call)
    rows = [{"client_id": client} for client in _clients(call.world, connection["id"])]
    return Answer(body=checkpointed(rows, "clients", call.query))


def _update_clients(call: Call) -> Answer:
    connection = _required(call)
    if not isinstance(call.json, list) or not call.json:
        raise bad_body("Expected type array")
    wanted = Property(
        kind="array",
        items=Property(
            kind="object",
            properties={
                "client_id": text(required=True),
                "status": Property(kind="boolean", required=True),
            },
        ),
    )
    rows = checked({"clients": call.json}, {"clients": wanted})["clients"]
    for row in rows:
        if row["status"]:
            enable(call.world, connection["id"], [row["client_id"]])
        else:
            call.world.run(
                "DELETE FROM connection_clients"
                " WHERE tenant = ? AND connection_id = ? AND client_id = ?",
                connection["id"],
                row["client_id"],
            )
    return NO_CONTENT


OPERATIONS = (
    Operation("GET", "/connections", "connections_read", ("read:connections",), _list),
    Operation("POST", "/connections", "connections_write", ("create:connections",), _create),
    Operation("GET", "/connections/{id}", "connections_read", ("read:connections",), _get),
    Operation("PATCH", "/connections/{id}", "connections_write", ("update:connections",), _update),
    Operation("DELETE", "/connections/{id}", "connections_write", ("delete:connections",), _delete),
    Operation(
        "GET", "/connections/{id}/clients", "connections_read", ("read:connections",), _list_clients
    ),
    Operation(
        "PATCH",
        "/connections/{id}/clients",
        "connections_write",
        ("update:connections",),
        _update_clients,
    ),
)
