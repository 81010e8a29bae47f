"""Many users at once, as rows: each with an address and an account that is as wanted."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from service.directory import tables as t
from service.directory.database import Transaction
from service.ids import account_key, new_id

_AT_ONCE = 5000


def settle_in(
    transaction: Transaction, organization: str, count: int, now: datetime, *, name: str = "crowd"
) -> list[str]:
    """So many applied users of an organization of the isolated model; their ids, in order."""
    ids = sorted(new_id(now) for _ in range(count))
    for start in range(0, count, _AT_ONCE):
        some = list(enumerate(ids[start : start + _AT_ONCE], start))
        people = [_user(organization, f"{name}-{n}", user_id, now) for n, user_id in some]
        houses = [_account(organization, person, now) for person in people]
        transaction.execute(t.accounts.insert(), houses)
        transaction.execute(t.users.insert(), people)
    return ids


def enrol(transaction: Transaction, group_id: str, ids: list[str]) -> None:
    """Puts users into a group, with no event."""
    rows = [{"group_id": group_id, "user_id": each} for each in ids]
    transaction.execute(t.members.insert(), rows)


def _user(organization: str, name: str, user_id: str, now: datetime) -> dict[str, Any]:
    address = f"{name}@{organization}.example"
    resource = {
        "userName": address,
        "externalId": name,
        "name": {"givenName": "Ada", "familyName": "Byron", "formatted": "Ada Byron"},
        "emails": [{"value": address, "type": "work", "primary": True}],
        "title": "Analyst",
        "active": True,
    }
    return {
        "id": user_id,
        "organization": organization,
        "resource": resource,
        "user_name_key": address,
        "external_id": name,
        "active": True,
        "identifier": address,
        "account_id": new_id(now),
        "state": "applied",
        "last_applied_at": now,
        "version": 1,
        "created_at": now,
        "modified_at": now,
    }


def _account(organization: str, person: dict[str, Any], now: datetime) -> dict[str, Any]:
    return {
        "id": person["account_id"],
        "tenant": "main",
        "connection": f"{organization}-users",
        "user_id": f"auth0|{account_key()}",
        "identifier": person["identifier"],
        "revision": 1,
        "applied_revision": 1,
        "observed": {},
        "modified_at": now,
    }
