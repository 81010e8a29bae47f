"""What came of one call to Auth0, as a value. One function turns every exception into one.

Knows what each status means for repeating a call; not what the call was for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import httpx
from auth0.management.core.api_error import ApiError
from auth0.management.core.parse_error import ParsingError

Verdict = Literal[
    "ok",
    "rate-limited",  # nothing happened: again at retry_at, not counted as an attempt
    "unauthorized",  # the token was refused, twice
    "forbidden",
    "not-found",
    "conflict",
    "refused",  # any other 4xx: the same call will be refused again
    "unreachable",  # nothing was sent: again later
    "full",  # we did not make the call: the Organization was full just before
    "withheld",  # we did not make the call: we are stopping, or no longer own the tenant
    "doubtful",  # it may have been done: read before repeating
]


_REQUEST_IDS: Final = ("x-auth0-requestid", "x-request-id", "x-correlation-id", "cf-ray")
"""Headers that name a request, the most telling first: the last one is of the network before Auth0."""

_FULL: Final = re.compile(r"\b(limit|maximum|quota|full)\b", re.IGNORECASE)
_NOT_FULL: Final = frozenset(
    ("invalid_body", "insufficient_scope", "insufficient_entitlement", "operation_not_supported")
)

_LONGEST: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """``code``: Auth0's ``errorCode`` where it gave one. ``message`` may hold personal data: it is
    shown to operators, never published. ``retry_after``: seconds."""

    verdict: Verdict
    status: int | None = None
    data: Any = None
    code: str | None = None
    message: str = ""
    retry_after: float | None = None
    headers: Mapping[str, str] | None = None

    @property
    def request_id(self) -> str | None:
        """Auth0's own id of the request, which its support asks for; None where it gave none."""
        headers = self.headers or {}
        found = next((headers[name] for name in _REQUEST_IDS if headers.get(name)), None)
        return found[:100] if found is not None and found.isprintable() else None

    @property
    def lacks_scope(self) -> bool:
        """Our credentials are good and do not reach this far. ``errorCode`` may be missing."""
        return self.verdict == "forbidden" and (
            self.code == "insufficient_scope" or self.message.startswith("Insufficient scope")
        )

    @property
    def problem_code(self) -> str | None:
        """``code`` as our problems write it: Auth0's own, or ``Bad Request`` as ``bad_request``."""
        return self.code.lower().replace(" ", "_") if self.code else None

    @property
    def is_full(self) -> bool:
        """Whether no more of what was to be made fits in, by the code that Auth0 has for entities, or
        by its words."""
        return (
            self.status in (400, 402, 403, 409)
            and self.code not in _NOT_FULL
            and (self.code == "too_many_entities" or _FULL.search(self.message) is not None)
        )


def ok(status: int, data: Any, headers: Mapping[str, str]) -> Answer:
    lower = {name.lower(): value for name, value in headers.items()}
    return Answer(verdict="ok", status=status, data=data, headers=lower)


def failed(error: Exception) -> Answer:
    """The answer in an exception of the SDK or of httpx; anything else is raised again."""
    match error:
        case ApiError():
            return _refusal(error)
        case ParsingError():
            # A 2xx that cannot be read: done, but we do not know what it says.
            return Answer(verdict="doubtful", message="unreadable success")
        case httpx.ConnectError() | httpx.ConnectTimeout() | httpx.PoolTimeout():
            return Answer(verdict="unreachable", message=_said(error))
        case httpx.RequestError() | TimeoutError():
            return Answer(verdict="doubtful", message=_said(error))
        case _:
            raise error


def _refusal(error: ApiError) -> Answer:
    status = error.status_code or 0
    body: Any = error.body
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    code = body.get("errorCode") or body.get("error") if isinstance(body, Mapping) else None
    message = body.get("message") if isinstance(body, Mapping) else str(body)[:200]
    return Answer(
        verdict=_verdict(status),
        status=status,
        code=str(code) if code else None,
        message=str(message or ""),
        retry_after=_seconds(headers.get("retry-after")),
        headers=headers,
    )


def _verdict(status: int) -> Verdict:
    match status:
        case 429:
            return "rate-limited"
        case 401:
            return "unauthorized"
        case 403:
            return "forbidden"
        case 404:
            return "not-found"
        case 409:
            return "conflict"
        case _ if 400 <= status < 500 and status != 408:
            return "refused"
        case _:
            return "doubtful"  # a 5xx may come after the write was done


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _seconds(value: str | None) -> float | None:
    """What ``Retry-After`` asks for, at most an hour; None where that is no time."""
    try:
        seconds = float(value) if value is not None else math.nan
    except ValueError:
        return None
    return min(seconds, _LONGEST) if 0 <= seconds < math.inf else None
