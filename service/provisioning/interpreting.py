"""What an answer of Auth0 means for the account. Pure.

Every trait of an operation that needs a decision is decided here, beside its reason; who a user is
that Auth0 shows is decided in ``recognizing``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from service.auth0.answers import Answer
from service.auth0.buckets import LONGEST
from service.directory.ledger import Ended
from service.outcomes import data as told
from service.provisioning import granting, listing
from service.provisioning import operations as op
from service.provisioning.advice import ADVICE
from service.provisioning.announcing import outcomes_of
from service.provisioning.effects import Done, Effect, Later, Refused, Setting, TenantRefused
from service.provisioning.hearing import CHANGED
from service.provisioning.observed import BLOCK, DELETION, SESSIONS, after, gone, invitation_of
from service.provisioning.operations import READS, Operation
from service.provisioning.recognizing import (
    appeared,
    found_by_address,
    found_by_former_address,
    linked_elsewhere,
    read_by_id,
)
from service.provisioning.setup.plan import OF_ANOTHER


def interpret(operation: Operation, answer: Answer, setting: Setting) -> Effect:
    """What this answer to this operation means."""
    match answer.verdict:
        case "ok":
            return _succeeded(operation, answer, setting)
        case "rate-limited":
            # No longer than its bucket is closed for, whatever the headers say.
            wait = min(answer.retry_after or 0.0, LONGEST)
            return Later(reason="rate limited by Auth0", after=wait, counted=False)
        case "unreachable":
            return Later(reason=f"not reached: {answer.message}")
        case "full":
            return _refused(operation, answer, "organization_full", kind="transient")
        case "withheld":
            return Later(reason=f"put off: {answer.message}", after=0.0, counted=False)
        case "doubtful":
            return Later(
                reason=f"no clear answer from Auth0 ({answer.status or answer.message})",
                doubt=not isinstance(operation, READS),
            )
        case "unauthorized":
            return TenantRefused(
                reason=answer.message or "Auth0 refused the token", status=answer.status
            )
        case "forbidden":
            return _forbidden(operation, answer, setting)
        case "not-found":
            return _not_found(operation, answer, setting)
        case "conflict":
            return _conflict(operation, answer, setting)
        case "refused":
            # No 409 here, unlike where a user is created.
            taken = isinstance(operation, op.ChangeEmail) and answer.code == "auth0_idp_error"
            code = "identifier_in_use" if taken else answer.problem_code or "bad_request"
            return _refused(operation, answer, code)


def _succeeded(operation: Operation, answer: Answer, setting: Setting) -> Effect:
    match operation:
        case op.ReadUser():
            return read_by_id(answer.data, setting)
        case op.FindByEmail() if operation.email in setting.desired.formerly_invited_to:
            return found_by_former_address(operation.email, answer.data, setting)
        case op.FindByEmail():
            return found_by_address(answer.data, setting)
        case op.ReadAppeared():
            return appeared(answer.data, setting)
        case op.FindIdentity():
            return linked_elsewhere(answer.data, setting)
        case op.ReadMemberships():
            known = setting.observed
            # A removal takes 5 to 10 s to show: what we have just left does not count.
            ours = {*known.memberships, *known.left, *setting.desired.leavers}
            foreign = tuple(sorted(set(answer.data) - ours))
            return Done(observed=replace(setting.observed, foreign=foreign))
        case op.ReadRoles():
            return Done(observed=granting.found(setting.observed, operation, answer.data))
        case op.FindInvitations():
            return _found_invitations(operation, answer.data, setting)
        case op.WithdrawInvitation():
            return _withdrawn(operation, answer, setting)
        case op.SendInvitation():
            return Done(
                observed=setting.observed,
                told=outcomes_of(operation, answer),
                reference=str(answer.data["id"]),
            )
        case op.CreateUser():
            # A database with scripts of its own may give another id than was asked for.
            given = answer.data.get("user_id") if isinstance(answer.data, Mapping) else None
            return Done(
                observed=after(setting.observed, operation),
                told=outcomes_of(operation, answer),
                user_id=given if isinstance(given, str) and given else None,
            )
        case op.Block() if setting.observed.lifted:
            # Somebody had lifted our block, or a password reset did.
            told_of = (*outcomes_of(operation, answer), told.DriftCorrected(blocked=True))
            return Done(observed=after(setting.observed, operation), told=told_of)
        case _:
            observed = after(setting.observed, operation)
            return Done(observed=observed, told=outcomes_of(operation, answer))


def _found_invitations(
    operation: op.FindInvitations, invitations: Sequence[Mapping[str, Any]], setting: Setting
) -> Done:
    """Which of our invitations are there; those that are not were never made, or are gone."""
    found = {
        ours: str(each["id"])
        for each in invitations
        if (ours := invitation_of(each)) is not None and ours in operation.sent
    }
    ended: dict[str, Ended] = {each: "withdrawn" for each in operation.sent if each not in found}
    return Done(observed=setting.observed, found=found, ended=ended)


def _withdrawn(operation: op.WithdrawInvitation, answer: Answer, setting: Setting) -> Done:
    """Gone by our hand, or already: accepted, consumed, expired or deleted by somebody else."""
    return Done(
        observed=setting.observed,
        told=outcomes_of(operation, answer) if answer.verdict == "ok" else (),
        ended={operation.sent: "withdrawn"},
    )


def _forbidden(operation: Operation, answer: Answer, setting: Setting) -> Effect:
    if answer.code == "insufficient_entitlement":
        if isinstance(operation, op.RevokeAccess):
            # The plan has no session endpoints: the block stands, and the outcome says what does not.
            revoked = told.AccessRevoked(
                revoked=False,
                reason="insufficient_entitlement",
                remaining="sessions and refresh tokens live until they expire",
                auth0_request_id=answer.request_id,
            )
            return Done(observed=after(setting.observed, operation), told=(revoked,))
        return _refused(operation, answer, "insufficient_entitlement")
    if answer.lacks_scope:
        # One scope is missing, and other calls need others: leavers must not wait for this one.
        return _refused(operation, answer, "insufficient_scope", kind="tenant")
    alone = _refused(operation, answer, answer.problem_code or "forbidden")
    if answer.is_full:  # that is about what was to be made
        return alone
    return TenantRefused(
        reason=answer.message or "Auth0 forbids this call: check the scopes",
        status=answer.status,
        alone=alone,
    )


def _not_found(operation: Operation, answer: Answer, setting: Setting) -> Effect:
    about_user = answer.code == "inexistent_user" or isinstance(
        operation,
        op.ReadUser
        | op.ReadAppeared
        | op.UpdateProfile
        | op.ChangeEmail
        | op.MarkAccount
        | op.ListOrganizations
        | op.Block
        | op.Unblock
        | op.RevokeAccess
        | op.DeleteUser
        | op.ReadMemberships
        | op.SendTicket,
    )
    if isinstance(operation, op.WithdrawInvitation):
        return _withdrawn(operation, answer, setting)
    if isinstance(operation, op.RemoveMember | op.RemoveRoles) and not about_user:
        # Nobody is a member of an Organization that is gone, or has a role that is.
        return Done(observed=after(setting.observed, operation))
    if isinstance(operation, op.ReadRoles) and not about_user:
        # Who is no member has none. Where there is no such Organization, granting says so.
        return Done(observed=granting.found(setting.observed, operation, ()))
    if not about_user:
        ours = ("unknown_role", "unknown_connection")
        code = answer.code if answer.code in ours else "unknown_organization_or_role"
        return _refused(operation, answer, code)
    if isinstance(operation, op.ReadAppeared):
        looked = setting.observed.fresh or setting.observed.presence == "missing"
        return Done(observed=replace(setting.observed, fresh=looked))
    if setting.observed.origin is not None and "delete-user" not in setting.doubted:
        # By nobody of ours: deleted, or made a part of another user.
        looked = not setting.doubted or CHANGED in setting.doubted
        news = setting.observed.presence == "present" or looked
        missing = replace(setting.observed, presence="missing", loss_told=not news)
        return Done(observed=missing)
    deleted = (told.UserDeleted(),) if "delete-user" in setting.doubted else ()
    return Done(observed=gone(setting.observed), told=deleted)


def _conflict(operation: Operation, answer: Answer, setting: Setting) -> Effect:
    if isinstance(operation, op.CreateUser) and answer.code != "custom_domain_conflict":
        return Done(
            observed=replace(setting.observed, presence="conflicting", email=operation.email)
        )
    if isinstance(operation, op.ChangeEmail):
        return _refused(operation, answer, "identifier_in_use")
    return _refused(operation, answer, answer.problem_code or "conflict")


_OF_ORGANIZATION = (
    op.AddMember,
    op.RemoveMember,
    op.ReadRoles,
    op.AddRoles,
    op.RemoveRoles,
    op.FindInvitations,
    op.WithdrawInvitation,
)


def _refused(
    operation: Operation, answer: Answer, code: str, *, kind: str = "permanent"
) -> Refused:
    who = "The mail server" if code == "mail_refused" else "Auth0"
    message = f"{who} refused to {operation.kind.replace('-', ' ')} ({answer.status}, {code})."
    if (advice := ADVICE.get(code)) is not None:
        message += f" {advice}"
    if code == OF_ANOTHER:
        message = f"Nobody is let in: {answer.message}. Declare an auth0_organization of its own."
    return Refused(
        problem=(kind, code, message, answer.status),
        scope=_scope(operation),
        retry_after=answer.retry_after,
        request_id=answer.request_id,
    )


def _scope(operation: Operation) -> str:
    """A membership that is refused, or an end of its invitations, stops what is done in that
    Organization; a call that locks somebody out, or that lists, itself alone; anything else stops the
    account."""
    match operation:
        case op.Block():
            return BLOCK
        case op.RevokeAccess():
            return SESSIONS
        case op.DeleteUser():
            return DELETION
        case op.ListOrganizations():
            return listing.SCOPE
        case _:
            return operation.organization if isinstance(operation, _OF_ORGANIZATION) else ""
