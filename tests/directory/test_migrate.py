"""The schema's revision on both databases: reached safely, and known before anything starts."""

import asyncio
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from service.directory import migrate, tables
from service.directory.database import open_database
from service.errors import ConfigurationError

ROOT = Path(__file__).parents[2]


async def execute(url: str, statement: str) -> None:
    database = open_database(url)
    await database.transact(lambda tx: tx.execute(text(statement)))
    await database.close()


async def test_an_upgraded_database_has_exactly_the_tables_that_the_code_uses(
    database_url: str,
) -> None:
    await migrate.upgrade(database_url)
    assert await migrate.differences(database_url) == []


async def test_a_table_that_nobody_migrated_shows(database_url: str) -> None:
    await migrate.upgrade(database_url)
    await execute(database_url, "ALTER TABLE users ADD COLUMN nickname TEXT")
    assert "nickname" in str(await migrate.differences(database_url))


async def test_an_upgrade_reaches_the_newest_revision_and_a_second_one_changes_nothing(
    database_url: str,
) -> None:
    assert await migrate.current(database_url) is None
    assert not await migrate.is_current(database_url)
    for _ in range(2):
        await migrate.upgrade(database_url)
        assert await migrate.current(database_url) == migrate.newest()
    assert await migrate.is_current(database_url)


async def test_what_is_stored_survives_an_upgrade(database_url: str) -> None:
    await migrate.upgrade(database_url)
    await execute(database_url, "INSERT INTO sources (name, document) VALUES ('hr', '{}')")
    await migrate.upgrade(database_url)
    database = open_database(database_url)
    names = await database.read(lambda tx: tx.execute(text("SELECT name FROM sources")).all())
    await database.close()
    assert [name for (name,) in names] == ["hr"]


async def test_a_database_without_schema_is_refused_with_the_command_to_run(
    database_url: str,
) -> None:
    with pytest.raises(ConfigurationError, match="provisioner db upgrade"):
        await migrate.require_current(database_url)


async def test_a_current_schema_is_accepted(database_url: str) -> None:
    await migrate.upgrade(database_url)
    await migrate.require_current(database_url)


async def test_a_schema_of_a_later_release_is_refused_and_left_alone(database_url: str) -> None:
    await migrate.upgrade(database_url)
    await execute(database_url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigurationError, match=r"9999.*does not know"):
        await migrate.require_current(database_url)
    with pytest.raises(ConfigurationError, match=r"9999.*does not know"):
        await migrate.upgrade(database_url)


async def test_asking_for_the_revision_makes_no_file(tmp_path: Path) -> None:
    file = tmp_path / "nothing" / "provisioner.db"
    assert await migrate.current(f"sqlite:///{file}") is None
    assert not file.parent.exists()


async def test_processes_that_upgrade_at_once_do_not_disturb_each_other(database_url: str) -> None:
    program = (
        "import asyncio, sys; from service.directory import migrate;"
        "asyncio.run(migrate.upgrade(sys.argv[1])); sys.exit(0)"
    )
    started = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program, database_url),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(3)
    ]
    said = await asyncio.gather(*(process.communicate() for process in started))
    assert [process.returncode for process in started] == [0, 0, 0], said
    assert [out for out, _ in said] == [b"", b"", b""]
    assert await migrate.is_current(database_url)


async def test_upgrades_in_one_process_take_turns(database_url: str) -> None:
    await asyncio.gather(*(migrate.upgrade(database_url) for _ in range(3)))
    assert await migrate.is_current(database_url)


async def test_an_upgrade_leaves_logging_alone_and_prints_nothing(
    database_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    ours = logging.getLogger("service.directory")
    handlers = list(logging.getLogger().handlers)
    await migrate.upgrade(database_url)
    assert not ours.disabled
    assert logging.getLogger().handlers == handlers
    assert capfd.readouterr() == ("", "")


async def test_an_upgrade_that_fails_leaves_nothing_half_done(database_url: str) -> None:
    def collide(transaction: Connection) -> None:
        tables.shards.create(transaction)

    database = open_database(database_url)
    await database.transact(collide)
    await database.close()
    with pytest.raises(Exception, match="shards"):
        await migrate.upgrade(database_url)
    assert await migrate.current(database_url) is None
    await execute(database_url, "DROP TABLE shards")
    await migrate.upgrade(database_url)
    assert await migrate.is_current(database_url)
