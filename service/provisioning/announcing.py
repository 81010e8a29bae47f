"""The outcomes that a writing operation of ours has when Auth0 accepts it. Pure."""

from __future__ import annotations

from typing import Final

from service.auth0.answers import Answer
from service.outcomes import data as told
from service.provisioning import listing
from service.provisioning import operations as op
from service.provisioning.operations import Operation

LISTED_ANEW: Final = told.UserUpdated(changed=(listing.SCOPE,))
"""Without the values: they are other organizations' as well."""


def outcomes_of(operation: Operation, answer: Answer) -> tuple[told.Effect, ...]:
    """The outcome of a writing operation that has succeeded."""
    request = answer.request_id
    match operation:
        case op.CreateUser():
            return (told.UserCreated(auth0_request_id=request),)
        case op.MarkAccount():
            adopted = told.UserAdopted(auth0_request_id=request)
            return (adopted,) if operation.listed is None else (adopted, LISTED_ANEW)
        case op.ListOrganizations():
            return (told.UserUpdated(changed=(listing.SCOPE,), auth0_request_id=request),)
        case op.UpdateProfile() | op.ChangeEmail():
            values: dict[str, str | None] = (
                {"email": operation.email}
                if isinstance(operation, op.ChangeEmail)
                else dict(operation.changes)
            )
            return (
                told.UserUpdated(changed=tuple(values), values=values, auth0_request_id=request),
            )
        case op.Block():
            return (told.UserBlocked(auth0_request_id=request),)
        case op.Unblock():
            return (told.UserUnblocked(auth0_request_id=request),)
        case op.RevokeAccess():
            remaining = "issued access tokens live until they expire"
            return (
                told.AccessRevoked(revoked=True, remaining=remaining, auth0_request_id=request),
            )
        case op.AddMember():
            name = operation.organization
            return (told.MembershipAdded(auth0_organization=name, auth0_request_id=request),)
        case op.RemoveMember():
            name = operation.organization
            return (told.MembershipRemoved(auth0_organization=name, auth0_request_id=request),)
        case op.AddRoles() | op.RemoveRoles():
            return (
                told.RolesChanged(
                    auth0_organization=operation.organization,
                    added=operation.roles if isinstance(operation, op.AddRoles) else (),
                    removed=operation.roles if isinstance(operation, op.RemoveRoles) else (),
                    auth0_request_id=request,
                ),
            )
        case op.SendTicket() | op.SendResetMail() | op.SendInvitation():
            sent = told.InvitationSent(by=operation.by, delivery="sent", auth0_request_id=request)
            return (sent,)
        case op.WithdrawInvitation():
            return (told.InvitationWithdrawn(auth0_request_id=request),)
        case op.DeleteUser():
            return (told.UserDeleted(auth0_request_id=request),)
        case op.ReadUser() | op.FindByEmail() | op.ReadMemberships() | op.FindInvitations():
            return ()
        case op.ReadAppeared() | op.FindIdentity() | op.ReadRoles():
            return ()
