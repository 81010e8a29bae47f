"""The route ``/Bulk`` (RFC 7644 section 3.7): each operation is a request to the other routes, with an
event and a transaction of its own, and durable before the whole is answered.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from scim.asynchronous import Refused, accepted, keep_refused
from scim.bulk_order import Agenda, Step
from scim.bulk_request import BulkRequest, read_bulk
from scim.door import Door
from scim.errors import ScimError
from scim.http import LARGEST_BODY, Answer, Request, refusal, too_large
from scim.preferences import Later
from service.ids import new_id
from service.organizations import Organization

RESPONSE_SCHEMA: Final = "urn:ietf:params:scim:api:messages:2.0:BulkResponse"
_AT_ONCE: Final = 16
"""Transactions of one request side by side: they share commits, and leave others their turn."""
_OUR_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LABEL: Final = re.compile(r"[0-9A-Za-z._:-]{1,64}")

Perform = Callable[[Request, Organization], Awaitable[Answer]]
"""Any request to its answer; errors are answers too."""


class Bulk:
    """Answers Bulk requests of the organization that the caller was admitted to."""

    def __init__(self, door: Door, perform: Perform, spend: Callable[[str, int], None]) -> None:
        """``spend`` is told an organization and how many requests more than one it has made; it
        raises ScimError 429 where these are too many.
        """
        self._door = door
        self._perform = perform
        self._spend = spend

    async def carry_out(self, request: Request, organization: Organization) -> Answer:
        """200 with an entry for each operation done or refused, or 202 where the client prefers.

        Raises ScimError 400, 413 and 429, and for 202 also 503 where not everything could be stored.
        """
        bulk = read_bulk(
            request.json(),
            tolerant=organization.scim_profile == "tolerant",
            base_url=request.base_url,
        )
        if len(bulk.operations) > 1:
            self._spend(organization.name, len(bulk.operations) - 1)
        run = _Run(
            door=self._door,
            perform=self._perform,
            request=request,
            organization=organization,
            txn=new_id(self._door.clock.now()).replace("-", ""),
        )
        entries = await run.to_the_end(bulk)
        if request.later is not None:
            return accepted(run.txn)
        return Answer(document={"schemas": [RESPONSE_SCHEMA], "Operations": entries})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One request being carried out. ``txn``: what the events of its operations have in common."""

    door: Door
    perform: Perform
    request: Request
    organization: Organization
    txn: str

    async def to_the_end(self, bulk: BulkRequest) -> list[dict[str, Any]]:
        """The entries of the answer, in the order of the operations."""
        entries: dict[int, dict[str, Any]] = {}
        agenda = Agenda(bulk.operations)
        most = bulk.fail_on_errors or len(bulk.operations) + 1
        errors, away = 0, None
        # No further at once than the errors allow: after the last one nothing is carried out.
        while errors < most and (steps := agenda.next(min(_AT_ONCE, most - errors))):
            answers = await asyncio.gather(*(self._answer(step, away) for step in steps))
            await self._keep_refused(steps, answers)
            for step, answer in zip(steps, answers, strict=True):
                failed = answer.status >= 400
                agenda.settle(step, None if failed else self._path(step, answer))
                if failed or step.final:
                    entries[step.operation.index] = self._entry(step, answer)
                errors += failed
                away = answer if answer.status == 503 else away
        left = agenda.left()
        answers = [await self._answer(step, away) for step in left]
        await self._keep_refused(left, answers)
        for step, answer in zip(left, answers, strict=True):
            if step.created is not None:
                entries[step.operation.index] = self._entry(step, answer)
        return [entry for _, entry in sorted(entries.items())]

    async def _answer(self, step: Step, away: Answer | None) -> Answer:
        """``away``: what is answered since the database was found not to answer; None: it does."""
        if step.refused is not None:
            return refusal(step.refused)
        if away is not None:
            return away
        body = b"" if step.data is None else orjson.dumps(step.data)
        if len(body) > LARGEST_BODY:
            return refusal(too_large(LARGEST_BODY))
        return await self.perform(self._request(step, body), self.organization)

    def _request(self, step: Step, body: bytes = b"") -> Request:
        operation, headers = step.operation, dict[bytes, bytes]()
        if operation.version is not None and step.method != "POST" and step.created is None:
            headers[b"if-match"] = operation.version.encode("latin-1")
        for name in (b"traceparent", b"tracestate"):
            if (value := self.request.headers.get(name)) is not None:
                headers[name] = value
        return Request(
            method=step.method,
            organization=self.request.organization,
            segments=step.segments,
            base_url=self.request.base_url,
            headers=headers,
            query=operation.query,
            body=body,
            later=self._later(step),
            correlation_id=self.txn,
        )

    def _later(self, step: Step) -> Later | None:
        if self.request.later is None or not (step.final or step.refused):
            return None
        operation = step.operation
        bulk_id = operation.bulk_id
        return Later(
            txn=f"{self.txn}:{operation.index}",
            method=operation.method,
            status=201 if step.created is not None else None,
            # It goes out with the outcomes, where no names and addresses are told.
            bulk_id=bulk_id if bulk_id and _LABEL.fullmatch(bulk_id) else None,
        )

    async def _keep_refused(self, steps: Sequence[Step], answers: Sequence[Answer]) -> None:
        """Makes what is to be told of refused operations durable, where the client will be told."""
        if self.request.later is None:
            return
        refused: list[Refused] = []
        for step, answer in zip(steps, answers, strict=True):
            if answer.status == 503:
                raise ScimError(503, answer.document["detail"], headers=answer.headers)
            if answer.status >= 400:
                ended = Step(
                    operation=step.operation,
                    method=step.operation.method,
                    segments=step.segments,
                    created=step.created,
                )
                refused.append(
                    Refused(
                        request=self._request(ended),
                        document=step.operation.data,
                        error=answer.document,
                        location=self._location(step, answer) if _is_ours(step) else None,
                    )
                )
        await keep_refused(self.door, self.organization, refused)

    def _path(self, step: Step, answer: Answer) -> tuple[str, ...]:
        """Of the resource that a step was about."""
        location = dict(answer.headers).get("Location")
        if step.method != "POST" or location is None:
            return step.segments
        return (step.segments[0], location.rpartition("/")[2])

    def _location(self, step: Step, answer: Answer) -> str | None:
        """None for what was not created, and for a path that leads nowhere."""
        known = dict(answer.headers).get("Location")
        if known is None and len(step.segments) > 1:
            return "/".join((self.request.base_url, *step.segments))
        return known

    def _entry(self, step: Step, answer: Answer) -> dict[str, Any]:
        operation, failed = step.operation, answer.status >= 400
        completed = step.created is not None and not failed
        entry = {
            "location": self._location(step, answer),
            "method": operation.method,
            "bulkId": operation.bulk_id,
            "version": dict(answer.headers).get("ETag"),
            "status": "201" if completed else str(answer.status),
            "response": answer.document if failed else None,
        }
        return {name: value for name, value in entry.items() if value is not None}


def _is_ours(step: Step) -> bool:
    """Whether a path has an id that may be one of ours, not somebody's name or address."""
    return len(step.segments) == 2 and _OUR_ID.fullmatch(step.segments[1]) is not None
