"""The schema's revision on both databases: reached safely, and known before anything starts."""

import asyncio
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from service.directory import credentials, events, migrate, search, tables
from service.directory.database import open_database
from service.directory.events import Filter
from service.directory.pages import Query, Sort
from service.directory.predicates import Target
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


async def test_what_an_earlier_release_stored_is_found_by_what_this_one_asks(
    database_url: str,
) -> None:
    def earlier(connection: Connection) -> None:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(ROOT / "service/directory/migrations"))
        command.upgrade(config, "0002")
        now = "2026-03-02 09:00:00+00:00" if connection.dialect.name == "postgresql" else _NOW
        for statement in _EARLIER:
            connection.execute(text(statement.format(now=now)))

    await asyncio.to_thread(migrate.run, database_url, earlier)
    await migrate.upgrade(database_url)
    assert await migrate.differences(database_url) == []
    database = open_database(database_url)
    order = Sort(target=Target(keys=("userName",)))
    listed = await database.read(lambda tx: search.users(tx, "hoekstra", Query(sort=order)))
    assert [user.id for user in listed.items] == ["u2", "u1", "u3"]  # by bytes, on both
    grouped = await database.read(lambda tx: search.groups_page(tx, "hoekstra", Query()))
    assert [group.display_name for group in grouped.items] == ["Staff"]
    tokens = await database.read(lambda tx: credentials.listing(tx, "hoekstra"))
    assert [each.scopes for each in tokens] == [("read", "write")]
    kept = await database.read(lambda tx: events.listing(tx, Filter(organization="hoekstra")))
    assert {(each.id, each.door) for each in kept} == {("e1", "http"), ("e2", "kafka")}
    again = text(
        'INSERT INTO events (id, door, source, type, topic, partition, "offset", headers,'
        " body_hash, state, accepted_at) SELECT 'e3', door, source, type, topic, partition,"
        " \"offset\", headers, body_hash, state, accepted_at FROM events WHERE id = 'e2'"
    )
    with pytest.raises(IntegrityError):  # an offset that was read is known
        await database.transact(lambda tx: tx.execute(again))
    taken = text("UPDATE users SET user_name_key = 'a b' WHERE id = 'u1'")
    with pytest.raises(IntegrityError):
        await database.transact(lambda tx: tx.execute(taken))
    await database.close()


_NOW = "2026-03-02 09:00:00.000000"
_EARLIER = (
    "INSERT INTO organizations (name, tenant, document, version, created_at, modified_at)"
    " VALUES ('hoekstra', 'main', '{{}}', 1, '{now}', '{now}')",
    *(
        "INSERT INTO users (id, organization, resource, user_name_key, state, version, created_at,"
        f" modified_at) VALUES ('{id_}', 'hoekstra', '{{{{}}}}', '{key}', 'applied', 1,"
        " '{now}', '{now}')"
        for id_, key in (("u1", "ab"), ("u2", "a b"), ("u3", "é"))
    ),
    "INSERT INTO users (id, organization, resource, user_name_key, state, version, created_at,"
    " modified_at, deleted_at) VALUES ('u4', 'hoekstra', '{{}}', 'ab', 'applied', 1, '{now}',"
    " '{now}', '{now}')",
    "INSERT INTO users (id, organization, worker_id, state, version, created_at, modified_at)"
    " VALUES ('u5', 'hoekstra', '5', 'applied', 1, '{now}', '{now}')",
    "INSERT INTO groups (id, organization, resource, display_name_key, version, created_at,"
    """ modified_at) VALUES ('g1', 'hoekstra', '{{"displayName"\\: "Staff"}}', 'staff', 1,"""
    " '{now}', '{now}')",
    "INSERT INTO members (group_id, user_id) VALUES ('g1', 'u1')",
    *(
        'INSERT INTO events (id, organization, door, source, type, topic, partition, "offset",'
        f" headers, body_hash, state, accepted_at) VALUES ('{id_}', 'hoekstra', '{door}', 'hr',"
        f" 'worker.hired', {at}, '[]', 'h', 'succeeded', '{{now}}')"
        for id_, door, at in (("e1", "http", "NULL, NULL, NULL"), ("e2", "kafka", "'hr', 0, 7"))
    ),
    "INSERT INTO credentials (id, organization, door, secret_hash, created_at)"
    " VALUES ('c1', 'hoekstra', 'scim', '', '{now}')",
)
"""One organization as an earlier release wrote it: users of SCIM, a deleted one, one of HR, a group, events."""


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
