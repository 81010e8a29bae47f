"""``provisioner events approve|refuse``: the operator's answer to leavers who wait for one."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from operators.commands.printing import document, json_line, line, note
from operators.commands.running import Actor, AsJson, DataDir, acting, now, opened, run

if TYPE_CHECKING:
    from service.directory.database import Transaction
    from service.directory.results import Result

Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]…", show_default=False)]
Organization = Annotated[
    str | None,
    typer.Option("--organization", metavar="ORG", help="All staged leavers of this organization."),
]
All = Annotated[bool, typer.Option("--all", help="All staged leavers there are.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell what would be done.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def approve(
    ids: Ids = None,
    organization: Organization = None,
    everything: All = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    data_dir: DataDir = None,
    actor: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Let staged leavers go: those named, an organization's, or all."""
    _require_choice(ids, organization, everything)
    who = acting(actor)
    if run(lambda: _answer(ids, organization, True, "", dry_run, yes, data_dir, who, as_json)):
        raise typer.Exit(1)


def refuse(
    ids: Ids = None,
    organization: Organization = None,
    everything: All = False,
    reason: Annotated[str, typer.Option(help="Why, for the audit log.")] = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    data_dir: DataDir = None,
    actor: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Keep staged leavers in, until their source speaks of their status again."""
    _require_choice(ids, organization, everything)
    who = acting(actor)
    if run(lambda: _answer(ids, organization, False, reason, dry_run, yes, data_dir, who, as_json)):
        raise typer.Exit(1)


def _require_choice(ids: list[str] | None, organization: str | None, everything: bool) -> None:
    if sum((bool(ids), organization is not None, everything)) != 1:
        raise typer.BadParameter("give ids, or --organization, or --all")


async def _answer(
    ids: list[str] | None,
    organization: str | None,
    approving: bool,
    reason: str,
    dry_run: bool,
    yes: bool,
    data_dir: Path | None,
    actor: str,
    as_json: bool,
) -> bool:
    """Whether something failed. Who names an event wants something done with it."""
    from operators.commands import selecting
    from service.directory import staging

    def examine(transaction: Transaction, event_id: str) -> Result:
        return staging.examine(transaction, event_id, approving=approving)

    def carry_out(transaction: Transaction, event_id: str) -> Result:
        if approving:
            return staging.approve(transaction, event_id, actor=actor, now=now())
        return staging.refuse(transaction, event_id, actor=actor, now=now(), reason=reason)

    chosen = selecting.Chosen(organization=organization, state="staged")
    async with opened(data_dir) as here:
        selected = ids or await selecting.ids(here.database, chosen)
        if not ids and selected and not dry_run and not yes:
            _confirm(len(selected), organization, approving)
        results = await selecting.each(
            here.database,
            selected,
            examine if dry_run else carry_out,
            reading=dry_run,
            doing="approving" if approving else "refusing",
        )
    for result in results:
        if as_json:
            json_line(document(result) | {"dry_run": dry_run})
        else:
            line(f"{result.event_id} {result.verdict}: {result.reason}")
    counts = Counter(result.verdict for result in results)
    said = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
    note(("would be: " if dry_run else "") + (said or "nobody is staged"))
    return bool(counts["failed"] or (ids and counts["skipped"]))


def _confirm(count: int, organization: str | None, approving: bool) -> None:
    if not sys.stdin.isatty():
        said = f"this is about {count} leavers: say --yes"
        raise typer.BadParameter(said, param_hint="--yes")
    whose = f"of {organization}" if organization is not None else "of all organizations"
    does = "Lock out" if approving else "Keep in"
    typer.confirm(f"{does} {count} leavers {whose}?", abort=True, err=True)
