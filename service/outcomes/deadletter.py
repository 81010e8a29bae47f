"""The dead-letter record of an event that came from Kafka. Pure.

Key, value and headers as they came, and headers that say what went wrong; no stack traces.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from service.directory.events import Event
from service.directory.outbox import Outcome
from service.outcomes.catalogue import OutcomeType, full_name

RECORD_TIMESTAMP: Final = "kafka:timestamp"
"""Last of an event's stored headers: the record's timestamp, which is no header of its own."""
_CALLS_FOR_ONE: Final[tuple[OutcomeType, ...]] = ("event.deadlettered", "event.rejected")
REUSED: Final = "id_reuse_conflict"
_LONGEST_KEY: Final = 10_000
TYPES: Final = frozenset(full_name(outcome) for outcome in _CALLS_FOR_ONE)

Header = tuple[str, bytes | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """What is written to the dead-letter topic."""

    key: bytes | None
    value: bytes | None
    headers: list[Header]
    """First ``came`` of them as they came, then ours."""
    came: int = 0

    def smaller(self, refusals: int) -> DeadLetter:
        """What is left of it where brokers refused it for its size so many times. The rest stays in our
        database, under the event's id.
        """
        match refusals:
            case 0:
                return self
            case 1:
                return self.without_value()
            case _:
                return self._bare()

    def _bare(self) -> DeadLetter:
        key = self.key if len(self.key or b"") <= _LONGEST_KEY else None
        omitted: list[Header] = [("dlq-value-omitted", b"true"), ("dlq-headers-omitted", b"true")]
        if key != self.key:
            omitted.append(("dlq-key-omitted", b"true"))
        return DeadLetter(key=key, value=None, headers=[*self.headers[self.came :], *omitted])

    def without_value(self) -> DeadLetter:
        """For a broker that refuses its size: the bytes stay in our database, under the event's id."""
        return DeadLetter(
            key=self.key,
            value=None,
            headers=[*self.headers, ("dlq-value-omitted", b"true")],
            came=self.came,
        )


def dead_letter(
    event: Event,
    outcome: Outcome,
    *,
    group: str,
    service_version: str,
    origin: Event | None = None,
    replays: int = 0,
) -> DeadLetter:
    """The dead letter of ``event``, which ``outcome`` ended. ``origin``: the event that came from Kafka,
    where this is a replay of it, the how manieth ``replays`` says.
    """
    came = origin or event
    headers = [(str(name), _decoded(value)) for name, value in came.headers]
    timestamp: bytes | None = None
    if headers and headers[-1][0] == RECORD_TIMESTAMP:
        timestamp = headers.pop()[1]
    error: Mapping[str, Any] = outcome.data.get("error") or {}
    said: dict[str, object] = {
        "dlq-original-topic": came.topic,
        "dlq-original-partition": came.partition,
        "dlq-original-offset": came.offset,
        "dlq-original-timestamp": timestamp.decode() if timestamp else None,
        "dlq-group": group,
        "dlq-event-id": event.id,
        "dlq-tenant": event.organization,
        "dlq-reason": error.get("code"),
        "dlq-class": error.get("class"),
        "dlq-http-status": error.get("httpStatus"),
        "dlq-attempts": outcome.data.get("attempts", 1),
        "dlq-first-failed-at": outcome.data.get("firstFailedAt", outcome.created_at.isoformat()),
        "dlq-last-failed-at": outcome.created_at.isoformat(),
        "dlq-service-version": service_version,
        "dlq-mapping-version": event.mapping,
        # Of an id that was used before, the cause is that event, and this one no replay of it.
        "dlq-replay-of": None if error.get("code") == REUSED else event.causation_id,
        "dlq-replay-count": replays or None,
        # Where other tools look for it.
        "kafka_dlt-original-topic": came.topic,
        "kafka_dlt-original-partition": came.partition,
        "kafka_dlt-original-offset": came.offset,
        "kafka_dlt-original-timestamp": timestamp.decode() if timestamp else None,
        "kafka_dlt-original-consumer-group": group,
        **_trace(event, headers),
    }
    added = [(name, str(value).encode()) for name, value in said.items() if value is not None]
    return DeadLetter(key=came.key, value=came.body, headers=[*headers, *added], came=len(headers))


def _trace(event: Event, headers: Sequence[Header]) -> dict[str, str | None]:
    """The trace as bare headers, where the record came without: it may stand in the event itself."""
    if any(name.lower() in ("traceparent", "ce_traceparent") for name, _ in headers):
        return {}
    return {"traceparent": event.traceparent, "tracestate": event.tracestate}


def _decoded(value: str | None) -> bytes | None:
    return None if value is None else base64.b64decode(value)
