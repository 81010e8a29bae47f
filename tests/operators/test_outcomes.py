"""``provisioner outcomes``: CloudEvents for programs, and a reader that misses nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from operators.following import Following
from service.directory.outbox import Outcome
from tests.operators.house import House

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def test_json_is_cloudevents_oldest_first(house: House) -> None:
    house.create("no-address")
    house.create("nor-here", "globex")

    everything = house.run("outcomes", "--json").rows
    acme = house.run("outcomes", "--json", "--organization", "acme").rows

    assert [row["type"] for row in everything] == ["io.auth0-provisioner.event.succeeded.v1"] * 2
    assert [row["organization"] for row in acme] == ["acme"]
    assert everything[0]["specversion"] == "1.0"
    assert house.run("outcomes", "--json", "--since", "1m").rows == []


def test_lines_for_people_name_organization_and_state(house: House) -> None:
    house.create("no-address")

    assert "event.succeeded" in house.run("outcomes").out


def outcome(number: int, at: datetime) -> Outcome:
    return Outcome(
        number=number,
        id=str(number),
        key="k",
        sequence=number,
        type="t",
        organization=None,
        user_id=None,
        event_id=None,
        correlation_id=None,
        traceparent=None,
        data={},
        created_at=at,
        published_at=None,
    )


@given(st.permutations(range(1, 13)), st.lists(st.integers(1, 4), min_size=12, max_size=12))
def test_following_shows_every_row_once_whatever_the_order_of_commits(
    order: list[int], sizes: list[int]
) -> None:
    following, shown, committed = Following(), list[int](), list[Outcome]()
    waiting, now = list(order), NOW
    for size in [*sizes, 1]:
        committed += [outcome(number, now) for number in waiting[:size]]
        del waiting[:size]
        page = [row for row in committed if row.number > following.settled]
        shown += [row.number for row in following.fresh(page)]
        now += timedelta(seconds=1)
        following.settle(now)

    assert sorted(shown) == list(range(1, 13))
    following.settle(now + timedelta(minutes=1))
    assert following.settled == 12
