"""Whose a member's roles are: those that we granted, or others', which are never taken away. Pure.

What a member has already is read before anything is granted, but where nobody can have given anything.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from service.provisioning import operations as op
from service.provisioning.desired import Desired, Wish
from service.provisioning.observed import Observed, after
from service.provisioning.operations import Operation

_LAG: Final = timedelta(minutes=1)
"""For how long Auth0 may still show what we have taken away; a removal shows after 5 to 10 s."""


def to_grant(name: str, wish: Wish, observed: Observed) -> tuple[str, ...]:
    """The roles that are missing in an Organization. One that may be ours is granted once more."""
    sure = set(observed.memberships.get(name, ())) - set(observed.unsure_roles.get(name, ()))
    return tuple(sorted(wish.roles - sure - set(observed.others_roles.get(name, ()))))


def is_to_be_read(name: str, missing: Collection[str], observed: Observed) -> bool:
    """Whether somebody else may have given one of these already. A grant of ours that is in doubt
    counts as ours: the roles were read before it."""
    if observed.newborn or name in observed.roles_read:
        return False
    ours = {*observed.memberships.get(name, ()), *observed.unsure_roles.get(name, ())}
    return not ours.issuperset(missing)


def found(observed: Observed, operation: op.ReadRoles, roles: Collection[str]) -> Observed:
    """The picture once the member's roles were read: what is neither ours nor was a moment ago is
    others'."""
    name = operation.organization
    ours = {
        *observed.memberships.get(name, ()),
        *observed.unsure_roles.get(name, ()),
        *observed.taken.get(name, ()),
    }
    others = {**observed.others_roles, name: tuple(sorted(set(roles) - ours))}
    return replace(after(observed, operation), others_roles=others)


def held(observed: Observed, name: str) -> tuple[str, ...] | None:
    """The roles that a member has, ours and others'; None where they are no member of ours."""
    if name not in observed.memberships:
        return None
    return tuple(sorted({*observed.memberships[name], *observed.others_roles.get(name, ())}))


def doubts_of(observed: Observed, name: str, gone: Collection[str]) -> list[dict[str, Any]]:
    """What becomes doubtful where a member may have lost these roles: ours are granted once more;
    others' are read again, and become ours only where they are gone."""
    others = set(observed.others_roles.get(name, ()))
    of = {op.AddRoles.kind: set(gone) - others, op.ReadRoles.kind: set(gone) & others}
    return [
        {"kind": kind, "organization": name, "roles": sorted(roles)}
        for kind, roles in of.items()
        if roles
    ]


def with_taken(before: Observed, now: Observed, operation: Operation, at: datetime) -> Observed:
    """The picture after an operation has succeeded, with the roles that went by it."""
    match operation:
        case op.RemoveRoles():
            went = set(operation.roles)
        case op.RemoveMember():
            held = (before.memberships, before.unsure_roles, before.others_roles)
            went = {role for of in held for role in of.get(operation.organization, ())}
        case _:
            return now
    noted = {**now.taken.get(operation.organization, {}), **dict.fromkeys(went, at.isoformat())}
    return replace(now, taken={**now.taken, operation.organization: noted}) if noted else now


def still_taken(observed: Observed, now: datetime) -> Mapping[str, Mapping[str, str]]:
    """Of what we have taken away, what may still show."""
    recent = {
        name: {role: at for role, at in of.items() if datetime.fromisoformat(at) > now - _LAG}
        for name, of in observed.taken.items()
    }
    return {name: of for name, of in recent.items() if of}


def settled(observed: Observed, desired: Desired) -> Observed:
    """The picture at the end of a turn. Others' roles are kept in it while they are wanted: for as
    long we grant them to nobody, and hear of it when they go."""
    wanted = {
        name: tuple(role for role in roles if role in desired.memberships[name].roles)
        for name, roles in observed.others_roles.items()
        if name in desired.memberships
    }
    return replace(observed, others_roles={name: roles for name, roles in wanted.items() if roles})
