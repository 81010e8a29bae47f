"""What declaring an installation does to the directory, each step with its audit entry."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import orjson

from operators import declaration, sources
from operators.declaration import Change, Stored
from service.directory import audit, credentials, inbox, locks, mappings, organizations, setups
from service.directory.credentials import TokenDoor
from service.directory.database import Transaction
from service.directory.inbox import Received
from service.directory.organizations import Registered
from service.errors import NotFound, Refused
from service.organizations import Installation, Organization, TokenScope

DECLARED: Final = "operator.declare"
_ONLY_FOR_PEOPLE: Final = frozenset(
    {
        "display_name",
        "metadata",
        "set_up",
        "scim_profile",
        "scim_oauth",
        "scim_schemas",
        "security_events",
    }
)
"""Keys that say nothing about accounts."""


def the_organization(transaction: Transaction, name: str) -> Registered:
    """Raises NotFound."""
    registered = organizations.find(transaction, name)
    if registered is None:
        raise NotFound(f"There is no organization {name}: 'provisioner org list' shows them.")
    return registered


def stored(transaction: Transaction) -> Stored:
    known = organizations.every(transaction)
    return Stored(
        tenants={tenant.name: tenant for tenant in organizations.tenants(transaction)},
        organizations={each.organization.name: each.organization for each in known},
        sources={source.name: source for source in organizations.sources(transaction)},
        housed={
            each.organization.name
            for each in known
            if locks.accounts_of(transaction, each.organization.name)
        },
        ended={each.organization.name for each in known if each.decommissioned},
        mappings={
            name: orjson.loads(each.text) for name, each in mappings.every(transaction).items()
        },
        peopled={
            each.organization.name
            for each in known
            if locks.has_users(transaction, each.organization.name)
        },
    )


def apply(
    transaction: Transaction,
    declared: Installation,
    *,
    known_tenants: Collection[str],
    actor: str,
    now: datetime,
    own_mappings: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Change]:
    """Stores what differs, and lets the lanes look at the accounts of organizations that changed.

    Raises ConfigurationError, and then changes nothing.
    """
    own_mappings = own_mappings or {}
    organizations.hold_declared(transaction)
    changes = declaration.compare(
        declared, stored(transaction), known_tenants=known_tenants, own_mappings=own_mappings
    )
    todo = {(change.kind, change.name): change for change in changes}
    for tenant in declared.tenants:
        if todo["tenant", tenant.name].verdict != "unchanged":
            organizations.apply_tenant(transaction, tenant)
    for organization in declared.organizations:
        change = todo["organization", organization.name]
        if change.verdict != "unchanged":
            organizations.apply(transaction, organization, now)
        _ask_for_set_up(transaction, organization, now)
        if {key.partition(".")[0] for key in change.keys} - _ONLY_FOR_PEOPLE:
            _look_again(transaction, organization.name, now)
    for source in declared.sources:
        if todo["source", source.name].verdict != "unchanged":
            organizations.apply_source(transaction, source)
            sources.reset(transaction, source)
    for name, document in own_mappings.items():
        if todo["mapping", name].verdict != "unchanged":
            mappings.apply(transaction, name, document["version"], dict(document), now)
            sources.reset_readers(transaction, name)
    for change in changes:
        if change.verdict != "unchanged":
            audit.record(
                transaction,
                actor=actor,
                action=f"{change.kind}.declare",
                now=now,
                organization=change.name if change.kind == "organization" else None,
                subject=change.name,
                detail={"verdict": change.verdict, "keys": list(change.keys)},
            )
    return changes


def _ask_for_set_up(transaction: Transaction, organization: Organization, now: datetime) -> None:
    """Also where nothing was declared anew: Auth0 may have been changed by others since."""
    registered = organizations.find(transaction, organization.name)
    if registered is None or registered.decommissioned:
        return
    if organization.set_up.enabled:
        setups.ask(transaction, organization.name, organization.tenant, now)
    else:
        setups.forget(transaction, organization.name)


def create_token(
    transaction: Transaction,
    name: str,
    *,
    door: TokenDoor,
    scopes: Collection[TokenScope],
    lifetime: timedelta | None,
    pepper: bytes,
    actor: str,
    now: datetime,
) -> str:
    """A new token of an organization.

    Raises NotFound; Refused where it is decommissioned or has two live ones.
    """
    if the_organization(transaction, name).decommissioned:
        raise Refused(f"{name} is decommissioned: it gets no more tokens.")
    made = credentials.create(
        transaction,
        organization=name,
        door=door,
        scopes=scopes,
        pepper=pepper,
        now=now,
        lifetime=lifetime,
    )
    ends = (now + lifetime).isoformat() if lifetime is not None else "never"
    told = {"door": door, "scopes": sorted(scopes), "expires": ends}
    _audit_token(transaction, "create", name, id_of(made), actor, now, told)
    return made


def revoke_token(
    transaction: Transaction, name: str, token: str, *, actor: str, now: datetime
) -> str:
    """Ends a token, given by id or whole; returns its id. Raises NotFound."""
    the_organization(transaction, name)
    key_id = id_of(token)
    if not credentials.revoke(transaction, name, key_id, now):
        raise NotFound(f"{name} has no live token {key_id}: 'provisioner org token list {name}'.")
    _audit_token(transaction, "revoke", name, key_id, actor, now)
    return key_id


def _look_again(transaction: Transaction, name: str, now: datetime) -> None:
    received = Received(door="operator", source=locks.SOURCE, type=DECLARED, at=now)
    event_id = inbox.admit(transaction, received, name).event_id
    locks.touch_organization(transaction, name, event_id=event_id, now=now)


def id_of(token: str) -> str:
    """A whole token names its id between underscores: the secret must not end up in the audit."""
    return token.split("_")[1] if token.startswith("ap_") and "_" in token[3:] else token


def _audit_token(
    transaction: Transaction,
    verb: str,
    name: str,
    key_id: str,
    actor: str,
    now: datetime,
    detail: Mapping[str, Any] | None = None,
) -> None:
    audit.record(
        transaction,
        actor=actor,
        action=f"token.{verb}",
        now=now,
        organization=name,
        subject=key_id,
        detail=detail,
    )
