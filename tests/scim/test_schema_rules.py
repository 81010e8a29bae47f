"""RFC 7643 sections 2.2 and 7, of every attribute that discovery shows: what it says is what is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import pytest

from scim import discovery
from scim.errors import ScimError
from scim.extensions import extended
from scim.filter import parse_filter
from scim.operations import Operation
from scim.patch import patch_group, patch_user
from scim.representation import projection_of
from scim.resource import Profile
from scim.schema import ResourceType, load_catalogue
from service.directory.predicates import And, Compare, Entry, Not, Or, Predicate
from tests.scim.declared import STAFF_SCHEMA, TEAM, TEAM_SCHEMA, schemas

CATALOGUE: Final = extended(load_catalogue(), schemas(STAFF_SCHEMA, TEAM_SCHEMA))
DOCUMENTS: Final[dict[str, Any]] = {
    each["id"]: each for each in discovery.schemas(CATALOGUE, "https://scim.test")["Resources"]
}
RIGHT: Final[dict[str, Any]] = {
    "string": "Word",
    "boolean": True,
    "decimal": 1.5,
    "integer": 3,
    "dateTime": "2026-02-03T04:05:06.000000+00:00",
    "binary": "aGFsbG8=",
    "reference": "https://people.example/x",
}
WRONG: Final[dict[str, Any]] = {**{kind: {"a": 1} for kind in RIGHT}, "complex": True}
MEMBERS: Final = "members"
"""Kept as rows: tests/scim/test_groups.py has their rules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """An attribute, or a part of one, as discovery describes it, in a resource type that has it."""

    kind: ResourceType
    urn: str
    definition: dict[str, Any]
    part: dict[str, Any] | None = None

    def __str__(self) -> str:
        return f"{self.kind.name}-{self.urn.rpartition(':')[2]}-{self.path}"

    @property
    def path(self) -> str:
        name = self.definition["name"]
        return f"{name}.{self.part['name']}" if self.part else name

    @property
    def full_path(self) -> str:
        return self.path if self.urn == self.kind.core.id else f"{self.urn}:{self.path}"

    @property
    def told(self) -> dict[str, Any]:
        return self.part or self.definition

    @property
    def is_read_only(self) -> bool:
        return "readOnly" in (self.definition["mutability"], self.told["mutability"])

    def body(self, value: Any, *, swap_case: bool = False) -> dict[str, Any]:
        """A resource that gives the attribute this value, with what else is required."""

        def spelt(name: str) -> str:
            return name.swapcase() if swap_case else name

        if self.part is not None:
            needed = [each for each in self.definition["subAttributes"] if each["required"]]
            value = {each["name"]: "Word" for each in needed} | {spelt(self.part["name"]): value}
        if self.definition["multiValued"] and (
            self.part is not None or not isinstance(value, list)
        ):
            value = [value]
        given = {spelt(self.definition["name"]): value}
        if self.urn == self.kind.core.id:
            name = "userName" if self.kind is CATALOGUE.user else "displayName"
            return given if self.definition["name"] == name else {name: "x", **given}
        for each in DOCUMENTS[self.urn]["attributes"]:
            if each["required"] and each["name"] != self.definition["name"]:
                given[each["name"]] = "Word"
        name = "userName" if self.kind is CATALOGUE.user else "displayName"
        return {name: "x", spelt(self.urn): given}

    def found(self, resource: dict[str, Any]) -> Any:
        """The value that the resource has for it, out of its list."""
        holder = resource if self.urn == self.kind.core.id else resource.get(self.urn, {})
        value = holder.get(self.definition["name"])
        if self.definition["multiValued"] and value:
            value = value[0]
        return (value or {}).get(self.part["name"]) if self.part else value


def cases() -> list[Case]:
    found: list[Case] = []
    for kind in CATALOGUE.types:
        for schema in (kind.core, *kind.extensions):
            for definition in DOCUMENTS[schema.id]["attributes"]:
                if definition["name"] == MEMBERS:
                    continue
                found.append(Case(kind=kind, urn=schema.id, definition=definition))
                found += [
                    Case(kind=kind, urn=schema.id, definition=definition, part=part)
                    for part in definition.get("subAttributes", ())
                ]
    return found


EVERY: Final = cases()
SIMPLE: Final = [case for case in EVERY if case.told["type"] != "complex"]
WRITABLE: Final = [case for case in SIMPLE if not case.is_read_only]
each = pytest.mark.parametrize("case", EVERY, ids=str)
each_text = pytest.mark.parametrize(
    "case",
    [
        case
        for case in SIMPLE
        if case.told["type"] in ("string", "reference") and case.definition["returned"] != "never"
    ],
    ids=str,
)
each_writable = pytest.mark.parametrize("case", WRITABLE, ids=str)
each_read_only = pytest.mark.parametrize(
    "case", [case for case in EVERY if case.is_read_only], ids=str
)


def right(case: Case) -> Any:
    allowed = case.told.get("canonicalValues")
    return allowed[0] if allowed else RIGHT[case.told["type"]]


def normalised(case: Case, body: dict[str, Any], *, tolerant: bool = True) -> dict[str, Any]:
    urns = [case.kind.core.id, *(schema.id for schema in case.kind.extensions)]
    profile = Profile(resource_type=case.kind, tolerant=tolerant)
    return profile.normalise({"schemas": urns, **body})


def patched(case: Case, operation: Operation) -> dict[str, Any]:
    profile = Profile(resource_type=case.kind)
    before = normalised(case, {"userName": "x", "displayName": "x"})
    if case.kind is CATALOGUE.user:
        return patch_user(profile, before, [operation])
    return patch_group(profile, before, [operation])[0]


def test_the_table_has_every_characteristic() -> None:
    assert len(EVERY) > 100
    for key in ("mutability", "returned", "type"):
        assert len({case.told[key] for case in EVERY}) >= 4
    assert {case.told["uniqueness"] for case in EVERY} == {"none", "server"}


@each
def test_discovery_tells_every_characteristic(case: Case) -> None:
    told = case.told
    assert told.keys() >= {"name", "type", "multiValued", "description", "required"}
    assert told["mutability"] in ("readWrite", "readOnly", "writeOnly", "immutable")
    assert told["returned"] in ("always", "default", "request", "never")
    assert ("subAttributes" in told) == (told["type"] == "complex")
    assert ("referenceTypes" in told) == (told["type"] == "reference")
    if told["type"] in ("string", "reference", "binary"):
        assert isinstance(told["caseExact"], bool)
    assert None not in told.values()


@each_writable
@pytest.mark.parametrize("tolerant", [True, False])
def test_names_are_read_in_any_letter_case_and_kept_as_the_schema_writes_them(
    case: Case, tolerant: bool
) -> None:
    value = right(case)
    resource = normalised(case, case.body(value, swap_case=True), tolerant=tolerant)
    kept = None if case.definition["returned"] == "never" else value
    assert case.found(resource) == kept


@each
@pytest.mark.parametrize("tolerant", [True, False])
def test_values_of_another_type_are_refused(case: Case, tolerant: bool) -> None:
    body = case.body(WRONG[case.told["type"]])
    if case.is_read_only:
        assert case.found(normalised(case, body, tolerant=tolerant)) is None
        return
    if tolerant and case.told["type"] == "complex" and _has_value(case):
        return  # a bare value is the entry's value: identity providers send that
    with pytest.raises(ScimError) as refused:
        normalised(case, body, tolerant=tolerant)
    assert (refused.value.status, refused.value.scim_type) == (400, "invalidValue")


def _has_value(case: Case) -> bool:
    return any(part["name"] == "value" for part in case.told["subAttributes"])


@each_read_only
def test_read_only_is_ignored_in_a_body_and_refused_by_its_path(case: Case) -> None:
    kind = case.told["type"]
    value = {"value": "x"} if kind == "complex" else right(case)
    assert case.found(normalised(case, case.body(value))) is None
    with pytest.raises(ScimError) as refused:
        patched(case, Operation(name="replace", path=case.full_path, value=value))
    assert refused.value.scim_type == "mutability"
    holder = {case.full_path: value}
    assert case.found(patched(case, Operation(name="add", value=holder))) is None


@pytest.mark.parametrize(
    "case", [case for case in SIMPLE if case.definition["returned"] == "never"], ids=str
)
@pytest.mark.parametrize("name", ["add", "replace"])
def test_what_is_never_returned_is_never_kept(case: Case, name: Any) -> None:
    operation = Operation(name=name, path=case.full_path, value=right(case))
    assert case.found(patched(case, operation)) is None
    with pytest.raises(ScimError, match="filtered"):
        parse_filter(f'{case.full_path} eq "x"', case.kind, tolerant=True)


@pytest.mark.parametrize(
    "case",
    [case for case in EVERY if case.part is None and case.definition["required"]],
    ids=str,
)
@pytest.mark.parametrize("tolerant", [True, False])
def test_required_is_required(case: Case, tolerant: bool) -> None:
    body = case.body(None)
    if case.urn == TEAM:  # an extension that is not used asks for nothing
        normalised(case, body, tolerant=tolerant)
        body[TEAM]["budget"] = 1
    with pytest.raises(ScimError, match="required"):
        normalised(case, body, tolerant=tolerant)


@each_text
def test_filters_compare_letter_case_as_declared(case: Case) -> None:
    predicate = parse_filter(f'{case.full_path} eq "Word"', case.kind, tolerant=True)
    assert [leaf.target.exact for leaf in _leaves(predicate)] == [case.told["caseExact"]]


def _leaves(predicate: Predicate) -> list[Compare]:
    match predicate:
        case Compare():
            return [predicate]
        case And(terms) | Or(terms):
            return [leaf for term in terms for leaf in _leaves(term)]
        case Not(term):
            return _leaves(term)
        case Entry(where=where):
            return _leaves(where)
        case _:
            return []


@pytest.mark.parametrize(
    "case",
    [case for case in EVERY if case.part is None and case.definition["returned"] != "never"],
    ids=str,
)
def test_shown_as_declared(case: Case) -> None:
    name, holder = case.definition["name"], case.kind
    core = case.urn == case.kind.core.id
    document = {"schemas": [], "id": "1", **({name: 1} if core else {case.urn: {name: 1}})}

    def shown(attributes: list[str], excluded: list[str]) -> bool:
        projection = projection_of(attributes, excluded, holder)
        after = projection.apply({**document})
        return name in (after if core else after.get(case.urn, {}))

    when = case.definition["returned"]
    assert shown([], []) == (when != "request")
    assert shown([case.full_path.swapcase()], [])
    assert shown(["id"], []) == (when == "always")
    assert shown([], [case.full_path.swapcase()]) == (when == "always")


def test_declared_unique_are_exactly_what_the_directory_keeps_unique() -> None:
    unique = {case.full_path for case in EVERY if case.told["uniqueness"] == "server"}
    assert unique == {"userName", "displayName"}
    kinds = {case.kind.name for case in EVERY if case.told["uniqueness"] == "server"}
    assert kinds == {"User", "Group"}
