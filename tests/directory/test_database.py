"""What every transaction may rely on, on both databases."""

import asyncio
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from service.directory import tables as t
from service.directory.database import (
    Database,
    Transaction,
    is_unavailable,
    open_database,
    postgres_url,
    sqlite_file,
)
from service.directory.postgres import PostgresDatabase
from service.errors import ConfigurationError, NotFound, Refused

ROOT = Path(__file__).parents[2]


def write(name: str, document: object = None) -> Callable[[Transaction], None]:
    def work(tx: Transaction) -> None:
        tx.execute(t.sources.insert().values(name=name, document=document or {}))

    return work


def names(tx: Transaction) -> list[str]:
    return list(tx.execute(text("SELECT name FROM sources ORDER BY name")).scalars())


def failing_to_find(tx: Transaction) -> None:
    names(tx)
    raise NotFound


def failing(tx: Transaction) -> None:
    write("of the failed one")(tx)
    raise NotFound


async def test_a_transaction_that_fails_takes_nothing_else_with_it(database: Database) -> None:
    works = [failing if n % 3 == 0 else write(f"{n:02}") for n in range(30)]
    ended = await asyncio.gather(*map(database.transact, works), return_exceptions=True)
    assert [isinstance(end, NotFound) for end in ended] == [n % 3 == 0 for n in range(30)]
    assert await database.read(names) == [f"{n:02}" for n in range(30) if n % 3]


async def test_a_transaction_that_a_constraint_stops_takes_nothing_else_with_it(
    database: Database,
) -> None:
    works = [write(name) for name in ("a", "b", "a", "c")]
    ended = await asyncio.gather(*map(database.transact, works), return_exceptions=True)
    assert [type(end) for end in ended].count(IntegrityError) == 1
    assert await database.read(names) == ["a", "b", "c"]


@pytest.fixture
async def only_at_commit(database: Database) -> Callable[[Transaction], None]:
    """A transaction that is refused by its COMMIT, not by a statement."""

    def deferred(tx: Transaction) -> None:
        kind = "INTEGER PRIMARY KEY, a INTEGER REFERENCES late (n) DEFERRABLE INITIALLY DEFERRED"
        tx.execute(text(f"CREATE TABLE late (n {kind})"))

    await database.transact(deferred)

    def work(tx: Transaction) -> None:
        write("of the failed one")(tx)
        tx.execute(text("INSERT INTO late (n, a) VALUES (1, 2)"))

    return work


async def test_a_commit_that_fails_takes_nothing_else_with_it(
    database: Database, only_at_commit: Callable[[Transaction], None]
) -> None:
    works = [write("a"), only_at_commit, write("b")]
    ended = await asyncio.gather(*map(database.transact, works), return_exceptions=True)
    assert [type(end) for end in ended] == [type(None), IntegrityError, type(None)]
    assert await database.read(names) == ["a", "b"]


async def test_after_a_failed_commit_the_next_transaction_runs(
    database: Database, only_at_commit: Callable[[Transaction], None]
) -> None:
    for turn in ("a", "b"):
        with pytest.raises(IntegrityError):
            await database.transact(only_at_commit)
        await database.transact(write(turn))
    assert await database.read(names) == ["a", "b"]


async def test_what_transact_returned_is_read_at_once(database: Database) -> None:
    for n in range(50):
        await database.transact(write(f"{n:02}"))
        assert f"{n:02}" in await database.read(names)


async def test_what_transact_returned_is_looked_up_at_once(database: Database) -> None:
    for n in range(50):
        await database.transact(write(f"{n:02}"))
        assert f"{n:02}" in await database.look_up(names)


async def test_a_read_cannot_write(database: Database) -> None:
    with pytest.raises(Exception, match=r"(?i)read.?only"):
        await database.read(write("a"))
    assert await database.read(names) == []


async def test_a_look_up_that_fails_leaves_the_next_one_alone(database: Database) -> None:
    with pytest.raises(NotFound):
        await database.look_up(failing_to_find)
    with pytest.raises(DBAPIError):
        await database.look_up(lambda tx: tx.execute(text("SELECT nothing FROM nowhere")))
    await database.transact(write("a"))
    assert await database.look_up(names) == ["a"]


async def test_a_look_up_whose_moment_was_ended_keeps_no_writer_waiting(tmp_path: Path) -> None:
    """As an error of the file may end it, whatever the error."""
    database = open_database(f"sqlite:///{tmp_path / 'provisioner.db'}")
    await database.transact(t.metadata.create_all)
    writing = asyncio.ensure_future(database.transact(write("a")))
    await asyncio.sleep(0)
    time.sleep(0.2)  # noqa: ASYNC251 - the writer is done, and tells so in the next turn
    await database.look_up(lambda tx: tx.exec_driver_sql("ROLLBACK") and None)
    await asyncio.wait_for(writing, 20)
    assert await database.look_up(names) == ["a"]
    await database.close()


async def test_look_ups_of_several_threads_do_not_meet(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'provisioner.db'}")
    await database.transact(t.metadata.create_all)
    await database.transact(write("a"))

    def slowly(tx: Transaction) -> list[str]:
        time.sleep(0.005)  # long enough for others to come by
        return names(tx)

    def alone(_: int) -> list[str]:
        return asyncio.run(database.look_up(slowly))

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(alone, range(40))) == [["a"]] * 40
    await database.close()


async def test_a_look_up_sees_what_this_process_wrote_and_soon_what_others_did(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path / 'provisioner.db'}"
    database, other = open_database(url), open_database(url)
    await database.transact(t.metadata.create_all)

    async def write_and_look(name: str) -> None:
        await database.transact(write(name))
        assert name in await database.look_up(names)

    for turn in range(20):  # in the same turn of the loop others look, and hold its moment open
        await asyncio.gather(
            *(write_and_look(f"{turn}.{n}") for n in range(5)),
            *(database.look_up(names) for _ in range(5)),
        )
    await other.transact(write("of another process"))
    await asyncio.sleep(0)
    assert "of another process" in await database.look_up(names)
    await database.close()
    await other.close()


async def test_a_look_up_waits_out_a_lock_without_standing_in_the_way(tmp_path: Path) -> None:
    file = tmp_path / "provisioner.db"
    database = open_database(f"sqlite:///{file}")
    await database.transact(t.metadata.create_all)
    await database.transact(write("a"))
    await database.close()
    holding = sqlite3.connect(file)
    holding.execute("PRAGMA locking_mode=EXCLUSIVE")
    holding.execute("BEGIN IMMEDIATE")
    database = open_database(f"sqlite:///{file}")
    looking = asyncio.create_task(database.look_up(names))
    turns = 0
    for _ in range(20):
        await asyncio.sleep(0.01)
        turns += 1
    assert not looking.done()
    holding.close()
    assert await asyncio.wait_for(looking, 15) == ["a"]
    assert turns == 20
    await database.close()


async def test_a_caller_that_goes_away_harms_nobody(database: Database) -> None:
    for turn in range(20):
        tasks = [
            asyncio.ensure_future(database.transact(write(f"{turn:02}.{n}"))) for n in range(15)
        ]
        await asyncio.sleep(0.0005 * turn)
        for task in tasks[::2]:
            task.cancel()
        kept = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(end is None for end in kept[1::2])
    written = await database.read(names)
    assert {f"{turn:02}.{n}" for turn in range(20) for n in range(1, 15, 2)} <= set(written)


async def test_what_was_asked_for_before_closing_is_done_and_later_is_refused(
    database_url: str,
) -> None:
    first = open_database(database_url)
    await first.transact(t.metadata.create_all)
    asked = [asyncio.ensure_future(first.transact(write(f"{n}"))) for n in range(5)]
    await asyncio.sleep(0)
    await first.close()
    await asyncio.gather(*asked)
    with pytest.raises(RuntimeError, match="closed"):
        await asyncio.wait_for(first.transact(names), 5)
    await asyncio.wait_for(first.close(), 5)
    second = open_database(database_url)
    assert await second.read(names) == ["0", "1", "2", "3", "4"]
    await second.close()


@pytest.mark.parametrize("unfit", ["a\x00b", 2**70], ids=["U+0000", "more than 64 bits"])
async def test_a_value_that_no_database_can_hold_is_refused(
    database: Database, unfit: object
) -> None:
    with pytest.raises(Refused, match="cannot be stored"):
        await database.transact(write("a", {"value": unfit}))


async def test_a_backslash_before_u0000_is_no_nul(database: Database) -> None:
    await database.transact(write("a", {"value": "\\u0000"}))
    stored = await database.read(lambda tx: tx.execute(t.sources.select()).one().document)
    assert stored == {"value": "\\u0000"}


async def test_two_processes_share_one_sqlite_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'provisioner.db'}"
    database = open_database(url)
    await database.transact(t.metadata.create_all)
    program = (
        "import asyncio, sys\n"
        "from tests.directory.test_database import keep_writing\n"
        "asyncio.run(keep_writing(sys.argv[1], 'other', 150))\n"
    )
    other = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, url), cwd=ROOT, stderr=subprocess.PIPE
    )
    await keep_writing(url, "this", 150)
    _, said = await other.communicate()
    assert other.returncode == 0, said.decode()
    written = await database.read(names)
    assert len(written) == 2 * 150 * 8
    await database.close()


async def keep_writing(url: str, prefix: str, turns: int) -> None:
    """Eight tasks that write without a pause, so that the writer always has a next batch."""
    database = open_database(url)

    async def task(number: int) -> None:
        for turn in range(turns):
            await database.transact(write(f"{prefix}.{number}.{turn}"))

    await asyncio.gather(*(task(number) for number in range(8)))
    await database.close()


async def test_deadlocked_transactions_both_end_well(
    database: Database,
) -> None:
    await database.transact(write("a"))
    await database.transact(write("b"))

    def touch(first: str, second: str) -> Callable[[Transaction], None]:
        def work(tx: Transaction) -> None:
            for name in (first, second):
                tx.execute(
                    t.sources.update()
                    .where(t.sources.c.name == name)
                    .values(document={"by": first})
                )
                if tx.dialect.name == "postgresql":
                    tx.execute(text("SELECT pg_sleep(0.05)"))

        return work

    await asyncio.gather(database.transact(touch("a", "b")), database.transact(touch("b", "a")))


async def test_a_server_that_ends_the_connection_is_unavailable_and_then_used_again(
    postgres_database: str,
) -> None:
    database = open_database(postgres_database)
    with pytest.raises(Exception, match=r"terminat|closed") as ended:
        await database.transact(
            lambda tx: tx.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        )
    assert is_unavailable(ended.value)
    assert await database.read(lambda tx: tx.execute(text("SELECT 1")).scalar_one()) == 1
    await database.close()


async def test_closing_waits_for_what_is_under_way_and_not_for_ever(
    postgres_database: str,
) -> None:
    database = PostgresDatabase(postgres_url(postgres_database))
    short = asyncio.create_task(
        database.transact(lambda tx: tx.execute(text("SELECT 7 FROM pg_sleep(0.2)")).scalar_one())
    )
    await asyncio.sleep(0.05)
    await database.close(within=5)
    assert await short == 7

    database = PostgresDatabase(postgres_url(postgres_database))
    hanging = asyncio.create_task(
        database.transact(lambda tx: tx.execute(text("SELECT pg_sleep(60)")))
    )
    await asyncio.sleep(0.2)
    async with asyncio.timeout(5):
        await database.close(within=0.1)
    (ended,) = await asyncio.gather(hanging, return_exceptions=True)
    assert isinstance(ended, asyncio.CancelledError)


async def test_connections_that_ended_while_idle_are_not_noticed_by_anyone(
    postgres_database: str,
) -> None:
    database, other = open_database(postgres_database), open_database(postgres_database)
    await database.transact(t.metadata.create_all)
    asked = [database.read(lambda tx: tx.execute(text("SELECT pg_sleep(0.1)"))) for _ in range(5)]
    await asyncio.gather(*asked)  # five connections are open, and idle again

    def end_the_others(tx: Transaction) -> int:
        ended = tx.execute(
            text(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
        return ended.scalar_one()

    assert await other.transact(end_the_others) >= 5
    await asyncio.gather(*(database.transact(write(f"{n}")) for n in range(5)))
    assert await other.transact(end_the_others) >= 1
    assert await database.read(names) == ["0", "1", "2", "3", "4"]
    await database.close()
    await other.close()


async def test_a_server_that_does_not_answer_is_unavailable() -> None:
    database = open_database("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(OSError) as ended:
        await database.read(names)
    assert is_unavailable(ended.value)
    await database.close()


async def test_a_missing_table_is_no_reason_to_wait(database_url: str) -> None:
    database = open_database(database_url)
    with pytest.raises(Exception, match="sources") as ended:
        await database.read(names)
    assert not is_unavailable(ended.value)
    await database.close()


async def test_a_text_too_long_for_an_index_is_refused(postgres_database: str) -> None:
    database = open_database(postgres_database)
    await database.transact(t.metadata.create_all)
    key = "".join(chr(0x4E00 + n * 37 % 20000) for n in range(4000))

    def work(tx: Transaction) -> None:
        tx.execute(t.outcome_keys.insert().values(key=key, sequence=1))

    with pytest.raises(Refused, match="2,700 bytes"):
        await database.transact(work)
    await database.close()


@pytest.mark.parametrize(
    "url",
    ["mysql://localhost/x", "sqlite://", "sqlite:///:memory:", "provisioner.db", ""],
)
def test_a_url_of_no_use_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="PROVISIONER_DATABASE_URL"):
        sqlite_file(url)


def test_a_refused_url_does_not_show_its_password() -> None:
    with pytest.raises(ConfigurationError) as refused:
        sqlite_file("postgresql://u:hunter2@host:port/x")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("query", "named"), [("sslmode=hunter2", "verify-full"), ("connect_timeout=hunter2", "timeout")]
)
def test_a_parameter_that_is_not_understood_is_named_without_its_value(
    query: str, named: str
) -> None:
    with pytest.raises(ConfigurationError, match=named) as refused:
        postgres_url(f"postgresql://localhost/x?{query}")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
def test_a_postgres_url_as_other_tools_write_it_is_understood(scheme: str) -> None:
    given = f"{scheme}://u:p%40ss@db.example:5433/provisioner?sslmode=require"
    assert sqlite_file(given) is None
    assert (
        postgres_url(given)
        == "postgresql+asyncpg://u:p%40ss@db.example:5433/provisioner?ssl=require"
    )


async def test_an_error_of_a_statement_does_not_tell_what_was_to_be_stored(
    database: Database,
) -> None:
    await database.transact(write("a"))
    with pytest.raises(IntegrityError) as stopped:
        await database.transact(write("a", {"email": "ada@hoekstra.example"}))
    assert "ada@" not in str(stopped.value)
