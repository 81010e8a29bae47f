"""The feed of events of one tenant, as Auth0's Events API streams it: opened, read, refused.

Knows the messages and what a refusal means; not what any event is good for.
Source: https://auth0.com/docs/customize/events/consume-events-with-events-api
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx
import orjson
from auth0.management.core.http_sse import EventSource

from service.auth0.answers import Answer
from service.auth0.client import Auth0Client

SILENCE: Final = 90.0
"""Seconds without a byte after which a stream is given up: heartbeats come more often."""

TOO_MANY_STREAMS: Final = "too_many_streams"
NO_SCOPE: Final = "insufficient_scope"
NOT_OFFERED: Final = "not_offered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message. ``event``: the CloudEvent, None in one that only moves the offset.

    ``error``: the code of the message that ends a stream: ``cursor_expired``, ``invalid_cursor``, …
    """

    offset: str | None = None
    event: Mapping[str, Any] | None = None
    error: str | None = None


class EventStream:
    """An open stream. Raises httpx.TransportError while it is read, and ends as Auth0 ends it."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response

    async def messages(self) -> AsyncIterator[Message]:
        async for sent in EventSource(self._response).aiter_sse():
            if (message := _message(sent.event, sent.data, sent.id)) is not None:
                yield message


@asynccontextmanager
async def subscribe(
    client: Auth0Client,
    kinds: Sequence[str],
    *,
    cursor: str | None = None,
    since: str | None = None,
) -> AsyncGenerator[EventStream | Answer]:
    """The stream after ``cursor``, or from ``since`` (RFC 3339, 20 characters), or from now on; or the
    answer that says why there is none.
    """
    query = [("event_type", kind) for kind in kinds]
    if cursor is not None:
        query.append(("from", cursor))
    elif since is not None:
        query.append(("from_timestamp", since))
    opened = await client.open_stream("events", query, silence=SILENCE)
    if isinstance(opened, Answer):
        yield opened
        return
    try:
        yield EventStream(opened)
    finally:
        await opened.aclose()


def why_not_offered(answer: Answer) -> str | None:
    """The code of a refusal that lasts until somebody changes something; None for any other.

    Auth0 answers 403 both for a missing scope and for too many open streams.
    """
    if answer.verdict == "not-found":
        return NOT_OFFERED
    if answer.verdict != "forbidden":
        return None
    if "concurrent event stream" in answer.message:
        return TOO_MANY_STREAMS
    return NO_SCOPE if answer.lacks_scope else NOT_OFFERED


def lost_its_place(answer: Answer) -> bool:
    """Whether the offset is no longer good: too old, or none of this stream's."""
    return answer.status == 410 or (answer.status == 400 and "cursor" in answer.message.lower())


def _message(kind: str, data: str, id: str | None) -> Message | None:
    """None for what is no message, such as a hint on when to reconnect."""
    try:
        body: Any = orjson.loads(data) if data else None
    except orjson.JSONDecodeError:
        body = None
    known: Mapping[str, Any] = body if isinstance(body, dict) else {}
    if kind == "error":
        detail = known.get("error")
        told: Mapping[str, Any] = detail if isinstance(detail, dict) else {}
        return Message(offset=_text(told.get("offset")), error=str(told.get("code") or "error"))
    event = known.get("event")
    offset = _text(known.get("offset")) or id
    if not offset:
        return None
    return Message(offset=offset, event=event if isinstance(event, dict) else None)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
