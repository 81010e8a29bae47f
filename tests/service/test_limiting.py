"""The laws of a token bucket, whatever the arrivals."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.limiting import UNLIMITED, Buckets, Limit

limits = st.builds(
    lambda rate, burst: Limit(rate=rate, burst=burst),
    st.floats(0.1, 1000),
    st.integers(1, 50),
)
pauses = st.lists(st.floats(0, 3), min_size=1, max_size=150)
START = 1_000_000.0
"""A clock that has run for long, where floating-point numbers are coarse."""


@given(limits, pauses)
def test_in_any_stretch_of_time_no_more_is_admitted_than_burst_and_rate_allow(
    limit: Limit, pauses: list[float]
) -> None:
    buckets, now, admitted = Buckets(limit), START, list[float]()
    for pause in pauses:
        now += pause
        if buckets.take("acme", now) == 0:
            admitted.append(now)
    for first in range(len(admitted)):
        for last in range(first, len(admitted)):
            stretch = admitted[last] - admitted[first]
            assert last - first + 1 <= limit.burst + limit.rate * stretch + 0.01


@given(limits, st.integers(1, 200))
def test_who_keeps_to_the_rate_is_never_refused(limit: Limit, requests: int) -> None:
    buckets = Buckets(limit)
    for number in range(requests):
        assert buckets.take("acme", START + number / limit.rate) == 0


@given(limits, pauses)
def test_who_waits_as_long_as_told_is_admitted(limit: Limit, pauses: list[float]) -> None:
    buckets, now = Buckets(limit), START
    for pause in pauses:
        now += pause
        if (wait := buckets.take("acme", now)) > 0:
            assert wait <= 1 / limit.rate + 0.001
            now += max(1, math.ceil(wait))
            assert buckets.take("acme", now) == 0


@given(limits)
def test_a_whole_burst_is_admitted_at_once_and_no_request_more(limit: Limit) -> None:
    buckets = Buckets(limit)
    assert [buckets.take("acme", START) for _ in range(limit.burst)] == [0.0] * limit.burst
    assert buckets.take("acme", START) > 0
    assert buckets.take("globex", START) == 0


def test_what_is_given_back_can_be_taken_again() -> None:
    buckets = Buckets(Limit(rate=1, burst=1))
    for _ in range(100):
        assert buckets.take("acme", START) == 0
        buckets.give_back("acme")
    assert buckets.take("acme", START) == 0
    assert buckets.take("acme", START) > 0


@pytest.mark.parametrize("limit", [UNLIMITED, Limit(rate=0, burst=9), Limit(rate=9, burst=0)])
def test_zero_is_no_limit(limit: Limit) -> None:
    buckets = Buckets(limit)
    assert {buckets.take("acme", START) for _ in range(1000)} == {0.0}
    assert len(buckets) == 0


def test_memory_is_bounded_and_who_comes_often_is_not_forgotten() -> None:
    buckets = Buckets(Limit(rate=1, burst=1), most=100)
    assert buckets.take("often", START) == 0
    for number in range(10_000):
        assert buckets.take(f"client-{number}", START) == 0
        if number % 50 == 0:
            assert buckets.take("often", START) > 0
    assert len(buckets) == 100


@given(limits, st.integers(1, 100))
def test_who_spends_ahead_waits_until_it_is_earned(limit: Limit, ahead: int) -> None:
    buckets = Buckets(limit)
    assert buckets.take("acme", START) == 0
    assert buckets.spend("acme", ahead, START) == 0
    owed = (ahead + 2 - limit.burst) / limit.rate
    assert buckets.take("acme", START) == pytest.approx(max(0.0, owed), abs=0.001)


def test_of_those_taken_at_the_same_time_one_spends_ahead() -> None:
    buckets = Buckets(Limit(rate=1.0, burst=3))
    for _ in range(3):
        assert buckets.take("acme", START) == 0
    assert buckets.spend("acme", 10, START) == 0
    assert buckets.spend("acme", 10, START) == pytest.approx(10)
    assert buckets.spend("acme", 10, START + 10) == 0
    assert Buckets(UNLIMITED).spend("acme", 10, START) == 0
