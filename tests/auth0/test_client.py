"""The client on its traps: one request for one call, one token for all, every answer a value."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from service.auth0.answers import Answer
from service.auth0.calls import http_client
from service.auth0.client import Auth0Client
from service.auth0.pacing import Pacer
from service.clock import SystemClock
from service.organizations import Tenant

Reply = Callable[[httpx.Request], httpx.Response]


class Wire(httpx.AsyncBaseTransport):
    """Answers requests as a test says, and keeps them. Tokens are granted unless it says otherwise."""

    def __init__(self, reply: Reply, *, token_after: float = 0.0) -> None:
        self.requests: list[httpx.Request] = []
        self.grants = 0
        self._reply = reply
        self._token_after = token_after

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/oauth/token":
            await asyncio.sleep(self._token_after)
            self.grants += 1
            granted = {"access_token": f"token-{self.grants}", "expires_in": 86400}
            return httpx.Response(200, json=granted)
        self.requests.append(request)
        return self._reply(request)


def client(wire: Wire) -> Auth0Client:
    clock = SystemClock()
    tenant = Tenant(name="main", base_url="http://auth0.test", client_id="c", plan="enterprise")
    pacer = Pacer("enterprise", clock)
    return Auth0Client(tenant, "s", clock=clock, pacer=pacer, http=http_client(wire))


def always(status: int, body: Any = None, headers: dict[str, str] | None = None) -> Reply:
    return lambda _: httpx.Response(status, json=body, headers=headers)


async def ask(reply: Reply) -> tuple[Answer, Wire]:
    wire = Wire(reply)
    auth0 = client(wire)
    answer = await auth0.create_user(connection="users", email="a@x.example", password="p")
    await auth0.close()
    return answer, wire


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (400, "refused"),
        (403, "forbidden"),
        (404, "not-found"),
        (408, "doubtful"),
        (409, "conflict"),
        (429, "rate-limited"),
        (500, "doubtful"),
        (502, "doubtful"),
        (503, "doubtful"),
        (504, "doubtful"),
    ],
)
async def test_a_refused_call_is_one_request_and_a_value(status: int, verdict: str) -> None:
    body = {"statusCode": status, "error": "X", "message": "m", "errorCode": "code_x"}
    answer, wire = await ask(always(status, body))
    assert answer.verdict == verdict
    assert answer.code == "code_x"
    assert len(wire.requests) == 1, "the SDK's own retries are off"


@pytest.mark.parametrize(
    ("said", "seconds"), [("3", 3.0), ("1e9", 3600.0), ("inf", None), ("nan", None), ("-1", None)]
)
async def test_nothing_waits_longer_than_an_hour(said: str, seconds: float | None) -> None:
    answer, _ = await ask(always(429, {}, {"retry-after": said}))
    assert answer.retry_after == seconds


async def test_a_missing_error_code_falls_back_to_the_error() -> None:
    answer, _ = await ask(always(404, {"statusCode": 404, "error": "Not Found", "message": "m"}))
    assert answer.code == "Not Found"


async def test_an_html_page_is_doubt() -> None:
    answer, _ = await ask(lambda _: httpx.Response(502, text="<html>Bad Gateway</html>"))
    assert answer.verdict == "doubtful"


async def test_an_unreadable_success_is_doubt() -> None:
    answer, _ = await ask(lambda _: httpx.Response(201, text="<html>hm</html>"))
    assert answer.verdict == "doubtful"
    answer, _ = await ask(always(201, {"user_id": ["not", "a", "string"]}))
    assert answer.verdict == "doubtful"


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (httpx.ConnectError("x"), "unreachable"),
        (httpx.ConnectTimeout("x"), "unreachable"),
        (httpx.PoolTimeout("x"), "unreachable"),
        (httpx.ReadTimeout("x"), "doubtful"),
        (httpx.WriteError("x"), "doubtful"),
        (httpx.RemoteProtocolError("x"), "doubtful"),
    ],
)
async def test_only_what_was_never_sent_is_free_of_doubt(error: Exception, verdict: str) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise error

    answer, wire = await ask(fail)
    assert answer.verdict == verdict
    assert len(wire.requests) == 1


async def test_a_refused_token_is_fetched_anew_once() -> None:
    def reply(request: httpx.Request) -> httpx.Response:
        fresh = request.headers["authorization"] == "Bearer token-2"
        return httpx.Response(201 if fresh else 401, json={"user_id": "auth0|x"})

    answer, wire = await ask(reply)
    assert answer.verdict == "ok"
    assert len(wire.requests) == 2
    answer, wire = await ask(always(401, {"message": "Invalid token"}))
    assert answer.verdict == "unauthorized"
    assert len(wire.requests) == 2


async def test_many_callers_share_one_token_and_the_loop_goes_on() -> None:
    wire = Wire(always(200, []), token_after=0.2)
    auth0 = client(wire)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    await asyncio.gather(*(auth0.users_by_email(f"{n}@x.example") for n in range(10)))
    ticking.cancel()
    await auth0.close()
    assert wire.grants == 1
    assert ticks > 5, "fetching a token must not block the event loop"


async def test_ids_are_percent_encoded() -> None:
    wire = Wire(always(200, {"user_id": "auth0|a/../b"}))
    auth0 = client(wire)
    await auth0.get_user("auth0|a/../b")
    await auth0.close()
    assert wire.requests[0].url.raw_path == b"/api/v2/users/auth0%7Ca%2F..%2Fb"


async def test_none_is_sent_as_null_and_what_is_left_out_is_not_sent() -> None:
    wire = Wire(always(200, {"user_id": "auth0|x"}))
    auth0 = client(wire)
    await auth0.update_user("auth0|x", given_name=None)
    await auth0.close()
    assert wire.requests[0].content == b'{"given_name":null}'


async def test_the_secret_and_tokens_show_in_no_answer() -> None:
    answer, _ = await ask(always(401, {"message": "Invalid token"}))
    assert "token-" not in repr(answer)


async def test_a_burst_of_refused_tokens_costs_one_new_token() -> None:
    def reply(request: httpx.Request) -> httpx.Response:
        fresh = request.headers["authorization"] == "Bearer token-2"
        return httpx.Response(200 if fresh else 401, json=[] if fresh else {"message": "expired"})

    wire = Wire(reply)
    auth0 = client(wire)
    answers = await asyncio.gather(*(auth0.users_by_email(f"{n}@x.example") for n in range(10)))
    await auth0.close()
    assert {answer.verdict for answer in answers} == {"ok"}
    assert wire.grants == 2


@pytest.mark.parametrize("content", [b"<html>proxy</html>", b"{}", b"[]", b'{"access_token":"x"}'])
async def test_a_grant_that_cannot_be_read_is_no_crash(content: bytes) -> None:
    class Proxy(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            return httpx.Response(200, content=content)

    tenant = Tenant(name="main", base_url="http://auth0.test", client_id="c", plan="enterprise")
    clock = SystemClock()
    http = httpx.AsyncClient(transport=Proxy())
    auth0 = Auth0Client(tenant, "s", clock=clock, pacer=Pacer("enterprise", clock), http=http)
    answer = await auth0.get_user("auth0|x")
    await auth0.close()
    assert answer.verdict == "unreachable"


async def test_an_answer_that_drips_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """httpx counts its timeouts anew for each piece; a call must end within one lease's margin."""
    monkeypatch.setattr("service.auth0.calls.TIMEOUT", 0.2)

    class Dripping(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                await asyncio.sleep(0.05)
                yield b" "

    answer, _ = await asyncio.wait_for(
        ask(lambda _: httpx.Response(201, stream=Dripping())), timeout=5
    )
    assert answer.verdict == "doubtful"


async def test_an_answer_that_cannot_be_decoded_is_doubt() -> None:
    garbled = {"content-encoding": "gzip", "content-type": "application/json"}
    answer, _ = await ask(lambda _: httpx.Response(201, stream=_Bytes(b"no gzip"), headers=garbled))
    assert answer.verdict == "doubtful"


class _Bytes(httpx.AsyncByteStream):
    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._content


async def test_no_call_is_made_once_the_lease_has_become_too_short_in_the_queue() -> None:
    wire = Wire(always(200, {"user_id": "auth0|x"}))
    auth0 = client(wire)
    held = True
    auth0.only_while(lambda: held)
    assert (await auth0.get_user("auth0|x")).verdict == "ok"
    held = False
    assert (await auth0.get_user("auth0|x")).verdict == "withheld"
    await auth0.close()
    assert len(wire.requests) == 1


@pytest.mark.parametrize("status", [201, 409])
async def test_a_response_is_freed_without_a_search_for_garbage(status: int) -> None:
    made: list[weakref.ref[httpx.Response]] = []

    def reply(_: httpx.Request) -> httpx.Response:
        response = httpx.Response(status, json={"user_id": "auth0|1"})
        made.append(weakref.ref(response))
        return response

    gc.collect()
    gc.disable()
    try:
        await ask(reply)
        assert [each() for each in made] == [None]
    finally:
        gc.enable()
