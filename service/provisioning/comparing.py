"""What of a user in Auth0 is not as we left it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from service.directory.accounts import Account
from service.organizations import LISTED, Model
from service.provisioning import granting
from service.provisioning.observed import Observed, listed_in, marker

FIELDS: Final = (
    {"name": "user_id", "export_as": "user_id"},
    {"name": "email", "export_as": "email"},
    {"name": "given_name", "export_as": "given_name"},
    {"name": "family_name", "export_as": "family_name"},
    {"name": "name", "export_as": "name"},
    {"name": "blocked", "export_as": "blocked"},
    {"name": "app_metadata.auth0_provisioner.account", "export_as": "account"},
    {"name": f"app_metadata.{LISTED}", "export_as": "listed"},
)
"""What an export is asked for."""


def is_idle(account: Account, now: datetime) -> bool:
    """Whether nobody works on it and nothing is owed: only then is what we last saw to be there."""
    return (
        account.closed_at is None
        and account.doubt is None
        and account.import_id is None
        and account.applied_revision == account.revision
        and (account.due_at is None or account.due_at > now)
        and Observed.from_document(account.observed).presence == "present"
    )


def of_user(user: Mapping[str, Any]) -> dict[str, Any]:
    """What is compared of a user that was read by its id, as a line of an export has it."""
    names = ("user_id", "email", "given_name", "family_name", "name", "blocked")
    return {name: user.get(name) for name in names} | {
        "account": marker(user),
        "listed": listed_in(user),
    }


def differences(
    account: Account, observed: Observed, found: Mapping[str, Any] | None, model: Model
) -> dict[str, Any]:
    """What differs, as members of ``drift.detected``; empty where nothing does.

    ``found``: a line of an export; None where there is no such user. An attribute that we know
    nothing of may be anything, and so may those of a profile that no organization decides on.
    """
    if found is None:
        return {"deleted": True}
    told: dict[str, Any] = {}
    if bool(found.get("blocked")) != observed.blocked:
        told["blocked"] = bool(found.get("blocked"))
    changed: list[str] = []
    if observed.marked and found.get("account") != account.id:
        changed.append("app_metadata")
    if lost_entries(observed, found.get("listed")):
        changed.append(f"app_metadata.{LISTED}")
    if model == "isolated":
        known = {"email": observed.email, **asdict(observed.profile)}
        changed += [
            name
            for name, value in known.items()
            if value is not None and _folded(name, found.get(name)) != _folded(name, value)
        ]
    if changed:
        told["changed"] = sorted(changed)
    return told


def lost_entries(observed: Observed, listed: Any) -> set[str]:
    """Entries of ours that are no longer in the older list. What others put there is theirs."""
    there = (
        {each for each in listed if isinstance(each, str)} if isinstance(listed, list) else set()
    )
    return set(observed.entries.values()) - there


def _folded(name: str, value: Any) -> Any:
    return value.lower() if name == "email" and isinstance(value, str) else value


def is_ours_to_mend(told: Mapping[str, Any]) -> bool:
    """Whether there is anything beside a block of somebody else's, which is left alone."""
    return bool(set(told) - {"blocked"}) or told.get("blocked") is False


def lets_in(told: Mapping[str, Any], *, wanted: bool) -> bool:
    """Whether somebody who is out may get in by it: that is mended whatever policy says. ``wanted``:
    whether anybody in the account is in."""
    return bool(told.get("rejoined")) or (told.get("blocked") is False and not wanted)


def doubts_of(told: Mapping[str, Any], observed: Observed) -> list[dict[str, Any]]:
    """What makes the lanes read the account again and mend it: see service.provisioning.doubt."""
    organization = told.get("auth0_organization")
    if organization is None:
        return [{"kind": "drift"}]
    if told.get("rejoined"):
        return [{"kind": "remove-member", "organization": organization}]
    if roles := told.get("missing_roles"):
        return granting.doubts_of(observed, organization, roles)
    return [{"kind": "add-member", "organization": organization}]
