"""One push to a receiver (RFC 8935), and what its answer means. Knows neither events nor storage."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

import httpx
import orjson

from service.configuration import read_secret
from service.errors import ConfigurationError
from service.retrying import asked_for, delay_after
from service.security_events.declaration import SecurityEvents

Verdict = Literal["delivered", "again", "refused"]

ERRORS: Final = frozenset(
    {
        "invalid_request",
        "invalid_key",
        "invalid_issuer",
        "invalid_audience",
        "authentication_failed",
        "access_denied",
    }
)
"""RFC 8935 section 2.4. The receiver has looked, and says no: the same token would fare no better."""
_NOT_NOW: Final = frozenset({408, 425, 429})
_PATIENCE: Final = 8
"""Failed pushes, some two minutes of them, after which an answer that RFC 8935 does not know stops the
stream: a proxy may say 404 while the receiver is deployed."""
_LARGEST_ANSWER: Final = 16 * 1024
_MOST_TOLD: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back. ``status`` None: nothing did, and ``message`` says why."""

    status: int | None
    message: str = ""
    body: bytes = b""
    retry_after: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """``delivered``, ``again`` after so many seconds, or ``refused``: an operator must look."""

    verdict: Verdict
    code: str = ""
    message: str = ""
    status: int | None = None
    after: float = 0.0

    def as_document(self) -> dict[str, Any]:
        document: dict[str, Any] = {"code": self.code, "message": self.message}
        return document | ({"status": self.status} if self.status is not None else {})


def http_client(within: float, at_once: int) -> httpx.AsyncClient:
    """Follows no redirects and takes no proxy from the environment: who is named is who is asked."""
    return httpx.AsyncClient(
        follow_redirects=False,
        trust_env=False,
        timeout=within,
        limits=httpx.Limits(
            max_connections=at_once, max_keepalive_connections=at_once, keepalive_expiry=30.0
        ),
    )


async def push(
    http: httpx.AsyncClient, stream: SecurityEvents, token: str, *, within: float
) -> Answer:
    """Sends one token. Raises nothing that the network or the receiver can cause."""
    headers = {
        "Content-Type": "application/secevent+jwt",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
    }
    try:
        if stream.credential_file:
            headers["Authorization"] = f"Bearer {_credential(stream.credential_file)}"
        async with asyncio.timeout(within):
            return await _exchange(http, stream.endpoint, headers, token)
    except ConfigurationError as error:
        return Answer(status=None, message=str(error))
    except TimeoutError:
        return Answer(status=None, message=f"It does not answer within {within:g} s.")
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return Answer(status=None, message=f"It cannot be reached ({type(error).__name__}).")


async def _exchange(
    http: httpx.AsyncClient, endpoint: str, headers: Mapping[str, str], token: str
) -> Answer:
    body = bytearray()
    async with http.stream("POST", endpoint, headers=headers, content=token) as answer:
        async for part in answer.aiter_raw():
            body += part
            if len(body) > _LARGEST_ANSWER:
                break
    return Answer(
        status=answer.status_code,
        body=bytes(body[:_LARGEST_ANSWER]),
        retry_after=answer.headers.get("Retry-After", ""),
    )


def _credential(file: str) -> str:
    """Read for each push, so that a rotated secret counts at once. Raises ConfigurationError."""
    secret = read_secret(Path(file), "security_events.credential_file")
    if not secret or not secret.isascii() or not secret.isprintable():
        raise ConfigurationError(
            f"security_events.credential_file: {file} holds no single line of printable ASCII."
        )
    return secret


def judge(answer: Answer, *, attempts: int, now: datetime, first_wait: float = 1.0) -> Judgement:
    """What to do after an answer. ``attempts``: how often this token failed before. Pure."""
    status = answer.status
    if status == 202:
        return Judgement(verdict="delivered", status=status)
    told = _error_of(answer.body) if status == 400 else None
    if told is not None:
        return Judgement(verdict="refused", code=told[0], message=told[1], status=status)
    if status is None:
        code, message = "unreachable", answer.message
    else:
        code, message = f"http_{status}", _MEANT.get(status // 100, "It answers {}.").format(status)
    asked = asked_for(answer.retry_after, now)
    lasting = status is not None and status < 500 and status not in _NOT_NOW
    return Judgement(
        verdict="refused" if lasting and attempts + 1 >= _PATIENCE else "again",
        code=code,
        message=message,
        status=status,
        after=delay_after(attempts, first_wait) if asked is None else max(asked, 1.0),
    )


_MEANT: Final = {
    2: "It answers {}, and only 202 says that it has the token (RFC 8935 section 2.2).",
    3: "It redirects ({}), which is not followed: declare where it wants its tokens.",
}


def _error_of(body: bytes) -> tuple[str, str] | None:
    """``err`` and ``description`` of an error answer; None where it is none of RFC 8935."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(document, dict):
        return None
    err, description = document.get("err"), document.get("description")
    if not isinstance(err, str) or err not in ERRORS:
        return None
    said = description if isinstance(description, str) else ""
    shown = "".join(each for each in said if each.isprintable())[:_MOST_TOLD]
    return err, shown or "It gives no description."
