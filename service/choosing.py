"""Which of an organization's connections a person lives in, by its rules. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, cast

from service.organizations import Connection, ConnectionRule, Organization
from service.people import ENTERPRISE, User, identifier_of, worker_attribute

_CORE: Final = "urn:ietf:params:scim:schemas:core:2.0:User"
_OF_HR: Final = "hr."


def choose(organization: Organization, user: User, groups: Collection[str]) -> Connection:
    """The first connection with a rule that the person fits, else the first that has none.

    ``groups``: what the person's groups are known by, see service.directory.belonging.
    """
    connections = organization.connections
    if len(connections) == 1:
        return connections[0]
    for connection in connections:
        if any(fits(rule, organization, user, groups) for rule in connection.every_rule):
            return connection
    for everybody in connections:
        if not everybody.every_rule:
            return everybody
    return connections[0]


def fits(
    rule: ConnectionRule, organization: Organization, user: User, groups: Collection[str]
) -> bool:
    if rule.domains:
        address = identifier_of(user, organization) or ""
        if address.rpartition("@")[2] not in rule.domains:
            return False
    if rule.groups and not any(each in groups or each.casefold() in groups for each in rule.groups):
        return False
    return all(
        {each.strip().casefold() for each in wanted} & set(_values(user, path))
        for path, wanted in rule.attributes.items()
    )


def _values(user: User, path: str) -> Iterator[str]:
    """Everything that an attribute says, in lower case; a multi-valued one says several things."""
    if path.startswith(_OF_HR):
        yield from _said(worker_attribute(user, path.removeprefix(_OF_HR)))
        return
    resource: Any = user.resource or {}
    schema, _, attribute = path.rpartition(":")
    if schema:
        within = [resource] if schema.casefold() == _CORE.casefold() else _members(resource, schema)
    else:
        within = [resource, *_members(resource, ENTERPRISE)]
    for name in attribute.split("."):
        within = [found for each in within for found in _members(each, name)]
    for each in within:
        yield from _said(each)


def _members(value: Any, name: str) -> list[Any]:
    if isinstance(value, list):
        return [found for each in cast("list[Any]", value) for found in _members(each, name)]
    if not isinstance(value, Mapping):
        return []
    known = cast("Mapping[str, Any]", value)
    return [said for key, said in known.items() if key.casefold() == name.casefold()]


def _said(value: Any) -> Iterator[str]:
    match value:
        case list():
            for each in cast("list[Any]", value):
                yield from _said(each)
        case Mapping():  # of a complex value, the part that stands for it
            yield from (each for part in _members(value, "value") for each in _said(part))
        case bool():
            yield str(value).lower()
        case None:
            return
        case _:
            yield str(value).strip().casefold()
