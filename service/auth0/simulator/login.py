"""What happens when a person tries to log in: sessions, first profiles, memberships on the way.

Sources: docs on enterprise connections (the profile is made at first login), on Organizations
(membership on login is decided before Actions), and on blocked users.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from service.auth0.simulator import (
    blocks,
    connections,
    invitations,
    membership,
    organizations,
    profiles,
    sessions,
)
from service.auth0.simulator.oauth import APPLICATION
from service.auth0.simulator.operation import World
from service.auth0.simulator.profiles import Identity, Profile
from service.auth0.simulator.store import timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A try. `subject` is the identity provider's stable id; without it one follows from the
    address. `attributes` are what the identity provider says of the person."""

    connection: str
    email: str
    organization: str | None = None
    subject: str | None = None
    attributes: dict[str, Any] | None = None
    invitation: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Whether the person is in. reason: `unknown_connection`, `unknown_organization`,
    `connection_not_enabled`, `unknown_user`, `blocked`, `too_many_attempts`, `not_a_member`."""

    allowed: bool
    reason: str | None = None
    user_id: str | None = None
    session_id: str | None = None
    refresh_token_id: str | None = None


def attempt(world: World, wish: Attempt) -> Outcome:
    """Let a person try to log in. Where a profile comes into being, it stays even if the login is
    then refused."""
    connection = connections.by_name(world, wish.connection)
    if connection is None:
        return Outcome(allowed=False, reason="unknown_connection")
    organization_id: str | None = None
    assigns = False
    if wish.organization is not None:
        organization = organizations.by_name(world, wish.organization) or world.row(
            "SELECT * FROM organizations WHERE tenant = ? AND id = ?", wish.organization
        )
        if organization is None:
            return Outcome(allowed=False, reason="unknown_organization")
        organization_id = organization["id"]
        enabled = organizations.enabled(world, organization["id"], connection["id"])
        if enabled is None:
            return Outcome(allowed=False, reason="connection_not_enabled")
        assigns = bool(enabled["assign_membership_on_login"])
    profile = _profile(world, connection["strategy"], wish)
    if profile is None and wish.invitation is not None and organization_id is not None:
        profile = invitations.sign_up(
            world, wish.invitation, organization_id, connection, wish.email
        )
    if profile is None:
        return Outcome(allowed=False, reason="unknown_user")
    refusal = _refusal(world, profile, wish, organization_id, assigns=assigns)
    user_id = profile["user_id"]
    if refusal is not None:
        return Outcome(allowed=False, reason=refusal, user_id=user_id)
    _note_login(world, user_id)
    session_id, token_id = sessions.start(
        world, user_id=user_id, client_id=APPLICATION, organization_id=organization_id
    )
    return Outcome(allowed=True, user_id=user_id, session_id=session_id, refresh_token_id=token_id)


def _refusal(
    world: World,
    profile: Profile,
    wish: Attempt,
    organization_id: str | None,
    *,
    assigns: bool,
) -> str | None:
    user_id = profile["user_id"]
    if profile.get("blocked"):
        return "blocked"
    if blocks.holds(world, user_id):
        return "too_many_attempts"
    if organization_id is None or membership.is_member(world, organization_id, user_id):
        return None
    if wish.invitation is not None and invitations.accept(
        world, wish.invitation, organization_id, user_id
    ):
        return None
    if assigns:
        membership.join(world, organization_id, user_id)
        return None
    return "not_a_member"


def _note_login(world: World, user_id: str) -> None:
    profile = profiles.load(world, user_id)
    if profile is not None:
        profile["last_login"] = timestamp(world.now)
        profile["logins_count"] = int(profile.get("logins_count", 0)) + 1
        profiles.save(world, profile, is_news=False)


def _profile(world: World, strategy: str, wish: Attempt) -> Profile | None:
    if strategy == connections.DATABASE or strategy in connections.PASSWORDLESS:
        user_id = profiles.owner(world, wish.connection, wish.email.lower())
        return None if user_id is None else profiles.load(world, user_id)
    return _federated(world, strategy, wish)


def _federated(world: World, strategy: str, wish: Attempt) -> Profile:
    """The profile of a person from an identity provider: made at first login, else refreshed."""
    derived = sha256(f"{wish.connection}\0{wish.email.lower()}".encode()).hexdigest()[:24]
    subject = wish.subject or derived
    said: Profile = {"email": wish.email, "name": wish.email, **(wish.attributes or {})}
    user_id = profiles.owner_of_identity(world, strategy, subject)
    known = None if user_id is None else profiles.load(world, user_id)
    if known is not None:
        if not _differs(known, said):
            return known
        known.update(said)
        profiles.save(world, known)
        return known
    identity = Identity(
        provider=strategy,
        id=subject,
        connection=wish.connection,
        # Providers keep the case, and may know one address twice.
        email_key=None,
        username_key=None,
    )
    nickname = wish.email.partition("@")[0]
    return profiles.insert(world, identity, {"nickname": nickname, "email_verified": False, **said})


def _differs(known: Profile, said: Profile) -> bool:
    """Whether the identity provider says anything new."""
    return any(known.get(name) != value for name, value in said.items())
