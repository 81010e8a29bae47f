"""Storing what a partition holds: as far as it goes, and what stops it stops nothing else."""

from dataclasses import replace
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from consumers.admission import Understood
from consumers.storing import Fuse, store
from service.directory import locks
from service.directory.database import Database
from service.directory.inbox import Received
from service.workers import WorkerEvent
from tests.consumers.support import START, events_of, outcomes_of


def hired(worker_id: str, offset: int) -> Understood:
    event = WorkerEvent(type="worker.hired", worker_id=worker_id)
    received = Received(
        door="kafka",
        source="hr",
        source_id=worker_id,
        type=event.type,
        at=START,
        body=b"{}",
        topic="hr.events",
        partition=0,
        offset=offset,
    )
    return Understood(organization="acme", event=event, received=received)


async def test_an_input_that_meets_a_constraint_each_time_stops_at_itself(
    database: Database,
) -> None:
    """A fault of ours, so it is no dead letter; what came before it is durable."""
    one_only = "CREATE UNIQUE INDEX one_user ON users (organization)"
    await database.transact(lambda tx: tx.execute(text(one_only)))
    stored = await store(database, [hired("w1", 7), hired("w2", 8)])
    assert stored.count == 1
    assert isinstance(stored.stopped_by, IntegrityError)
    assert [event.offset for event in await events_of(database)] == [7]


async def test_events_of_an_organization_that_has_ended_end_at_once_and_are_no_dead_letters(
    database: Database,
) -> None:
    await database.transact(lambda tx: locks.decommission(tx, "acme", actor="ops", now=START))
    stored = await store(database, [hired("w1", 7)], Fuse(source="hr", limit=1))
    assert (stored.count, stored.stopped_by) == (1, None)
    (event,) = [each for each in await events_of(database) if each.door == "kafka"]
    assert (event.state, event.organization) == ("discarded", "acme")
    assert (event.error or {})["code"] == "organization_decommissioned"


async def test_what_crashed_tells_how_often_it_was_tried(database: Database) -> None:
    odd = hired("w1", 7)
    odd = replace(odd, event=replace(odd.event, effective_at=datetime(2030, 1, 1)))
    assert (await store(database, [odd])).stopped_by is None
    (ending,) = await outcomes_of(database)
    assert ending.data["error"]["code"] == "intake_crash"
    assert ending.data["attempts"] == 2
