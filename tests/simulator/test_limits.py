"""Rules of rate limits: pure token buckets, and what callers see of them."""

from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.auth0.simulator.limits import LIMITS, Bucket, Limits, Plan, RateLimiter
from tests.simulator.conftest import OpenTenant
from tests.simulator.driver import Auth0, Clock

GROUP = "organization_members_write"
SLOW = Bucket(burst=2, refill=60, period="minute")
FAST = Bucket(burst=5, refill=5, period="second")


@given(
    burst=st.integers(1, 20),
    refill=st.integers(1, 300),
    pauses=st.lists(st.floats(0, 5), min_size=1, max_size=200),
)
def test_bucket_never_lets_through_more_than_burst_and_refill(
    burst: int, refill: int, pauses: list[float]
) -> None:
    clock = Clock()
    bucket = Bucket(burst=burst, refill=refill, period="minute")
    limiter = RateLimiter(Limits(overall=bucket), clock)
    began, passed = clock.now, 0
    for pause in pauses:
        clock.advance(pause)
        verdict = limiter.take("main", "users_read")
        passed += verdict.refusal is None
        assert 0 <= verdict.remaining <= burst
        assert passed <= burst + (clock.now - began) * refill / 60 + 1e-6


@given(waited=st.floats(0, 120), spent=st.integers(0, 10))
def test_bucket_is_full_again_at_the_reset(waited: float, spent: int) -> None:
    clock = Clock()
    limiter = RateLimiter(Limits(overall=Bucket(burst=10, refill=10, period="minute")), clock)
    for _ in range(spent):
        limiter.take("main", "x")
    clock.advance(waited)
    verdict = limiter.take("main", "x")
    clock.now = float(verdict.reset)
    assert limiter.take("main", "x").remaining == 9


def test_overall_limit_is_checked_before_the_groups() -> None:
    limits = Limits(overall=SLOW, groups=MappingProxyType({GROUP: SLOW}))
    limiter = RateLimiter(limits, Clock())
    assert [limiter.take("main", GROUP).refusal for _ in range(3)][2] == (
        "Global limit has been reached"
    )


def test_groups_refusal_names_the_group_and_its_period() -> None:
    limits = Limits(overall=FAST, groups=MappingProxyType({GROUP: SLOW, "users_write": FAST}))
    limiter = RateLimiter(limits, Clock())
    refusals = [limiter.take("main", GROUP).refusal for _ in range(3)]
    assert refusals == [
        None,
        None,
        "Global per minute organization_members_write group limit has been reached",
    ]
    assert limiter.take("main", "users_write").refusal is None


def test_tenants_have_buckets_of_their_own() -> None:
    limiter = RateLimiter(Limits(overall=SLOW), Clock())
    for _ in range(2):
        limiter.take("main", "x")
    assert limiter.take("main", "x").refusal is not None
    assert limiter.take("conglomerate", "x").refusal is None


@pytest.mark.parametrize(("plan", "burst"), [("free", 2), ("professional", 20), ("enterprise", 20)])
def test_plans_differ_in_membership_writes(plan: Plan, burst: int) -> None:
    limiter = RateLimiter(LIMITS[plan], Clock())
    passed = [limiter.take("main", GROUP).refusal is None for _ in range(30)]
    assert passed.count(True) == burst


def test_calls_outside_all_groups_share_a_bucket_in_professional() -> None:
    limiter = RateLimiter(LIMITS["professional"], Clock())
    groups = ["tickets", "jobs"] * 6
    assert [limiter.take("main", group).refusal is None for group in groups] == (
        [True] * 10 + [False] * 2
    )


def test_headers_can_tell_of_the_overall_bucket_only() -> None:
    groups = MappingProxyType({GROUP: SLOW})
    own = Limits(overall=FAST, groups=groups, headers="group")
    overall = Limits(overall=FAST, groups=groups, headers="global")
    assert RateLimiter(own, Clock()).take("main", GROUP).limit == SLOW.burst
    assert RateLimiter(overall, Clock()).take("main", GROUP).limit == FAST.burst


async def test_every_answer_carries_rate_headers(auth0: Auth0, clock: Clock) -> None:
    user = await auth0.create_user("ann@hoekstra.example")
    for method, path in (
        ("GET", "/users"),
        ("GET", "/users/auth0|nobody"),
        ("GET", "/no-such-thing"),
        ("DELETE", f"/users/{user['user_id']}"),
    ):
        headers = (await auth0.send(method, path)).headers
        assert int(headers["x-ratelimit-limit"]) > int(headers["x-ratelimit-remaining"]) >= 0
        assert clock.now <= int(headers["x-ratelimit-reset"]) <= clock.now + 2


async def test_call_beyond_the_limit_is_a_429_that_changes_nothing(
    open_tenant: OpenTenant, clock: Clock
) -> None:
    auth0 = await open_tenant(plan="free", limits=None)
    await auth0.connection()
    await auth0.create_user("ann@hoekstra.example")
    body = {"connection": "hoekstra-users", "email": "bob@x.example", "password": "Abcdef1!"}
    answer = await auth0.send("POST", "/users", body)
    assert answer.json() == {
        "statusCode": 429,
        "error": "Too Many Requests",
        "message": "Global limit has been reached",
        "errorCode": "too_many_requests",
    }
    assert answer.headers["x-ratelimit-remaining"] == "0"
    assert len((await auth0.state())["users"]) == 1
    clock.now = float(answer.headers["x-ratelimit-reset"])
    assert (await auth0.send("POST", "/users", body)).status_code == 201
