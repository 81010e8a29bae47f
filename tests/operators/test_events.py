"""``provisioner events``: listing, showing, discarding."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from operators.commands.moments import since
from service.directory import coming_due, leases
from service.directory.events import Problem
from service.workers import WorkerEvent
from tests.operators.house import House, hired

UNMAPPED = Problem(kind="input", code="unmapped_type", message="No mapping knows this type.")


def ids(house: House, *filters: str) -> list[str]:
    return [row["id"] for row in house.run("events", "list", "--json", *filters).rows]


def test_list_narrows_by_every_filter(house: House) -> None:
    house.at -= timedelta(hours=3)
    ada = house.create("ada@acme.example")
    house.at += timedelta(hours=3)
    bob = house.create("bob@globex.example", "globex")
    lost = house.dead_letter(house.received("http", "x", b"?"), "acme", UNMAPPED)
    first, second, third = (event.id for event in house.events())

    assert ids(house) == [first, second, third]
    assert ids(house, "--organization", "acme") == [first, third]
    assert ids(house, "--state", "deadlettered") == [lost]
    assert ids(house, "--error", "unmapped_type") == [lost]
    assert ids(house, "--trouble") == [lost]
    assert ids(house, "--since", "2h") == [second, third]
    assert ids(house, "--limit", "1") == [third]
    for name in (ada.id, "ADA@acme.example"):
        assert ids(house, "--user", name) == [first]
    assert ids(house, "--user", bob.id, "--organization", "globex") == [second]


def test_what_is_tried_in_vain_is_seen_before_it_ends(house: House) -> None:
    ada, bob = house.create("ada@acme.example"), house.create("bob@acme.example")
    tried, untried = (event.id for event in house.events())
    house.put_off(ada, "not reached: no route to host")
    house.put_off(ada, "no clear answer from Auth0 (502)")

    assert ids(house, "--retrying") == [tried]
    shown = " ".join(house.run("events", "list").out.split())
    assert "2 tries: no clear answer from Auth0 (502)" in shown
    assert ids(house, "--retrying", "--user", bob.id) == []

    house.refuse(ada)
    assert ids(house, "--retrying") == []
    assert ids(house, "--trouble") == [tried]
    assert ids(house, "--state", "accepted") == [untried]


def test_what_waits_for_a_paused_tenant_says_so(house: House) -> None:
    house.create("ada@acme.example")
    house.transact(lambda tx: leases.pause_tenant(tx, "main", "unauthorized", house.at, None))

    (event,) = house.events()
    assert ids(house, "--retrying") == [event.id]
    assert "tenant main is paused" in " ".join(house.run("events", "list").out.split())


def test_list_pages_through_everything(house: House) -> None:
    for number in range(3):
        house.tell(WorkerEvent(type="worker.hired", worker_id=str(number)))

    assert len(ids(house)) == len(house.events()) == 3


def test_table_is_for_people(house: House) -> None:
    house.create("ada@acme.example")

    ended = house.run("events", "list")

    assert "accepted" in ended.out
    assert house.events()[0].id in ended.out


@pytest.mark.parametrize(
    "wrong", [("--state", "broken"), ("--since", "yesterday"), ("--limit", "0")]
)
def test_wrong_filter_is_wrong_usage(house: House, wrong: tuple[str, str]) -> None:
    ended = house.run("events", "list", *wrong)

    assert ended.status == 2
    assert "Traceback" not in ended.err


def test_replay_without_a_choice_is_wrong_usage(house: House) -> None:
    assert house.run("events", "replay").status == 2
    assert house.run("events", "replay", "some-id", "--error", "x").status == 2


def test_raw_writes_the_original_bytes(house: House) -> None:
    body = b'{"a":  "\xff\n'
    lost = house.dead_letter(house.received("http", "x", body), "acme", UNMAPPED)

    ended = house.run("events", "show", lost, "--raw")

    assert (ended.status, ended.raw) == (0, body)
    shown = house.run("events", "show", lost)
    assert "unmapped_type" in shown.out
    assert "\\xff" in shown.out


def test_show_says_what_an_open_event_waits_for(house: House) -> None:
    user = house.create("ada@acme.example")
    (event,) = house.events()

    (shown,) = house.run("events", "show", event.id, "--json").rows

    assert (shown["state"], shown["user_id"]) == ("accepted", user.id)
    assert str(user.account_id) in shown["waits_for"][0]


def test_discard_ends_an_open_event_for_good(house: House) -> None:
    house.create("ada@acme.example")
    (event,) = house.events()

    ended = house.run("events", "discard", event.id, "--reason", "typo", "--actor", "kim")

    assert ended.status == 0
    discarded = house.event(event.id)
    assert discarded.state == "discarded"
    told = house.run("outcomes", "--json").rows
    assert [row["type"] for row in told] == ["io.auth0-provisioner.event.discarded.v1"]
    assert "typo" not in str(told), "the reason is for the audit log, not for the topic"
    (entry,) = house.run("audit", "--json").rows
    assert (entry["actor"], entry["detail"]["reason"]) == ("kim", "typo")
    assert house.run("events", "discard", event.id, "--reason", "again").status == 1
    assert house.event(event.id) == discarded


def test_discarded_schedule_never_comes(house: House) -> None:
    due = house.at + timedelta(days=1)
    event_id = house.tell(WorkerEvent(type="worker.terminated", worker_id="7", effective_at=due))
    assert house.event(event_id).state == "scheduled"

    house.run("events", "discard", event_id, "--reason", "wrong person")

    assert house.transact(lambda tx: coming_due.run_due(tx, due + timedelta(days=1))) == 0
    assert house.event(event_id).state == "discarded"


def test_dead_letter_that_is_set_aside_stays_as_it_ended(house: House) -> None:
    lost = house.dead_letter(house.received("http", "x", hired("1")), "acme", UNMAPPED)
    before, outcomes = house.event(lost), house.run("outcomes", "--json").out

    ended = house.run(
        "events", "discard", "--error", "unmapped_type", "--reason", "known", "--json"
    )

    assert ended.rows[0]["verdict"] == "set-aside"
    assert house.event(lost) == before
    assert house.run("outcomes", "--json").out == outcomes
    assert ids(house, "--trouble") == []
    assert ids(house, "--state", "deadlettered") == [lost]


def test_discard_wants_a_reason(house: House) -> None:
    assert house.run("events", "discard", "some-id").status == 2


def test_since_is_a_moment_or_an_age() -> None:
    now = datetime(2026, 11, 23, 12, tzinfo=UTC)

    assert since("15m", now) == now - timedelta(minutes=15)
    assert since("3d", now) == now - timedelta(days=3)
    assert since("2026-11-23T09:00:00+01:00", now) == datetime(2026, 11, 23, 8, tzinfo=UTC)
    assert since("2026-11-23T09:00:00z", now) == datetime(2026, 11, 23, 9, tzinfo=UTC)
    for wrong in ("", "5", "-3d", "tomorrow", "2026-13-01", "999999w"):
        with pytest.raises(ValueError, match="no moment"):
            since(wrong, now)
