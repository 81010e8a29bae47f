"""What is told of one organization: its people by state, Auth0's side, its end, loads and drift.

Reads the directory only: what was last seen of Auth0, not what is there now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from service.directory import (
    credentials,
    decommissions,
    drift,
    imports,
    organizations,
    overview,
    setups,
    struggles,
)
from service.directory.credentials import Credential
from service.directory.database import Transaction
from service.directory.decommissions import Decommission, Progress
from service.directory.drift import Check, Finding
from service.directory.events import Event, Filter
from service.directory.imports import Import
from service.directory.organizations import Registered
from service.directory.setups import SetUpState
from service.organizations import Connection

STATES: Final = ("applied", "pending", "waiting", "staged", "failed")
_MOST: Final = 20
_MOST_IMPORTS: Final = 50
_END: Final = ("locking", "held", "deleting", "dismantling", "ended")
_END_WHERE_KEPT: Final = ("locking", "kept")


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A part of a bar that is 100 wide: where it begins, and how wide it is."""

    state: str
    count: int
    start: float
    width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownConnection:
    """What is declared, beside what was seen of it, where anything was."""

    declared: Connection
    seen: Mapping[str, Any] | None
    enabled: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """An import and how many of its rows have an answer."""

    of: Import
    done: int

    @property
    def share(self) -> float:
        """Of 100."""
        return min(100.0, 100 * self.done / self.of.accounts) if self.of.accounts else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """``past``, ``now`` or ``ahead``."""

    name: str
    when: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownOrganization:
    """One organization as an operator wants to see it."""

    registered: Registered
    shares: Sequence[Share]
    set_up: SetUpState | None
    connections: Sequence[ShownConnection]
    ending: Decommission | None
    stages: Sequence[Stage]
    progress: Progress
    loads: Sequence[Load]
    check: Check | None
    findings: Sequence[Finding]
    tokens: Sequence[Credential]
    trouble: Sequence[Event]
    struggling: Sequence[Event]
    struggles: Mapping[str, Any]
    """Event id to how often it was tried in vain, and why."""


def organization(transaction: Transaction, name: str, now: datetime) -> ShownOrganization | None:
    registered = organizations.find(transaction, name)
    if registered is None:
        return None
    declared = registered.organization
    set_up = setups.find(transaction, name)
    ending = decommissions.find(transaction, name)
    struggling = overview.latest_events(
        transaction, Filter(organization=name), retrying=True, limit=_MOST
    )
    return ShownOrganization(
        registered=registered,
        shares=shares(overview.users_by_state(transaction, name)),
        set_up=set_up,
        connections=[
            _connection(each, (set_up.observed if set_up else None) or {})
            for each in declared.connections
        ],
        ending=ending,
        stages=(
            stages(ending.stage, keeps=declared.policies.deletion == "keep")
            if ending is not None
            else ()
        ),
        progress=decommissions.progress(transaction, name),
        loads=_loads(transaction, declared.tenant, {each.name for each in declared.connections}),
        check=drift.newest(transaction, declared.tenant, name),
        findings=drift.listing(transaction, declared.tenant, name, _MOST),
        tokens=[
            each
            for each in credentials.listing(transaction, name)
            if each.revoked_at is None and (each.expires_at is None or each.expires_at > now)
        ],
        trouble=overview.latest_events(
            transaction, Filter(organization=name), trouble=True, limit=_MOST
        ),
        struggling=struggling,
        struggles=struggles.of_events(transaction, [each.id for each in struggling]),
    )


def shares(users: Mapping[str, int]) -> list[Share]:
    """Each state that anybody is in, as a part of a bar. What is rare is still to be seen."""
    known = [(state, users[state]) for state in STATES if users.get(state)]
    known += [(state, count) for state, count in users.items() if count and state not in STATES]
    widths = [max(1.0, 100 * count / sum(users.values())) for _, count in known]
    scale = 100 / sum(widths) if widths else 1.0
    found: list[Share] = []
    start = 0.0
    for (state, count), width in zip(known, widths, strict=True):
        found.append(Share(state=state, count=count, start=start, width=width * scale))
        start += width * scale
    return found


def stages(stage: str, *, keeps: bool) -> list[Stage]:
    """All stages of an organization's end, and where it is among them. ``keeps``: by its policy."""
    kept = stage == "kept" or (keeps and stage == "locking")
    names = _END_WHERE_KEPT if kept else _END
    here = names.index(stage)
    return [
        Stage(name=name, when="past" if at < here else "now" if at == here else "ahead")
        for at, name in enumerate(names)
    ]


def difference(finding: Finding) -> str:
    """What of a user differs in Auth0, in words."""
    told = finding.detail
    if finding.aspect.startswith("unknown:"):
        return f"unknown to us, in {told['connection']}"
    said = ["deleted"] if told.get("deleted") else []
    if "blocked" in told:
        said.append("blocked by somebody else" if told["blocked"] else "our block was lifted")
    said += told.get("changed", ())
    if name := told.get("auth0_organization"):
        roles = told.get("missing_roles")
        said.append(f"lacks {', '.join(roles)} in {name}" if roles else f"no member of {name}")
    return ", ".join(said)


def _connection(declared: Connection, observed: Mapping[str, Any]) -> ShownConnection:
    enabled = (observed.get("organization") or {}).get("enabled") or {}
    return ShownConnection(
        declared=declared,
        seen=(observed.get("connections") or {}).get(declared.name),
        enabled=enabled.get(declared.name),
    )


def _loads(transaction: Transaction, tenant: str, connections: set[str]) -> list[Load]:
    found = [
        each
        for each in imports.listing(transaction, tenant, _MOST_IMPORTS)
        if each.connection in connections
    ]
    return [Load(of=each, done=sum(each.result.values())) for each in found[:_MOST]]
