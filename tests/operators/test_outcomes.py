"""``provisioner outcomes``: CloudEvents for programs, and a reader that misses nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from operators.following import Following
from service.directory.outbox import Outcome
from service.outcomes.entries import ENTRIES
from service.outcomes.schemas import schema_of
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


def test_types_are_listed_with_their_counterparts_and_examples(house: House) -> None:
    rows = {row["type"]: row for row in house.run("outcomes", "--types", "--json").rows}
    assert rows.keys() == {entry.full_name for entry in ENTRIES.values()}
    revoked = rows["io.auth0-provisioner.access.revoked.v1"]
    assert revoked["counterparts"][0].endswith("/caep/event-type/session-revoked")
    assert revoked["example"]["revoked"] is True
    assert "user.adopted" in house.run("outcomes", "--types").out


def test_a_schema_is_printed_by_either_name_of_its_type(house: House) -> None:
    short = json.loads(house.run("outcomes", "--schema", "user.created").out)
    full = "io.auth0-provisioner.user.created.v1"
    assert json.loads(house.run("outcomes", "--schema", full).out) == short
    assert short == schema_of(ENTRIES["user.created"])


def test_an_unknown_type_is_wrong_usage(house: House) -> None:
    assert house.run("outcomes", "--schema", "user.made").status == 2


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
