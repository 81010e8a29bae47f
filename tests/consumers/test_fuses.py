"""A source whose events fail one after the other is stopped: counted for all processes, exactly."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from consumers.admission import Input, NotUnderstood, Understood, input_problem
from consumers.storing import Fuse, store
from service.directory import fuses
from service.directory.database import Database
from service.directory.fuses import Blown, Verdict, run_after
from service.directory.inbox import Received
from service.workers import WorkerEvent
from tests.consumers.support import START, events_of

FUSE = Fuse(source="hr", limit=5)


def received(offset: int, partition: int = 0) -> Received:
    return Received(
        door="kafka",
        source="hr",
        source_id=f"{partition}-{offset}",
        type="worker.hired",
        at=START,
        body=b"{}",
        topic="hr.events",
        partition=partition,
        offset=offset,
    )


def good(offset: int, partition: int = 0) -> Understood:
    event = WorkerEvent(type="worker.hired", worker_id=f"w{partition}-{offset}")
    return Understood(organization="acme", event=event, received=received(offset, partition))


def bad(offset: int, partition: int = 0) -> NotUnderstood:
    return NotUnderstood(
        organization="acme",
        ended="deadlettered",
        problem=input_problem("unmapped_type", "No mapping knows this type of event."),
        received=received(offset, partition),
    )


def rejected(offset: int) -> Understood:
    event = WorkerEvent(type="worker.hired", worker_id=f"w{offset}")
    return Understood(organization="initech", event=event, received=received(offset))


async def failures(database: Database) -> int:
    return await database.read(lambda tx: fuses.check(tx, "hr"))


async def test_the_fuse_blows_at_its_limit_and_what_stands_behind_is_left_where_it_is(
    database: Database,
) -> None:
    stored = await store(database, [bad(offset) for offset in range(20)], FUSE)
    assert stored.count == 5
    assert isinstance(stored.stopped_by, Blown)
    assert len(await events_of(database)) == 5
    (fuse,) = (await database.read(fuses.blown)).values()
    assert (fuse.failures, fuse.blown_at) == (5, START)
    told = {"code": "unmapped_type", "topic": "hr.events", "partition": 0, "offset": 4}
    assert fuse.detail == told


async def test_nothing_of_a_stopped_source_is_taken_in_until_it_is_let_go_on(
    database: Database,
) -> None:
    await store(database, [bad(offset) for offset in range(5)], FUSE)
    stored = await store(database, [good(5)], FUSE)
    assert (stored.count, isinstance(stored.stopped_by, Blown)) == (0, True)
    assert await database.transact(lambda tx: fuses.reset(tx, "hr"))
    assert (await store(database, [good(5)], FUSE)).stopped_by is None
    assert await failures(database) == 0


async def test_a_good_event_resets_the_count(database: Database) -> None:
    for start in range(0, 30, 5):
        inputs: list[Input] = [bad(start + n) for n in range(4)]
        assert (await store(database, [*inputs, good(start + 4)], FUSE)).stopped_by is None
    assert await failures(database) == 0


async def test_failures_add_up_over_batches_and_partitions_rejections_too(
    database: Database,
) -> None:
    await store(database, [good(0), bad(1), rejected(2)], FUSE)
    await store(database, [bad(0, partition=1)], FUSE)
    assert await failures(database) == 3
    stored = await store(database, [bad(1, partition=1), rejected(3), good(4)], FUSE)
    assert (stored.count, isinstance(stored.stopped_by, Blown)) == (2, True)


async def test_a_redelivery_and_a_repeat_say_nothing_of_the_source(database: Database) -> None:
    await store(database, [good(0), bad(1), bad(2)], FUSE)
    for _ in range(5):
        await store(database, [good(0), bad(1), bad(2)], FUSE)
    assert await failures(database) == 2


async def test_another_source_is_not_touched(database: Database) -> None:
    await store(database, [bad(offset) for offset in range(5)], FUSE)
    other = Fuse(source="payroll", limit=5)
    assert (await store(database, [good(0, partition=7)], other)).stopped_by is None


async def test_a_limit_of_zero_never_stops(database: Database) -> None:
    stored = await store(
        database, [bad(offset) for offset in range(100)], Fuse(source="hr", limit=0)
    )
    assert (stored.count, stored.stopped_by) == (100, None)


async def test_many_at_once_dead_letter_no_more_than_the_limit(database: Database) -> None:
    stored = await asyncio.gather(
        *(store(database, [bad(n, partition) for n in range(3)], FUSE) for partition in range(6))
    )
    assert sum(each.count for each in stored) == len(await events_of(database)) == 5


def by_hand(failures: int, verdicts: Sequence[Verdict], limit: int) -> int | None:
    run = ["bad"] * failures
    for index, verdict in enumerate(verdicts):
        run = [*run, "bad"] if verdict == "bad" else [] if verdict == "good" else run
        if len(run) == limit:
            return index
    return None


@given(
    st.integers(0, 4),
    st.lists(st.sampled_from(("good", "bad", "neither")), max_size=30),
    st.lists(st.integers(0, 30), max_size=3),
)
def test_where_it_blows_depends_on_the_events_not_on_how_they_are_cut_into_batches(
    failures: int, verdicts: list[Verdict], cuts: list[int]
) -> None:
    blows_at = None
    edges = [0, *sorted(cuts), len(verdicts)]
    known = failures
    for start, end in pairwise(edges):
        run = run_after(known, verdicts[start:end], 5)
        known = run.failures
        if run.blows_at is not None:
            blows_at = start + run.blows_at
            break
    assert blows_at == by_hand(failures, verdicts, 5)
