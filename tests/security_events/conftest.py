"""Both databases, a receiver, and an organization whose stream leads there."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from service.directory import organizations
from service.directory.database import Database
from service.organizations import Tenant
from service.security_events.keys import SigningKeys
from tests.directory.conftest import database, migrated_url
from tests.directory.customer import Customer
from tests.security_events.customer import listened_to
from tests.security_events.pushing import new_keys
from tests.security_events.receiver import Receiver, receiving

__all__ = ["database", "migrated_url"]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as one:
        yield one


@pytest.fixture
def keys() -> SigningKeys:
    return new_keys()


@pytest.fixture
async def hoekstra(database: Database, receiver: Receiver) -> Customer:
    """Its stream leads to the receiver, with everything in it."""
    tenant = Tenant(name="main", domain="example.eu.auth0.com")
    await database.transact(lambda tx: organizations.apply_tenant(tx, tenant))
    return await listened_to(database, "hoekstra", f"{receiver.url}/hoekstra")
