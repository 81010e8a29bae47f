"""What the sender of an asynchronous SCIM request is told at its end (RFC 9967 section 2.5.1.3). Pure.

Kept with the event until then; whether and when it is told is the inbox's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import orjson

EVENT_URI: Final = "urn:ietf:params:scim:event:misc:asyncresp"
_ERROR_SCHEMA: Final = "urn:ietf:params:scim:api:messages:2.0:Error"
_HEADER: Final = "scim-response"
_FAILED: Final = frozenset(("rejected", "deadlettered", "discarded"))
_DISCARDED: Final = "An operator discarded this change before it was carried out."


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """The answer that the request would have had, as an entry of a bulk answer has it.

    ``txn``: what Set-Txn said, in a Bulk followed by the operation's index. ``error``: the SCIM
    error of an operation that was refused; without personal data, as all of this.
    """

    txn: str
    method: str
    status: int
    location: str | None = None
    version: str | None = None
    bulk_id: str | None = None
    error: Mapping[str, Any] | None = None

    def as_header(self) -> list[str | None]:
        """As it is kept among an event's headers."""
        return [_HEADER, orjson.dumps(asdict(self)).decode()]


def promised(headers: Iterable[Sequence[str | None]]) -> Response | None:
    """What an event's headers say that its sender is to be told; None: nothing was asked for."""
    for name, value in headers:
        if name == _HEADER and value is not None:
            return Response(**orjson.loads(value))
    return None


def told(response: Response, ended: str, problem: Mapping[str, Any] | None) -> dict[str, Any]:
    """The payload once the event has ended. ``problem``: an inbox Problem as a document.

    A superseded change was carried out in the directory, so its answer stands.
    """
    error = response.error
    if error is None and ended in _FAILED:
        error = _error(ended, problem or {})
    payload: dict[str, Any] = {
        "eventUri": EVENT_URI,
        "txn": response.txn,
        "method": response.method,
        "bulkId": response.bulk_id,
        "location": response.location,
        "version": response.version,
        "status": str(response.status) if error is None else error["status"],
        "response": error,
    }
    return {name: value for name, value in payload.items() if value is not None}


def _error(ended: str, problem: Mapping[str, Any]) -> dict[str, Any]:
    """Why Auth0 was not brought to it, as a SCIM error (RFC 7644 section 3.12)."""
    if ended == "discarded":
        return {"schemas": [_ERROR_SCHEMA], "status": "403", "detail": _DISCARDED}
    kind = problem.get("class")
    error: dict[str, Any] = {"schemas": [_ERROR_SCHEMA], "status": "500"}
    if kind == "conflict":
        error |= {"status": "409", "scimType": "uniqueness"}
    elif kind == "input":
        error |= {"status": "400", "scimType": "invalidValue"}
    return error | {"detail": problem.get("message", "The change could not be carried out.")}
