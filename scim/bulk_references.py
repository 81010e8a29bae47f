"""References among the operations of a Bulk: ``bulkId:…`` where an id will be. Pure."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from typing import Any, Final

from scim.errors import ScimError

_REFERENCE: Final = re.compile(r'(?:^|(?<=[/"]))bulkid:([^"]+?)(?=$|")', re.IGNORECASE)
"""A whole value, the end of a URI, or a string within the filter of a PATCH path."""
_DEEPEST: Final = 30
_GONE: Final = object()


def require_shallow(value: object, depth: int = 0) -> None:
    """Raises ScimError 400 where data nests deeper than any resource does."""
    if depth > _DEEPEST:
        raise ScimError(400, f"data nests deeper than {_DEEPEST} levels.", "invalidSyntax")
    if isinstance(value, dict):
        for part in value.values():
            require_shallow(part, depth + 1)
    elif isinstance(value, list):
        for part in value:
            require_shallow(part, depth + 1)


def references(value: object, created: Container[str]) -> set[str]:
    """The bulkIds that a value refers to.

    ``created``: those that the request creates; another one counts only as a whole value.
    """
    if isinstance(value, str):
        whole = _REFERENCE.fullmatch(value)
        if whole is not None:
            return {whole[1]}
        return {name for name in _REFERENCE.findall(value) if name in created}
    found: set[str] = set()
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            found |= references(part, created)
    return found


def resolve(value: Any, ids: Mapping[str, str]) -> Any:
    """The value with the ids of resources in place of the references to them."""
    if isinstance(value, str):
        return _REFERENCE.sub(lambda found: ids.get(found[1], found[0]), value)
    if isinstance(value, dict):
        return {key: resolve(part, ids) for key, part in value.items()}
    if isinstance(value, list):
        return [resolve(part, ids) for part in value]
    return value


def without(value: Any, names: Container[str]) -> Any:
    """The value without what refers to these bulkIds: an attribute, or an entry as a whole."""
    left = _without(value, names)
    return {} if left is _GONE else left


def _without(value: Any, names: Container[str]) -> Any:
    if isinstance(value, str):
        return _GONE if any(name in names for name in _REFERENCE.findall(value)) else value
    if isinstance(value, list):
        kept = [_without(part, names) for part in value]
        return [part for part in kept if part is not _GONE]
    if isinstance(value, dict):
        kept = {key: _without(part, names) for key, part in value.items()}
        if any(part is _GONE for key, part in kept.items() if key.casefold() in ("value", "$ref")):
            return _GONE
        return {key: part for key, part in kept.items() if part is not _GONE}
    return value


def referring(data: Mapping[str, Any], names: Container[str]) -> dict[str, Any]:
    """The attributes of a resource that refer to these bulkIds."""
    return {key: value for key, value in data.items() if _without(value, names) != value}
