"""A full export of HR in a file: gathered by worker, compared with whom we know, stored as a snapshot.

Memory stays flat: what the file says waits in a temporary database.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, Final, Literal

import orjson
from sqlalchemy import Row, select

from consumers.cloudevents import Envelope
from consumers.mappings import engine, packs
from consumers.mappings.canonical import Mapped, canonical
from consumers.mappings.engine import Arrived
from consumers.unusable import Unusable
from service.directory import absences, audit, snapshots, workers
from service.directory import tables as t
from service.directory.database import Database, Transaction
from service.directory.dialect import among
from service.directory.inbox import Received
from service.directory.organizations import Registered
from service.directory.snapshots import Line
from service.directory.workers import Delivery
from service.errors import ConfigurationError
from service.workers import OUT, SNAPSHOT_COMPLETED, WorkerEvent

SOURCE: Final = "/operators/snapshots"
_CHUNK: Final = 200
_MOST_IN: Final = ("in", "unsaid", "out")

Standing = Literal["in", "unsaid", "out"]
Verdict = Literal["unchanged", "changed", "new", "left", "out", "absent"]
"""``left``: the file itself says so; ``out``: named, though HR had let go before."""
Reader = Callable[[bytes, int], Sequence[Mapped]]
"""The events of a line, and its number. Raises Unusable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """What a file says of a worker: the row that has them in the most, where there are several."""

    worker_id: str
    standing: Standing
    attributes: Mapping[str, Any]
    groups: tuple[str, ...] | None
    employment_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What was found of one worker. ``attributes``: names of those that differ."""

    worker_id: str
    verdict: Verdict
    attributes: tuple[str, ...] = ()


def reader(mapping: str, now: datetime) -> Reader:
    """Reads lines by a shipped mapping, or one in a file; a canonical line without ``type`` is a
    ``worker.snapshot``. Raises ConfigurationError.
    """
    if mapping == packs.CANONICAL:
        return _canonical
    compiled = packs.pack(mapping)
    if compiled is None and not Path(mapping).is_file():
        raise ConfigurationError(
            f"There is no mapping {mapping}: use {', '.join(packs.names())}, or a file."
        )
    declared = compiled or packs.file(Path(mapping))[1]

    def read(line: bytes, number: int) -> list[Mapped]:
        arrived = Arrived(payload=_parsed(line), source=SOURCE, at=now, recorded=str(number))
        results = [found.result for found in engine.read(declared, arrived)]
        for result in results:
            if isinstance(result, Unusable):
                raise result
        return [result for result in results if isinstance(result, Mapped)]

    return read


def _canonical(line: bytes, number: int) -> list[Mapped]:
    said = _parsed(line)
    data = said.get("data") if isinstance(said.get("data"), dict) else said
    kind = said.get("type")
    envelope = Envelope(
        id=str(number),
        source=SOURCE,
        type=kind if isinstance(kind, str) else "worker.snapshot",
        subject=said.get("subject") if isinstance(said.get("subject"), str) else None,
        data=data,
    )
    return [canonical(envelope)]


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        said = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise Unusable("malformed_json", "The line is not valid JSON in UTF-8.") from None
    if not isinstance(said, dict):
        raise Unusable("not_an_event", "A line is a JSON object.")
    return said


class Gathered:
    """The workers that a file names, each once."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        database.execute(
            "CREATE TABLE workers (worker_id TEXT PRIMARY KEY, standing INTEGER, said BLOB)"
        )

    def add(self, mapped: Sequence[Mapped], organization: str, now: datetime) -> None:
        """Takes a line in. Raises Unusable where it is about another organization."""
        for each in mapped:
            if each.organization not in (None, organization):
                raise Unusable("organization_mismatch", "The line names another organization.")
            if each.event.type == SNAPSHOT_COMPLETED:
                raise Unusable("not_a_worker", "The line is about no worker.")
        for event in _of_now([each.event for each in mapped], now):
            said = [dict(event.attributes), event.groups, event.employment_id]
            self._database.execute(
                "INSERT INTO workers VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE"
                " SET standing = ?2, said = ?3 WHERE standing > ?2",
                (event.worker_id, _MOST_IN.index(_standing(event)), orjson.dumps(said)),
            )

    def __len__(self) -> int:
        return self._database.execute("SELECT count(*) FROM workers").fetchone()[0]

    def chunks(self) -> Iterator[list[Worker]]:
        """All of them, in order, some at a time."""
        after = ""
        while rows := self._database.execute(
            "SELECT worker_id, standing, said FROM workers WHERE worker_id > ? ORDER BY 1 LIMIT ?",
            (after, _CHUNK),
        ).fetchall():
            yield [_worker(*row) for row in rows]
            after = rows[-1][0]

    def names(self, worker_id: str) -> bool:
        query = "SELECT 1 FROM workers WHERE worker_id = ?"
        return self._database.execute(query, (worker_id,)).fetchone() is not None


def _of_now(events: Sequence[WorkerEvent], now: datetime) -> list[WorkerEvent]:
    """Those that hold today; a line that only speaks of later names the worker all the same."""
    due = [each for each in events if each.effective_at is None or each.effective_at <= now]
    named = [WorkerEvent(type="worker.snapshot", worker_id=each.worker_id) for each in events]
    return due or named


def _standing(event: WorkerEvent) -> Standing:
    if event.status is None:
        return "unsaid"
    return "out" if event.status in OUT else "in"


def _worker(worker_id: str, standing: int, said: bytes) -> Worker:
    attributes, groups, employment_id = orjson.loads(said)
    return Worker(
        worker_id=worker_id,
        standing=_MOST_IN[standing],
        attributes=attributes,
        groups=tuple(groups) if groups is not None else None,
        employment_id=employment_id,
    )


@contextmanager
def gathering() -> Generator[Gathered]:
    """An empty store, gone afterwards."""
    with TemporaryDirectory(prefix="provisioner-") as folder:
        database = sqlite3.connect(Path(folder) / "export.db", isolation_level=None)
        database.execute("PRAGMA synchronous = OFF")
        database.execute("BEGIN")
        try:
            yield Gathered(database)
        finally:
            database.close()


@contextmanager
def opened_file(path: Path) -> Generator[IO[bytes]]:
    """The file's bytes; ``-`` is standard input. Raises ConfigurationError."""
    if str(path) == "-":
        yield sys.stdin.buffer
        return
    try:
        content = path.open("rb")
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror}).") from error
    with content:
        yield content


async def differences(
    database: Database, organization: str, gathered: Gathered, taken_at: datetime, now: datetime
) -> AsyncIterator[Difference]:
    """Everybody whom the file names, and then whom it does not."""
    for chunk in gathered.chunks():
        for found in await database.read(
            lambda tx, chunk=chunk: _compared(tx, organization, chunk, taken_at, now)
        ):
            yield found
    after = ""
    while rows := await database.read(
        lambda tx, it=after: absences.workers_after(tx, organization, it)
    ):
        missing = [
            row
            for row in rows
            if absences.may_be_missing(row) and not gathered.names(row.worker_id)
        ]
        users = [row.id for row in missing]
        since = await database.read(
            lambda tx, users=users: absences.heard_since(tx, taken_at, now, users)
        )
        for row in missing:
            if row.id not in since:
                yield Difference(worker_id=row.worker_id, verdict="absent")
        after = rows[-1].worker_id


def _compared(
    transaction: Transaction,
    organization: str,
    chunk: Sequence[Worker],
    taken_at: datetime,
    now: datetime,
) -> list[Difference]:
    """What the file changes. Of whom HR spoke since it was written, it changes nothing."""
    rows = transaction.execute(
        select(t.users.c.id, t.users.c.worker_id, t.users.c.employment, t.users.c.worker).where(
            t.users.c.organization == organization,
            among(transaction, t.users.c.worker_id, [worker.worker_id for worker in chunk]),
        )
    )
    known = {row.worker_id: row for row in rows}
    since = absences.heard_since(transaction, taken_at, now, [row.id for row in known.values()])
    newer = {row.worker_id for row in known.values() if row.id in since}
    return [
        Difference(worker_id=worker.worker_id, verdict="unchanged")
        if worker.worker_id in newer
        else compared(worker, known.get(worker.worker_id))
        for worker in chunk
    ]


def compared(worker: Worker, known: Row[Any] | None) -> Difference:
    """What a file's word on a worker changes."""
    employment = known.employment if known is not None else None
    if worker.standing == "out":
        verdict: Verdict = "left" if employment in absences.IN else "unchanged"
        return Difference(worker_id=worker.worker_id, verdict=verdict)
    if known is None or (employment is None and worker.standing == "in"):
        return Difference(worker_id=worker.worker_id, verdict="new")
    names = _differing(worker, known.worker or {})
    if employment in OUT and employment not in absences.IN and worker.standing == "in":
        return Difference(worker_id=worker.worker_id, verdict="out", attributes=names)
    verdict = "changed" if names else "unchanged"
    return Difference(worker_id=worker.worker_id, verdict=verdict, attributes=names)


def _differing(worker: Worker, stored: Mapping[str, Any]) -> tuple[str, ...]:
    before = {name: entry[0] for name, entry in stored.items() if name != "*"}
    after = dict(worker.attributes)
    if worker.groups is not None:
        after["groups"] = list(worker.groups)
    return tuple(name for name in sorted({*before, *after}) if before.get(name) != after.get(name))


async def store(
    database: Database,
    registered: Registered,
    gathered: Gathered,
    *,
    run: str,
    taken_at: datetime,
    actor: str,
    clock: Callable[[], datetime],
    progress: Callable[[int], None],
) -> int:
    """Stores the file as a snapshot; the running installation compares and lets go. How many workers
    it names. ``progress`` is told how many are stored each time.

    Of who is unchanged nothing is stored but that they were named.
    """
    organization = registered.organization.name
    count = 0
    for chunk in gathered.chunks():
        told = await database.transact(
            lambda tx, chunk=chunk: _store_some(tx, registered, chunk, run, taken_at, clock())
        )
        count += told
        progress(len(chunk))

    def complete(transaction: Transaction) -> None:
        event = WorkerEvent(
            type=SNAPSHOT_COMPLETED,
            worker_id="",
            snapshot=run,
            count=count,
            effective_at=taken_at,
        )
        workers.accept(transaction, registered, event, _received(event, clock()))
        audit.record(
            transaction,
            actor=actor,
            action="events.snapshot",
            now=clock(),
            organization=organization,
            subject=run,
            detail={"workers": count},
        )

    await database.transact(complete)
    return count


def _store_some(
    transaction: Transaction,
    registered: Registered,
    chunk: Sequence[Worker],
    run: str,
    taken_at: datetime,
    now: datetime,
) -> int:
    organization = registered.organization.name
    deliveries: list[Delivery] = []
    lines: list[Line] = []
    found = _compared(transaction, organization, chunk, taken_at, now)
    for worker, difference in zip(chunk, found, strict=True):
        if difference.verdict == "unchanged":
            lines.append(_line(organization, run, worker, now))
            continue
        event = _event(worker, difference.verdict, run)
        deliveries.append(
            Delivery(registered=registered, event=event, received=_received(event, now))
        )
    workers.accept_many(transaction, deliveries)
    snapshots.hear(transaction, lines)
    return len(deliveries) + len(lines)


def _line(organization: str, run: str, worker: Worker, now: datetime) -> Line:
    return Line(organization=organization, snapshot=run, worker_id=worker.worker_id, at=now)


def _event(worker: Worker, verdict: Verdict, run: str) -> WorkerEvent:
    if verdict == "left":
        return WorkerEvent(type="worker.terminated", worker_id=worker.worker_id, snapshot=run)
    hired = verdict == "new" and worker.standing == "in"
    return WorkerEvent(
        type="worker.hired" if hired else "worker.snapshot",
        worker_id=worker.worker_id,
        attributes=worker.attributes,
        groups=worker.groups,
        employment_id=worker.employment_id if hired else None,
        snapshot=run,
    )


def _received(event: WorkerEvent, now: datetime) -> Received:
    data: dict[str, Any] = {
        "worker_id": event.worker_id or None,
        "snapshot": event.snapshot,
        "count": event.count,
        "effective_at": event.effective_at,
        "employment_id": event.employment_id,
        "attributes": dict(event.attributes),
        "groups": event.groups,
    }
    body = {"type": event.type, "data": {name: said for name, said in data.items() if said}}
    return Received(
        door="operator", source=SOURCE, type=event.type, at=now, body=orjson.dumps(body)
    )
