"""Lanes: one owner, one turn for an account at a time, leavers first, and nothing half-done at the end."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import httpx
import pytest

from service.auth0.calls import http_client
from service.auth0.pacing import Pacer
from service.directory import accounts, leases
from service.errors import LostLease
from service.provisioning import turn
from service.provisioning.effects import Later
from service.provisioning.lanes import LaneSettings
from service.provisioning.tenancy import TenancySettings
from service.provisioning.turn import Owner
from tests.faults import proves
from tests.provisioning.world import World

ADA = "ada@hoekstra.example"


async def test_the_main_job_on_postgres(postgres_world: World) -> None:
    world = postgres_world
    world.work()
    ada = await world.join("hoekstra", ADA, externalId="w-1")
    await world.settled()
    await world.worker("hoekstra", "terminated", "w-1")
    await world.settled()
    person = await world.auth0_user(ADA)
    assert person is not None
    assert person["blocked"] is True
    assert (await world.told(ada))[-1] == "event.succeeded"


async def test_two_processes_do_no_work_twice(world: World) -> None:
    await _two_processes(world)


async def test_two_processes_do_no_work_twice_on_postgres(postgres_world: World) -> None:
    await _two_processes(postgres_world)


async def _two_processes(world: World) -> None:
    world.work(world.lanes(owner="one"))
    world.work(world.lanes(owner="two"))
    for number in range(20):
        await world.join("hoekstra", f"user{number}@hoekstra.example")
    await world.settled(60)
    assert len(await world.writes("POST", "/users")) == 20
    assert len(world.mails()) == 20


async def test_an_earlier_run_of_the_same_instance_is_succeeded_at_once(world: World) -> None:
    now = world.clock.now()
    lease = TenancySettings().lease
    await world.database.transact(
        lambda tx: leases.claim_tenant(tx, "main", "pod-1#old", now, timedelta(seconds=lease))
    )
    world.work(world.lanes(owner="pod-1#new"))
    await world.join("hoekstra", ADA)
    await world.settled(5)


async def test_a_zombie_writes_nothing_and_its_late_call_is_looked_at(world: World) -> None:
    user = await world.join("hoekstra", ADA)
    account_id = (await world.user(user)).account_id
    assert account_id is not None
    now = world.clock.now()
    old = await world.database.transact(
        lambda tx: leases.claim_tenant(tx, "main", "zombie", now, timedelta(0))
    )
    assert old is not None
    step = await world.database.transact(
        lambda tx: turn.begin(tx, account_id, Owner(tenant="main", fence=old), now)
    )
    assert step is not None
    world.work(world.lanes(owner="alive"))
    await world.settled()
    with pytest.raises(LostLease):
        await world.database.transact(
            lambda tx: turn.postpone(
                tx, step, Later(reason="x"), Owner(tenant="main", fence=old), now, now
            )
        )
    before = (await world.calls())[-1]["number"]
    await world.database.transact(lambda tx: turn.doubt_late(tx, step, now))

    async def looked() -> bool:
        return any(c["method"] == "GET" for c in await world.calls(before))

    await world.until(looked)
    await world.settled()
    assert len((await world.state())["users"]) == 1


async def test_whoever_leaves_while_a_name_is_looked_up_does_not_wait_for_it(world: World) -> None:
    await world.fault("latency", "GET", "/organizations/name/*", seconds=5, times=1)
    world.work()
    ada = await world.join("hoekstra", ADA)

    async def created() -> bool:
        return await world.auth0_user(ADA) is not None

    await world.until(created)
    await asyncio.sleep(0.3)
    started = world.clock.monotonic()
    await world.change(ada, active=False)

    async def blocked() -> bool:
        person = await world.auth0_user(ADA)
        return person is not None and bool(person["blocked"])

    await world.until(blocked)
    assert world.clock.monotonic() - started < 2
    assert await world.members() == set()


async def test_no_call_is_made_for_a_turn_that_outlived_the_lease(world: World) -> None:
    """It may have waited long: what it was to do may be wrong by now."""
    pacer = Pacer("enterprise", world.clock)
    pacer.learn("users-write", {"retry-after": "2"}, limited=True, epoch=0.0)
    world.work(world.lanes(pacer=pacer))
    await world.join("hoekstra", ADA)

    async def waits() -> bool:
        return len(await world.in_doubt()) == 1

    await world.until(waits)
    later = world.clock.now() + timedelta(hours=1)
    fence = await world.database.transact(
        lambda tx: leases.claim_tenant(tx, "main", "another", later, timedelta(seconds=45))
    )
    assert fence is not None
    await world.join("hoekstra", "bob@hoekstra.example")  # at which it finds out
    await asyncio.sleep(3)
    assert await world.writes("POST", "/users") == []
    await world.database.transact(lambda tx: leases.release(tx, "main", "another", fence))
    await world.settled()
    assert len(await world.writes("POST", "/users")) == 2


async def test_leavers_go_before_joiners(world: World) -> None:
    world.work()
    leaver = await world.join("hoekstra", ADA)
    await world.settled()
    await world.rest()
    before = (await world.calls())[-1]["number"]
    for number in range(30):
        await world.join("hoekstra", f"user{number}@hoekstra.example")
    await world.change(leaver, active=False)
    world.work(world.lanes(settings=LaneSettings(poll=0.02, width=1)))
    await world.settled(60)
    calls = await world.calls(before)
    block = next(i for i, c in enumerate(calls) if c["method"] == "PATCH")
    assert block < 6


@proves("account that crashes its worker")
async def test_one_account_that_crashes_its_worker_stops_nobody(world: World) -> None:
    lanes = world.lanes(settings=LaneSettings(poll=0.02, most_crashes=1))
    ada = await world.join("hoekstra", ADA)
    account_id = (await world.user(ada)).account_id
    assert account_id is not None
    now = world.clock.now()
    await world.database.transact(
        lambda tx: accounts.store(tx, account_id, now, observed={"memberships": "unreadable"})
    )
    world.work(lanes)
    bob = await world.join("hoekstra", "bob@hoekstra.example")

    async def both() -> bool:
        states = [(await world.user(one)).state for one in (ada, bob)]
        return "pending" not in states

    await world.until(both)
    assert (await world.user(ada)).state == "failed"
    assert (await world.user(bob)).state == "applied"
    assert ("deadlettered", None, "internal_error") in await world.endings()


class _Slow(httpx.AsyncBaseTransport):
    """Answers late, so that the process is stopped in the middle of a call."""

    def __init__(self) -> None:
        self._inner = http_client()
        self.entered = asyncio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST" and request.url.path.endswith("/users"):
            self.entered.set()
            await asyncio.sleep(0.3)
        answer = await self._inner.send(
            httpx.Request(
                request.method, request.url, headers=request.headers, content=await request.aread()
            )
        )
        return httpx.Response(
            answer.status_code,
            headers={"content-type": answer.headers.get("content-type", "")},
            content=answer.content,
        )

    async def aclose(self) -> None:
        await self._inner.aclose()


async def test_stopping_finishes_the_call_under_way_and_leaves_no_doubt(world: World) -> None:
    slow = _Slow()
    world.work(world.lanes(http=httpx.AsyncClient(transport=slow)))
    user = await world.join("hoekstra", ADA)
    await asyncio.wait_for(slow.entered.wait(), 10)
    await world.rest()
    account_id = (await world.user(user)).account_id
    assert account_id is not None
    account = await world.database.read(lambda tx: accounts.get(tx, account_id))
    assert account is not None
    assert account.doubt is None
    assert account.observed["presence"] == "present"
    world.work()
    await world.settled()
    assert len(await world.writes("POST", "/users")) == 1


@proves("no answer in 15 s")
async def test_a_call_that_hangs_is_given_up_at_the_end_and_read_by_the_next_owner(
    world: World,
) -> None:
    await world.fault("hang", "POST", "/users", seconds=5, times=1)
    world.work(world.lanes(settings=LaneSettings(poll=0.02, drain=0.3)))
    user = await world.join("hoekstra", ADA)
    account_id = (await world.user(user)).account_id
    assert account_id is not None

    async def called() -> bool:
        account = await world.database.read(lambda tx: accounts.get(tx, account_id))
        return account is not None and account.doubt is not None

    await world.until(called)
    await asyncio.sleep(0.3)
    started = world.clock.monotonic()
    await world.rest()
    assert world.clock.monotonic() - started < 3
    assert await called(), "what was given up is in doubt"
    world.work()
    await world.settled()
    assert len((await world.state())["users"]) == 1
    assert (await world.told(user)).count("user.created") == 1


async def test_whoever_leaves_in_the_middle_of_a_turn_does_not_wait_among_joiners(
    world: World,
) -> None:
    """Her roles wait for a bucket that is closed for long; her block must not."""
    await world.declare(hoekstra={"roles": {"Chiefs": "admin"}})
    limited = {"x-ratelimit-limit": "20", "x-ratelimit-reset": str(int(time.time()) + 4)}
    await world.fault(
        "status",
        "POST",
        "/organizations/*/members/*/roles",
        status=429,
        headers=limited,
        times=1,
    )
    world.work(world.lanes(pacer=Pacer("enterprise", world.clock)))
    await world.worker("hoekstra", "hired", "w-1", attributes={"email": ADA}, groups=("Chiefs",))
    crowd = [
        await world.worker(
            "hoekstra",
            "hired",
            f"x-{n}",
            attributes={"email": f"x{n}@hoekstra.example"},
            groups=("Chiefs",),
        )
        for n in range(60)
    ]
    assert len(crowd) == 60
    last = await world.hired("x-59")

    async def created() -> bool:
        return await world.auth0_user("x59@hoekstra.example") is not None

    await world.until(created)
    started = world.clock.monotonic()
    await world.worker("hoekstra", "terminated", "x-59", immediate=True)

    async def blocked() -> bool:
        person = await world.auth0_user("x59@hoekstra.example")
        return person is not None and bool(person["blocked"])

    await world.until(blocked)
    took = world.clock.monotonic() - started
    assert took < 2, took
    assert last.account_id is not None
