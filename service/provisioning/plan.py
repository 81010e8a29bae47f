"""The plan: from what is wanted and what was last seen to an ordered list of operations. Pure.

An empty plan means that the account is as it should be. The lane carries out the first operation
and plans again, so a wish that changes half-way is followed at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from service.directory.ledger import Sent
from service.provisioning import listing
from service.provisioning import operations as op
from service.provisioning.desired import Desired
from service.provisioning.inviting import Invite
from service.provisioning.observed import Observed, after
from service.provisioning.operations import Operation, Subject

_REFUSED_AS_A_WHOLE = ""


def plan(
    desired: Desired, observed: Observed, *, appeared: str | None = None
) -> tuple[Operation, ...]:
    """The operations that bring ``observed`` to ``desired``, in the order in which to do them.

    ``appeared``: Auth0's id of a user who may be the one that is awaited.
    """
    if _REFUSED_AS_A_WHOLE in observed.refused:
        return ()
    match observed.presence:
        case "unknown":
            return (op.ReadUser(subject=desired.principal),)
        case "missing" if appeared is not None and not observed.fresh:
            return (op.ReadAppeared(subject=desired.principal, user_id=appeared),)
        case "missing":
            return (op.FindIdentity(subject=desired.principal),)
        case "conflicting" if observed.email not in (None, desired.email):
            # The address has changed since: whoever holds the former one is no matter of ours.
            return _create(desired, replace(observed, presence="absent"))
        case "conflicting":
            return (op.FindByEmail(subject=desired.principal, email=desired.email),)
        case "absent" if appeared is not None:
            return (op.ReadAppeared(subject=desired.principal, user_id=appeared),)
        case "absent":
            return _create(desired, observed)
        case "present":
            if desired.wanted:
                return tuple(_stay(desired, observed))
            if desired.moved_on and observed.linked:
                return ()
            return (*_leave(desired, observed), *_others(desired, observed, appeared))


def _create(desired: Desired, observed: Observed) -> tuple[Operation, ...]:
    if not desired.wanted:
        return tuple(_leave_unborn(desired, observed))
    if desired.by_invitation or not desired.connection.is_database:
        return tuple(_await(desired, observed))
    create = op.CreateUser(
        subject=desired.principal,
        email=desired.email,
        profile=desired.profile,
        email_verified=desired.email_verified,
        listed=tuple(sorted({*listing.entries_of(desired, observed).values()})),
    )
    return (create, *_stay(desired, after(observed, create)))


def _await(desired: Desired, observed: Observed) -> Iterator[Operation]:
    """The profile appears by itself, at a first login or when an invitation is accepted: look
    whether it has, and invite whoever is not there."""
    yield from _withdrawals(desired, observed, desired.withdraw)
    yield from _find_by_former(desired, observed)
    if not observed.fresh:
        yield _find(desired)
    elif desired.invite is not None and desired.invite.by == "invitation":
        yield _invitation(desired.invite, desired.email)


def _leave_unborn(desired: Desired, observed: Observed) -> Iterator[Operation]:
    """Nobody is in and there is no account: nobody may come by an invitation any more, and whoever
    came just before is looked for."""
    yield from _withdrawals(desired, observed, desired.withdraw)
    yield from _find_by_former(desired, observed)
    # Nothing keeps whoever is out from a first login at an identity provider: there they are awaited
    # as well, until there is somebody to block.
    awaited = desired.watch_until is not None or not desired.connection.is_database
    if awaited and not observed.fresh:
        yield _find(desired)


def _find_by_former(desired: Desired, observed: Observed) -> Iterator[Operation]:
    """Somebody may have accepted, just before it was withdrawn, what went to an address that has
    changed since."""
    for address in sorted(desired.formerly_invited_to.keys() - set(observed.looked_for)):
        yield op.FindByEmail(subject=desired.principal, email=address)


def _find(desired: Desired) -> Operation:
    return op.FindByEmail(
        subject=desired.principal,
        email=desired.email,
        spellings=tuple(sorted(desired.spellings)),
        stable_ids=tuple(sorted(desired.stable_ids)),
    )


def _others(desired: Desired, observed: Observed, appeared: str | None) -> Iterator[Operation]:
    """Whoever is out may come by another profile of the same identity provider, under a new id."""
    if desired.connection.is_database or observed.linked or not observed.blocked:
        return
    if appeared is not None:
        yield op.ReadAppeared(subject=desired.principal, user_id=appeared)
    if not observed.alone:
        yield _find(desired)


def _withdrawals(
    desired: Desired, observed: Observed, every: Sequence[Sent]
) -> Iterator[Operation]:
    """Each by Auth0's id; those whose ids are not known are looked for first."""
    sent = [each for each in every if each.auth0_organization not in observed.refused]
    lost = [each for each in sent if each.reference is None]
    for name in sorted({each.auth0_organization or "" for each in lost}):
        ids = tuple(each.id for each in lost if (each.auth0_organization or "") == name)
        yield op.FindInvitations(subject=desired.principal, organization=name, sent=ids)
    for each in sent:
        if each.reference is not None:
            yield op.WithdrawInvitation(
                subject=Subject(organization=each.organization, user_id=each.user_id),
                organization=each.auth0_organization or "",
                sent=each.id,
                reference=each.reference,
            )


def _stay(desired: Desired, observed: Observed) -> Iterator[Operation]:
    """Someone is in. What takes access away still goes first."""
    yield from _lost_memberships(desired, observed)
    yield from listing.unlist(desired, observed)
    if observed.sessions == "owed" or _will_lose(desired, observed):
        yield op.RevokeAccess(subject=_who_left(desired, observed))
    if not observed.marked:
        yield listing.mark(desired, observed)
    if desired.model == "isolated" and not observed.linked:
        yield from _profile(desired, observed)
    if observed.blocked and observed.blocked_by_us:
        yield op.Unblock(subject=desired.principal)
    yield from _memberships(desired, observed)
    if observed.marked:
        yield from listing.keep(desired, observed)
    yield from _link(desired, observed)
    # Who came by an invitation needs no second one; elsewhere an open one gives what is wanted.
    came = observed.origin == "invited"
    yield from _withdrawals(desired, observed, desired.invitations if came else desired.withdraw)


def _link(desired: Desired, observed: Observed) -> Iterator[Operation]:
    """A link to choose a password, never for somebody who is blocked: it would lift the block."""
    invite = desired.invite
    if invite is None or invite.by == "invitation" or observed.blocked:
        return
    mine = observed.origin == "created" or (invite.asked and observed.origin == "invited")
    if not mine or invite.organization in observed.refused:
        return
    if desired.memberships[invite.organization].subject != invite.subject:
        return
    if not observed.fresh:
        yield op.ReadUser(subject=desired.principal)
    elif invite.asked or not observed.in_use:
        yield _mail(invite, desired.email)


def _mail(invite: Invite, address: str) -> Operation:
    if invite.by == "auth0-mail":
        return op.SendResetMail(
            subject=invite.subject,
            organization=invite.organization,
            email=address,
            intent=invite.intent,
            lifetime=invite.lifetime,
            application=invite.application,
        )
    return op.SendTicket(
        subject=invite.subject,
        organization=invite.organization,
        email=address,
        intent=invite.intent,
        lifetime=invite.lifetime,
    )


def _invitation(invite: Invite, address: str) -> Operation:
    return op.SendInvitation(
        subject=invite.subject,
        organization=invite.organization,
        email=address,
        intent=invite.intent,
        lifetime=invite.lifetime,
        application=invite.application,
        inviter=invite.inviter,
        roles=invite.roles,
    )


def _leave(desired: Desired, observed: Observed) -> Iterator[Operation]:
    """Nobody is in: block where we may, end sessions, take memberships away, then keep or delete."""
    principal = desired.principal
    deletes = desired.delete and not observed.linked  # the rest of that user is not ours
    if observed.blocked and not observed.blocked_by_us and not (observed.fresh or deletes):
        # Whoever placed that block may have lifted it since.
        yield op.ReadUser(subject=principal)
    if desired.model == "shared":
        yield from _leave_shared(desired, observed)
        return
    if deletes:
        yield from _withdrawals(desired, observed, desired.withdraw)
        yield op.DeleteUser(subject=principal)
        return
    if not observed.blocked:
        yield op.Block(subject=principal)
    if observed.sessions != "revoked":
        yield op.RevokeAccess(subject=principal)
    yield from _lost_memberships(desired, observed)
    yield from listing.unlist(desired, observed)
    yield from _withdrawals(desired, observed, desired.withdraw)


def _leave_shared(desired: Desired, observed: Observed) -> Iterator[Operation]:
    """None of ours has the person: blocked where we made the account and nobody else has them."""
    principal, left_last = desired.principal, _who_left(desired, observed)
    yield from _lost_memberships(desired, observed)
    yield from listing.unlist(desired, observed)
    if observed.sessions == "owed" or _will_lose(desired, observed):
        yield op.RevokeAccess(subject=left_last)
    made_by_us = observed.origin in ("created", "invited")
    if made_by_us and (observed.blocked_by_us or not observed.blocked):
        if observed.foreign is None or _will_lose(desired, observed):
            yield op.ReadMemberships(subject=principal)
        elif not observed.foreign and not observed.blocked:
            yield op.Block(subject=left_last)
        elif observed.foreign and observed.blocked:
            yield op.Unblock(subject=principal)
    yield from _withdrawals(desired, observed, desired.withdraw)


def _lost_memberships(desired: Desired, observed: Observed) -> Iterator[Operation]:
    for name in sorted(_surplus(desired, observed)):
        yield op.RemoveMember(subject=_whose(desired, name), organization=name)


def _will_lose(desired: Desired, observed: Observed) -> bool:
    return bool(_surplus(desired, observed))


def _surplus(desired: Desired, observed: Observed) -> set[str]:
    """Organizations to leave. A membership in doubt is taken away again: it may be there."""
    held = {*observed.memberships, *observed.unsure_members}
    return held - set(desired.memberships) - set(observed.refused)


def _who_left(desired: Desired, observed: Observed) -> Subject:
    """Whose leaving takes access away from all of the account."""
    left = [name for name in observed.left if name in desired.leavers]
    return desired.leavers[left[-1]] if left else desired.principal


def _whose(desired: Desired, organization: str) -> Subject:
    return desired.leavers.get(organization, desired.principal)


def _profile(desired: Desired, observed: Observed) -> Iterator[Operation]:
    if observed.email is not None and observed.email.lower() != desired.email:
        yield op.ChangeEmail(
            subject=desired.principal,
            email=desired.email,
            email_verified=desired.email_verified,
        )
    changes = tuple(
        (name, wanted)
        for name in ("given_name", "family_name", "name")
        # Nobody speaks of an attribute: what Auth0 has (it makes up a name) may stay.
        if (wanted := getattr(desired.profile, name)) is not None
        and wanted != getattr(observed.profile, name)
    )
    if changes:
        yield op.UpdateProfile(subject=desired.principal, changes=changes)


def _memberships(desired: Desired, observed: Observed) -> Iterator[Operation]:
    for name, wish in sorted(desired.memberships.items()):
        if name in observed.refused:
            continue
        have = set(observed.memberships.get(name, ()))
        maybe = set(observed.unsure_roles.get(name, ()))
        if name not in observed.memberships or name in observed.unsure_members:
            yield op.AddMember(subject=wish.subject, organization=name)
        if missing := tuple(sorted(wish.roles - (have - maybe))):
            yield op.AddRoles(subject=wish.subject, organization=name, roles=missing)
        if surplus := tuple(sorted((have | maybe) - wish.roles)):
            yield op.RemoveRoles(subject=wish.subject, organization=name, roles=surplus)
