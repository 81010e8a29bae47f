"""Configured organizations, tenants and sources, as stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.dialect import insert
from service.organizations import KafkaSource, Organization, Tenant


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """An organization with what has become of it since it was declared."""

    organization: Organization
    version: int
    decommissioned_at: datetime | None = None

    @property
    def decommissioned(self) -> bool:
        return self.decommissioned_at is not None


def find(transaction: Transaction, name: str) -> Registered | None:
    row = transaction.execute(
        select(t.organizations).where(t.organizations.c.name == name)
    ).one_or_none()
    if row is None:
        return None
    return Registered(
        organization=Organization.model_validate(row.document),
        version=row.version,
        decommissioned_at=row.decommissioned_at,
    )


def every(transaction: Transaction) -> list[Registered]:
    names = transaction.execute(select(t.organizations.c.name).order_by(t.organizations.c.name))
    found = [find(transaction, name) for name in names.scalars().all()]
    return [registered for registered in found if registered is not None]


def apply(transaction: Transaction, organization: Organization, now: datetime) -> None:
    """Stores an organization as declared, new or changed."""
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


def apply_tenant(transaction: Transaction, tenant: Tenant) -> None:
    document = tenant.model_dump(mode="json")
    transaction.execute(
        insert(transaction, t.tenants)
        .values(name=tenant.name, document=document)
        .on_conflict_do_update(index_elements=["name"], set_={"document": document})
    )


def tenants(transaction: Transaction) -> list[Tenant]:
    rows = transaction.execute(select(t.tenants.c.document).order_by(t.tenants.c.name))
    return [Tenant.model_validate(document) for document in rows.scalars()]


def apply_source(transaction: Transaction, source: KafkaSource) -> None:
    document = source.model_dump(mode="json")
    transaction.execute(
        insert(transaction, t.sources)
        .values(name=source.name, document=document)
        .on_conflict_do_update(index_elements=["name"], set_={"document": document})
    )


def sources(transaction: Transaction) -> list[KafkaSource]:
    rows = transaction.execute(select(t.sources.c.document).order_by(t.sources.c.name))
    return [KafkaSource.model_validate(document) for document in rows.scalars()]
