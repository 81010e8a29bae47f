"""Whether today's schemas still fit those that were released: both ways, and why that. Pure.

The topic keeps records of before and after an upgrade, and has readers of before and after it. So a
reader who knows the released schema must make sense of what is written today, and one who knows
today's of what was written then: members stay, with their types and values, and new ones are optional.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

Schema = Mapping[str, Any]

_WORDS: Final = frozenset(
    ("description", "title", "examples", "default", "$id", "$schema", "$defs")
)
_COMPARED: Final = frozenset(
    ("type", "anyOf", "const", "enum", "properties", "required", "items", "additionalProperties")
)
_NEXT: Final = "leave it as it was, or publish a .v2 type beside this one"


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """Something that readers of a type would trip over. ``member``: a path such as ``event.door``."""

    type: str
    member: str
    what: str

    def __str__(self) -> str:
        where = f"{self.type}: {self.member}" if self.member else self.type
        return f"{where}: {self.what}: {_NEXT}"


def breaks(released: Mapping[str, Schema], today: Mapping[str, Schema]) -> list[Break]:
    """What has changed in a way that readers do not stand. A type that is new breaks nothing."""
    found: list[Break] = []
    for name, before in released.items():
        after = today.get(name)
        if after is None:
            found.append(Break(type=name, member="", what="the type is gone"))
            continue
        found += (
            Break(type=name, member=member.lstrip("."), what=what)
            for member, what in _differences(bare(before), bare(after), "")
        )
    return found


def bare(schema: Schema) -> dict[str, Any]:
    """What a schema demands: references resolved, words for people left out."""
    return _bare(schema, schema.get("$defs", {}))


def _bare(node: Any, definitions: Mapping[str, Any]) -> Any:
    if isinstance(node, list):
        return [_bare(each, definitions) for each in node]
    if not isinstance(node, Mapping):
        return node
    if isinstance(reference := node.get("$ref"), str):
        return _bare(definitions[reference.removeprefix("#/$defs/")], definitions)
    found: dict[str, Any] = {}
    for name, value in node.items():
        if name == "properties":
            found[name] = {member: _bare(inner, definitions) for member, inner in value.items()}
        elif name not in _WORDS:
            found[name] = _bare(value, definitions)
    return found


def _differences(before: Schema, after: Schema, at: str) -> Iterator[tuple[str, str]]:
    was, now = _alternatives(before), _alternatives(after)
    if was.keys() != now.keys():
        yield at, f"it was {_either(was)} and is {_either(now)}"
        return
    for kind in was:
        yield from _of_kind(was[kind], now[kind], at)


def _alternatives(schema: Schema) -> dict[str, Schema]:
    """A schema by JSON type: of ``anyOf`` and of several types in one, each by itself."""
    if "anyOf" in schema:
        return {kind: each for one in schema["anyOf"] for kind, each in _alternatives(one).items()}
    types = schema.get("type", "anything")
    return dict.fromkeys([types] if isinstance(types, str) else types, schema)


def _either(kinds: Mapping[str, Any]) -> str:
    return " or ".join(sorted(kinds))


def _of_kind(before: Schema, after: Schema, at: str) -> Iterator[tuple[str, str]]:
    was, now = _values(before), _values(after)
    if was != now:
        yield at, f"its values were {_listed(was)} and are {_listed(now)}"
    limits, kept = _limits(before), _limits(after)
    if limits != kept:
        yield at, f"its limits were {limits or 'none'} and are {kept or 'none'}"
    members, left = before.get("properties", {}), after.get("properties", {})
    needed, demanded = set(before.get("required", ())), set(after.get("required", ()))
    for name, schema in members.items():
        path = f"{at}.{name}"
        if name not in left:
            yield path, "the member is gone"
        elif name in needed and name not in demanded:
            yield path, "it was always there and need not be any more"
        elif name in demanded and name not in needed:
            yield path, "it was optional and is required, which earlier records do not keep to"
        else:
            yield from _differences(schema, left[name], path)
    for name in sorted(demanded - members.keys()):
        yield f"{at}.{name}", "it is new and required, which earlier records do not keep to"
    for word, step in (("items", "[]"), ("additionalProperties", ".*")):
        inner, outer = before.get(word), after.get(word)
        if isinstance(inner, Mapping) and isinstance(outer, Mapping):
            yield from _differences(inner, outer, at + step)
        elif inner != outer:
            yield at + step, "what it may hold has changed"


def _limits(schema: Schema) -> dict[str, Any]:
    """What else it demands, such as ``pattern`` or ``minimum``."""
    return {name: value for name, value in schema.items() if name not in _COMPARED}


def _values(schema: Schema) -> frozenset[str] | None:
    if "const" in schema:
        return frozenset((str(schema["const"]),))
    return frozenset(map(str, schema["enum"])) if "enum" in schema else None


def _listed(values: frozenset[str] | None) -> str:
    return ", ".join(sorted(values)) if values is not None else "any"
