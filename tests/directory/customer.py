"""One customer as its doors see the directory, and a stand-in for the lanes that serve it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select

from service.directory import (
    accounts,
    coming_due,
    ending,
    events,
    groups,
    organizations,
    outbox,
    people,
    users,
    workers,
)
from service.directory import tables as t
from service.directory.accounts import Account
from service.directory.database import Database, Transaction
from service.directory.events import Event, Filter
from service.directory.inbox import Admission, Received
from service.directory.organizations import Registered
from service.directory.outbox import Outcome
from service.organizations import Organization
from service.people import User, is_wanted
from service.workers import WorkerEvent

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
ENDINGS = frozenset(
    f"io.auth0-provisioner.event.{ending}.v1"
    for ending in (
        *("succeeded", "superseded", "rejected", "deadlettered"),
        *("duplicate", "cancelled", "discarded"),
    )
)


def days(number: float) -> datetime:
    """So many days after the start."""
    return START + timedelta(days=number)


@dataclass(kw_only=True)
class Customer:
    """Speaks for one organization. Time stands at ``now`` until a test moves it."""

    database: Database
    registered: Registered
    now: datetime = START
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def name(self) -> str:
        return self.registered.organization.name

    def scim(self, verb: str) -> Received:
        return Received(door="scim", source="scim", type=f"scim.user.{verb}", at=self.now)

    def from_hr(self, kind: str = "worker.changed", at: datetime | None = None) -> Received:
        """An input that no other repeats; ``dataclasses.replace`` makes it one that does."""
        number = next(self._numbers)
        return Received(
            door="http",
            source="hr",
            type=kind,
            at=self.now,
            effective_at=at,
            source_id=f"{self.name}-{number}",
            body=b"%d" % number,
        )

    async def create(self, user_name: str, **attributes: Any) -> User:
        resource = {"userName": user_name, **attributes}
        return await self.database.transact(
            lambda tx: users.create(tx, self.registered, resource, self.scim("created"))
        )

    async def change(self, user: User, **attributes: Any) -> User:
        """A PUT of what the user was, with these attributes changed."""

        def work(tx: Transaction) -> User:
            held = users.lock(tx, self.name, user.id)
            resource = {**(held.resource or {}), **attributes}
            return users.replace(tx, self.registered, held, resource, self.scim("replaced"))

        return await self.database.transact(work)

    async def delete(self, user: User) -> None:
        await self.database.transact(
            lambda tx: users.delete(tx, self.registered, user.id, self.scim("deleted"))
        )

    async def enrol(self, user: User, group: str) -> None:
        """Into a new group of this name."""
        received, resource = self.scim("group"), {"displayName": group}
        await self.database.transact(
            lambda tx: groups.create(tx, self.registered, resource, [user.id], received)
        )

    async def hr(
        self,
        kind: str,
        worker_id: str,
        *,
        at: datetime | None = None,
        sequence: int | None = None,
        **attributes: Any,
    ) -> Admission:
        event = WorkerEvent(
            type=f"worker.{kind}",
            worker_id=worker_id,
            effective_at=at,
            sequence=sequence,
            attributes=attributes,
        )
        return await self.deliver(event, self.from_hr(event.type, at))

    async def deliver(self, event: WorkerEvent, received: Received) -> Admission:
        return await self.database.transact(
            lambda tx: workers.accept(tx, self.registered, event, received)
        )

    async def run_due(self, at_once: int = 300) -> int:
        return await self.database.transact(lambda tx: coming_due.run_due(tx, self.now, at_once))

    async def user(self, user: User | str) -> User:
        """As stored now; by its id, or the id of the worker."""
        key = user if isinstance(user, str) else user.id

        def work(tx: Transaction) -> User:
            row = tx.execute(
                select(t.users).where(
                    t.users.c.organization == self.name,
                    (t.users.c.id == key) | (t.users.c.worker_id == key),
                )
            ).one()
            return people.as_user(row)

        return await self.database.read(work)

    async def everyone(self) -> list[User]:
        query = select(t.users).where(t.users.c.organization == self.name).order_by(t.users.c.id)
        return await self.database.read(
            lambda tx: [people.as_user(row) for row in tx.execute(query)]
        )

    async def is_in(self, user: User | str) -> bool:
        return is_wanted(await self.user(user), self.registered.organization)

    async def account(self, user: User | str) -> Account | None:
        account_id = (await self.user(user)).account_id
        if account_id is None:
            return None
        return await self.database.read(lambda tx: accounts.get(tx, account_id))

    async def events(self) -> list[Event]:
        wanted = Filter(organization=self.name)
        return await self.database.read(lambda tx: events.listing(tx, wanted, 10_000))

    async def states(self) -> list[str]:
        return [event.state for event in await self.events()]

    async def state_of(self, admission: Admission) -> str:
        event = await self.database.read(lambda tx: events.get(tx, admission.event_id))
        assert event is not None
        return event.state

    async def last_problem(self) -> str | None:
        error = (await self.events())[-1].error
        return error["code"] if error else None

    async def outcomes(self) -> list[Outcome]:
        return await self.database.read(
            lambda tx: outbox.listing(tx, organization=self.name, limit=10_000)
        )

    async def apply(self) -> list[str]:
        """What lanes do once Auth0 has followed: ends the events that waited. Ids of accounts."""
        tenant = self.registered.organization.tenant

        def work(tx: Transaction) -> list[str]:
            done = [due.id for due in accounts.due(tx, tenant, now=self.now, limit=1000)]
            for account_id in done:
                account = accounts.lock(tx, account_id)
                assert account is not None
                accounts.store(
                    tx, account_id, self.now, due_at=None, applied_revision=account.revision
                )
                for user in people.of_account(tx, account_id):
                    people.store(tx, user.id, state="applied", last_applied_at=self.now)
                for each in accounts.stop_waiting(tx, account_id, account.revision):
                    ending.conclude(tx, each.event_id, now=self.now, result="applied")
            return done

        return await self.database.transact(work)

    async def close_account_of(self, user: User) -> None:
        """As after a deletion in Auth0; the user's row still names the account."""
        account_id = (await self.user(user)).account_id
        assert account_id is not None
        await self.database.transact(
            lambda tx: accounts.store(tx, account_id, self.now, closed_at=self.now, due_at=None)
        )


async def registered(database: Database, organization: Organization) -> Customer:
    """A customer whose organization is stored."""

    def work(tx: Transaction) -> Registered:
        organizations.apply(tx, organization, START)
        found = organizations.find(tx, organization.name)
        assert found is not None
        return found

    return Customer(database=database, registered=await database.transact(work))
