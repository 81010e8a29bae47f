"""What a client asks a listing for, in the URL or in the body of ``.search``; and ListResponse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from scim.comparisons import target_of
from scim.cursors import invalid_cursor
from scim.errors import ScimError, ScimType, invalid_filter, invalid_value
from scim.filter import parse_filter
from scim.representation import Projection, projection_of
from scim.resource import Profile
from service.directory.pages import Page, Position, Query, Sort, Walk

LIST_SCHEMA: Final = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
DEFAULT_COUNT: Final = 100
LARGEST_COUNT: Final = 1000
_MOST_NAMES: Final = 1000
"""Of attributes to be shown: each is looked up while everybody waits."""
_LARGEST_INDEX: Final = 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The parameters of RFC 7644 section 3.4.2 as they came, with their types right."""

    filter: str | None = None
    sort_by: str | None = None
    descending: bool = False
    start_index: int = 1
    count: int = DEFAULT_COUNT
    cursor: str | None = None
    """Empty for the first page; None pages by index."""
    attributes: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()

    def query(self, profile: Profile, window: Window) -> Query:
        """Raises ScimError 400 ``invalidFilter``, or ``invalidPath`` for what to sort by."""
        resource_type, tolerant = profile.resource_type, profile.tolerant
        where = None
        if self.filter is not None:
            where = parse_filter(self.filter, resource_type, tolerant=tolerant)
        sort = self._sort(profile)
        place = window.walk.position if window.walk is not None else None
        if place is not None and place.kind != (sort.target.kind if sort else None):
            raise invalid_cursor()  # the attribute has been declared anew since
        return Query(
            where=where,
            sort=sort,
            offset=window.offset,
            limit=window.limit,
            walk=window.walk,
            counted=window.counted,
        )

    def identity(self, resource_types: tuple[str, ...]) -> bytes:
        """What all pages of a walk have in common (RFC 9865 section 2) but for their count."""
        sorting = (self.sort_by, self.descending)
        shown = (self.attributes, self.excluded)
        return orjson.dumps((resource_types, self.filter, sorting, shown))

    def projection(self, profile: Profile) -> Projection:
        return projection_of(self.attributes, self.excluded, profile.resource_type)

    def _sort(self, profile: Profile) -> Sort | None:
        if self.sort_by is None:
            return None
        path = profile.resource_type.resolve(self.sort_by, tolerant=profile.tolerant)
        attribute = path.attribute if path is not None else None
        sub = path.sub if path is not None else None
        if attribute is not None and attribute.is_complex and sub is None:
            sub = attribute.sub.get("value")
        if (
            path is None
            or attribute is None
            or (attribute.is_complex and sub is None)
            or attribute.name in _UNSORTABLE
            or attribute.returned == "never"
            or (attribute.name == "meta" and sub is not None and sub.kind != "dateTime")
        ):
            raise ScimError(400, f"Cannot sort by {self.sort_by[:100]}.", "invalidPath")
        return Sort(target=target_of(path, sub), descending=self.descending)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The part of a listing that is asked for; as in ``service.directory.pages.Query``."""

    offset: int = 0
    limit: int
    walk: Walk | None = None
    counted: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A page as it is shown; the rest as in ``service.directory.pages.Page``."""

    resources: Sequence[Mapping[str, Any]]
    total: int | None
    more: bool = False
    first: Position | None = None
    last: Position | None = None


def found_in(page: Page[Any], resources: Sequence[Mapping[str, Any]]) -> Found:
    return Found(
        resources=resources,
        total=page.total,
        more=page.more,
        first=page.first,
        last=page.last,
    )


_UNSORTABLE: Final = frozenset(("schemas", "groups", "members"))


def asked_by(parameters: Mapping[str, Any]) -> Asked:
    """From query parameters, or the body of a search request: names in lower case.

    Raises ScimError 400 ``invalidValue``; by cursor also ``invalidCursor`` and ``invalidCount``.
    """
    cursor = parameters.get("cursor")
    if not isinstance(cursor, str | None):
        raise invalid_cursor()
    if cursor is not None and parameters.get("startindex") not in (None, ""):
        raise invalid_value("Page by startIndex or by cursor, not by both.")
    filtered = parameters.get("filter")
    if isinstance(filtered, str) and not filtered.strip():
        # An empty template in an identity provider must not mean everyone.
        raise invalid_filter("The filter is empty: leave the parameter out to list everything.")
    sort_order = _text(parameters, "sortorder")
    if sort_order is not None and sort_order.lower() not in ("ascending", "descending"):
        raise invalid_value("sortOrder is ascending or descending.")
    return Asked(
        filter=_text(parameters, "filter"),
        sort_by=_text(parameters, "sortby"),
        descending=(sort_order or "").lower() == "descending",
        start_index=min(max(_integer(parameters, "startindex", 1), 1), _LARGEST_INDEX),
        count=_count(parameters, "invalidValue" if cursor is None else "invalidCount"),
        cursor=cursor,
        attributes=_names(parameters, "attributes"),
        excluded=_names(parameters, "excludedattributes"),
    )


def list_response(
    resources: Sequence[Mapping[str, Any]], *, total: int, start_index: int | None = 1
) -> dict[str, Any]:
    """``start_index`` None: of a walk, which has none."""
    return {
        "schemas": [LIST_SCHEMA],
        "totalResults": total,
        **({} if start_index is None else {"startIndex": start_index}),
        "itemsPerPage": len(resources),
        "Resources": resources,
    }


def _count(parameters: Mapping[str, Any], scim_type: ScimType) -> int:
    """Less than none is none, and more than a page holds is a page."""
    count = _integer(parameters, "count", DEFAULT_COUNT, scim_type)
    return min(max(count, 0), LARGEST_COUNT)


def _text(parameters: Mapping[str, Any], name: str) -> str | None:
    value = parameters.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise invalid_value(f"{name} must be a string.")
    return value


def _integer(
    parameters: Mapping[str, Any],
    name: str,
    default: int,
    scim_type: ScimType = "invalidValue",
) -> int:
    value = parameters.get(name)
    if value is None or value == "":
        return default
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        return int(str(value)[:40])
    except ValueError as error:
        raise ScimError(400, f"{name} must be an integer.", scim_type) from error


def _names(parameters: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = parameters.get(name)
    parts: Sequence[Any] = value.split(",") if isinstance(value, str) else value or ()
    if not isinstance(parts, list) and parts != ():
        raise invalid_value(f"{name} must be a list of attribute names.")
    if any(not isinstance(part, str) for part in parts):
        raise invalid_value(f"{name} must be a list of attribute names.")
    if len(parts) > _MOST_NAMES:
        raise invalid_value(f"{name} has at most {_MOST_NAMES} names.")
    return tuple(part.strip() for part in parts if part.strip())
