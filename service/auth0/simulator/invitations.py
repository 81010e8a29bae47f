"""Invitations to an organization. Every creation mails; nothing makes a repeat harmless.

Source: Management API reference, organization invitations; recordings answer 201 on creation.
"""

import json
import secrets
import sqlite3
from collections.abc import Mapping
from typing import Any

from service.auth0.simulator import (
    connections,
    mails,
    members,
    membership,
    organizations,
    profiles,
    roles,
)
from service.auth0.simulator.errors import Refusal
from service.auth0.simulator.operation import NO_CONTENT, Answer, Call, Operation, World
from service.auth0.simulator.profiles import Identity, Profile
from service.auth0.simulator.shapes import FLAG, OBJECT, Property, paged, selected, text
from service.auth0.simulator.store import new_id, timestamp

LIFETIME = 7 * 86_400
LONGEST_LIFETIME = 2_592_000

CREATE = {
    "inviter": Property(
        kind="object", required=True, properties={"name": text(most=300, required=True)}
    ),
    "invitee": Property(
        kind="object",
        required=True,
        properties={"email": Property(kind="email", required=True)},
    ),
    "client_id": text(required=True),
    "connection_id": text(),
    "roles": Property(kind="array", least=1, items=text()),
    "ttl_sec": Property(kind="integer", most=LONGEST_LIFETIME),
    "send_invitation_email": FLAG,
    "app_metadata": OBJECT,
    "user_metadata": OBJECT,
}


def _create(call: Call) -> Answer:
    organization = organizations.required(call.world, call.params["id"])
    body = call.body(CREATE)
    world = call.world
    _refuse_bad_client(world, body["client_id"])
    _refuse_bad_connection(world, organization["id"], body.get("connection_id"))
    for role_id in body.get("roles", []):
        if world.row("SELECT 1 FROM roles WHERE tenant = ? AND id = ?", role_id) is None:
            raise Refusal(status=400, message=f"The role does not exist: {role_id}")
    document = _document(call, organization, body)
    world.run(
        "INSERT INTO invitations (tenant, id, organization_id, created_at, expires_at, document)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        document["id"],
        organization["id"],
        world.now,
        world.now + _lifetime(body),
        json.dumps(document),
    )
    if body.get("send_invitation_email", True):
        mails.send(
            world, kind="invitation", recipient=body["invitee"]["email"], subject=document["id"]
        )
    return Answer(status=201, body=document)


def _lifetime(body: Mapping[str, Any]) -> int:
    return body.get("ttl_sec") or LIFETIME


def _document(call: Call, organization: sqlite3.Row, body: Mapping[str, Any]) -> dict[str, Any]:
    secret = secrets.token_urlsafe(24)
    kept = ("inviter", "invitee", "client_id", "connection_id", "roles")
    metadata = ("app_metadata", "user_metadata")
    return {
        "id": new_id("uinv_"),
        "organization_id": organization["id"],
        **{name: body[name] for name in (*kept, *metadata) if name in body},
        "ticket_id": secret,
        "invitation_url": f"https://app.example/login?invitation={secret}"
        f"&organization={organization['id']}&organization_name={organization['name']}",
        "created_at": timestamp(call.world.now),
        "expires_at": timestamp(call.world.now + _lifetime(body)),
    }


def _refuse_bad_client(world: World, client_id: str) -> None:
    client = world.row("SELECT * FROM clients WHERE tenant = ? AND client_id = ?", client_id)
    if client is None:
        raise Refusal(status=400, message="The client does not exist")
    if not client["organizations_allowed"]:
        raise Refusal(status=400, message="The client does not allow organizations")
    if not client["login_route"]:
        raise Refusal(
            status=400, message="Invitations need a default login route of the client or tenant"
        )


def _refuse_bad_connection(world: World, organization_id: str, connection_id: str | None) -> None:
    if connection_id is None:
        return
    if organizations.enabled(world, organization_id, connection_id) is None:
        raise Refusal(status=400, message="The connection is not enabled for the organization")
    connection = connections.by_id(world, connection_id)
    if connection is not None and connection["strategy"] in connections.PASSWORDLESS:
        raise Refusal(
            status=400, message="Invitations cannot be used with passwordless connections"
        )


def open_ones(world: World, organization_id: str | None = None) -> list[dict[str, Any]]:
    """Invitations neither accepted, deleted nor expired."""
    found = world.rows(
        "SELECT * FROM invitations WHERE tenant = ? AND expires_at > ? ORDER BY created_at, id",
        world.now,
    )
    return [
        json.loads(row["document"])
        for row in found
        if organization_id in {None, row["organization_id"]}
    ]


def sign_up(
    world: World, invitation: str, organization_id: str, connection: sqlite3.Row, email: str
) -> Profile | None:
    """Let a person without an account open an invitation: in a database they choose a password, and
    the account is made, whether the connection allows signing up or not. None where it does not fit.
    """
    document = _open_one(world, invitation, organization_id)
    if document is None or connection["strategy"] != connections.DATABASE:
        return None
    wanted = document.get("connection_id")
    if wanted not in {None, connection["id"]}:
        return None
    if document["invitee"]["email"].lower() != email.lower():
        return None
    identity = Identity(
        provider=connection["strategy"],
        id=new_id("", 24),
        connection=connection["name"],
        email_key=email.lower(),
        username_key=None,
    )
    nickname = email.lower().partition("@")[0]
    said: Profile = {"email": email.lower(), "name": email.lower(), "nickname": nickname}
    return profiles.insert(world, identity, {**said, "email_verified": False})


def accept(world: World, invitation: str, organization_id: str, user_id: str) -> bool:
    """Let a person who logged in accept an invitation, named by id, ticket or link.

    It verifies the address, makes a member and grants roles. Its metadata go to an account that
    comes into being by it. False where it does not fit.
    """
    profile = profiles.load(world, user_id)
    document = _open_one(world, invitation, organization_id)
    if document is None or profile is None or not _is_of_connection(world, document, profile):
        return False
    world.run("DELETE FROM invitations WHERE tenant = ? AND id = ?", document["id"])
    if document["invitee"]["email"].lower() != str(profile.get("email")).lower():
        # Opened while logged in as somebody else: it is consumed all the same.
        return False
    profile["email_verified"] = True
    if not profile.get("logins_count"):
        for name in ("app_metadata", "user_metadata"):
            if document.get(name):
                profile[name] = {**profile.get(name, {}), **document[name]}
    profiles.save(world, profile)
    membership.join(world, organization_id, user_id)
    known = [r for r in document.get("roles", []) if _role_exists(world, r)]
    members.assign(world, organization_id, user_id, known)
    return True


def _open_one(world: World, invitation: str, organization_id: str) -> dict[str, Any] | None:
    secret = invitation.rpartition("invitation=")[2].partition("&")[0]
    for document in open_ones(world, organization_id):
        if secret in {document["id"], document["ticket_id"]}:
            return document
    return None


def _is_of_connection(world: World, document: Mapping[str, Any], profile: Profile) -> bool:
    """Whether the person came through the connection that the invitation names."""
    wanted = document.get("connection_id")
    connection = None if wanted is None else connections.by_id(world, wanted)
    if connection is None:
        return True
    return any(each["connection"] == connection["name"] for each in profile["identities"])


def _role_exists(world: World, role_id: str) -> bool:
    try:
        roles.required(world, role_id)
    except Refusal:
        return False
    return True


def _required(call: Call) -> dict[str, Any]:
    organization = organizations.required(call.world, call.params["id"])
    for document in open_ones(call.world, organization["id"]):
        if document["id"] == call.params["invitation_id"]:
            return document
    raise Refusal(
        status=404,
        message="No invitation found by that id.",
        error_code="inexistent_invitation",
    )


def _list(call: Call) -> Answer:
    organization = organizations.required(call.world, call.params["id"])
    rows = selected(open_ones(call.world, organization["id"]), call.query)
    body = paged(rows, "invitations", call.query)
    if isinstance(body, dict):
        del body["total"]
    return Answer(body=body)


def _get(call: Call) -> Answer:
    return Answer(body=selected([_required(call)], call.query)[0])


def _delete(call: Call) -> Answer:
    document = _required(call)
    call.world.run("DELETE FROM invitations WHERE tenant = ? AND id = ?", document["id"])
    return NO_CONTENT


_PATH = "/organizations/{id}/invitations"
_READ, _WRITE = "organization_invitations_read", "organization_invitations_write"
OPERATIONS = (
    Operation("GET", _PATH, _READ, ("read:organization_invitations",), _list),
    Operation("POST", _PATH, _WRITE, ("create:organization_invitations",), _create),
    Operation("GET", f"{_PATH}/{{invitation_id}}", _READ, ("read:organization_invitations",), _get),
    Operation(
        "DELETE",
        f"{_PATH}/{{invitation_id}}",
        _WRITE,
        ("delete:organization_invitations",),
        _delete,
    ),
)
