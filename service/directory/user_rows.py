"""The columns of a user's row that follow from a SCIM resource. Pure; knows no statement."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from service.ids import new_id
from service.organizations import Organization
from service.people import User, join_key_of

Columns = dict[str, Any]


def new_user(
    organization: Organization,
    resource: Mapping[str, Any],
    now: datetime,
    *,
    id: str | None = None,
    **decided: Any,
) -> User:
    """Somebody whom nobody knew; without ``id`` with a new one. ``decided``: for Auth0, if anything."""
    return User(
        id=id or new_id(now),
        organization=organization.name,
        created_at=now,
        modified_at=now,
        **says(organization, resource, active=True),
        **decided,
    )


def changed(
    organization: Organization, user: User, resource: Mapping[str, Any], now: datetime
) -> User:
    """The user with another resource, at the next version."""
    said = says(organization, resource, active=user.active)
    return dataclasses.replace(user, version=user.version + 1, modified_at=now, **said)


def says(organization: Organization, resource: Mapping[str, Any], *, active: bool) -> Columns:
    """What a resource says of its user; ``active``: what holds where it does not say."""
    by_key = organization.join != "externalId"
    return {
        "resource": dict(resource),
        "external_id": resource.get("externalId"),
        "join_key": join_key_of(resource, organization) if by_key else None,
        "active": resource.get("active", active) is not False,
    }


def first_columns(user: User) -> Columns:
    """What is written but once, and all that a resource says."""
    return {
        "id": user.id,
        "organization": user.organization,
        "state": user.state,
        "created_at": user.created_at,
        **columns(user),
    }


def columns(user: User) -> Columns:
    resource = user.resource or {}
    display_name = resource.get("displayName")
    return {
        "resource": dict(resource),
        "user_name_key": folded(resource["userName"]),
        "display_name_key": folded(display_name) if isinstance(display_name, str) else None,
        "external_id": user.external_id,
        "join_key": user.join_key,
        "active": user.active,
        "version": user.version,
        "modified_at": user.modified_at,
    }


def changed_columns(before: User, after: User) -> Columns:
    """Those of ``columns`` that differ: SQLite writes every index of a column that it is given."""
    known = columns(before)
    return {name: value for name, value in columns(after).items() if value != known[name]}


def email_keys(user: User) -> set[str]:
    """The addresses by which a user is found."""
    emails = (user.resource or {}).get("emails") or []
    return {folded(entry["value"]) for entry in emails if entry.get("value")}


def folded(text: object) -> str:
    return str(text).casefold()
