"""The simulator over HTTP: a Starlette application that stands in for Auth0."""

import asyncio
import re
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import parse_qsl, unquote

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from service.auth0.simulator import control, custom_domains, exports, oauth, tickets
from service.auth0.simulator.connection_loss import drop, until_gone
from service.auth0.simulator.errors import Refusal, reason_phrase
from service.auth0.simulator.event_feed import (
    CONNECTIONS,
    FeedTraits,
    Subscription,
    messages,
)
from service.auth0.simulator.exchanges import Exchange, Observe
from service.auth0.simulator.faults import OF_JOBS, Fault
from service.auth0.simulator.lag import Lag
from service.auth0.simulator.limits import LIMITS, Bucket, Clock, Limits, Plan, RateLimiter
from service.auth0.simulator.operation import Answer
from service.auth0.simulator.simulation import MOST_BYTES, Received, Simulation
from service.auth0.simulator.store import Store

Sleep = Callable[[float], Awaitable[None]]

_PATH = re.compile(r"(?:/tenants/(?P<tenant>[^/]+))?(?P<rest>/.*)")
_API = "/api/v2"
_CHANGE_PASSWORD = Limits(overall=Bucket(burst=10, refill=1, period="minute"))
_GATEWAY_PAGE = "<html><head><title>502 Bad Gateway</title></head><body>Bad Gateway</body></html>"


def create_simulator(
    *,
    data_dir: Path | None,
    plan: Plan = "enterprise",
    clock: Clock = time.time,
    random: Random | None = None,
    seed: bool = True,
    lag: Lag | None = None,
    limits: Limits | None = None,
    sessions_api: bool | None = None,
    sleep: Sleep = asyncio.sleep,
    feed: FeedTraits | None = None,
    observe: Observe | None = None,
) -> Starlette:
    """A stand-in for Auth0, ready to serve; its `Simulation` is `app.state.simulation`.

    data_dir: where `simulator.sqlite3` is kept; None keeps all in memory.
    clock: seconds since the epoch.
    random: draws delays and the chance of faults.
    seed: store the sample tenants where they do not exist.
    limits: instead of the plan's.
    sessions_api: whether the plan includes listing and deleting sessions and refresh tokens; by
        default only `enterprise` does. Without it they answer 403 `insufficient_entitlement`.
    feed: how the feed of events behaves; by default as the plan's.
    observe: told of each call that no ordered fault has touched.
    """
    simulation = Simulation(
        store=Store(data_dir),
        limiter=RateLimiter(limits or LIMITS[plan], clock),
        clock=clock,
        random=random or Random(),  # noqa: S311
        lag=lag or Lag(),
        sessions_api=plan == "enterprise" if sessions_api is None else sessions_api,
        feed=feed or FeedTraits(connections=CONNECTIONS[plan]),
    )
    if seed:
        simulation.plant()
    door = _Door(simulation, RateLimiter(_CHANGE_PASSWORD, clock), sleep, observe)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        yield
        simulation.store.close()

    app = Starlette(routes=[*control.routes(simulation), Mount("/", app=door)], lifespan=lifespan)
    app.state.simulation = simulation
    return app


_REQUEST_ID = "x-auth0-requestid"
"""Auth0 names each request by 20 hexadecimal digits, also those that it refuses."""


class _Stream(Response):
    """Stands for a stream that is about to be served."""

    def __init__(self, subscription: Subscription, headers: Mapping[str, str]) -> None:
        super().__init__()
        self.subscription = subscription
        self.told = {_REQUEST_ID: secrets.token_hex(10), **_without_content(headers)}


class _Door:
    """Everything that Auth0 itself would answer, as ASGI, so that connections can be dropped."""

    def __init__(
        self,
        simulation: Simulation,
        mail_limiter: RateLimiter,
        sleep: Sleep,
        observe: Observe | None,
    ) -> None:
        self._simulation = simulation
        self._mail_limiter = mail_limiter
        self._sleep = sleep
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        raw_path = scope.get("raw_path") or str(scope["path"]).encode()
        match = _PATH.fullmatch(raw_path.decode("latin-1"))
        tenant = (match and match["tenant"]) or "main"
        if match is None or not oauth.TENANT_NAME.fullmatch(tenant):
            await _problem(404, "There is no such tenant")(scope, receive, send)
            return
        rest = match["rest"]
        body = await request.body()
        paths = _names(raw_path.decode("latin-1"), rest)
        received = _received(request, tenant, rest, body)
        is_call = rest == _API or rest.startswith(f"{_API}/")
        fault = self._simulation.fault(tenant, request.method, paths, is_call=is_call)
        response: Response | None = None
        if fault is not None and fault.kind == "latency" and not fault.after_commit:
            await self._sleep(fault.seconds or 0.0)
        if fault is None or fault.commits:
            if is_call:
                response = self._call(received, fault)
            else:
                response = self._other(request, tenant, rest, body)
        elif is_call:
            self._simulation.log_unanswered(received, fault, _status_of(fault))
        if fault is not None:
            response = await self._suffer(fault, response, scope, receive)
        if isinstance(response, _Stream):
            await self._stream(response, scope, receive, send)
        elif response is not None:
            response.headers.setdefault(_REQUEST_ID, secrets.token_hex(10))
            await response(scope, receive, send)

    async def _stream(self, opened: _Stream, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a feed until its time is over or the client has hung up."""
        simulation = self._simulation
        tenant = opened.subscription.tenant
        with simulation.subscribers.listening(tenant) as stirred:
            sent = messages(opened.subscription, stirred, simulation.feed, simulation.world)
            response = StreamingResponse(sent, headers=opened.told, media_type="text/event-stream")
            try:
                await response(scope, receive, send)
            finally:
                await sent.aclose()

    async def _suffer(
        self, fault: Fault, response: Response | None, scope: Scope, receive: Receive
    ) -> Response | None:
        """What is left of an answer under a fault; None where the connection is gone."""
        if fault.kind in OF_JOBS:
            return response
        if fault.kind == "latency":
            if fault.after_commit:
                await self._sleep(fault.seconds or 0.0)
            return response
        if fault.kind == "status":
            return self._ordered(fault, response)
        if fault.kind == "html-502":
            return Response(_GATEWAY_PAGE, 502, media_type="text/html")
        if fault.kind == "hang":
            if fault.seconds is None:
                await until_gone(receive)
                return None
            await self._sleep(fault.seconds)
        await drop(receive)
        return None

    def _ordered(self, fault: Fault, response: Response | None) -> Response:
        """The answer that a `status` fault asks for."""
        headers = {} if response is None else dict(response.headers)
        if fault.status == 429:
            headers |= self._simulation.exhausted()
        headers |= fault.headers
        if fault.status in {204, 304}:
            return _answer(Answer(status=fault.status, empty=True), headers)
        code = "too_many_requests" if fault.status == 429 else None
        usual = Refusal(
            status=fault.status, message=reason_phrase(fault.status), error_code=code
        ).body()
        return _json(usual if fault.body is None else fault.body, fault.status, headers)

    def _call(self, received: Received, fault: Fault | None) -> Response:
        reply = self._simulation.call(received, fault)
        if self._observe is not None and fault is None:
            template = self._simulation.template_of(received.method, received.path)
            if template not in (None, "/events"):  # that is no exchange of JSON
                self._observe(_exchange(template, received, reply.answer))
        if reply.answer.stream is not None:
            return _Stream(reply.answer.stream, reply.headers)
        return _answer(reply.answer, reply.headers)

    def _other(self, request: Request, tenant: str, rest: str, body: bytes) -> Response:
        if rest == "/oauth/token" and request.method == "POST":
            answer = self._simulation.token(tenant, _fields(request, body))
            return _answer(answer, {"cache-control": "no-store"})
        if rest == "/dbconnections/change_password" and request.method == "POST":
            return self._change_password(request, tenant, body)
        if rest.startswith("/exports/") and request.method == "GET":
            with self._simulation.world(tenant) as world:
                file = exports.file(world, rest.removeprefix("/exports/"))
            if file is not None:
                return Response(file, media_type="application/gzip")
        return _problem(404, "Not Found")

    def _change_password(self, request: Request, tenant: str, body: bytes) -> Response:
        fields = _fields(request, body)
        address = request.client.host if request.client is not None else ""
        key = f"{tenant} {address} {str(fields.get('email')).lower()}"
        verdict = self._mail_limiter.take(key, "")
        if verdict.refusal is not None:
            error = {"error": "too_many_requests", "error_description": "Try again later"}
            return _json(error, 429, verdict.headers())
        with self._simulation.world(tenant) as world:
            answer = tickets.change_password(world, fields, base_url=_base_url(request, tenant))
        if isinstance(answer.body, str):
            return Response(answer.body, headers=verdict.headers(), media_type="text/html")
        return _json(answer.body, answer.status, verdict.headers())


def _names(whole: str, rest: str) -> tuple[str, ...]:
    """The forms under which a fault may name a path: whole, in its tenant, below `/api/v2`."""
    below = rest.removeprefix(_API) or "/"
    raw = {whole, rest, below, below.rstrip("/") or "/"}
    return tuple({*raw, *(unquote(path) for path in raw)})


def _received(request: Request, tenant: str, rest: str, body: bytes) -> Received:
    return Received(
        tenant=tenant,
        method=request.method,
        path=rest.removeprefix(_API) or "/",
        query=_query(request),
        body=body,
        content_type=request.headers.get("content-type", ""),
        authorization=request.headers.get("authorization"),
        base_url=_base_url(request, tenant),
        custom_domain=request.headers.get(custom_domains.HEADER),
    )


def _exchange(template: str, received: Received, answer: Answer) -> Exchange:
    is_json = received.content_type.startswith("application/json")
    return Exchange(
        method=received.method,
        template=template,
        path=received.path,
        query=dict(received.query),
        content_type=received.content_type.partition(";")[0],
        request=_json_or_none(received.body) if is_json else None,
        status=answer.status,
        response=None if answer.empty else answer.body,
    )


def _json_or_none(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _query(request: Request) -> dict[str, str]:
    """The first value of each name; of event types all, and the offset wherever it was sent."""
    query = dict(reversed(request.query_params.multi_items()))
    if kinds := request.query_params.getlist("event_type"):
        query["event_type"] = ",".join(kinds)
    if request.url.path.endswith("/events") and (last := request.headers.get("last-event-id")):
        query["from"] = last
    return query


def _base_url(request: Request, tenant: str) -> str:
    own = "" if tenant == "main" else f"/tenants/{tenant}"
    return f"{request.url.scheme}://{request.url.netloc}{own}"


def _fields(request: Request, body: bytes) -> dict[str, Any]:
    """A body as JSON object or as form."""
    if "json" not in request.headers.get("content-type", ""):
        return dict(parse_qsl(body[:MOST_BYTES].decode(errors="replace")))
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _status_of(fault: Fault) -> int | None:
    if fault.kind == "status":
        return fault.status
    return 502 if fault.kind == "html-502" else None


def _answer(answer: Answer, headers: Mapping[str, str]) -> Response:
    if answer.empty:
        return Response(status_code=answer.status, headers=_without_content(headers))
    return _json(answer.body, answer.status, headers)


def _json(body: Any, status: int, headers: Mapping[str, str]) -> Response:
    return Response(
        orjson.dumps(body),
        status,
        headers=_without_content(headers),
        media_type="application/json; charset=utf-8",
    )


def _without_content(headers: Mapping[str, str]) -> dict[str, str]:
    return {k: v for k, v in headers.items() if k not in {"content-length", "content-type"}}


def _problem(status: int, message: str) -> Response:
    return _json(Refusal(status=status, message=message).body(), status, {})
