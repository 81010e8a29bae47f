"""The plan of a leaving, and of what else takes access away. Pure.

What Auth0 refuses of it keeps the rest from nothing: each of these calls lets somebody in less.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from service.directory.ledger import Sent
from service.provisioning import deleting, listing
from service.provisioning import operations as op
from service.provisioning.desired import Desired, Wish
from service.provisioning.observed import BLOCK, SESSIONS, Observed
from service.provisioning.operations import Operation, Subject


def leave(desired: Desired, observed: Observed) -> Iterator[Operation]:
    """Nobody is in: block where we may, end sessions, take memberships away, then keep or delete."""
    principal = desired.principal
    deletes = deleting.is_due(desired, observed)
    if _may_be_anothers_block(desired, observed) and not (observed.fresh or deletes):
        # Somebody else may have placed one since, which ours would hide, or lifted theirs.
        yield op.ReadUser(subject=principal)
    if desired.model == "shared":
        yield from _leave_shared(desired, observed)
        return
    if not observed.blocked and BLOCK in observed.refused:
        yield from lost_memberships(desired, observed)
        if observed.sessions == "owed" or will_lose(desired, observed):
            yield from revocation(principal, observed)
    else:
        if not observed.blocked:
            yield op.Block(subject=principal)
        if observed.sessions != "revoked":
            yield from revocation(principal, observed)
        yield from lost_memberships(desired, observed)
    if not deletes:
        yield from listing.unlist(desired, observed)
    yield from withdrawals(desired, observed, desired.withdraw)
    if deletes:
        yield from deleting.delete(desired, observed)


def _may_be_anothers_block(desired: Desired, observed: Observed) -> bool:
    if observed.blocked:
        return not observed.blocked_by_us
    # Elsewhere a leaver is locked out before anything else; here memberships are read first anyway.
    made_by_us = observed.origin in ("created", "invited")
    return desired.model == "shared" and made_by_us and BLOCK not in observed.refused


def revocation(subject: Subject, observed: Observed) -> Iterator[Operation]:
    """Where Auth0 refuses it, memberships go all the same."""
    if SESSIONS not in observed.refused:
        yield op.RevokeAccess(subject=subject)


def _leave_shared(desired: Desired, observed: Observed) -> Iterator[Operation]:
    """None of ours has the person: blocked where we made the account and nobody else has them."""
    principal, left_last = desired.principal, who_left(desired, observed)
    yield from lost_memberships(desired, observed)
    yield from listing.unlist(desired, observed)
    if observed.sessions == "owed" or will_lose(desired, observed):
        yield from revocation(left_last, observed)
    made_by_us = observed.origin in ("created", "invited")
    if made_by_us and (observed.blocked_by_us or not observed.blocked):
        if observed.foreign is None or will_lose(desired, observed):
            yield op.ReadMemberships(subject=principal)
        elif not observed.foreign and not observed.blocked and BLOCK not in observed.refused:
            yield op.Block(subject=left_last)
        elif observed.foreign and observed.blocked:
            yield op.Unblock(subject=principal)
    yield from withdrawals(desired, observed, desired.withdraw)


def lost_memberships(desired: Desired, observed: Observed) -> Iterator[Operation]:
    for name in sorted(_surplus(desired, observed)):
        yield op.RemoveMember(subject=_whose(desired, name), organization=name)


def lost_roles(desired: Desired, observed: Observed) -> Iterator[Operation]:
    """Of those who are members for sure; of others once they are."""
    for name, wish in sorted(desired.memberships.items()):
        if name in observed.memberships and name not in observed.unsure_members:
            yield from surplus_roles(name, wish, observed)


def surplus_roles(name: str, wish: Wish, observed: Observed) -> Iterator[Operation]:
    have = {*observed.memberships.get(name, ()), *observed.unsure_roles.get(name, ())}
    surplus = tuple(sorted(have - wish.roles))
    if surplus and name not in observed.refused:
        yield op.RemoveRoles(subject=wish.subject, organization=name, roles=surplus)


def will_lose(desired: Desired, observed: Observed) -> bool:
    return bool(_surplus(desired, observed))


def _surplus(desired: Desired, observed: Observed) -> set[str]:
    """Organizations to leave. A membership in doubt is taken away again: it may be there."""
    held = {*observed.memberships, *observed.unsure_members}
    return held - set(desired.memberships) - set(observed.refused)


def who_left(desired: Desired, observed: Observed) -> Subject:
    """Whose leaving takes access away from all of the account."""
    left = [name for name in observed.left if name in desired.leavers]
    return desired.leavers[left[-1]] if left else desired.principal


def _whose(desired: Desired, organization: str) -> Subject:
    return desired.leavers.get(organization, desired.principal)


def withdrawals(desired: Desired, observed: Observed, every: Sequence[Sent]) -> Iterator[Operation]:
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
