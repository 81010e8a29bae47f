"""What there is to do is shown by one statement, on either database."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from service.clock import SystemClock
from service.directory import drift, imports, leases, organizations, prospects
from service.directory import tables as t
from service.directory.database import Database, Transaction, Work
from service.directory.prospects import Prospect
from service.organizations import Tenant
from tests.directory.crowd import settle_in

NOW = SystemClock().now()
SOON = timedelta(seconds=-1)
FAR = timedelta(hours=1)


async def declared(database: Database, *names: str) -> None:
    for name in names:
        tenant = Tenant(name=name, domain=f"{name}.example", client_id="x")
        await database.transact(lambda tx, it=tenant: organizations.apply_tenant(tx, it))
        await database.transact(
            lambda tx, it=name: leases.claim_tenant(tx, it, "me", NOW, timedelta(hours=9))
        )


async def shown(database: Database) -> set[Prospect]:
    found = await database.look_up(lambda tx: [*prospects.soon(tx, NOW), *prospects.later(tx, NOW)])
    assert len(found) == len(set(found))
    return set(found)


def account(**values: Any) -> Callable[[Transaction], None]:
    def work(tx: Transaction) -> None:
        settle_in(tx, "hoekstra", 3, NOW)
        tx.execute(update(t.accounts).values(**values))

    return work


def _check(tx: Transaction) -> None:
    drift.ask(tx, "main", None, correct=False, asked_by="kim", now=NOW)


def _import(tx: Transaction) -> None:
    imports.begin(tx, "main", "hoekstra-users", NOW, NOW)


def _pause(tx: Transaction) -> None:
    account(due_at=NOW + SOON, look_at=NOW + SOON)(tx)
    leases.pause_tenant(tx, "main", "refused", NOW, NOW, status=401)


def _release(tx: Transaction) -> None:
    leases.release(tx, "main", "me", 1)


def _fan_out(tx: Transaction) -> None:
    tx.execute(t.fanouts.insert().values(event_id="e", user_id="u"))


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        (account(due_at=NOW + SOON), {("accounts", "main"), ("imports", "main")}),
        (account(due_at=NOW + SOON, leaver=True), {("accounts", "main")}),
        (account(due_at=NOW + FAR, look_at=NOW + FAR), set()),
        (account(look_at=NOW + SOON), {("looks", "main")}),
        (_check, {("drift", "main")}),
        (_import, {("imports", "main")}),
        (_pause, {("paused", "main")}),
        (_release, {("free", "main")}),
        (_fan_out, {("fan-outs", "")}),
    ],
)
async def test_what_there_is_to_do_is_shown_with_its_tenant(
    database: Database, work: Work[None], expected: set[Prospect]
) -> None:
    await declared(database, "main", "other")
    assert await shown(database) == set()
    await database.transact(work)
    assert await shown(database) == expected


async def test_a_lease_that_ran_out_makes_its_tenant_free(database: Database) -> None:
    await declared(database, "main")
    later = NOW + timedelta(hours=10)
    found = await database.look_up(lambda tx: prospects.later(tx, later))
    assert found == [("free", "main")]


async def test_leases_that_fall_due_together_are_lengthened_each_for_its_own_owner(
    database: Database,
) -> None:
    await declared(database, "main", "other", "lost", "anew")
    until = NOW + timedelta(hours=20)

    def rob(tx: Transaction) -> None:
        for tenant, owner in (("lost", "thief"), ("anew", "thief"), ("anew", "me")):
            leases.claim_tenant(tx, tenant, owner, NOW + timedelta(hours=10), timedelta(hours=1))
            tx.execute(update(t.tenants).values(lease_until=NOW).where(t.tenants.c.name == "anew"))

    await database.transact(rob)
    renewals = [
        leases.Renewal(tenant=name, owner="me", fence=fence, until=until)
        for name, fence in (("main", 1), ("lost", 1), ("other", 1), ("anew", 1), ("none", 1))
    ]
    kept = await database.transact(lambda tx: leases.renew_together(tx, renewals))
    assert kept == [True, False, True, False, False]

    def ends(tx: Transaction) -> dict[str, datetime]:
        rows = tx.execute(select(t.tenants.c.name, t.tenants.c.lease_until))
        return {row.name: row.lease_until for row in rows}

    after = await database.read(ends)
    assert (after["main"], after["other"]) == (until, until)
    assert after["lost"] == NOW + timedelta(hours=11)
