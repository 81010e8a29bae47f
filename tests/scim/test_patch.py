"""PATCH in every form that identity providers send, as a pure function of resource and operations."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scim.errors import ScimError
from scim.operations import PATCH_SCHEMA, read_operations
from scim.patch import patch_group, patch_user
from scim.resource import Profile
from scim.schema import ENTERPRISE, PROVISIONING, load_catalogue
from service.people import MemberChange

CATALOGUE = load_catalogue()
TOLERANT = Profile(resource_type=CATALOGUE.user)
STRICT = Profile(resource_type=CATALOGUE.user, tolerant=False)
GROUP = Profile(resource_type=CATALOGUE.group)

LENA: dict[str, Any] = {
    "userName": "lena",
    "active": True,
    "name": {"givenName": "Lena", "familyName": "Holt"},
    "emails": [
        {"value": "lena@work.example", "type": "work", "primary": True},
        {"value": "lena@home.example", "type": "home"},
    ],
    ENTERPRISE: {"department": "Billing", "manager": {"value": "7", "$ref": "../Users/7"}},
}


def after(
    *operations: dict[str, Any], resource: dict[str, Any] = LENA, profile: Profile = TOLERANT
) -> dict[str, Any]:
    body = {"schemas": [PATCH_SCHEMA], "Operations": list(operations)}
    return patch_user(profile, resource, read_operations(body, tolerant=profile.tolerant))


def op(name: str, path: str | None = None, value: Any = ...) -> dict[str, Any]:
    made: dict[str, Any] = {"op": name}
    if path is not None:
        made["path"] = path
    if value is not ...:
        made["value"] = value
    return made


def work_address(resource: dict[str, Any]) -> str:
    return next(entry["value"] for entry in resource["emails"] if entry["type"] == "work")


@pytest.mark.parametrize("name", ["replace", "Replace", "REPLACE", "add", "Add"])
def test_operation_names_and_text_booleans_are_taken_in_any_letter_case(name: str) -> None:
    assert after(op(name, "Active", "False"))["active"] is False


def test_without_a_path_every_key_is_one() -> None:
    found = after(
        op(
            "replace",
            value={
                "schemas": [CATALOGUE.user.core.id],
                "id": "something else",
                "active": False,
                "name.givenName": "Mira",
                f"{ENTERPRISE}:department": "Sales",
                'emails[type eq "work"].value': "mira@work.example",
                f"{CATALOGUE.user.core.id}:title": "Clerk",
            },
        )
    )
    assert found["active"] is False
    assert found["name"] == {"givenName": "Mira", "familyName": "Holt"}
    assert found[ENTERPRISE]["department"] == "Sales"
    assert work_address(found) == "mira@work.example"
    assert found["title"] == "Clerk"
    assert "id" not in found


def test_parts_that_are_not_mentioned_stay() -> None:
    found = after(
        op("replace", "name", {"givenName": "Mira"}), op("add", ENTERPRISE, {"division": "N"})
    )
    assert found["name"] == {"givenName": "Mira", "familyName": "Holt"}
    assert found[ENTERPRISE]["department"] == "Billing"
    assert found[ENTERPRISE]["division"] == "N"


def test_value_path_that_matches_nothing_makes_one_entry() -> None:
    found = after(
        op("Add", 'addresses[type eq "work"].locality', "Delft"),
        op("Add", 'addresses[type eq "work"].streetAddress', "Kade 1"),
        op("Add", 'phoneNumbers[type eq "mobile"].value', "+31 6 5550 0100"),
        op("Add", 'roles[primary eq "True"].value', "clerk"),
    )
    assert found["addresses"] == [{"type": "work", "locality": "Delft", "streetAddress": "Kade 1"}]
    assert found["phoneNumbers"] == [{"type": "mobile", "value": "+31 6 5550 0100"}]
    assert found["roles"] == [{"primary": True, "value": "clerk"}]


def test_strict_profile_has_no_target_to_make() -> None:
    with pytest.raises(ScimError) as refused:
        after(op("replace", 'addresses[type eq "work"].locality', "Delft"), profile=STRICT)
    assert refused.value.scim_type == "noTarget"


def test_filter_that_describes_no_entry_has_no_target() -> None:
    with pytest.raises(ScimError) as refused:
        after(op("replace", 'addresses[not (type eq "work")].locality', "Delft"))
    assert refused.value.scim_type == "noTarget"


@pytest.mark.parametrize(
    "value",
    ["8", {"value": "8"}, [{"value": "8"}], {"managerId": "8"}, {"value": "8", "$ref": None}],
)
@pytest.mark.parametrize("path", ["manager", f"{ENTERPRISE}:manager"])
def test_manager_comes_in_many_forms(path: str, value: Any) -> None:
    # The old $ref pointed to someone else.
    assert after(op("replace", path, value))[ENTERPRISE]["manager"] == {"value": "8"}
    assert after(op("replace", f"{path}.value", "8"))[ENTERPRISE]["manager"] == {"value": "8"}


@pytest.mark.parametrize("value", [None, "", []])
def test_empty_values_clear(value: Any) -> None:
    found = after(
        op("replace", "emails", value),
        op("replace", "name.givenName", value),
        op("replace", f"{ENTERPRISE}:manager", value),
    )
    assert "emails" not in found
    assert found["name"] == {"familyName": "Holt"}
    assert found[ENTERPRISE] == {"department": "Billing"}


def test_emptied_value_path_takes_its_entry_away() -> None:
    found = after(op("Replace", 'emails[type eq "home"].value', ""))
    assert [entry["type"] for entry in found["emails"]] == ["work"]


def test_remove_with_a_value_takes_only_that() -> None:
    found = after(op("remove", "emails", [{"value": "LENA@home.example"}]))
    assert [entry["type"] for entry in found["emails"]] == ["work"]


def test_adding_twice_is_adding_once() -> None:
    again = op("add", "emails", [{"value": "Lena@work.example", "type": "work"}])
    assert len(after(again, again)["emails"]) == 2


def test_entries_that_a_path_makes_the_same_become_one() -> None:
    twice = {**LENA, "emails": [{"value": "a", "type": "work"}, {"value": "b", "type": "work"}]}
    found = after(op("replace", 'emails[type eq "work"].value', "c"), resource=twice)
    assert found["emails"] == [{"value": "c", "type": "work"}]


def test_new_primary_entry_takes_that_from_the_others() -> None:
    for operation in (
        op("add", "emails", [{"value": "new@work.example", "type": "work", "primary": True}]),
        op("replace", 'emails[type eq "home"].primary', "True"),
    ):
        primary = [entry for entry in after(operation)["emails"] if entry.get("primary") is True]
        assert len(primary) == 1
        assert primary[0]["value"] != "lena@work.example"


def test_primary_entry_stays_where_a_path_writes_something_else() -> None:
    emails = [{"value": "a", "type": "x"}, {"value": "b", "type": "x", "primary": True}]
    found = after(
        op("replace", 'emails[type eq "x"].display', "d"), resource={**LENA, "emails": emails}
    )
    assert [entry.get("primary") for entry in found["emails"]] == [None, True]


def test_primary_entry_that_a_path_makes_takes_that_from_the_others() -> None:
    roles = [{"value": "a", "primary": False}, {"value": "b", "primary": True, "type": "x"}]
    path = 'roles[primary eq "True" and type eq "y"].value'
    found = after(op("add", path, "c"), resource={**LENA, "roles": roles})
    assert [entry["value"] for entry in found["roles"] if entry["primary"]] == ["c"]


def test_strict_profile_removes_nothing_where_nothing_matches() -> None:
    assert after(op("remove", 'emails[type eq "other"]'), profile=STRICT) == LENA


def test_password_is_taken_and_kept_nowhere() -> None:
    assert after(op("replace", "password", "s3cret"), op("add", value={"Password": "x"})) == LENA


def test_unknown_attribute_is_passed_over_or_refused_by_profile() -> None:
    assert after(op("add", "shoeSize", 42), op("add", value={"urn:x:y": {"a": 1}})) == LENA
    with pytest.raises(ScimError) as refused:
        after(op("add", "shoeSize", 42), profile=STRICT)
    assert refused.value.scim_type == "invalidPath"


@pytest.mark.parametrize(
    ("operation", "scim_type"),
    [
        (op("remove"), "noTarget"),
        (op("add", value="x"), "invalidValue"),
        (op("move", "title", "x"), "invalidSyntax"),
        (op("replace", 'emails[type eq "work"', "x"), "invalidFilter"),
        (op("replace", "name..givenName x", "x"), "invalidPath"),
        (op("replace", "active", "perhaps"), "invalidValue"),
        (op("replace", "title", {"a": 1}), "invalidValue"),
        (op("replace", "emails", [[1]]), "invalidValue"),
        (op("replace", "id", "x"), "mutability"),
        (op("replace", PROVISIONING, {"state": "applied"}), "mutability"),
        (op("remove", f"{PROVISIONING}:state"), "mutability"),
        (op("remove", "userName"), "mutability"),
        (op("replace", "userName", ""), "mutability"),
        (op("replace", "userName", "x" * 3000), "invalidValue"),
        (op("add", "title", "a\x00b"), "invalidValue"),
        ({"op": "add", "path": 7, "value": "x"}, "invalidPath"),
    ],
)
def test_wrong_operations_are_refused(operation: dict[str, Any], scim_type: str) -> None:
    with pytest.raises(ScimError) as refused:
        after(operation)
    assert (refused.value.status, refused.value.scim_type) == (400, scim_type)


@pytest.mark.parametrize(
    "body", [[], "x", {}, {"Operations": []}, {"Operations": {}}, {"Operations": [1]}]
)
def test_body_without_operations_is_refused(body: Any) -> None:
    with pytest.raises(ScimError) as refused:
        read_operations(body, tolerant=True)
    assert refused.value.scim_type == "invalidSyntax"


# Laws

texts = st.sampled_from(["a", "B", "lena@work.example", ""])
operations = st.one_of(
    st.builds(
        op,
        st.sampled_from(["add", "replace", "Replace"]),
        st.sampled_from(
            ["title", "name.givenName", 'emails[type eq "work"].value', "manager", "nickName",
             'emails[type eq "other"].value', f"{ENTERPRISE}:costCenter", "userType"]
        ),
        texts,
    ),
    st.builds(op, st.just("add"), st.just("emails"), st.lists(st.builds(
        lambda value, kind: {"value": value, "type": kind}, texts, st.sampled_from(["work", "x"])
    ), max_size=3)),
    st.builds(op, st.just("remove"), st.sampled_from(["emails", "title", "name", 'emails[type eq "home"]'])),
    st.builds(op, st.just("replace"), st.none(), st.dictionaries(
        st.sampled_from(["title", "active", "name.familyName", "displayName"]), st.sampled_from(["True", "false"])
    )),
)  # fmt: skip
patches = st.lists(operations, min_size=1, max_size=6)


def attempted(*listed: dict[str, Any], resource: dict[str, Any] = LENA) -> dict[str, Any] | None:
    try:
        return after(*listed, resource=resource)
    except ScimError:
        return None


@given(listed=patches)
def test_patch_leaves_its_input_alone(listed: list[dict[str, Any]]) -> None:
    before = copy.deepcopy(LENA)
    attempted(*listed)
    assert before == LENA


@given(listed=patches)
def test_result_of_a_patch_is_a_canonical_resource(listed: list[dict[str, Any]]) -> None:
    result = attempted(*listed)
    if result is not None:
        assert TOLERANT.normalise(copy.deepcopy(result)) == result


@given(listed=patches)
def test_one_wrong_operation_refuses_all(listed: list[dict[str, Any]]) -> None:
    assert attempted(*listed, op("replace", "active", "perhaps")) is None
    assert attempted(op("remove"), *listed) is None


@given(first=patches, second=patches)
def test_operations_in_one_patch_are_those_of_two(
    first: list[dict[str, Any]], second: list[dict[str, Any]]
) -> None:
    halfway = attempted(*first)
    if halfway is not None:
        assert attempted(*first, *second) == attempted(*second, resource=halfway)


@given(operation=operations.filter(lambda operation: operation["op"].lower() == "replace"))
def test_replacing_twice_is_replacing_once(operation: dict[str, Any]) -> None:
    assert attempted(operation, operation) == attempted(operation)


# Groups

FIELD: dict[str, Any] = {"displayName": "Field crew"}


def members_after(*listed: dict[str, Any]) -> MemberChange:
    read = read_operations({"Operations": list(listed)}, tolerant=True)
    return patch_group(GROUP, FIELD, read)[1]


def members(*ids: str) -> list[dict[str, Any]]:
    return [{"value": each, "$ref": None} for each in ids]


@pytest.mark.parametrize(
    ("listed", "change"),
    [
        ([op("Add", "members", members("1", "2"))], MemberChange(add=frozenset("12"))),
        ([op("add", value={"members": members("1")})], MemberChange(add=frozenset("1"))),
        ([op("Remove", "members", members("1"))], MemberChange(remove=frozenset("1"))),
        ([op("remove", 'members[value eq "1"]')], MemberChange(remove=frozenset("1"))),
        (
            [op("remove", 'members[value eq "1" or value eq "2"]')],
            MemberChange(remove=frozenset("12")),
        ),
        ([op("remove", "members")], MemberChange(replace=True)),
        ([op("remove", "members", [])], MemberChange()),
        ([op("replace", "members", [])], MemberChange(replace=True)),
        ([op("replace", "members", members("3"))], MemberChange(replace=True, add=frozenset("3"))),
        (
            [op("remove", "members", members("1")), op("add", "members", members("1"))],
            MemberChange(add=frozenset("1")),
        ),
        (
            [op("replace", "members", members("1", "2")), op("remove", 'members[value eq "2"]')],
            MemberChange(replace=True, add=frozenset("1")),
        ),
        ([op("replace", 'members[value eq "1"].display', "x")], MemberChange()),
    ],
)
def test_operations_on_members_add_up_to_one_change(
    listed: list[dict[str, Any]], change: MemberChange
) -> None:
    assert members_after(*listed) == change


def test_group_is_renamed_without_a_path() -> None:
    read = read_operations(
        {"Operations": [op("replace", value={"id": "1", "displayName": "New"})]}, tolerant=True
    )
    assert patch_group(GROUP, FIELD, read) == ({"displayName": "New"}, MemberChange())


@pytest.mark.parametrize(
    "operation",
    [
        op("add", "members", [{"value": 7}]),
        op("add", "members", [{}]),
        op("add", "members", [{"value": "1", "type": "Group"}]),
        op("remove", "displayName"),
        op("remove", 'members[type eq "User"]'),
    ],
)
def test_wrong_operations_on_groups_are_refused(operation: dict[str, Any]) -> None:
    with pytest.raises(ScimError) as refused:
        members_after(operation)
    assert refused.value.status == 400


def test_a_patch_that_compares_without_end_is_refused() -> None:
    """Nobody else can write while it does."""
    many = {**LENA, "emails": [{"value": f"a{number}@h.example"} for number in range(1000)]}
    terms = " or ".join(f'value co "none{number}"' for number in range(150))
    selecting = op("remove", f"emails[{terms}].display")
    with pytest.raises(ScimError) as refused:
        after(*[selecting] * 20, resource=many)
    assert (refused.value.status, refused.value.scim_type) == (400, "tooMany")
    adding = op("add", "emails", [entry["value"] for entry in many["emails"]])
    with pytest.raises(ScimError) as refused:
        after(*[adding] * 20, resource=many)
    assert refused.value.scim_type == "tooMany"
    taking = op("remove", "emails", [{"value": "none"}] * 1000)
    assert after(taking, resource=many)["emails"] == many["emails"]


def test_paths_that_take_the_grammar_long_are_refused_together() -> None:
    terms = " or ".join(f'value eq "none{number}"' for number in range(150))
    with pytest.raises(ScimError) as refused:
        after(*[op("remove", f"emails[{terms}].display")] * 100)
    assert (refused.value.status, refused.value.scim_type) == (400, "tooMany")


def test_thousands_of_members_leave_one_by_one() -> None:
    leaving = [op("remove", f'members[value eq "{number}"]') for number in range(5000)]
    assert members_after(*leaving).remove == {str(number) for number in range(5000)}


def test_an_entry_made_from_a_filter_has_the_types_of_the_schema() -> None:
    made = after(op("replace", 'emails[value eq "new@h.example" and primary eq "True"].type', "x"))
    assert made["emails"][-1] == {"value": "new@h.example", "primary": True, "type": "x"}
