"""Second chances: what is replayed, what is not, and that nothing that has ended ever changes."""

from __future__ import annotations

import base64
import tempfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from service.directory.events import Problem
from service.outcomes.deadletter import RECORD_TIMESTAMP
from service.people import User
from service.workers import WorkerEvent
from tests.infrastructure.examples import tried_on
from tests.operators.house import House, acme, furnish, hired

UNMAPPED = Problem(kind="input", code="unmapped_type", message="No mapping knows this type.")


@pytest.fixture
def failed(house: House) -> User:
    """A user whom Auth0 refused; the event that created them is dead-lettered."""
    user = house.create("ada@acme.example")
    house.refuse(user)
    return house.user(user.id)


def dead_letter_of(house: House) -> str:
    (event,) = house.events(state="deadlettered")
    return event.id


def test_replay_gives_a_refused_account_another_turn(house: House, failed: User) -> None:
    old = dead_letter_of(house)
    assert house.next_step(failed) is None

    ended = house.run("events", "replay", old, "--json")

    assert ended.status == 0, ended.err
    (result,) = ended.rows
    assert result["verdict"] == "replayed"
    replay = house.event(result["replay_id"])
    assert (replay.door, replay.type, replay.causation_id) == ("operator", "operator.replay", old)
    assert replay.state == "accepted"
    assert house.next_step(failed) == "create-user"


def test_replay_is_told_for_the_old_event_which_stays_as_it_ended(
    house: House, failed: User
) -> None:
    before = house.event(dead_letter_of(house))

    house.run("events", "replay", before.id)

    assert house.event(before.id) == before
    told = house.run("outcomes", "--json").rows
    replayed = [row for row in told if row["type"].endswith("event.replayed.v1")]
    assert [row["causationid"] for row in replayed] == [before.id]


def test_replaying_twice_changes_nothing_more(house: House, failed: User) -> None:
    old = dead_letter_of(house)
    house.run("events", "replay", old)
    events, user = house.events(), house.user(failed.id)

    again = house.run("events", "replay", old, "--json")

    assert again.rows[0]["verdict"] == "skipped"
    assert "under way" in again.rows[0]["reason"]
    assert (house.events(), house.user(failed.id)) == (events, user)


def test_replay_that_failed_again_is_replayed_itself(house: House, failed: User) -> None:
    old = dead_letter_of(house)
    first = house.run("events", "replay", old, "--json").rows[0]["replay_id"]
    house.refuse(failed)

    refused = house.run("events", "replay", old, "--json")
    accepted = house.run("events", "replay", first, "--json")

    assert refused.rows[0]["verdict"] == "skipped"
    assert first in refused.rows[0]["reason"]
    assert accepted.rows[0]["verdict"] == "replayed"
    assert house.next_step(failed) == "create-user"


def test_bulk_replay_takes_what_needs_an_operator_and_only_that(house: House, failed: User) -> None:
    other = house.create("bob@acme.example")
    old = dead_letter_of(house)

    ended = house.run("events", "replay", "--organization", "acme", "--json")

    assert [(row["event_id"], row["verdict"]) for row in ended.rows] == [(old, "replayed")]
    assert "1 replayed" in ended.err
    assert house.run("events", "replay", "--organization", "acme").err == "no event matches\n"
    assert len(house.events(user=other.id)) == 1


def test_dry_run_tells_and_does_nothing(house: House, failed: User) -> None:
    before = house.events()

    ended = house.run("events", "replay", "--error", "refused", "--dry-run", "--json")

    (row,) = ended.rows
    assert (row["verdict"], row["dry_run"]) == ("replayed", True)
    assert failed.id in row["reason"]
    assert house.events() == before


def test_event_that_succeeded_is_replayed_by_force_only(house: House) -> None:
    user = house.create("no-address")  # nothing to do in Auth0: it succeeds at once
    (event,) = house.events()
    assert event.state == "succeeded"

    plain = house.run("events", "replay", event.id)
    forced = house.run("events", "replay", event.id, "--force", "--json")

    assert plain.status == 1
    assert "--force" in plain.out
    assert forced.status == 0
    assert house.user(user.id).last_event_id == forced.rows[0]["replay_id"]


def test_superseded_event_is_not_replayed_and_the_answer_says_why(house: House) -> None:
    house.tell(WorkerEvent(type="worker.hired", worker_id="7", sequence=2))
    old = house.tell(WorkerEvent(type="worker.terminated", worker_id="7", sequence=1))
    assert house.event(old).state == "superseded"

    ended = house.run("events", "replay", old, "--force")

    assert ended.status == 1
    assert "newer event" in ended.out
    assert house.events()[-1].id == old


def test_open_event_is_not_replayed(house: House) -> None:
    house.create("eve@acme.example")
    (event,) = house.events()

    ended = house.run("events", "replay", event.id)

    assert ended.status == 1
    assert "has not ended" in ended.out


def test_unknown_event_fails(house: House) -> None:
    ended = house.run("events", "replay", "no-such-event")

    assert ended.status == 1
    assert "There is no event" in ended.out


def test_bytes_that_were_not_understood_are_read_anew(house: House) -> None:
    body = hired("42", attributes={"email": "kim@acme.example"})
    old = house.dead_letter(house.received("http", "worker.hired", body), "acme", UNMAPPED)

    ended = house.run("events", "replay", old, "--json")

    assert ended.status == 0, ended.out
    replay = house.event(ended.rows[0]["replay_id"])
    assert replay.user_id is not None
    user = house.user(replay.user_id)
    assert (user.worker_id, user.identifier) == ("42", "kim@acme.example")
    assert replay.state == "accepted"


def test_kafka_record_is_read_anew_with_its_headers(house: House) -> None:
    def encoded(text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    headers = [
        ("ce_specversion", encoded("1.0")),
        ("ce_id", encoded("r-1")),
        ("ce_source", encoded("//hr")),
        ("ce_type", encoded("worker.hired")),
        (RECORD_TIMESTAMP, encoded("1700000000000")),
    ]
    received = house.received(
        "kafka",
        "unreadable",
        b'{"worker_id": "9", "email": "lee@acme.example"}',
        headers=headers,
        topic="hr.events",
        partition=0,
        offset=5,
        key=b"9",
    )
    old = house.dead_letter(received, None, UNMAPPED)

    ended = house.run("events", "replay", old, "--json")

    assert ended.status == 0, ended.out
    replay = house.event(ended.rows[0]["replay_id"])
    assert replay.organization == "acme"
    assert replay.topic is None, "only the record itself has its offset"


def test_bytes_that_are_still_unusable_end_in_trouble_again(house: House) -> None:
    old = house.dead_letter(house.received("http", "x", b"{not json"), "acme", UNMAPPED)

    ended = house.run("events", "replay", old, "--json")

    assert ended.status == 1
    (row,) = ended.rows
    assert row["verdict"] == "failed"
    replay = house.event(row["replay_id"])
    assert replay.state == "deadlettered"
    assert replay.error is not None
    assert replay.error["code"] == "malformed_json"
    trouble = house.run("events", "list", "--trouble", "--json").rows
    assert [each["id"] for each in trouble] == [replay.id]


def test_replayed_bytes_of_a_replay_are_those_of_the_first(house: House) -> None:
    house.transact(lambda tx: None)
    received = house.received("http", "worker.hired", hired("5"))
    old = house.dead_letter(received, "nowhere", UNMAPPED)
    first = house.run("events", "replay", old, "--json").rows[0]
    assert first["verdict"] == "failed"
    house.declare(acme().model_copy(update={"name": "nowhere"}))

    second = house.run("events", "replay", first["replay_id"], "--json").rows[0]

    assert second["verdict"] == "replayed"
    assert house.event(second["replay_id"]).user_id is not None


def test_body_under_a_reused_id_is_read_by_force_only(house: House) -> None:
    hire = replace(house.received("http", "worker.hired", hired("7")), source_id="one")
    house.tell(WorkerEvent(type="worker.hired", worker_id="7"), received=hire)
    other = hired("7").replace(b"worker.hired", b"worker.terminated")
    end = WorkerEvent(type="worker.terminated", worker_id="7")
    rejected = house.tell(end, received=replace(hire, type="worker.terminated", body=other))
    assert house.event(rejected).state == "rejected"

    bulk = house.run("events", "replay", "--organization", "acme", "--json")
    forced = house.run("events", "replay", rejected, "--force", "--json")

    assert [(row["event_id"], row["verdict"]) for row in bulk.rows] == [(rejected, "skipped")]
    assert forced.rows[0]["verdict"] == "replayed"
    user_id = house.event(forced.rows[0]["replay_id"]).user_id
    assert house.user(str(user_id)).employment == "terminated"


def test_older_event_does_not_win_by_being_replayed(house: House) -> None:
    body = hired("42").replace(b"worker.hired", b"worker.terminated")
    old = house.dead_letter(house.received("http", "worker.terminated", body), "acme", UNMAPPED)
    house.at += timedelta(minutes=1)
    rehired = house.tell(WorkerEvent(type="worker.rehired", worker_id="42"))
    user_id = house.event(rehired).user_id
    assert user_id is not None

    ended = house.run("events", "replay", old, "--json")

    replay = house.event(ended.rows[0]["replay_id"])
    assert replay.state == "superseded"
    assert house.user(user_id).employment == "active"


KINDS = st.sampled_from(["worker.hired", "worker.terminated", "worker.suspended"])


@tried_on(24, suppressed=[HealthCheck.too_slow])
@given(st.lists(st.tuples(KINDS, st.booleans()), min_size=2, max_size=6), st.randoms())
def test_replays_in_any_order_end_where_the_order_of_acceptance_does(
    story: list[tuple[str, bool]], random: Random
) -> None:
    """Whatever was understood late counts as of when it came in, not as of its replay."""
    with tempfile.TemporaryDirectory() as directory:
        house = furnish(Path(directory) / "installation")
        lost: list[str] = []
        for kind, understood in story:
            house.at += timedelta(minutes=1)
            if understood:
                house.tell(WorkerEvent(type=kind, worker_id="42"))
            else:
                body = hired("42").replace(b"worker.hired", kind.encode())
                lost.append(house.dead_letter(house.received("http", kind, body), "acme"))
        ended = {event.id: event for event in house.events() if event.state == "deadlettered"}
        random.shuffle(lost)
        if lost:
            house.run("events", "replay", *lost)
            house.run("events", "replay", *lost)
        (user_id,) = {event.user_id for event in house.events() if event.user_id}
        assert user_id is not None
        wanted = {
            "worker.hired": "active",
            "worker.terminated": "terminated",
            "worker.suspended": "suspended",
        }
        assert house.user(user_id).employment == wanted[story[-1][0]]
        assert {event_id: house.event(event_id) for event_id in ended} == ended
        replays = [event for event in house.events() if event.type == "operator.replay"]
        assert len(replays) == len(lost)
