"""One Auth0 tenant's Management API as calls: each waits for its turn and comes back as an Answer.

Over auth0-python's AsyncAuth0 with its own retries off: who repeats what is decided by the lanes.
Knows no operation: see client.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Final, Self
from weakref import WeakSet

import httpx
import orjson
from auth0.management import AsyncAuth0
from auth0.management.core.api_error import ApiError
from auth0.management.core.pagination import AsyncPager
from auth0.management.management_client import CustomDomainHeader

from service.auth0.answers import Answer, failed, ok
from service.auth0.authentication import Before
from service.auth0.pacing import Group, Pacer, PacerClosed, Recalled
from service.auth0.token import Token, TokenRefused
from service.clock import Clock
from service.organizations import Tenant

TIMEOUT: Final = 15.0
"""Seconds that one call may take at most, from connecting to its last byte; connecting 3."""

ANOTHER_FIRST: Final = "another call comes first"


class _Client(httpx.AsyncClient):
    """Whose responses are freed as soon as nobody needs them.

    httpx leaves each in a cycle with the stream that it was read from: some 45 objects a call, that
    wait for Python's search for garbage, and everything waits for that.
    """

    async def send(
        self, request: httpx.Request, *, stream: bool = False, **how: Any
    ) -> httpx.Response:
        response = await super().send(request, stream=stream, **how)
        if not stream:
            response.stream = httpx.ByteStream(response.content)
        return response


def http_client(transport: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
    """``transport``: instead of the network."""
    return _Client(
        transport=transport,
        timeout=httpx.Timeout(TIMEOUT, connect=3.0),
        # As many as the quickest plan lets go within a timeout: a call that waited for a connection
        # would wait for calls that hang, leavers too.
        limits=httpx.Limits(max_connections=300, max_keepalive_connections=32),
    )


@dataclass(slots=True)
class _Going:
    """Whether calls may be made, and which tasks wait for the pacer: of a client and its copies."""

    stopped: bool = False
    made: int = 0
    may_call: Callable[[], bool] = lambda: True
    waiting: set[asyncio.Task[Any]] = field(default_factory=set[asyncio.Task[Any]])
    recalled: WeakSet[asyncio.Task[Any]] = field(default_factory=WeakSet[asyncio.Task[Any]])


class PacedCalls:
    """What every call to a tenant shares: token, turn, stop, time limit, and what it teaches the pacer."""

    def __init__(
        self,
        tenant: Tenant,
        client_secret: str,
        *,
        clock: Clock,
        pacer: Pacer,
        http: httpx.AsyncClient,
    ) -> None:
        self.tenant = tenant
        self.clock = clock
        self._pacer = pacer
        self._http = http
        self._going = _Going()
        self._in_background = False
        self._custom_domain = tenant.custom_domain
        self._token = Token(tenant, client_secret, http, clock)
        self._api = AsyncAuth0(
            base_url=f"{tenant.url}/api/v2",
            token="unused",
            async_token=self._token,
            httpx_client=http,
            max_retries=0,
        )

    def only_while(self, may_call: Callable[[], bool]) -> None:
        """Asks this before each call, after its wait for a turn; where it is False, none is made."""
        self._going.may_call = may_call

    def background(self) -> Self:
        """The same client for work that nobody waits for: its calls keep to a small share."""
        other = copy.copy(self)
        other._in_background = True
        return other

    def branded(self, custom_domain: str) -> Self:
        """The same client, whose links to people are of this custom domain; empty: the tenant's."""
        other = copy.copy(self)
        other._custom_domain = custom_domain or self._custom_domain
        return other

    def hurry(self, task: asyncio.Task[Any]) -> None:
        """Puts the calls for which this task waits, now and later, before those of all joiners."""
        self._pacer.hurry(task)

    def recall(self, task: asyncio.Task[Any]) -> None:
        """Withholds the call for which this task waits, and all that it would make later."""
        self._going.recalled.add(task)
        self._pacer.recall(task)

    def is_recalled(self, task: asyncio.Task[Any] | None) -> bool:
        return task in self._going.recalled

    def stand_for(self, task: asyncio.Task[Any], other: asyncio.Task[Any]) -> None:
        """Gives ``task`` the place in line of ``other``, for which it calls."""
        self._pacer.stand_for(task, other)

    def waiting(self, group: Group) -> int:
        """How many calls of this group wait for their turn in this tenant."""
        return self._pacer.waiting(group)

    @property
    def made(self) -> int:
        """Grows whenever things were set up through this client, which others may have missed."""
        return self._going.made

    def note_made(self) -> None:
        """Says that what was looked for in vain may be there by now."""
        self._going.made += 1

    @property
    def stopped(self) -> bool:
        return self._going.stopped

    def stop(self) -> None:
        """Makes no further call; those under way go on, and so do others' in this tenant."""
        self._going.stopped = True
        for task in list(self._going.waiting):
            self._pacer.recall(task)

    async def close(self) -> None:
        self.stop()
        self._token.close()
        await self._http.aclose()

    async def call(
        self,
        group: Group,
        choose: Callable[[AsyncAuth0], Callable[..., Awaitable[Any]]],
        *arguments: Any,
        **named: Any,
    ) -> Answer:
        """A call that few make and that has no method here: ``choose`` picks the SDK's raw one."""
        return await self._call(group, choose(self._api), *arguments, **named)

    @property
    def _people_url(self) -> str:
        """Where the Authentication API answers: it makes links of the domain that it is asked at."""
        branded = self._custom_domain and not self.tenant.base_url
        return f"https://{self._custom_domain}" if branded else self.tenant.url

    def _brand(self) -> dict[str, Any]:
        """For the calls that Auth0 takes the header with: of users, tickets and invitations."""
        if not self._custom_domain:
            return {}
        return {"request_options": CustomDomainHeader(self._custom_domain)}

    def download(self, url: str) -> AbstractAsyncContextManager[httpx.Response]:
        """A file that Auth0 has put somewhere, as it comes. No call: no token, none of our budget."""
        return self._http.stream("GET", url)

    async def _call(
        self,
        group: Group,
        method: Callable[..., Awaitable[Any]],
        *arguments: Any,
        leaver: bool = False,
        before: Before | None = None,
        **named: Any,
    ) -> Answer:
        """``before``: awaited when the call's turn has come; where it is False, none is made."""
        answer = await self._once(group, method, leaver, arguments, named, before)
        if answer.verdict == "unauthorized" and answer.code != "token":
            # A token may have been rotated away: one fresh one, then it is a refusal.
            answer = await self._once(group, method, leaver, arguments, named, before)
        return answer

    async def _once(
        self,
        group: Group,
        method: Callable[..., Awaitable[Any]],
        leaver: bool,
        arguments: Sequence[Any],
        named: Mapping[str, Any],
        before: Before | None = None,
    ) -> Answer:
        token = await self._admitted(group, leaver=leaver)
        if isinstance(token, Answer):
            return token
        if before is not None and not await before():
            return Answer(verdict="doubtful", message="this was intended before")
        try:
            async with asyncio.timeout(TIMEOUT):
                answer = _success(await method(*arguments, **named))
        except TokenRefused as error:
            return _without_token(error)
        except Exception as error:
            answer = failed(error)
        if answer.verdict == "unauthorized":
            self._token.invalidate(token)
        self._learn(group, answer)
        return answer

    def _learn(self, group: Group, answer: Answer) -> None:
        if answer.headers is not None:
            self._pacer.learn(
                group,
                answer.headers,
                limited=answer.verdict == "rate-limited",
                epoch=self.clock.now().timestamp(),
                message=answer.message,
            )

    async def open_stream(
        self, path: str, query: Sequence[tuple[str, str]], *, silence: float
    ) -> httpx.Response | Answer:
        """A GET whose body is read as it comes, for as long as it comes; to be closed by the caller.

        The opening is a call as any other. ``silence``: seconds between two bytes at most. The Answer
        says why there is no stream.
        """
        token = await self._admitted("other", leaver=False)
        if isinstance(token, Answer):
            return token
        request = self._http.build_request(
            "GET",
            f"{self.tenant.url}/api/v2/{path}",
            params=list(query),
            headers={"authorization": f"Bearer {token}", "accept": "text/event-stream"},
            timeout=httpx.Timeout(TIMEOUT, connect=3.0, read=silence),
        )
        try:
            async with asyncio.timeout(TIMEOUT):
                response = await self._http.send(request, stream=True)
                if response.status_code == 200:
                    return response
                answer = await _refusal(response)
        except Exception as error:
            return failed(error)
        if answer.verdict == "unauthorized":
            self._token.invalidate(token)
        if answer.message.startswith("Global limit"):  # streams may have limits of their own
            self._learn("other", answer)
        return answer

    async def _admitted(self, group: Group, *, leaver: bool) -> str | Answer:
        """A token, once the call's turn has come; else the Answer that says why none is made.

        In this order: a call whose token is late must not hold a place in the bucket.
        """
        try:
            token = await self._token()
        except TokenRefused as error:
            return _without_token(error)
        except httpx.RequestError as error:
            return Answer(verdict="unreachable", message=f"/oauth/token: {error}")
        if (withheld := await self._turn(group, leaver=leaver)) is not None:
            return Answer(verdict="withheld", message=withheld)
        return token

    async def _turn(self, group: Group, *, leaver: bool) -> str | None:
        """Waits for a turn to call; why there is none, or None where the call may be made."""
        going, task = self._going, asyncio.current_task()
        if going.stopped or task is None:
            return "stopping"
        if task in going.recalled:
            return ANOTHER_FIRST
        going.waiting.add(task)
        try:
            await self._pacer.turn(group, leaver=leaver, background=self._in_background)
        except (PacerClosed, Recalled):
            return "stopping" if going.stopped else ANOTHER_FIRST
        finally:
            going.waiting.discard(task)
        if not going.may_call():
            return "the lease is too short for a call"
        return None


def _without_token(refused: TokenRefused) -> Answer:
    return Answer(verdict="unauthorized", status=401, code="token", message=str(refused))


async def _refusal(response: httpx.Response) -> Answer:
    raw = await response.aread()
    await response.aclose()
    try:
        body: Any = orjson.loads(raw)
    except orjson.JSONDecodeError:
        body = raw[:200].decode(errors="replace")
    headers = dict(response.headers)
    return failed(ApiError(status_code=response.status_code, headers=headers, body=body))


def _success(raw: Any) -> Answer:
    """A response of the SDK as an Answer; its list operations answer with a pager, without headers."""
    if isinstance(raw, AsyncPager):
        return ok(200, [_plain(item) for item in raw.items or []], {})
    return ok(raw.status_code, _plain(raw.data), raw.headers)


def _plain(data: Any) -> Any:
    """The SDK's models as dicts and lists of dicts, so that no caller depends on its classes."""
    if isinstance(data, list):
        return [_plain(item) for item in data]
    if hasattr(data, "model_dump"):
        return data.model_dump(mode="json", by_alias=True)
    return data
