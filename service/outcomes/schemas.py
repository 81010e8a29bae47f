"""JSON Schemas (draft 2020-12) of what outcomes carry, made from the classes of their data. Pure.

A reader's schema lets unknown members pass, since more may come; the strict one does not.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Final, cast

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from service.outcomes.data import About, Data
from service.outcomes.entries import Entry

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]

_ID: Final[Mapping[str, str]] = {
    "organization": "The organization by name.",
    "userId": "Our id of the user, the one that SCIM shows.",
    "eventId": "Our id of the event; of an effect the event that caused it.",
}
_ALWAYS: Final[Mapping[About, tuple[str, ...]]] = {
    "user": ("organization", "userId"),
    "event": ("eventId",),
    "tenant": (),
    "organization": ("organization",),
}


class _Generator(GenerateJsonSchema):
    """Members that have a default are left out and never null; others may be null where they say so."""

    def dataclass_field_schema(self, schema: core_schema.DataclassField) -> JsonSchemaValue:
        inner: Any = schema["schema"]
        if inner["type"] == "default" and inner["schema"]["type"] == "nullable":
            return self.generate_inner(inner["schema"]["schema"])
        return self.generate_inner(inner)


def schema_of(entry: Entry) -> Schema:
    """The schema of the value of a record of this type."""
    generated = _generated(entry.data)
    always = _ALWAYS[entry.data.about]
    ids = {
        name: {"type": "string" if name in always else ["string", "null"], "description": said}
        for name, said in _ID.items()
    }
    if entry.data.about == "tenant":
        ids = {name: {"type": "null", "description": said} for name, said in _ID.items()}
    schema: Schema = {
        "$schema": DIALECT,
        "$id": f"urn:auth0-provisioner:outcome:{entry.name}:v1",
        "title": entry.full_name,
        "description": entry.sentence,
        "type": "object",
        "properties": ids | generated["properties"],
        "required": [*ids, *generated.get("required", [])],
    }
    if "$defs" in generated:
        schema["$defs"] = generated["$defs"]
    schema["examples"] = [entry.payload()]
    return _tidy(schema)


def _generated(data: type[Data]) -> Schema:
    """With the words of the classes above it, too, which pydantic leaves out."""
    schema: Schema = TypeAdapter(data).json_schema(schema_generator=_Generator)
    for above in data.__mro__[1:]:
        if above is Data or not issubclass(above, Data):
            break
        said: Schema = TypeAdapter(above).json_schema(schema_generator=_Generator)
        for name, member in said.get("properties", {}).items():
            if "description" in member:
                schema["properties"][name].setdefault("description", member["description"])
    return schema


def strict(schema: Schema) -> Schema:
    """The same, where no object may have members that the schema does not name."""
    return cast("Schema", _closed(schema))


@functools.cache
def strict_schema_of(entry: Entry) -> Schema:
    return strict(schema_of(entry))


def _closed(node: Any) -> Any:
    if isinstance(node, list):
        return [_closed(each) for each in node]
    if not isinstance(node, dict):
        return node
    closed = {name: _closed(value) for name, value in node.items() if name != "examples"}
    if "properties" in closed and "additionalProperties" not in closed:
        closed["additionalProperties"] = False
    return closed


def _tidy(node: Any) -> Any:
    """Without titles that repeat names, with texts on one line."""
    if isinstance(node, list):
        return [_tidy(each) for each in node]
    if not isinstance(node, dict):
        return node
    kept: Schema = {}
    for name, value in node.items():
        if name == "title" and "$schema" not in node and isinstance(value, str):
            continue
        if name == "description" and isinstance(value, str):
            kept[name] = " ".join(value.split())
        elif name == "properties":
            kept[name] = {key: _tidy(inner) for key, inner in value.items()}
        elif name in ("examples", "default", "const", "enum", "required"):
            kept[name] = value
        else:
            kept[name] = _tidy(value)
    return kept
