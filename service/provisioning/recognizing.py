"""Who a user is that Auth0 shows: ourselves, one of ours, one to adopt, or a stranger. Pure.

A stable id goes before our mark, and our mark before an address.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from service.outcomes import data as told
from service.provisioning.announcing import LISTED_ANEW
from service.provisioning.effects import Done, Effect, Later, NotThereYet, Refused, Setting
from service.provisioning.observed import (
    Observed,
    Origin,
    gone,
    invitation_of,
    invited_roles,
    marker,
    seen,
)


def read_by_id(user: Mapping[str, Any], setting: Setting) -> Effect:
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
        # Who was found after a conflict may be there for long.
        observed = replace(observed, foreign=(), newborn=before.presence == "unknown")
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
        yield LISTED_ANEW
    if "block" in doubted and now.blocked and not before.blocked:
        yield told.UserBlocked()
    if before.presence == "unknown" and before.blocked_by_us and not now.blocked:
        if "unblock" in doubted:
            yield told.UserUnblocked()
        else:
            yield told.DriftDetected(blocked=False)
    elif "block" in doubted and now.blocked and before.lifted:
        yield told.DriftCorrected(blocked=True)


def found_by_address(users: Sequence[Mapping[str, Any]], setting: Setting) -> Effect:
    """Who holds the address in our connection: ourselves, one of ours, one to adopt, or a stranger."""
    here = [user for user in users if _is_awaited(user, setting)]
    if setting.observed.presence == "present":
        return _other(here, setting)
    here.sort(key=lambda user: not _known_by_id(user, setting))  # before those by address alone
    if here and _is_ours(here[0], setting):
        return read_by_id(here[0], replace(setting, doubted=setting.doubted | {"create-user"}))
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


def appeared(user: Mapping[str, Any], setting: Setting) -> Effect:
    """Whether who has appeared is the one that is awaited, by stable id before address; or has taken
    up the one who is missing: that is sure, while search lags behind.
    """
    if setting.observed.presence == "missing":
        if _has_identity(user, setting.user_id):
            return linked_elsewhere([user], setting)
        return Done(observed=replace(setting.observed, fresh=True))
    if _is_awaited(user, setting):
        return found_by_address([user], setting)
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
                others_roles={},
                newborn=False,
            )
            observed = _taken_up(before, user, setting, origin="adopted")
            return Done(observed=observed, user_id=str(user.get("user_id")))
    return Done(observed=replace(setting.observed, alone=True))


def linked_elsewhere(users: Sequence[Mapping[str, Any]], setting: Setting) -> Effect:
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
        others_roles={},
        newborn=False,
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


def found_by_former_address(
    address: str, users: Sequence[Mapping[str, Any]], setting: Setting
) -> Done:
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
