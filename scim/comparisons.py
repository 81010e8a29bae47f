"""One comparison of a filter: its attribute's type decides which values and operators are right.

What is not stored in the resource itself (``schemas``, parts of ``meta``) is answered here.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Any, Final

from scim.errors import invalid_filter
from scim.matching import holds
from scim.schema import PROVISIONING, Attribute, Path, ResourceType
from service.directory.predicates import (
    Compare,
    Constant,
    Kind,
    Not,
    Operator,
    Or,
    Predicate,
    Present,
    Target,
    Value,
)

_KINDS: Final[dict[str, Kind]] = {
    "string": "string",
    "reference": "string",
    "binary": "string",
    "boolean": "boolean",
    "integer": "number",
    "decimal": "number",
    "dateTime": "instant",
}
_OPERATORS: Final[frozenset[str]] = frozenset(("eq", "co", "sw", "ew", "gt", "ge", "lt", "le"))
_SUBSTRING: Final = frozenset(("co", "sw", "ew"))
_INSTANT: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d:\d\d)(?:\.(\d+))?)?([Zz]|[+-]\d\d:\d\d)?"
)
_INTEGERS: Final = 2**63
_VERSION: Final = re.compile(r'(?:W/)?"?(\d{1,9})"?')


def comparison(resource_type: ResourceType, path: Path, operator: str, value: Any) -> Predicate:
    """A comparison outside brackets; what is not stored in the resource is answered here."""
    attribute = path.attribute
    if attribute is None:
        return _whole_extension(resource_type, path, operator)
    if attribute.returned == "never":
        raise invalid_filter(f"{attribute.name} cannot be filtered on.")
    if attribute.name == "schemas":
        return _schemas(resource_type, operator, value)
    if attribute.name == "meta":
        return _meta(resource_type, path, operator, value)
    leaf = path.sub
    if attribute.is_complex and leaf is None:
        if operator == "pr":
            return Present(target=Target(keys=path.keys, many=attribute.many))
        leaf = attribute.sub.get("value")
        if leaf is None:
            raise invalid_filter(f"Name the sub-attribute of {attribute.name} to compare.")
    described = leaf or attribute
    return leaf_of(target_of(path, leaf), described, operator, value)


def target_of(path: Path, leaf: Attribute | None) -> Target:
    """Where the values of an attribute (or of this sub-attribute of it) are."""
    attribute = path.attribute
    assert attribute is not None
    described = leaf or attribute
    kind, exact = kind_of(described), described.exact
    if leaf is None:
        return Target(keys=path.keys, kind=kind, exact=exact, many=attribute.many)
    if attribute.many:
        return Target(keys=path.keys, kind=kind, exact=exact, many=True, sub=leaf.name)
    return Target(keys=(*path.keys, leaf.name), kind=kind, exact=exact)


def leaf_of(target: Target, attribute: Attribute, operator: str, value: Any) -> Predicate:
    if operator == "pr":
        return Present(target=target)
    if value is None:
        if operator not in ("eq", "ne"):
            raise invalid_filter(f"{operator} does not compare with null.")
        return Not(Present(target=target)) if operator == "eq" else Present(target=target)
    typed = _typed(attribute, operator, value)
    if operator == "ne":
        return Not(Compare(target=target, operator="eq", value=typed))
    return Compare(target=target, operator=_operator(operator), value=typed)


def _operator(name: str) -> Operator:
    if name not in _OPERATORS:
        raise invalid_filter(f"The operator {name} is not supported.")
    return name  # pyright: ignore[reportReturnType] - one of the literals, as just checked


def _typed(attribute: Attribute, operator: str, value: Any) -> Value:
    """The value in the attribute's type; text as Entra sends it is taken for booleans."""
    name = attribute.name
    if attribute.kind in ("boolean", "binary") and operator not in ("eq", "ne"):
        raise invalid_filter(f"{operator} does not apply to {name}, which is {attribute.kind}.")
    if attribute.kind == "boolean":
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if isinstance(value, bool):
            return value
    elif attribute.kind == "dateTime":
        if operator in _SUBSTRING:
            raise invalid_filter(f"{operator} does not apply to {name}, which is a time.")
        moment = parse_instant(value) if isinstance(value, str) else None
        if moment is not None:
            return moment
    elif attribute.kind in ("integer", "decimal"):
        number = number_of(value) if operator not in _SUBSTRING else None
        if number is not None:
            return number
    elif isinstance(value, str):
        return value
    elif isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # employeeNumber eq 42
    raise invalid_filter(f"The value compared with {name} must be of type {attribute.kind}.")


def _whole_extension(resource_type: ResourceType, path: Path, operator: str) -> Predicate:
    if operator != "pr":
        raise invalid_filter("Name the attribute of the extension to compare.")
    if path.extension == PROVISIONING:
        return Constant(True)
    schema = resource_type.extension(path.extension or "")
    if schema is None or not schema.declared:
        return Present(target=Target(keys=path.keys))
    # What an earlier declaration left there does not count.
    parts = (Path(extension=schema.id, attribute=each) for each in schema.attributes.values())
    return Or(tuple(Present(target=Target(keys=part.keys)) for part in parts))


def _schemas(resource_type: ResourceType, operator: str, value: Any) -> Predicate:
    """``schemas`` follows from the resource: the core, and every extension that has data."""
    if operator == "pr" or value is None:
        return _always_there(operator)
    if not isinstance(value, str):
        raise invalid_filter("The value compared with schemas must be of type string.")
    positive = "eq" if operator == "ne" else _operator(operator)
    terms: list[Predicate] = [Constant(holds(resource_type.core.id, positive, value))]
    for extension in resource_type.extensions:
        if holds(extension.id, positive, value):
            terms.append(_whole_extension(resource_type, Path(extension=extension.id), "pr"))
    found = Or(tuple(terms))
    return Not(found) if operator == "ne" else found


def _always_there(operator: str) -> Predicate:
    """``pr``, ``eq null`` and ``ne null`` of what every resource has."""
    if operator not in ("pr", "eq", "ne"):
        raise invalid_filter(f"{operator} does not compare with null.")
    return Constant(operator != "eq")


def _meta(resource_type: ResourceType, path: Path, operator: str, value: Any) -> Predicate:
    sub = path.sub
    if operator == "pr" or (value is None and sub is not None):
        return _always_there(operator)
    if sub is None or sub.name == "location":
        raise invalid_filter("Compare meta.created, lastModified, resourceType or version.")
    if sub.name == "resourceType":
        if not isinstance(value, str):
            raise invalid_filter("The value compared with meta.resourceType must be a string.")
        if operator == "ne":
            return Constant(resource_type.name != value)
        return Constant(holds(resource_type.name, _operator(operator), value))
    if sub.name == "version":
        found = _VERSION.fullmatch(value) if isinstance(value, str) else None
        if found is None or operator not in ("eq", "ne"):
            raise invalid_filter('Compare meta.version by eq with a version such as W/"1".')
        target = Target(keys=("meta", "version"), kind="number")
        same = Compare(target=target, operator="eq", value=int(found[1]))
        return Not(same) if operator == "ne" else same
    return leaf_of(target_of(path, sub), sub, operator, value)


def number_of(value: object) -> int | float | None:
    """A number as every database compares it: an integer of 64 bits, else of double precision.

    None for what is no number, and for one too large to be any.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int) and -_INTEGERS <= value < _INTEGERS:
        return value
    try:
        wide = float(value)
    except OverflowError:
        return None
    return wide if math.isfinite(wide) else None


def kind_of(attribute: Attribute) -> Kind:
    found = _KINDS.get(attribute.kind)
    if found is None:
        raise invalid_filter(f"Name the sub-attribute of {attribute.name} to compare.")
    return found


def parse_instant(text: str) -> datetime | None:
    """An RFC 3339 time, of any number of fractional digits; without a zone it is UTC."""
    found = _INSTANT.fullmatch(text.strip())
    if found is None:
        return None
    fraction = (found[3] or "0")[:6].ljust(6, "0")
    zone = "+00:00" if found[4] in (None, "Z", "z") else found[4]
    try:
        moment = datetime.fromisoformat(f"{found[1]}T{found[2] or '00:00:00'}.{fraction}{zone}")
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
