"""The file of ``org apply``: read, checked against itself, and compared with what is stored. Pure
but for reading the file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import BaseModel, ValidationError

from operators import followable, mappings, tenants_apart
from operators.mappings import Document
from service.errors import ConfigurationError
from service.misspelt import said
from service.organizations import EventSource, Installation, Organization, Tenant

Kind = Literal["tenant", "organization", "source", "mapping"]
_FIXED = ("tenant", "model")
"""What an organization with accounts cannot change: they live where they were made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One declared thing against what is stored. ``keys``: what differs, as ``a.b``."""

    kind: Kind
    name: str
    verdict: Literal["new", "changed", "unchanged"]
    keys: tuple[str, ...] = ()
    versions: tuple[int, int] | None = None
    """Of a mapping: before and after, where they differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What the directory knows, for comparing. ``housed``: organizations that have accounts;
    ``ended``: those that are decommissioned; ``peopled``: those that have users.
    """

    tenants: Mapping[str, Tenant]
    organizations: Mapping[str, Organization]
    sources: Mapping[str, EventSource]
    housed: Collection[str]
    ended: Collection[str] = ()
    peopled: Collection[str] = ()
    mappings: Mapping[str, Document] = field(default_factory=dict[str, Document])
    """Those that customers declared."""


def read(path: Path) -> Installation:
    """The installation in a TOML or YAML file. Raises ConfigurationError that names the key."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        because = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigurationError(f"{path}: cannot be read ({because}).") from error
    document = _toml(path, text) if path.suffix.lower() == ".toml" else _yaml(path, text)
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise ConfigurationError(
            f"{path}: expected the keys tenants, organizations, sources and mappings at the top."
        )
    try:
        return Installation.model_validate(document)
    except ValidationError as error:
        mistakes = "\n".join(
            f"{path}: {_place(cast('dict[str, Any]', document), mistake['loc'])}:"
            f" {said(mistake, Installation)}"
            for mistake in error.errors(include_url=False)
        )
        raise ConfigurationError(mistakes) from None


def compare(
    declared: Installation,
    stored: Stored,
    *,
    known_tenants: Collection[str],
    own_mappings: Mapping[str, Document] | None = None,
) -> list[Change]:
    """What applying would change, in the order of the file, mappings last.

    ``known_tenants``: names that need no declaration here. ``own_mappings``: those that the file names.
    Raises ConfigurationError where an organization or a source names what there is not, or cannot
    change as declared.
    """
    own_mappings = own_mappings or {}
    _check_names(declared, stored, known_tenants)
    tenants_apart.check(declared, stored)
    mappings.check(own_mappings, stored.mappings, declared.sources)
    for organization in declared.organizations:
        _check_fixed(organization, stored)
        _check_join(organization, stored)
        followable.check(organization)
    _check_own_connections(declared, stored)
    _check_own_organizations(declared, stored)
    return [
        *_changes("tenant", declared.tenants, stored.tenants),
        *_changes("organization", declared.organizations, stored.organizations),
        *_changes("source", declared.sources, stored.sources),
        *(
            _mapping_change(name, each, stored.mappings.get(name))
            for name, each in own_mappings.items()
        ),
    ]


def _mapping_change(name: str, after: Document, before: Document | None) -> Change:
    if before is None:
        return Change(kind="mapping", name=name, verdict="new")
    keys = mappings.differences(before, after)
    versions = (before["version"], after["version"]) if "version" in keys else None
    verdict: Literal["changed", "unchanged"] = "changed" if keys else "unchanged"
    return Change(kind="mapping", name=name, verdict=verdict, keys=keys, versions=versions)


def _changes(
    kind: Kind,
    declared: Iterable[Tenant | Organization | EventSource],
    stored: Mapping[str, Tenant | Organization | EventSource],
) -> list[Change]:
    found: list[Change] = []
    for item in declared:
        before = stored.get(item.name)
        if before is None:
            found.append(Change(kind=kind, name=item.name, verdict="new"))
            continue
        keys = tuple(_differences(_dump(before), _dump(item)))
        verdict: Literal["changed", "unchanged"] = "changed" if keys else "unchanged"
        found.append(Change(kind=kind, name=item.name, verdict=verdict, keys=keys))
    return found


def _dump(item: BaseModel) -> dict[str, Any]:
    return item.model_dump(mode="json")


def _differences(
    before: Mapping[str, Any], after: Mapping[str, Any], within: str = ""
) -> Iterable[str]:
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _differences(
                cast("Mapping[str, Any]", old),
                cast("Mapping[str, Any]", new),
                f"{within}{key}.",
            )
        elif old != new:
            yield f"{within}{key}"


def _check_names(declared: Installation, stored: Stored, known_tenants: Collection[str]) -> None:
    tenants = {*stored.tenants, *known_tenants, *(tenant.name for tenant in declared.tenants)}
    for organization in declared.organizations:
        if organization.tenant not in tenants:
            raise ConfigurationError(
                f"organizations[{organization.name}].tenant: there is no tenant"
                f" {organization.tenant}: declare it under tenants."
            )
    names = {*stored.organizations, *(each.name for each in declared.organizations)}
    for source in declared.sources:
        if missing := sorted(set(source.organizations) - names):
            raise ConfigurationError(
                f"sources[{source.name}].organizations: there is no organization {missing[0]}."
            )
        _check_whom_it_asks(source)


def _check_whom_it_asks(source: EventSource) -> None:
    """Whoever may send for one organization names any worker: the answer must be its own."""
    asked = source.enrichment
    if (
        source.webhook
        and asked is not None
        and len(source.organizations) > 1
        and not asked.names_organization
    ):
        raise ConfigurationError(
            f"sources[{source.name}].enrichment: its webhook is open to several organizations, so"
            " {organization} must stand in url or body; else declare a source for each."
        )


def _check_fixed(organization: Organization, stored: Stored) -> None:
    before = stored.organizations.get(organization.name)
    if before is None or organization.name not in stored.housed:
        return
    for key in _FIXED:
        if getattr(before, key) != getattr(organization, key):
            raise ConfigurationError(
                f"organizations[{organization.name}].{key}: it has accounts, which stay where they"
                " are: declare another organization and decommission this one."
            )


def _check_join(organization: Organization, stored: Stored) -> None:
    before = stored.organizations.get(organization.name)
    if before is None or before.join == organization.join:
        return
    if organization.name in stored.peopled:
        raise ConfigurationError(
            f"organizations[{organization.name}].join: it has users, who are joined by"
            f" {before.join} already: declare another organization and decommission this one."
        )


def _check_own_organizations(declared: Installation, stored: Stored) -> None:
    """Whoever is a member of an Organization is in: no two customers have one together."""
    after = {**stored.organizations, **{each.name: each for each in declared.organizations}}
    users: dict[tuple[str, str], str] = {}
    for name, organization in after.items():
        if name in stored.ended:
            continue
        place = (organization.tenant, organization.auth0_name)
        other = users.setdefault(place, name)
        if other != name:
            raise ConfigurationError(
                f"organizations[{name}].auth0_organization: the Organization {place[1]} of tenant"
                f" {place[0]} is that of {other}: give this one an Organization of its own."
            )


def _check_own_connections(declared: Installation, stored: Stored) -> None:
    """An isolated organization decides on all accounts of its connections, so they are its own."""
    after = {**stored.organizations, **{each.name: each for each in declared.organizations}}
    users: dict[tuple[str, str], dict[str, Organization]] = {}
    for name, organization in after.items():
        for connection in organization.connections if name not in stored.ended else ():
            users.setdefault((organization.tenant, connection.name), {})[name] = organization
    for (tenant, connection), sharing in users.items():
        isolated = sorted(
            name
            for name, each in sharing.items()
            if each.model_in(each.connection(connection)) == "isolated"
        )
        if isolated and len(sharing) > 1:
            others = ", ".join(sorted(sharing.keys() - {isolated[0]}))
            raise ConfigurationError(
                f"organizations[{isolated[0]}].connections: {connection} of tenant {tenant} is also"
                f" used by {others}: an isolated organization needs one of its own, or the model of"
                " all of them is shared."
            )


def _toml(path: Path, text: str) -> Any:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: not TOML: {error}.") from None


def _yaml(path: Path, text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a day such as 2026-13-45
        said = " ".join(str(error).split())
        raise ConfigurationError(f"{path}: not YAML: {said}.") from None


def _place(document: Mapping[str, Any], location: tuple[int | str, ...]) -> str:
    """``organizations[hoekstra].connections[0].name``: by name where a list's item has one."""
    place, here = "", cast("Any", document)
    for part in location:
        if isinstance(part, int):
            here = here[part] if isinstance(here, list) else None
            name = here.get("name") if isinstance(here, dict) else None
            place += f"[{name if isinstance(name, str) else part}]"
        else:
            here = here.get(part) if isinstance(here, dict) else None
            place += f".{part}" if place else part
    return place or "the file"
