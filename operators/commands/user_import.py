"""``provisioner user import``: people from another system, with their password hashes."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from operators.commands.printing import document, json_line, note, table
from operators.commands.running import Actor, AsJson, DataDir, acting, now, opened, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.progress import Progress

    from operators.migrating import Row
    from operators.migration_rows import Coming, Mistake
    from service.directory.database import Database
    from service.directory.migrants import Migrant
    from service.directory.organizations import Registered
    from service.people import User

_MOST_MISTAKES: Final = 20


def import_(
    organization: Annotated[str, typer.Argument(metavar="ORG")],
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="JSON Lines or a JSON array; - reads standard input."),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the plan.")] = False,
    skip_refused: Annotated[
        bool, typer.Option("--skip-refused", help="Store the others where some rows are refused.")
    ] = False,
    results: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write what became of each row, as JSON Lines."),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Stay until every import has answered.")
    ] = True,
    data_dir: DataDir = None,
    actor: Actor = None,
) -> None:
    """Bring people from another system, with their password hashes, by Auth0's import jobs.

    The running installation does it; this command may end meanwhile, and be run again.
    """
    failed = run(
        lambda: _import(
            organization, file, dry_run, skip_refused, results, wait, data_dir, acting(actor)
        )
    )
    if failed:
        raise typer.Exit(1)


async def _import(
    organization: str,
    file: Path,
    dry_run: bool,
    skip_refused: bool,
    results: Path | None,
    wait: bool,
    data_dir: Path | None,
    actor: str,
) -> bool:
    from operators import declaring, migrating

    async with opened(data_dir) as here:
        pepper = here.settings.pepper()
        registered = await here.database.read(
            lambda tx: declaring.the_organization(tx, organization)
        )
        migrating.require_importable(registered)
        found = await _found(here.database, registered, file)
        await _tell_plan(here.database, registered, found)
        stop = bool(found.refused) and not skip_refused
        if dry_run or stop or not found.known:
            if stop and not dry_run:
                note("Nothing is stored: mend the rows, or leave them out by --skip-refused.")
            if results is not None and not dry_run:
                _write(results, found.refused)
            return bool(found.refused)
        rows = await _carried_out(here.database, registered, found, pepper, wait, actor)
    if results is not None:
        _write(results, rows)
    counts = Counter(each.status for each in rows)
    note(", ".join(f"{count} {status}" for status, count in sorted(counts.items())))
    return counts["refused"] > 0


@dataclass(slots=True, kw_only=True)
class _Found:
    """A file's people, with whom the directory has of them, and the rows that are no use."""

    run: str
    known: list[tuple[Coming, User | None, Migrant | None]]
    refused: list[Row]


async def _found(database: Database, registered: Registered, file: Path) -> _Found:
    from operators import exports, migrating, migration_rows

    name = registered.organization.name
    with exports.opened_file(file) as opened_file:
        content = opened_file.read()
    coming, mistakes = _fit(*migration_rows.gathered(content), registered)
    _tell_mistakes(mistakes)
    return _Found(
        run=migrating.run_of(name, content),
        known=await migrating.look_up(database, name, coming),
        refused=[migrating.Row(**_of_mistake(each)) for each in mistakes],
    )


async def _tell_plan(database: Database, registered: Registered, found: _Found) -> None:
    from operators import migrating
    from service.directory import organizations
    from service.organizations import Tenant

    tenants = await database.read(organizations.tenants)
    tenant = registered.organization.tenant
    rates = next((each for each in tenants if each.name == tenant), Tenant(name=tenant)).plan
    expected = migrating.plan(found.known, found.run, rates)
    note(
        f"{expected.new} new ({expected.blocked} of them blocked: not made in Auth0),"
        f" {expected.here} already there, {expected.resumed} of an earlier run of this file,"
        f" {len(found.refused)} refused; {expected.files} import files, about"
        f" {max(1, round(expected.seconds / 60))} min"
    )
    if expected.own_ids:
        note(f"user_id of {expected.own_ids} rows is not taken over: Auth0's ids are made here.")


async def _carried_out(
    database: Database,
    registered: Registered,
    found: _Found,
    pepper: bytes,
    wait: bool,
    actor: str,
) -> list[Row]:
    """Stores them and follows what becomes of them; by line, as far as it is known by then."""
    from rich.console import Console
    from rich.progress import Progress

    from operators import migrating
    from service.sealing import sealer_of_hashes

    name = registered.organization.name
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        storing = progress.add_task("storing", total=len(found.known))
        rows = await migrating.store(
            database,
            registered,
            found.known,
            run=found.run,
            sealer=sealer_of_hashes(pepper),
            actor=actor,
            clock=now,
            progress=lambda done: progress.update(storing, advance=done),
        )
        found.known.clear()  # a file may have hundreds of thousands of them
        note(f"Stored as {found.run}: 'provisioner user imports {name}' shows its state.")
        if wait:
            await _follow(database, name, found.run, progress)
    rows = await migrating.became(database, name, found.run, rows)
    return sorted([*rows, *found.refused], key=lambda each: each.line)


def _fit(
    coming: Sequence[Coming], mistakes: Sequence[Mistake], registered: Registered
) -> tuple[list[Coming], list[Mistake]]:
    from operators import migrating
    from operators.migration_rows import Mistake

    reasons = {each.line: migrating.unfit(registered, each, now()) for each in coming}
    unfit = [
        Mistake(line=each.line, email=each.email, reason=reason)
        for each in coming
        if (reason := reasons[each.line]) is not None
    ]
    fit = [each for each in coming if reasons[each.line] is None]
    return fit, sorted([*mistakes, *unfit], key=lambda each: each.line)


def _tell_mistakes(mistakes: Sequence[Mistake]) -> None:
    for each in mistakes[:_MOST_MISTAKES]:
        note(f"line {each.line}: {each.reason}")
    if len(mistakes) > _MOST_MISTAKES:
        note(f"… and {len(mistakes) - _MOST_MISTAKES} more: --results FILE names all of them")


def _of_mistake(mistake: Mistake) -> dict[str, Any]:
    return {
        "line": mistake.line,
        "email": mistake.email,
        "status": "refused",
        "reason": mistake.reason,
    }


async def _follow(database: Database, organization: str, file_id: str, progress: Progress) -> None:
    from service.directory import migrants

    bar = progress.add_task("importing", total=None)
    while True:
        counts = await database.read(lambda tx: migrants.counts(tx, organization, file_id))
        total = sum(counts.values())
        waiting = counts.get("waiting", 0)
        progress.update(bar, completed=total - waiting, total=total or None)
        if not waiting:
            return
        await asyncio.sleep(0.5)


def _write(path: Path, rows: Sequence[Row]) -> None:
    import orjson

    with path.open("wb") as file:
        for row in rows:
            file.write(orjson.dumps(document(row), option=orjson.OPT_APPEND_NEWLINE))


def imports(
    organization: Annotated[str | None, typer.Argument(metavar="ORG", show_default=False)] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show how far the files of 'user import' are."""
    run(lambda: _imports(organization, data_dir, as_json))


async def _imports(organization: str | None, data_dir: Path | None, as_json: bool) -> None:
    from service.directory import migrants

    async with opened(data_dir) as here:
        found = await here.database.read(lambda tx: migrants.runs(tx, organization))
    if as_json:
        for each in found:
            json_line(document(each))
        return
    table(
        (
            "organization",
            "file",
            "began",
            "ended",
            "waiting",
            "created",
            "already there",
            "refused",
        ),
        (
            (
                each.organization,
                each.run,
                each.began_at,
                each.ended_at,
                each.waiting,
                each.created,
                each.already_there,
                each.refused,
            )
            for each in found
        ),
    )
