"""The door for HR systems that have webhooks: POST /events/{organization}/{source}, JSON or forms as sent.

Whoever sends such a payload cannot mend it: what is JSON is stored, and what no mapping reads waits
as a dead letter for an operator.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Final

import orjson
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from consumers.admission import (
    Crashed,
    Input,
    NotUnderstood,
    Taken,
    input_problem,
    take,
    transact,
)
from consumers.callers import Callers
from consumers.cloudevents import MAX_BATCH, Item, Plain, read_any_request
from consumers.faults import place_of
from consumers.forms import MEDIA_TYPE, parse_form
from consumers.http import EventDoor, accepted, body_of, understood
from consumers.mappings.canonical import canonical
from consumers.mappings.packs import named
from consumers.payloads import Hook, inputs, kept_headers
from consumers.refusing import Refusal
from consumers.storing import Fuse, telling
from service.clock import Clock
from service.directory import fuses, mappings, organizations
from service.directory.database import Database, Transaction
from service.directory.fuses import Blown
from service.directory.mappings import Declared
from service.errors import ConfigurationError, Refused
from service.organizations import SOURCE_NAME, EventSource

_STOPPED_FOR: Final = "300"
"""Seconds after which a sender is asked to try again: somebody must mend the mapping first."""
_NAME: Final = re.compile(SOURCE_NAME)
_log = structlog.stdlib.get_logger(__name__)


def webhook_routes(
    *,
    database: Database,
    clock: Clock,
    callers: Callers,
) -> list[BaseRoute]:
    """``POST /events/{organization}/{source}``, to be mounted before ``event_routes``.

    202 once every event of the request is durable, with what became of each.
    """
    door = WebhookDoor(database=database, clock=clock, callers=callers, mapper=canonical)
    return [Route("/events/{organization}/{source}", endpoint=door)]


class WebhookDoor(EventDoor):
    """Checks the token and the source, reads the request by the source's mapping, takes it in."""

    async def _receive(self, request: Request) -> Response:
        organization = str(request.path_params["organization"])
        await self.authorize(request, organization)
        hook, fuse = await self._hook(str(request.path_params["source"]), organization)
        sent, body = understood(_read, request, await body_of(request))
        found = inputs(
            sent,
            hook,
            body=body,
            headers=kept_headers(dict(request.headers)),
            now=self._clock.now(),
        )
        if len(found) > MAX_BATCH:
            raise Refusal(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "too_many_events",
                f"A request may hold {MAX_BATCH} events at most.",
            )
        self.count(organization, len(found))
        try:
            taken = await self._take([each for _, each in found], fuse)
        except Blown:
            _log.warning("events.source_stopped", source=hook.source)
            raise Refusal(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "source_stopped",
                "Too many events of this source failed one after the other, so it is stopped and"
                " nothing was stored: keep the event and send it again later.",
                headers={"Retry-After": _STOPPED_FOR},
            ) from None
        return accepted([id for id, _ in found], taken)

    async def _take(self, inputs: Sequence[Input], fuse: Fuse) -> list[Taken]:
        """Together; where one of them cannot be taken in, each by itself, and that one ends.

        Raises Blown where the source is stopped, before anything is stored.
        """
        try:
            return await self._stored(inputs, fuse)
        except (Refused, Crashed):
            return [await self._take_alone(each, fuse) for each in inputs]

    async def _take_alone(self, each: Input, fuse: Fuse) -> Taken:
        try:
            (taken,) = await self._stored_whatever([each], fuse)
        except Refused as refused:
            problem = input_problem("cannot_be_stored", str(refused))
        except Crashed as crash:
            _log.error("events.crash", source=each.received.source, error=place_of(crash))
            said = "Taking this event in failed: mend that, then replay."
            problem = input_problem("intake_crash", said)
        else:
            return taken
        dead = NotUnderstood(
            organization=each.organization,
            ended="deadlettered",
            problem=problem,
            received=each.received,
        )
        (taken,) = await self._stored_whatever([dead], fuse)
        return taken

    async def _stored_whatever(self, inputs: Sequence[Input], fuse: Fuse) -> list[Taken]:
        """Those of a request of which some are stored already: the fuse stops the next one."""
        try:
            return await self._stored(inputs, fuse)
        except Blown:
            return await self._stored(inputs, replace(fuse, limit=0))

    async def _stored(self, inputs: Sequence[Input], fuse: Fuse) -> list[Taken]:
        def work(transaction: Transaction) -> list[Taken]:
            if not fuse.limit:
                return take(transaction, inputs, tell_state=True)
            failures = fuses.check(transaction, fuse.source)
            taken = take(transaction, inputs, tell_state=True)
            fuses.count(
                transaction,
                fuse.source,
                telling(taken),
                failures=failures,
                limit=fuse.limit,
                now=self._clock.now(),
                whole=True,
            )
            return taken

        return await transact(self._database, work)

    async def _hook(self, name: str, organization: str) -> tuple[Hook, Fuse]:
        """Raises Refusal, the same for every source that this organization cannot use."""

        def work(transaction: Transaction) -> tuple[EventSource | None, Declared | None]:
            source = organizations.source(transaction, name)
            return source, mappings.find(transaction, source.mapping) if source else None

        known = _NAME.fullmatch(name) is not None
        source, own = await self._database.read(work) if known else (None, None)
        if source is None or not source.webhook or organization not in source.organizations:
            raise Refusal(
                HTTPStatus.NOT_FOUND,
                "unknown_source",
                "This organization has no source of this name that takes webhooks.",
            )
        try:
            declared = named(source.mapping, {own.name: own} if own else {})
        except ConfigurationError as error:
            _log.error("events.mapping_unusable", source=name, problem=str(error))
            raise Refusal(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "mapping_unusable",
                "The mapping of this source cannot be used: declare it anew.",
                headers={"Retry-After": "60"},
            ) from None
        hook = Hook(
            source=source.name,
            organization=organization,
            declared=declared,
            zone=source.zone,
            asks=source.enrichment is not None,
        )
        return hook, _fuse_of(source)


def _fuse_of(source: EventSource) -> Fuse:
    """None where several organizations send to it: one that sends rubbish would stop the others."""
    alone = len(source.organizations) == 1
    return Fuse(source=source.name, limit=source.fuse if alone else 0)


def _read(
    content_type: str, headers: Mapping[str, str], body: bytes
) -> tuple[list[Item] | Plain, bytes]:
    """What a request holds, and the body to keep: of a form, the JSON object that it stands for."""
    if content_type.partition(";")[0].strip().lower() != MEDIA_TYPE:
        return read_any_request(content_type, headers, body), body
    form = parse_form(body)
    return Plain(payload=form), orjson.dumps(form)
