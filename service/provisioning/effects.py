"""What an answer of Auth0 means for the account: done, later, refused, or the tenant's trouble. Pure.

Every trait of an operation that needs a decision is decided here, beside its reason.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Generic, TypeVar

from service.auth0.answers import Answer
from service.auth0.buckets import LONGEST
from service.directory.ledger import Ended
from service.outcomes import data as told
from service.provisioning import listing
from service.provisioning import operations as op
from service.provisioning.advice import ADVICE
from service.provisioning.desired import Desired
from service.provisioning.hearing import CHANGED
from service.provisioning.observed import (
    Observed,
    Origin,
    after,
    gone,
    invitation_of,
    invited_roles,
    marker,
    seen,
)
from service.provisioning.operations import READS, Operation
from service.provisioning.setup.plan import OF_ANOTHER

R = TypeVar("R")
Problem = tuple[str, str, str, int | None]
"""Class, code, message without personal data, HTTP status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The picture has changed (or been read); go on planning."""

    observed: Observed
    told: tuple[told.Effect, ...] = ()
    """Outcomes to publish, without what telling adds: who it is, and what caused it."""
    user_id: str | None = None
    """Auth0's id, where it turned out to be another than the one we chose."""
    reference: str | None = None
    """Auth0's id of the invitation that was just sent."""
    found: Mapping[str, str] = field(default_factory=dict[str, str])
    """Auth0's ids of invitations whose answers were lost, by our ids."""
    ended: Mapping[str, Ended] = field(default_factory=dict[str, Ended])
    """Invitations that are open no more, by our ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Later:
    """Try again. ``doubt``: it may have been done, so read first."""

    reason: str
    after: float | None = None
    counted: bool = True
    doubt: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The same call will be refused again: an operator must act, or of class ``transient`` it is to be
    tried after ``retry_after`` seconds. ``scope``: an Organization's Auth0
    name where only that membership is refused, else empty."""

    problem: Problem
    scope: str = ""
    retry_after: float | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantRefused(Generic[R]):
    """Every call to this tenant will fail like this: pause it, nothing is lost. ``R``: a refusal of
    one call."""

    reason: str
    status: int | None = None
    alone: R | None = None
    """What it means where the tenant accepts other calls: a 403 may be about this one only."""

    def where(self, accepted: bool | None) -> TenantRefused[R] | R | Later:
        """``accepted``: whether the tenant accepts another call; None where that is not known."""
        if accepted is None:
            return Later(reason=self.reason, counted=False)
        return self.alone if accepted and self.alone is not None else self


@dataclass(frozen=True, slots=True, kw_only=True)
class NotThereYet:
    """An enterprise profile has not appeared: look again later."""


Effect = Done | Later | Refused | TenantRefused[Refused] | NotThereYet


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What interpreting needs of the account: who it is, what is wanted, what was seen."""

    account_id: str
    user_id: str
    connection: str
    desired: Desired
    observed: Observed
    doubted: frozenset[str] = frozenset()
    """Kinds of operations whose answers were lost."""
    live_accounts: frozenset[str] = frozenset()
    """Account ids that we answer for, among those that candidates are marked with."""
    of_others: frozenset[str] = frozenset()
    """Candidates, by Auth0's id, whom the directories know as somebody else by a stable id."""


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
            return _read(answer.data, setting)
        case op.FindByEmail() if operation.email in setting.desired.formerly_invited_to:
            return _found_by_former(operation.email, answer.data, setting)
        case op.FindByEmail():
            return _found(answer.data, setting)
        case op.ReadAppeared():
            return _appeared(answer.data, setting)
        case op.FindIdentity():
            return _linked(answer.data, setting)
        case op.ReadMemberships():
            known = setting.observed
            # A removal takes 5 to 10 s to show: what we have just left does not count.
            ours = {*known.memberships, *known.left, *setting.desired.leavers}
            foreign = tuple(sorted(set(answer.data) - ours))
            return Done(observed=replace(setting.observed, foreign=foreign))
        case op.FindInvitations():
            return _found_invitations(operation, answer.data, setting)
        case op.WithdrawInvitation():
            return _withdrawn(operation, answer, setting)
        case op.SendInvitation():
            return Done(
                observed=setting.observed,
                told=_told(operation, answer),
                reference=str(answer.data["id"]),
            )
        case op.CreateUser():
            # A database with scripts of its own may give another id than was asked for.
            given = answer.data.get("user_id") if isinstance(answer.data, Mapping) else None
            return Done(
                observed=after(setting.observed, operation),
                told=_told(operation, answer),
                user_id=given if isinstance(given, str) and given else None,
            )
        case op.Block() if setting.observed.lifted:
            # Somebody had lifted our block, or a password reset did.
            told_of = (*_told(operation, answer), told.DriftCorrected(blocked=True))
            return Done(observed=after(setting.observed, operation), told=told_of)
        case _:
            observed = after(setting.observed, operation)
            return Done(observed=observed, told=_told(operation, answer))


_LISTED_ANEW: Final = told.UserUpdated(changed=(listing.SCOPE,))
"""Without the values: they are other organizations' as well."""


def _told(operation: Operation, answer: Answer) -> tuple[told.Effect, ...]:
    """The outcome of a writing operation that has succeeded."""
    request = answer.request_id
    match operation:
        case op.CreateUser():
            return (told.UserCreated(auth0_request_id=request),)
        case op.MarkAccount():
            adopted = told.UserAdopted(auth0_request_id=request)
            return (adopted,) if operation.listed is None else (adopted, _LISTED_ANEW)
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
        case op.ReadAppeared() | op.FindIdentity():
            return ()


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
        told=_told(operation, answer) if answer.verdict == "ok" else (),
        ended={operation.sent: "withdrawn"},
    )


def _read(user: Mapping[str, Any], setting: Setting) -> Effect:
    """What GET by id shows. Only our own id is ever asked for, so it is ours if it is marked."""
    before = setting.observed
    observed = seen(
        before,
        user,
        account_id=setting.account_id,
        origin=before.origin or "created",
        doubted=setting.doubted,
    )
    observed = replace(observed, linked=_is_secondary(user, setting.connection))
    if "create-user" in setting.doubted and before.origin is None:
        observed = replace(observed, foreign=())
    return Done(observed=observed, told=tuple(_discovered(before, observed, setting)))


def _discovered(before: Observed, now: Observed, setting: Setting) -> Iterator[told.Effect]:
    """What a read shows to have happened: the outcomes of calls whose answers were lost."""
    doubted = setting.doubted
    if "create-user" in doubted and before.origin is None:
        yield told.UserCreated()
        return
    if "mark-account" in doubted and now.marked and not before.marked:
        yield told.UserAdopted()
    if "change-email" in doubted and now.email != before.email:
        yield told.UserUpdated(changed=("email",), values={"email": now.email})
    if "update-profile" in doubted and now.profile != before.profile:
        known, seen_now = asdict(before.profile), asdict(now.profile)
        values = {name: value for name, value in seen_now.items() if value != known[name]}
        yield told.UserUpdated(changed=tuple(values), values=values)
    if "list-organizations" in doubted and now.listed != before.listed:
        yield _LISTED_ANEW
    if "block" in doubted and now.blocked and not before.blocked:
        yield told.UserBlocked()
    if before.presence == "unknown" and before.blocked_by_us and not now.blocked:
        if "unblock" in doubted:
            yield told.UserUnblocked()
        else:
            yield told.DriftDetected(blocked=False)
    elif "block" in doubted and now.blocked and before.lifted:
        yield told.DriftCorrected(blocked=True)


def _found(users: Sequence[Mapping[str, Any]], setting: Setting) -> Effect:
    """Who holds the address in our connection: ourselves, one of ours, one to adopt, or a stranger."""
    here = [user for user in users if _is_awaited(user, setting)]
    if setting.observed.presence == "present":
        return _other(here, setting)
    here.sort(key=lambda user: not _known_by_id(user, setting))  # before those by address alone
    if here and _is_ours(here[0], setting):
        return _read(here[0], replace(setting, doubted=setting.doubted | {"create-user"}))
    if here and _has_accepted(here[0], setting):
        return _accepted(here[0], setting, setting.desired.invited_to)
    enterprise = not setting.desired.connection.is_database
    if not setting.desired.wanted and not enterprise:
        # Whoever it is was never ours, and we want nobody any more.
        looked_for = setting.observed.looked_for
        return Done(observed=replace(gone(setting.observed), fresh=True, looked_for=looked_for))
    if not here:
        return _not_there(setting)
    user = here[0]
    mark, user_id = marker(user), str(user.get("user_id"))
    if mark is not None and mark not in setting.live_accounts:
        origin = "joined"
    elif mark is None and (
        enterprise or (setting.desired.may_adopt and user.get("email_verified"))
    ):
        origin = "adopted"
    elif not setting.desired.wanted:
        return NotThereYet()  # that is another of our accounts, and in its own care
    else:
        return Refused(
            problem=(
                "conflict",
                "identifier_in_use",
                "Auth0 has a user with this address that is not ours, and the organization's"
                " policy does not allow to adopt it.",
                409,
            )
        )
    before = replace(setting.observed, origin=None)
    observed = _taken_up(before, user, setting, origin=origin)
    return Done(observed=observed, user_id=user_id)


def _taken_up(
    before: Observed, user: Mapping[str, Any], setting: Setting, *, origin: Origin
) -> Observed:
    observed = seen(before, user, account_id=setting.account_id, origin=origin)
    return replace(
        observed,
        marked=False,  # it is written again: it must name this account
        linked=_is_secondary(user, setting.connection),
        foreign=None,
        # A login may have made whoever is out a member.
        unsure_members=() if setting.desired.wanted else tuple(sorted(setting.desired.leavers)),
    )


def _appeared(user: Mapping[str, Any], setting: Setting) -> Effect:
    """Whether who has appeared is the one that is awaited, by stable id before address; or has taken
    up the one who is missing: that is sure, while search lags behind.
    """
    if setting.observed.presence == "missing":
        if _has_identity(user, setting.user_id):
            return _linked([user], setting)
        return Done(observed=replace(setting.observed, fresh=True))
    if _is_awaited(user, setting):
        return _found([user], setting)
    return Done(observed=setting.observed)


def _is_awaited(user: Mapping[str, Any], setting: Setting) -> bool:
    if not _in_connection(user, setting.connection):
        return False
    address = str(user.get("email") or "").lower()
    by_address = address == setting.desired.email and user.get("user_id") not in setting.of_others
    return by_address or _known_by_id(user, setting)


def _other(users: Sequence[Mapping[str, Any]], setting: Setting) -> Done:
    """Whether somebody who is out, and blocked, has come by another profile. From then on the account
    is that one; the former one stays as it is.
    """
    for user in users:
        is_anothers = marker(user) in setting.live_accounts - {setting.account_id}
        if user.get("user_id") != setting.user_id and not user.get("blocked") and not is_anothers:
            before = replace(
                setting.observed,
                origin=None,
                blocked=False,
                blocked_by_us=False,
                sessions="possible",
                memberships={},
                unsure_roles={},
            )
            observed = _taken_up(before, user, setting, origin="adopted")
            return Done(observed=observed, user_id=str(user.get("user_id")))
    return Done(observed=replace(setting.observed, alone=True))


def _linked(users: Sequence[Mapping[str, Any]], setting: Setting) -> Effect:
    """Whether the user who is not there by id lives on in another, as a secondary identity."""
    if any(user.get("user_id") == setting.user_id for user in users):
        return Later(reason="Auth0's search still shows a user who is not there", after=2.0)
    primary = next((user for user in users if _has_identity(user, setting.user_id)), None)
    if primary is None:
        # Somebody deleted the user in Auth0 behind our back.
        drift = () if setting.observed.loss_told else (told.DriftDetected(deleted=True),)
        return Done(observed=gone(setting.observed), told=drift)
    before = replace(setting.observed, presence="unknown", blocked=False, blocked_by_us=False)
    observed = seen(before, primary, account_id=setting.account_id, origin="adopted")
    observed = replace(
        observed,
        origin="adopted",
        linked=True,
        # With the identity went all that hung on it: of the primary's we know nothing.
        memberships={},
        unsure_roles={},
        unsure_members=tuple(sorted(setting.desired.leavers)),
        foreign=None,
    )
    return Done(observed=observed, user_id=str(primary["user_id"]))


def _not_there(setting: Setting) -> Effect:
    desired = setting.desired
    if desired.connection.is_database and not desired.by_invitation:
        return Refused(
            problem=(
                "conflict",
                "conflict_without_user",
                "Auth0 says that the user exists, and shows none with this address in this"
                " connection: look at the connection's custom database or import mode.",
                409,
            )
        )
    if desired.invite is None:
        return NotThereYet()
    return Done(observed=replace(setting.observed, presence="absent", fresh=True))


def _has_accepted(user: Mapping[str, Any], setting: Setting) -> bool:
    """Whether this user came by our invitation: it bears our mark, or, unmarked, its address is the
    one that was invited and proved to be its own, which accepting does."""
    if not setting.desired.invited_to:
        return False
    mark = marker(user)
    return mark == setting.account_id or (mark is None and bool(user.get("email_verified")))


def _found_by_former(address: str, users: Sequence[Mapping[str, Any]], setting: Setting) -> Done:
    """By our mark alone: an address that is given up may be another person's by now."""
    for user in users:
        if _in_connection(user, setting.connection) and marker(user) == setting.account_id:
            return _accepted(user, setting, setting.desired.formerly_invited_to[address])
    looked_for = (*setting.observed.looked_for, address)
    return Done(observed=replace(setting.observed, looked_for=looked_for))


def _accepted(user: Mapping[str, Any], setting: Setting, invited_to: Collection[str]) -> Done:
    """The account is bound: its id is Auth0's from now on."""
    before = replace(setting.observed, origin=None)
    observed = seen(before, user, account_id=setting.account_id, origin="invited")
    by = invitation_of(user)
    # Accepting makes a member, with the invitation's roles: both may be there.
    return Done(
        observed=replace(
            observed,
            foreign=None,
            unsure_members=tuple(sorted(invited_to)),
            unsure_roles=invited_roles(user),
        ),
        told=(told.UserCreated(),),
        user_id=str(user.get("user_id")),
        ended={by: "accepted"} if by is not None else {},
    )


def _is_ours(user: Mapping[str, Any], setting: Setting) -> bool:
    return user.get("user_id") == setting.user_id and marker(user) == setting.account_id


def _known_by_id(user: Mapping[str, Any], setting: Setting) -> bool:
    """Whether a directory knows the user's identity in our connection by its own, stable id."""
    for identity in user.get("identities") or []:
        if identity.get("connection") == setting.connection:
            whole = str(identity.get("user_id"))
            if setting.desired.stable_ids & {whole, whole.rpartition("|")[2]}:
                return True
    return False


def _is_secondary(user: Mapping[str, Any], connection: str) -> bool:
    """Whether the user's first identity is in another connection than ours."""
    identities = user.get("identities") or []
    return bool(identities) and identities[0].get("connection") != connection


def _has_identity(user: Mapping[str, Any], user_id: str) -> bool:
    return any(
        f"{identity.get('provider')}|{identity.get('user_id')}" == user_id
        for identity in user.get("identities") or []
    )


def _in_connection(user: Mapping[str, Any], connection: str) -> bool:
    return any(
        identity.get("connection") == connection for identity in user.get("identities") or []
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
    op.AddRoles,
    op.RemoveRoles,
    op.FindInvitations,
    op.WithdrawInvitation,
)


def _refused(
    operation: Operation, answer: Answer, code: str, *, kind: str = "permanent"
) -> Refused:
    """A membership that is refused, or an end of its invitations, stops what is done in that
    Organization; anything else stops the account."""
    scope = operation.organization if isinstance(operation, _OF_ORGANIZATION) else ""
    if isinstance(operation, op.ListOrganizations):
        scope = listing.SCOPE
    who = "The mail server" if code == "mail_refused" else "Auth0"
    message = f"{who} refused to {operation.kind.replace('-', ' ')} ({answer.status}, {code})."
    if (advice := ADVICE.get(code)) is not None:
        message += f" {advice}"
    if code == OF_ANOTHER:
        message = f"Nobody is let in: {answer.message}. Declare an auth0_organization of its own."
    return Refused(
        problem=(kind, code, message, answer.status),
        scope=scope,
        retry_after=answer.retry_after,
        request_id=answer.request_id,
    )
