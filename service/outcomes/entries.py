"""The catalogue itself: of each outcome type its data, key, example, and counterpart elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from service.outcomes import data as d
from service.outcomes import endings as e
from service.outcomes.catalogue import ENDINGS, OutcomeType, full_name
from service.outcomes.counterparts import COUNTERPARTS, Counterpart

KEYS: Final[Mapping[d.About, str]] = {
    "user": "`organization:user`",
    "event": "`organization:user`, else `organization`, else the source",
    "tenant": "`tenant:name`",
    "organization": "`organization`",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One outcome type. ``example``: such as might be published."""

    example: d.Data

    @property
    def data(self) -> type[d.Data]:
        return type(self.example)

    @property
    def name(self) -> OutcomeType:
        return self.example.type

    @property
    def full_name(self) -> str:
        return full_name(self.name)

    @property
    def sentence(self) -> str:
        return " ".join((self.data.__doc__ or "").split())

    @property
    def key(self) -> str:
        return KEYS[self.data.about]

    @property
    def ends(self) -> bool:
        """Whether it ends an event."""
        return self.name in ENDINGS

    @property
    def counterparts(self) -> tuple[Counterpart, ...]:
        return COUNTERPARTS.get(self.name, ())

    def payload(self) -> dict[str, Any]:
        """The example as the value of a record."""
        return {**self.example.document(), **_IDS[self.data.about]}


_IDS: Final[Mapping[d.About, Mapping[str, str | None]]] = {
    "user": {
        "organization": "hoekstra",
        "userId": "019abf0e-4a53-7b8a-9c11-2f6d1c0a7e55",
        "eventId": "019abf0e-4a52-7c31-8d20-5b1f3e9a6c04",
    },
    "event": {
        "organization": "hoekstra",
        "userId": "019abf0e-4a53-7b8a-9c11-2f6d1c0a7e55",
        "eventId": "019abf0e-4a52-7c31-8d20-5b1f3e9a6c04",
    },
    "tenant": {"organization": None, "userId": None, "eventId": None},
    "organization": {"organization": "hoekstra", "userId": None, "eventId": None},
}
_OTHER: Final = "019abf0d-77f0-7d02-b1a4-6c2e90d4f3b8"
_KAFKA: Final = d.Input(
    type="worker.changed",
    door="kafka",
    source="/hr/core",
    source_id="9b1c",
    topic="hr.events",
    partition=3,
    offset=1287,
)
_SCIM: Final = d.Input(type="scim.user.created", door="scim", source="scim", source_id=None)
_DONE: Final[dict[str, Any]] = {
    "auth0_user_id": "auth0|7f3b9c0d1e2f4a5b8c6d7e8f90a1b2c3",
    "auth0_request_id": "c0ffee17a5b2d9e4f681",
    "event": _KAFKA,
    "latency_ms": 412,
    "attempts": 1,
}
_TAKEN: Final[dict[str, Any]] = {"event": _KAFKA, "latency_ms": 412, "attempts": 1}
_AHEAD: Final[dict[str, Any]] = {
    "event": replace(_KAFKA, type="worker.terminated"),
    "latency_ms": 9,
    "attempts": 1,
    "effective_at": "2027-01-31T23:00:00+00:00",
}
_REFUSAL: Final = d.Error(
    kind="permanent",
    code="identifier_in_use",
    message="Auth0 refused to change email (409, identifier_in_use).",
    http_status=409,
    auth0_request_id="c0ffee17a5b2d9e4f681",
)

_EXAMPLES: Final[tuple[d.Data, ...]] = (
    replace(d.UserCreated(**_DONE), event=_SCIM),
    replace(d.UserAdopted(**_DONE), auth0_user_id=None),
    d.UserUpdated(**_DONE, changed=("family_name", "name")),
    d.UserBlocked(**_DONE),
    d.UserUnblocked(**_DONE),
    d.UserDeleted(**_DONE),
    d.MembershipAdded(**_DONE, auth0_organization="hoekstra"),
    d.MembershipRemoved(**_DONE, auth0_organization="hoekstra"),
    d.RolesChanged(**_DONE, auth0_organization="hoekstra", added=("editor",), removed=()),
    d.InvitationSent(**_DONE, by="ticket", delivery="sent"),
    d.InvitationExpired(**_DONE),
    d.InvitationWithdrawn(**_DONE),
    d.AccessRevoked(**_DONE, revoked=True, remaining="issued access tokens live until they expire"),
    d.DriftDetected(**_DONE, blocked=False),
    d.DriftCorrected(**_DONE, blocked=True),
    d.TenantPaused(
        tenant="main",
        reason="Auth0 refuses our credentials for this tenant: 'provisioner doctor' says what to mend.",
        resume_at="2026-11-23T09:00:15+00:00",
        error=d.Error(
            kind="tenant",
            code="credentials_refused",
            message=(
                "Auth0 refuses our credentials for this tenant: 'provisioner doctor' says what to mend."
            ),
            http_status=401,
        ),
    ),
    d.TenantResumed(tenant="main"),
    d.OrganizationChanged(
        operation="enable-connection",
        subject="hoekstra-users",
        auth0_request_id="c0ffee17a5b2d9e4f681",
    ),
    d.OrganizationRefused(
        errors=(
            d.Error(
                kind="operator",
                code="unknown_connection",
                message="There is no connection hoekstra-users in this tenant.",
                http_status=None,
            ),
        )
    ),
    d.OrganizationDecommissioned(
        stage="held", accounts=214, hold_until="2026-12-23T09:00:15+00:00"
    ),
    e.EventSucceeded(**_TAKEN, state="applied"),
    e.EventSuperseded(**_TAKEN, superseded_by=_OTHER),
    e.EventRejected(
        **_TAKEN,
        error=d.Error(
            kind="input",
            code="id_reuse_conflict",
            message="This event id was used before with another body: send the change under a new"
            " id.",
            http_status=None,
        ),
    ),
    replace(
        e.EventDeadlettered(
            **_TAKEN, error=_REFUSAL, first_failed_at="2026-11-23T08:59:21.402000+00:00"
        ),
        attempts=3,
    ),
    e.EventDuplicate(**_TAKEN, repeats=_OTHER),
    e.EventCancelled(**_AHEAD, superseded_by=_OTHER),
    e.EventDiscarded(
        **_TAKEN,
        error=d.Error(
            kind="operator",
            code="discarded",
            message="An operator discarded this event.",
            http_status=None,
        ),
    ),
    e.EventScheduled(**_AHEAD),
    replace(
        e.EventStaged(
            **_AHEAD,
            threshold=e.Exceeded(
                leavers=101, people=1000, count=20, share=0.1, within_seconds=3600
            ),
        ),
        effective_at=None,
    ),
    e.EventReplayed(**_TAKEN, replay=_OTHER),
    e.ScimResponded(
        event=_SCIM,
        latency_ms=412,
        attempts=1,
        event_uri="urn:ietf:params:scim:event:misc:asyncresp",
        txn="019abf0e-4a52-7c31-8d20-5b1f3e9a6c04",
        method="POST",
        status="201",
        location="https://provisioner.example/scim/v2/hoekstra/Users/"
        "019abf0e-4a53-7b8a-9c11-2f6d1c0a7e55",
        version='W/"1"',
    ),
)
ENTRIES: Final[Mapping[OutcomeType, Entry]] = {each.type: Entry(example=each) for each in _EXAMPLES}
