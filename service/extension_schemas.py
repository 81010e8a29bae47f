"""SCIM extension schemas that an organization declares (RFC 7643 section 7), checked when it is applied.

What is accepted here is kept in every respect; what would not be is refused with what to write instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

SimpleType = Literal[
    "string", "boolean", "decimal", "integer", "dateTime", "binary", "reference", "complex"
]
MOST_SCHEMAS: Final = 5
MOST_ATTRIBUTES: Final = 50
"""Of a schema, and of a complex attribute. Discovery shows them all, a write reads them all."""

# The last part has no dot: "urn:…:Name.part" in a filter is an attribute's.
_URN: Final = re.compile(
    r"urn:[a-z0-9][a-z0-9-]{0,30}(:[A-Za-z0-9][A-Za-z0-9._-]*)*:[A-Za-z][A-Za-z0-9_-]*",
    re.IGNORECASE,
)
_ATTRIBUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_TAKEN: Final = (
    "urn:ietf:params:scim:schemas:core:",
    "urn:ietf:params:scim:schemas:extension:enterprise:",
    "urn:ietf:params:scim:api:",
    "urn:scim:schemas:",
    "urn:auth0-provisioner:",
)
_COMMON: Final = frozenset(("id", "externalid", "schemas", "meta", "members", "groups"))
_WORDS: Final = frozenset(
    [
        "and",
        "or",
        "not",
        "pr",
        "eq",
        "ne",
        "co",
        "sw",
        "ew",
        "gt",
        "ge",
        "lt",
        "le",
        "true",
        "false",
        "null",
    ]
)


def _urn(text: str) -> str:
    if not _URN.fullmatch(text) or len(text) > 200:
        raise ValueError(
            "must be a URN of at most 200 characters such as urn:example:scim:1.0:User: letters,"
            " digits, . _ - and :, the last part a name without dots"
        )
    folded = text.casefold()
    if any(f"{folded}:".startswith(taken) for taken in _TAKEN):
        raise ValueError(f"{text} belongs to a standard or to us: choose a URN of your own")
    _refuse_passwords(text)
    return text


def _attribute_name(text: str) -> str:
    if not _ATTRIBUTE.fullmatch(text):
        raise ValueError(
            "must start with a letter, and have letters, digits, _ and - alone, 64 at most"
        )
    if text.casefold() in _COMMON:
        raise ValueError(f"{text} is an attribute of every resource: choose another name")
    if text.casefold() in _WORDS:
        raise ValueError(f"{text} is a word of the filter language: choose another name")
    _refuse_passwords(text)
    return text


def _part_name(text: str) -> str:
    return text if text == "$ref" else _attribute_name(text)


def _refuse_passwords(text: str) -> None:
    if "password" in text.casefold():
        raise ValueError("passwords are not taken: leave the attribute out")


class _Described(BaseModel):
    """Keys as in RFC 7643, in camelCase; the spelling with underscores is taken too."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True
    )


class _Characteristics(_Described):
    """What RFC 7643 section 2.2 says of an attribute, with its defaults."""

    type: SimpleType = "string"
    multi_valued: bool = False
    description: str = Field(default="", max_length=1000)
    required: bool = False
    case_exact: bool = False
    canonical_values: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = Field(
        default=(), max_length=200
    )
    reference_types: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] = Field(
        default=(), max_length=10
    )
    mutability: Literal["readWrite", "readOnly", "writeOnly", "immutable"] = "readWrite"
    returned: Literal["always", "default", "request", "never"] = "default"
    uniqueness: Literal["none", "server", "global"] = "none"

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if self.uniqueness != "none":
            raise ValueError(
                "uniqueness must be none: what extensions hold is not kept unique, userName and"
                " a group's displayName are"
            )
        if self.canonical_values and self.type not in ("string", "reference"):
            raise ValueError("canonicalValues are for strings and references")
        _require_distinct("canonicalValues", self.canonical_values)
        if self.reference_types and self.type != "reference":
            raise ValueError("referenceTypes are for type reference")
        if self.required and self.mutability == "readOnly":
            raise ValueError("a required attribute cannot be readOnly: nobody could give it")
        return self


class PartDeclaration(_Characteristics):
    """A sub-attribute of a complex attribute."""

    name: Annotated[str, AfterValidator(_part_name)]

    @model_validator(mode="after")
    def _is_simple(self) -> Self:
        if self.type == "complex":
            raise ValueError("a sub-attribute cannot be complex (RFC 7643 section 2.3.8)")
        if self.multi_valued:
            raise ValueError("a sub-attribute has one value here: make the attribute multiValued")
        if self.returned != "default" or self.mutability == "writeOnly":
            raise ValueError(
                "a sub-attribute is returned with its attribute: leave returned and writeOnly out"
            )
        needed = {"type": "string", "primary": "boolean", "display": "string"}.get(self.name)
        if needed is not None and self.type != needed:
            raise ValueError(f"{self.name} must be of type {needed} (RFC 7643 section 2.4)")
        return self


class AttributeDeclaration(_Characteristics):
    """An attribute of an extension."""

    name: Annotated[str, AfterValidator(_attribute_name)]
    sub_attributes: tuple[PartDeclaration, ...] = Field(default=(), max_length=MOST_ATTRIBUTES)

    @model_validator(mode="after")
    def _can_be_kept(self) -> Self:
        if (self.type == "complex") != bool(self.sub_attributes):
            raise ValueError("an attribute of type complex has subAttributes, and no other has")
        _require_distinct("subAttributes", [part.name for part in self.sub_attributes])
        if self.multi_valued and any(
            part.mutability == "immutable" for part in self.sub_attributes
        ):
            raise ValueError(
                "entries of a multiValued attribute are replaced whole: make the attribute"
                " immutable, not its subAttributes"
            )
        if self.mutability == "writeOnly" and self.returned != "never":
            raise ValueError("a writeOnly attribute needs returned: never")
        if self.returned == "never" and (self.required or self.mutability != "writeOnly"):
            raise ValueError(
                "what is never returned is checked and not kept: it is writeOnly and not required"
            )
        return self


class SchemaDeclaration(_Described):
    """One extension, for users unless ``resource_types`` says otherwise."""

    id: Annotated[str, AfterValidator(_urn)]
    name: str = Field(min_length=1, max_length=100)
    description: str = Field(default="", max_length=1000)
    resource_types: tuple[Literal["User", "Group"], ...] = Field(default=("User",), min_length=1)
    attributes: tuple[AttributeDeclaration, ...] = Field(min_length=1, max_length=MOST_ATTRIBUTES)

    @model_validator(mode="after")
    def _has_distinct_names(self) -> Self:
        _require_distinct("resourceTypes", self.resource_types)
        _require_distinct("attributes", [attribute.name for attribute in self.attributes])
        return self


def require_apart(schemas: Sequence[SchemaDeclaration]) -> None:
    """Raises ValueError where a name could mean two of the schemas.

    Letter case never counts in a URN, and identity providers lose colons of it.
    """
    folded = [schema.id.casefold() for schema in schemas]
    for position, urn in enumerate(folded):
        for other in folded[position + 1 :]:
            shorter, longer = sorted((urn, other), key=len)
            same = urn.replace(":", "") == other.replace(":", "")
            if same or longer.startswith(f"{shorter}:"):
                raise ValueError(
                    f"scim_schemas: {shorter} and {longer} can be taken for one another: change"
                    " the name at the end of one"
                )


def _require_distinct(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        folded = name.casefold()
        if folded in seen:
            raise ValueError(f"{what}: {name} is there twice, letter case does not count")
        seen.add(folded)
