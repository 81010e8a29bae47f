"""What ``org apply`` and ``org show`` tell of Auth0's side."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from operators.commands.printing import json_line, line, note

if TYPE_CHECKING:
    from operators.commands.running import Running
    from operators.setting_up import Drift, Standing
    from service.directory.database import Transaction
    from service.directory.organizations import Registered
    from service.organizations import Installation, Organization, Tenant


async def followed(here: Running, names: Collection[str], *, as_json: bool) -> bool:
    """Shows how the set-ups get on until they rest; whether one of them could not be done."""
    from rich.console import Console
    from rich.progress import Progress

    from operators import setting_up
    from service.clock import SystemClock

    last: dict[str, Standing] = {}
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task("Auth0", total=len(names))
        async for each in setting_up.follow(here.database, names, clock=SystemClock()):
            last[each.name] = each
            rests = sum(known.rests for known in last.values())
            shown = f"{each.name}: {each.left[0]}" if each.left else each.name
            progress.update(bar, completed=rests, description=shown)
            if each.rests:
                tell(each, as_json=as_json)
    pending = sorted(name for name, each in last.items() if not each.rests)
    if pending:
        note(
            f"{', '.join(pending)}: not set up in Auth0 yet. That is done while 'provisioner serve'"
            " (or dev) runs; 'provisioner org show' tells how far it is."
        )
    return any(each.failed for each in last.values())


def tell(standing: Standing, *, as_json: bool) -> None:
    if as_json:
        json_line(
            {
                "kind": "set-up",
                "name": standing.name,
                "verdict": standing.verdict,
                "message": standing.message or None,
                "left": list(standing.left),
                "problems": [_problem(each) for each in standing.problems],
            }
        )
        return
    match standing.verdict:
        case "done":
            line(f"set-up {standing.name} done")
        case "paused":
            line(
                f"set-up {standing.name} waits: the tenant refuses us ({standing.message})"
                " → Correct its client, see 'provisioner doctor'; it goes on by itself."
            )
        case "retrying":
            line(f"set-up {standing.name} is tried again: {standing.message}")
        case _:
            line(f"set-up {standing.name} refused")
            _tell_problems(standing.problems)


def _tell_problems(problems: Sequence[Any]) -> None:
    for each in problems:
        line(f"  {each.code}: {each.message} → {each.advice}")


def _problem(problem: Any) -> Mapping[str, str]:
    return {"code": problem.code, "message": problem.message, "advice": problem.advice}


async def compared(here: Running, declared: Installation, *, as_json: bool) -> bool:
    """Tells what Auth0's side of a declaration would be; whether something of it is refused."""
    from operators import declaring

    stored = await here.database.read(declaring.stored)
    tenants: dict[str, Tenant] = {**stored.tenants}
    default = here.settings.default_tenant()
    if default is not None:
        tenants.setdefault(default.name, default)
    tenants |= {tenant.name: tenant for tenant in declared.tenants}
    wanted = [
        each
        for each in declared.organizations
        if each.set_up.enabled and each.name not in stored.ended
    ]
    refused = False
    for drift in await _drifts(here, tenants, wanted):
        refused = refused or bool(drift.problems)
        _tell_drift(drift, as_json=as_json)
    await _tell_administrators(here, wanted)
    return refused


async def _tell_administrators(here: Running, wanted: Sequence[Organization]) -> None:
    from service.directory import setups

    states = {each.organization: each for each in await here.database.read(setups.every)}
    for each in wanted:
        declared = each.administrator
        known = states[each.name].administrator if each.name in states else None
        if declared is not None and (known or {}).get("email") != declared.email:
            role = f", with the role {declared.role}" if declared.role else ""
            note(
                f"set-up {each.name}: {declared.email} would become its first administrator{role},"
                " once all else is there"
            )


async def _drifts(
    here: Running, tenants: Mapping[str, Tenant], wanted: Sequence[Organization]
) -> list[Drift]:
    from operators import setting_up
    from service.clock import SystemClock
    from service.provisioning.setup.desired import desire

    found: list[Drift] = []
    for name in dict.fromkeys(each.tenant for each in wanted):
        tenant = tenants.get(name)
        theirs = [desire(each, tenant) for each in wanted if each.tenant == name]
        if tenant is None or not (tenant.domain or tenant.base_url):
            continue
        found += await setting_up.compare(here.settings, tenant, theirs, clock=SystemClock())
    return found


def _tell_drift(drift: Drift, *, as_json: bool) -> None:
    if drift.unread:
        note(f"set-up {drift.name}: Auth0's side is not shown ({drift.unread})")
        return
    if as_json:
        json_line({"kind": "set-up", "name": drift.name, "applied": False, **drift.as_document()})
        return
    if not drift.operations and not drift.problems:
        line(f"set-up {drift.name} unchanged")
    for each in drift.operations:
        line(f"set-up {drift.name} would {each}")
    if drift.problems:
        line(f"set-up {drift.name} would be refused")
        _tell_problems(drift.problems)


async def shown(here: Running, registered: Registered, *, offline: bool) -> dict[str, Any] | None:
    """How far an organization's set-up is, and, unless ``offline``, what differs in Auth0 now."""
    from operators import setting_up
    from service.clock import SystemClock
    from service.directory import leases, organizations, setups
    from service.provisioning.setup.turn import desired_of

    organization = registered.organization

    def read(transaction: Transaction) -> tuple[Any, Any, Any, Any]:
        tenants = {each.name: each for each in organizations.tenants(transaction)}
        tenant = tenants.get(organization.tenant) or here.settings.default_tenant()
        return (
            setups.find(transaction, organization.name),
            leases.paused(transaction, organization.tenant),
            tenant,
            desired_of(transaction, registered, tenant),
        )

    state, pause, tenant, desired = await here.database.read(read)
    if state is None:
        return None
    standing = setting_up.standing(state, pause.reason if pause is not None else None)
    document: dict[str, Any] = {
        "verdict": standing.verdict,
        "message": standing.message or None,
        "left": list(standing.left),
        "problems": [_problem(each) for each in standing.problems],
        "attempts": state.attempts,
        "observed": state.observed,
        "observed_at": state.observed_at,
    }
    live = not registered.decommissioned or registered.deleting_at is not None
    if not offline and tenant is not None and organization.set_up.enabled and live:
        (drift,) = await setting_up.compare(
            here.settings, tenant, [desired], clock=SystemClock(), within=5.0
        )
        document["drift"] = drift.as_document()
    return document
