"""Stored users and groups as clients see them, and which attributes of them a client asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scim.http import Request, etag
from scim.schema import PROVISIONING, Names, ResourceType
from scim.undeclared import described, without_unknown_parts
from service.directory.groups import Group
from service.people import User


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """``attributes`` and ``excludedAttributes`` (RFC 7644 section 3.9); None restricts nothing.

    What is named in ``excluded`` is left out of what ``included`` lets through.
    """

    included: Names | None = None
    excluded: Names = field(default_factory=dict[tuple[str | None, str], "frozenset[str] | None"])

    def wants(self, attribute: str) -> bool:
        """Whether anything of this core attribute is shown: if not, it need not be read."""
        if self.included is not None and (None, attribute) not in self.included:
            return False
        return self.excluded.get((None, attribute), frozenset()) is not None

    def apply(self, document: dict[str, Any]) -> dict[str, Any]:
        if self.included is not None:
            document = self._only(document, self.included)
        for (extension, name), subs in self.excluded.items():
            _drop(document, extension, name, subs)
        return document

    def _only(self, document: Mapping[str, Any], included: Names) -> dict[str, Any]:
        shown = {"schemas": document["schemas"], "id": document["id"]}
        for (extension, name), subs in included.items():
            holder = document if extension is None else document.get(extension, {})
            if extension is not None and name == "":
                if holder:
                    shown[extension] = holder
                continue
            if name not in holder:
                continue
            value = holder[name] if subs is None else _parts(holder[name], subs)
            if extension is None:
                shown[name] = value
            else:
                shown.setdefault(extension, {})[name] = value
        return shown


def _parts(value: Any, subs: frozenset[str]) -> Any:
    if isinstance(value, list):
        return [_parts(entry, subs) for entry in value]
    return {name: part for name, part in value.items() if name in subs}


def _drop(
    document: dict[str, Any], extension: str | None, name: str, subs: frozenset[str] | None
) -> None:
    if extension is not None and name == "":
        document.pop(extension, None)
        return
    holder: dict[str, Any] = document
    if extension is not None:
        if extension not in document:
            return
        holder = document[extension] = dict(document[extension])
    if name not in holder:
        return
    if subs is None:
        del holder[name]
        if not holder and extension is not None:
            del document[extension]
    elif isinstance(holder[name], list):
        holder[name] = [_without(entry, subs) for entry in holder[name]]
    else:
        holder[name] = _without(holder[name], subs)


def _without(entry: Mapping[str, Any], subs: frozenset[str]) -> dict[str, Any]:
    return {name: part for name, part in entry.items() if name not in subs}


def projection_of(
    attributes: Sequence[str], excluded: Sequence[str], resource_type: ResourceType
) -> Projection:
    """The projection that names as sent mean; unknown names ask for nothing."""
    if attributes:
        named = _names(attributes, resource_type)
        withheld = {key: None for key in resource_type.on_request if key not in named}
        return Projection(included={**named, **resource_type.always}, excluded=withheld)
    names = dict(_names(excluded, resource_type))
    for urn, _ in resource_type.always:
        if urn is not None and (urn, "") in names:
            del names[urn, ""]
            names |= _each_of(urn, resource_type)
    allowed = {key: subs for key, subs in names.items() if key not in resource_type.always}
    return Projection(excluded={**allowed, **resource_type.on_request})


def _each_of(urn: str, resource_type: ResourceType) -> Names:
    """An extension by its attributes, of which some are always shown."""
    schema = resource_type.extension(urn)
    assert schema is not None
    return {(urn, attribute.name): None for attribute in schema.attributes.values()}


def requested(request: Request, resource_type: ResourceType) -> Projection:
    attributes = request.query.get("attributes")
    excluded = request.query.get("excludedattributes")
    if not attributes and not excluded:
        return Projection(excluded=resource_type.on_request)
    return projection_of(_listed(attributes), _listed(excluded), resource_type)


def _listed(text: str | None) -> list[str]:
    return [name for name in (part.strip() for part in (text or "").split(",")) if name]


def _names(texts: Sequence[str], resource_type: ResourceType) -> Names:
    found: dict[tuple[str | None, str], frozenset[str] | None] = {}
    for text in texts:
        if resource_type.schema_of(text) == resource_type.core.id:
            found |= {(None, known.name): None for known in resource_type.core.attributes.values()}
            continue
        path = resource_type.resolve(text, tolerant=True)
        if path is None:
            continue
        key = (path.extension, path.attribute.name if path.attribute else "")
        if path.sub is None:
            found[key] = None
        elif found.get(key, frozenset()) is not None:
            found[key] = (found.get(key) or frozenset()) | {path.sub.name}
    return found


def user_document(
    user: User,
    resource_type: ResourceType,
    base_url: str,
    groups: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """A user in full: the stored resource, its groups, how far it has come, and where it is."""
    resource = described(resource_type, user.resource or {})
    schemas = [resource_type.core.id]
    schemas += [schema.id for schema in resource_type.extensions if schema.id in resource]
    document: dict[str, Any] = {"schemas": [*schemas, PROVISIONING], "id": user.id, **resource}
    for schema in resource_type.declared:
        if schema.id in resource:
            document[schema.id] = without_unknown_parts(schema, resource[schema.id])
    if groups:
        document["groups"] = [
            {
                "value": group_id,
                "$ref": f"{base_url}/Groups/{group_id}",
                "display": name,
                "type": "direct",
            }
            for group_id, name in groups
        ]
    told: dict[str, Any] = {"state": user.state}
    if user.detail is not None:
        told["detail"] = user.detail
    if user.last_applied_at is not None:
        told["lastAppliedAt"] = user.last_applied_at
    document[PROVISIONING] = told
    document["meta"] = _meta(user, resource_type, f"{base_url}/Users/{user.id}")
    return document


def group_document(
    group: Group,
    resource_type: ResourceType,
    base_url: str,
    members: Sequence[str] = (),
) -> dict[str, Any]:
    resource = described(resource_type, group.resource)
    schemas = [schema.id for schema in resource_type.extensions if schema.id in resource]
    document: dict[str, Any] = {
        "schemas": [resource_type.core.id, *schemas],
        "id": group.id,
        **resource,
    }
    for schema in resource_type.declared:
        if schema.id in resource:
            document[schema.id] = without_unknown_parts(schema, resource[schema.id])
    if members:
        prefix = f"{base_url}/Users/"
        document["members"] = [
            {"value": user_id, "$ref": prefix + user_id, "type": "User"} for user_id in members
        ]
    document["meta"] = _meta(group, resource_type, f"{base_url}/Groups/{group.id}")
    return document


def _meta(stored: User | Group, resource_type: ResourceType, location: str) -> dict[str, Any]:
    return {
        "resourceType": resource_type.name,
        "created": stored.created_at,
        "lastModified": stored.modified_at,
        "location": location,
        "version": etag(stored.version),
    }
