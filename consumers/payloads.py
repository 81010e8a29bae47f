"""From the request of a webhook to its inputs: CloudEvents or plain JSON, by the source's mapping. Pure.

A stored event's body and headers read the same way again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import structlog

from consumers.admission import Input
from consumers.cloudevents import Item, Plain, trace_of_request
from consumers.faults import place_of
from consumers.mappings.canonical import canonical, canonical_type, in_zone
from consumers.mappings.compiling import Compiled
from consumers.mappings.engine import UNREADABLE, Arrived, Found, Result, read, unread
from consumers.settling import CHILD_HEADER, body_of, child_of, of_cloudevent, settled, traced
from consumers.unusable import Unusable
from service.directory.inbox import Received

SOURCE_HEADER: Final = "provisioner-source"
"""Beside an event of a webhook: the source that it came by, whose mapping reads it."""

_log = structlog.stdlib.get_logger(__name__)
_OURS: Final = "provisioner-"
_SECRET: Final = (
    *("auth", "cookie", "token", "secret", "key", "signature", "password", "passwd"),
    *("credential", "session", "jwt", "hmac", "digest"),
)
_MOST_HEADERS: Final = 50
_LONGEST_HEADER: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """A source that takes webhooks, for the organization of the path that was used."""

    source: str
    organization: str
    declared: Compiled | None
    """None: it reads CloudEvents in canonical form only."""
    zone: str | None
    asks: bool = False
    """Whether the source says whom to ask about a worker whom an event only names."""


def kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that a mapping may read and that are stored: none that may hold a secret."""
    kept = {
        name.lower(): value
        for name, value in headers.items()
        if len(value) <= _LONGEST_HEADER
        and not name.lower().startswith((_OURS, "ce-"))
        and not any(word in name.lower() for word in _SECRET)
    }
    return dict(list(kept.items())[:_MOST_HEADERS])


def inputs(
    sent: Sequence[Item] | Plain,
    hook: Hook,
    *,
    body: bytes,
    headers: Mapping[str, str],
    now: datetime,
    fetched: Any = None,
) -> list[tuple[str, Input]]:
    """Each event of a request with its id. Unusable ones are inputs, too, which end at once.

    ``headers``: as ``kept_headers`` leaves them. ``fetched``: what was answered about the worker
    whom it names. Never raises.
    """
    if isinstance(sent, Plain):
        received = _received(
            hook, body, [*_stored(headers), ("content-type", "application/json")], now
        )
        return _read(_arrived(sent, hook, headers, now, fetched), hook, received)
    found: list[tuple[str, Input]] = []
    for item in sent:
        kept = [*_stored(headers), *item.headers]
        received = of_cloudevent(_received(hook, item.body, kept, now), item.envelope)
        found += _read(_arrived(item, hook, headers, now, fetched), hook, received)
    return found


def _read(arrived: Arrived, hook: Hook, received: Received) -> list[tuple[str, Input]]:
    asks = hook.source if hook.asks else None
    answered = arrived.fetched is not None
    return [
        (
            each.id,
            settled(
                each.result,
                _received_for(each, received, arrived),
                [hook.organization],
                asks=asks,
                answered=answered,
            ),
        )
        for each in _found(arrived, hook)
    ]


def _found(arrived: Arrived, hook: Hook) -> list[Found]:
    envelope = arrived.envelope
    try:
        if envelope is not None and (
            hook.declared is None or canonical_type(envelope.type) is not None
        ):
            result: Result = in_zone(canonical, hook.zone)(envelope)
            return [replace(unread(Unusable("", ""), arrived), result=result)]
        if hook.declared is None:
            raise Unusable(
                "not_a_cloudevent",
                "The source has no mapping for plain JSON: declare one, then replay the event.",
            )
        return read(hook.declared, arrived)
    except Unusable as problem:
        return [unread(problem, arrived)]
    except Exception as error:
        _log.error("events.mapping_crash", source=hook.source, error=place_of(error))
        crash = Unusable("mapping_crash", "The mapping failed on this event: mend it, then replay.")
        return [unread(crash, arrived)]


def _arrived(
    sent: Item | Plain, hook: Hook, headers: Mapping[str, str], now: datetime, fetched: Any
) -> Arrived:
    envelope = sent.envelope if isinstance(sent, Item) else None
    return Arrived(
        payload=sent.payload if isinstance(sent, Plain) else sent.envelope.data,
        source=hook.source if envelope is None else envelope.source,
        at=now,
        envelope=envelope,
        headers={name: value for name, value in headers.items() if not name.startswith(_OURS)},
        zone=hook.zone,
        # The same payload on another day is another event, unless it says when it was written.
        recorded=now.date().isoformat(),
        child=child_of(headers.get(CHILD_HEADER)),
        fetched=fetched,
    )


def _received(
    hook: Hook, body: bytes, headers: Sequence[tuple[str, str]], now: datetime
) -> Received:
    return Received(
        door="http",
        source=hook.source,
        type=UNREADABLE,
        at=now,
        body=body,
        headers=[*headers, (SOURCE_HEADER, hook.source)],
        mapping=hook.declared.label if hook.declared is not None else None,
        **traced(trace_of_request(dict(headers))),
    )


def _received_for(each: Found, received: Received, arrived: Arrived) -> Received:
    received = replace(received, source_id=each.id, type=each.type, content=each.content)
    if each.child is None or arrived.child is not None:
        return received
    headers = [*received.headers, (CHILD_HEADER, str(each.child))]
    return replace(received, body=body_of(each, arrived, received.body), headers=headers)


def _stored(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers.items() if name != "content-type"]
