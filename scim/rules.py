"""What the schema of an extension asks of a change: required, immutable and read-only values.

Works on stored values in canonical names; knows neither how they were sent nor how they are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scim.errors import ScimError, invalid_value
from scim.schema import Attribute, Schema

Values = Mapping[str, Any]


def require_complete(schema: Schema, values: Values) -> None:
    """Raises ScimError ``invalidValue`` where a required attribute or part of one is missing."""
    for attribute in schema.attributes.values():
        value = values.get(attribute.name)
        if value is None:
            if attribute.required:
                raise invalid_value(f"{schema.id}:{attribute.name} is required.")
            continue
        if not attribute.is_complex:
            continue
        for entry in value if attribute.many else [value]:
            for sub in attribute.sub.values():
                if sub.required and sub.name not in entry:
                    raise invalid_value(f"{schema.id}:{attribute.name}.{sub.name} is required.")


def require_unchanged(schema: Schema, before: Values, after: Values) -> None:
    """Raises ScimError ``mutability`` where an immutable value that was there is another, or gone."""
    for attribute in schema.attributes.values():
        known = before.get(attribute.name)
        if known is None:
            continue
        now = after.get(attribute.name)
        if attribute.mutability == "immutable" and known != now:
            raise _immutable(f"{schema.id}:{attribute.name}")
        if attribute.is_complex and not attribute.many:
            for sub in attribute.sub.values():
                fixed = sub.mutability == "immutable" and sub.name in known
                if fixed and known[sub.name] != (now or {}).get(sub.name):
                    raise _immutable(f"{schema.id}:{attribute.name}.{sub.name}")


def kept_over_put(schema: Schema, before: Values, sent: Values) -> dict[str, Any]:
    """The extension's values after a PUT: those sent, and of the stored ones those that a client may
    leave out without meaning to clear them (RFC 7644 section 3.5.1).
    """
    after = dict(sent)
    for attribute in schema.attributes.values():
        known = before.get(attribute.name)
        if known is None:
            continue
        if attribute.mutability in ("readOnly", "immutable"):
            after.setdefault(attribute.name, known)
        elif attribute.is_complex and not attribute.many:
            parts = _standing_parts(attribute, known)
            if parts:
                after[attribute.name] = parts | after.get(attribute.name, {})
    return after


def _standing_parts(attribute: Attribute, known: Values) -> dict[str, Any]:
    return {
        sub.name: known[sub.name]
        for sub in attribute.sub.values()
        if sub.mutability in ("readOnly", "immutable") and sub.name in known
    }


def _immutable(name: str) -> ScimError:
    return ScimError(400, f"{name} was given and cannot be changed any more.", "mutability")
