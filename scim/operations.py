"""The operations of a PATCH body as they were sent. Says nothing of what they do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from scim.errors import ScimError, invalid_path

PATCH_SCHEMA: Final = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
OperationName = Literal["add", "replace", "remove"]
_NAMES: Final[dict[str, OperationName]] = {"add": "add", "replace": "replace", "remove": "remove"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation as sent; where no value and null are not the same, ``null`` says which."""

    name: OperationName
    path: str | None = None
    value: Any = None
    null: bool = False


def read_operations(document: object, *, tolerant: bool) -> list[Operation]:
    """The operations of a PATCH body. Raises ScimError 400 where it is none."""
    if not isinstance(document, dict):
        raise ScimError(400, "The body must be a JSON object.", "invalidSyntax")
    known = {key.casefold(): value for key, value in document.items()}
    listed = known.get("operations")
    schemas = known.get("schemas")
    if not tolerant and not (isinstance(schemas, list) and PATCH_SCHEMA in schemas):
        raise ScimError(400, f"schemas must hold {PATCH_SCHEMA}.", "invalidSyntax")
    if not isinstance(listed, list) or not listed:
        detail = "Operations must be a list with entries: PATCH is that of SCIM 2.0 (RFC 7644)."
        raise ScimError(400, detail, "invalidSyntax")
    return [_operation(entry) for entry in listed]


def _operation(entry: object) -> Operation:
    if not isinstance(entry, dict):
        raise ScimError(400, "An operation must be a JSON object.", "invalidSyntax")
    known = {key.casefold(): value for key, value in entry.items()}
    name = known.get("op")
    found = _NAMES.get(name.lower()) if isinstance(name, str) else None
    if found is None:
        raise ScimError(400, "op must be add, replace or remove.", "invalidSyntax")
    path = known.get("path")
    if path is not None and not isinstance(path, str):
        raise invalid_path("path must be a string.")
    path = path.strip() if path else None
    value = known.get("value")
    null = value is None and "value" in known
    return Operation(name=found, path=path or None, value=value, null=null)
