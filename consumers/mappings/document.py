"""The YAML document of a declared mapping: its keys, what each may hold, and where a mistake stands.

Knows the shape only; ``consumers.mappings.compiling`` makes it work.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from typing import Annotated, Any, Final, Literal, Self, cast

import orjson
import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from service.errors import ConfigurationError
from service.misspelt import said
from service.organizations import MAPPING_NAME
from service.workers import SNAPSHOT_COMPLETED

MAX_FILE: Final = 1024 * 1024
_MOST_NODES: Final = 200_000

Text = Annotated[str, StringConstraints(min_length=1)]
Expression = Annotated[str, StringConstraints(min_length=1)]
Enrich = Literal["never", "optional", "required"]
IGNORE: Final = "ignore"


def _keyed_by_text(value: Any) -> Any:
    """YAML reads a bare ``true`` or ``1`` as no text; as keys they stand for themselves."""
    if not isinstance(value, dict):
        return value
    return {_key(key): held for key, held in cast("dict[Any, Any]", value).items()}


def _key(key: Any) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    return "null" if key is None else str(key)


class Part(BaseModel):
    """A part of a mapping: frozen, and a key that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _keys_are_text(cls, data: Any) -> Any:
        return _keyed_by_text(data)


class TypeTable(Part):
    """The type by a word of the source. ``ignore`` as a type: the event ends as discarded."""

    from_: Expression = Field(alias="from")
    table: Annotated[dict[str, Text], BeforeValidator(_keyed_by_text)] = {}
    default: Text | None = None


class EffectiveAt(Part):
    from_: Expression = Field(alias="from")
    format: str | list[str] = ["rfc3339", "date", "local"]
    zone: Expression | None = None
    boundary: Literal["start", "end"] | None = None
    when: Expression | None = None


class Lookup(Part):
    lookup: Annotated[dict[str, Any], BeforeValidator(_keyed_by_text)]


class Default(Part):
    default: Any


class ParseDate(Part):
    parse_date: str | list[str]


class FullNameSplit(Part):
    full_name_split: Literal["given", "family"]


_TRANSFORMS: Final[Mapping[str, type[Part]]] = {
    "lookup": Lookup,
    "default": Default,
    "parse_date": ParseDate,
    "full_name_split": FullNameSplit,
}


def _one_transform(value: Any) -> Any:
    """Chosen by its key, so that a mistake is told for the transform that was meant."""
    if value in ("strip", "lower") or isinstance(value, Part):
        return value
    if isinstance(value, dict) and len(value) == 1:
        (name,) = cast("dict[Any, Any]", value)
        if name in _TRANSFORMS:
            return _TRANSFORMS[name].model_validate(value)
    raise ValueError(
        f"a transform is strip, lower, or one of {', '.join(_TRANSFORMS)}: with a value"
    )


Transform = Annotated[
    Literal["strip", "lower"] | Lookup | Default | ParseDate | FullNameSplit,
    BeforeValidator(_one_transform),
]


class Attribute(Part):
    """Where an attribute comes from, and what is done with it on the way."""

    from_: Expression | None = Field(default=None, alias="from")
    coalesce: list[Expression] | None = Field(default=None, min_length=1, max_length=20)
    concat: list[Expression] | None = Field(default=None, min_length=1, max_length=20)
    separator: str | None = None
    with_: list[Transform] = Field(default=[], alias="with", max_length=20)
    null: Literal["clears", "ignored"] | None = None
    """Absent: null clears where it is told apart from what is not there."""
    absent: Literal["skip"] | None = None
    """``concat`` alone: a part that is not there is left out; else nothing is said then."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        given = [self.from_, self.coalesce, self.concat]
        if sum(each is not None for each in given) != 1:
            raise ValueError("name exactly one of from, coalesce and concat")
        if self.concat is None and (self.separator is not None or self.absent is not None):
            raise ValueError("separator and absent go with concat")
        return self


def _short_form(value: Any) -> Any:
    return {"from": value} if isinstance(value, str) else value


AttributeName = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class Facts(Part):
    """What a rule may say of a worker; each key is an expression, or has expressions in it."""

    name: str = ""
    id: Expression | None = None
    subject: Expression | None = None
    time: Expression | None = None
    type: Text | TypeTable | None = None
    effective_at: Annotated[EffectiveAt | None, BeforeValidator(_short_form)] = None
    sequence: Expression | None = None
    immediate: Expression | None = None
    employment_id: Expression | None = None
    snapshot: Expression | None = None
    count: Expression | None = None
    organization: Expression | None = None
    groups: Expression | None = None
    complete: bool = False
    attributes: dict[AttributeName, Annotated[Attribute, BeforeValidator(_short_form)]] = Field(
        default={}, max_length=200
    )


class Rule(Facts):
    """Reads the payloads that it matches, and each element of their list where it splits them."""

    match: Expression | None = None
    split: Expression | None = None
    enrich: Enrich = "never"

    @model_validator(mode="after")
    def _says_what_and_who(self) -> Self:
        if self.type is None:
            raise ValueError("type: missing, say which type of event this is")
        if self.subject is None and self.type not in (IGNORE, SNAPSHOT_COMPLETED):
            raise ValueError("subject: missing, say where the worker's id is")
        return self


class EnrichedRule(Facts):
    """Reads what was fetched for an event; what it says goes over what the event itself said."""

    match: Expression | None = None


class SampleEnvelope(Part):
    """A CloudEvent of a test."""

    id: Text = "sample-1"
    source: Text = "/sample"
    type: Text
    subject: str | None = None
    time: str | None = None
    data: Any = None


class Refusal(Part):
    unusable: Text


class Expected(Part):
    """One event. Keys that are named must be equal, attributes whole."""

    type: Text | None = None
    id: str | None = None
    worker_id: str | None = None
    organization: str | None = None
    effective_at: str | None = None
    sequence: int | None = None
    immediate: bool | None = None
    employment_id: str | None = None
    snapshot: str | None = None
    count: int | None = None
    groups: list[str] | None = None
    attributes: dict[str, Any] | None = None
    enrich: Enrich | None = None
    ignored: Literal[True] | None = None
    unusable: Text | None = None


class Sample(Part):
    """A test: what comes in, and what is to come of it."""

    name: Text
    payload: Any = None
    envelope: SampleEnvelope | None = None
    key: str | None = None
    headers: Annotated[dict[str, str], BeforeValidator(_keyed_by_text)] = {}
    fetched: Any = None
    received_at: str | None = None
    zone: str | None = None
    expect: list[Expected] | Literal["ignored"] | Refusal

    @model_validator(mode="after")
    def _one_payload(self) -> Self:
        if ("payload" in self.model_fields_set) == (self.envelope is not None):
            raise ValueError("give either a payload or an envelope")
        return self


class Document(Part):
    """A whole mapping, as its file has it."""

    mapping: Annotated[str, StringConstraints(pattern=MAPPING_NAME)]
    version: Annotated[int, Field(ge=1, lt=2**31)]
    title: Annotated[str, StringConstraints(max_length=200)] = ""
    documentation: list[str] = []
    zone: str | None = None
    rules: Annotated[list[Rule], Field(min_length=1, max_length=100)]
    enriched: Annotated[list[EnrichedRule], Field(max_length=100)] = []
    tests: Annotated[list[Sample], Field(max_length=500)] = []


def parse(text: str, *, where: str) -> Document:
    """The mapping in a YAML text. ``where`` names it in errors. Raises ConfigurationError that says
    where the mistake stands, such as ``rules[hires].attributes.email``.
    """
    if len(text) > MAX_FILE:
        raise ConfigurationError(f"{where}: a mapping may have {MAX_FILE} characters at most.")
    try:
        document = yaml.load(text, Loader=_Loader)  # noqa: S506 - it is a safe loader
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigurationError(f"{where}: not YAML: {' '.join(str(error).split())}.") from None
    _check_size(document, where)
    return from_document(document, where=where)


def from_document(document: Any, *, where: str) -> Document:
    """The mapping in a document that was read from YAML or JSON. Raises ConfigurationError."""
    if not isinstance(document, dict):
        raise ConfigurationError(f"{where}: a mapping has the keys mapping, version and rules.")
    try:
        return Document.model_validate(document)
    except ValidationError as error:
        mistakes = "\n".join(
            f"{where}: {place(cast('dict[Any, Any]', document), mistake['loc'])}:"
            f" {said(mistake, Document)}"
            for mistake in error.errors(include_url=False)[:20]
        )
        raise ConfigurationError(mistakes) from None


def place(document: Mapping[Any, Any], location: tuple[int | str, ...]) -> str:
    """``rules[hires].attributes.email``: list items by name where they have one.

    What pydantic adds of its own, such as the member of a union, is left out.
    """
    told, here = "", cast("Any", document)
    for part in location:
        if isinstance(part, int) and isinstance(here, list):
            items = cast("list[Any]", here)
            here = items[part] if part < len(items) else None
            name = cast("dict[Any, Any]", here).get("name") if isinstance(here, dict) else None
            told += f"[{name if isinstance(name, str) and name else part}]"
        elif isinstance(here, dict):
            members = cast("dict[Any, Any]", here)
            if part not in members and told and part != location[-1]:
                continue
            told += f".{part}" if told else str(part)
            here = members.get(part)
    return told or "the file"


def _check_size(document: Any, where: str) -> None:
    """Counts what aliases repeat, too: a short text can stand for an endless one."""
    left, waiting = _MOST_NODES, [document]
    while waiting:
        value = waiting.pop()
        left -= 1
        if left < 0:
            raise ConfigurationError(f"{where}: the mapping is too large, or repeats too much.")
        if isinstance(value, dict):
            waiting += cast("dict[Any, Any]", value).values()
            waiting += cast("dict[Any, Any]", value)
        elif isinstance(value, list):
            waiting += cast("list[Any]", value)
        elif not _can_be_stored(value):
            raise ConfigurationError(
                f"{where}: the mapping holds a character or a number that no database can store."
            )


def _can_be_stored(value: Any) -> bool:
    try:
        return b"\\u0000" not in orjson.dumps(value)
    except TypeError:  # a lone surrogate, more than 64 bits, or nothing that JSON has
        return False


_BOOL: Final = "tag:yaml.org,2002:bool"
_PATTERNS: Final[Mapping[str, re.Pattern[str]]] = {
    "tag:yaml.org,2002:int": re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"),
    "tag:yaml.org,2002:float": re.compile(r"^[-+]?[0-9]+\.[0-9]+(?:[eE][-+]?[0-9]+)?$"),
}
"""Numbers as JSON has them. To YAML 1.1 ``12:30`` is 750 and ``0042`` is 34: here they stay text."""


class _Loader(yaml.SafeLoader):
    """YAML whose dates stay text, as do ``yes``, ``no``, ``on`` and ``off``; no key twice."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as the class above has it
        first: [
            (tag, _PATTERNS.get(tag, pattern))
            for tag, pattern in known
            if tag != "tag:yaml.org,2002:timestamp" and not (tag == _BOOL and first not in "tTfF")
        ]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    _merged = 0

    def flatten_mapping(self, node: Any) -> None:
        """As above, but what merges of merges repeat is counted: it grows without bound."""
        super().flatten_mapping(node)
        self._merged += len(node.value)
        if self._merged > _MOST_NODES:
            raise yaml.constructor.ConstructorError(
                None, None, "its merge keys repeat too much", node.start_mark
            )

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        if isinstance(node, yaml.MappingNode):
            for key, _ in node.value:
                if key.tag == "tag:yaml.org,2002:merge":
                    continue
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value} stands here twice", key.start_mark
                    )
                seen.add(key.value)
                if isinstance(key, yaml.ScalarNode):
                    # JSON has no other keys; and as Python's, true and 1 would be the same.
                    key.value = key.value.lower() if key.tag == _BOOL else key.value
                    key.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep=deep)
