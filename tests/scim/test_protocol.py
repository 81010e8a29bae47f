"""What RFC 7644 asks of every endpoint: who may ask, paging, sorting, projection, versions, discovery."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection
from structlog.testing import capture_logs

from scim.app import create_app
from scim.query_string import parameters
from service.clock import SystemClock
from service.directory import credentials, organizations, tables
from service.directory.database import Database, Work, open_database
from tests.scim.client import ENTERPRISE, PATCH_OP, PEPPER, PROVISIONING, Scim, organization

ERROR = "urn:ietf:params:scim:api:messages:2.0:Error"


def assert_error(answer: httpx.Response, status: int, scim_type: str | None = None) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/scim+json"
    error = answer.json()
    assert error["schemas"] == [ERROR]
    assert error["status"] == str(status)
    assert error["detail"]
    assert error.get("scimType") == scim_type


# Who may ask


async def test_wrong_token_and_unknown_organization_are_told_the_same(embedded: Scim) -> None:
    token = embedded.token
    tellings: set[bytes] = set()
    for organization_name in ("hoekstra", "nobody", "NOT A NAME", "a%00b", ""):
        for authorization in ("", "opaque", "Bearer x", f"Bearer {token}x", f"Basic {token}"):
            url = f"http://scim.test/scim/v2/{organization_name}/Users"
            answer = await embedded.http.get(url, headers={"Authorization": authorization})
            assert_error(answer, 401)
            assert answer.headers["www-authenticate"].startswith("Bearer")
            tellings.add(answer.content)
    url = "http://scim.test/scim/v2/nobody/Users"
    tellings.add((await embedded.http.get(url)).content)
    assert len(tellings) == 1


async def test_tokens_of_other_doors_and_revoked_ones_open_nothing(embedded: Scim) -> None:
    now = SystemClock().now()

    def make(transaction: Connection) -> str:
        return credentials.create(
            transaction, organization="hoekstra", door="events", pepper=PEPPER, now=now
        )

    events = await embedded.database.transact(make)
    answer = await embedded.http.get("Users", headers={"Authorization": f"Bearer {events}"})
    assert_error(answer, 401)
    key = embedded.token.split("_")[1]
    await embedded.database.transact(
        lambda transaction: credentials.revoke(transaction, "hoekstra", key, now)
    )
    assert_error(await embedded.http.get("Users"), 401)


async def test_scheme_of_the_token_is_read_in_any_letter_case(embedded: Scim) -> None:
    headers = {"Authorization": f"bearer {embedded.token}"}
    assert (await embedded.http.get("Users", headers=headers)).status_code == 200


async def test_decommissioned_organization_is_closed(embedded: Scim) -> None:
    def close(transaction: Connection) -> None:
        transaction.execute(
            tables.organizations.update().values(decommissioned_at=SystemClock().now())
        )

    await embedded.database.transact(close)
    # Once, and also for as long as the token is remembered.
    for _ in range(3):
        assert_error(await embedded.http.get("Users"), 403)
        assert_error(await embedded.http.post("Users", json={"userName": "ann"}), 403)


# Paging and sorting


@pytest.fixture
async def crowd(scim: Scim) -> Scim:
    for number in range(7):
        title = {"title": f"{'bBaA'[number % 4]}-{number}"} if number < 5 else {}
        emails = [
            {"value": f"x{number}@x.example", "type": "home"},
            {"value": f"{9 - number}@x.example", "type": "work", "primary": True},
        ]
        await scim.post_user(f"user-{number}", **title, emails=emails if number != 3 else None)
    return scim


async def test_pages_are_stable_and_totals_exact(crowd: Scim) -> None:
    seen: list[str] = []
    for start in (1, 4, 7, 10):
        page = await crowd.get("Users", startIndex=start, count=3)
        assert page["totalResults"] == 7
        assert page["startIndex"] == start
        assert page["itemsPerPage"] == len(page["Resources"])
        seen += [user["userName"] for user in page["Resources"]]
    assert seen == [f"user-{number}" for number in range(7)]


@pytest.mark.parametrize(
    ("query", "start", "items"),
    [
        ({"startIndex": 0}, 1, 7),
        ({"startIndex": -5}, 1, 7),
        ({"startIndex": 10**30}, 2**53, 0),
        ({"count": 0}, 1, 0),
        ({"count": -1}, 1, 0),
        ({"count": 10**6}, 1, 7),
        ({"count": ""}, 1, 7),
    ],
)
async def test_odd_page_parameters_mean_what_the_rfc_says(
    crowd: Scim, query: dict[str, int], start: int, items: int
) -> None:
    page = await crowd.get("Users", **query)
    assert (page["startIndex"], page["itemsPerPage"], page["totalResults"]) == (start, items, 7)


async def test_page_parameters_that_are_no_numbers_are_refused(embedded: Scim) -> None:
    assert_error(await embedded.http.get("Users?count=many"), 400, "invalidValue")
    assert_error(await embedded.http.get("Users?startIndex=1.5"), 400, "invalidValue")
    assert_error(await embedded.http.get("Users?sortOrder=sideways"), 400, "invalidValue")


async def test_empty_filter_does_not_mean_everyone(embedded: Scim) -> None:
    assert_error(await embedded.http.get("Users?filter="), 400, "invalidFilter")
    assert_error(await embedded.http.get("Users?filter=%20"), 400, "invalidFilter")


async def sorted_names(scim: Scim, **query: str) -> str:
    page = await scim.get("Users", **query)
    return "".join(user["userName"][-1] for user in page["Resources"])


async def test_sorting_ignores_letter_case_and_puts_the_absent_last(crowd: Scim) -> None:
    assert await sorted_names(crowd, sortBy="title") == "2301456"
    assert await sorted_names(crowd, sortBy="title", sortOrder="descending") == "6541032"
    assert await sorted_names(crowd, sortBy="userName", sortOrder="descending") == "6543210"
    assert await sorted_names(crowd, sortBy="meta.created") == "0123456"


async def test_sorting_by_a_list_goes_by_its_primary_entry(crowd: Scim) -> None:
    assert await sorted_names(crowd, sortBy="emails") == "6542103"
    assert await sorted_names(crowd, sortBy="emails.type") == "0124563"


async def test_sorting_by_what_has_no_order_is_refused(embedded: Scim) -> None:
    for name in ("nosuch", "name", "password", "schemas", "groups", "meta.version"):
        assert_error(await embedded.http.get(f"Users?sortBy={name}"), 400, "invalidPath")


async def test_search_by_post_answers_as_the_query_does(crowd: Scim) -> None:
    body = {
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"],
        "filter": 'userName sw "user" and not (title pr)',
        "attributes": ["userName"],
        "startIndex": 2,
        "count": 1,
    }
    answer = await crowd.http.post("Users/.search", json=body)
    assert answer.status_code == 200
    found = answer.json()
    assert (found["totalResults"], found["startIndex"]) == (2, 2)
    assert [user["userName"] for user in found["Resources"]] == ["user-6"]
    assert "meta" not in found["Resources"][0]
    assert (await crowd.http.post("Groups/.search", json={})).json()["totalResults"] == 0


async def test_search_at_the_root_finds_users_then_groups(crowd: Scim) -> None:
    for name in ("user group", "b"):
        await crowd.post_group(name)

    async def found(**asked: Any) -> tuple[int, list[str]]:
        answer = await crowd.http.post(".search", json=asked)
        assert answer.status_code == 200, answer.text
        listed = answer.json()
        names = [each.get("userName", each.get("displayName")) for each in listed["Resources"]]
        return listed["totalResults"], names

    assert await found(count=3, startIndex=6) == (9, ["user-5", "user-6", "user group"])
    assert await found(count=3, startIndex=9) == (9, ["b"])
    assert await found(filter='displayName sw "USER"') == (1, ["user group"])
    # Groups have no userName: none of them is found, and none of the users is lost.
    assert await found(filter='userName eq "user-1"') == (1, ["user-1"])
    answer = await crowd.http.post(".search", json={"filter": 'nosuch eq "x"'})
    assert_error(answer, 400, "invalidFilter")


async def test_filters_on_what_is_kept_beside_the_resource(crowd: Scim) -> None:
    first = (await crowd.get("Users", count=1))["Resources"][0]
    created, place = first["meta"]["created"], first["id"]
    names = [f"user-{number}" for number in range(7)]
    seven_digits = created.replace("Z", "0Z")
    for wanted, expected in (
        (f'id eq "{place}"', names[:1]),
        (f'meta.created eq "{created}"', names[:1]),
        (f'(AcTiVe eq true) and meta.lastmodified ge "{seven_digits}"', names),
        ('meta.created lt "2020-01-01"', []),
        ('meta.version eq "W/\\"1\\""', names),
        ('meta.resourceType eq "User"', names),
        ('meta.resourceType eq "Group"', []),
        (f'{PROVISIONING}:state eq "waiting"', ["user-3"]),
        (f"{PROVISIONING}:lastAppliedAt pr", []),
        (f'schemas eq "{PROVISIONING}"', names),
        (f'schemas eq "{ENTERPRISE}"', []),
    ):
        assert await crowd.names(wanted) == expected, wanted


# Projection


async def test_only_the_attributes_asked_for_are_shown(embedded: Scim) -> None:
    user = await embedded.post_user(
        "lena",
        title="Clerk",
        name={"givenName": "Lena", "familyName": "Holt"},
        emails=[{"value": "lena@x.example", "type": "work"}],
        department="Billing",
    )
    path = f"Users/{user['id']}"
    asked = "USERNAME, name.givenName,emails.value,department,nosuch"
    assert await embedded.get(path, attributes=asked) == {
        "schemas": user["schemas"],
        "id": user["id"],
        "userName": "lena",
        "name": {"givenName": "Lena"},
        "emails": [{"value": "lena@x.example"}],
        ENTERPRISE: {"department": "Billing"},
    }
    left = await embedded.get(
        path, excludedAttributes=f"id,emails,name.givenName,meta,{PROVISIONING}"
    )
    assert left == {
        "schemas": user["schemas"],
        "id": user["id"],
        "userName": "lena",
        "active": True,
        "title": "Clerk",
        "name": {"familyName": "Holt"},
        ENTERPRISE: {"department": "Billing"},
    }
    assert set(await embedded.get(path, attributes=ENTERPRISE)) == {"schemas", "id", ENTERPRISE}


# Versions


async def test_if_match_guards_every_write(scim: Scim) -> None:
    user, group = await scim.post_user("lena"), await scim.post_group("Field crew")
    for path, body in (
        (f"Users/{user['id']}", {"userName": "lena"}),
        (f"Groups/{group['id']}", {"displayName": "Field crew"}),
    ):
        stale = {"If-Match": 'W/"7"'}
        patch = {
            "schemas": [PATCH_OP],
            "Operations": [{"op": "add", "path": "externalId", "value": "x"}],
        }
        assert_error(await scim.http.put(path, json=body, headers=stale), 412)
        assert_error(await scim.http.patch(path, json=patch, headers=stale), 412)
        assert_error(await scim.http.delete(path, headers=stale), 412)
        for current in ('W/"1"', "*", 'W/"9", W/"1"', '"1"'):
            answer = await scim.http.put(path, json=body, headers={"If-Match": current})
            assert answer.status_code == 200
        answer = await scim.http.patch(path, json=patch, headers={"If-Match": 'W/"1"'})
        assert answer.headers["etag"] == 'W/"2"'
        assert (await scim.http.delete(path, headers={"If-Match": 'W/"2"'})).status_code == 204


async def test_if_none_match_holds_a_write_back_where_the_version_is_known(scim: Scim) -> None:
    """RFC 9110 section 13.1.2."""
    user, group = await scim.post_user("lena"), await scim.post_group("Field crew")
    for path, body in (
        (f"Users/{user['id']}", {"userName": "lena", "externalId": "x"}),
        (f"Groups/{group['id']}", {"displayName": "Field crew", "externalId": "x"}),
    ):
        for known in ("*", 'W/"1"', 'W/"7", W/"1"'):
            headers = {"If-None-Match": known}
            assert_error(await scim.http.put(path, json=body, headers=headers), 412)
            assert_error(await scim.http.delete(path, headers=headers), 412)
        other = {"If-None-Match": 'W/"7"'}
        assert (await scim.http.put(path, json=body, headers=other)).status_code == 200


async def test_unchanged_resource_is_not_sent_again(embedded: Scim) -> None:
    user, group = await embedded.post_user("lena"), await embedded.post_group("Field crew")
    for path in (f"Users/{user['id']}", f"Groups/{group['id']}"):
        answer = await embedded.http.get(path, headers={"If-None-Match": 'W/"1"'})
        assert (answer.status_code, answer.content) == (304, b"")
        answer = await embedded.http.get(path, headers={"If-None-Match": 'W/"2"'})
        assert answer.status_code == 200


# Discovery


async def test_discovery_tells_every_member_and_only_what_is_there(embedded: Scim) -> None:
    config = await embedded.get("ServiceProviderConfig")
    for feature in ("patch", "bulk", "filter", "changePassword", "sort", "etag"):
        assert isinstance(config[feature]["supported"], bool)
    assert config["bulk"].keys() == {"supported", "maxOperations", "maxPayloadSize"}
    assert config["filter"]["maxResults"] == 1000
    assert config["authenticationSchemes"][0]["type"] == "oauthbearertoken"
    assert_error(await embedded.http.post("Me", json={}), 501)
    assert_error(await embedded.http.get("Me"), 501)


async def test_types_and_schemas_are_listed_and_found_one_by_one(embedded: Scim) -> None:
    for kind in ("ResourceTypes", "Schemas"):
        listed = await embedded.get(kind)
        assert listed["totalResults"] == len(listed["Resources"]) > 1
        for document in listed["Resources"]:
            assert await embedded.get(f"{kind}/{document['id']}") == document
            assert document["meta"]["location"].endswith(f"/hoekstra/{kind}/{document['id']}")
        assert_error(await embedded.http.get(f"{kind}/nosuch"), 404)
        assert_error(await embedded.http.get(f"{kind}?filter=id pr"), 403)
        assert_error(await embedded.http.post(kind, json={}), 405)


async def test_schemas_describe_every_attribute_and_hold_no_nulls(embedded: Scim) -> None:
    def check(attribute: dict[str, Any]) -> None:
        wanted = {"name", "type", "multiValued", "required", "mutability", "returned", "uniqueness"}
        assert wanted <= attribute.keys()
        assert None not in attribute.values()
        for sub in attribute.get("subAttributes", []):
            check(sub)

    for schema in (await embedded.get("Schemas"))["Resources"]:
        for attribute in schema["attributes"]:
            check(attribute)


# Query strings


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("filter=userName%20eq%20%22a%2Bb@x.example%22", "a+b@x.example"),
        ("filter=userName+eq+%22a%2Bb@x.example%22", "a+b@x.example"),
        # Who writes spaces as %20 writes no form: a plus sign left as it is means itself.
        ("filter=userName%20eq%20%22a+b@x.example%22", "a+b@x.example"),
        ('count=1&Filter=userName%20eq%20"a+b@x.example"&sortBy=userName', "a+b@x.example"),
        (
            "filter=not%20(userName%20eq%20%22a%20b%22)%20and%20userName%20sw%20%22a+%22",
            "a+b@x.example",
        ),
        ("filter=userName+eq+%22a+b%22", "a b"),
        ("filter=userName+eq+%22a%20b%22", "a b"),
        ("filter=userName%20eq+%22a+b%22", "a b"),
        ("filter=userName%20eq%20%22a%20b%22", "a b"),
        ("filter=userName%20sw%20%22%5C%22+%22", '"+'),
        ("filter=userName%20eq%20%22gr%C3%BCn%22", "grün"),
    ],
)
async def test_a_plus_sign_means_what_its_sender_means(
    embedded: Scim, query: str, found: str
) -> None:
    for name in ("a+b@x.example", "a b", '"+', '" ', "grün"):
        await embedded.post_user(name)
    listed = await embedded.http.get(f"Users?{query}")
    assert [user["userName"] for user in listed.json()["Resources"]] == [found]


async def test_a_time_with_an_offset_needs_no_escaped_plus_sign(embedded: Scim) -> None:
    await embedded.post_user("lena")
    query = 'filter=meta.lastModified%20ge%20"2026-01-01T00:00:00+02:00"'
    assert (await embedded.http.get(f"Users?{query}")).json()["totalResults"] == 1


def test_letters_that_nobody_escaped_are_read_as_utf8() -> None:
    query = 'filter=userName%20eq%20"grün"&Count=1'  # no client library here sends this
    assert parameters(query.encode()) == {"filter": 'userName eq "grün"', "count": "1"}


@pytest.mark.parametrize(
    "query",
    ["filter=userName+eq+%22x%22&filter=userName+pr", "filter=userName+pr&FILTER=title+pr"],
)
async def test_of_two_filters_none_is_dropped(embedded: Scim, query: str) -> None:
    assert_error(await embedded.http.get(f"Users?{query}"), 400, "invalidFilter")


async def test_the_same_filter_twice_is_one(embedded: Scim) -> None:
    await embedded.post_user("lena")
    answer = await embedded.http.get("Users?filter=userName+pr&filter=userName%20pr")
    assert answer.json()["totalResults"] == 1


async def test_of_two_filters_in_a_search_none_is_dropped(embedded: Scim) -> None:
    search = {"filter": 'userName eq "x"', "Filter": "userName pr"}
    answer = await embedded.http.post("Users/.search", json=search)
    assert_error(answer, 400, "invalidFilter")


# Paths, methods, bodies


async def test_unknown_paths_and_wrong_methods_are_told(embedded: Scim) -> None:
    for path in ("Nothing", "Users/1/2", "Users/%00", "Users/a b", "Schemas/a/b"):
        assert_error(await embedded.http.get(path), 404)
    answer = await embedded.http.delete("Users")
    assert_error(answer, 405)
    assert answer.headers["allow"] == "GET, HEAD, POST"
    answer = await embedded.http.post("Users/1", json={})
    assert_error(answer, 405)
    assert answer.headers["allow"] == "DELETE, GET, HEAD, PATCH, PUT"


async def test_head_is_answered_as_get_without_the_body(embedded: Scim) -> None:
    user = await embedded.post_user("lena")
    one, discovery = f"Users/{user['id']}", "ServiceProviderConfig"
    for path in ("", "Users", "Groups?count=1", one, "Schemas", discovery, "Users/nobody", "Me"):
        got, head = await embedded.http.get(path), await embedded.http.head(path)
        assert head.content == b""
        assert head.status_code == got.status_code
        assert head.headers == got.headers
    known = await embedded.http.head(one, headers={"If-None-Match": 'W/"1"'})
    assert known.status_code == 304
    assert (await embedded.http.head("Bulk")).headers["allow"] == "POST"


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"userName": "x"', b"\xff\xfe", b"nul", b'"\\ud800"']
)
async def test_malformed_json_is_refused(embedded: Scim, body: bytes) -> None:
    assert_error(await embedded.http.post("Users", content=body), 400, "invalidSyntax")


async def test_a_byte_order_mark_before_the_body_is_passed_over(embedded: Scim) -> None:
    body = b'\xef\xbb\xbf{"userName": "lena", "filter": "userName pr"}'
    assert (await embedded.http.post("Users", content=body)).status_code == 201
    assert (await embedded.http.post(".search", content=body)).json()["totalResults"] == 1
    bulk = b'\xef\xbb\xbf{"Operations": []}'
    assert (await embedded.http.post("Bulk", content=bulk)).status_code == 200


@pytest.mark.parametrize(
    ("wrong", "scim_type"),
    [
        ({"userName": 7.5, "emails": 3.5, "name": "Lena"}, "invalidValue"),
        ({"userName": {"a": 1}}, "invalidValue"),
        ({"userName": None}, "invalidValue"),
        ({"userName": " \t"}, "invalidValue"),
        ({"userName": "x", "active": 1}, "invalidValue"),
        ({"userName": "x", "emails": [{"value": ["a"]}]}, "invalidValue"),
        ({"userName": "x", ENTERPRISE: "Billing"}, "invalidValue"),
        ({"userName": "x\x00y"}, "invalidValue"),
        ({"userName": "x" * 5000}, "invalidValue"),
        ({"userName": "x", "schemas": [7]}, "invalidValue"),
        ({"userName": "x", "emails": [{"value": str(n)} for n in range(1001)]}, "invalidValue"),
        ([], "invalidSyntax"),
        ("x", "invalidSyntax"),
    ],
)
async def test_wrong_types_are_refused(embedded: Scim, wrong: Any, scim_type: str) -> None:
    assert_error(await embedded.http.post("Users", json=wrong), 400, scim_type)


async def test_a_compressed_body_is_told_to_come_as_it_is(embedded: Scim) -> None:
    body = gzip.compress(b'{"userName": "lena"}')
    answer = await embedded.http.post("Users", content=body, headers={"Content-Encoding": "gzip"})
    assert_error(answer, 415)
    assert answer.headers["accept-encoding"] == "identity"
    plain = {"Content-Encoding": "Identity"}
    assert (await embedded.http.post("Users", json={"userName": "lena"}, headers=plain)).is_success


async def test_deeply_nested_body_is_refused(embedded: Scim) -> None:
    core = b'{"urn:ietf:params:scim:schemas:core:2.0:User": '
    for nested in (b"[" * 900 + b"]" * 900, core * 900 + b"{}" + b"}" * 900):
        body = b'{"userName": "x", "urn:scim:schemas:core:1.0": ' + nested + b"}"
        for method, path in (("POST", "Users"), ("PUT", "Users/x"), ("POST", "Groups")):
            answer = await embedded.http.request(method, path, content=body)
            assert_error(answer, 400, "invalidSyntax")


async def test_body_over_a_mebibyte_is_refused(embedded: Scim) -> None:
    body = b'{"userName": "' + b"x" * 1024 * 1024 + b'"}'
    assert_error(await embedded.http.post("Users", content=body), 413)

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    assert_error(await embedded.http.post("Users", content=chunks()), 413)


async def test_base_url_can_be_given(embedded: Scim) -> None:
    app = create_app(
        database=embedded.database,
        clock=SystemClock(),
        pepper=PEPPER,
        base_url="https://provisioner.example/",
    )
    transport = httpx.ASGITransport(app=app, root_path="/scim/v2")
    async with httpx.AsyncClient(transport=transport, base_url="http://inside") as http:
        answer = await http.get(
            "/scim/v2/hoekstra/ResourceTypes/User",
            headers={"Authorization": f"Bearer {embedded.token}"},
        )
    location = "https://provisioner.example/scim/v2/hoekstra/ResourceTypes/User"
    assert answer.json()["meta"]["location"] == location


# The database away


class Unreachable:
    """A database that answers until it is taken away."""

    def __init__(self, database: Database, error: Exception) -> None:
        self._database = database
        self._error = error
        self.away = False

    async def transact(self, work: Work[Any]) -> Any:
        if self.away:
            raise self._error
        return await self._database.transact(work)

    async def read(self, work: Work[Any]) -> Any:
        if self.away:
            raise self._error
        return await self._database.read(work)

    async def look_up(self, work: Work[Any]) -> Any:
        if self.away:
            raise self._error
        return await self._database.look_up(work)

    async def close(self) -> None:
        await self._database.close()


@pytest.mark.parametrize(
    ("error", "status"), [(ConnectionRefusedError("secret"), 503), (RuntimeError("secret"), 500)]
)
async def test_failures_are_told_in_scim_form_without_internals(
    tmp_path: Path, error: Exception, status: int
) -> None:
    database = Unreachable(open_database(f"sqlite:///{tmp_path / 'directory.db'}"), error)
    now = SystemClock().now()

    def fill(transaction: Connection) -> str:
        tables.metadata.create_all(transaction)
        organizations.apply(transaction, organization(), now)
        return credentials.create(
            transaction, organization="hoekstra", door="scim", pepper=PEPPER, now=now
        )

    token = await database.transact(fill)
    app = create_app(database=database, clock=SystemClock(), pepper=PEPPER)
    transport = httpx.ASGITransport(app=app)
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://x", headers=headers) as http:
        assert (await http.get("/hoekstra/Users")).status_code == 200
        database.away = True
        with capture_logs() as logged:
            answers = [
                await http.get("/hoekstra/Users"),
                await http.post("/hoekstra/Users", json={"userName": "x"}),
            ]
        for answer in answers:
            assert_error(answer, status)
            assert "secret" not in answer.text
            assert ("retry-after" in answer.headers) is (status == 503)
            assert int(answer.headers.get("retry-after", "1")) > 0
    assert len(logged) == len(answers)
    assert "secret" not in repr(logged)
    await database.close()


async def test_a_base_url_that_was_typed_with_a_slash_too_many_is_told_so(scim: Scim) -> None:
    answer = await scim.http.get(f"{scim.http.base_url}/Users")
    assert_error(answer, 404)
    assert "without a slash" in answer.json()["detail"]


@pytest.mark.parametrize("name", ["attributes", "excludedAttributes"])
async def test_names_of_attributes_without_end_are_refused(embedded: Scim, name: str) -> None:
    many = [f"name{number}" for number in range(1001)]
    assert_error(await embedded.http.post("Users/.search", json={name: many}), 400, "invalidValue")
    answer = await embedded.http.post("Users/.search", json={name: many[1:]})
    assert answer.status_code == 200
