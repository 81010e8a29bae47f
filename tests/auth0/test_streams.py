"""A stream that is refused teaches the budget what any other call would."""

from __future__ import annotations

import httpx

from service.auth0.answers import Answer
from service.auth0.client import Auth0Client
from service.auth0.pacing import Pacer
from service.clock import SystemClock
from service.organizations import Tenant


async def test_a_stream_that_meets_a_limit_holds_the_other_calls_back() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/oauth/token":
            return httpx.Response(200, json={"access_token": "t", "expires_in": 3600})
        limited = {"message": "Global limit has been reached"}
        return httpx.Response(429, headers={"retry-after": "0.4"}, json=limited)

    clock = SystemClock()
    pacer = Pacer("enterprise", clock)
    client = Auth0Client(
        Tenant(name="main", base_url="https://auth0.example", client_id="c"),
        "secret",
        clock=clock,
        pacer=pacer,
        http=httpx.AsyncClient(transport=httpx.MockTransport(answer)),
    )
    opened = await client.open_stream("events", [], silence=1.0)
    assert isinstance(opened, Answer)
    assert opened.verdict == "rate-limited"
    began = clock.monotonic()
    await pacer.turn("users-write", leaver=True)
    assert clock.monotonic() - began >= 0.3
    await client.close()
    pacer.close()
