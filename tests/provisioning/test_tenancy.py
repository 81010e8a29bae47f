"""A tenant is held by one process at a time, and everything that calls it shares that time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from typing import ClassVar

from service.auth0.calls import http_client
from service.auth0.client import Auth0Client
from service.auth0.pacing import Pacer
from service.directory import leases
from service.errors import LostLease
from service.organizations import Tenant
from service.provisioning.tenancy import Tenancy, TenancySettings, Tenure, Work
from tests.provisioning.world import World


@dataclass(slots=True)
class _Counting:
    """Counts how often it is called; raises ``raises`` each time where that is set."""

    name: ClassVar[str] = "counting"
    raises: Exception | None = None
    calls: int = 0
    fences: list[int] = field(default_factory=list[int])

    async def work(self, tenure: Tenure, *, stop: asyncio.Event) -> None:
        self.calls += 1
        self.fences.append(tenure.owner.fence)
        if self.raises is not None:
            await asyncio.sleep(0.05)  # until the others have begun
            raise self.raises
        await tenure.ended.wait()


def _tenancy(world: World, *works: Work, owner: str = "test#1") -> Tenancy:
    client = Auth0Client(
        Tenant(name="main", base_url=world.url),
        "secret",
        clock=world.clock,
        pacer=Pacer("enterprise", world.clock),
        http=http_client(),
    )
    return Tenancy(
        "main",
        database=world.database,
        client=client,
        works=works,
        clock=world.clock,
        owner=owner,
        settings=TenancySettings(look=0.05),
    )


async def test_a_work_that_fails_is_called_again_and_disturbs_no_other(world: World) -> None:
    failing, steady = _Counting(raises=ValueError("broken")), _Counting()
    world.work(_tenancy(world, failing, steady))

    async def again() -> bool:
        return failing.calls >= 2

    await world.until(again)
    assert steady.calls == 1
    assert failing.fences == [steady.fences[0]] * failing.calls


async def test_whoever_finds_the_lease_lost_ends_the_time_of_all(world: World) -> None:
    finding, steady = _Counting(raises=LostLease()), _Counting()
    world.work(_tenancy(world, finding, steady))

    async def claimed_again() -> bool:
        return steady.calls >= 2

    await world.until(claimed_again)
    assert finding.calls >= 2


async def test_the_tenant_is_free_at_once_when_the_process_stops(world: World) -> None:
    steady = _Counting()
    world.work(_tenancy(world, steady))

    async def begun() -> bool:
        return steady.calls == 1

    await world.until(begun)
    await world.rest()
    now = world.clock.now()
    fence = await world.database.transact(
        lambda tx: leases.claim_tenant(tx, "main", "another", now, timedelta(seconds=45))
    )
    assert fence == steady.fences[0] + 1
