"""What is asked over and over is answered from an index, however many events there have been."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Connection, event

from service.directory import (
    accounts,
    depths,
    fanouts,
    outbox,
    overview,
    sequels,
    streams,
    struggles,
    tables,
)
from service.directory.events import Filter
from service.directory.sqlite import sqlite_engine

NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    engine = sqlite_engine(tmp_path / "directory.db")
    with engine.connect() as connection:
        tables.metadata.create_all(connection)
        yield connection
    engine.dispose()


ASKED: dict[str, Callable[[Connection], object]] = {
    "accounts that are due": lambda tx: accounts.due(tx, "main", now=NOW, limit=50),
    "events that wait for nothing": lambda tx: accounts.waiting_for_nothing(tx, ["e"]),
    "whom a change of many touches next": lambda tx: fanouts.next_event(tx, "e"),
    "what an event waits for": lambda tx: overview.waits_for(tx, "e"),
    "outcomes to publish": lambda tx: outbox.unpublished(tx, range(16), 500),
    "what is in trouble": lambda tx: overview.latest_events(tx, Filter(), trouble=True),
    "what is tried in vain": lambda tx: struggles.of_events(tx, ["e"]),
    "what is open": lambda tx: overview.latest_events(tx, Filter(state="accepted")),
    "events of an organization": lambda tx: overview.latest_events(tx, Filter(organization="a")),
    "events of a user": lambda tx: overview.latest_events(tx, Filter(user="u")),
    "outcomes of an event": lambda tx: outbox.listing(tx, event_id="e"),
    "outcomes of a user": lambda tx: outbox.listing(tx, organization="a", user_id="u"),
    "events to push": lambda tx: streams.waiting(tx, "a", 50),
    "replays of an event": lambda tx: sequels.replays_of(tx, "e"),
    "whether an operator is needed": lambda tx: sequels.needs_operator(tx, "e"),
}


@pytest.mark.parametrize("asked", ASKED)
def test_no_table_is_read_as_a_whole(connection: Connection, asked: str) -> None:
    told = explained(connection, ASKED[asked])
    assert told
    assert not [step for step in told if step.startswith("SCAN")], told


def test_metrics_count_events_from_an_index(connection: Connection) -> None:
    told = explained(connection, lambda tx: depths.measure(tx, NOW))
    assert "SCAN events" not in told
    assert "SCAN audit" not in told


def explained(connection: Connection, work: Callable[[Connection], object]) -> list[str]:
    told: list[str] = []

    def explain(
        of: Connection, cursor: object, statement: str, values: tuple[object, ...], *_: object
    ) -> None:
        if statement.startswith("SELECT"):
            plan = of.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
            told.extend(str(row[3]) for row in plan)

    event.listen(connection, "before_cursor_execute", explain)
    work(connection)
    return told
