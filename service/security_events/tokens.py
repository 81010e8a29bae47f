"""What is said of an outcome in Security Event Tokens, and their claims. Pure; knows no keys."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

from service.ids import derived_id
from service.outcomes.catalogue import OutcomeType
from service.outcomes.counterparts import COUNTERPARTS, SCIM
from service.security_events.declaration import URIS, VERIFICATION, EventName, SecurityEvents

_ABOUT_GROUPS: Final = frozenset({"membership.added", "membership.removed", "roles.changed"})
"""Their outcomes name no SCIM group, which RFC 9967 would have as the subject."""
_NAMES: Final[Mapping[str, EventName]] = {uri: name for name, uri in URIS.items()}
TOLD_BY: Final[Mapping[OutcomeType, tuple[EventName, ...]]] = {
    outcome: tuple(_NAMES[each.uri] for each in counterparts if each.uri in _NAMES)
    for outcome, counterparts in COUNTERPARTS.items()
    if outcome not in _ABOUT_GROUPS
}
"""Each a token of its own: SSF 1.0 section 4.2.1 wants one event in each, and subjects differ."""

_SCIM_NAMES: Final = {
    "email": "emails",
    "user_name": "userName",
    "given_name": "name.givenName",
    "family_name": "name.familyName",
    "name": "displayName",
    "display_name": "displayName",
    "title": "title",
    "department": (
        "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department"  # RFC 7643, 4.3
    ),
}
"""Auth0's and our HR attributes as RFC 7643 names them."""
_COMPLETION: Final = ("method", "bulkId", "version", "status", "response", "location")


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Whom an outcome is about, as far as a receiver may know: attributes by name only."""

    user_id: str
    external_id: str | None = None
    attributes: Collection[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityEvent:
    """One event to tell, as stored. ``path``: of the SCIM resource, below the base URL.

    ``jti`` is derived from the outcome: a token that is pushed again is recognised by it.
    ``auth0_user_id`` None: it is about no account.
    """

    jti: str
    uri: str
    at: datetime
    txn: str
    payload: Mapping[str, Any]
    path: str
    external_id: str | None = None
    auth0_user_id: str | None = None


def attribute_names(
    resource: Mapping[str, Any] | None, worker: Mapping[str, Any] | None
) -> list[str]:
    """What is known of a person, as SCIM attribute names; of a source that says nothing, none."""
    ours = {_SCIM_NAMES[name] for name in worker or {} if name in _SCIM_NAMES}
    return sorted({name for name in resource or {} if name != "password"} | ours)


def events_of(
    outcome: OutcomeType,
    outcome_id: str,
    data: Mapping[str, Any],
    *,
    organization: str,
    person: Person | None,
    event_id: str | None,
    wanted: Collection[EventName],
    at: datetime,
) -> Iterator[SecurityEvent]:
    """The events that an outcome is told by, none where it says nothing that they could say."""
    if outcome == "access.revoked" and not data.get("revoked"):
        return  # sessions live on, so nobody is told that they do not
    for name in TOLD_BY.get(outcome, ()):
        if name not in wanted or (person is None and name != "misc:asyncresp"):
            continue
        yield SecurityEvent(
            jti=derived_id("set", outcome_id, URIS[name]),
            uri=URIS[name],
            at=at,
            txn=str(data.get("txn") or event_id or outcome_id),
            payload=_payload(name, data, person, at),
            path=_path(data, organization, person),
            external_id=person.external_id if person is not None else None,
            auth0_user_id=data.get("auth0UserId"),
        )


def verification(event_id: str, at: datetime) -> SecurityEvent:
    """Asks nothing and tells nothing: the stream's own proof that it works."""
    return SecurityEvent(
        jti=derived_id("set", event_id, VERIFICATION),
        uri=VERIFICATION,
        at=at,
        txn=event_id,
        payload={},
        path="",
    )


def claims(
    event: SecurityEvent,
    stream: SecurityEvents,
    *,
    organization: str,
    issuer: str,
    auth0_issuer: str,
) -> dict[str, Any]:
    """A token's claims (RFC 8417 section 2.2). The same for each push, so that a repeat is one.

    Neither ``sub`` nor ``exp``: SSF 1.0 section 4.1.5 keeps SETs apart from other JWTs so.
    """
    at = int(event.at.timestamp())
    return {
        "iss": issuer,
        "aud": stream.audience,
        "jti": event.jti,
        "iat": at,
        "toe": at,
        "txn": event.txn,
        "sub_id": _subject(event, stream, organization, stream.issuer or auth0_issuer),
        "events": {event.uri: dict(event.payload)},
    }


def _subject(
    event: SecurityEvent, stream: SecurityEvents, organization: str, auth0_issuer: str
) -> dict[str, Any]:
    """``sub_id``: RFC 9967 section 2.1 for SCIM events, RFC 9493 and SSF 1.0 section 3 for others."""
    if event.uri == VERIFICATION:
        return {"format": "opaque", "id": organization}
    ours = event.uri.startswith(SCIM)
    if ours or stream.subject == "scim" or event.auth0_user_id is None:
        known = {"externalId": event.external_id} if event.external_id else {}
        return {"format": "scim", "uri": event.path, **known}
    account = {"format": "iss_sub", "iss": auth0_issuer, "sub": event.auth0_user_id}
    if stream.subject == "iss_sub":
        return account
    tenant = {"format": "opaque", "id": organization}
    return {"format": "complex", "user": account, "tenant": tenant}


def _payload(
    name: EventName, data: Mapping[str, Any], person: Person | None, at: datetime
) -> dict[str, Any]:
    match name:
        case "prov:create:notice":
            return {"attributes": ["id", *(person.attributes if person is not None else ())]}
        case "prov:patch:notice":
            changed = [_SCIM_NAMES.get(each, each) for each in data.get("changed", ())]
            return {"attributes": changed}
        case "session-revoked":
            return {"event_timestamp": int(at.timestamp())}
        case "misc:asyncresp":
            return {each: data[each] for each in _COMPLETION if each in data}
        case _:
            return {}


def _path(data: Mapping[str, Any], organization: str, person: Person | None) -> str:
    """The resource's path below the SCIM base URL, which ends with the organization's name."""
    location = data.get("location")
    if isinstance(location, str):
        return "/" + urlsplit(location).path.rpartition(f"/{organization}/")[2].lstrip("/")
    # What never became a resource was an operation of a Bulk request: others have a URL.
    return f"/Users/{person.user_id}" if person is not None else "/Bulk"
