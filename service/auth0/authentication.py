"""Auth0's Authentication API, as far as people are invited by it: no token, limits of its own.

Source: Authentication API reference, ``/dbconnections/change_password``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import httpx

from service.auth0.answers import Answer
from service.auth0.buckets import number

Before = Callable[[], Awaitable[bool]]
"""Awaited just before a call that mails; where it is False, the call is not made."""

_WITHIN: Final = 15.0
_REFILL: Final = 60.0
"""Seconds after which an address whose limit is reached (10 at once) may be mailed again."""


async def change_password(
    http: httpx.AsyncClient, base_url: str, fields: Mapping[str, str], *, before: Before
) -> Answer:
    """Has Auth0 mail the person a link. It answers 200 whether it knows the address or not."""
    if not await before():
        return Answer(verdict="doubtful", message="this was intended before")
    try:
        async with asyncio.timeout(_WITHIN):
            answer = await http.post(f"{base_url}/dbconnections/change_password", json=dict(fields))
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        return Answer(verdict="unreachable", message=type(error).__name__)
    except (httpx.RequestError, TimeoutError) as error:
        return Answer(verdict="doubtful", message=type(error).__name__)
    return _judge(answer)


def _judge(answer: httpx.Response) -> Answer:
    status = answer.status_code
    headers = {name.lower(): value for name, value in answer.headers.items()}
    if answer.is_success:
        return Answer(verdict="ok", status=status, headers=headers)
    if status == 429:
        wait = number(headers, "retry-after")
        seconds = max(wait, 1.0) if wait is not None else _REFILL
        return Answer(verdict="rate-limited", status=status, retry_after=seconds, headers=headers)
    if answer.is_client_error:
        code, message = _said(answer)
        return Answer(verdict="refused", status=status, code=code, message=message, headers=headers)
    return Answer(verdict="doubtful", status=status, message=f"answered {status}", headers=headers)


def _said(answer: httpx.Response) -> tuple[str | None, str]:
    try:
        body = answer.json()
    except ValueError:
        return None, ""
    if not isinstance(body, dict):
        return None, ""
    code = body.get("code") or body.get("error")
    message = body.get("description") or body.get("error_description") or body.get("message")
    return (str(code) if code else None), str(message or "")
