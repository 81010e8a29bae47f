"""``provisioner drift``: what somebody else changed in Auth0, looked for now or listed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from operators.commands.printing import document, json_line, note, table
from operators.commands.running import Actor, AsJson, DataDir, acting, now, opened, run

if TYPE_CHECKING:
    from service.directory.database import Database
    from service.directory.drift import Check, Finding

app = typer.Typer(help="Differences between Auth0 and what we know.", no_args_is_help=True)

_MOST = 100_000

Organization = Annotated[
    str | None, typer.Argument(metavar="ORG", help="The organization's name.", show_default=False)
]
Tenant = Annotated[
    str | None, typer.Option("--tenant", help="All organizations of this Auth0 tenant.")
]


@app.command()
def check(
    organization: Organization = None,
    tenant: Tenant = None,
    correct: Annotated[
        bool, typer.Option("--correct", help="Mend it, whatever the organization's policy.")
    ] = False,
    data_dir: DataDir = None,
    actor: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Compare Auth0 with what we know now, and print what differs. The running lanes do it; this
    command may end meanwhile."""
    if (organization is None) == (tenant is None):
        raise typer.BadParameter("name an organization, or a tenant with --tenant")
    failed = run(lambda: _check(organization, tenant, correct, data_dir, acting(actor), as_json))
    if failed:
        raise typer.Exit(1)


async def _check(
    organization: str | None,
    tenant: str | None,
    correct: bool,
    data_dir: Path | None,
    actor: str,
    as_json: bool,
) -> bool:
    from service.directory import audit, drift

    async with opened(data_dir) as here:
        where = await _tenant_of(here.database, organization, tenant)

        def ask(tx: drift.Transaction) -> str:
            at = now()
            check_id = drift.ask(tx, where, organization, correct=correct, asked_by=actor, now=at)
            audit.record(
                tx,
                actor=actor,
                action="drift.check",
                now=at,
                organization=organization,
                subject=check_id,
                detail={"tenant": where, "correct": correct},
            )
            return check_id

        check_id = await here.database.transact(ask)
        ended = await _follow(here.database, check_id)
        found = await here.database.read(lambda tx: drift.listing(tx, where, organization, _MOST))
    _print(found, as_json=as_json)
    counts = ", ".join(f"{count} {name}" for name, count in (ended.result or {}).items())
    note(f"{counts or 'nothing compared'}{f'; not finished: {ended.error}' if ended.error else ''}")
    return ended.error is not None


async def _tenant_of(database: Database, organization: str | None, tenant: str | None) -> str:
    from operators import declaring
    from service.directory import organizations
    from service.errors import Refused

    if organization is not None:
        registered = await database.read(lambda tx: declaring.the_organization(tx, organization))
        return registered.organization.tenant
    known = {each.name for each in await database.read(organizations.tenants)}
    if tenant is None or tenant not in known:
        raise Refused(f"There is no tenant {tenant}: it is one of {', '.join(sorted(known))}.")
    return tenant


async def _follow(database: Database, check_id: str) -> Check:
    from rich.console import Console
    from rich.progress import Progress

    from service.directory import drift

    hidden = not sys.stderr.isatty()
    with Progress(console=Console(stderr=True), disable=hidden) as progress:
        bar = progress.add_task("waiting for the lanes", total=None)
        while True:
            check = await database.read(lambda tx: drift.get(tx, check_id))
            assert check is not None
            if check.ended_at is not None:
                return check
            told = check.progress
            progress.update(
                bar,
                description=told["phase"],
                completed=told["done"],
                total=told["total"] or None,
            )
            await asyncio.sleep(0.5)


@app.command("list")
def listing(
    organization: Organization = None,
    tenant: Tenant = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Print what the last compares found and what still differs."""
    if (organization is None) == (tenant is None):
        raise typer.BadParameter("name an organization, or a tenant with --tenant")
    run(lambda: _list(organization, tenant, data_dir, as_json))


async def _list(
    organization: str | None, tenant: str | None, data_dir: Path | None, as_json: bool
) -> None:
    from service.directory import drift

    async with opened(data_dir) as here:
        where = await _tenant_of(here.database, organization, tenant)
        found = await here.database.read(lambda tx: drift.listing(tx, where, organization, _MOST))
    _print(found, as_json=as_json)


def _print(found: list[Finding], *, as_json: bool) -> None:
    from operators.showing_organization import difference

    if as_json:
        for each in found:
            json_line(document(each))
        return
    table(
        ("found", "organization", "user", "in Auth0", "differs", "being corrected"),
        (
            (
                each.found_at,
                each.organization,
                each.user_id,
                each.auth0_user_id,
                difference(each),
                "yes" if each.correcting else "",
            )
            for each in found
        ),
    )
