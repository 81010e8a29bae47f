"""The simulator behind auth0-python, with every exchange kept for the document to judge."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx
import pytest
from auth0.management import AsyncAuth0

from service.auth0.simulator.app import create_simulator
from service.auth0.simulator.event_feed import FeedTraits
from service.auth0.simulator.lag import NO_LAG
from service.auth0.simulator.limits import UNLIMITED
from tests.contract.document import LOCATION, Document
from tests.simulator.driver import Auth0, Clock

BRIEF = FeedTraits(heartbeat=0.02, lifetime=0.1, repeats=0.0)
"""In process, a stream is only seen when it has ended."""


class Recorder(httpx.ASGITransport):
    """Keeps what goes over the wire to the Management API."""

    exchanges: list[tuple[httpx.Request, httpx.Response]]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        if request.url.path.startswith("/api/v2/"):
            await request.aread()
            await response.aread()
            self.exchanges.append((request, response))
        return response


@dataclass(slots=True, kw_only=True)
class Wire:
    """The SDK's client, a plain caller of the same simulator, and what they exchanged."""

    sdk: AsyncAuth0
    caller: Auth0
    clock: Clock
    exchanges: list[tuple[httpx.Request, httpx.Response]] = field(default_factory=list)


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    clock = Clock()
    app = create_simulator(data_dir=None, clock=clock, lag=NO_LAG, limits=UNLIMITED, feed=BRIEF)
    transport = Recorder(app)
    transport.exchanges = []
    async with httpx.AsyncClient(transport=transport, base_url="http://auth0.test") as http:
        caller = Auth0(http)
        await caller.sign_in()

        async def token() -> str:
            return caller.token

        sdk = AsyncAuth0(
            base_url="http://auth0.test/api/v2",
            token="unused",
            async_token=token,
            httpx_client=http,
            max_retries=0,
        )
        yield Wire(sdk=sdk, caller=caller, clock=clock, exchanges=transport.exchanges)
    app.state.simulation.store.close()


@pytest.fixture(scope="session")
def document() -> Document:
    if not LOCATION.exists():
        pytest.skip("Auth0's OpenAPI document is not at hand (TEST_AUTH0_OPENAPI names it)")
    return Document.load()
