"""Which connection a person lives in: the first whose rule fits, else the first without any."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from service.choosing import choose
from service.organizations import Organization
from service.people import ENTERPRISE, User

NOW = datetime(2026, 3, 2, tzinfo=UTC)


def organization(*connections: dict[str, Any], **more: Any) -> Organization:
    return Organization.model_validate({"name": "acme", "connections": connections, **more})


def chosen(
    rule: dict[str, Any],
    resource: dict[str, Any],
    groups: frozenset[str] = frozenset(),
    **user: Any,
) -> bool:
    """Whether somebody fits a rule."""
    acme = organization({"name": "some", "rules": [rule]}, {"name": "rest"})
    person = User(
        id="1", organization="acme", resource=resource, created_at=NOW, modified_at=NOW, **user
    )
    return choose(acme, person, groups).name == "some"


ADA: dict[str, Any] = {
    "userName": "ada@Acme.example",
    "userType": "Contractor",
    "name": {"familyName": "Byron"},
    "emails": [{"value": "ada@acme.example", "type": "work", "primary": True}],
    "roles": [{"value": "Auditor"}, {"value": "Writer"}],
    "active": True,
    ENTERPRISE: {"department": "Sales", "manager": {"value": "7"}},
    "urn:acme:scim:1.0:Desk": {"size": 3},
}


@pytest.mark.parametrize(
    ("rule", "fits"),
    [
        ({"domains": ["ACME.example"]}, True),
        ({"domains": ["@acme.example", "b.example"]}, True),
        ({"domains": ["sub.acme.example"]}, False),
        ({"attributes": {"userType": ["contractor", "Temp"]}}, True),
        ({"attributes": {"USERTYPE": ["Employee"]}}, False),
        ({"attributes": {"department": ["sales"]}}, True),
        ({"attributes": {f"{ENTERPRISE}:department": ["Sales"]}}, True),
        ({"attributes": {f"{ENTERPRISE}:manager.value": ["7"]}}, True),
        ({"attributes": {"urn:acme:scim:1.0:Desk:size": ["3"]}}, True),
        ({"attributes": {"urn:ietf:params:scim:schemas:core:2.0:User:active": ["true"]}}, True),
        ({"attributes": {"name.familyName": ["Byron"]}}, True),
        ({"attributes": {"roles": ["writer"]}}, True),
        ({"attributes": {"emails.type": ["work"]}}, True),
        ({"attributes": {"title": ["Boss"]}}, False),
        ({"attributes": {"hr.employment_type": ["external"]}}, True),
        ({"attributes": {"hr.department": ["external"]}}, False),
        ({"groups": ["Contractors"]}, True),
        ({"groups": ["Staff", "g-1"]}, True),
        ({"groups": ["Staff"]}, False),
        ({"domains": ["acme.example"], "attributes": {"userType": ["Employee"]}}, False),
        ({"domains": ["acme.example"], "groups": ["Contractors"]}, True),
    ],
)
def test_all_that_a_rule_asks_for_must_be_true(rule: dict[str, Any], fits: bool) -> None:
    groups = frozenset({"g-1", "contractors"})
    worker = {"employment_type": ["External", [1, 2]]}
    assert chosen(rule, ADA, groups, worker=worker) is fits


def test_the_first_connection_whose_rule_fits_wins_and_the_default_may_stand_anywhere() -> None:
    acme = organization(
        {"name": "rest"},
        {"name": "sales", "rules": [{"attributes": {"department": ["Sales"]}}]},
        {"name": "work", "domains": ["acme.example"]},
    )
    person = User(id="1", organization="acme", resource=ADA, created_at=NOW, modified_at=NOW)
    assert choose(acme, person, frozenset()).name == "sales"


@pytest.mark.parametrize(
    ("connections", "said"),
    [
        (
            [{"name": "a", "domains": ["x.example"]}, {"name": "b", "domains": ["X.example"]}],
            "a and b have the same rule",
        ),
        (
            [
                {"name": "a", "domains": ["x.example", "y.example"]},
                {"name": "b", "domains": ["x.example"]},
            ],
            "a and b both take all of x.example",
        ),
        ([{"name": "a"}, {"name": "a"}], "each is named once"),
        ([{"name": "a", "rules": [{}]}], "a rule needs domains, attributes or groups"),
        ([{"name": "a", "rules": [{"attributes": {"user type": ["x"]}}]}], "attributes"),
        ([{"name": "a", "rules": [{"attributes": {"userType": []}}]}], "attributes"),
    ],
)
def test_rules_that_leave_open_what_is_meant_are_refused(
    connections: list[dict[str, Any]], said: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        organization(*connections)


def test_an_organization_may_have_databases_and_identity_providers() -> None:
    acme = organization({"name": "db"}, {"name": "idp", "strategy": "waad"}, model="enterprise")
    assert [acme.model_in(each) for each in acme.connections] == ["isolated", "enterprise"]
    other = organization({"name": "db"}, {"name": "idp", "strategy": "waad"}, model="shared")
    assert [other.model_in(each) for each in other.connections] == ["shared", "enterprise"]
