"""``provisioner audit``: what operators did."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from operators.commands.moments import since as moment_of
from operators.commands.printing import document, json_line, table
from operators.commands.running import AsJson, DataDir, now, opened, run


def audit(
    organization: Annotated[
        str | None, typer.Option("--organization", metavar="ORG", help="Only this organization's.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="RFC 3339, or an age: 15m, 2h, 3d.", metavar="WHEN")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 200,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List what operators did, and who it was."""
    try:
        begun = moment_of(since, now()) if since is not None else None
    except ValueError as mistake:
        raise typer.BadParameter(str(mistake), param_hint="--since") from None
    run(lambda: _audit(organization, begun, limit, data_dir, as_json))


async def _audit(
    organization: str | None,
    since: datetime | None,
    limit: int,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    from operators.declaring import the_organization
    from operators.showing import compact
    from service.directory import audit as entries

    async with opened(data_dir) as here:
        if organization is not None:
            await here.database.read(lambda tx: the_organization(tx, organization))
        found = await here.database.read(
            lambda tx: entries.listing(tx, organization=organization, since=since, limit=limit)
        )
    if as_json:
        for entry in found:
            json_line(document(entry))
        return
    table(
        ("time", "actor", "action", "organization", "subject", "detail"),
        ((e.at, e.actor, e.action, e.organization, e.subject, compact(e.detail)) for e in found),
    )
