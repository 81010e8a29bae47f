"""Extensions that an organization declares: kept, changed, found, sorted and shown by their schema."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from service.directory import events
from tests.scim import bulk
from tests.scim.client import ENTERPRISE, PROVISIONING, Scim, opened, organization
from tests.scim.declared import (
    FULL,
    STAFF,
    STAFF_SCHEMA,
    TEAM,
    TEAM_SCHEMA,
    redeclared,
    schemas,
    with_attributes,
    without_attributes,
)

SHOWN = {
    **{name: value for name, value in FULL.items() if name not in ("pin", "remark")},
    "since": "2026-02-03T04:05:06.000000+00:00",
}


@pytest.fixture
async def scim(database_url: str) -> AsyncIterator[Scim]:
    declared = organization(scim_schemas=schemas(STAFF_SCHEMA, TEAM_SCHEMA))
    async with opened(database_url, declared) as clients:
        yield clients[0]


@pytest.fixture
async def strict(database_url: str) -> AsyncIterator[Scim]:
    declared = organization(scim_schemas=schemas(STAFF_SCHEMA, TEAM_SCHEMA), scim_profile="strict")
    async with opened(database_url, declared) as clients:
        yield clients[0]


def op(name: str, path: str | None = None, value: Any = None) -> dict[str, Any]:
    return {"op": name} | ({"path": path} if path else {}) | {"value": value}


def assert_refused(answer: httpx.Response, scim_type: str, word: str = "") -> None:
    assert (answer.status_code, answer.json().get("scimType")) == (400, scim_type), answer.text
    assert word in answer.json()["detail"]


# Kept and shown


async def test_every_type_is_kept_and_shown_as_declared(scim: Scim) -> None:
    user = await scim.post_user("lena", **{STAFF: FULL})
    assert user[STAFF] == SHOWN
    assert user["schemas"][1:] == [STAFF, PROVISIONING]
    assert await scim.get(f"Users/{user['id']}") == user
    group = await scim.post_group("Guards", user["id"], **{TEAM: {"costCenter": "7", "budget": 2}})
    assert group[TEAM] == {"costCenter": "7", "budget": 2}
    assert TEAM in group["schemas"]
    assert (await scim.get("Groups"))["Resources"][0] == group


async def test_letter_case_and_colons_of_names_do_not_matter(scim: Scim) -> None:
    body = {STAFF.upper(): {"BADGENUMBER": 1, "Desk": {"ROOM": "B1"}}}
    assert (await scim.post_user("lena", **body))[STAFF] == {
        "badgeNumber": 1,
        "desk": {"room": "B1"},
    }
    lost_colon = STAFF.replace(":Staff", "Staff")
    assert (await scim.post_user("ada", **{lost_colon: {"badgeNumber": 2}}))[STAFF]
    assert await scim.names(f"{STAFF.lower()}:BadgeNumber ge 1") == ["ada", "lena"]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("badgeNumber", "many"),
        ("badgeNumber", 1.5),
        ("badgeNumber", True),
        ("rating", "high"),
        ("since", "yesterday"),
        ("cleared", "perhaps"),
        ("site", {"value": "Utrecht"}),
        ("tags", [{"value": 1, "type": "x"}]),
        ("floors", ["low"]),
        ("desk", "B12"),
        ("desk", {"floor": "third"}),
        ("keys", [{"type": "door"}]),
        ("pin", {"a": 1}),
    ],
)
async def test_wrong_types_are_refused_by_name(scim: Scim, name: str, wrong: Any) -> None:
    answer = await scim.http.post("Users", json={"userName": "lena", STAFF: {name: wrong}})
    part = next(iter(wrong)) if name == "desk" and isinstance(wrong, dict) else name
    assert_refused(answer, "invalidValue", part)


async def test_unknown_names_are_dropped_or_refused_by_profile(scim: Scim) -> None:
    user = await scim.post_user("lena", **{STAFF: {"shoeSize": 38, "site": "x"}, "urn:x:y:Z": {}})
    assert user[STAFF] == {"site": "x"}
    again = await redeclared(scim, STAFF_SCHEMA, scim_profile="strict")
    for extra in ({STAFF: {"shoeSize": 38}}, {"urn:x:y:Z": {"a": 1}}):
        body = {"schemas": user["schemas"][:1], "userName": "ada", **extra}
        assert_refused(await again.http.post("Users", json=body), "invalidValue", "no attribute")
    assert_refused(
        await again.http.get("Users", params={"filter": f"{STAFF}:a pr"}), "invalidFilter"
    )


async def test_declared_values_are_spelt_as_declared_and_kept_to_when_strict(strict: Scim) -> None:
    user = await strict.post_user("lena", **{STAFF: {"site": "UTRECHT"}})
    assert user[STAFF] == {"site": "Utrecht"}
    path = f"Users/{user['id']}"
    assert_refused(
        await strict.patch(path, op("add", f"{STAFF}:site", "Gouda")), "invalidValue", "Utrecht"
    )
    assert_refused(
        await strict.patch(path, op("add", f"{STAFF}:keys", [{"value": "k", "type": "car"}])),
        "invalidValue",
    )
    tolerant = await redeclared(strict, STAFF_SCHEMA)
    answer = await tolerant.patch(path, op("add", f"{STAFF}:site", "Gouda"))
    assert answer.json()[STAFF] == {"site": "Gouda"}


# Changed


@pytest.mark.parametrize(
    "operation",
    [
        op("replace", f"{STAFF}:badgeNumber", 12),
        op("add", STAFF, {"badgeNumber": 12}),
        op("Add", None, {f"{STAFF}:badgeNumber": 12}),
        op("replace", None, {STAFF: {"BadgeNumber": 12}}),
        op("replace", None, {STAFF.lower(): {"badgeNumber": 12}}),
    ],
)
async def test_every_form_of_patch_reaches_an_attribute(
    scim: Scim, operation: dict[str, Any]
) -> None:
    user = await scim.post_user("lena", **{STAFF: FULL})
    answer = await scim.patch(f"Users/{user['id']}", operation)
    assert answer.json()[STAFF] == {**SHOWN, "badgeNumber": 12}


@pytest.mark.parametrize(
    ("operation", "name", "expected"),
    [
        (
            op("replace", f"{STAFF}:desk.room", "C1"),
            "desk",
            {"room": "C1", "floor": 3, "serial": "D-1"},
        ),
        (
            op("add", None, {f"{STAFF}:desk.room": "C1"}),
            "desk",
            {"room": "C1", "floor": 3, "serial": "D-1"},
        ),
        (op("add", STAFF, {"desk.floor": 4}), "desk", {"room": "B12", "floor": 4, "serial": "D-1"}),
        (op("add", f"{STAFF}:tags", ["night"]), "tags", ["first-aid", "Fire", "night"]),
        (op("remove", f"{STAFF}:tags", ["Fire"]), "tags", ["first-aid"]),
        (op("replace", f"{STAFF}:floors", [2]), "floors", [2]),
        (op("remove", f"{STAFF}:rating"), "rating", None),
        (op("replace", f"{STAFF}:cleared", "False"), "cleared", False),
        (
            op("replace", f'{STAFF}:keys[type eq "door"].copies', 3),
            "keys",
            [{"value": "k1", "type": "door", "primary": True, "copies": 3}],
        ),
        (
            op("add", f'{STAFF}:keys[type eq "safe"].value', "k2"),
            "keys",
            [*FULL["keys"], {"type": "safe", "value": "k2"}],
        ),
        (op("remove", f"{STAFF}:keys[copies ge 2]"), "keys", None),
    ],
)
async def test_patch_reaches_parts_and_entries(
    scim: Scim, operation: dict[str, Any], name: str, expected: Any
) -> None:
    user = await scim.post_user("lena", **{STAFF: FULL})
    answer = await scim.patch(f"Users/{user['id']}", operation)
    assert answer.status_code == 200, answer.text
    assert answer.json()[STAFF].get(name) == expected


async def test_whole_extension_is_removed_by_its_urn(scim: Scim) -> None:
    user = await scim.post_user(
        "lena", **{TEAM: {"costCenter": "7"}, ENTERPRISE: {"division": "N"}}
    )
    answer = await scim.patch(f"Users/{user['id']}", op("remove", TEAM))
    assert TEAM not in answer.json()
    assert TEAM not in answer.json()["schemas"]
    assert answer.json()[ENTERPRISE] == {"division": "N"}


# Characteristics


async def test_immutable_is_given_once(scim: Scim) -> None:
    user = await scim.post_user("lena", **{STAFF: {"site": "Utrecht", "desk": {"room": "B12"}}})
    path = f"Users/{user['id']}"
    given = [op("add", f"{STAFF}:firstDay", "2026-02-01"), op("add", f"{STAFF}:desk.serial", "D-1")]
    assert (await scim.patch(path, *given)).status_code == 200
    assert (await scim.patch(path, *given)).status_code == 200
    for operation in (
        op("replace", f"{STAFF}:firstDay", "2026-03-01"),
        op("remove", f"{STAFF}:firstDay"),
        op("replace", f"{STAFF}:desk.serial", "D-2"),
        op("remove", f"{STAFF}:desk"),
        op("remove", STAFF),
    ):
        assert_refused(await scim.patch(path, operation), "mutability", STAFF)
    changed = {"userName": "lena", STAFF: {"firstDay": "2026-03-01"}}
    assert_refused(await scim.http.put(path, json=changed), "mutability", "firstDay")
    left_out = await scim.http.put(path, json={"userName": "lena", STAFF: {"desk": {"room": "C1"}}})
    assert left_out.json()[STAFF] == {
        "firstDay": "2026-02-01",
        "desk": {"room": "C1", "serial": "D-1"},
    }


async def test_read_only_is_never_taken_and_survives_what_leaves_it_out(scim: Scim) -> None:
    sealed = {**FULL, "desk": {"room": "B12", "seal": "mine"}}
    assert (await scim.post_user("ada", **{STAFF: sealed}))[STAFF]["desk"] == {"room": "B12"}
    user = await scim.post_user("lena", **{STAFF: {"site": "Utrecht", "code": "x"}})
    path = f"Users/{user['id']}"
    frozen = await redeclared(
        scim, with_attributes(STAFF_SCHEMA, {"name": "site", "mutability": "readOnly"})
    )
    answer = await frozen.patch(path, op("replace", f"{STAFF}:site", "Gouda"))
    assert_refused(answer, "mutability")
    for change in (
        frozen.patch(path, op("add", None, {STAFF: {"site": "Gouda", "code": "y"}})),
        frozen.patch(path, op("remove", STAFF)),
        frozen.http.put(path, json={"userName": "lena", STAFF: {"site": "Gouda"}}),
        frozen.http.put(path, json={"userName": "lena"}),
    ):
        answer = await change
        assert answer.json()[STAFF]["site"] == "Utrecht", answer.text


async def test_never_returned_is_checked_and_not_kept(scim: Scim) -> None:
    user = await scim.post_user("lena", **{STAFF: {"pin": "1234", "site": "Utrecht"}})
    path = f"Users/{user['id']}"
    answer = await scim.patch(path, op("add", f"{STAFF}:pin", "5678"))
    assert answer.json()[STAFF] == {"site": "Utrecht"}
    refused = bulk.operation("PUT", "/Users/nobody", {"userName": "x", STAFF: {"pin": "9012"}})
    later = {"Prefer": "respond-async"}
    assert (await bulk.send(scim, refused, headers=later)).status_code == 202
    bodies = await scim.database.read(
        lambda tx: [event.body or b"" for event in events.listing(tx, events.Filter(), limit=10)]
    )
    assert len(bodies) == 3
    assert not [body for body in bodies for pin in (b"1234", b"5678", b"9012") if pin in body]
    assert answer.json()["meta"] == user["meta"]
    asked = await scim.get(path, attributes=f"{STAFF}:pin")
    assert STAFF not in asked
    assert_refused(
        await scim.http.get("Users", params={"filter": f"{STAFF}:pin pr"}), "invalidFilter"
    )
    assert_refused(await scim.http.get("Users", params={"sortBy": f"{STAFF}:pin"}), "invalidPath")


async def test_shown_always_on_request_or_by_default(scim: Scim) -> None:
    user = await scim.post_user("lena", **{STAFF: {"label": "blue", "remark": "tall", "code": "x"}})
    path = f"Users/{user['id']}"
    seen = [
        ({}, {"label": "blue", "code": "x"}),
        ({"attributes": "userName"}, {"label": "blue"}),
        ({"attributes": f"{STAFF}:remark"}, {"label": "blue", "remark": "tall"}),
        ({"attributes": STAFF}, {"label": "blue", "code": "x"}),
        ({"excludedAttributes": f"{STAFF}:label,{STAFF}:code"}, {"label": "blue"}),
        ({"excludedAttributes": STAFF}, {"label": "blue"}),
    ]
    for query, expected in seen:
        assert (await scim.get(path, **query)).get(STAFF) == expected, query
        page = await scim.get("Users", **query)
        assert page["Resources"][0].get(STAFF) == expected, query


async def test_required_counts_where_the_extension_is_used(scim: Scim) -> None:
    await scim.post_user("ada")
    answer = await scim.http.post("Users", json={"userName": "lena", TEAM: {"budget": 1}})
    assert_refused(answer, "invalidValue", "costCenter is required")
    user = await scim.post_user("lena", **{TEAM: {"costCenter": "7", "budget": 1}})
    answer = await scim.patch(f"Users/{user['id']}", op("remove", f"{TEAM}:costCenter"))
    assert answer.status_code == 400


# Found and sorted


@pytest.fixture
async def crowd(scim: Scim) -> Scim:
    await scim.post_user("lena", **{STAFF: FULL})
    await scim.post_user(
        "ada",
        **{
            STAFF: {
                "badgeNumber": 9007199254740993,
                "rating": 0.1,
                "since": "2025-12-31T23:00:00-05:00",
                "cleared": False,
                "site": "amsterdam",
                "code": "Ab",
                "tags": ["Night"],
                "floors": [2],
                "desk": {"room": "A1", "floor": 1},
                "keys": [{"value": "k2", "type": "safe"}],
            }
        },
    )
    await scim.post_user("bo")
    return scim


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ("badgeNumber eq 4711", "lena"),
        ("badgeNumber gt 4711", "ada"),
        ("badgeNumber eq 9007199254740993", "ada"),
        ("badgeNumber eq 9007199254740992", ""),
        ("badgeNumber pr", "ada lena"),
        ("rating ge 4.5", "lena"),
        ("rating eq 0.1", "ada"),
        ("rating lt 1", "ada"),
        ('since gt "2026-01-01T04:00:00.0000001Z"', "lena"),
        ('since eq "2026-01-01T04:00:00Z"', "ada"),
        ("cleared eq true", "lena"),
        ("cleared eq false", "ada"),
        ('site eq "AMSTERDAM"', "ada"),
        ('site co "trec"', "lena"),
        ('code eq "aB"', "lena"),
        ('code ne "aB"', "ada bo"),
        ('photo eq "aGFsbG8="', "lena"),
        ('page sw "https://people"', "lena"),
        ('tags eq "NIGHT"', "ada"),
        ('tags co "ir"', "lena"),
        ("tags pr", "ada lena"),
        ("floors eq 3", "lena"),
        ("floors ge 2", "ada lena"),
        ("not (floors ge 2)", "bo"),
        ('desk.room eq "a1"', "ada"),
        ("desk.floor gt 1", "lena"),
        ('keys eq "k1"', "lena"),
        ('keys.type eq "SAFE"', "ada"),
        ("keys.copies gt 1", "lena"),
        ('keys[type eq "door" and copies eq 2]', "lena"),
        ('keys[type eq "safe" and primary eq true]', ""),
    ],
)
async def test_filters_compare_by_declared_type(crowd: Scim, wanted: str, names: str) -> None:
    start = "not (" if wanted.startswith("not (") else ""
    text = f"{start}{STAFF}:{wanted.removeprefix(start)}"
    assert await crowd.names(text) == names.split()
    assert await crowd.names(f"{text} and userName pr") == names.split()


@pytest.mark.parametrize(
    "wrong",
    ["badgeNumber co 1", 'badgeNumber eq "x"', "cleared gt true", 'shoe eq "x"', "desk eq 1"],
)
async def test_wrong_filters_are_refused(scim: Scim, wrong: str) -> None:
    answer = await scim.http.get("Users", params={"filter": f"{STAFF}:{wrong}"})
    assert_refused(answer, "invalidFilter")


async def test_declared_names_need_their_urn(scim: Scim) -> None:
    assert_refused(
        await scim.http.get("Users", params={"filter": "badgeNumber eq 1"}), "invalidFilter"
    )


@pytest.mark.parametrize(
    ("by", "order"),
    [
        ("badgeNumber", "lena ada bo"),
        ("rating", "ada lena bo"),
        ("since", "ada lena bo"),
        ("site", "ada lena bo"),
        ("code", "ada lena bo"),
        ("cleared", "ada lena bo"),
        ("tags", "lena ada bo"),
        ("floors", "lena ada bo"),
        ("desk.floor", "ada lena bo"),
        ("keys", "lena ada bo"),
    ],
)
async def test_sorting_follows_the_declared_type(crowd: Scim, by: str, order: str) -> None:
    page = await crowd.get("Users", sortBy=f"{STAFF}:{by}")
    assert [user["userName"] for user in page["Resources"]] == order.split()


# Discovery


async def test_discovery_lists_what_the_organization_declares(scim: Scim) -> None:
    types = {each["id"]: each for each in (await scim.get("ResourceTypes"))["Resources"]}
    listed = {
        name: [each["schema"] for each in found["schemaExtensions"]]
        for name, found in types.items()
    }
    assert listed == {"User": [ENTERPRISE, PROVISIONING, STAFF, TEAM], "Group": [TEAM]}
    found = (await scim.get("Schemas"))["Resources"]
    assert [each["id"] for each in found].count(TEAM) == 1
    staff = await scim.get(f"Schemas/{STAFF.upper()}")
    assert staff in found
    assert staff["name"] == "Staff"
    by_name = {each["name"]: each for each in staff["attributes"]}
    assert by_name["site"] == {
        "name": "site",
        "type": "string",
        "multiValued": False,
        "description": "",
        "required": False,
        "caseExact": False,
        "canonicalValues": ["Amsterdam", "Utrecht"],
        "mutability": "readWrite",
        "returned": "default",
        "uniqueness": "none",
    }
    assert by_name["page"]["referenceTypes"] == ["external"]
    assert by_name["photo"]["caseExact"] is True
    assert by_name["pin"]["returned"] == "never"
    assert by_name["desk"]["subAttributes"][0]["name"] == "room"


async def test_organizations_see_their_own_schemas_alone(database_url: str) -> None:
    with_staff = organization("with", scim_schemas=schemas(STAFF_SCHEMA))
    async with opened(database_url, with_staff, organization("without")) as (first, second):
        assert (await first.http.get(f"Schemas/{STAFF}")).status_code == 200
        assert (await second.http.get(f"Schemas/{STAFF}")).status_code == 404
        assert STAFF not in await second.post_user("lena", **{STAFF: FULL})
        assert_refused(
            await second.http.get("Users", params={"filter": f"{STAFF}:code pr"}), "invalidFilter"
        )


# Declared otherwise


async def test_data_of_a_schema_taken_back_is_hidden_and_comes_back(scim: Scim) -> None:
    user = await scim.post_user("lena", **{STAFF: FULL, TEAM: {"costCenter": "7"}})
    group = await scim.post_group("Guards", **{TEAM: {"costCenter": "7"}})
    path = f"Users/{user['id']}"
    bare = await redeclared(scim)
    for seen in (await bare.get(path), (await bare.get("Users"))["Resources"][0]):
        assert STAFF not in seen
        assert STAFF not in seen["schemas"]
    assert (await bare.patch(path, op("add", "title", "Guard"))).json()["title"] == "Guard"
    put = {"userName": "lena", "title": "Guard", STAFF: {"site": "lost"}}
    assert (await bare.http.put(path, json=put)).status_code == 200
    renamed = await bare.http.put(f"Groups/{group['id']}", json={"displayName": "Watch"})
    assert TEAM not in renamed.json()
    back = await redeclared(bare, STAFF_SCHEMA, TEAM_SCHEMA)
    assert (await back.get(path))[STAFF] == SHOWN
    assert (await back.get(path))[TEAM] == {"costCenter": "7"}
    assert (await back.get(f"Groups/{group['id']}"))[TEAM] == {"costCenter": "7"}


async def test_data_of_an_attribute_taken_back_is_hidden_and_comes_back(scim: Scim) -> None:
    user = await scim.post_user("lena", **{STAFF: FULL})
    path = f"Users/{user['id']}"
    less = with_attributes(
        without_attributes(STAFF_SCHEMA, "site", "firstDay"),
        {"name": "desk", "type": "complex", "subAttributes": [{"name": "room"}]},
    )
    fewer = await redeclared(scim, less)
    seen = (await fewer.get(path))[STAFF]
    assert seen.keys() == SHOWN.keys() - {"site", "firstDay"}
    assert seen["desk"] == {"room": "B12"}
    await fewer.patch(path, op("replace", f"{STAFF}:code", "zz"))
    back = await redeclared(fewer, STAFF_SCHEMA)
    assert (await back.get(path))[STAFF] == {**SHOWN, "code": "zz"}
    await fewer.http.put(path, json={"userName": "lena"})
    assert (await back.get(path))[STAFF] == {"site": "Utrecht", "firstDay": "2026-02-01"}


async def test_extension_is_present_where_something_of_it_is_shown(scim: Scim) -> None:
    await scim.post_user("lena", **{STAFF: {"site": "Utrecht"}})
    await scim.post_user("ada", **{STAFF: {"site": "Utrecht", "floors": [1]}})
    for wanted in (f"{STAFF} pr", f'schemas eq "{STAFF}"'):
        assert await scim.names(wanted) == ["ada", "lena"]
        fewer = await redeclared(scim, without_attributes(STAFF_SCHEMA, "site"))
        assert await fewer.names(wanted) == ["ada"]


async def test_values_of_another_type_are_hidden_and_break_no_request(scim: Scim) -> None:
    user = await scim.post_user("lena", **{STAFF: FULL})
    path = f"Users/{user['id']}"
    turned = with_attributes(
        STAFF_SCHEMA,
        {"name": "badgeNumber", "type": "string"},
        {"name": "code", "type": "integer"},
        {"name": "site", "type": "dateTime"},
        {"name": "rating", "type": "boolean"},
        {"name": "cleared", "type": "decimal"},
        {"name": "firstDay", "multiValued": True},
        {"name": "tags"},
        {
            "name": "floors",
            "type": "complex",
            "multiValued": True,
            "subAttributes": [{"name": "x"}],
        },
        {"name": "keys", "multiValued": True},
        {"name": "desk", "type": "integer", "multiValued": True},
        {"name": "label", "type": "complex", "subAttributes": [{"name": "x", "type": "integer"}]},
        {"name": "page", "type": "complex", "multiValued": True, "subAttributes": [{"name": "x"}]},
    )
    other = await redeclared(scim, turned)
    seen = (await other.get(path))[STAFF]
    assert seen == {"since": SHOWN["since"], "photo": FULL["photo"]}
    for wanted in (
        *(
            'badgeNumber eq "x"',
            'badgeNumber co "7"',
            "code gt 1",
            'site lt "2020-01-01T00:00:00Z"',
        ),
        *("rating eq true", "cleared gt 0", 'firstDay eq "x"', 'tags eq "x"', 'floors.x eq "x"'),
        *(
            'floors[x co "1"]',
            'keys eq "x"',
            "desk eq 1",
            "desk gt 0",
            "label.x eq 1",
            "label.x pr",
        ),
        *('page.x eq "y"', 'page[x eq "y"]'),
    ):
        answer = await other.http.get("Users", params={"filter": f"{STAFF}:{wanted}"})
        assert answer.status_code == 200, (wanted, answer.text)
    for by in (
        "badgeNumber",
        "code",
        "site",
        "rating",
        "cleared",
        "tags",
        "keys",
        "desk",
        "label.x",
    ):
        answer = await other.http.get("Users", params={"sortBy": f"{STAFF}:{by}"})
        assert answer.status_code == 200, (by, answer.text)
    answer = await other.patch(
        path, op("add", f"{STAFF}:code", 7), op("add", f"{STAFF}:keys", ["k"])
    )
    assert answer.json()[STAFF] == {**seen, "code": 7, "keys": ["k"]}
    back = await redeclared(other, STAFF_SCHEMA)
    kept = {name: value for name, value in SHOWN.items() if name not in ("code", "keys")}
    assert (await back.get(path))[STAFF] == kept


async def test_attribute_that_became_required_is_asked_of_the_next_change_of_it(scim: Scim) -> None:
    user = await scim.post_user("lena", **{STAFF: {"code": "x"}})
    path = f"Users/{user['id']}"
    harder = await redeclared(
        scim, with_attributes(STAFF_SCHEMA, {"name": "site", "required": True})
    )
    assert (await harder.patch(path, op("add", "title", "Guard"))).status_code == 200
    answer = await harder.patch(path, op("add", f"{STAFF}:code", "y"))
    assert_refused(answer, "invalidValue", "site is required")


# Numbers and filters beyond what databases take


@pytest.mark.parametrize("operator", ["eq", "gt", "lt", "ne"])
@pytest.mark.parametrize("number", [2**63, 2**64 - 1, -(2**63) - 1, 10**30])
async def test_a_number_of_any_size_compares(scim: Scim, operator: str, number: int) -> None:
    await scim.post_user("lena", **{STAFF: FULL})
    holds = {"eq": False, "ne": True, "gt": number < 0, "lt": number > 0}[operator]
    for name in ("badgeNumber", "rating", "floors"):
        found = await scim.names(f"{STAFF}:{name} {operator} {number}")
        assert found == (["lena"] if holds else [])


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 400])
async def test_a_number_beyond_all_is_refused(scim: Scim, number: str) -> None:
    answer = await scim.http.get("Users", params={"filter": f"{STAFF}:rating lt {number}"})
    assert_refused(answer, "invalidFilter", "rating")


async def test_integers_have_64_bits_and_decimals_are_rounded(scim: Scim) -> None:
    answer = await scim.http.post("Users", json={"userName": "a", STAFF: {"badgeNumber": 2**63}})
    assert_refused(answer, "invalidValue", "badgeNumber")
    await scim.post_user("b", **{STAFF: {"rating": 2**63, "badgeNumber": 2**63 - 1}})
    assert await scim.names(f"{STAFF}:rating eq {2**63}") == ["b"]
    assert await scim.names(f"{STAFF}:badgeNumber eq {2**63 - 1}") == ["b"]


@pytest.mark.parametrize("number", ["99999999999999999999999", "1.5"])
async def test_a_path_makes_no_entry_that_the_schema_does_not_know(scim: Scim, number: str) -> None:
    user = await scim.post_user("lena", **{STAFF: FULL})
    path = f'{STAFF}:keys[value eq "k9" and copies eq {number}].type'
    answer = await scim.patch(f"Users/{user['id']}", op("add", path, "door"))
    assert_refused(answer, "invalidValue", "copies")


async def test_a_filter_that_names_extensions_without_end_is_refused(database_url: str) -> None:
    many = {
        "id": "urn:example:wide",
        "name": "Wide",
        "attributes": [{"name": f"part{number}"} for number in range(50)],
    }
    async with opened(database_url, organization(scim_schemas=schemas(many))) as clients:
        await clients[0].post_user("lena", **{"urn:example:wide": {"part1": "x"}})
        assert await clients[0].names(" and ".join(["urn:example:wide pr"] * 10)) == ["lena"]
        endless = " or ".join(["urn:example:wide pr"] * 30)
        answer = await clients[0].http.get("Users", params={"filter": endless})
        assert_refused(answer, "invalidFilter", "extensions")
