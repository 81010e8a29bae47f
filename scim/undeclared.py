"""Stored data that the schemas of today do not describe: kept as it is, shown to nobody.

An organization may take a schema back or declare it otherwise; what it stored comes back with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scim.comparisons import parse_instant
from scim.schema import Attribute, ResourceType, Schema

Resource = Mapping[str, Any]


def described(resource_type: ResourceType, resource: Resource) -> Resource:
    """The part of a stored resource that the schemas describe: what is shown and changed.

    Mostly all of it: then the resource itself.
    """
    if resource.keys() <= resource_type.keys and not resource_type.declared:
        return resource
    found = {key: value for key, value in resource.items() if key in resource_type.keys}
    for schema in resource_type.declared:
        if schema.id in found:
            found[schema.id] = _described_parts(schema, found[schema.id])
            if not found[schema.id]:
                del found[schema.id]
    return found


def _described_parts(schema: Schema, holder: Resource) -> dict[str, Any]:
    known = schema.attributes.values()
    return {
        attribute.name: holder[attribute.name]
        for attribute in known
        if attribute.name in holder and fits(attribute, holder[attribute.name])
    }


def with_the_rest(resource_type: ResourceType, after: Resource, stored: Resource) -> dict[str, Any]:
    """A resource as changed, with what the stored one held beside it and nobody has written anew."""
    whole = dict(after)
    if stored.keys() <= resource_type.keys and not resource_type.declared:
        return whole
    for key in stored.keys() - resource_type.keys:
        whole[key] = stored[key]
    for schema in resource_type.declared:
        holder = stored.get(schema.id, {})
        shown = _described_parts(schema, holder)
        rest = {name: value for name, value in holder.items() if name not in shown}
        if rest:
            whole[schema.id] = {**rest, **whole.get(schema.id, {})}
    return whole


def without_unknown_parts(schema: Schema, holder: Resource) -> dict[str, Any]:
    """The described data of an extension as it is shown: sub-attributes of old are left out."""
    return {
        name: _known_parts(attribute, value)
        for name, value in holder.items()
        if (attribute := schema.attributes[name.casefold()])
    }


def _known_parts(attribute: Attribute, value: Any) -> Any:
    if not attribute.is_complex:
        return value
    if attribute.many:
        return [_known_of(attribute, entry) for entry in value]
    return _known_of(attribute, value)


def _known_of(attribute: Attribute, entry: Resource) -> dict[str, Any]:
    return {name: part for name, part in entry.items() if name.casefold() in attribute.sub}


def fits(attribute: Attribute, value: Any) -> bool:
    """Whether a stored value has the type that the attribute has today."""
    if not attribute.many:
        return _fits(attribute, value)
    return isinstance(value, list) and all(_fits(attribute, entry) for entry in value)


def _fits(attribute: Attribute, value: Any) -> bool:
    match attribute.kind:
        case "complex":
            return isinstance(value, dict) and all(
                _fits(sub, value[sub.name]) for sub in attribute.sub.values() if sub.name in value
            )
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "decimal":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "dateTime":
            moment = parse_instant(value) if isinstance(value, str) else None
            return moment is not None and moment.isoformat(timespec="microseconds") == value
        case _:
            return isinstance(value, str)
