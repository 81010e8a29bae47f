"""The plan: from what is wanted and what was last seen to an ordered list of operations. Pure.

An empty plan means that the account is as it should be. The lane carries out the first operation
and plans again, so a wish that changes half-way is followed at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from service.provisioning import granting, listing
from service.provisioning import operations as op
from service.provisioning.desired import Desired
from service.provisioning.inviting import Invite
from service.provisioning.leaving import (
    leave,
    lost_memberships,
    lost_roles,
    revocation,
    surplus_roles,
    who_left,
    will_lose,
    withdrawals,
)
from service.provisioning.observed import Observed, after
from service.provisioning.operations import Operation

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
            return (*leave(desired, observed), *_others(desired, observed, appeared))


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
    yield from withdrawals(desired, observed, desired.withdraw)
    yield from _find_by_former(desired, observed)
    if not observed.fresh:
        yield _find(desired)
    elif desired.invite is not None and desired.invite.by == "invitation":
        yield _invitation(desired.invite, desired.email)


def _leave_unborn(desired: Desired, observed: Observed) -> Iterator[Operation]:
    """Nobody is in and there is no account: nobody may come by an invitation any more, and whoever
    came just before is looked for."""
    yield from withdrawals(desired, observed, desired.withdraw)
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


def _stay(desired: Desired, observed: Observed) -> Iterator[Operation]:
    """Someone is in. What takes access away still goes first: the rest may be refused."""
    yield from lost_memberships(desired, observed)
    yield from lost_roles(desired, observed)
    yield from listing.unlist(desired, observed)
    if observed.sessions == "owed" or will_lose(desired, observed):
        yield from revocation(who_left(desired, observed), observed)
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
    yield from withdrawals(desired, observed, desired.invitations if came else desired.withdraw)


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
        if name not in observed.memberships or name in observed.unsure_members:
            yield op.AddMember(subject=wish.subject, organization=name)
            yield from surplus_roles(name, wish, observed)
        if missing := granting.to_grant(name, wish, observed):
            if granting.is_to_be_read(name, missing, observed):
                yield op.ReadRoles(subject=wish.subject, organization=name)
            yield op.AddRoles(subject=wish.subject, organization=name, roles=missing)
