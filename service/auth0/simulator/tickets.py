"""Password-change tickets, the hosted "forgotten password" endpoint, and the use of a ticket.

Sources: Management API reference, `POST /tickets/password-change`; Authentication API,
`/dbconnections/change_password`; docs on blocked users (a password reset lifts the block).
"""

import json
import secrets
from collections.abc import Mapping
from typing import Any

from service.auth0.simulator import (
    changes,
    connections,
    custom_domains,
    mails,
    membership,
    organizations,
    passwords,
    profiles,
    users,
)
from service.auth0.simulator.errors import Refusal, bad_body, unknown_connection, unknown_user
from service.auth0.simulator.operation import Answer, Call, Operation, World
from service.auth0.simulator.shapes import FLAG, OBJECT, Property, text

LIFETIME = 432_000
"""Seconds: five days."""

CREATE = {
    "user_id": text(),
    "connection_id": text(),
    "email": Property(kind="email"),
    "client_id": text(),
    "organization_id": text(),
    "result_url": text(),
    "ttl_sec": Property(kind="integer", most=2_147_483_647),
    "mark_email_as_verified": FLAG,
    "includeEmailInRedirect": FLAG,
    "identity": OBJECT,
}


def _create(call: Call) -> Answer:
    body = call.body(CREATE)
    world = call.world
    if "result_url" in body and "client_id" in body:
        raise bad_body("result_url and client_id exclude each other")
    user_id = _subject(world, body)
    profile = users.required(world, user_id)
    if profile["identities"][0]["provider"] != connections.DATABASE:
        raise Refusal(
            status=400,
            message="Only users of a database connection have a password to change",
            error_code="operation_not_supported",
        )
    if "organization_id" in body:
        organization = organizations.required(world, body["organization_id"])
        if not membership.is_member(world, organization["id"], user_id):
            raise Refusal(status=400, message="The user is not a member of the organization")
    ticket = issue(world, user_id, body, base_url=custom_domains.link_base(call))
    return Answer(status=201, body={"ticket": ticket})


def _subject(world: World, body: Mapping[str, Any]) -> str:
    if "user_id" in body:
        return body["user_id"]
    if "connection_id" not in body or "email" not in body:
        raise bad_body("Missing required property: user_id, or connection_id and email")
    connection = connections.by_id(world, body["connection_id"])
    if connection is None:
        raise unknown_connection()
    found = profiles.owner(world, connection["name"], body["email"].lower())
    if found is None:
        raise unknown_user()
    return found


def issue(world: World, user_id: str, wish: Mapping[str, Any], *, base_url: str) -> str:
    """Keep a new ticket and answer its link."""
    secret = secrets.token_urlsafe(24)
    link = f"{base_url}/lo/reset?ticket={secret}"
    document = {
        "ticket": link,
        "mark_email_as_verified": wish.get("mark_email_as_verified", False),
        "client_id": wish.get("client_id"),
        "organization_id": wish.get("organization_id"),
    }
    world.run(
        "INSERT INTO tickets (tenant, secret, user_id, created_at, expires_at, document)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        secret,
        user_id,
        world.now,
        world.now + (wish.get("ttl_sec") or LIFETIME),
        json.dumps(document),
    )
    return link


def use(world: World, ticket: str, password: str | None) -> str | None:
    """Do what a person does with a ticket: set a new password, which also lifts a block.

    Answers why it was refused (`unknown_ticket`, `used`, `expired`, `weak_password`), or None.
    """
    secret = ticket.rpartition("ticket=")[2].partition("&")[0].partition("#")[0]
    row = world.row("SELECT * FROM tickets WHERE tenant = ? AND secret = ?", secret)
    profile = None if row is None else profiles.load(world, row["user_id"])
    if row is None or profile is None:
        return "unknown_ticket"
    if row["used_at"] is not None:
        return "used"
    if row["expires_at"] <= world.now:
        return "expired"
    connection = connections.by_name(world, profile["identities"][0]["connection"])
    if password is not None and connection is not None:
        try:
            passwords.check(password, connections.options(connection))
        except Refusal:
            return "weak_password"
    world.db.execute(
        "UPDATE tickets SET used_at = ? WHERE tenant = ? AND secret = ?",
        (world.now, world.tenant, secret),
    )
    changes.reset_password(world, profile)
    if json.loads(row["document"])["mark_email_as_verified"]:
        profile["email_verified"] = True
    profiles.save(world, profile)
    return None


def change_password(world: World, body: Mapping[str, Any], *, base_url: str) -> Answer:
    """The Authentication API's `/dbconnections/change_password`: the same answer for everyone."""
    client_id, email, connection = (body.get(name) for name in ("client_id", "email", "connection"))
    if not (isinstance(client_id, str) and isinstance(email, str) and isinstance(connection, str)):
        return Answer(status=400, body={"error": "client_id, email and connection are required"})
    known = world.row("SELECT 1 FROM clients WHERE tenant = ? AND client_id = ?", client_id)
    if known is None:
        return Answer(status=400, body={"error": f"unknown client: {client_id}"})
    user_id = profiles.owner(world, connection, email.lower())
    if user_id is not None:
        wish = {"client_id": client_id, "organization_id": body.get("organization")}
        issue(world, user_id, wish, base_url=base_url)
        mails.send(world, kind="change_password", recipient=email.lower(), subject=user_id)
    return Answer(body="A mail for changing the password is on its way.")


OPERATIONS = (
    Operation("POST", "/tickets/password-change", "tickets", ("create:user_tickets",), _create),
)
