"""What is alike is written to SQLite in the loop's own thread, and keeps nobody else from writing there."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.engine import Engine

from service.directory.database import Alike, Transaction
from service.directory.sqlite import SqliteDatabase


class Writing:
    """Numbers that are written together: in which threads, and how many at a time."""

    def __init__(self) -> None:
        self.threads: set[str] = set()
        self.together: list[int] = []
        self.pause = 0.0

    def of(self, number: int) -> Alike[int, int]:
        return Alike(alone=lambda tx: self.alone(tx, number), item=number, together=self.all)

    def all(self, transaction: Connection, numbers: Sequence[int]) -> list[int | None]:
        self.threads.add(threading.current_thread().name)
        self.together.append(len(numbers))
        time.sleep(self.pause)
        _write(transaction, numbers)
        return [None if number < 0 else number for number in numbers]

    def alone(self, transaction: Connection, number: int) -> int:
        self.threads.add(threading.current_thread().name)
        if number == -1:
            raise ValueError("refused")
        _write(transaction, [abs(number)])
        return number


def _write(transaction: Connection, numbers: Sequence[int]) -> None:
    for number in numbers:
        if number >= 0:
            transaction.execute(text("INSERT INTO numbers VALUES (:n)"), {"n": number})


def _known(transaction: Transaction) -> list[int]:
    return sorted(transaction.execute(text("SELECT n FROM numbers")).scalars())


@pytest.fixture
def writing() -> Writing:
    return Writing()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    opened = SqliteDatabase(tmp_path / "directory.db")
    create = "CREATE TABLE numbers (n INTEGER PRIMARY KEY)"
    await opened.transact(lambda tx: tx.execute(text(create)).close())
    yield opened
    await opened.close()


HERE = threading.main_thread().name
THERE = "sqlite-writer"


async def test_what_is_alike_is_written_at_once_and_here(
    database: SqliteDatabase, writing: Writing
) -> None:
    done = await asyncio.gather(*(database.transact(writing.of(n)) for n in range(64)))
    assert done == list(range(64))
    assert await database.read(_known) == list(range(64))
    assert writing.threads == {HERE}
    assert writing.together == [32, 32]


async def test_who_is_left_out_is_written_beside_the_loop(
    database: SqliteDatabase, writing: Writing
) -> None:
    assert await database.transact(writing.of(-7)) == -7
    assert writing.threads == {HERE, THERE}


async def test_of_many_who_come_again_and_again_half_are_answered_while_the_others_are_committed(
    database: SqliteDatabase, writing: Writing
) -> None:
    async def again(first: int) -> None:
        for number in range(first, first + 8):
            await database.transact(writing.of(number))

    await asyncio.gather(*(again(100 * n) for n in range(32)))
    assert len(await database.read(_known)) == 256
    assert max(writing.together[2:]) < 32


async def test_who_is_left_out_is_done_alone_and_fails_alone(
    database: SqliteDatabase, writing: Writing
) -> None:
    done = await asyncio.gather(
        *(database.transact(writing.of(n)) for n in (1, -1, 2, -20)), return_exceptions=True
    )
    assert [str(each) for each in done] == ["1", "refused", "2", "-20"]
    assert await database.read(_known) == [1, 2, 20]


async def test_where_a_turn_fails_each_is_done_alone(
    database: SqliteDatabase, writing: Writing
) -> None:
    await database.transact(writing.of(3))
    done = await asyncio.gather(
        *(database.transact(writing.of(n)) for n in (1, 2, 3, 4)), return_exceptions=True
    )
    assert [type(each).__name__ for each in done] == ["int", "int", "IntegrityError", "int"]
    assert await database.read(_known) == [1, 2, 3, 4]


async def test_neither_the_loop_nor_a_thread_keeps_the_other_from_writing(
    database: SqliteDatabase, writing: Writing
) -> None:
    ended = time.monotonic() + 0.4
    counts = {"here": 0, "there": 0}

    async def here() -> None:
        number = 0
        while time.monotonic() < ended:
            await asyncio.gather(*(database.transact(writing.of(number + n)) for n in range(4)))
            number += 4
            counts["here"] += 1

    async def there() -> None:
        while time.monotonic() < ended:
            await database.transact(lambda _: time.sleep(0.002))
            counts["there"] += 1

    await asyncio.gather(here(), *(there() for _ in range(8)))
    assert counts["here"] > 4
    assert counts["there"] > 16


async def test_a_file_that_somebody_else_writes_to_is_not_waited_for_in_the_loop(
    database: SqliteDatabase, writing: Writing, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "directory.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        asked = [asyncio.create_task(database.transact(writing.of(n))) for n in range(4)]
        began = time.monotonic()
        await asyncio.sleep(0.05)
        assert time.monotonic() - began < 1
        assert not any(each.done() for each in asked)
        other.execute("COMMIT")
        assert await asyncio.gather(*asked) == [0, 1, 2, 3]
    assert writing.threads == {THERE}


async def test_a_loop_that_was_kept_long_is_left_alone_for_a_while(
    database: SqliteDatabase, writing: Writing
) -> None:
    writing.pause = 0.1
    await asyncio.gather(*(database.transact(writing.of(n)) for n in range(4)))
    assert writing.threads == {HERE}
    writing.pause = 0.0
    writing.threads.clear()
    await asyncio.gather(*(database.transact(writing.of(n)) for n in range(4, 8)))
    assert writing.threads == {THERE}
    assert await database.read(_known) == list(range(8))


async def test_what_was_asked_for_before_closing_is_done(tmp_path: Path, writing: Writing) -> None:
    file = tmp_path / "closing.db"
    database = SqliteDatabase(file)
    create = "CREATE TABLE numbers (n INTEGER PRIMARY KEY)"
    await database.transact(lambda tx: tx.execute(text(create)).close())
    asked = [asyncio.create_task(database.transact(writing.of(n))) for n in range(100)]
    await asyncio.sleep(0)
    await database.close()
    assert await asyncio.gather(*asked) == list(range(100))
    with closing(sqlite3.connect(file)) as found:
        assert found.execute("SELECT count(*) FROM numbers").fetchone() == (100,)


async def test_a_commit_that_fails_is_told_and_the_next_one_runs(
    database: SqliteDatabase, writing: Writing
) -> None:
    def small(transaction: Transaction) -> None:
        transaction.execute(
            text(
                "CREATE TABLE parts (n INTEGER REFERENCES numbers (n)"
                " DEFERRABLE INITIALLY DEFERRED)"
            )
        )

    def unfit(transaction: Connection, numbers: Sequence[int]) -> list[int | None]:
        for number in numbers:  # noticed when it is committed
            transaction.execute(text("INSERT INTO parts VALUES (:n)"), {"n": number})
        return list(numbers)

    await database.transact(small)
    works = [Alike(alone=lambda tx, n=n: unfit(tx, [n])[0], item=n, together=unfit) for n in (1, 2)]
    done = await asyncio.gather(*map(database.transact, works), return_exceptions=True)
    assert all(isinstance(each, Exception) for each in done), done
    assert await asyncio.gather(*(database.transact(writing.of(n)) for n in (1, 2))) == [1, 2]


def test_a_loop_that_begins_while_the_last_turn_of_another_is_committed_has_its_turn(
    tmp_path: Path, writing: Writing
) -> None:
    database = SqliteDatabase(tmp_path / "loops.db")
    create = "CREATE TABLE numbers (n INTEGER PRIMARY KEY)"
    asyncio.run(database.transact(lambda tx: tx.execute(text(create)).close()))
    goes_on = threading.Event()

    def held(_: Connection) -> None:
        if threading.current_thread().name == "sqlite-commit":
            goes_on.wait(5)

    async def leaves() -> None:
        asked = asyncio.create_task(database.transact(writing.of(1)))
        await asyncio.sleep(0.02)
        assert writing.together == [1]
        asked.cancel()

    async def begins() -> int:
        asked = asyncio.create_task(database.transact(writing.of(2)))
        await asyncio.sleep(0.05)  # its turn is refused: the other loop's is not over
        goes_on.set()
        async with asyncio.timeout(5):
            return await asked

    event.listen(Engine, "commit", held)
    try:
        asyncio.run(leaves())
        assert asyncio.run(begins()) == 2
    finally:
        event.remove(Engine, "commit", held)
    assert asyncio.run(database.read(_known)) == [1, 2]
    asyncio.run(database.close())
