"""What an event of Auth0 has to do with accounts of ours: who is to be looked at, and why. Pure.

An event is never believed, only followed up: it may be late, repeated or out of order.
Source: Auth0's catalogue of events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, get_args

from service.provisioning.doubt import Doubt
from service.provisioning.observed import Observed

Kind = Literal[
    "user.created",
    "user.updated",
    "user.deleted",
    "organization.member.added",
    "organization.member.deleted",
    "organization.member.role.deleted",
]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
"""What we ask for. Roles that others grant are none of ours, so we need not hear of them."""

CHANGED: Final = "changed-by-others"
"""Kind of the doubt that an event leaves: whatever we knew of the user may no longer be so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """How a user is known in one connection. ``id``: without the provider."""

    connection: str
    id: str
    provider: str

    @property
    def user_id(self) -> str:
        return f"{self.provider}|{self.id}"

    @property
    def stable_ids(self) -> tuple[str, ...]:
        """What a directory may know the person by: for SAML and OIDC the id names the connection
        before it (``connection|id``).
        """
        last = self.id.rpartition("|")[2]
        return (self.id,) if last == self.id else (self.id, last)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One event, or one line of a list of new users, as far as it matters to us."""

    kind: Kind
    user_id: str
    at: datetime | None = None
    email: str | None = None
    identities: tuple[Identity, ...] = ()
    blocked: bool = False
    organization: str | None = None
    """Its Auth0 name; events of roles give only an id."""
    role: str | None = None


def heard(event: Mapping[str, Any]) -> Heard | None:
    """The event; None where it is of no interest, or not as events are."""
    kind: Kind | None = next((known for known in KINDS if known == event.get("type")), None)
    if kind is None:
        return None
    content = _object(_object(event.get("data")).get("object"))
    at = moment(event.get("time"))
    if kind.startswith("user."):
        return of_user(kind, content, at)
    user_id = _object(content.get("user")).get("user_id")
    organization = _object(content.get("organization")).get("name")
    if not isinstance(user_id, str):
        return None
    role = _object(content.get("role")).get("name")
    return Heard(
        kind=kind,
        user_id=user_id,
        at=at,
        organization=organization if isinstance(organization, str) else None,
        role=role if isinstance(role, str) else None,
    )


def of_user(kind: Kind, user: Mapping[str, Any], at: datetime | None) -> Heard | None:
    """The same of a user's document."""
    user_id, email = user.get("user_id"), user.get("email")
    if not isinstance(user_id, str):
        return None
    listed = user.get("identities")
    return Heard(
        kind=kind,
        user_id=user_id,
        at=at,
        email=email if isinstance(email, str) else None,
        identities=tuple(
            Identity(
                connection=str(each.get("connection")),
                id=str(each.get("user_id")),
                provider=str(each.get("provider")),
            )
            for each in (listed if isinstance(listed, list) else [])
            if isinstance(each, dict)
        ),
        blocked=user.get("blocked") is True,
    )


def follow_up(
    news: Heard, observed: Observed, doubt: Doubt | None, left: Set[str]
) -> Sequence[Doubt]:
    """What becomes doubtful of an account that the event is about, which exists in Auth0 as far as
    we know; nothing where the event only tells what we know already.

    ``doubt``: what we are about to do to it, which the event may be the echo of. ``left``: the
    Organizations that somebody in it has left: all others are ours to add to, or none of ours.
    """
    if observed.presence != "present":
        return ()
    doing = str((doubt or {}).get("kind", ""))
    match news.kind:
        case "user.deleted":
            return () if doing == "delete-user" else ({"kind": CHANGED},)
        case "user.updated":
            # A call of ours may have been done long before its answer comes, and a block been lifted.
            expected = observed.blocked or doing == "block"
            known = news.blocked == expected or doing == "unblock"
            return () if known else ({"kind": CHANGED},)
        case "organization.member.added":
            # Whoever is out must not be let in by a login, nor while they are being removed.
            removing = {(doubt or {}).get("organization")} if doing == "remove-member" else set()
            members = set(observed.memberships) - removing
            where = _places(news, left - members, "add-member", doubt)
            ours = {*left, *observed.memberships, *observed.left}
            # Nor stays out whom we blocked since nobody had them.
            taken_in = observed.blocked_by_us and observed.foreign == ()
            if taken_in and news.organization not in {None, *ours}:
                return ({"kind": CHANGED},)
            return [{"kind": "add-member", "organization": name} for name in where]
        case "organization.member.deleted":
            if not observed.blocked and news.organization in (observed.foreign or ()):
                return ({"kind": CHANGED},)
            where = _places(news, set(observed.memberships), "remove-member", doubt)
            return [{"kind": "remove-member", "organization": name} for name in where]
        case "organization.member.role.deleted":
            role = news.role or ""
            having = {name for name, roles in observed.memberships.items() if role in roles}
            where = _places(news, having, "remove-roles", doubt)
            others = {name for name, roles in observed.others_roles.items() if role in roles}
            return [
                *(
                    {"kind": "remove-roles", "organization": name, "roles": [role]}
                    for name in where
                ),
                *(
                    {"kind": "read-roles", "organization": name, "roles": [role]}
                    for name in _places(news, others, "remove-roles", doubt)
                ),
            ]
        case "user.created":
            return ()


def _places(news: Heard, having: Set[str], doing: str, doubt: Doubt | None) -> list[str]:
    """Of these Organizations those that the event may be about, all where it gives no name; without
    the one where we are about to do the same."""
    busy = doubt.get("organization") if doubt is not None and doubt.get("kind") == doing else None
    named = having if news.organization is None else having & {news.organization}
    return sorted(named - {busy})


def moment(text: object) -> datetime | None:
    """RFC 3339 as an instant; None for anything else."""
    try:
        found = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return found if found is not None and found.tzinfo is not None else None


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
