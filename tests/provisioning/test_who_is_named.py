"""Whom outcomes name: nobody, unless the organization asks for it; and what caused each of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import orjson

from service.organizations import Policies
from service.outcomes.cloudevents import to_document
from service.people import User
from tests.provisioning.world import World

PERSONAL = (
    "ada@", "ada.byron", "grace@", "lena", "byron", "hopper", "lovelace", "@hoekstra", "w-4711",
)  # fmt: skip
NAMING = {
    "user.created",
    "user.updated",
    "user.deleted",
    "membership.added",
    "membership.removed",
    "roles.changed",
}


async def rich_day(world: World) -> list[User]:
    """Joined, changed, moved, out by HR, back, deleted; in each of the three models."""
    world.work()
    ada = await world.join("hoekstra", "ada@hoekstra.example", externalId="w-4711")
    shared = await world.join("clinic-a", "ada@clinics.example")
    enterprise = await world.join("metahexa", "ada@metahexa.example")
    await world.settled()
    name = {"givenName": "Augusta", "familyName": "Lovelace"}
    emails = [{"value": "ada.byron@hoekstra.example", "primary": True}]
    await world.change(ada, name=name, emails=emails)
    await world.settled()
    await world.worker("hoekstra", "hired", "w-4711", attributes={"family_name": "Hopper"})
    await world.settled()
    await world.worker("hoekstra", "terminated", "w-4711")
    await world.settled()
    await world.worker("hoekstra", "rehired", "w-4711")
    await world.settled()
    await world.worker("hoekstra", "terminated", "w-4711")  # or HR would keep the account
    await world.settled()
    for user in (ada, shared, enterprise):
        await world.delete(user)
    await world.settled()
    return [ada, shared, enterprise]


def keeping_nobody(**more: Any) -> dict[str, Any]:
    return {"policies": Policies(deletion="delete", deletion_hold=timedelta(0)), **more}


async def test_by_default_no_address_and_no_name_is_in_any_outcome_of_a_rich_day(
    world: World,
) -> None:
    await world.declare(hoekstra=keeping_nobody())
    await rich_day(world)
    told = await world.told()
    assert {"user.created", "user.updated", "user.blocked", "user.unblocked"} <= set(told)
    assert {"user.deleted", "membership.added", "membership.removed"} <= set(told)
    for outcome in await world.outcomes():
        text = orjson.dumps(to_document(outcome)).decode().lower()
        assert [word for word in PERSONAL if word in text] == [], text


async def test_an_organization_that_asks_for_it_is_told_who_and_what(world: World) -> None:
    await world.declare(hoekstra=keeping_nobody(outcomes="full"))
    ada, shared, _ = await rich_day(world)
    of_ada = await world.outcomes(ada)
    naming = [each for each in of_ada if short(each.type) in NAMING]
    assert {short(each.type) for each in naming} >= {"user.created", "user.updated", "user.deleted"}
    for each in naming:
        assert each.data["user"]["externalId"] == "w-4711"
        assert each.data["user"]["auth0UserId"] == each.data["auth0UserId"]
    created = next(each for each in naming if short(each.type) == "user.created")
    assert created.data["user"] == {
        "userName": "ada@hoekstra.example",
        "email": "ada@hoekstra.example",
        "givenName": "Ada",
        "familyName": "Byron",
        "name": created.data["user"]["name"],
        "externalId": "w-4711",
        "auth0UserId": created.data["auth0UserId"],
    }
    values = [each.data["values"] for each in naming if short(each.type) == "user.updated"]
    assert {"email": "ada.byron@hoekstra.example"} in values
    assert any(each.get("family_name") == "Lovelace" for each in values)
    silent = [each for each in of_ada if short(each.type) not in NAMING]
    assert not any("user" in each.data or "values" in each.data for each in silent)
    assert not any("user" in each.data for each in await world.outcomes(shared))
    everything = orjson.dumps([to_document(each) for each in of_ada]).decode().lower()
    assert "password" not in everything
    assert "ticket=" not in everything


async def test_effects_tell_the_event_behind_them_and_how_long_it_took(world: World) -> None:
    world.work()
    user = await world.join("hoekstra", "ada@hoekstra.example")
    await world.settled()
    created, *_, ended = await world.outcomes(user)
    assert created.data["event"] == ended.data["event"]
    assert created.data["event"]["door"] == "scim"
    assert (created.data["attempts"], ended.data["attempts"]) == (1, 1)
    assert 0 <= created.data["latencyMs"] <= ended.data["latencyMs"]


async def test_a_retried_event_tells_how_often_it_was_tried(world: World) -> None:
    fault = {"match": {"method": "POST", "path": "/api/v2/users"}, "kind": "status"}
    await world.http.post("/simulator/faults", json={**fault, "status": 503, "times": 1})
    world.work()
    user = await world.join("hoekstra", "ada@hoekstra.example")
    await world.settled()
    ended = (await world.outcomes(user))[-1]
    assert short(ended.type) == "event.succeeded"
    assert ended.data["attempts"] == 2


def short(name: str) -> str:
    return name.removeprefix("io.auth0-provisioner.").removesuffix(".v1")
