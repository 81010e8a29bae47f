"""Rules of users in database connections."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.auth0.simulator.changes import merged
from tests.simulator.driver import PASSWORD, Auth0

ANN = "ann@hoekstra.example"
KEYS = st.sampled_from(["a", "b", "c", "d"])
METADATA = st.dictionaries(KEYS, st.one_of(st.integers(), st.dictionaries(KEYS, st.integers())))


async def test_database_connection_stores_addresses_in_lower_case(auth0: Auth0) -> None:
    user = await auth0.create_user("Ann.Lee@Hoekstra.Example")
    assert user["email"] == "ann.lee@hoekstra.example"
    assert user["email_verified"] is False


async def test_user_id_without_prefix_gets_the_provider_as_prefix(auth0: Auth0) -> None:
    assert (await auth0.create_user(ANN, user_id="k1"))["user_id"] == "auth0|k1"
    assert (await auth0.create_user("b@x.example", user_id="auth0|k2"))["user_id"] == "auth0|k2"
    identity = (await auth0.user("auth0|k1"))["identities"][0]
    assert (identity["user_id"], identity["connection"]) == ("k1", "hoekstra-users")


async def test_address_is_unique_in_its_connection_whatever_its_case(auth0: Auth0) -> None:
    await auth0.create_user(ANN)
    body = {"connection": "hoekstra-users", "email": ANN.upper(), "password": PASSWORD}
    assert await auth0.refused("POST", "/users", body) == {
        "statusCode": 409,
        "error": "Conflict",
        "message": "The user already exists.",
        "errorCode": "auth0_idp_error",
    }


async def test_address_may_repeat_in_another_connection(auth0: Auth0) -> None:
    first = await auth0.create_user(ANN)
    second = await auth0.create_user(ANN, connection="clinics-users")
    found = await auth0.get("/users-by-email", email=ANN)
    assert {row["user_id"] for row in found} == {first["user_id"], second["user_id"]}


async def test_user_id_is_unique_in_the_tenant(auth0: Auth0) -> None:
    await auth0.create_user(ANN, user_id="k1")
    body = {
        "connection": "clinics-users",
        "email": "other@x.example",
        "password": PASSWORD,
        "user_id": "k1",
    }
    assert (await auth0.refused("POST", "/users", body))["errorCode"] == "auth0_idp_error"
    assert await auth0.get("/users-by-email", email="other@x.example") == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"connection": "nowhere"}, "inexistent_connection"),
        ({"connection": "metahexa-ad"}, "operation_not_supported"),
        ({"surname": "Lee"}, "invalid_body"),
        ({"email": "no address"}, "invalid_body"),
        ({"given_name": ""}, "invalid_body"),
        ({"name": "x" * 301}, "invalid_body"),
        ({"user_id": "a b"}, "invalid_body"),
        ({"blocked": "yes"}, "invalid_body"),
        ({"app_metadata": []}, "invalid_body"),
        ({"password": "password"}, None),
    ],
)
async def test_creation_that_breaks_a_rule_is_a_400(
    auth0: Auth0, change: dict[str, object], code: str | None
) -> None:
    body = {"connection": "hoekstra-users", "email": ANN, "password": PASSWORD, **change}
    refusal = await auth0.refused("POST", "/users", body)
    assert refusal["statusCode"] == 400
    assert refusal.get("errorCode") == code
    assert (await auth0.state())["users"] == []


@pytest.mark.parametrize("missing", ["connection", "email", "password"])
async def test_creation_names_the_missing_property(auth0: Auth0, missing: str) -> None:
    body = {"connection": "hoekstra-users", "email": ANN, "password": PASSWORD}
    del body[missing]
    refusal = await auth0.refused("POST", "/users", body)
    assert (
        refusal["message"] == f"Payload validation error: 'Missing required property: {missing}'."
    )


async def test_body_that_is_no_json_is_a_400(auth0: Auth0) -> None:
    answer = await auth0.http.post(
        "/api/v2/users",
        content=b"{",
        headers={"authorization": f"Bearer {auth0.token}", "content-type": "application/json"},
    )
    assert (answer.status_code, answer.json()["errorCode"]) == (400, "invalid_body")


async def test_connection_must_be_enabled_for_an_application(auth0: Auth0) -> None:
    path = f"/connections/{await auth0.connection()}/clients"
    await auth0.send("PATCH", path, [{"client_id": "sample-app", "status": False}])
    body = {"connection": "hoekstra-users", "email": ANN, "password": PASSWORD}
    assert "disabled" in (await auth0.refused("POST", "/users", body))["message"]


async def test_verification_mail_is_sent_unless_declined(auth0: Auth0) -> None:
    await auth0.create_user("quiet@x.example")
    body = {"connection": "hoekstra-users", "email": ANN, "password": PASSWORD}
    await auth0.post("/users", body)
    mails = (await auth0.state())["mails"]
    assert [(mail["kind"], mail["recipient"]) for mail in mails] == [("verification", ANN)]


async def test_unknown_user_is_a_404_with_its_code(auth0: Auth0) -> None:
    assert await auth0.refused("GET", "/users/auth0|nobody") == {
        "statusCode": 404,
        "error": "Not Found",
        "message": "The user does not exist.",
        "errorCode": "inexistent_user",
    }


async def test_encoded_slash_in_a_user_id_stays_in_its_segment(auth0: Auth0) -> None:
    user = await auth0.create_user(ANN, user_id="a/..b")
    assert (await auth0.get("/users/auth0%7Ca%2F..b"))["user_id"] == user["user_id"]


async def test_search_by_address_is_case_sensitive(auth0: Auth0) -> None:
    await auth0.create_user(ANN)
    assert len(await auth0.get("/users-by-email", email=ANN)) == 1
    assert await auth0.get("/users-by-email", email="Ann@hoekstra.example") == []


async def test_fields_select_or_leave_out(auth0: Auth0) -> None:
    user = await auth0.create_user(ANN)
    path = f"/users/{user['user_id']}"
    assert await auth0.get(path, fields="email,user_id") == {
        "email": ANN,
        "user_id": user["user_id"],
    }
    assert "email" not in await auth0.get(path, fields="email", include_fields=False)


async def test_null_unsets_an_attribute(auth0: Auth0) -> None:
    user = await auth0.create_user(ANN, given_name="Ann")
    answer = await auth0.send("PATCH", f"/users/{user['user_id']}", {"given_name": None})
    assert "given_name" not in answer.json()


async def test_metadata_merge_at_the_first_level_only(auth0: Auth0) -> None:
    first = {"keep": 1, "drop": 2, "nested": {"a": 1, "b": 2}}
    user = await auth0.create_user(ANN, app_metadata=first)
    change = {"drop": None, "nested": {"c": 3}}
    await auth0.send("PATCH", f"/users/{user['user_id']}", {"app_metadata": change})
    assert (await auth0.user(user["user_id"]))["app_metadata"] == {"keep": 1, "nested": {"c": 3}}


@given(current=METADATA, change=METADATA.filter(bool), gone=st.sets(KEYS))
def test_merged_metadata_hold_the_change_and_what_it_does_not_name(
    current: dict[str, object], change: dict[str, object], gone: set[str]
) -> None:
    after = merged(current, {**change, **dict.fromkeys(gone)})
    assert not gone & set(after)
    assert all(after[key] == value for key, value in change.items() if key not in gone)
    untouched = set(current) - set(change) - gone
    assert all(after[key] == current[key] for key in untouched)


async def test_empty_metadata_object_removes_all(auth0: Auth0) -> None:
    user = await auth0.create_user(ANN, user_metadata={"a": 1})
    await auth0.send("PATCH", f"/users/{user['user_id']}", {"user_metadata": {}})
    assert "user_metadata" not in await auth0.user(user["user_id"])


@pytest.mark.parametrize(
    "change",
    [
        {"password": PASSWORD, "email": "new@x.example"},
        {"password": PASSWORD, "email_verified": True},
        {"username": "ann", "email": "new@x.example"},
        {"username": "ann", "email_verified": True},
        {"username": "ann", "password": PASSWORD},
    ],
)
async def test_some_attributes_may_not_change_together(
    auth0: Auth0, change: dict[str, object]
) -> None:
    user = await auth0.create_user(ANN)
    refusal = await auth0.refused("PATCH", f"/users/{user['user_id']}", change)
    assert (refusal["statusCode"], refusal["errorCode"]) == (400, "invalid_body")
    assert await auth0.user(user["user_id"]) == user


async def test_taken_address_is_a_400_on_update(auth0: Auth0) -> None:
    await auth0.create_user("taken@x.example")
    user = await auth0.create_user(ANN)
    path = f"/users/{user['user_id']}"
    refusal = await auth0.refused("PATCH", path, {"email": "Taken@x.example"})
    assert (refusal["statusCode"], refusal["errorCode"]) == (400, "auth0_idp_error")


async def test_new_address_frees_the_old_one_and_is_unverified(auth0: Auth0) -> None:
    user = await auth0.create_user(ANN, email_verified=True)
    answer = await auth0.send("PATCH", f"/users/{user['user_id']}", {"email": "Lee@x.example"})
    assert (answer.json()["email"], answer.json()["email_verified"]) == ("lee@x.example", False)
    await auth0.create_user(ANN)


async def test_new_password_lifts_an_administrators_block(auth0: Auth0) -> None:
    user = await auth0.create_user(ANN)
    path = f"/users/{user['user_id']}"
    assert (await auth0.send("PATCH", path, {"blocked": True})).json()["blocked"] is True
    await auth0.send("PATCH", path, {"password": f"{PASSWORD}!"})
    assert not (await auth0.user(user["user_id"])).get("blocked")


async def test_block_given_with_a_new_password_stays(auth0: Auth0) -> None:
    user = await auth0.create_user(ANN)
    change = {"password": f"{PASSWORD}!", "blocked": True}
    await auth0.send("PATCH", f"/users/{user['user_id']}", change)
    assert (await auth0.user(user["user_id"]))["blocked"] is True


async def test_deleting_an_unknown_user_is_no_error(auth0: Auth0) -> None:
    user = await auth0.create_user(ANN)
    for _ in range(2):
        answer = await auth0.send("DELETE", f"/users/{user['user_id']}")
        assert answer.status_code == 204
    assert (await auth0.create_user(ANN))["user_id"] != user["user_id"]


async def test_linked_account_is_found_under_the_primary_only(auth0: Auth0) -> None:
    primary = await auth0.create_user(ANN)
    second = await auth0.create_user(ANN, connection="clinics-users", user_id="second")
    body = {"provider": "auth0", "user_id": "second"}
    joined = await auth0.post(f"/users/{primary['user_id']}/identities", body)
    assert [row["connection"] for row in joined] == ["hoekstra-users", "clinics-users"]
    await auth0.refused("GET", f"/users/{second['user_id']}")
    body = {"connection": "clinics-users", "email": ANN, "password": PASSWORD}
    assert (await auth0.refused("POST", "/users", body))["statusCode"] == 409
    path = f"/users/{primary['user_id']}/identities/auth0/second"
    assert (await auth0.send("DELETE", path)).status_code == 200
    assert (await auth0.user("auth0|second"))["email"] == ANN


async def test_of_several_custom_domains_a_new_user_needs_one_named(auth0: Auth0) -> None:
    body = {"connection": "hoekstra-users", "email": ANN, "password": PASSWORD}
    await auth0.control("custom-domains", {"domains": ["login.a.example"]})
    assert (await auth0.create_user("one@x.example"))["email"] == "one@x.example"
    await auth0.control("custom-domains", {"domains": ["login.a.example", "login.b.example"]})
    refused = await auth0.refused("POST", "/users", body)
    assert (refused["statusCode"], refused["errorCode"]) == (409, "custom_domain_conflict")
    auth0.http.headers["auth0-custom-domain"] = "login.c.example"
    assert (await auth0.refused("POST", "/users", body))["statusCode"] == 400
    auth0.http.headers["auth0-custom-domain"] = "login.b.example"
    user = await auth0.create_user(ANN)
    wish = {"user_id": user["user_id"]}
    answer = await auth0.post("/tickets/password-change", wish)
    assert answer["ticket"].startswith("https://login.b.example/lo/reset?ticket=")
