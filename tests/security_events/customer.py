"""Customers with a stream, and outcomes as the lanes write them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from service.clock import SystemClock
from service.directory import organizations, outbox, streams
from service.directory.database import Database, Transaction
from service.directory.streams import Stream
from service.organizations import Connection, Organization
from service.outcomes.catalogue import OutcomeType
from service.outcomes.entries import ENTRIES
from service.people import User
from service.security_events.declaration import SecurityEvents
from tests.directory.customer import Customer, registered

AUDIENCE = "https://receiver.test"


def declared(name: str, endpoint: str, **stream: Any) -> Organization:
    events = SecurityEvents(endpoint=endpoint, audience=AUDIENCE, **stream)
    return Organization(
        name=name, connections=(Connection(name=f"{name}-users"),), security_events=events
    )


async def listened_to(database: Database, name: str, endpoint: str, **stream: Any) -> Customer:
    customer = await registered(database, declared(name, endpoint, **stream))
    customer.now = SystemClock().now()
    return customer


async def declare(database: Database, organization: Organization) -> None:
    now = SystemClock().now()
    await database.transact(lambda tx: organizations.apply(tx, organization, now))


async def tell(
    customer: Customer,
    outcome: OutcomeType,
    user: User,
    data: Mapping[str, Any] | None = None,
    *,
    event_id: str | None = "event-1",
) -> str:
    """An outcome of the lanes; its id."""
    example = ENTRIES[outcome].example
    about = replace(cast("Any", example), auth0_user_id="auth0|7f3a", **(data or {}))

    def work(tx: Transaction) -> str:
        return outbox.emit(
            tx,
            about,
            now=customer.now,
            organization=customer.name,
            user_id=user.id,
            event_id=event_id,
        )

    return await customer.database.transact(work)


async def stream_of(customer: Customer) -> Stream:
    found = await customer.database.read(streams.every)
    return next(each for each in found if each.organization == customer.name)
