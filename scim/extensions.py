"""The catalogue of one organization: the server's own schemas and the extensions it declares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from scim.schema import Catalogue, ResourceType, Schema, resource_type, schema_of
from service.extension_schemas import AttributeDeclaration, PartDeclaration, SchemaDeclaration
from service.organizations import Organization

_MOST_REMEMBERED: Final = 1000
_EXACT: Final = frozenset(("reference", "binary"))
_TEXTUAL: Final = frozenset(("string", *_EXACT))


class Catalogues:
    """Remembers the catalogue of each organization that declares extensions, until it changes."""

    def __init__(self, common: Catalogue) -> None:
        self.common = common
        self._known: dict[str, tuple[Sequence[SchemaDeclaration], Catalogue]] = {}

    def of(self, organization: Organization) -> Catalogue:
        declared = organization.scim_schemas
        if not declared:
            return self.common
        known = self._known.get(organization.name)
        # The same object for as long as the organization is remembered: compared once at most.
        if known is not None and (known[0] is declared or known[0] == declared):
            return known[1]
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        made = extended(self.common, declared)
        self._known[organization.name] = (declared, made)
        return made


def extended(common: Catalogue, declared: Sequence[SchemaDeclaration]) -> Catalogue:
    """The catalogue with these extensions beside its own, in the order of their declaration."""
    return Catalogue(user=_with(common.user, declared), group=_with(common.group, declared))


def _with(known: ResourceType, declared: Sequence[SchemaDeclaration]) -> ResourceType:
    own = tuple(_schema(schema) for schema in declared if known.name in schema.resource_types)
    if not own:
        return known
    return resource_type(
        known.name, known.endpoint, known.description, known.core, (*known.extensions, *own)
    )


def _schema(declared: SchemaDeclaration) -> Schema:
    document = {
        "id": declared.id,
        "name": declared.name,
        "description": declared.description,
        "attributes": [_definition(attribute) for attribute in declared.attributes],
    }
    return schema_of(document, declared=True)


def _definition(declared: AttributeDeclaration | PartDeclaration) -> dict[str, Any]:
    """An attribute as RFC 7643 section 7 writes it, without what does not apply to its type."""
    definition: dict[str, Any] = {
        "name": declared.name,
        "type": declared.type,
        "multiValued": declared.multi_valued,
        "description": declared.description,
        "required": declared.required,
        "mutability": declared.mutability,
        "returned": declared.returned,
        "uniqueness": declared.uniqueness,
    }
    if declared.type in _TEXTUAL:
        definition["caseExact"] = declared.case_exact or declared.type in _EXACT
    if declared.canonical_values:
        definition["canonicalValues"] = list(declared.canonical_values)
    if declared.type == "reference":
        definition["referenceTypes"] = list(declared.reference_types or ("external",))
    if isinstance(declared, AttributeDeclaration) and declared.sub_attributes:
        definition["subAttributes"] = [_definition(part) for part in declared.sub_attributes]
    return definition
