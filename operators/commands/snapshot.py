"""``provisioner events snapshot``: a full export of HR against whom we know, and stored as one."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from operators.commands.printing import document, json_line, line, note
from operators.commands.running import Actor, AsJson, DataDir, acting, now, opened, run

if TYPE_CHECKING:
    from rich.progress import Progress

    from operators.exports import Gathered, Reader
    from service.directory.database import Database

_MOST_MISTAKES: Final = 20


def snapshot(
    organization: Annotated[str, typer.Argument(metavar="ORG")],
    file: Annotated[
        Path, typer.Option("--file", help="JSON Lines, a worker a line; - reads standard input.")
    ],
    mapping: Annotated[
        str, typer.Option("--mapping", metavar="NAME|FILE", help="What reads the lines.")
    ] = "canonical",
    name: Annotated[
        str | None,
        typer.Option(help="Of this snapshot, never used again. By default the time of the file."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only compare.")] = False,
    data_dir: DataDir = None,
    actor: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Compare a full export of HR with whom we know; whoever it does not name has left."""
    failed = run(
        lambda: _snapshot(
            organization, file, mapping, name, dry_run, data_dir, acting(actor), as_json
        )
    )
    if failed:
        raise typer.Exit(1)


async def _snapshot(
    organization: str,
    file: Path,
    mapping: str,
    name: str | None,
    dry_run: bool,
    data_dir: Path | None,
    actor: str,
    as_json: bool,
) -> bool:
    from rich.console import Console
    from rich.progress import Progress

    from operators import declaring, exports

    began = now()
    reader = exports.reader(mapping, began)
    async with opened(data_dir) as here:
        registered = await here.database.read(
            lambda tx: declaring.the_organization(tx, organization)
        )
        hidden = not sys.stderr.isatty()
        with (
            exports.gathering() as gathered,
            Progress(console=Console(stderr=True), disable=hidden) as progress,
        ):
            mistakes = _gather(gathered, file, reader, organization, progress, began)
            if not len(gathered):
                note("The file names nobody, so nothing is compared.")
                return True
            taken = _taken_at(file, began)
            await _compare(here.database, organization, gathered, taken, progress, as_json)
            if mistakes:
                note(f"{mistakes} lines could not be read: nothing is stored.")
                return True
            if dry_run:
                return False
            named = name or f"{taken:%Y-%m-%dT%H:%M:%SZ}"
            storing = progress.add_task("storing", total=len(gathered))
            count = await exports.store(
                here.database,
                registered,
                gathered,
                run=named,
                taken_at=taken,
                actor=actor,
                clock=now,
                progress=lambda done: progress.update(storing, advance=done),
            )
    note(
        f"Stored as snapshot {named} of {count} workers; the running installation goes on with it."
    )
    return False


def _gather(
    gathered: Gathered,
    file: Path,
    reader: Reader,
    organization: str,
    progress: Progress,
    at: datetime,
) -> int:
    """Reads the file; tells the first lines that cannot be read, and returns how many there are."""
    from consumers.unusable import Unusable
    from operators import exports

    mistakes = 0
    size = file.stat().st_size if file.is_file() else None
    reading = progress.add_task("reading", total=size)
    with exports.opened_file(file) as content:
        for number, text in enumerate(content, start=1):
            progress.update(reading, advance=len(text))
            if not text.strip():
                continue
            try:
                gathered.add(reader(text, number), organization, at)
            except Unusable as problem:
                mistakes += 1
                if mistakes <= _MOST_MISTAKES:
                    note(f"line {number}: {problem.code}: {problem.message}")
    return mistakes


def _taken_at(file: Path, began: datetime) -> datetime:
    """When the file was written: what HR has said since then, it cannot know."""
    if not file.is_file():
        return began
    return min(began, datetime.fromtimestamp(file.stat().st_mtime, UTC))


async def _compare(
    database: Database,
    organization: str,
    gathered: Gathered,
    taken: datetime,
    progress: Progress,
    as_json: bool,
) -> None:
    from operators import exports

    counts = dict.fromkeys(("unchanged", "changed", "new", "left", "out", "absent"), 0)
    comparing = progress.add_task("comparing", total=len(gathered))
    async for each in exports.differences(database, organization, gathered, taken, now()):
        counts[each.verdict] += 1
        if each.verdict != "absent":
            progress.update(comparing, advance=1)
        if each.verdict == "unchanged":
            continue
        if as_json:
            json_line(document(each))
        else:
            line(f"{each.verdict:<8} {each.worker_id} {', '.join(each.attributes)}".rstrip())
    note(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
