"""Configured organizations, tenants and sources, as stored."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import structlog
from pydantic import ValidationError
from sqlalchemy import Text, bindparam, cast, select, update

from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.dialect import IDS, hold, insert, one_of
from service.directory.prepared import Prepared
from service.organizations import EventSource, Organization, Tenant
from service.people import Cause, User, causes, is_wanted

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """An organization with what has become of it since it was declared."""

    organization: Organization
    version: int
    decommissioned_at: datetime | None = None
    deleting_at: datetime | None = None
    """When deletion began of an organization that ended: from there on nothing comes back."""
    generation: int = 0
    """How often its Organization was found gone from Auth0, or another in its place."""

    @property
    def decommissioned(self) -> bool:
        return self.decommissioned_at is not None

    def wants(self, user: User) -> bool:
        """Whether this user of the organization is in."""
        return is_wanted(user, self.organization, decommissioned=self.decommissioned)

    def causes(self, user: User) -> set[Cause]:
        """Why this user is out, or would be but for what is withheld."""
        return causes(user, self.organization, decommissioned=self.decommissioned)


# Every write asks for its organization: the document comes as text and is understood once.
_EVERY: Final = select(
    cast(t.organizations.c.document, Text).label("text"),
    t.organizations.c.version,
    t.organizations.c.decommissioned_at,
    t.organizations.c.deleting_at,
    t.organizations.c.generation,
).order_by(t.organizations.c.name)
_OF_TENANT: Final = _EVERY.add_columns(t.organizations.c.name).where(
    t.organizations.c.tenant == bindparam("of")
)
_ONE: Final = Prepared(_EVERY.where(t.organizations.c.name == bindparam("of")))
_THOSE: Final = Prepared(
    _EVERY.add_columns(t.organizations.c.name).where(one_of(t.organizations.c.name, IDS))
)


def find(transaction: Transaction, name: str) -> Registered | None:
    row = _ONE.first(transaction, {"of": name})
    return _registered(row) if row is not None else None


def find_many(transaction: Transaction, names: Collection[str]) -> dict[str, Registered]:
    """Those of these names that there are."""
    rows = _THOSE.all(transaction, {"ids": sorted(names)})
    return {row["name"]: _registered(row) for row in rows}


def every(transaction: Transaction) -> list[Registered]:
    return [_registered(row) for row in transaction.execute(_EVERY).mappings()]


def of_tenant(transaction: Transaction, tenant: str) -> list[Registered]:
    """Those of a tenant that can be read: one that an earlier release stored, and this one refuses, is
    logged and keeps no other from being worked.
    """
    found: list[Registered] = []
    for row in transaction.execute(_OF_TENANT, {"of": tenant}).mappings():
        try:
            found.append(_registered(row))
        except ValidationError:
            _tell_unreadable(row["name"], row["text"])
    return found


@functools.lru_cache(maxsize=256)
def _tell_unreadable(name: str, text: str) -> None:
    """Once for a document."""
    del text
    log.error("organizations.unreadable", organization=name)


def _registered(row: Mapping[Any, Any]) -> Registered:
    return Registered(
        organization=_organization(row["text"]),
        version=row["version"],
        decommissioned_at=row["decommissioned_at"],
        deleting_at=row["deleting_at"],
        generation=row["generation"],
    )


@functools.lru_cache(maxsize=4096)
def _organization(document: str) -> Organization:
    # A process of a later release may have declared keys that this one does not know: beside each
    # other they run while a release is rolled out, or back.
    return Organization.model_validate_json(document, extra="ignore")


def replaced(transaction: Transaction, name: str) -> None:
    """Its Organization in Auth0 is gone: whatever comes in its place has no members of ours yet."""
    transaction.execute(
        update(t.organizations)
        .where(t.organizations.c.name == name)
        .values(generation=t.organizations.c.generation + 1)
    )


def hold_declared(transaction: Transaction) -> None:
    """Keeps others from declaring or ending organizations until this transaction ends: what they may
    share in Auth0 is decided by all that are declared.
    """
    hold(transaction, "declared")


def apply(transaction: Transaction, organization: Organization, now: datetime) -> None:
    """Stores an organization as declared, new or changed; a changed stream goes on anew."""
    # As stored, and not understood: applying also mends what no longer is an organization.
    stored = select(t.organizations.c.document).where(t.organizations.c.name == organization.name)
    before: Mapping[str, Any] = transaction.execute(stored).scalar_one_or_none() or {}
    document = organization.model_dump(mode="json")
    values = {
        "tenant": organization.tenant,
        "document": document,
        "modified_at": now,
    }
    transaction.execute(
        insert(transaction, t.organizations)
        .values(name=organization.name, version=1, created_at=now, **values)
        .on_conflict_do_update(
            index_elements=["name"], set_=values | {"version": t.organizations.c.version + 1}
        )
    )
    declared = document["security_events"]
    if declared != before.get("security_events"):
        _declare_stream(transaction, organization.name, now, open=declared is not None)


NOT_DECLARED: Final = "not_declared"
"""Why a stream stopped that is no longer declared: what waits in it stays, in case it is again."""


def _declare_stream(transaction: Transaction, name: str, now: datetime, *, open: bool) -> None:
    ended = {"code": NOT_DECLARED, "message": "The organization no longer declares it."}
    values: dict[str, Any] = {
        "due_at": now,
        "attempts": 0,
        "error": None if open else ended,
        "stopped_at": None if open else now,
    }
    transaction.execute(
        insert(transaction, t.streams)
        .values(organization=name, **values)
        .on_conflict_do_update(index_elements=["organization"], set_=values)
    )


def apply_tenant(transaction: Transaction, tenant: Tenant) -> None:
    document = tenant.model_dump(mode="json")
    transaction.execute(
        insert(transaction, t.tenants)
        .values(name=tenant.name, document=document)
        .on_conflict_do_update(index_elements=["name"], set_={"document": document})
    )


def tenants(transaction: Transaction) -> list[Tenant]:
    rows = transaction.execute(select(t.tenants.c.document).order_by(t.tenants.c.name))
    return [Tenant.model_validate(document, extra="ignore") for document in rows.scalars()]


def apply_source(transaction: Transaction, source: EventSource) -> None:
    document = source.model_dump(mode="json")
    transaction.execute(
        insert(transaction, t.sources)
        .values(name=source.name, document=document)
        .on_conflict_do_update(index_elements=["name"], set_={"document": document})
    )


def sources(transaction: Transaction) -> list[EventSource]:
    rows = transaction.execute(select(t.sources.c.document).order_by(t.sources.c.name))
    return [EventSource.model_validate(document, extra="ignore") for document in rows.scalars()]


def source(transaction: Transaction, name: str) -> EventSource | None:
    found = transaction.execute(select(t.sources.c.document).where(t.sources.c.name == name))
    document = found.scalar_one_or_none()
    return EventSource.model_validate(document, extra="ignore") if document is not None else None
