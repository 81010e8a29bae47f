"""A change of a group makes accounts due only where the group stands for a role."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

import pytest
from sqlalchemy import Connection, select, update

from service.clock import SystemClock
from service.directory import events, inbox, organizations, outbox, tables, waits
from service.directory.inbox import Received
from tests.scim.client import Scim, opened, organization

ROLES = {"Admins": "admin", "g-7": "editor"}


@pytest.fixture
async def scim(database_url: str) -> AsyncIterator[Scim]:
    async with opened(database_url, organization(roles=ROLES)) as clients:
        yield clients[0]


@pytest.fixture
async def people(scim: Scim) -> list[str]:
    """Three users with an account each, and one who has no address and so has none."""
    made = [
        await scim.post_user(f"user-{number}", emails=[{"value": f"u{number}@hoekstra.example"}])
        for number in range(3)
    ]
    made.append(await scim.post_user("no address"))
    await settle_all(scim)
    return [user["id"] for user in made]


async def settle_all(scim: Scim) -> None:
    """As if the lanes had done all that is due."""

    def work(transaction: Connection) -> None:
        transaction.execute(tables.waits.delete())
        transaction.execute(
            update(tables.accounts).values(due_at=None, attempts=3, error={"code": "x"})
        )
        transaction.execute(update(tables.users).values(state="applied", detail="done"))

    await scim.database.transact(work)


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """Who is due after the last event, and how that event stands."""

    users: set[str]
    event: tuple[str, str | None]


async def due(scim: Scim) -> Due:
    def work(transaction: Connection) -> Due:
        event = events.listing(transaction, events.Filter())[-1]
        waiting = transaction.execute(
            select(
                tables.waits.c.user_id,
                tables.waits.c.revision,
                tables.accounts.c.revision.label("of_account"),
                tables.accounts.c.due_at,
                tables.accounts.c.attempts,
                tables.accounts.c.error,
            )
            .join(tables.accounts, tables.accounts.c.id == tables.waits.c.account_id)
            .where(tables.waits.c.event_id == event.id)
        ).all()
        for row in waiting:
            assert row.due_at is not None
            assert row.revision == row.of_account
            assert (row.attempts, row.error) == (0, None)
        pending = set(
            transaction.execute(
                select(tables.users.c.id).where(
                    tables.users.c.state == "pending", tables.users.c.detail.is_(None)
                )
            ).scalars()
        )
        assert pending == {row.user_id for row in waiting}
        return Due(users=pending, event=(event.state, event.result))

    return await scim.database.read(work)


WAITS = ("accepted", None)
APPLIED = ("succeeded", "applied")


def members(ids: Iterable[str]) -> list[dict[str, str]]:
    return [{"value": each} for each in ids]


async def test_change_of_a_group_without_a_role_is_applied_at_once(
    scim: Scim, people: list[str]
) -> None:
    group = await scim.post_group("Field crew", *people)
    assert await due(scim) == Due(users=set(), event=APPLIED)
    await scim.patch(f"Groups/{group['id']}", {"op": "remove", "path": "members"})
    assert await due(scim) == Due(users=set(), event=APPLIED)


async def test_only_who_joins_or_leaves_a_role_becomes_due(scim: Scim, people: list[str]) -> None:
    group = await scim.post_group("Admins", people[0])
    assert await due(scim) == Due(users={people[0]}, event=WAITS)
    await settle_all(scim)
    operation = {"op": "replace", "path": "members", "value": members(people[1:3])}
    await scim.patch(f"Groups/{group['id']}", operation)
    assert await due(scim) == Due(users=set(people[:3]), event=WAITS)


@pytest.mark.parametrize("attribute", ["displayName", "externalId"])
async def test_members_become_due_when_their_group_gains_or_loses_a_role(
    scim: Scim, people: list[str], attribute: str
) -> None:
    group = await scim.post_group("Field crew", *people[:2])
    mapped = {"displayName": "Admins", "externalId": "g-7"}[attribute]
    for value in (mapped, "Something else"):
        await settle_all(scim)
        operation = {"op": "replace", "path": attribute, "value": value}
        await scim.patch(f"Groups/{group['id']}", operation)
        assert await due(scim) == Due(users=set(people[:2]), event=WAITS)


async def test_members_become_due_when_their_role_is_deleted(scim: Scim, people: list[str]) -> None:
    group = await scim.post_group("Admins", *people[1:])
    await settle_all(scim)
    await scim.http.delete(f"Groups/{group['id']}")
    assert await due(scim) == Due(users=set(people[1:3]), event=WAITS)


async def test_change_that_changes_no_membership_is_applied_at_once(
    scim: Scim, people: list[str]
) -> None:
    group = await scim.post_group("Admins", people[0])
    await settle_all(scim)
    operation = {"op": "add", "path": "members", "value": members(people[:1])}
    await scim.patch(f"Groups/{group['id']}", operation)
    assert await due(scim) == Due(users=set(), event=APPLIED)


async def test_role_of_someone_without_account_is_applied_at_once(
    scim: Scim, people: list[str]
) -> None:
    await scim.post_group("Admins", people[3])
    assert await due(scim) == Due(users=set(), event=APPLIED)


async def test_every_event_of_a_group_ends_or_waits_and_never_both(
    scim: Scim, people: list[str]
) -> None:
    group = await scim.post_group("Admins", *people)
    await scim.http.delete(f"Groups/{group['id']}")

    def endings(transaction: Connection) -> list[str]:
        return [
            outcome.type
            for outcome in outbox.listing(transaction)
            if outcome.event_id is not None and "event." in outcome.type
        ]

    # The two changes wait; only the user without an address has ended.
    assert len(await scim.database.read(endings)) == 1


async def test_one_account_of_two_users_is_touched_for_both(scim: Scim, people: list[str]) -> None:
    """In the shared model an account may be several organizations' user."""

    def work(transaction: Connection) -> list[tuple[str, int]]:
        now = SystemClock().now()
        organizations.apply(transaction, organization("neighbour"), now)
        account = transaction.execute(
            select(tables.users.c.account_id).where(tables.users.c.id == people[0])
        ).scalar_one()
        transaction.execute(
            update(tables.users)
            .where(tables.users.c.id == people[3])
            .values(organization="neighbour", account_id=account)
        )
        received = Received(door="operator", source="test", type="test", at=now)
        event = inbox.admit(transaction, received, None).event_id
        count = waits.touch_users(
            transaction, [people[0], people[3], people[0]], event_id=event, now=now
        )
        assert count == 2
        rows = transaction.execute(
            select(tables.waits.c.user_id, tables.accounts.c.revision - tables.waits.c.revision)
            .join(tables.accounts, tables.accounts.c.id == tables.waits.c.account_id)
            .where(tables.waits.c.event_id == event)
        )
        return [(row[0], row[1]) for row in rows]

    assert sorted(await scim.database.transact(work)) == sorted([(people[0], 0), (people[3], 0)])


async def test_concurrent_changes_of_roles_and_people_all_come_through(
    scim: Scim, people: list[str]
) -> None:
    admins = (await scim.post_group("Admins"))["id"]
    editors = (await scim.post_group("Editors", externalId="g-7"))["id"]
    started = time.monotonic()
    answers = await asyncio.gather(
        *(
            scim.patch(
                f"Groups/{group}",
                {"op": name, "path": "members", "value": members(sample)},
            )
            for group in (admins, editors)
            for name in ("add", "remove", "add")
            for sample in (people, people[::-1], people[1:3])
        ),
        *(
            scim.patch(f"Users/{user}", {"op": "add", "path": "title", "value": "x"})
            for user in people * 3
        ),
    )
    assert {answer.status_code for answer in answers} == {200, 204}
    # Deadlocks would be resolved, but only after a second each.
    assert time.monotonic() - started < 10
