"""The HTTP door for events: POST /events/{organization}, CloudEvents in every mode.

Knows HTTP and tokens; what an event means is the mapping's affair.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final, TypeVar

import orjson
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from consumers.admission import Input, Taken, Understood, must_wait, take, transact
from consumers.callers import Callers
from consumers.cloudevents import (
    MAX_BYTES,
    InvalidItem,
    Item,
    UnsupportedMediaType,
    content_of,
    read_request,
    trace_of_request,
)
from consumers.faults import place_of
from consumers.mappings.canonical import Mapper, canonical
from consumers.refusing import Refusal
from consumers.settling import traced
from consumers.unusable import Unusable
from service.clock import Clock
from service.directory.database import Database, Transaction
from service.directory.inbox import Received
from service.errors import Refused
from service.organizations import SLUG
from service.tracing import Trace

_SLUG: Final = re.compile(SLUG)
_TOKEN: Final = re.compile(r"ap_[0-9a-f]{1,64}_[A-Za-z0-9_-]{1,200}")
_RETRY_AFTER: Final = "5"
_log = structlog.stdlib.get_logger(__name__)


def event_routes(
    *,
    database: Database,
    clock: Clock,
    callers: Callers,
    mapper: Mapper = canonical,
) -> list[BaseRoute]:
    """``POST /events/{organization}``, to be mounted at the root.

    202 once every event of the request is durable, with what became of each; else a problem
    document, and nothing is stored: a batch is taken in whole or not at all.
    """
    door = EventDoor(database=database, clock=clock, callers=callers, mapper=mapper)
    # Every method, and everything below: refusals have this door's own form, too.
    return [Route(f"/events/{{organization{rest}}}", endpoint=door) for rest in ("", ":path")]


class EventDoor:
    """Checks the token, reads the request, takes its events in."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        callers: Callers,
        mapper: Mapper,
    ) -> None:
        self._database = database
        self._clock = clock
        self._callers = callers
        self._mapper = mapper

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self.receive(Request(scope, receive))
        await response(scope, receive, send)

    async def receive(self, request: Request) -> Response:
        try:
            if request.method != "POST":
                raise Refusal(
                    HTTPStatus.METHOD_NOT_ALLOWED,
                    "method_not_allowed",
                    "Events are sent by POST.",
                    headers={"Allow": "POST"},
                )
            return await self._receive(request)
        except Refusal as refusal:
            return refusal.as_response()
        except ClientDisconnect:
            return Response(status_code=HTTPStatus.BAD_REQUEST.value)
        except Refused as refused:
            return Refusal(HTTPStatus.BAD_REQUEST, "cannot_be_stored", str(refused)).as_response()
        except Exception as error:
            if not must_wait(error):
                # Without its message, which may hold a person's data.
                _log.error("events.failed", error=place_of(error))
                return Refusal(
                    HTTPStatus.INTERNAL_SERVER_ERROR,
                    "failed",
                    "The service failed and nothing was stored: send the event again.",
                ).as_response()
            _log.warning("events.database_unavailable", error=type(error).__name__)
            return Refusal(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "unavailable",
                "The event was not stored: send it again.",
                headers={"Retry-After": _RETRY_AFTER},
            ).as_response()

    async def _receive(self, request: Request) -> Response:
        organization = str(request.path_params["organization"])
        await self.authorize(request, organization)
        body = await body_of(request)
        items = _items(request, body)
        self.count(organization, len(items))
        trace = trace_of_request(request.headers)
        now = self._clock.now()
        inputs: list[Input] = [self._understood(item, organization, now, trace) for item in items]

        def work(transaction: Transaction) -> list[Taken]:
            return take(transaction, inputs, tell_state=True)

        ids = [item.envelope.id for item in items]
        return accepted(ids, await transact(self._database, work))

    async def authorize(self, request: Request, organization: str) -> None:
        """Raises Refusal where this request may not bring events."""
        await self._callers.authorize(
            organization,
            request.headers.get("authorization", ""),
            request.client.host if request.client is not None else "",
        )

    def count(self, organization: str, events: int) -> None:
        """Raises Refusal where the organization has sent too many."""
        self._callers.spend(organization, events)

    def _understood(self, item: Item, organization: str, now: datetime, trace: Trace) -> Understood:
        envelope = item.envelope
        try:
            mapped = self._mapper(envelope)
        except Unusable as problem:
            raise Refusal(
                HTTPStatus.BAD_REQUEST, problem.code, problem.message, index=item.index
            ) from None
        if mapped.organization not in (None, organization):
            raise Refusal(
                HTTPStatus.FORBIDDEN,
                "organization_not_allowed",
                "The event names another organization than the path.",
                index=item.index,
            )
        received = Received(
            door="http",
            source=envelope.source,
            source_id=envelope.id,
            type=envelope.type,
            at=now,
            body=item.body,
            headers=list(item.headers),
            content=content_of(envelope),
            effective_at=mapped.event.effective_at,
            **traced(envelope.trace if envelope.trace.parent else trace),
        )
        return Understood(organization=organization, event=mapped.event, received=received)


async def body_of(request: Request) -> bytes:
    """The body, read no further than its limit."""
    too_long = Refusal(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "too_large",
        f"A request may have {MAX_BYTES} bytes at most.",
        headers={"Connection": "close"},
    )
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > MAX_BYTES:
        raise too_long
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise too_long
    return bytes(body)


def _items(request: Request, body: bytes) -> list[Item]:
    return understood(read_request, request, body)


Parsed = TypeVar("Parsed")


def understood(
    read: Callable[[str, Mapping[str, str], bytes], Parsed], request: Request, body: bytes
) -> Parsed:
    """What a reader of requests finds in this one. Raises Refusal where it cannot be read."""
    try:
        return read(
            request.headers.get("content-type", ""),
            {name.lower(): value for name, value in request.headers.items()},
            body,
        )
    except UnsupportedMediaType as problem:
        raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, problem.code, problem.message) from None
    except InvalidItem as problem:
        raise Refusal(
            HTTPStatus.BAD_REQUEST, problem.code, problem.message, index=problem.index
        ) from None
    except Unusable as problem:
        raise Refusal(HTTPStatus.BAD_REQUEST, problem.code, problem.message) from None


def accepted(ids: Sequence[str], taken: Sequence[Taken]) -> Response:
    """202, with the state of each event beside its source's id and ours."""
    shown: list[dict[str, Any]] = []
    for id, each in zip(ids, taken, strict=True):
        told: dict[str, Any] = {"id": id, "event": each.event_id, "state": each.state}
        if each.error is not None:
            told["error"] = {name: each.error.get(name) for name in ("code", "message")}
        shown.append(told)
    return Response(
        orjson.dumps({"accepted": shown}),
        status_code=HTTPStatus.ACCEPTED.value,
        media_type="application/json",
    )
