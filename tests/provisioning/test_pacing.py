"""Pacing: never above the plan's rate, leavers first, corrected by what Auth0 answers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.auth0.pacing import PLANS, Group, Pacer, PacerClosed, Plan
from service.clock import SystemClock


class _Time:
    """Time that passes only when everybody waits for it."""

    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at, UTC)

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += seconds
        await asyncio.sleep(0)


class _Still(_Time):
    """Time that passes only when the test says so."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.Event().wait()


GROUPS: list[Group] = ["users-write", "users-read", "members-write", "member-roles-write", "other"]


@given(
    plan=st.sampled_from(["free", "professional", "enterprise"]),
    asked=st.lists(st.tuples(st.sampled_from(GROUPS), st.booleans()), min_size=1, max_size=120),
)
@settings(max_examples=40, deadline=None)
def test_no_bucket_ever_gives_more_than_burst_and_rate(
    plan: Plan, asked: list[tuple[Group, bool]]
) -> None:
    async def go() -> None:
        time = _Time()
        pacer = Pacer(plan, time)
        granted: dict[str, list[float]] = {}

        async def one(group: Group, leaver: bool) -> None:
            await pacer.turn(group, leaver=leaver)
            for bucket in pacer.buckets_of(group):
                granted.setdefault(bucket, []).append(time.at)

        await asyncio.wait_for(asyncio.gather(*(one(*ask) for ask in asked)), 20)
        pacer.close()
        for bucket, times in granted.items():
            rate = PLANS[plan][bucket]
            times.sort()
            for i, start in enumerate(times):
                for j in range(i, len(times)):
                    bound = rate.burst + rate.per_second * (times[j] - start)
                    assert j - i + 1 <= bound + 1e-6

    asyncio.run(go())


async def test_a_leaver_overtakes_everyone_who_waits() -> None:
    time = _Time()
    pacer = Pacer("enterprise", time)
    order: list[str] = []

    async def one(name: str, leaver: bool) -> None:
        await pacer.turn("users-write", leaver=leaver)
        order.append(name)

    joiners = [asyncio.create_task(one(f"joiner{n}", False)) for n in range(80)]
    await asyncio.sleep(0)
    leaver = asyncio.create_task(one("leaver", True))
    await asyncio.gather(*joiners, leaver)
    pacer.close()
    assert order.index("leaver") <= 41, "joiners leave a fifth of the burst to leavers"


async def test_a_429_closes_the_bucket_until_its_reset() -> None:
    time = _Time()
    time.at = 1000.0
    pacer = Pacer("enterprise", time)
    headers = {"x-ratelimit-limit": "20", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1007"}
    pacer.learn("members-write", headers, limited=True, epoch=1000.0)
    await pacer.turn("users-write")
    assert time.at == 1000.0, "another group is not held up"
    await pacer.turn("members-write", leaver=True)
    pacer.close()
    assert time.at >= 1007.0


async def test_a_smaller_remaining_is_believed() -> None:
    time = _Time()
    pacer = Pacer("enterprise", time)
    headers = {"x-ratelimit-limit": "50", "x-ratelimit-remaining": "1", "x-ratelimit-reset": "1"}
    pacer.learn("users-write", headers, limited=False, epoch=0.0)
    await pacer.turn("users-write", leaver=True)
    assert time.at == 0.0
    await pacer.turn("users-write", leaver=True)
    pacer.close()
    assert time.at > 0.0


async def test_a_group_that_waits_does_not_hold_up_another() -> None:
    time = _Time()
    pacer = Pacer("professional", time)
    waiting = [asyncio.create_task(pacer.turn("members-write")) for _ in range(30)]
    await asyncio.sleep(0)
    await pacer.turn("users-write")
    assert time.at < 0.5
    await asyncio.gather(*waiting)
    pacer.close()


async def test_a_long_wait_for_one_bucket_does_not_oversleep_another() -> None:
    """Members are closed for a minute; whoever needs the global bucket goes on meanwhile."""
    pacer = Pacer("enterprise", SystemClock())
    closed = {"x-ratelimit-limit": "20", "x-ratelimit-reset": str(1000 + 60)}
    pacer.learn("members-write", closed, limited=True, epoch=1000.0)
    held = asyncio.create_task(pacer.turn("members-write"))
    await asyncio.sleep(0)
    drained = {"x-ratelimit-limit": "50", "x-ratelimit-remaining": "10"}
    pacer.learn("users-write", drained, limited=False, epoch=1000.0)
    await asyncio.wait_for(pacer.turn("users-write"), 2)
    assert not held.done()
    held.cancel()
    pacer.close()


async def test_a_turn_that_is_given_to_a_cancelled_call_is_not_lost() -> None:
    time = _Still()
    pacer = Pacer("free", time)
    await pacer.turn("other", leaver=True)
    await pacer.turn("other", leaver=True)
    waiting = asyncio.create_task(pacer.turn("other", leaver=True))
    await asyncio.sleep(0)
    time.at += 1.0  # two tokens: one for whoever waits, one for us
    await pacer.turn("other", leaver=True)
    waiting.cancel()  # before it could go on
    await asyncio.gather(waiting, return_exceptions=True)
    await asyncio.wait_for(pacer.turn("other", leaver=True), 1)
    pacer.close()


async def test_whoever_leaves_while_waiting_overtakes() -> None:
    time = _Time()
    pacer = Pacer("enterprise", time)
    order: list[int] = []

    async def one(number: int) -> None:
        await pacer.turn("users-write")
        order.append(number)

    waiting = [asyncio.create_task(one(number)) for number in range(80)]
    await asyncio.sleep(0)
    pacer.hurry(waiting[79])
    await asyncio.gather(*waiting)
    pacer.close()
    assert order.index(79) <= 41


@pytest.mark.parametrize("odd", ["nan", "inf", "-1e300", "", "soon"])
async def test_odd_headers_stop_nobody(odd: str) -> None:
    time = _Time()
    pacer = Pacer("enterprise", time)
    for limited in (False, True):
        headers = {f"x-ratelimit-{name}": odd for name in ("remaining", "reset")}
        pacer.learn(
            "users-write", {"x-ratelimit-limit": "50", **headers}, limited=limited, epoch=0.0
        )
    await pacer.turn("users-write")
    pacer.close()
    assert time.at < 62


async def test_closing_lets_nobody_go_any_more() -> None:
    time = _Time()
    pacer = Pacer("free", time)
    waiting = [asyncio.create_task(pacer.turn("other")) for _ in range(10)]
    pacer.close()
    came = await asyncio.gather(*waiting, pacer.turn("other"), return_exceptions=True)
    assert all(isinstance(one, PacerClosed) for one in came)
