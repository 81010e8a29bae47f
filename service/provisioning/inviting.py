"""Who is to be invited, how and for which reason; which links stand open that should not. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from typing import Final

from service.directory.ledger import DEFAULT_LIFETIME, Sent, Way
from service.organizations import Organization
from service.provisioning.operations import Subject

INVITATION_LIFETIME: Final = timedelta(days=7)
"""Auth0's default for invitations."""
_ACCEPTING: Final = timedelta(minutes=15)
"""So long after an invitation was withdrawn somebody who had opened it may still be signing up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """What went out for an account, whoever lives in it. ``key``: the account's ``user_id``."""

    key: str = ""
    sent: tuple[Sent, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Somebody who is in, and may be invited. ``roles``: those that come with the membership."""

    subject: Subject
    organization: Organization
    roles: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Invite:
    """One invitation that is to go out. ``asked``: the operator's event that asks for it."""

    subject: Subject
    by: Way
    organization: str
    """The Auth0 Organization by name."""
    intent: str
    lifetime: timedelta
    application: str = ""
    inviter: str = ""
    roles: tuple[str, ...] = ()
    asked: str | None = None


def invite_of(
    candidates: Sequence[Candidate], post: Post, *, address: str, now: datetime
) -> Invite | None:
    """The invitation that is due: one that an operator asks for, else the account's first to this
    address. One for an account, whoever else joins it later.
    """
    by_user = {each.subject.user_id: each for each in candidates}
    for each in post.sent:
        candidate = by_user.get(each.user_id)
        if candidate is not None and _is_asked_for(each, post.key, candidate):
            return _invite(candidate, each.intent, asked=each.event_id)
    if any(_counts(each, post.key, address, now) for each in post.sent):
        return None
    asking = [each for each in candidates if each.organization.policies.invite != "none"]
    if not asking:
        return None
    return _invite(asking[0], _reason(post))


def _reason(post: Post) -> str:
    """One that was never used: what was wanted and not sent leaves no trace."""
    used = {each.intent for each in post.sent}
    numbers = (f"{post.key} {number}" for number in count(len(used)))
    return next(each for each in numbers if each not in used) if used else post.key


def _invite(candidate: Candidate, intent: str, *, asked: str | None = None) -> Invite | None:
    organization = candidate.organization
    policies = organization.policies
    match policies.invite:
        case "none":
            return None
        case "invitation":
            lifetime = policies.invite_lifetime or INVITATION_LIFETIME
        case "ticket":
            lifetime = policies.invite_lifetime or DEFAULT_LIFETIME
        case "auth0-mail":
            lifetime = DEFAULT_LIFETIME  # which the tenant's settings decide
    return Invite(
        subject=candidate.subject,
        by=policies.invite,
        organization=organization.auth0_name,
        intent=intent,
        lifetime=lifetime,
        application=organization.application,
        inviter=organization.display_name or organization.name,
        roles=tuple(sorted(candidate.roles)),
        asked=asked,
    )


def _is_asked_for(sent: Sent, key: str, candidate: Candidate) -> bool:
    """Not where the account has gone since, or the policy is another by now."""
    policy = candidate.organization.policies.invite
    return sent.state == "wanted" and _is_of(sent, key) and sent.kind == policy


def _is_of(sent: Sent, key: str) -> bool:
    """Whether it went to the user that the account has in Auth0 today."""
    return sent.intent == key or sent.intent.startswith(f"{key} ")


def _counts(sent: Sent, key: str, address: str, now: datetime) -> bool:
    """Whether this was the account's invitation. A user who is made anew needs one of their own, and
    so does somebody whose address changed before the link can have been followed."""
    if sent.state == "wanted" or not _is_of(sent, key):
        return False
    if sent.kind == "invitation":
        return sent.ended != "withdrawn" and sent.address == address
    return sent.address in (None, address) or not sent.is_open(now)


def invited_to(post: Post, address: str) -> frozenset[str]:
    """Organizations that this address was invited to, or may have been: who appears with it has
    accepted, and may be a member."""
    return frozenset(
        each.auth0_organization or ""
        for each in post.sent
        if each.kind == "invitation" and each.state != "wanted" and each.address == address
    )


def formerly_invited_to(post: Post, address: str, now: datetime) -> dict[str, frozenset[str]]:
    """Organizations by each former address of the account that was invited to them, and may have
    accepted before nobody could any more."""
    found: dict[str, set[str]] = {}
    for each in post.sent:
        if each.kind != "invitation" or each.state == "wanted" or each.address in (None, address):
            continue
        just_withdrawn = each.ended == "withdrawn" and each.at + _ACCEPTING > now
        if each.ended is None or just_withdrawn:
            found.setdefault(each.address or "", set()).add(each.auth0_organization or "")
    return {former: frozenset(names) for former, names in found.items()}


def open_invitations(post: Post) -> tuple[Sent, ...]:
    """Invitations that are not known to have ended; one that has expired is told of as such."""
    return tuple(
        each
        for each in post.sent
        if each.kind == "invitation" and each.state != "wanted" and each.ended is None
    )


def to_withdraw(post: Post, staying: Set[str], address: str) -> tuple[Sent, ...]:
    """Open invitations of those who have left, and to addresses that are no longer theirs.

    ``staying``: ids of the users who are in.
    """
    return tuple(
        each
        for each in open_invitations(post)
        if each.user_id not in staying or each.address != address
    )


def watch_until(post: Post, now: datetime) -> datetime | None:
    """Until when a link may let a former user back in: a ticket lifts a block, and somebody who had
    opened an invitation before it was withdrawn may get an account. None: nothing can."""
    return max(_ends(post, now), default=None)


def _ends(post: Post, now: datetime) -> Iterator[datetime]:
    for each in post.sent:
        if each.is_open(now):  # an invitation that could not be withdrawn, too
            yield each.open_until
        elif each.ended == "withdrawn" and each.at + _ACCEPTING > now:
            yield each.at + _ACCEPTING
