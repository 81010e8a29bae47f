"""The whole state as lists of rows, for tests and for people. Holds no passwords."""

import json
import sqlite3
from typing import Any

from service.auth0.simulator import faults, invitations, roles, sessions
from service.auth0.simulator.operation import World
from service.auth0.simulator.store import timestamp

Rows = list[dict[str, Any]]


def of_tenant(world: World) -> dict[str, Rows]:
    """What one tenant holds now, as it is, not as lagging lists show it."""
    tables = {
        "users": _users(world),
        "connections": _connections(world),
        "organizations": [
            {"id": row["id"], **json.loads(row["document"])}
            for row in world.rows("SELECT * FROM organizations WHERE tenant = ? ORDER BY name")
        ],
        "members": _members(world),
        "roles": [
            {"id": row["id"], "name": row["name"], "description": row["description"]}
            for row in world.rows("SELECT * FROM roles WHERE tenant = ? ORDER BY name")
        ],
        "invitations": _invitations(world),
        "tickets": _tickets(world),
        "sessions": _sessions(world),
        "refresh_tokens": _refresh_tokens(world),
        "mails": _mails(world),
        "jobs": [
            json.loads(row["document"])
            for row in world.rows("SELECT * FROM jobs WHERE tenant = ? ORDER BY created_at")
        ],
        "clients": _clients(world),
    }
    return {
        name: [{"tenant": world.tenant, **row} for row in rows] for name, rows in tables.items()
    }


def of_faults(db: sqlite3.Connection) -> Rows:
    """The faults that stand."""
    return faults.ordered(db)


def _users(world: World) -> Rows:
    kept = {
        row["user_id"]
        for row in world.rows("SELECT user_id FROM imported_passwords WHERE tenant = ?")
    }
    return [
        {
            "blocked": False,
            "email": None,
            "keeps_imported_password": json.loads(row["document"])["user_id"] in kept,
            **(profile := json.loads(row["document"])),
            "connection": profile["identities"][0]["connection"],
        }
        for row in world.rows("SELECT document FROM users WHERE tenant = ? ORDER BY user_id")
    ]


def _connections(world: World) -> Rows:
    return [
        {"id": row["id"], **json.loads(row["document"])}
        for row in world.rows("SELECT * FROM connections WHERE tenant = ? ORDER BY name")
    ]


def _members(world: World) -> Rows:
    shown: Rows = []
    for row in world.rows(
        "SELECT m.*, o.name FROM members m"
        " JOIN organizations o ON o.tenant = m.tenant AND o.id = m.organization_id"
        " WHERE m.tenant = ? ORDER BY o.name, m.added_at, m.user_id"
    ):
        held = roles.of_member(world, row["organization_id"], row["user_id"])
        shown.append(
            {
                "organization": row["name"],
                "organization_id": row["organization_id"],
                "user_id": row["user_id"],
                "roles": [role["name"] for role in held],
                "role_ids": [role["id"] for role in held],
            }
        )
    return shown


def _invitations(world: World) -> Rows:
    names = {
        row["id"]: row["name"]
        for row in world.rows("SELECT id, name FROM organizations WHERE tenant = ?")
    }
    return [
        {"organization": names.get(document["organization_id"]), **document}
        for document in invitations.open_ones(world)
    ]


def _tickets(world: World) -> Rows:
    return [
        {
            "user_id": row["user_id"],
            **json.loads(row["document"]),
            "created_at": timestamp(row["created_at"]),
            "expires_at": timestamp(row["expires_at"]),
            "used_at": None if row["used_at"] is None else timestamp(row["used_at"]),
        }
        for row in world.rows("SELECT * FROM tickets WHERE tenant = ? ORDER BY created_at")
    ]


def _sessions(world: World) -> Rows:
    return [
        {
            "id": row["id"],
            "user_id": row["user_id"],
            "client_id": row["client_id"],
            "organization_id": row["organization_id"],
            "created_at": timestamp(row["created_at"]),
        }
        for row in sessions.live(world, "sessions")
    ]


def _refresh_tokens(world: World) -> Rows:
    return [
        {
            "id": row["id"],
            "user_id": row["user_id"],
            "client_id": row["client_id"],
            "session_id": row["session_id"],
            "created_at": timestamp(row["created_at"]),
        }
        for row in sessions.live(world, "refresh_tokens")
    ]


def _mails(world: World) -> Rows:
    return [
        {
            "number": row["number"],
            "at": timestamp(row["at"]),
            "kind": row["kind"],
            "recipient": row["recipient"],
            "subject": row["subject"],
        }
        for row in world.rows("SELECT * FROM mails WHERE tenant = ? ORDER BY number")
    ]


def _clients(world: World) -> Rows:
    return [
        {
            "client_id": row["client_id"],
            "name": row["name"],
            "machine": bool(row["machine"]),
            "scopes": None if row["scopes"] is None else json.loads(row["scopes"]),
        }
        for row in world.rows("SELECT * FROM clients WHERE tenant = ? ORDER BY client_id")
    ]
