"""Reads one input by a declared mapping: which events it holds, and what each of them says. Pure.

Total: whatever JSON comes in, each event is Mapped, Ignored or Unusable, and nothing is raised.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, cast

import orjson

from consumers.cloudevents import MAX_BYTES, Envelope, content_of
from consumers.mappings.canonical import Mapped
from consumers.mappings.compiling import Compiled, Rule
from consumers.mappings.expressions import Root, Steps
from consumers.mappings.saying import Ignore, event_of, said_by, word_of
from consumers.unusable import Unusable
from service.directory.replays import IGNORED

UNREADABLE: Final = "unreadable"
"""The type of an input whose type cannot be told."""
MAX_EVENTS: Final = 1000
"""Most events of one input."""
_MAX_SPLIT_BYTES: Final = 16 * MAX_BYTES
_LONGEST_ID: Final = 500
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """One input as a door parsed it. ``payload``: its JSON, of a CloudEvent its data.

    ``source``: whose ids it is told apart by. ``recorded``: when it was written, as far as the door
    knows, where it must be told apart from the same payload at another time. ``child``: its place
    where it was split off before. ``fetched``: what was asked about the worker since.
    """

    payload: Any
    source: str
    at: datetime
    envelope: Envelope | None = None
    key: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    zone: str | None = None
    recorded: str = ""
    child: int | None = None
    fetched: Any = None
    delivery: str = ""
    """What a ``time`` that reads ``received_at`` stands for in a derived id: the same whenever this
    very delivery is read. Empty: the time itself.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignored:
    """The mapping says that this is no event of a worker."""

    code: str = IGNORED
    message: str = "The mapping ignores events of this type."


Result = Mapped | Ignored | Unusable


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One event of an input.

    ``id``: the source's own, else derived, the same at every delivery. ``type``: the source's word.
    ``child``: its place among those that the input was split into, None where it was not.
    ``payload``: what is to be kept of the input for it, which reads to it alone, by ``child``.
    ``content``: what makes it the same event when its id comes again.
    """

    id: str
    type: str
    result: Result
    content: bytes
    child: int | None = None
    payload: Any = None


def read(mapping: Compiled, arrived: Arrived) -> list[Found]:
    """The events of an input, in its order; never none."""
    steps = Steps()
    root: dict[str, Any] = {
        "payload": arrived.payload,
        "whole": arrived.payload,
        "envelope": _told(arrived.envelope),
        "key": arrived.key,
        "headers": arrived.headers,
        "received_at": arrived.at.isoformat(),
        "fetched": arrived.fetched,
    }
    try:
        rule = _matching(mapping.rules, root, steps)
        if rule is None:
            raise Unusable("no_rule_matches", f"No rule of the mapping {mapping.name} reads this.")
        if rule.split is None:
            return [_one(mapping, rule, arrived, root, steps)]
        return _split(mapping, rule, arrived, root, steps)
    except Unusable as problem:
        return [unread(problem, arrived)]


def _matching(rules: Sequence[Rule], root: Root, steps: Steps) -> Rule | None:
    for rule in rules:
        if rule.match is None or _holds(rule, root, steps):
            return rule
    return None


def _holds(rule: Rule, root: Root, steps: Steps) -> bool:
    """A function that cannot take what it finds makes a payload another rule's, not unusable."""
    assert rule.match is not None
    try:
        return rule.match.holds(root, steps)
    except Unusable as problem:
        if problem.code != "expression_failed":
            raise
        return False


def _one(mapping: Compiled, rule: Rule, arrived: Arrived, root: Root, steps: Steps) -> Found:
    result, word = _result(mapping, rule, arrived, root, steps)
    try:
        own = _own_id(rule, root, steps)
        content = _content(arrived)
        return Found(
            id=own or _id_of_whole(rule, word, arrived, root, steps),
            type=word,
            result=result,
            content=content,
        )
    except Unusable as problem:
        return replace(unread(problem, arrived), type=word)


def _split(
    mapping: Compiled, rule: Rule, arrived: Arrived, root: Root, steps: Steps
) -> list[Found]:
    assert rule.split is not None
    elements = rule.split.value(root, steps)
    if not isinstance(elements, list):
        raise Unusable("not_a_list", "What this is to be split into is not a list.")
    listed = list(enumerate(cast("list[Any]", elements)))
    if arrived.child is not None:
        listed = _at(listed, arrived.child)
    if len(listed) > MAX_EVENTS:
        raise Unusable("too_many_events", f"One input may hold {MAX_EVENTS} events at most.")
    if not listed:
        return [_empty(arrived)]
    path = rule.split.path
    in_payload = path[1:] if path is not None and path[0] in ("payload", "whole") else None
    whole_bytes = len(_dumped(arrived.payload)) if in_payload is None else 0
    parent = _id_of_whole(rule, "", arrived, root, steps)
    found: list[Found] = []
    kept = 0
    for index, element in listed:
        below = {**root, "payload": element}
        payload = (
            arrived.payload if in_payload is None else _only(arrived.payload, in_payload, element)
        )
        content = _dumped(element if in_payload is None else payload)
        kept += whole_bytes + len(content)
        if kept > _MAX_SPLIT_BYTES:
            raise Unusable("too_large", "Its events repeat too much of it: send fewer at once.")
        result, word = _result(mapping, rule, arrived, below, steps)
        try:
            own = _own_id(rule, below, steps)
        except Unusable as problem:
            own, result = None, problem
        found.append(
            Found(
                id=own or f"{parent}/{index}",
                type=word,
                result=result,
                content=content,
                child=index,
                payload=payload,
            )
        )
    return _told_apart(found)


def _at(listed: list[tuple[int, Any]], child: int) -> list[tuple[int, Any]]:
    """The one child of an input that was split before."""
    if len(listed) == 1:
        return [(child, listed[0][1])]
    if child < len(listed):
        return [listed[child]]
    raise Unusable("not_a_list", "The event that was split off is no longer found in its input.")


def _told_apart(found: list[Found]) -> list[Found]:
    """Siblings that name the same id, since it is the whole's, are told apart by their place."""
    often = Counter(each.id for each in found)
    return [
        replace(each, id=f"{each.id}/{each.child}") if often[each.id] > 1 else each
        for each in found
    ]


def _result(
    mapping: Compiled, rule: Rule, arrived: Arrived, root: Root, steps: Steps
) -> tuple[Result, str]:
    """What an event says, and the source's word for its type."""
    word = arrived.envelope.type if arrived.envelope is not None else UNREADABLE
    zone = arrived.zone or mapping.zone
    try:
        own = word_of(rule, root, steps)
        if arrived.envelope is None:
            word = own or UNREADABLE
        said = said_by(rule, root, steps, zone, own)
        enrich = rule.enrich
        if arrived.fetched is not None and mapping.enriched:
            over = _matching(mapping.enriched, root, steps)
            if over is None:
                raise Unusable("no_rule_matches", "No rule under enriched reads what was fetched.")
            said = said.overlaid(said_by(over, root, steps, zone))
            enrich = "never"
        return event_of(said, arrived.envelope, enrich), word
    except Ignore:
        return Ignored(), word
    except Unusable as problem:
        return problem, word


def _own_id(rule: Rule, root: Root, steps: Steps) -> str | None:
    value = rule.id.value(root, steps) if rule.id is not None else None
    if value is None or value == "":
        return None
    text = str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    if not text or len(text.encode()) > _LONGEST_ID or _CONTROL.search(text):
        raise Unusable(
            "invalid_id", f"An event's id is text of {_LONGEST_ID} bytes at most, or an integer."
        )
    return text


def _id_of_whole(rule: Rule, word: str, arrived: Arrived, root: Root, steps: Steps) -> str:
    """Of a CloudEvent its own; else derived from source, type, subject, time and body."""
    if arrived.envelope is not None:
        return arrived.envelope.id
    subject = rule.subject.value(root, steps) if rule.subject is not None else None
    if arrived.delivery:
        root = {**root, "received_at": arrived.delivery}
    time = rule.time.value(root, steps) if rule.time is not None else None
    recorded = arrived.recorded if time is None else time
    return _derived([arrived.source, word, subject, recorded, arrived.payload])


def _derived(known: list[Any]) -> str:
    return hashlib.sha256(_dumped(known)).hexdigest()[:40]


def unread(problem: Unusable, arrived: Arrived) -> Found:
    """The whole input, which cannot be used."""
    envelope = arrived.envelope
    return Found(
        id=_unread_id(arrived),
        type=UNREADABLE if envelope is None else envelope.type,
        result=problem,
        content=_content(arrived),
        child=arrived.child,
        payload=arrived.payload if arrived.child is not None else None,
    )


def _empty(arrived: Arrived) -> Found:
    nothing = Ignored(message="The list that this is split into is empty.")
    return Found(
        id=_unread_id(arrived),
        type=UNREADABLE if arrived.envelope is None else arrived.envelope.type,
        result=nothing,
        content=_content(arrived),
    )


def _unread_id(arrived: Arrived) -> str:
    if arrived.envelope is not None:
        return arrived.envelope.id
    return _derived([arrived.source, arrived.recorded, arrived.payload])


def _content(arrived: Arrived) -> bytes:
    return content_of(arrived.envelope) if arrived.envelope else _dumped(arrived.payload)


def _dumped(value: Any) -> bytes:
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    except TypeError:
        raise Unusable("invalid_data", "This event cannot be written as JSON again.") from None


def _only(payload: Any, path: Sequence[str], element: Any) -> Any:
    """The payload with the list at this path holding one element alone."""
    if not path:
        return [element]
    members = cast("dict[str, Any]", payload)
    return members | {path[0]: _only(members[path[0]], path[1:], element)}


def _told(envelope: Envelope | None) -> dict[str, Any] | None:
    if envelope is None:
        return None
    return {
        "id": envelope.id,
        "source": envelope.source,
        "type": envelope.type,
        "subject": envelope.subject,
        "time": envelope.time.isoformat() if envelope.time else None,
    }
