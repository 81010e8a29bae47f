"""``provisioner events``: what came in, what became of it, and second chances."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from operators.commands.moments import since as moment_of
from operators.commands.printing import document, json_line, line, note, table
from operators.commands.running import Actor, AsJson, DataDir, acting, now, opened, run
from operators.commands.snapshot import snapshot

if TYPE_CHECKING:
    from operators.commands.selecting import Chosen
    from service.directory.events import Event
    from service.directory.results import Result
    from service.directory.struggles import Struggle

app = typer.Typer(help="Events: list, show, replay, discard; their sources.", no_args_is_help=True)

Organization = Annotated[
    str | None, typer.Option("--organization", metavar="ORG", help="Only this organization's.")
]
State = Annotated[
    str | None,
    typer.Option("--state", help="accepted, scheduled, staged, succeeded, deadlettered, …"),
]
Error = Annotated[str | None, typer.Option("--error", metavar="CODE", help="An error code.")]
User = Annotated[
    str | None,
    typer.Option("--user", help="Our id, userName, externalId, worker id or address."),
]
Since = Annotated[
    str | None, typer.Option("--since", help="RFC 3339, or an age: 15m, 2h, 3d.", metavar="WHEN")
]
Trouble = Annotated[
    bool,
    typer.Option(
        "--trouble", help="Only what was dead-lettered or rejected and waits for an operator."
    ),
]
Retrying = Annotated[
    bool,
    typer.Option("--retrying", help="Only what was tried in vain so far, or may not be tried now."),
]
Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]…", show_default=False)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell what would be done.")]


@app.command("list")
def list_(
    organization: Organization = None,
    state: State = None,
    error: Error = None,
    user: User = None,
    since: Since = None,
    trouble: Trouble = False,
    retrying: Retrying = False,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, help="The newest so many. A table shows 50 by default, --json everything."
        ),
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List events in the order in which they were accepted."""
    chosen = _chosen(organization, state, error, user, since, trouble, retrying)
    run(lambda: _list(chosen, limit, data_dir, as_json))


async def _list(chosen: Chosen, limit: int | None, data_dir: Path | None, as_json: bool) -> None:
    from operators.commands import selecting
    from service.directory import struggles

    async with opened(data_dir) as here:
        if as_json and limit is None:
            async for event in selecting.every(here.database, chosen):
                json_line(_brief(event))
            return
        found = await selecting.newest(here.database, chosen, limit or 50)
        ids = [event.id for event in found]
        struggling = await here.database.read(lambda tx: struggles.of_events(tx, ids))
    if as_json:
        for event in found:
            json_line(_brief(event))
        return
    table(
        ("accepted", "id", "organization", "door", "type", "state", "error", "user"),
        (
            (
                event.accepted_at,
                event.id,
                event.organization,
                event.door,
                event.type,
                f"{event.state} ({event.result})" if event.result else event.state,
                _wrong(event, struggling.get(event.id)),
                event.user_id,
            )
            for event in found
        ),
    )
    if len(found) == (limit or 50):
        note(f"The newest {len(found)}; --limit shows more.")


@app.command()
def show(
    event_id: Annotated[str, typer.Argument(metavar="ID")],
    raw: Annotated[
        bool, typer.Option("--raw", help="Write the original bytes, as received.")
    ] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show one event: its body, what it waits for, how it ended, its replays."""
    run(lambda: _show(event_id, raw, data_dir, as_json))


async def _show(event_id: str, raw: bool, data_dir: Path | None, as_json: bool) -> None:
    import sys

    from operators import showing

    async with opened(data_dir) as here:
        shown = await here.database.read(lambda tx: showing.event(tx, event_id))
    if raw:
        sys.stdout.flush()
        sys.stdout.buffer.write(shown.event.body or b"")
        return
    if as_json:
        json_line(
            document(shown.event)
            | {
                "waits_for": shown.waits_for,
                "untouched_users": shown.untouched_users,
                "enrichment": shown.enrichment,
                "outcomes": [document(each) for each in shown.outcomes],
                "replays": [_brief(each) for each in shown.replays],
                "audit": [document(each) for each in shown.audit],
            }
        )
        return
    for name, value in showing.facts(shown.event):
        line(f"{name:<14} {value}")
    for heading, rows in showing.sections(shown):
        line(f"\n{heading}")
        for row in rows:
            line(f"  {row}")
    line("\nbody")
    line(showing.pretty(shown.event.body))


@app.command()
def replay(
    ids: Ids = None,
    organization: Organization = None,
    state: State = None,
    error: Error = None,
    user: User = None,
    since: Since = None,
    dry_run: DryRun = False,
    force: Annotated[bool, typer.Option("--force", help="Also events that succeeded.")] = False,
    data_dir: DataDir = None,
    actor: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Give events a second chance: those named, or all of a filter that ended in trouble."""
    chosen = _chosen(organization, state, error, user, since, trouble=not force)
    _require_choice(ids, chosen)
    failed = run(
        lambda: _replay(ids or [], chosen, dry_run, force, data_dir, acting(actor), as_json)
    )
    if failed:
        raise typer.Exit(1)


async def _replay(
    ids: list[str],
    chosen: Chosen,
    dry_run: bool,
    force: bool,
    data_dir: Path | None,
    actor: str,
    as_json: bool,
) -> bool:
    from operators import reading
    from operators.commands import selecting
    from service.directory import replays
    from service.directory.database import Transaction

    def examine(transaction: Transaction, event_id: str) -> Result:
        return replays.examine(transaction, event_id, read=reading.read, force=force)

    def carry_out(transaction: Transaction, event_id: str) -> Result:
        return replays.replay(
            transaction, event_id, read=reading.read, actor=actor, now=now(), force=force
        )

    async with opened(data_dir) as here:
        selected = ids or await selecting.ids(here.database, chosen)
        work = examine if dry_run else carry_out
        results = await selecting.each(
            here.database, selected, work, reading=dry_run, doing="replaying"
        )
    return _report(results, named=bool(ids), as_json=as_json, dry_run=dry_run)


@app.command()
def discard(
    ids: Ids = None,
    reason: Annotated[str, typer.Option(help="Why, for the audit log.")] = "",
    organization: Organization = None,
    state: State = None,
    error: Error = None,
    user: User = None,
    since: Since = None,
    dry_run: DryRun = False,
    data_dir: DataDir = None,
    actor: Actor = None,
    as_json: AsJson = False,
) -> None:
    """End open events for good; take those that ended in trouble off the list of trouble."""
    if not reason.strip() and not dry_run:
        raise typer.BadParameter("say why, for those who read the audit log", param_hint="--reason")
    chosen = _chosen(organization, state, error, user, since, trouble=state is None)
    _require_choice(ids, chosen)
    failed = run(
        lambda: _discard(ids or [], chosen, reason, dry_run, data_dir, acting(actor), as_json)
    )
    if failed:
        raise typer.Exit(1)


async def _discard(
    ids: list[str],
    chosen: Chosen,
    reason: str,
    dry_run: bool,
    data_dir: Path | None,
    actor: str,
    as_json: bool,
) -> bool:
    from operators.commands import selecting
    from service.directory import discards
    from service.directory.database import Transaction

    def examine(transaction: Transaction, event_id: str) -> Result:
        return discards.examine(transaction, event_id)

    def carry_out(transaction: Transaction, event_id: str) -> Result:
        return discards.discard(transaction, event_id, reason=reason, actor=actor, now=now())

    async with opened(data_dir) as here:
        selected = ids or await selecting.ids(here.database, chosen)
        work = examine if dry_run else carry_out
        results = await selecting.each(
            here.database, selected, work, reading=dry_run, doing="discarding"
        )
    return _report(results, named=bool(ids), as_json=as_json, dry_run=dry_run)


@app.command()
def sources(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List where events come from: topic, mapping, how far behind, and which source is stopped."""
    run(lambda: _sources(data_dir, as_json))


async def _sources(data_dir: Path | None, as_json: bool) -> None:
    from dataclasses import replace

    from operators import sources

    async with opened(data_dir) as here:
        listed = await here.database.read(sources.listing)
        settings = here.settings
    lags: dict[str, int] = {}
    if settings.kafka_bootstrap_servers and listed:
        from operators.lag import lags_of
        from service.kafka import connection_of

        topics = {each.topic for each in listed if each.topic is not None}
        lags = await lags_of(connection_of(settings), settings.kafka_group_id, topics)
    listed = [replace(each, lag=lags.get(each.topic or "")) for each in listed]
    if as_json:
        for each in listed:
            json_line(document(each))
        return
    table(
        (
            *("source", "topic", "mapping", "organizations", "lag", "failures", "stopped since"),
            *("asks", "waiting", "no answer"),
        ),
        (
            (
                each.name,
                each.topic,
                each.mapping,
                ", ".join(each.organizations),
                each.lag,
                f"{each.failures} of {each.fuse}" if each.fuse else "not counted",
                each.stopped_at,
                each.asks,
                each.waiting or None,
                each.no_answer and each.no_answer["code"],
            )
            for each in listed
        ),
    )


@app.command()
def resume(
    source: Annotated[str, typer.Argument(metavar="SOURCE")],
    data_dir: DataDir = None,
    actor: Actor = None,
) -> None:
    """Let a source go on that stopped because too many of its events failed one after the other."""
    run(lambda: _resume(source, data_dir, acting(actor)))


async def _resume(source: str, data_dir: Path | None, actor: str) -> None:
    from operators import sources

    async with opened(data_dir) as here:
        await here.database.transact(lambda tx: sources.resume(tx, source, actor=actor, now=now()))
    note(f"{source} goes on within seconds. What failed is in 'events list --trouble'.")


app.command()(snapshot)


@app.command("map")
def map_(
    file: Annotated[
        Path, typer.Option("--file", help="JSON Lines, one payload a line; - reads standard input.")
    ],
    mapping: Annotated[
        str, typer.Option("--mapping", metavar="NAME|FILE", help="What reads the payloads.")
    ] = "canonical",
    zone: Annotated[
        str | None, typer.Option("--zone", help="The source's: for dates that name none.")
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Also what the events would do. Nothing is done.")
    ] = False,
    organization: Annotated[
        str | None, typer.Option("--organization", metavar="ORG", help="Whose events they are.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Show the canonical worker events that payloads map to. Nothing is stored.

    The tests of a mapping's FILE run first.
    """
    from operators.commands import mapping as command

    if plan != (organization is not None):
        raise typer.BadParameter("--plan and --organization go together")
    if run(lambda: command.map_(mapping, file, zone, organization, data_dir)):
        raise typer.Exit(1)


@app.command()
def mappings(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the mappings: those that are shipped, and those that this installation declared."""
    from operators.commands import mapping

    run(lambda: mapping.list_(data_dir, as_json))


def _chosen(
    organization: str | None,
    state: str | None,
    error: str | None,
    user: str | None,
    since: str | None,
    trouble: bool,
    retrying: bool = False,
) -> Chosen:
    from typing import get_args

    from operators.commands.selecting import Chosen
    from service.directory.events import EventState

    if state is not None and state not in get_args(EventState):
        raise typer.BadParameter(
            f"{state!r} is none of {', '.join(get_args(EventState))}", param_hint="--state"
        )
    try:
        begun = moment_of(since, now()) if since is not None else None
    except ValueError as mistake:
        raise typer.BadParameter(str(mistake), param_hint="--since") from None
    return Chosen(
        organization=organization,
        state=state,
        error=error,
        user=user,
        since=begun,
        trouble=trouble,
        retrying=retrying,
    )


def _require_choice(ids: list[str] | None, chosen: Chosen) -> None:
    if ids and chosen.narrows:
        raise typer.BadParameter("give ids or filters, not both")
    if not ids and not chosen.narrows:
        raise typer.BadParameter("give ids, or at least one filter such as --error or --since")


def _report(results: list[Result], *, named: bool, as_json: bool, dry_run: bool) -> bool:
    """Prints every result and a summary; whether something failed.

    Who names an event wants something done: that nothing was done is a failure then.
    """
    for result in results:
        if as_json:
            json_line(document(result) | {"dry_run": dry_run})
        else:
            new = f" as {result.replay_id}" if result.replay_id else ""
            line(f"{result.event_id} {result.verdict}{new}: {result.reason}")
    counts: dict[str, int] = {}
    for result in results:
        counts[result.verdict] = counts.get(result.verdict, 0) + 1
    said = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
    note(("would be: " if dry_run else "") + (said or "no event matches"))
    return bool(counts.get("failed") or (named and counts.get("skipped")))


def _wrong(event: Event, struggle: Struggle | None) -> str | None:
    """The code of how it failed; of what is still open, what is in its way."""
    return str(struggle) if struggle is not None else (event.error or {}).get("code")


def _brief(event: Event) -> dict[str, Any]:
    """An event without its bytes: ``events show`` has them."""
    shown = document(event)
    for name in ("body", "headers", "key"):
        del shown[name]
    return shown
