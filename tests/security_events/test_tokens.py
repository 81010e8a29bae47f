"""What tokens say: every claim, for every event, and nothing of what a person is like."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from service.ids import derived_id
from service.outcomes.catalogue import OutcomeType
from service.security_events.declaration import EVENTS, URIS, SecurityEvents
from service.security_events.tokens import (
    TOLD_BY,
    Person,
    attribute_names,
    claims,
    events_of,
    verification,
)

AT = datetime(2026, 11, 23, 9, 30, 15, 900_000, tzinfo=UTC)
STREAM = SecurityEvents(endpoint="https://receiver.test/events", audience="https://receiver.test")
PERSON = Person(user_id="u-1", external_id="E-7", attributes=["emails", "userName"])
ACCOUNT = {"auth0UserId": "auth0|7f3a"}
AUTH0 = "https://example.eu.auth0.com/"


def told(
    outcome: OutcomeType,
    data: dict[str, Any] | None = None,
    *,
    person: Person | None = PERSON,
    stream: SecurityEvents = STREAM,
) -> dict[str, dict[str, Any]]:
    """Claims by event."""
    found = events_of(
        outcome,
        "o-1",
        data if data is not None else ACCOUNT,
        organization="hoekstra",
        person=person,
        event_id="e-1",
        wanted=stream.events,
        at=AT,
    )
    names = {uri: name for name, uri in URIS.items()}
    return {
        names[event.uri]: claims(
            event,
            stream,
            organization="hoekstra",
            issuer="https://scim.test",
            auth0_issuer=AUTH0,
        )
        for event in found
    }


def test_a_token_has_these_claims_and_no_others() -> None:
    uri = "https://schemas.openid.net/secevent/risc/event-type/account-disabled"
    assert told("user.blocked")["account-disabled"] == {
        "iss": "https://scim.test",
        "aud": "https://receiver.test",
        "jti": derived_id("set", "o-1", uri),
        "iat": 1795426215,
        "toe": 1795426215,
        "txn": "e-1",
        "sub_id": {"format": "iss_sub", "iss": AUTH0, "sub": "auth0|7f3a"},
        "events": {uri: {}},
    }


@pytest.mark.parametrize(
    ("outcome", "data", "expected"),
    [
        ("user.created", {}, {"prov:create:notice": {"attributes": ["id", "emails", "userName"]}}),
        ("user.adopted", {}, {"prov:create:notice": {"attributes": ["id", "emails", "userName"]}}),
        (
            "user.updated",
            {"changed": ["email", "given_name", "name"]},
            {"prov:patch:notice": {"attributes": ["emails", "name.givenName", "displayName"]}},
        ),
        ("user.blocked", {}, {"account-disabled": {}, "prov:deactivate": {}}),
        ("user.unblocked", {}, {"account-enabled": {}, "prov:activate": {}}),
        ("user.deleted", {}, {"account-purged": {}, "prov:delete": {}}),
        ("access.revoked", {"revoked": True}, {"session-revoked": {"event_timestamp": 1795426215}}),
        ("access.revoked", {"revoked": False}, {}),
        ("roles.changed", {"added": ["admin"]}, {}),
        ("event.succeeded", {}, {}),
    ],
)
def test_an_outcome_is_told_by_these_events(
    outcome: OutcomeType, data: dict[str, Any], expected: dict[str, Any]
) -> None:
    found = told(outcome, ACCOUNT | data)
    uri_of: dict[str, str] = dict(URIS.items())
    assert {name: made["events"][uri_of[name]] for name, made in found.items()} == expected


def test_every_event_has_an_outcome_that_it_tells_of() -> None:
    assert {name for names in TOLD_BY.values() for name in names} == set(EVENTS)


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("iss_sub", {"format": "iss_sub", "iss": AUTH0, "sub": "auth0|7f3a"}),
        (
            "complex",
            {
                "format": "complex",
                "user": {"format": "iss_sub", "iss": AUTH0, "sub": "auth0|7f3a"},
                "tenant": {"format": "opaque", "id": "hoekstra"},
            },
        ),
        ("scim", {"format": "scim", "uri": "/Users/u-1", "externalId": "E-7"}),
    ],
)
def test_the_organization_chooses_how_people_are_named(
    subject: str, expected: dict[str, Any]
) -> None:
    stream = STREAM.model_copy(update={"subject": subject})
    found = told("user.blocked", stream=stream)
    assert found["account-disabled"]["sub_id"] == expected
    in_scim = {"format": "scim", "uri": "/Users/u-1", "externalId": "E-7"}
    assert found["prov:deactivate"]["sub_id"] == in_scim


def test_a_custom_domain_can_be_the_issuer_of_people() -> None:
    stream = STREAM.model_copy(update={"issuer": "https://login.example.com/"})
    subject = told("user.blocked", stream=stream)["account-disabled"]["sub_id"]
    assert subject["iss"] == "https://login.example.com/"


def test_who_has_no_external_id_is_named_without() -> None:
    found = told("user.deleted", person=Person(user_id="u-1"))
    assert found["prov:delete"]["sub_id"] == {"format": "scim", "uri": "/Users/u-1"}


def test_the_end_of_a_request_is_told_as_a_bulk_operation_would_be() -> None:
    data = {
        "event": {"type": "scim.user.created", "door": "scim"},
        "latencyMs": 12,
        "eventUri": URIS["misc:asyncresp"],
        "txn": "t-9:3",
        "method": "POST",
        "bulkId": "qwerty",
        "location": "https://scim.test/hoekstra/scim/v2/hoekstra/Groups/g-1",
        "version": 'W/"1"',
        "status": "201",
    }
    found = told("scim.responded", data, person=None)["misc:asyncresp"]
    assert found["txn"] == "t-9:3"
    assert found["sub_id"] == {"format": "scim", "uri": "/Groups/g-1"}
    assert found["events"][URIS["misc:asyncresp"]] == {
        name: data[name] for name in ("method", "bulkId", "version", "status", "location")
    }
    refused = told("scim.responded", {"txn": "t", "status": "404"}, person=None)["misc:asyncresp"]
    assert refused["sub_id"] == {"format": "scim", "uri": "/Bulk"}


def test_only_what_the_organization_wants_is_told() -> None:
    stream = STREAM.model_copy(update={"events": ("prov:deactivate",)})
    assert [*told("user.blocked", stream=stream)] == ["prov:deactivate"]


def test_a_verification_names_the_stream() -> None:
    made = claims(
        verification("v-1", AT),
        STREAM,
        organization="hoekstra",
        issuer="https://scim.test",
        auth0_issuer=AUTH0,
    )
    assert made["sub_id"] == {"format": "opaque", "id": "hoekstra"}
    assert made["events"] == {"https://schemas.openid.net/secevent/ssf/event-type/verification": {}}


@settings(max_examples=25)
@given(
    resource=st.dictionaries(
        st.sampled_from(["userName", "emails", "password", "name"]), st.text(max_size=12)
    ),
    worker=st.dictionaries(
        st.sampled_from(["email", "given_name", "salary"]), st.text(max_size=12)
    ),
)
def test_a_notice_holds_names_of_attributes_and_no_values(
    resource: dict[str, str], worker: dict[str, str]
) -> None:
    person = Person(user_id="u-1", attributes=attribute_names(resource, worker))
    made = orjson.loads(orjson.dumps(told("user.created", person=person)))
    told_names = made["prov:create:notice"]["events"][URIS["prov:create:notice"]]["attributes"]
    assert set(told_names) <= {"id", "userName", "emails", "name", "name.givenName"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"endpoint": "http://receiver.test/events"},
        {"endpoint": "https://user:secret@receiver.test/events"},
        {"endpoint": "ftp://receiver.test"},
        {"audience": ""},
        {"events": ()},
        {"events": ("account-hijacked",)},
        {"subject": "email"},
        {"issuer": "http://example.com"},
        {"end_point": "https://receiver.test"},
    ],
)
def test_a_stream_that_could_not_work_is_not_declared(wrong: dict[str, Any]) -> None:
    fine: dict[str, Any] = {"endpoint": "https://receiver.test", "audience": "a"}
    with pytest.raises(ValidationError):
        SecurityEvents.model_validate(fine | wrong)


def test_loopback_may_do_without_tls() -> None:
    assert SecurityEvents(endpoint="http://127.0.0.1:9000/events", audience="a").events == EVENTS
