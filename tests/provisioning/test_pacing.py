"""Pacing: never above the plan's rate, leavers first, corrected by what Auth0 answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.auth0.pacing import PLANS, Group, Pacer, PacerClosed, Pacers, Plan, Recalled
from service.clock import SystemClock
from service.organizations import Tenant


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


Ask = tuple[str, Group, dict[str, bool]]


def _ask(name: str, group: Group, **rank: bool) -> Ask:
    return name, group, rank


async def _granted(pacer: Pacer, time: _Time, asked: Sequence[Ask]) -> list[tuple[str, float]]:
    """Everyone asks at once; who went, in order, and when."""
    went: list[tuple[str, float]] = []

    async def one(name: str, group: Group, rank: dict[str, bool]) -> None:
        await pacer.turn(group, **rank)
        went.append((name, time.at))

    await asyncio.wait_for(asyncio.gather(*(one(*ask) for ask in asked)), 20)
    pacer.close()
    return went


@given(
    plan=st.sampled_from(["free", "professional", "enterprise"]),
    asked=st.lists(st.tuples(st.sampled_from(GROUPS), st.booleans()), min_size=1, max_size=120),
)
@settings(max_examples=40, deadline=None)
def test_no_leaver_ever_goes_after_a_joiner_who_needs_the_same_bucket(
    plan: Plan, asked: list[tuple[Group, bool]]
) -> None:
    time = _Time()
    pacer = Pacer(plan, time)
    # Somebody else has emptied all buckets, so that everyone has to wait.
    for group, _ in asked:
        pacer.learn(group, {}, limited=True, epoch=0.0)
    names = [_ask(f"{n}", group, leaver=leaver) for n, (group, leaver) in enumerate(asked)]
    went = [int(name) for name, _ in asyncio.run(_granted(pacer, time, names))]
    for group, _ in asked:
        leavers = [asked[n][1] for n in went if asked[n][0] == group]
        assert leavers == sorted(leavers, reverse=True)


@given(
    plan=st.sampled_from(["free", "professional", "enterprise"]),
    group=st.sampled_from(GROUPS),
    joiners=st.integers(20, 100),
    polls=st.integers(1, 30),
)
@settings(max_examples=40, deadline=None)
def test_background_work_keeps_to_its_share_and_is_sure_of_it(
    plan: Plan, group: Group, joiners: int, polls: int
) -> None:
    time = _Time()
    pacer = Pacer(plan, time)
    asked = [
        *(_ask("joiner", group) for _ in range(joiners)),
        *(_ask("poll", group, background=True) for _ in range(polls)),
    ]
    went = asyncio.run(_granted(pacer, time, asked))
    busy_until = max(at for name, at in went if name == "joiner")
    rate = PLANS[plan][pacer.buckets_of(group)[-1]]
    times = [at for name, at in went if name == "poll" and at < busy_until]
    for count, at in enumerate(times, 1):
        assert count <= max(1, int(rate.burst * 0.1)) + rate.per_second * 0.1 * at + 1e-6
    # It has had what is its own meanwhile, however many joiners waited.
    sure = min(polls, int(rate.per_second * 0.1 * busy_until))
    assert len(times) >= sure - 1


async def test_background_work_may_have_more_while_the_lanes_are_idle() -> None:
    time = _Time()
    pacer = Pacer("enterprise", time)
    await _granted(pacer, time, [_ask("poll", "users-read", background=True)] * 100)
    assert time.at < 10, "a tenth of the rate would take a minute"


@given(asked=st.lists(st.tuples(st.sampled_from(GROUPS), st.booleans()), min_size=1, max_size=60))
@settings(max_examples=40, deadline=None)
def test_nobody_waits_while_there_are_tokens(asked: list[tuple[Group, bool]]) -> None:
    """Of all who ask at once, those go at once for whom every bucket has a token that is not kept."""
    time = _Still()
    pacer = Pacer("enterprise", time)
    left = {name: float(rate.burst) for name, rate in PLANS["enterprise"].items()}

    async def go() -> int:
        tasks = [asyncio.create_task(pacer.turn(group, leaver=leaver)) for group, leaver in asked]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gone = sum(task.done() for task in tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        pacer.close()
        return gone

    expected = 0
    for group, leaver in asked:
        names = pacer.buckets_of(group)
        kept = {
            n: 0 if leaver else int(PLANS["enterprise"][n].burst * Pacer.RESERVE) for n in names
        }
        if all(left[name] >= 1 + kept[name] for name in names):
            expected += 1
            for name in names:
                left[name] -= 1
    assert asyncio.run(go()) == expected


async def test_whoever_began_first_ends_first() -> None:
    """A task that has called before goes before those who only begin."""
    time = _Time()
    pacer = Pacer("enterprise", time)
    order: list[str] = []

    async def turns(name: str, calls: int) -> None:
        for _ in range(calls):
            await pacer.turn("users-write")
            order.append(name)

    await asyncio.gather(
        turns("first", 2), *(turns(f"beginner {n}", 1) for n in range(100)), turns("last", 1)
    )
    pacer.close()
    assert [n for n, name in enumerate(order) if name == "first"][1] < 40


async def test_every_leaver_is_blocked_before_the_sessions_of_any_are_ended() -> None:
    time = _Time()
    pacer = Pacer("enterprise", time)
    empty = {"x-ratelimit-limit": "50", "x-ratelimit-remaining": "0"}
    pacer.learn("users-write", empty, limited=False, epoch=0.0)
    order: list[str] = []
    blocked = asyncio.Event()

    async def leave(name: str) -> None:
        await pacer.turn("users-write", leaver=True)
        order.append(f"{name} blocked")
        blocked.set()
        await pacer.turn("other", leaver=True)
        order.append(f"{name} out")

    first = [asyncio.create_task(leave(f"early {n}")) for n in range(5)]
    await blocked.wait()
    late = asyncio.create_task(leave("late"))
    await asyncio.gather(*first, late)
    pacer.close()
    assert [each.split()[-1] for each in order] == ["blocked"] * 6 + ["out"] * 6


async def test_whoever_is_recalled_makes_no_call_and_takes_no_token() -> None:
    time = _Still()
    pacer = Pacer("free", time)
    for _ in range(2):
        await pacer.turn("other", leaver=True)
    waiting = asyncio.create_task(pacer.turn("other", leaver=True))
    await asyncio.sleep(0)
    assert pacer.recall(waiting)
    with pytest.raises(Recalled):
        await waiting
    assert not pacer.recall(waiting)
    time.at += 0.5
    await asyncio.wait_for(pacer.turn("other", leaver=True), 1)
    pacer.close()


@pytest.mark.parametrize("skew", [-7200.0, -3.0, 3.0, 7200.0])
async def test_a_reset_is_read_by_the_tenants_clock(skew: float) -> None:
    time = _Time()
    time.at = 1000.0
    pacer = Pacer("enterprise", time)
    headers = {
        "x-ratelimit-limit": "20",
        "x-ratelimit-reset": "1007",
        "date": "Thu, 01 Jan 1970 00:16:40 GMT",
    }
    pacer.learn("members-write", headers, limited=True, epoch=1000.0 + skew)
    await pacer.turn("members-write", leaver=True)
    pacer.close()
    assert 1007.0 <= time.at < 1008.0


async def test_retry_after_goes_before_a_reset() -> None:
    time = _Time()
    pacer = Pacer("enterprise", time)
    headers = {"x-ratelimit-limit": "20", "x-ratelimit-reset": "50", "retry-after": "2"}
    pacer.learn("members-write", headers, limited=True, epoch=0.0)
    await pacer.turn("members-write", leaver=True)
    pacer.close()
    assert 2.0 <= time.at < 3.0


@pytest.mark.parametrize("reset", ["9999999999", "1060.5"])
async def test_a_reset_far_ahead_is_looked_at_again_after_a_minute(reset: str) -> None:
    time = _Time()
    pacer = Pacer("enterprise", time)
    headers = {"x-ratelimit-limit": "20", "x-ratelimit-reset": reset}
    pacer.learn("members-write", headers, limited=True, epoch=1000.0)
    await pacer.turn("members-write", leaver=True)
    pacer.close()
    assert 60.0 <= time.at < 61.0


@pytest.mark.parametrize("headers", [{}, {"x-ratelimit-reset": "1"}])
async def test_429s_that_say_nothing_useful_are_answered_with_longer_and_longer_waits(
    headers: dict[str, str],
) -> None:
    time = _Time()
    pacer = Pacer("enterprise", time)
    waits: list[float] = []
    for _ in range(5):
        before = time.at
        pacer.learn("members-write", headers, limited=True, epoch=1000.0)
        await pacer.turn("members-write", leaver=True)
        waits.append(time.at - before)
    pacer.close()
    assert waits == sorted(waits)
    assert waits[0] >= 1
    assert waits[-1] >= 16


async def test_429s_of_calls_that_were_under_way_together_count_once() -> None:
    time = _Time()
    shares: list[float] = []
    pacer = Pacer("enterprise", time, on_share=lambda _, share: shares.append(share))
    for _ in range(20):
        pacer.learn("members-write", {}, limited=True, epoch=0.0)
    pacer.close()
    assert shares == []


async def test_a_rate_that_somebody_else_uses_up_is_believed_to_be_smaller_and_found_again() -> (
    None
):
    time = _Time()
    shares: list[tuple[str, float]] = []
    pacer = Pacer("enterprise", time, on_share=lambda name, share: shares.append((name, share)))
    for _ in range(3):
        pacer.learn("members-write", {}, limited=True, epoch=0.0)
        await pacer.turn("members-write")
    slowest = shares[-1][1]
    assert shares[-1][0] == "members-write"
    assert slowest == pytest.approx(0.64)
    for _ in range(20):
        time.at += 61
        pacer.learn("members-write", {}, limited=False, epoch=0.0)
    pacer.close()
    assert shares[-1] == ("members-write", 1.0)


async def test_a_smaller_plan_than_configured_slows_down_and_is_told_once() -> None:
    time = _Time()
    shares: list[tuple[str, float]] = []
    pacer = Pacer("enterprise", time, on_share=lambda name, share: shares.append((name, share)))
    small = {"x-ratelimit-limit": "10", "x-ratelimit-remaining": "9"}
    for _ in range(3):
        pacer.learn("users-write", small, limited=False, epoch=0.0)
    assert shares == [("global", 0.2)]
    pacer.learn("users-write", small | {"x-ratelimit-limit": "50"}, limited=False, epoch=0.0)
    assert shares == [("global", 0.2), ("global", 1.0)]
    pacer.close()


async def test_a_larger_plan_than_configured_is_not_used_up() -> None:
    time = _Time()
    pacer = Pacer("free", time)
    large = {"x-ratelimit-limit": "50", "x-ratelimit-remaining": "49"}
    pacer.learn("users-write", large, limited=False, epoch=0.0)
    await _granted(pacer, time, [_ask("joiner", "users-write")] * 12)
    assert time.at >= 5.0


async def test_headers_that_tell_of_the_global_bucket_say_nothing_of_a_group() -> None:
    time = _Time()
    pacer = Pacer("enterprise", time)
    headers = {"x-ratelimit-limit": "50", "x-ratelimit-remaining": "30"}
    pacer.learn("members-write", headers, limited=False, epoch=0.0)
    await _granted(pacer, time, [_ask("leaver", "members-write", leaver=True)] * 20)
    assert time.at == 0.0


async def test_a_429_closes_the_bucket_that_its_message_names() -> None:
    time = _Time()
    pacer = Pacer("enterprise", time)
    told = "Global limit has been reached"
    pacer.learn("members-write", {"retry-after": "3"}, limited=True, epoch=0.0, message=told)
    await pacer.turn("users-write")
    pacer.close()
    assert time.at >= 3.0


def test_all_who_call_a_tenant_share_its_budget() -> None:
    pacers = Pacers(_Time())
    main = Tenant(name="main", base_url="http://auth0.test", plan="enterprise")
    other = main.model_copy(update={"name": "other"})
    assert pacers.of(main) is pacers.of(main.model_copy())
    assert pacers.of(main) is not pacers.of(other)
