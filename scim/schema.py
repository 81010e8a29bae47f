"""Resource types and their attributes (RFC 7643) as data, and attribute names as clients write them.

Letter case never matters in a name. Knows no HTTP, no SQL and no values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Final, Literal

import orjson

USER: Final = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP: Final = "urn:ietf:params:scim:schemas:core:2.0:Group"
ENTERPRISE: Final = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
PROVISIONING: Final = "urn:auth0-provisioner:scim:1.0:Provisioning"

Kind = Literal["string", "boolean", "decimal", "integer", "dateTime", "reference", "binary"]
Mutability = Literal["readWrite", "readOnly", "writeOnly", "immutable"]
Returned = Literal["always", "default", "request", "never"]

Names = Mapping[tuple[str | None, str], frozenset[str] | None]
"""(Extension URN, attribute) to its sub-attributes, or None for all of it."""

_LEGACY: Final = {  # SCIM 1 names, still in the templates of some identity providers
    "urn:scim:schemas:core:1.0": "core",
    "urn:scim:schemas:core:1.0:user": "core",
    "urn:scim:schemas:core:1.0:group": "core",
    "urn:scim:schemas:extension:enterprise:1.0": ENTERPRISE,
    "urn:scim:schemas:extension:enterprise:1.0:user": ENTERPRISE,
}
_TEXTUAL: Final = frozenset(("string", "reference", "binary"))
_MOST_READ: Final = 2_000
_LONGEST_READ: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """One attribute with the characteristics of RFC 7643 section 2.2; ``sub`` is keyed in lower case."""

    name: str
    kind: Kind | Literal["complex"]
    many: bool = False
    required: bool = False
    exact: bool = False
    mutability: Mutability = "readWrite"
    returned: Returned = "default"
    allowed: Mapping[str, str] = field(default_factory=dict[str, str])
    """Values that the strict profile keeps to, by what is compared; empty where any will do."""
    sub: Mapping[str, Attribute] = field(default_factory=dict[str, "Attribute"])
    texts: frozenset[str] = frozenset()
    """As ``texts_of`` has it of ``sub``."""

    @property
    def is_complex(self) -> bool:
        return self.kind == "complex"

    @property
    def writable(self) -> bool:
        return self.mutability != "readOnly"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """A schema: its attributes by lower-case name, and the document that discovery shows."""

    id: str
    attributes: Mapping[str, Attribute]
    document: Mapping[str, Any]
    texts: frozenset[str]
    """As ``texts_of`` has it of ``attributes``."""
    required: tuple[str, ...]
    declared: bool = False
    """Whether an organization declared it, and may declare it otherwise tomorrow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """What an attribute name means. ``extension`` is its URN; without ``attribute`` it is all of it."""

    extension: str | None = None
    attribute: Attribute | None = None
    sub: Attribute | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """JSON keys from the resource down to the attribute, the sub-attribute left out."""
        first = (self.extension,) if self.extension else ()
        return (*first, self.attribute.name) if self.attribute else first

    @property
    def leaf(self) -> Attribute | None:
        return self.sub or self.attribute


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceType:
    """A resource type with its schemas; ``common`` holds id, externalId, schemas and meta.

    What follows from the schemas is worked out once: the keys that a stored resource may have, the
    attributes that are shown always, those that are shown on request alone, and whether any value
    is never to change.
    """

    name: Literal["User", "Group"]
    endpoint: str
    description: str
    core: Schema
    extensions: tuple[Schema, ...]
    common: Mapping[str, Attribute]
    known_urns: Mapping[str, str]
    keys: frozenset[str]
    texts: frozenset[str]
    """As ``texts_of`` has it of what stands in no extension."""
    declared: tuple[Schema, ...]
    always: Names
    on_request: Names
    secret: frozenset[str]
    """Names, in lower case, of declared attributes that are never returned."""
    read: dict[tuple[str, bool], Path | None] = field(
        default_factory=dict[tuple[str, bool], "Path | None"], init=False, repr=False, compare=False
    )
    """What ``resolve`` has found for names before: clients send the same few over and over."""

    def schema_of(self, urn: str) -> str | None:
        """The id of the schema that a URN means, legacy and malformed forms included; else None."""
        folded = urn.casefold()
        legacy = _LEGACY.get(folded)
        if legacy is not None:
            meant = self.core.id if legacy == "core" else legacy
            return meant if meant in self.known_urns.values() else None
        # Entra sends "…enterprise:2.0User": colons do not count.
        return self.known_urns.get(folded.replace(":", ""))

    def extension(self, urn: str) -> Schema | None:
        for schema in self.extensions:
            if schema.id == urn:
                return schema
        return None

    def resolve(self, text: str, *, tolerant: bool) -> Path | None:
        """The attribute that a dotted, possibly URN-qualified name means; None where unknown."""
        asked = text, tolerant
        if asked in self.read:
            return self.read[asked]
        path = self._resolved(text, tolerant=tolerant)
        if path is not None and len(self.read) < _MOST_READ and len(text) <= _LONGEST_READ:
            self.read[asked] = path
        return path

    def _resolved(self, text: str, *, tolerant: bool) -> Path | None:
        if ":" not in text:
            name, _, sub = text.partition(".")
            return self.find(None, name, sub or None, tolerant=tolerant)
        whole = self.schema_of(text)
        if whole is not None:
            return Path(extension=whole) if whole != self.core.id else None
        uri, _, rest = text.rpartition(":")
        name, _, sub = rest.partition(".")
        return self.find(uri, name, sub or None, tolerant=tolerant)

    def find(self, uri: str | None, name: str, sub: str | None, *, tolerant: bool) -> Path | None:
        """As ``resolve``, of a name already in parts.

        ``tolerant``: enterprise attributes are also known without their URN. Declared ones are not.
        """
        extension: str | None = None
        if uri is not None:
            meant = self.schema_of(uri)
            if meant is None:
                whole = self.schema_of(f"{uri}:{name}")  # the grammar split a bare URN
                if whole in (None, self.core.id) or sub is not None:
                    return None
                return Path(extension=whole)
            extension = None if meant == self.core.id else meant
        attribute, extension = self._attribute(extension, name.casefold(), tolerant=tolerant)
        if attribute is None:
            return None
        if sub is None:
            return Path(extension=extension, attribute=attribute)
        found = attribute.sub.get(sub.casefold())
        return found and Path(extension=extension, attribute=attribute, sub=found)

    def _attribute(
        self, extension: str | None, name: str, *, tolerant: bool
    ) -> tuple[Attribute | None, str | None]:
        if extension is not None:
            schema = self.extension(extension)
            return (schema.attributes.get(name) if schema else None), extension
        attribute = self.core.attributes.get(name) or self.common.get(name)
        if attribute is None and tolerant:
            for schema in self.extensions:
                found = schema.attributes.get(name)
                if found is not None and found.writable and not schema.declared:
                    return found, schema.id
        return attribute, None


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """Every resource type of the server."""

    user: ResourceType
    group: ResourceType

    @property
    def types(self) -> tuple[ResourceType, ResourceType]:
        return self.user, self.group

    @property
    def secret(self) -> frozenset[str]:
        return self.user.secret | self.group.secret

    def schemas(self) -> Iterator[Schema]:
        """Every schema once, also where users and groups share it."""
        found: dict[str, Schema] = {}
        for resource_type in self.types:
            for schema in (resource_type.core, *resource_type.extensions):
                found.setdefault(schema.id, schema)
        yield from found.values()


def load_catalogue() -> Catalogue:
    """Reads the schema definitions that are part of this package."""
    return Catalogue(
        user=resource_type(
            "User",
            "/Users",
            "Users",
            _load("user"),
            (_load("enterprise_user"), _load("provisioning")),
        ),
        group=resource_type("Group", "/Groups", "Groups of users", _load("group"), ()),
    )


def resource_type(
    name: Literal["User", "Group"],
    endpoint: str,
    description: str,
    core: Schema,
    extensions: tuple[Schema, ...],
) -> ResourceType:
    common = _common()
    return ResourceType(
        name=name,
        endpoint=endpoint,
        description=description,
        core=core,
        extensions=extensions,
        common=common,
        known_urns={
            schema.id.casefold().replace(":", ""): schema.id for schema in (core, *extensions)
        },
        keys=frozenset(
            [attribute.name for attribute in (*core.attributes.values(), *common.values())]
            + [schema.id for schema in extensions]
        ),
        texts=core.texts | texts_of(common.values()),
        declared=tuple(schema for schema in extensions if schema.declared),
        always=_returned("always", core, extensions, common),
        on_request=_returned("request", core, extensions, common),
        secret=frozenset(
            name
            for schema in extensions
            for name, attribute in schema.attributes.items()
            if attribute.returned == "never"
        ),
    )


def _returned(
    when: Returned, core: Schema, extensions: tuple[Schema, ...], common: Mapping[str, Attribute]
) -> Names:
    own = [(None, attribute) for attribute in (*common.values(), *core.attributes.values())]
    others = [
        (schema.id, attribute) for schema in extensions for attribute in schema.attributes.values()
    ]
    return {
        (urn, attribute.name): None
        for urn, attribute in [*own, *others]
        if attribute.returned == when
    }


def _load(name: str) -> Schema:
    return schema_of(orjson.loads(files("scim").joinpath("schemas", f"{name}.json").read_bytes()))


def schema_of(document: Mapping[str, Any], *, declared: bool = False) -> Schema:
    """The schema that a document in the form of RFC 7643 section 7 describes.

    The RFC's own canonical values are suggestions; those that an organization declares are not.
    """
    attributes = _attributes(document["attributes"], declared=declared)
    return Schema(
        id=document["id"],
        attributes=attributes,
        document=document,
        texts=texts_of(attributes.values()),
        required=tuple(each.name for each in attributes.values() if each.required),
        declared=declared,
    )


def _attributes(
    definitions: Sequence[Mapping[str, Any]], *, declared: bool
) -> dict[str, Attribute]:
    return {
        definition["name"].casefold(): _attribute(definition, declared=declared)
        for definition in definitions
    }


def _attribute(definition: Mapping[str, Any], *, declared: bool) -> Attribute:
    sub = _attributes(definition.get("subAttributes", []), declared=declared)
    return Attribute(
        name=definition["name"],
        kind=definition["type"],
        many=definition["multiValued"],
        required=definition["required"],
        exact=definition.get("caseExact", False),
        mutability=definition["mutability"],
        returned=definition["returned"],
        allowed=_allowed(definition) if declared else {},
        sub=sub,
        texts=texts_of(sub.values()),
    )


def texts_of(attributes: Iterable[Attribute]) -> frozenset[str]:
    """Those of which any text is a value, stored as it was sent; by names as the schema spells them.

    Nearly all that clients send: to look no further makes a resource in half the time.
    """
    return frozenset(
        each.name
        for each in attributes
        if each.kind in _TEXTUAL
        and each.writable
        and each.returned != "never"
        and not (each.many or each.required or each.allowed)
    )


def _allowed(definition: Mapping[str, Any]) -> dict[str, str]:
    exact = definition.get("caseExact", False)
    values = definition.get("canonicalValues", [])
    return {value if exact else value.casefold(): value for value in values}


def _common() -> dict[str, Attribute]:
    """Attributes of every resource (RFC 7643 section 3.1), which no schema document lists."""

    def told(name: str, kind: Kind = "string") -> Attribute:
        return Attribute(name=name, kind=kind, exact=True, mutability="readOnly")

    meta = [
        told("resourceType"),
        told("created", "dateTime"),
        told("lastModified", "dateTime"),
        told("location", "reference"),
        told("version"),
    ]
    return {
        "id": Attribute(
            name="id", kind="string", exact=True, mutability="readOnly", returned="always"
        ),
        "externalid": Attribute(name="externalId", kind="string", exact=True),
        "schemas": Attribute(
            name="schemas",
            kind="reference",
            many=True,
            exact=True,
            mutability="readOnly",
            returned="always",
        ),
        "meta": Attribute(
            name="meta",
            kind="complex",
            mutability="readOnly",
            sub={attribute.name.casefold(): attribute for attribute in meta},
        ),
    }
