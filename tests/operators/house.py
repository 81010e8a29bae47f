"""An installation in a data dir, filled through the directory, and the command line over it."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import orjson
from sqlalchemy import Connection as Transaction

from operators.cli import main
from operators.installation import settings_of
from service.directory import ending, events, inbox, leases, organizations, people, users, workers
from service.directory.database import open_database
from service.directory.events import Event, Filter, Problem
from service.directory.inbox import Received
from service.organizations import Connection, EventSource, Organization, Tenant
from service.people import User
from service.provisioning import turn
from service.provisioning.effects import Later, Refused
from service.provisioning.turn import Owner, Step
from service.workers import WorkerEvent
from tests.infrastructure.schema import migrated_where_new

T = TypeVar("T")
START = datetime.now(UTC) - timedelta(hours=1)
REFUSED = Problem(kind="permanent", code="refused", message="Auth0 refused it.", status=400)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    status: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        return self.raw.decode()

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(row) for row in self.out.splitlines()]


@dataclass
class House:
    """One installation. Time in it is ``at``, which only moves when a test moves it."""

    data_dir: Path
    at: datetime = START
    _numbers: Iterator[int] = field(default_factory=lambda: iter(range(1_000_000)))

    @property
    def url(self) -> str:
        return f"sqlite:///{self.data_dir / 'directory.db'}"

    def run(self, *arguments: str, data_dir: bool = True) -> Ended:
        given = [*arguments, *(["--data-dir", str(self.data_dir)] if data_dir else [])]
        return run(*given)

    def transact(self, work: Callable[[Transaction], T]) -> T:
        async def begin() -> T:
            database = open_database(self.url)
            try:
                return await database.transact(work)
            finally:
                await database.close()

        return asyncio.run(begin())

    def declare(self, organization: Organization) -> None:
        self.transact(lambda tx: organizations.apply(tx, organization, self.at))

    def events(self, **wanted: Any) -> list[Event]:
        return self.transact(lambda tx: events.listing(tx, Filter(**wanted), 10_000))

    def event(self, event_id: str) -> Event:
        found = self.transact(lambda tx: events.get(tx, event_id))
        assert found is not None
        return found

    def user(self, user_id: str) -> User:
        found = self.transact(lambda tx: people.get(tx, user_id))
        assert found is not None
        return found

    def create(self, user_name: str, organization: str = "acme", **more: Any) -> User:
        """A user through the SCIM door's own function."""
        resource = {"userName": user_name, "active": True, **more}
        return self.transact(
            lambda tx: users.create(
                tx, _registered(tx, organization), resource, self.received("scim", "users.create")
            )
        )

    def tell(
        self, event: WorkerEvent, organization: str = "acme", received: Received | None = None
    ) -> str:
        """A worker event, accepted; its id."""
        given = received or self.received("http", event.type)
        return self.transact(
            lambda tx: workers.accept(tx, _registered(tx, organization), event, given)
        ).event_id

    def received(
        self, door: events.Door, kind: str, body: bytes | None = None, **more: Any
    ) -> Received:
        return Received(
            door=door,
            source="//tests",
            source_id=f"e-{next(self._numbers)}",
            type=kind,
            at=self.at,
            body=body,
            **more,
        )

    def dead_letter(
        self, received: Received, organization: str | None, problem: Problem = REFUSED
    ) -> str:
        """An input that ended before it was understood; its id."""

        def work(tx: Transaction) -> str:
            event_id = inbox.admit(tx, received, organization).event_id
            ending.finish(tx, event_id, "deadlettered", now=self.at, problem=problem)
            return event_id

        return self.transact(work)

    def refuse(self, user: User) -> None:
        """Auth0 refuses what the user's account needs next, and all that wait are told."""

        def work(tx: Transaction) -> None:
            step = self._begin(tx, user)
            assert step is not None
            assert (
                turn.advance(
                    tx,
                    step,
                    Refused(problem=("permanent", "refused", "Auth0 refused it.", 400)),
                    _owner(tx),
                    self.at,
                )
                is None
            )

        self.transact(work)

    def put_off(self, user: User, reason: str) -> None:
        """Auth0 could not be asked for what the user's account needs next."""

        def work(tx: Transaction) -> None:
            step = self._begin(tx, user)
            assert step is not None
            later = Later(reason=reason)
            turn.postpone(tx, step, later, _owner(tx), self.at, self.at)

        self.transact(work)

    def next_step(self, user: User) -> str | None:
        """What a lane would do for this user now; the account is left as it is."""

        def work(tx: Transaction) -> str | None:
            step = self._begin(tx, user)
            if step is None:
                return None
            turn.abandon(tx, step, _owner(tx), self.at)
            return step.operation.kind

        return self.transact(work)

    def _begin(self, tx: Transaction, user: User) -> Step | None:
        known = people.get(tx, user.id)
        assert known is not None
        if known.account_id is None:
            return None
        return turn.begin(tx, known.account_id, _owner(tx), datetime.now(UTC))


def run(*arguments: str) -> Ended:
    """Runs a command as a process would, with its own standard streams."""
    with _captured() as (out, err):
        status = main(list(arguments))
        sys.stdout.flush()
    return Ended(status, out.getvalue(), err.getvalue())


def acme(**more: Any) -> Organization:
    return Organization(name="acme", connections=(Connection(name="acme-users"),), **more)


def furnish(data_dir: Path) -> House:
    """A new installation with two organizations, one tenant and one Kafka source."""
    settings = settings_of(data_dir, create=True)
    migrated_where_new(settings.database_url.get_secret_value())
    house = House(data_dir)
    globex = Organization(name="globex", connections=(Connection(name="globex-users"),))

    def fill(tx: Transaction) -> None:
        tenant = Tenant(name="main", base_url="http://127.0.0.1:9", client_id="c")
        organizations.apply_tenant(tx, tenant)
        for organization in (acme(display_name="Acme"), globex):
            organizations.apply(tx, organization, house.at)
        organizations.apply_source(tx, EventSource(organizations=("acme",)))

    house.transact(fill)
    return house


def hired(worker_id: str, **more: Any) -> bytes:
    """A structured CloudEvent ``worker.hired``."""
    return orjson.dumps(
        {
            "specversion": "1.0",
            "id": f"hire-{worker_id}",
            "source": "//hr",
            "type": "worker.hired",
            "data": {"worker_id": worker_id, **more},
        }
    )


def _registered(tx: Transaction, name: str) -> organizations.Registered:
    registered = organizations.find(tx, name)
    assert registered is not None
    return registered


def _owner(tx: Transaction) -> Owner:
    now = datetime.now(UTC)
    fence = leases.claim_tenant(tx, "main", "tests", now, timedelta(minutes=5))
    assert fence is not None
    return Owner(tenant="main", fence=fence)


class _Out(io.TextIOWrapper):
    """Standard output with its bytes kept."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)

    def getvalue(self) -> bytes:
        self.flush()
        kept = self.buffer
        assert isinstance(kept, io.BytesIO)
        return kept.getvalue()


@contextmanager
def _captured() -> Generator[tuple[_Out, io.StringIO]]:
    before = sys.stdout, sys.stderr
    out, err = _Out(), io.StringIO()
    sys.stdout, sys.stderr = out, err
    try:
        yield out, err
    finally:
        sys.stdout, sys.stderr = before
