"""What each outcome carries, as values: one class a type. Written in camelCase; read by nobody here.

A member that may be unset and has a default is left out then; one without a default is null.
No member holds names or addresses but those of ``Person`` and ``values``, which an organization
has to ask for (``outcomes: full``).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict
from pydantic.alias_generators import to_camel

from service.outcomes.catalogue import OutcomeType

About = Literal["user", "event", "tenant", "organization"]
"""Whom an outcome is about: that decides on its key."""


def name_of(attribute: str) -> str:
    """The member that an attribute is written as."""
    return "class" if attribute == "kind" else to_camel(attribute)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Anything that is written as a JSON object."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        alias_generator=name_of, use_attribute_docstrings=True
    )

    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = {}
        for attribute, name, optional in _members(type(self)):
            value = getattr(self, attribute)
            if value is None and optional:
                continue
            if isinstance(value, Part):
                value = value.document()
            elif isinstance(value, tuple):
                value = [each.document() if isinstance(each, Part) else each for each in value]
            document[name] = value
        return document


@functools.cache
def _members(part: type[Part]) -> tuple[tuple[str, str, bool], ...]:
    return tuple(
        (field.name, name_of(field.name), field.default is not MISSING) for field in fields(part)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Input(Part):
    """The accepted event that an outcome tells of, or that caused it."""

    type: str
    """As it was sent; `scim.…` for a SCIM request, `operator.…` for what an operator did."""
    door: Literal["scim", "http", "kafka", "operator"]
    source: str
    """Its CloudEvents `source`, or the name of the configured source."""
    source_id: str | None
    """Its producer's own id; null where there is none, or one that holds an address."""
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    mapping: str | None = None
    """The declared mapping that read it, with its version: `name@3`."""
    causation_id: str | None = None
    """The event that it replays, or whose id it repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Error(Part):
    """Why something failed."""

    kind: str
    """`permanent`, `conflict`, `tenant`, `input`, `poison` or `operator`; more may come."""
    code: str
    message: str
    """A sentence for people, without names and addresses."""
    http_status: int | None
    """What Auth0 answered; null where it was not asked."""
    retry_after: float | None = None
    """Seconds, where Auth0 named them."""
    auth0_request_id: str | None = None
    """Auth0's own id of the request that it refused: name it to their support."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person(Part):
    """Who it is. Only with `outcomes: full`."""

    user_name: str | None = None
    email: str | None = None
    given_name: str | None = None
    family_name: str | None = None
    name: str | None = None
    external_id: str | None = None
    worker_id: str | None = None
    auth0_user_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Data(Part):
    """The data of an outcome."""

    type: ClassVar[OutcomeType]
    about: ClassVar[About]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect(Data):
    """Something that was done to a user's account, or found there."""

    about: ClassVar[About] = "user"
    auth0_user_id: str | None = None
    """Left out where it may hold a name, as in enterprise connections, unless `outcomes: full`."""
    auth0_request_id: str | None = None
    """Auth0's own id of the request that did it, where it gave one."""
    event: Input | None = None
    """The event that caused it: the newest one of the user."""
    latency_ms: int | None = None
    """Milliseconds since that event was accepted, or due where that was later."""
    attempts: int | None = None
    """Tries of the account's turn, this one included; waiting for a rate limit is no try."""
    user: Person | None = None
    """Only with `outcomes: full`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserCreated(Effect):
    """A new account was created in Auth0."""

    type: ClassVar[OutcomeType] = "user.created"


@dataclass(frozen=True, slots=True, kw_only=True)
class UserAdopted(Effect):
    """An account that was there before was taken over."""

    type: ClassVar[OutcomeType] = "user.adopted"


@dataclass(frozen=True, slots=True, kw_only=True)
class UserUpdated(Effect):
    """The profile or the address was changed in Auth0."""

    type: ClassVar[OutcomeType] = "user.updated"
    changed: tuple[str, ...]
    """Names of Auth0's attributes."""
    values: Mapping[str, str | None] | None = None
    """What they are now; null: unset. Only with `outcomes: full`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserBlocked(Effect):
    """The account was blocked: nobody logs in with it."""

    type: ClassVar[OutcomeType] = "user.blocked"


@dataclass(frozen=True, slots=True, kw_only=True)
class UserUnblocked(Effect):
    """Our block was lifted."""

    type: ClassVar[OutcomeType] = "user.unblocked"


@dataclass(frozen=True, slots=True, kw_only=True)
class UserDeleted(Effect):
    """The account was deleted from Auth0."""

    type: ClassVar[OutcomeType] = "user.deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Membership(Effect):
    auth0_organization: str
    """The Auth0 Organization by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipAdded(_Membership):
    """The account was made a member of the Auth0 Organization."""

    type: ClassVar[OutcomeType] = "membership.added"


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipRemoved(_Membership):
    """The account is no longer a member of the Auth0 Organization."""

    type: ClassVar[OutcomeType] = "membership.removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class RolesChanged(_Membership):
    """Roles of the membership were granted or taken away."""

    type: ClassVar[OutcomeType] = "roles.changed"
    added: tuple[str, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InvitationSent(Effect):
    """A mail with a link to choose a password, or an invitation, went out, once; or may have."""

    type: ClassVar[OutcomeType] = "invitation.sent"
    by: str
    """`ticket`: our mail; `auth0-mail`: Auth0's own; `invitation`: into the Organization; more may
    come."""
    delivery: Literal["sent", "doubtful"]
    """`doubtful`: it may or may not have gone out, and is not repeated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InvitationExpired(Effect):
    """Nobody accepted an invitation in time: an operator may send a new one."""

    type: ClassVar[OutcomeType] = "invitation.expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class InvitationWithdrawn(Effect):
    """An open invitation was deleted: its person has left, or its address is no longer theirs."""

    type: ClassVar[OutcomeType] = "invitation.withdrawn"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRevoked(Effect):
    """Sessions and refresh tokens were ended, as far as Auth0 allows."""

    type: ClassVar[OutcomeType] = "access.revoked"
    revoked: bool
    """False: Auth0 does not allow it in this plan, the block alone stands."""
    reason: str | None = None
    """Why it was not done, as Auth0's error code."""
    remaining: str
    """What stays usable, and until when."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drift(Effect):
    blocked: bool | None = None
    """Whether the account is blocked, where that has changed."""
    deleted: bool | None = None
    """True: the account is gone."""
    changed: tuple[str, ...] | None = None
    """Names of Auth0's attributes that differ; `app_metadata` where our marker is gone."""
    auth0_organization: str | None = None
    """The Auth0 Organization by name, where it is about a membership."""
    missing_roles: tuple[str, ...] | None = None
    """Roles of that membership that were taken away; left out where the membership itself was."""
    rejoined: bool | None = None
    """True: somebody who had left that Organization was a member of it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftDetected(_Drift):
    """Somebody else changed in Auth0 what we answer for."""

    type: ClassVar[OutcomeType] = "drift.detected"


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftCorrected(_Drift):
    """What somebody else had changed is as it should be again."""

    type: ClassVar[OutcomeType] = "drift.corrected"


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantPaused(Data):
    """An Auth0 tenant refuses us: its accounts wait, nothing is lost."""

    type: ClassVar[OutcomeType] = "tenant.paused"
    about: ClassVar[About] = "tenant"
    tenant: str
    reason: str
    """Our own sentence; Auth0's words are shown to operators only."""
    resume_at: str | None = None
    """When it is tried again (RFC 3339)."""
    error: Error | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantResumed(Data):
    """The Auth0 tenant takes our calls again."""

    type: ClassVar[OutcomeType] = "tenant.resumed"
    about: ClassVar[About] = "tenant"
    tenant: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganizationChanged(Data):
    """Something of the organization's set-up in Auth0 was made, changed or deleted as declared."""

    type: ClassVar[OutcomeType] = "organization.changed"
    about: ClassVar[About] = "organization"
    operation: str
    """Such as `create-organization`, `create-connection`, `enable-connection`; more may come."""
    subject: str
    """The name in Auth0 of the Organization, connection or role."""
    auth0_request_id: str | None = None
    """Auth0's own id of the request that did it, where it gave one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganizationRefused(Data):
    """The organization cannot be set up in Auth0 as declared: an operator must act, then apply again."""

    type: ClassVar[OutcomeType] = "organization.refused"
    about: ClassVar[About] = "organization"
    errors: tuple[Error, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganizationDecommissioned(Data):
    """The end of the organization has come to its next stage, or was taken back."""

    type: ClassVar[OutcomeType] = "organization.decommissioned"
    about: ClassVar[About] = "organization"
    stage: Literal["locking", "held", "kept", "deleting", "dismantling", "ended", "undone"]
    accounts: int
    """How many accounts the organization had when it began."""
    hold_until: str | None = None
    """When deletion begins (RFC 3339), where it is held until then."""
