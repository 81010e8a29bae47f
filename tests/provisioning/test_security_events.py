"""What receivers are told of what happens to people in Auth0, from the SCIM door to the signed token."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import httpx
import orjson

from operators import security_events
from scim.app import create_app
from service.configuration import Settings
from service.directory import credentials
from service.organizations import Policies
from service.security_events.declaration import EVENTS, URIS, SecurityEvents
from tests.provisioning.world import World
from tests.security_events.pushing import ISSUER, new_keys, transmitting
from tests.security_events.receiver import Push, Receiver, key_set, receiving, verified

PEPPER = b"pepper of the tests"
AUDIENCE = "https://receiver.test"
NAMES = {uri: name for name, uri in URIS.items()}


async def listen(world: World, receiver: Receiver, **stream: Any) -> None:
    """Has hoekstra push to a receiver, and delete in Auth0 what is deleted in SCIM."""
    organization = (await world.registered("hoekstra")).organization
    changes = {
        "security_events": SecurityEvents(endpoint=receiver.url, audience=AUDIENCE, **stream),
        "policies": Policies(deletion="delete", deletion_hold=timedelta(0)),
    }
    await world.apply(organization.model_copy(update=changes))


async def door(world: World) -> httpx.AsyncClient:
    now = world.clock.now()
    token = await world.database.transact(
        lambda tx: credentials.create(
            tx, organization="hoekstra", door="scim", pepper=PEPPER, now=now
        )
    )
    app = create_app(database=world.database, clock=world.clock, pepper=PEPPER, base_url=ISSUER)
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app),
        base_url=f"{ISSUER}/hoekstra/",
        headers={"Authorization": f"Bearer {token}", "Prefer": "respond-async"},
    )


def names(pushes: list[Push]) -> list[str]:
    return [NAMES[push.event] for push in pushes]


async def test_a_life_is_told_event_by_event_and_every_token_is_ours(world: World) -> None:
    """Requests that ask for it are answered by an event with the ``txn`` of their effects."""
    keys, life = new_keys(), dict[str, list[Push]]()
    async with (
        receiving() as receiver,
        await door(world) as scim,
        transmitting(world.database, keys),
    ):
        await listen(world, receiver)
        world.work()

        async def do(step: str, expected: int, method: str, path: str, body: Any = None) -> str:
            before = len(receiver.taken)
            answer = await scim.request(method, path, json=body)
            assert answer.status_code == 202, answer.text
            life[step] = (await receiver.until(before + expected))[before:]
            for push in life[step]:
                assert push.claims["txn"] == answer.headers["set-txn"]
            return answer.headers.get("location", "")

        person = {
            "userName": "ada@hoekstra.example",
            "externalId": "E-7",
            "name": {"givenName": "Ada", "familyName": "Byron"},
        }
        location = await do("created", 2, "POST", "Users", person)
        path = "Users/" + location.rpartition("/")[2]
        await do("renamed", 2, "PUT", path, person | {"name": {"givenName": "Augusta"}})
        out = {**person, "name": {"givenName": "Augusta"}, "active": False}
        await do("out", 4, "PUT", path, out)
        await do("back", 3, "PUT", path, out | {"active": True})
        await do("deleted", 6, "DELETE", path)
        await world.settled()
        routes = security_events.routes(Settings(public_url=ISSUER), keys)
        published = await key_set(routes)

    assert names(life["created"]) == ["prov:create:notice", "misc:asyncresp"]
    assert names(life["renamed"]) == ["prov:patch:notice", "misc:asyncresp"]
    assert names(life["out"]) == [
        *("prov:deactivate", "account-disabled"),
        *("session-revoked", "misc:asyncresp"),
    ]
    assert names(life["back"]) == ["prov:activate", "account-enabled", "misc:asyncresp"]
    assert names(life["deleted"]) == [
        *("prov:deactivate", "account-disabled", "session-revoked"),
        *("prov:delete", "account-purged", "misc:asyncresp"),
    ]
    assert {name for step in life.values() for name in names(step)} == set(EVENTS)

    scim_subject = {"format": "scim", "uri": f"/{path}", "externalId": "E-7"}
    for push in receiver.taken:
        header, claims = verified(push, published)
        assert header["typ"] == "secevent+jwt"
        assert (claims["iss"], claims["aud"]) == (ISSUER, AUDIENCE)
        assert not {"sub", "exp"} & set(claims)
        if push.event.startswith("urn:ietf"):
            assert claims["sub_id"] == scim_subject
        else:
            assert claims["sub_id"]["format"] == "iss_sub"
            assert re.fullmatch(r"auth0\|[0-9a-f]{32}", claims["sub_id"]["sub"])
        personal = orjson.dumps(claims)
        assert not [word for word in (b"ada@", b"Ada", b"Byron", b"Augusta") if word in personal]
    assert len({push.jti for push in receiver.taken}) == len(receiver.taken)

    created, completed = (push.claims["events"][push.event] for push in life["created"])
    assert created == {"attributes": ["id", "active", "externalId", "name", "userName"]}
    assert completed["method"] == "POST"
    assert completed["status"] == "201"
    renamed = life["renamed"][0].claims["events"][life["renamed"][0].event]
    assert "name.givenName" in renamed["attributes"]


async def test_a_refused_request_is_answered_by_an_event_with_the_error(world: World) -> None:
    async with (
        receiving() as receiver,
        await door(world) as scim,
        transmitting(world.database, new_keys()),
    ):
        await listen(world, receiver, events=("misc:asyncresp",))
        bulk = {
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"],
            "Operations": [
                {"method": "DELETE", "path": "/Users/0192e4a0-0000-7000-8000-000000000000"}
            ],
        }
        answer = await scim.post("Bulk", json=bulk)
        assert answer.status_code == 202
        (push,) = await receiver.until(1)
    assert push.claims["txn"] == answer.headers["set-txn"] + ":0"
    assert push.claims["sub_id"]["format"] == "scim"
    assert push.claims["sub_id"]["uri"].startswith("/")
    told = push.claims["events"][push.event]
    assert (told["method"], told["status"]) == ("DELETE", "404")
    assert told["response"]["status"] == "404"
