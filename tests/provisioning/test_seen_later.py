"""What is tried or refused after an event has ended is seen among events all the same."""

from __future__ import annotations

from datetime import timedelta

import pytest

from service.directory import accounts, overview, struggles
from service.directory.database import Transaction
from service.directory.events import Filter
from service.directory.struggles import Struggle
from service.organizations import Policies
from tests.faults import proves
from tests.provisioning.auth0 import call
from tests.provisioning.world import World

ADA = "ada@hoekstra.example"


@pytest.fixture(params=["world", "postgres_world"])
def either(request: pytest.FixtureRequest) -> World:
    return request.getfixturevalue(request.param)


async def retrying(world: World, organization: str | None = None) -> dict[str, Struggle]:
    """What ``events list --retrying`` shows, by the type of the event."""

    def find(tx: Transaction) -> dict[str, Struggle]:
        found = overview.latest_events(tx, Filter(organization=organization), retrying=True)
        known = struggles.of_events(tx, [event.id for event in found])
        return {event.type: known[event.id] for event in found}

    return await world.database.read(find)


@proves("unavailable")
async def test_a_held_deletion_that_is_tried_in_vain_is_seen(either: World) -> None:
    hold = Policies(deletion="delete", deletion_hold=timedelta(seconds=0.5))
    await either.declare(hoekstra={"policies": hold})
    either.work()
    ada = await either.join("hoekstra", ADA)
    await either.settled()
    await either.fault("status", "DELETE", "/users/*", status=503)
    await either.delete(ada)

    async def seen() -> bool:
        return bool(await retrying(either, "hoekstra"))

    await either.until(seen)
    ((type_, struggle),) = (await retrying(either)).items()
    assert type_ == "scim.user.deleted"
    assert struggle.tries > 0
    assert "503" in struggle.reason
    assert (await either.endings())[-1] == ("succeeded", "held", None), "what is told stays told"
    assert await retrying(either, "metahexa") == {}
    await either.mend()

    async def gone() -> bool:
        return await either.auth0_user(ADA) is None

    await either.until(gone)
    await either.settled()
    assert await retrying(either) == {}


async def test_a_block_that_cannot_be_put_back_is_seen(world: World) -> None:
    world.work()
    ada = await world.join("hoekstra", ADA)
    await world.settled()
    await world.change(ada, active=False)
    await world.settled()
    assert await retrying(world) == {}
    person = await world.auth0_user(ADA)
    assert person is not None
    await call(world, "PATCH", f"/users/{person['user_id']}", {"blocked": False})
    await world.fault("status", "PATCH", "/users/*", status=503)
    account_id, now = (await world.user(ada)).account_id or "", world.clock.now()
    await world.database.transact(lambda tx: accounts.look(tx, account_id, now))

    async def seen() -> bool:
        return bool(await retrying(world))

    await world.until(seen)
    assert list(await retrying(world)) == ["scim.user.patched"]
    await world.mend()

    async def over() -> bool:
        return not await retrying(world)

    await world.until(over)
    person = await world.auth0_user(ADA)
    assert person is not None
    assert person["blocked"]
