"""From a mapping's document to what reads payloads: everything that can be settled is settled here.

Raises ConfigurationError where an expression, a format or a type is none. Reads nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

from consumers.mappings import document as d
from consumers.mappings import instants, transforms
from consumers.mappings.canonical import canonical_type
from consumers.mappings.expressions import (
    ABSENT,
    Expression,
    InvalidExpression,
    Root,
    Steps,
)
from consumers.mappings.transforms import Transform
from consumers.unusable import Unusable
from service.errors import ConfigurationError

ReadValue = Callable[[Root, Steps], Any]
"""A value, null, or ABSENT where the payload says nothing of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Typing:
    """``fixed``, or by the word that ``origin`` finds."""

    fixed: str | None
    origin: Expression | None
    table: Mapping[str, str]
    default: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    origin: Expression
    formats: tuple[instants.Format, ...]
    zone: Expression | None
    boundary: Literal["start", "end"] | None
    when: Expression | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """``clears``: whether a null that was read clears the attribute; else null says nothing."""

    name: str
    read: ReadValue
    transforms: tuple[Transform, ...]
    clears: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule, ready to read."""

    name: str
    match: Expression | None
    split: Expression | None
    id: Expression | None
    subject: Expression | None
    time: Expression | None
    type: Typing | None
    effective_at: Timing | None
    sequence: Expression | None
    immediate: Expression | None
    employment_id: Expression | None
    snapshot: Expression | None
    count: Expression | None
    organization: Expression | None
    groups: Expression | None
    complete: bool
    enrich: d.Enrich
    attributes: tuple[Attribute, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """A mapping that reads. ``zone``: of dates, where neither payload nor source has one."""

    name: str
    version: int
    title: str
    zone: str | None
    rules: tuple[Rule, ...]
    enriched: tuple[Rule, ...]
    samples: tuple[d.Sample, ...]

    @property
    def label(self) -> str:
        """Name and version, as events and outcomes tell it."""
        return f"{self.name}@{self.version}"


def compiled(document: d.Document, *, where: str) -> Compiled:
    """Raises ConfigurationError that names the place, such as ``rules[hires].subject``."""
    if document.zone is not None:
        with _at(f"{where}: zone"):
            instants.known_zone(document.zone)
    return Compiled(
        name=document.mapping,
        version=document.version,
        title=document.title,
        zone=document.zone,
        rules=tuple(_rules(document.rules, f"{where}: rules")),
        enriched=tuple(_rules(document.enriched, f"{where}: enriched")),
        samples=tuple(document.tests),
    )


def _rules(rules: Sequence[d.Rule | d.EnrichedRule], where: str) -> Iterator[Rule]:
    for index, rule in enumerate(rules):
        yield _rule(rule, f"{where}[{rule.name or index}]")


def _rule(rule: d.Rule | d.EnrichedRule, where: str) -> Rule:
    def expression(key: str) -> Expression | None:
        text: str | None = getattr(rule, key)
        return None if text is None else _expression(text, f"{where}.{key}")

    whole = isinstance(rule, d.Rule)
    return Rule(
        name=rule.name,
        match=expression("match"),
        split=expression("split") if whole else None,
        id=expression("id"),
        subject=expression("subject"),
        time=expression("time"),
        type=_typing(rule.type, f"{where}.type"),
        effective_at=_timing(rule.effective_at, f"{where}.effective_at"),
        sequence=expression("sequence"),
        immediate=expression("immediate"),
        employment_id=expression("employment_id"),
        snapshot=expression("snapshot"),
        count=expression("count"),
        organization=expression("organization"),
        groups=expression("groups"),
        complete=rule.complete,
        enrich=rule.enrich if whole else "never",
        attributes=tuple(
            _attribute(name, each, rule.complete, f"{where}.attributes.{name}")
            for name, each in rule.attributes.items()
        ),
    )


def _typing(given: str | d.TypeTable | None, where: str) -> Typing | None:
    if given is None:
        return None
    if isinstance(given, str):
        return Typing(fixed=_type(given, where), origin=None, table={}, default=None)
    return Typing(
        fixed=None,
        origin=_expression(given.from_, f"{where}.from"),
        table={word: _type(meant, f"{where}.table.{word}") for word, meant in given.table.items()},
        default=None if given.default is None else _type(given.default, f"{where}.default"),
    )


def _type(name: str, where: str) -> str:
    if name == d.IGNORE:
        return name
    found = canonical_type(name)
    if found is None:
        raise ConfigurationError(f"{where}: {name} is no canonical type, nor {d.IGNORE}.")
    return found


def _timing(given: d.EffectiveAt | None, where: str) -> Timing | None:
    if given is None:
        return None
    with _at(f"{where}.format"):
        formats = instants.formats(given.format)
    return Timing(
        origin=_expression(given.from_, f"{where}.from"),
        formats=formats,
        zone=None if given.zone is None else _expression(given.zone, f"{where}.zone"),
        boundary=given.boundary,
        when=None if given.when is None else _expression(given.when, f"{where}.when"),
    )


def _attribute(name: str, given: d.Attribute, complete: bool, where: str) -> Attribute:
    read, tells = _origin(given, where)
    clears = tells if given.null is None else given.null == "clears"
    with _at(f"{where}.with"):
        steps = tuple(_transform(each) for each in given.with_)
    return Attribute(name=name, read=read, transforms=steps, clears=clears or complete)


def _origin(given: d.Attribute, where: str) -> tuple[ReadValue, bool]:
    """How the value is read, and whether null is told apart from what is absent on the way."""
    if given.from_ is not None:
        only = _expression(given.from_, f"{where}.from")
        return only.found, only.path is not None
    texts, key = (given.coalesce, "coalesce") if given.coalesce else (given.concat or [], "concat")
    parts = tuple(_expression(text, f"{where}.{key}") for text in texts)
    told = all(part.path is not None for part in parts)
    if given.coalesce:
        return _coalesce(parts), told
    return _concat(parts, given.separator or "", skip=given.absent == "skip"), told


def _coalesce(parts: Sequence[Expression]) -> ReadValue:
    """The first that is not null. Null only where every one of them is there, and null."""

    def read(root: Root, steps: Steps) -> Any:
        absent = False
        for part in parts:
            found = part.found(root, steps)
            if found is ABSENT:
                absent = True
            elif found is not None:
                return found
        return ABSENT if absent else None

    return read


def _concat(parts: Sequence[Expression], separator: str, *, skip: bool) -> ReadValue:
    """What is there and not empty, joined. With a part missing it would be half a name: ABSENT."""

    def read(root: Root, steps: Steps) -> Any:
        found = [part.found(root, steps) for part in parts]
        there = [each for each in found if each is not ABSENT]
        if not there or (len(there) < len(found) and not skip):
            return ABSENT
        texts = [transforms.as_text(each).strip() for each in there if each is not None]
        return separator.join(text for text in texts if text) or None

    return read


_PLAIN: Final[Mapping[str, Transform]] = {
    "strip": transforms.strip,
    "lower": transforms.lower,
}


def _transform(given: Any) -> Transform:
    match given:
        case str():
            return _PLAIN[given]
        case d.Lookup():
            return transforms.lookup(given.lookup)
        case d.Default():
            return transforms.default(given.default)
        case d.ParseDate():
            return transforms.parse_date(given.parse_date)
        case d.FullNameSplit():
            return transforms.full_name_split(given.full_name_split)
        case _:
            raise AssertionError(f"no transform: {given}")


def _expression(text: str, where: str) -> Expression:
    with _at(where):
        return Expression(text)


@contextmanager
def _at(where: str) -> Generator[None]:
    try:
        yield
    except (InvalidExpression, instants.InvalidFormat) as error:
        raise ConfigurationError(f"{where}: {error}.") from None
    except Unusable as problem:
        raise ConfigurationError(f"{where}: {problem.message}") from None
