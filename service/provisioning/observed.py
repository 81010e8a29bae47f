"""What we last saw of an account, and what each success changes in that picture. Pure.

Kept as a document beside the account, so that planning costs no call.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal

from service.organizations import LISTED, MARKER
from service.people import Profile
from service.provisioning import operations as op
from service.provisioning.operations import Operation

Presence = Literal["absent", "present", "unknown", "conflicting", "missing"]
"""``unknown``: an answer was lost, read first. ``conflicting``: a create met someone else's user.
``missing``: nobody has the id any more: deleted, or linked to another user, look which."""
Origin = Literal["created", "invited", "adopted", "joined"]
"""``invited``: it came into being when somebody accepted our invitation."""
Sessions = Literal["possible", "owed", "revoked"]
"""``owed``: access was taken away and sessions still have to be ended, whatever comes next."""
BLOCK: Final = "users.block"
SESSIONS: Final = "users.revoke-access"
DELETION: Final = "users.delete"
"""Under these a refusal stops this one call of a leaving, and nothing else of it. No Organization
has such a name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """The last picture of one account in Auth0. Organizations and roles by name."""

    presence: Presence = "absent"
    origin: Origin | None = None
    email: str | None = None
    email_verified: bool = False
    profile: Profile = field(default_factory=Profile)
    marked: bool = False
    loss_told: bool = False
    """Of a user who is missing: whether whoever found it out tells of it, or we asked ourselves."""
    alone: bool = False
    """Whether it was looked, since it was blocked, for other profiles of the person."""
    linked: bool = False
    """Whether our identity is a secondary one of a user whose first identity is elsewhere."""
    blocked: bool = False
    blocked_by_us: bool = False
    sessions: Sessions = "possible"
    memberships: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Memberships that we made, with the roles that we granted in each."""
    generations: Mapping[str, int] = field(default_factory=dict[str, int])
    """Of which of the Organizations that had this name the memberships are; 0 where none is noted."""
    unsure_members: tuple[str, ...] = ()
    """Organizations whose membership an answer was lost for: it may be there or not."""
    unsure_roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Roles that may have been granted or not, by Organization."""
    others_roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Roles that others had given before we came to, by Organization: see ``granting``."""
    roles_read: tuple[str, ...] = ()
    """Organizations in which the person's roles were read in the present turn."""
    taken: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    """Roles that we have just taken away, with the moment, by Organization."""
    newborn: bool = False
    """Whether we made the user and have not come to an end with them yet: nobody has given anything."""
    foreign: tuple[str, ...] | None = None
    """Organizations that others made the person a member of; None where not read, or long ago."""
    foreign_stay: bool = False
    """Whether it was looked once more, when what others have just taken away would show."""
    left: tuple[str, ...] = ()
    """Organizations that were left in the present turn, or whose sessions are still owed, the last
    one last: they may show for some seconds yet."""
    listed: tuple[Any, ...] | None = None
    """``app_metadata.organizations``, ours and others'; None where it was not read."""
    unlistable: bool = False
    """Whether something else than a list is there."""
    entries: Mapping[str, str] = field(default_factory=dict[str, str])
    """What is there of ours, by Organization, as of the last turn's end."""
    lifted: bool = False
    """Whether a block of ours was found lifted by somebody else, and is not back yet."""
    fresh: bool = False
    """Whether this was read, or made, in the present turn: what must not go by an old picture."""
    looked_for: tuple[str, ...] = ()
    """Former addresses that nobody who accepted an invitation has, as seen in the present turn."""
    in_use: bool = False
    """Whether the person has logged in or chosen a password, when it was last read."""
    refused: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    """Problems that stop work for now: under an Organization's name, one call's (``BLOCK``,
    ``SESSIONS``, ``DELETION``, that of ``listing``), or ``""`` for all of it."""

    def as_document(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Observed:
        # A later release may have seen more, as while processes are replaced one by one.
        known = {name: value for name, value in document.items() if name in cls.__slots__}
        if not known:
            return cls()
        known["profile"] = Profile(**known.get("profile", {}))
        for named in ("memberships", "unsure_roles", "others_roles"):
            known[named] = {name: tuple(roles) for name, roles in known.get(named, {}).items()}
        for listed in ("unsure_members", "left", "looked_for", "roles_read"):
            known[listed] = tuple(known.get(listed, ()))
        for nullable in ("foreign", "listed"):
            if known.get(nullable) is not None:
                known[nullable] = tuple(known[nullable])
        return cls(**known)


def anew(observed: Observed, *, fresh: bool = False) -> Observed:
    """The picture as a turn finds it that begins. Others may have taken a person in since, or let
    them go; where a block of ours stands we are told of it."""
    foreign = observed.foreign if observed.blocked else None
    left = observed.left if observed.sessions == "owed" else ()
    return replace(observed, fresh=fresh, foreign=foreign, left=left, looked_for=(), roles_read=())


def after(observed: Observed, operation: Operation) -> Observed:
    """The picture once this writing operation has succeeded."""
    match operation:
        case op.CreateUser():
            return _created(observed, operation)
        case op.MarkAccount():
            listed = observed.listed if operation.listed is None else operation.listed
            return replace(observed, marked=True, listed=listed)
        case op.ListOrganizations():
            return replace(observed, listed=operation.listed)
        case op.UpdateProfile():
            known = asdict(observed.profile) | dict(operation.changes)
            return replace(observed, profile=Profile(**known))
        case op.ChangeEmail():
            return replace(observed, email=operation.email, email_verified=operation.email_verified)
        case op.Block() | op.Unblock() | op.RevokeAccess():
            return _in_or_out(observed, operation)
        case op.AddMember() | op.RemoveMember() | op.AddRoles() | op.RemoveRoles():
            return _membership(observed, operation)
        case op.DeleteUser():
            return Observed()
        case op.ReadUser() | op.FindByEmail():
            return replace(observed, fresh=True)
        case op.ReadRoles():
            read = _without(observed.roles_read, operation.organization)
            return replace(observed, roles_read=(*read, operation.organization))
        case (
            op.SendTicket()
            | op.SendResetMail()
            | op.SendInvitation()
            | op.WithdrawInvitation()
            | op.FindInvitations()
            | op.ReadMemberships()
            | op.ReadAppeared()
            | op.FindIdentity()
        ):
            return observed


def _created(observed: Observed, operation: op.CreateUser) -> Observed:
    return replace(
        observed,
        presence="present",
        origin="created",
        email=operation.email,
        email_verified=operation.email_verified,
        profile=operation.profile,
        marked=True,
        blocked=False,
        blocked_by_us=False,
        sessions="possible",
        memberships={},
        unsure_members=(),
        unsure_roles={},
        others_roles={},
        taken={},
        newborn=True,
        foreign=(),
        listed=operation.listed,
        unlistable=False,
        entries={},
        fresh=True,
        in_use=False,
    )


def _in_or_out(observed: Observed, operation: op.Block | op.Unblock | op.RevokeAccess) -> Observed:
    match operation:
        case op.Block():
            # Whoever was in may still hold sessions: ending them is owed from here on.
            return replace(
                observed,
                blocked=True,
                blocked_by_us=True,
                lifted=False,
                sessions="owed",
                alone=False,
            )
        case op.Unblock():
            return replace(observed, blocked=False, blocked_by_us=False, sessions="possible")
        case op.RevokeAccess():
            return replace(observed, sessions="revoked" if observed.blocked else "possible")


def _membership(
    observed: Observed, operation: op.AddMember | op.RemoveMember | op.AddRoles | op.RemoveRoles
) -> Observed:
    name = operation.organization
    match operation:
        case op.AddMember():
            return replace(
                _with_membership(observed, name, ()),
                unsure_members=_without(observed.unsure_members, name),
                left=_without(observed.left, name),
            )
        case op.RemoveMember():
            return replace(
                observed,
                memberships=_without_key(observed.memberships, name),
                unsure_members=_without(observed.unsure_members, name),
                unsure_roles=_without_key(observed.unsure_roles, name),
                others_roles=_without_key(observed.others_roles, name),
                roles_read=_without(observed.roles_read, name),
                sessions=observed.sessions if observed.blocked else "owed",
                foreign=None,
                foreign_stay=False,
                left=(*_without(observed.left, name), name),
            )
        case op.AddRoles():
            return _with_roles(observed, name, add=operation.roles)
        case op.RemoveRoles():
            return _with_roles(observed, name, remove=operation.roles)


def gone(observed: Observed) -> Observed:
    """The picture when Auth0 says that there is no such user."""
    return Observed(refused=observed.refused)


def seen(
    observed: Observed,
    user: Mapping[str, Any],
    *,
    account_id: str,
    origin: Origin,
    doubted: Collection[str] = (),
) -> Observed:
    """The picture after reading the user. ``doubted``: the kinds of operations in doubt.

    A block that we had recorded as about to be placed is ours; any other that appears is not.
    """
    blocked = bool(user.get("blocked"))
    ours = blocked and (observed.blocked_by_us or "block" in doubted)
    sessions = observed.sessions
    if blocked and not observed.blocked and sessions != "owed":
        sessions = "owed" if ours else "possible"
    if not blocked and sessions == "revoked":
        sessions = "possible"
    listed = listed_in(user)
    return replace(
        observed,
        presence="present",
        listed=tuple(listed) if isinstance(listed, list) else None,
        unlistable=not isinstance(listed, list),
        origin=observed.origin or origin,
        # Who lifts a block of ours may have taken the person in.
        foreign=None if observed.blocked and not blocked else observed.foreign,
        email=user.get("email"),
        email_verified=bool(user.get("email_verified")),
        profile=Profile(
            given_name=user.get("given_name"),
            family_name=user.get("family_name"),
            name=user.get("name"),
        ),
        marked=marker(user) == account_id,
        blocked=blocked,
        blocked_by_us=ours,
        lifted=not blocked
        and "unblock" not in doubted
        and (observed.lifted or observed.blocked_by_us),
        sessions=sessions,
        fresh=True,
        in_use=bool(user.get("last_password_reset") or user.get("logins_count")),
    )


def listed_in(user: Mapping[str, Any]) -> Any:
    """What a user in Auth0 has under the older list's key; none is an empty list."""
    listed = (user.get("app_metadata") or {}).get(LISTED)
    return [] if listed is None else listed


def marker(user: Mapping[str, Any]) -> str | None:
    """The id of the account that a user in Auth0 is marked as, None where it is not ours."""
    mark = (user.get("app_metadata") or {}).get(MARKER)
    return mark.get("account") if isinstance(mark, Mapping) else None


def invitation_of(user: Mapping[str, Any]) -> str | None:
    """Our id of the invitation that a user in Auth0 came by, None where none is noted."""
    mark = (user.get("app_metadata") or {}).get(MARKER)
    return mark.get("invitation") if isinstance(mark, Mapping) else None


def invited_roles(user: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The roles that the invitation carried by which a user in Auth0 came, by Organization."""
    mark = (user.get("app_metadata") or {}).get(MARKER)
    if not isinstance(mark, Mapping) or not mark.get("roles"):
        return {}
    return {str(mark.get("organization")): tuple(map(str, mark["roles"]))}


def of_generations(observed: Observed, generations: Mapping[str, int]) -> Observed:
    """The picture where some of these Organizations were replaced: who was a member of the former one
    is to be made a member again, or, since a call may have been under way, no member for sure.
    """
    lost = {name for name, now in generations.items() if observed.generations.get(name, 0) != now}
    if not lost:
        return observed
    held = lost & observed.memberships.keys()
    return replace(
        observed,
        memberships={name: of for name, of in observed.memberships.items() if name not in lost},
        others_roles={name: of for name, of in observed.others_roles.items() if name not in lost},
        unsure_members=tuple(sorted({*observed.unsure_members, *held})),
        generations={**observed.generations, **generations},
    )


def unsure(observed: Observed, doubts: Iterable[Mapping[str, Any]]) -> Observed:
    """The picture once the answers to these operations were lost: the user is to be read, and what
    cannot be read reliably, memberships and their roles, may be either way.

    ``doubts``: operations as they were recorded before the call.
    """
    members = set(observed.unsure_members)
    roles = {name: set(some) for name, some in observed.unsure_roles.items()}
    others = {name: set(some) for name, some in observed.others_roles.items()}
    for doubt in doubts:
        name = doubt.get("organization", "")
        if doubt["kind"] in ("add-member", "remove-member"):
            members.add(name)
            roles.setdefault(name, set()).update(observed.memberships.get(name, ()))
            others.pop(name, None)
        elif doubt["kind"] in ("add-roles", "remove-roles"):
            roles.setdefault(name, set()).update(doubt.get("roles", ()))
        elif doubt["kind"] == op.ReadRoles.kind and name in others:
            others[name] -= set(doubt.get("roles", ()))
    return replace(
        observed,
        presence="unknown",
        foreign=None,
        foreign_stay=False,
        unsure_members=tuple(sorted(members)),
        unsure_roles={name: tuple(sorted(some)) for name, some in roles.items() if some},
        others_roles={name: tuple(sorted(some)) for name, some in others.items() if some},
        roles_read=(),
    )


def _with_roles(
    observed: Observed, organization: str, *, add: Iterable[str] = (), remove: Iterable[str] = ()
) -> Observed:
    have = set(observed.memberships.get(organization, ()))
    maybe = set(observed.unsure_roles.get(organization, ())) - {*add, *remove}
    left = _without_key(observed.unsure_roles, organization)
    return replace(
        _with_membership(observed, organization, tuple(sorted((have | {*add}) - {*remove}))),
        unsure_roles=left | ({organization: tuple(sorted(maybe))} if maybe else {}),
    )


def _without(names: tuple[str, ...], gone: str) -> tuple[str, ...]:
    return tuple(name for name in names if name != gone)


def _without_key(known: Mapping[str, tuple[str, ...]], gone: str) -> dict[str, tuple[str, ...]]:
    return {name: roles for name, roles in known.items() if name != gone}


def _with_membership(observed: Observed, organization: str, roles: tuple[str, ...]) -> Observed:
    return replace(observed, memberships={**observed.memberships, organization: roles})
