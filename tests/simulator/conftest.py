"""A simulator in this process: no lag and no limits unless a test asks for them."""

from collections.abc import AsyncIterator
from random import Random
from typing import Any, Protocol

import pytest
from starlette.applications import Starlette

from service.auth0.simulator.app import create_simulator
from service.auth0.simulator.lag import NO_LAG
from service.auth0.simulator.limits import UNLIMITED
from tests.simulator.driver import Auth0, Clock


class OpenTenant(Protocol):
    """Starts a simulator with these options of `create_simulator` and signs in to a tenant."""

    async def __call__(self, tenant: str = "main", **options: Any) -> Auth0: ...


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def open_tenant(clock: Clock) -> AsyncIterator[OpenTenant]:
    opened: list[tuple[Starlette, Auth0]] = []

    async def start(tenant: str = "main", **options: Any) -> Auth0:
        settings: dict[str, Any] = {
            "data_dir": None,
            "clock": clock,
            "random": Random(7),
            "lag": NO_LAG,
            "limits": UNLIMITED,
            **options,
        }
        app = create_simulator(**settings)
        caller = Auth0.of(app, tenant)
        opened.append((app, caller))
        await caller.sign_in()
        return caller

    yield start
    for app, caller in opened:
        await caller.http.aclose()
        app.state.simulation.store.close()


@pytest.fixture
async def auth0(open_tenant: OpenTenant) -> Auth0:
    return await open_tenant()
