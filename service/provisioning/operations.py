"""The things that we do to one account in Auth0, as values: planned, printed, recorded before the call."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, ClassVar

from service.directory.ledger import Way
from service.people import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whose wish an operation fulfils; its outcome is told under this user."""

    organization: str
    user_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Operation:
    kind: ClassVar[str]
    subject: Subject

    def as_document(self) -> dict[str, Any]:
        """What is recorded before the call: which operation, on what. No personal data."""
        document: dict[str, Any] = {"kind": self.kind}
        if organization := getattr(self, "organization", None):
            document["organization"] = organization
        if roles := getattr(self, "roles", None):
            document["roles"] = list(roles)
        return document

    def __str__(self) -> str:
        shown = [
            f"{field.name}={getattr(self, field.name)}"
            for field in fields(self)
            if field.name in ("organization", "roles", "changes", "reference")
        ]
        return " ".join([self.kind, *shown])


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadUser(_Operation):
    """See what is there, by ``user_id``: after doubt, before anything is repeated."""

    kind: ClassVar[str] = "read-user"


@dataclass(frozen=True, slots=True, kw_only=True)
class FindByEmail(_Operation):
    """See who holds the address: after a 409, while an enterprise profile is awaited, and whether
    somebody who is out has another one.

    ``spellings``: it is asked for as these, too, where it is not found. ``stable_ids``: so it is by
    these identities, of whom was looked for in vain before.
    """

    kind: ClassVar[str] = "find-by-email"
    email: str
    spellings: tuple[str, ...] = ()
    stable_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadAppeared(_Operation):
    """See whether a user who has appeared, as we were told, is the one that is awaited."""

    kind: ClassVar[str] = "read-appeared"
    user_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FindIdentity(_Operation):
    """See whether a user who is not there by id lives on as a part of another, linked to it."""

    kind: ClassVar[str] = "find-identity"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadMemberships(_Operation):
    """See which Organizations the account is in, ours or foreign, before it is blocked."""

    kind: ClassVar[str] = "read-memberships"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRoles(_Operation):
    """See which roles the person has in an Organization already: those are none of ours."""

    kind: ClassVar[str] = "read-roles"
    organization: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateUser(_Operation):
    kind: ClassVar[str] = "create-user"
    email: str
    profile: Profile
    email_verified: bool
    listed: tuple[str, ...] = ()
    """What ``app_metadata.organizations`` holds from the start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkAccount(_Operation):
    """Write our marker into an account that was here before us."""

    kind: ClassVar[str] = "mark-account"
    listed: tuple[Any, ...] | None = None
    """What ``app_metadata.organizations`` is to be, where that changes as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOrganizations(_Operation):
    """Replace ``app_metadata.organizations``, which is never merged: just read, with what others have
    put there."""

    kind: ClassVar[str] = "list-organizations"
    listed: tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateProfile(_Operation):
    """Root attributes that differ; None unsets one."""

    kind: ClassVar[str] = "update-profile"
    changes: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeEmail(_Operation):
    """A call of its own: Auth0 refuses an address together with username or password."""

    kind: ClassVar[str] = "change-email"
    email: str
    email_verified: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Block(_Operation):
    kind: ClassVar[str] = "block"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unblock(_Operation):
    kind: ClassVar[str] = "unblock"


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeAccess(_Operation):
    """End sessions and refresh tokens. Access tokens that were issued live until they expire."""

    kind: ClassVar[str] = "revoke-access"


@dataclass(frozen=True, slots=True, kw_only=True)
class AddMember(_Operation):
    kind: ClassVar[str] = "add-member"
    organization: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveMember(_Operation):
    kind: ClassVar[str] = "remove-member"
    organization: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AddRoles(_Operation):
    kind: ClassVar[str] = "add-roles"
    organization: str
    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveRoles(_Operation):
    kind: ClassVar[str] = "remove-roles"
    organization: str
    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sending(_Operation):
    """Something that mails: at most once for an intent (service.directory.ledger)."""

    by: ClassVar[Way]
    organization: str
    email: str
    intent: str
    lifetime: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class SendTicket(_Sending):
    """A password-change ticket, mailed by us."""

    kind: ClassVar[str] = "send-ticket"
    by: ClassVar[Way] = "ticket"


@dataclass(frozen=True, slots=True, kw_only=True)
class SendResetMail(_Sending):
    """Auth0's own mail for choosing a password."""

    kind: ClassVar[str] = "send-reset-mail"
    by: ClassVar[Way] = "auth0-mail"
    application: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SendInvitation(_Sending):
    """An invitation into the Organization, mailed by Auth0: whoever accepts it gets an account."""

    kind: ClassVar[str] = "send-invitation"
    by: ClassVar[Way] = "invitation"
    application: str
    inviter: str
    roles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FindInvitations(_Operation):
    """See whether invitations whose answers were lost are there, before they are withdrawn."""

    kind: ClassVar[str] = "find-invitations"
    organization: str
    sent: tuple[str, ...]
    """Our ids of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawInvitation(_Operation):
    """Nobody may accept it any more."""

    kind: ClassVar[str] = "withdraw-invitation"
    organization: str
    sent: str
    """Our id of it."""
    reference: str
    """Auth0's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteUser(_Operation):
    kind: ClassVar[str] = "delete-user"


Operation = (
    ReadUser
    | FindByEmail
    | ReadAppeared
    | FindIdentity
    | ReadMemberships
    | ReadRoles
    | CreateUser
    | MarkAccount
    | ListOrganizations
    | UpdateProfile
    | ChangeEmail
    | Block
    | Unblock
    | RevokeAccess
    | AddMember
    | RemoveMember
    | AddRoles
    | RemoveRoles
    | SendTicket
    | SendResetMail
    | SendInvitation
    | FindInvitations
    | WithdrawInvitation
    | DeleteUser
)
Sending = SendTicket | SendResetMail | SendInvitation
READS = (
    ReadUser,
    FindByEmail,
    ReadAppeared,
    FindIdentity,
    ReadMemberships,
    ReadRoles,
    FindInvitations,
)
