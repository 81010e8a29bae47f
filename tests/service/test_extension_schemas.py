"""Declared extension schemas: what is accepted, and what a refusal says."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from scim.schema import load_catalogue
from service.extension_schemas import SchemaDeclaration
from service.organizations import Connection, Organization
from tests.scim.declared import STAFF_SCHEMA, TEAM_SCHEMA

URN = "urn:example:scim:1.0:Thing"


def declared(*documents: dict[str, Any]) -> Organization:
    connection = Connection(name="users")
    return Organization.model_validate(
        {"name": "hoekstra", "connections": [connection], "scim_schemas": list(documents)}
    )


def thing(urn: str = URN, **attribute: Any) -> dict[str, Any]:
    return {"id": urn, "name": "Thing", "attributes": [{"name": "size", **attribute}]}


def test_what_was_declared_is_read_back_from_storage() -> None:
    organization = declared(STAFF_SCHEMA, TEAM_SCHEMA)
    stored = organization.model_dump(mode="json")
    assert Organization.model_validate(stored) == organization
    assert organization.scim_schemas[0].resource_types == ("User",)
    assert organization.scim_schemas[1].resource_types == ("Group", "User")


def test_keys_are_taken_in_either_spelling() -> None:
    rfc = SchemaDeclaration.model_validate(thing(multiValued=True, caseExact=True))
    ours = SchemaDeclaration.model_validate(thing(multi_valued=True, case_exact=True))
    assert rfc == ours


@pytest.mark.parametrize(
    "urn",
    [
        "urn:ietf:params:scim:schemas:extension:hoekstra:2.0:User",
        "urn:hoekstra:User",
        "URN:Hoekstra:a.b-c_d:2.0:User",
    ],
)
def test_usual_urns_are_taken(urn: str) -> None:
    assert declared(thing(urn)).scim_schemas[0].id == urn


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (thing("hoekstra:User"), "must be a URN"),
        (thing("urn:hoekstra:2.0"), "last part a name without dots"),
        (thing("urn:hoekstra:us er"), "must be a URN"),
        (thing("urn:hoekstra:" + "x" * 200), "at most 200"),
        (thing("urn:ietf:params:scim:schemas:core:2.0:User"), "choose a URN of your own"),
        (thing("URN:IETF:params:scim:schemas:core:2.0:Team"), "choose a URN of your own"),
        (thing("urn:hoekstra:Passwords"), "passwords are not taken"),
        (thing(name="9lives"), "must start with a letter"),
        (thing(name="a.b"), "must start with a letter"),
        (thing(name="x" * 65), "64 at most"),
        (thing(name="Members"), "of every resource"),
        (thing(name="externalid"), "of every resource"),
        (thing(name="eq"), "filter language"),
        (thing(name="oldPassword"), "passwords are not taken"),
        (thing(type="number"), "'string', 'boolean'"),
        (thing(uniqueness="server"), "uniqueness must be none"),
        (thing(uniqueness="global"), "uniqueness must be none"),
        (thing(type="complex"), "has subAttributes"),
        (thing(subAttributes=[{"name": "x"}]), "has subAttributes"),
        (thing(type="complex", subAttributes=[{"name": "x"}, {"name": "X"}]), "X is there twice"),
        (
            thing(type="complex", subAttributes=[{"name": "x", "type": "complex"}]),
            "cannot be complex",
        ),
        (
            thing(type="complex", subAttributes=[{"name": "x", "multiValued": True}]),
            "has one value",
        ),
        (
            thing(type="complex", subAttributes=[{"name": "x", "returned": "never"}]),
            "with its attribute",
        ),
        (thing(type="complex", subAttributes=[{"name": "primary"}]), "must be of type boolean"),
        (
            thing(
                type="complex",
                multiValued=True,
                subAttributes=[{"name": "x", "mutability": "immutable"}],
            ),
            "replaced whole",
        ),
        (thing(mutability="sometimes"), "'readWrite', 'readOnly'"),
        (thing(mutability="readOnly", required=True), "nobody could give it"),
        (thing(mutability="writeOnly"), "needs returned: never"),
        (thing(returned="never"), "checked and not kept"),
        (thing(returned="never", mutability="writeOnly", required=True), "checked and not kept"),
        (thing(type="integer", canonicalValues=["1"]), "for strings"),
        (thing(canonicalValues=["a", "A"]), "A is there twice"),
        (thing(referenceTypes=["User"]), "for type reference"),
        (thing(colour="red"), "Extra inputs"),
        ({**thing(), "attributes": []}, "at least 1 item"),
        ({**thing(), "attributes": [{"name": f"a{n}"} for n in range(51)]}, "at most 50 items"),
        ({**thing(), "attributes": [{"name": "a"}, {"name": "A"}]}, "A is there twice"),
        ({**thing(), "resourceTypes": ["Device"]}, "'User' or 'Group'"),
        ({**thing(), "resourceTypes": ["User", "User"]}, "User is there twice"),
    ],
)
def test_mistakes_are_told_by_what_to_write_instead(document: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        declared(document)
    assert any(said in mistake["msg"] for mistake in refused.value.errors()), str(refused.value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("urn:hoekstra:Desk", "urn:HOEKSTRA:desk"),
        ("urn:hoekstra:a:bDesk", "urn:hoekstra:ab:Desk"),
        ("urn:hoekstra:Desk", "urn:hoekstra:Desk:Lamp"),
    ],
)
def test_schemas_that_could_be_taken_for_one_another_are_refused(one: str, other: str) -> None:
    for first, second in ((one, other), (other, one)):
        with pytest.raises(ValidationError, match="taken for one another"):
            declared(thing(first), thing(second))


def test_schemas_of_the_server_cannot_be_declared() -> None:
    for schema in load_catalogue().schemas():
        with pytest.raises(ValidationError, match="choose a URN of your own"):
            declared(thing(schema.id))


def test_an_organization_has_a_handful_of_schemas() -> None:
    with pytest.raises(ValidationError, match="at most 5 items"):
        declared(*(thing(f"urn:hoekstra:Thing{number}") for number in range(6)))
