"""What one rule says of one event: each key read by its expression, then the event that it makes. Pure.

Raises Unusable, which names the key at fault and no value; Ignore where the mapping says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, cast

import orjson

from consumers.cloudevents import MAX_BYTES, Envelope
from consumers.mappings import instants
from consumers.mappings.canonical import (
    Mapped,
    checked_worker_id,
    completed,
    sequence_of,
    validated,
    without_secrets,
)
from consumers.mappings.compiling import Attribute, Rule, Timing, Typing
from consumers.mappings.document import IGNORE, Enrich
from consumers.mappings.expressions import ABSENT, Expression, Root, Steps
from consumers.mappings.instants import Moment
from consumers.mappings.transforms import as_key, as_text
from consumers.unusable import Unusable
from service.workers import ATTRIBUTES, SNAPSHOT_COMPLETED, WorkerEvent

_RECORDED: Final = instants.formats(["rfc3339", "iso-basic", "local", "date", "ms-date"])
_LATEST_IN_SECONDS: Final = 100_000_000_000
_LONGEST_WORD: Final = 256


class Ignore(Exception):
    """The mapping says that this type of event is none of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Takes:
    """When an event takes effect: a moment, the zone it is meant in, and the end of its day."""

    moment: Moment
    zone: str | None
    boundary: instants.Boundary | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a rule says. A fact that is None, and an attribute that is missing, is not said."""

    type: str | None
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    takes: Takes | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    recorded_at: datetime | None = None

    def overlaid(self, over: Said) -> Said:
        """What holds where another rule has the later word."""
        told = {name: value for name, value in over.facts.items() if value is not None}
        return Said(
            type=over.type or self.type,
            facts={**self.facts, **told},
            takes=over.takes or self.takes,
            attributes={**self.attributes, **over.attributes},
            recorded_at=over.recorded_at or self.recorded_at,
        )


def word_of(rule: Rule, root: Root, steps: Steps) -> str | None:
    """The source's word for the type; the type where the rule has just one. Raises Unusable."""
    typing = rule.type
    if typing is None or typing.origin is None:
        return None if typing is None else typing.fixed
    value = typing.origin.value(root, steps)
    if value is None:
        return None
    try:
        word = as_key(value)
    except Unusable:
        raise Unusable("unmapped_type", "What names the type is no text.") from None
    printable = word.isprintable() and len(word.encode()) <= _LONGEST_WORD
    return word if printable and word else None


def said_by(
    rule: Rule, root: Root, steps: Steps, zone: str | None, word: str | None = None
) -> Said:
    """What this rule says of an event. ``zone``: for dates without one of their own. ``word``: the
    source's for the type, where it was looked for.
    """
    type = _type(rule.type, word or word_of(rule, root, steps))

    def value(expression: Expression | None) -> Any:
        return None if expression is None else expression.value(root, steps)

    return Said(
        type=type,
        facts={
            "worker_id": _worker_id(value(rule.subject)),
            "sequence": _integer(value(rule.sequence)),
            "immediate": None if rule.immediate is None else rule.immediate.holds(root, steps),
            "employment_id": _text(value(rule.employment_id), "employment_id"),
            "snapshot": _text(value(rule.snapshot), "snapshot"),
            "count": _integer(value(rule.count)),
            "organization": _text(value(rule.organization), "organization"),
            "groups": _groups(value(rule.groups)),
        },
        takes=_takes(rule.effective_at, root, steps, zone),
        attributes=_attributes(rule, root, steps),
        recorded_at=_recorded(value(rule.time), zone),
    )


def event_of(said: Said, envelope: Envelope | None, enrich: Enrich) -> Mapped:
    """The event that was said, validated as a canonical one is. Raises Unusable."""
    if said.type is None:
        raise Unusable("unmapped_type", "The mapping knows no such type of event.")
    ends_snapshot = said.type == SNAPSHOT_COMPLETED
    if said.facts.get("worker_id") is None and not ends_snapshot:
        raise Unusable("missing_worker_id", "Where the mapping looks there is no worker's id.")
    given = {name: value for name, value in said.facts.items() if value is not None}
    data = validated(given | {"attributes": dict(said.attributes)}, by="mapping")
    if ends_snapshot:
        return completed(data, _effective_at(said.takes, said.type, immediate=False))
    sequence = data.sequence
    if sequence is None and envelope is not None:
        sequence = sequence_of(envelope)
    return Mapped(
        organization=data.organization,
        event=WorkerEvent(
            type=said.type,
            worker_id=checked_worker_id(str(data.worker_id)),
            effective_at=_effective_at(said.takes, said.type, immediate=data.immediate),
            sequence=sequence,
            attributes=without_secrets(data.attributes),
            groups=tuple(data.groups) if data.groups is not None else None,
            immediate=data.immediate,
            employment_id=None if data.employment_id is None else str(data.employment_id),
            snapshot=data.snapshot,
        ),
        enrich=enrich,
        recorded_at=said.recorded_at,
    )


def _type(typing: Typing | None, word: str | None) -> str | None:
    if typing is None:
        return None
    found = typing.fixed
    if typing.origin is not None:
        found = typing.default if word is None else typing.table.get(word, typing.default)
        if found is None:
            raise Unusable("unmapped_type", "The mapping knows no such type of event.")
    if found == IGNORE:
        raise Ignore
    return found


def _takes(timing: Timing | None, root: Root, steps: Steps, zone: str | None) -> Takes | None:
    if timing is None or (timing.when is not None and not timing.when.holds(root, steps)):
        return None
    value = timing.origin.value(root, steps)
    if value is None or value == "":
        return None
    moment = instants.read(value, timing.formats)
    if moment is None:
        raise Unusable("invalid_effective_at", "effective_at is in none of the mapping's formats.")
    own = None if timing.zone is None else timing.zone.value(root, steps)
    if own is not None and not isinstance(own, str):
        raise Unusable("invalid_zone", "zone is not an IANA time zone.")
    return Takes(moment=moment, zone=own or zone, boundary=timing.boundary)


def _effective_at(takes: Takes | None, type: str, *, immediate: bool) -> datetime | None:
    if takes is None:
        return None
    boundary = takes.boundary or instants.boundary_of(type, immediate=immediate)
    return instants.begins(takes.moment, takes.zone, boundary)


def _recorded(value: Any, zone: str | None) -> datetime | None:
    """When the source wrote it, where that can be told. Nothing is refused for it."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        unit = "unix-ms" if abs(value) > _LATEST_IN_SECONDS else "unix"
        moment = instants.read(value, instants.formats(unit))
    else:
        moment = instants.read(value, _RECORDED)
    try:
        return None if moment is None else instants.begins(moment, zone or "UTC", "start")
    except Unusable:
        return None


def _attributes(rule: Rule, root: Root, steps: Steps) -> dict[str, Any]:
    said: dict[str, Any] = {}
    left = MAX_BYTES
    for attribute in rule.attributes:
        value = _attribute(attribute, rule.complete, root, steps)
        if value is ABSENT:
            continue
        value, size = _storable(attribute.name, value)
        left -= size
        if left < 0:
            raise Unusable("too_large", f"The attributes may have {MAX_BYTES} bytes at most.")
        said[attribute.name] = value
    return said


def _attribute(attribute: Attribute, complete: bool, root: Root, steps: Steps) -> Any:
    """Its value, None where it is cleared, ABSENT where nothing is said of it."""
    value = ABSENT
    try:
        value = attribute.read(root, steps)
        if value is ABSENT:
            if not complete:
                return ABSENT
            value = None
        elif value is None and not attribute.clears:
            return ABSENT
        for transform in attribute.transforms:
            value = transform(value)
        if value is None and not attribute.clears:
            return ABSENT
    except Unusable as problem:
        if problem.code != "invalid_attribute":
            raise
        raise Unusable(problem.code, f"attributes.{attribute.name} {problem.message}.") from None
    if (
        value is not None
        and attribute.name in ATTRIBUTES
        and not isinstance(value, (bool, list, dict))
    ):
        return as_text(value)
    return value


def _storable(name: str, value: Any) -> tuple[Any, int]:
    """The value as any JSON can hold it, and how long it is about."""
    if value is None or isinstance(value, bool):
        return value, 8
    if isinstance(value, str):
        return value, len(value)
    try:
        written = orjson.dumps(value)
    except (TypeError, RecursionError):
        raise Unusable(
            "invalid_attribute", f"attributes.{name} is nothing that JSON can hold."
        ) from None
    return orjson.loads(written), len(written)


def _worker_id(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        return checked_worker_id(str(value))
    raise Unusable("invalid_worker_id", "A worker's id is text or an integer.")


def _integer(value: Any) -> int | None:
    """Other values have no order that we know."""
    if isinstance(value, str) and value.lstrip("-").isdecimal() and len(value) < 19:
        try:
            return int(value)
        except ValueError:
            return None
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**62:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: Any, name: str) -> str | None:
    if value is None or value == "":
        return None
    try:
        return as_text(value)
    except Unusable:
        raise Unusable("invalid_data", f"{name} is neither text nor a number.") from None


def _groups(value: Any) -> list[str] | None:
    """A single group may come without its list; what has no name is no group."""
    if value is None:
        return None
    listed = cast("list[Any]", value) if isinstance(value, list) else [value]
    return [name for each in listed if (name := _text(each, "groups")) is not None]
