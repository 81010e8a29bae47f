"""Compares the members of an Organization with the users who are to be in it. Knows no profiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from service.directory import drift, organizations, people
from service.directory.accounts import Account
from service.directory.database import Transaction
from service.organizations import Organization
from service.provisioning import granting
from service.provisioning.comparing import is_idle
from service.provisioning.drift_run import PAGE, CheckFailed, Run, why
from service.provisioning.observed import Observed
from service.provisioning.spool import Spool, spooling

_LAG: Final = timedelta(minutes=1)
"""How long ago a membership was removed that is not to be there any more."""


async def compare_members(run: Run, organization: Organization) -> None:
    """An Organization's members. Raises CheckFailed where they cannot be read."""
    with spooling() as spool:
        if await _read_members(run, organization, spool):
            await _walk_members(run, organization, spool)


async def _read_members(run: Run, organization: Organization, spool: Spool) -> bool:
    """An Organization's members into the spool; False where there is no such Organization."""
    answer = await run.again(lambda: run.client.organization_by_name(organization.auth0_name))
    if answer.verdict == "not-found":
        return False
    if answer.verdict != "ok":
        raise CheckFailed(why(f"the Organization {organization.auth0_name}", answer))
    cursor: str | None = None
    read = 0
    while not run.tenure.ended.is_set():
        page = await run.again(lambda cursor=cursor: run.jobs.members(answer.data["id"], cursor))
        if page.verdict != "ok":
            raise CheckFailed(why(f"the members of {organization.auth0_name}", page))
        if cursor is not None and page.data.get("next") == cursor:
            raise CheckFailed(f"the members of {organization.auth0_name} come in circles")
        members = page.data.get("members") or []
        spool.put(
            (each["user_id"], {"roles": [role["name"] for role in each.get("roles") or []]})
            for each in members
        )
        cursor = page.data.get("next")
        read += len(members)
        await run.say(f"members of {organization.auth0_name}", read, read)
        if not members or not cursor:
            break
    return not run.tenure.ended.is_set()


async def _walk_members(
    run: Run,
    organization: Organization,
    spool: Spool,
) -> None:
    after, name = "", organization.auth0_name
    while not run.tenure.ended.is_set():
        page = await run.database.read(
            lambda tx, after=after: drift.residents_after(tx, organization.name, after, PAGE)
        )
        if not page:
            return
        after, now, same = page[-1][0], run.clock.now(), list[str]()
        for user_id, account in page:
            listed = spool.take(account.user_id)
            ours = granting.held(Observed.from_document(account.observed), name)
            if not is_idle(account, now):
                continue
            if ours is not None:
                told = _missing(name, ours, listed)
            elif listed is not None and await _has_left(run, user_id, organization, now):
                told = {"auth0_organization": name, "rejoined": True}
            else:
                told = {}
            if told:
                # The list lags: the user's own word counts.
                told = await _confirmed_membership(run, account, name, ours or (), told)
            if told:
                await run.found(account, f"membership:{name}", told)
            elif told is not None:
                same.append(account.id)
        await run.forget(f"membership:{name}", same)
        run.counts["memberships"] += len(page)


async def _has_left(run: Run, user_id: str, organization: Organization, now: datetime) -> bool:
    """Whether somebody is out there, and was a while ago: a removal takes some time to show."""

    def left(tx: Transaction) -> bool:
        user, registered = people.get(tx, user_id), organizations.find(tx, organization.name)
        if user is None or registered is None:
            return False
        since = user.last_applied_at or user.modified_at
        return since < now - _LAG and not registered.wants(user)

    return await run.database.read(left)


async def _confirmed_membership(
    run: Run,
    account: Account,
    name: str,
    ours: Sequence[str],
    told: Mapping[str, Any],
) -> dict[str, Any] | None:
    answer = await run.again(lambda: run.client.organizations_of(account.user_id))
    if answer.verdict == "not-found":
        return None  # the account's own finding says so
    if answer.verdict != "ok":
        return None
    if "rejoined" in told:
        return dict(told) if name in answer.data else {}
    if name not in answer.data:
        return {"auth0_organization": name}
    if "missing_roles" not in told and not ours:
        return {}
    found = await run.again(lambda: run.client.organization_by_name(name))
    if found.verdict != "ok":
        return None
    roles = await run.again(lambda: run.client.member_roles(found.data["id"], account.user_id))
    if roles.verdict != "ok":
        return None
    return _missing(name, ours, {"roles": roles.data})


def _missing(name: str, ours: Sequence[str], listed: Mapping[str, Any] | None) -> dict[str, Any]:
    """What is gone of a membership, and of the roles that the member is to have in it."""
    if listed is None:
        return {"auth0_organization": name}
    gone = sorted(set(ours) - set(listed["roles"]))
    return {"auth0_organization": name, "missing_roles": gone} if gone else {}
