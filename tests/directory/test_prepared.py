"""A prepared statement says and does what SQLAlchemy says and does, errors and all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import bindparam, select, text, update
from sqlalchemy.exc import IntegrityError, OperationalError

from service.directory import migrate
from service.directory import tables as t
from service.directory.database import Database, Transaction, is_unavailable, open_database
from service.directory.dialect import insert_unless_known
from service.directory.prepared import Prepared
from service.errors import Refused

_OF = t.events.c.id == bindparam("of")
_INSERT = Prepared(t.events.insert())
_GET = Prepared(select(t.events).where(_OF))
_CHANGE = Prepared(update(t.events).where(_OF).returning(t.events))
_SOURCE = Prepared(t.sources.insert())

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
numbers = st.integers(-(2**63), 2**63 - 1)
zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
instants = st.datetimes(
    min_value=datetime(1900, 1, 2), max_value=datetime(2200, 1, 1), timezones=zones
)
leaves = st.none() | st.booleans() | numbers | st.floats(allow_nan=False, width=32) | texts
documents = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
)
said = st.fixed_dictionaries(
    {
        "headers": st.lists(st.lists(texts | st.none(), min_size=2, max_size=2), max_size=2),
        "error": st.none() | st.dictionaries(texts, documents, max_size=3),
        "body": st.none() | st.binary(max_size=8),
        "key": st.none() | st.binary(max_size=8),
        "offset": st.none() | numbers,
        "effective_at": st.none() | instants,
        "accepted_at": instants,
    }
)


def row_of(event_id: str, values: dict[str, Any]) -> dict[str, Any]:
    kept = {"door": "scim", "source": "scim", "type": "t", "body_hash": event_id}
    return {"id": event_id, "state": "accepted", **kept, **values}


async def test_what_goes_in_and_comes_out_is_what_it_is_for_sqlalchemy(database: Database) -> None:
    written = 0

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(values=said, changes=said)
    def law(values: dict[str, Any], changes: dict[str, Any]) -> None:
        nonlocal written
        written += 1
        ids = f"hot-{written}", f"cold-{written}"

        def work(tx: Transaction) -> None:
            hot, cold = ids
            _INSERT.run(tx, row_of(hot, values))
            tx.execute(t.events.insert(), row_of(cold, values))
            assert _seen(_GET.first(tx, {"of": hot})) == _seen(_GET.first(tx, {"of": cold}))
            assert _seen(_GET.first(tx, {"of": hot})) == _seen(_general(tx, hot))
            changed = _CHANGE.first(tx, {"of": hot, **changes})
            tx.execute(t.events.update().where(t.events.c.id == cold).values(**changes))
            assert changed is not None
            assert changed == _general(tx, hot)
            assert _seen(changed) == _seen(_general(tx, cold))
            for name in ("error", "effective_at"):
                kept = _is_null(tx, hot, name)
                assert kept == _is_null(tx, cold, name) == (changes[name] is None)
            assert changed["accepted_at"] == changes["accepted_at"]
            assert changed["accepted_at"].utcoffset() == timedelta(0)

        runs.append(work)

    runs: list[Callable[[Transaction], None]] = []
    law()
    for work in runs:
        await database.transact(work)


def _general(tx: Transaction, event_id: str) -> dict[str, Any]:
    return dict(tx.execute(select(t.events).where(t.events.c.id == event_id)).mappings().one())


def _seen(row: dict[str, Any] | None) -> dict[str, Any]:
    assert row is not None
    return {name: value for name, value in row.items() if name not in ("id", "number", "body_hash")}


def _is_null(tx: Transaction, event_id: str, column: str) -> bool:
    query = select(t.events.c[column].is_(None)).where(t.events.c.id == event_id)
    return bool(tx.execute(query).scalar_one())


async def test_an_error_is_the_one_that_sqlalchemy_raises(database: Database) -> None:
    source = {"name": "a", "document": {"secret": "hush"}}
    await database.transact(lambda tx: _SOURCE.run(tx, source))
    with pytest.raises(IntegrityError) as failed:
        await database.transact(lambda tx: _SOURCE.run(tx, source))
    assert "hush" not in str(failed.value)
    with pytest.raises(IntegrityError):
        await database.transact(lambda tx: _SOURCE.first(tx, source))
    nowhere = Prepared(text("SELECT 1 FROM nowhere").columns())
    with pytest.raises(Exception, match="nowhere"):
        await database.transact(lambda tx: nowhere.all(tx, {}))


_CUT = text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
_NAMES = Prepared(select(t.sources.c.name).order_by(t.sources.c.name))


async def test_connections_that_were_cut_while_idle_are_not_noticed_by_anyone(
    postgres_database: str,
) -> None:
    database, other = open_database(postgres_database), open_database(postgres_database)
    await database.transact(t.metadata.create_all)
    for name in ("a", "b"):
        source = {"name": name, "document": {}}
        await database.transact(lambda tx, source=source: _SOURCE.run(tx, source))
        await other.transact(lambda tx: tx.execute(_CUT).all())
    for look in (database.look_up, database.read):
        found = await look(lambda tx: _NAMES.all(tx, {}))
        assert [row["name"] for row in found] == ["a", "b"]
        await other.transact(lambda tx: tx.execute(_CUT).all())
    await database.close()
    await other.close()


async def test_a_connection_that_is_cut_in_a_statement_is_unavailable_and_nothing_is_kept(
    postgres_database: str,
) -> None:
    database = open_database(postgres_database)
    await database.transact(t.metadata.create_all)
    suicide = Prepared(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    def work(tx: Transaction) -> None:
        _SOURCE.run(tx, {"name": "a", "document": {}})
        suicide.run(tx, {})

    with pytest.raises(Exception, match=r"terminat|closed") as ended:
        await database.transact(work)
    assert is_unavailable(ended.value)
    assert await database.read(lambda tx: _NAMES.all(tx, {})) == []
    await database.close()


async def test_a_transaction_is_one_also_where_a_prepared_statement_comes_first(
    database: Database,
) -> None:
    def work(tx: Transaction) -> None:
        _SOURCE.run(tx, {"name": "a", "document": {}})
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await database.transact(work)
    assert await database.read(lambda tx: _NAMES.all(tx, {})) == []


async def test_a_savepoint_takes_a_prepared_statement_back(database: Database) -> None:
    def work(tx: Transaction) -> None:
        _SOURCE.run(tx, {"name": "a", "document": {}})
        nested = tx.begin_nested()
        _SOURCE.run(tx, {"name": "b", "document": {}})
        with pytest.raises(IntegrityError):
            _SOURCE.run(tx, {"name": "a", "document": {}})
        nested.rollback()
        _SOURCE.run(tx, {"name": "c", "document": {}})

    await database.transact(work)
    assert [row["name"] for row in await database.read(lambda tx: _NAMES.all(tx, {}))] == ["a", "c"]


async def test_who_only_reads_cannot_write(database: Database) -> None:
    with pytest.raises(Exception, match=r"read-?only"):
        await database.read(lambda tx: _SOURCE.run(tx, {"name": "a", "document": {}}))


async def test_what_no_database_can_hold_is_refused(database: Database) -> None:
    with pytest.raises(Refused):
        await database.transact(lambda tx: _SOURCE.run(tx, {"name": "a", "document": {"a": "\0"}}))


async def test_a_known_row_is_told_from_a_new_one(database: Database) -> None:
    row = row_of("one", {"headers": [], "accepted_at": datetime(2026, 1, 1, tzinfo=UTC)})

    def work(tx: Transaction) -> object:
        return insert_unless_known(tx, t.events, row, [t.events.c.id])

    assert await database.transact(work) == {"id": "one"}
    assert await database.transact(work) is None


async def test_a_full_disk_leaves_nothing_of_a_transaction_behind(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'provisioner.db'}"
    await migrate.upgrade(url)
    database = open_database(url)

    def grow(tx: Transaction, pages: int) -> None:
        used = tx.execute(text("PRAGMA page_count")).scalar_one()
        tx.execute(text(f"PRAGMA max_page_count={used + pages}"))

    def much(tx: Transaction) -> None:
        for n in range(200):
            _SOURCE.run(tx, {"name": f"much-{n}", "document": {"x": "y" * 3000}})

    def little(tx: Transaction) -> None:
        _SOURCE.run(tx, {"name": "little", "document": {}})

    try:
        await database.transact(lambda tx: grow(tx, 20))
        ended = await asyncio.gather(
            *map(database.transact, (little, much)), return_exceptions=True
        )
        assert any(isinstance(end, OperationalError) and is_unavailable(end) for end in ended)
        everything = select(t.sources.c.name)
        assert await database.read(lambda tx: tx.execute(everything).scalars().all()) == []
        await database.transact(little)
        assert await database.read(lambda tx: tx.execute(everything).scalars().all()) == ["little"]
    finally:
        await database.close()
