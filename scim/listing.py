"""What a client asks a listing for, in the URL or in the body of ``.search``; and ListResponse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from scim.comparisons import target_of
from scim.errors import ScimError, invalid_filter, invalid_value
from scim.filter import parse_filter
from scim.representation import Projection, projection_of
from scim.resource import Profile
from service.directory.pages import Query, Sort

LIST_SCHEMA: Final = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
DEFAULT_COUNT: Final = 100
LARGEST_COUNT: Final = 1000
_LARGEST_INDEX: Final = 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The parameters of RFC 7644 section 3.4.2 as they came, with their types right."""

    filter: str | None = None
    sort_by: str | None = None
    descending: bool = False
    start_index: int = 1
    count: int = DEFAULT_COUNT
    attributes: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()

    def query(self, profile: Profile) -> Query:
        """Raises ScimError 400 ``invalidFilter``, or ``invalidPath`` for what to sort by."""
        resource_type, tolerant = profile.resource_type, profile.tolerant
        where = None
        if self.filter is not None:
            where = parse_filter(self.filter, resource_type, tolerant=tolerant)
        return Query(
            where=where,
            sort=self._sort(profile),
            offset=self.start_index - 1,
            limit=self.count,
        )

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
class Found:
    """A page as it is shown; ``total`` counts everything that matches."""

    total: int
    resources: Sequence[Mapping[str, Any]]


_UNSORTABLE: Final = frozenset(("schemas", "groups", "members"))


def asked_by(parameters: Mapping[str, Any]) -> Asked:
    """From query parameters, or the body of a search request: names in lower case.

    Raises ScimError 400 ``invalidValue``.
    """
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
        count=min(max(_integer(parameters, "count", DEFAULT_COUNT), 0), LARGEST_COUNT),
        attributes=_names(parameters, "attributes"),
        excluded=_names(parameters, "excludedattributes"),
    )


def list_response(
    resources: Sequence[Mapping[str, Any]], *, total: int, start_index: int = 1
) -> dict[str, Any]:
    return {
        "schemas": [LIST_SCHEMA],
        "totalResults": total,
        "startIndex": start_index,
        "itemsPerPage": len(resources),
        "Resources": resources,
    }


def _text(parameters: Mapping[str, Any], name: str) -> str | None:
    value = parameters.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise invalid_value(f"{name} must be a string.")
    return value


def _integer(parameters: Mapping[str, Any], name: str, default: int) -> int:
    value = parameters.get(name)
    if value is None or value == "":
        return default
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        return int(str(value)[:40])
    except ValueError as error:
        raise invalid_value(f"{name} must be an integer.") from error


def _names(parameters: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = parameters.get(name)
    parts: Sequence[Any] = value.split(",") if isinstance(value, str) else value or ()
    if not isinstance(parts, list) and parts != ():
        raise invalid_value(f"{name} must be a list of attribute names.")
    if any(not isinstance(part, str) for part in parts):
        raise invalid_value(f"{name} must be a list of attribute names.")
    return tuple(part.strip() for part in parts if part.strip())
