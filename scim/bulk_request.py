"""The body of a Bulk request (RFC 7644 section 3.7) as operations. Says nothing of how they run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from scim.bulk_references import require_shallow
from scim.errors import ScimError, invalid_value
from scim.preferences import WRITES

BULK_SCHEMA: Final = "urn:ietf:params:scim:api:messages:2.0:BulkRequest"
MOST_OPERATIONS: Final = 1000
"""Each is an event under the request's id and its own index: a thousand fit into an event's id."""
LARGEST_BULK: Final = 2 * 1024 * 1024
"""Bytes of the whole body; the data of one operation has the limit of any other body."""
_ENDPOINTS: Final = ("Users", "Groups")


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkOperation:
    """One operation as sent. ``refused``: what is wrong with it, whatever the others do."""

    index: int
    method: str
    bulk_id: str | None = None
    version: str | None = None
    segments: tuple[str, ...] = ()
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    data: Any = None
    refused: ScimError | None = None

    @property
    def creates(self) -> bool:
        return self.method == "POST"


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkRequest:
    """``fail_on_errors``: how many errors end it; None: it goes on whatever happens."""

    operations: tuple[BulkOperation, ...]
    fail_on_errors: int | None = None


def read_bulk(document: object, *, tolerant: bool, base_url: str) -> BulkRequest:
    """A Bulk body. Raises ScimError 400 where it is none, 413 where it has too many operations.

    ``tolerant``: methods and endpoints in any letter case, POST without a bulkId.
    """
    if not isinstance(document, dict):
        raise ScimError(400, "The body must be a JSON object.", "invalidSyntax")
    known = {key.casefold(): value for key, value in document.items()}
    schemas = known.get("schemas")
    if not tolerant and not (isinstance(schemas, list) and BULK_SCHEMA in schemas):
        raise ScimError(400, f"schemas must hold {BULK_SCHEMA}.", "invalidSyntax")
    listed = known.get("operations")
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise ScimError(400, "Operations must be a list of JSON objects.", "invalidSyntax")
    if len(listed) > MOST_OPERATIONS:
        raise ScimError(
            413,
            f"A Bulk has at most {MOST_OPERATIONS} operations (maxOperations), not"
            f" {len(listed)}: send them in parts.",
        )
    operations: list[BulkOperation] = []
    bulk_ids: set[str] = set()
    for index, entry in enumerate(listed):
        operation = _read(index, entry, bulk_ids, tolerant=tolerant, base_url=base_url)
        if operation.creates and operation.bulk_id is not None:
            bulk_ids.add(operation.bulk_id)
        operations.append(operation)
    return BulkRequest(
        operations=tuple(operations), fail_on_errors=_errors(known.get("failonerrors"))
    )


def _errors(value: object) -> int | None:
    if isinstance(value, str) and value.isdecimal():
        value = int(value[:9])
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise invalid_value("failOnErrors must be an integer above zero, or left out.")
    return value


def _read(
    index: int,
    entry: Mapping[str, Any],
    taken: set[str],
    *,
    tolerant: bool,
    base_url: str,
) -> BulkOperation:
    known = {key.casefold(): value for key, value in entry.items()}
    method, bulk_id = known.get("method"), known.get("bulkid")
    method = method if isinstance(method, str) else ""
    method = (method.upper() if tolerant else method)[:20]
    bulk_id = str(bulk_id) if isinstance(bulk_id, str | int) and bulk_id != "" else None
    data, shown = known.get("data") if method != "DELETE" else None, None
    try:
        require_shallow(data)
        shown = data
        if method not in WRITES:
            raise ScimError(400, "method must be POST, PUT, PATCH or DELETE.", "invalidSyntax")
        if method == "POST":
            _require_own(bulk_id, taken, tolerant=tolerant)
        if method != "DELETE" and data is None:
            raise ScimError(400, f"{method} needs data.", "invalidSyntax")
        segments, query = _path(known.get("path"), tolerant=tolerant, base_url=base_url)
        return BulkOperation(
            index=index,
            method=method,
            bulk_id=bulk_id,
            version=_version(known.get("version")),
            segments=segments,
            query=query,
            data=data,
        )
    except ScimError as error:
        return BulkOperation(index=index, method=method, bulk_id=bulk_id, data=shown, refused=error)


def _require_own(bulk_id: str | None, taken: set[str], *, tolerant: bool) -> None:
    if bulk_id is None:
        if not tolerant:
            raise invalid_value("POST needs a bulkId.")
    elif bulk_id in taken:
        raise invalid_value("Another operation of this request has this bulkId.")


def _path(
    value: object, *, tolerant: bool, base_url: str
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Segments and query below the organization's base URL, which the path may start with."""
    if not isinstance(value, str):
        raise ScimError(400, "path must be a string such as /Users.", "invalidSyntax")
    path, _, query = value.strip().removeprefix(base_url).partition("?")
    name, _, rest = path.strip("/").partition("/")
    rest = unquote(rest)  # before it is looked at: a search by another spelling is one, too
    for endpoint in _ENDPOINTS if not rest.startswith(".") else ():
        if name == endpoint or (tolerant and name.casefold() == endpoint.casefold()):
            asked = {key.casefold(): text for key, text in parse_qsl(query)}
            return ((endpoint, rest) if rest else (endpoint,)), asked
    raise ScimError(404, "A Bulk takes the paths /Users, /Groups and of one resource below them.")


def _version(value: object) -> str | None:
    """As in If-Match: ``W/"3"``, and bare numbers too."""
    if value is None or value == "":
        return None
    if isinstance(value, int):
        return f'W/"{value}"'
    if not isinstance(value, str) or not value.isascii():
        raise invalid_value('version must be an ETag such as W/"3".')
    return f'W/"{value}"' if value.isdecimal() else value
