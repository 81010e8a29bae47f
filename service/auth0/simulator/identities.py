"""Linking of identities: one person's second account becomes part of the first.

Source: Management API reference, `POST /users/{id}/identities`. Linking by token is not modelled.
"""

from service.auth0.simulator import profiles, users
from service.auth0.simulator.errors import Refusal, bad_body
from service.auth0.simulator.operation import Answer, Call, Operation
from service.auth0.simulator.shapes import text

_LINK = {"provider": text(required=True), "user_id": text(required=True), "connection_id": text()}
_OWN = ("email", "email_verified", "name", "given_name", "family_name", "nickname", "picture")


def _link(call: Call) -> Answer:
    world, body = call.world, call.body(_LINK)
    primary = users.required(world, call.params["id"])
    wanted = body["user_id"].removeprefix(f"{body['provider']}|")
    owner = profiles.owner_of_identity(world, body["provider"], wanted)
    if owner is None:
        raise bad_body("The account to link does not exist")
    if owner == primary["user_id"]:
        raise Refusal(status=409, message="Specified identity already exists")
    secondary = users.required(world, owner)
    joined = [*primary["identities"]]
    for index, identity in enumerate(secondary["identities"]):
        own = {name: secondary[name] for name in _OWN if name in secondary}
        joined.append({**identity, "profileData": own} if index == 0 else identity)
    world.db.execute(
        "UPDATE identities SET user_id = ? WHERE tenant = ? AND user_id = ?",
        (primary["user_id"], world.tenant, owner),
    )
    profiles.remove(world, owner)
    primary["identities"] = joined
    profiles.save(world, primary)
    return Answer(status=201, body=joined)


def _unlink(call: Call) -> Answer:
    world = call.world
    primary = users.required(world, call.params["id"])
    wanted = (call.params["provider"], call.params["user_id"])
    kept = [i for i in primary["identities"] if (i["provider"], str(i["user_id"])) != wanted]
    gone = [i for i in primary["identities"] if i not in kept]
    if not gone or gone[0] == primary["identities"][0]:
        raise bad_body("Only a secondary identity of the user can be unlinked")
    primary["identities"] = kept
    profiles.save(world, primary)
    profiles.restore(world, gone[0])
    return Answer(body=kept)


OPERATIONS = (
    Operation("POST", "/users/{id}/identities", "users_write", ("update:users",), _link),
    Operation(
        "DELETE",
        "/users/{id}/identities/{provider}/{user_id}",
        "users_write",
        ("update:users",),
        _unlink,
    ),
)
