"""Writes, answered as usual or with 202 where the client wants to be told of the end later
(RFC 9967 section 2.5.1). Either way nothing is answered before it is durable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from scim.door import Door
from scim.http import Answer, Request
from scim.preferences import Later
from service.directory import ending, inbox
from service.directory.database import Transaction, Work
from service.directory.events import Problem
from service.directory.inbox import Received
from service.directory.responses import Response
from service.organizations import Organization

T = TypeVar("T")
_AT_ONCE: Final = 50
"""Refusals stored in one transaction: others write too."""


async def carry_out(
    door: Door,
    request: Request,
    received: Received,
    work: Work[T],
    answer: Callable[[T], Answer],
) -> Answer:
    """Runs the transaction of a write, whose event is ``received``, and answers what it returned.

    Raises what ``work`` raises: a refusal comes at once, whatever the client prefers.
    """
    later = request.later
    if later is None:
        return answer(await door.database.transact(work))

    def promising(transaction: Transaction) -> Response:
        response = _response(request, later, answer(work(transaction)))
        ending.promise(transaction, later.txn, response, now=received.at)
        return response

    response = await door.database.transact(promising)
    return accepted(later.txn, response.location)


def accepted(txn: str, location: str | None = None) -> Answer:
    """202 without a body; ``txn`` is what the completion event will carry."""
    headers = [("Set-Txn", txn), ("Preference-Applied", "respond-async")]
    if location is not None:
        headers.append(("Location", location))
    return Answer(status=202, headers=tuple(headers))


def _response(request: Request, later: Later, answer: Answer) -> Response:
    headers = dict(answer.headers)
    return Response(
        txn=later.txn,
        method=later.method or request.method,
        status=later.status or answer.status,
        location=headers.get("Location", request.url),
        version=headers.get("ETag"),
        bulk_id=later.bulk_id,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A request that cannot be carried out, to be told later all the same. ``error``: as answered.

    ``location``: of the resource that it is about, where there is one.
    """

    request: Request
    document: Any
    error: Mapping[str, Any]
    location: str | None


async def keep_refused(door: Door, organization: Organization, refused: Sequence[Refused]) -> None:
    """Makes each of them an event that was rejected, which tells its sender."""
    inputs = [
        (each, door.received(each.request, organization, "bulk.refused", each.document))
        for each in refused
    ]
    for start in range(0, len(inputs), _AT_ONCE):

        def work(transaction: Transaction, start: int = start) -> None:
            for each, received in inputs[start : start + _AT_ONCE]:
                _reject(transaction, organization, each, received)

        await door.database.transact(work)


def _reject(
    transaction: Transaction, organization: Organization, refused: Refused, received: Received
) -> None:
    later = refused.request.later
    assert later is not None
    status = int(refused.error["status"])
    plain = _PLAIN.get(status, "The operation could not be carried out.")
    problem = Problem(kind="input", code="scim_refused", message=plain, status=status)
    inbox.admit(transaction, received, organization.name)
    ending.finish(transaction, later.txn, "rejected", now=received.at, problem=problem)
    response = Response(
        txn=later.txn,
        method=later.method or refused.request.method,
        status=status,
        location=refused.location,
        bulk_id=later.bulk_id,
        error={**refused.error, "detail": plain},
    )
    ending.promise(transaction, later.txn, response, now=received.at)


_PLAIN: Final = {
    400: "The operation is not valid as it was sent: see scimType.",
    404: "There is no such resource in this organization.",
    405: "This path does not take this method.",
    409: "It would be in conflict with another resource, or refers to one that was not created.",
    412: "The resource is at another version: read it, then repeat.",
    413: "The operation is too large: send it in parts.",
    424: "Not carried out: the request had as many errors as failOnErrors.",
}
"""What is told with outcomes, where no names and addresses are; an answer's own words may hold some."""
