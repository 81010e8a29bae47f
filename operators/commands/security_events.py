"""``provisioner org security-events``: the streams, letting a stopped one go on, trying one out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from operators.commands.printing import document, json_line, line, moment, table
from operators.commands.running import Actor, AsJson, DataDir, acting, now, opened, run

app = typer.Typer(help="Streams of Security Event Tokens to receivers.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="ORG", help="The organization's name.")]


@app.command("list")
def list_(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the streams: what waits, since when, and why it does."""
    run(lambda: _list(data_dir, as_json))


async def _list(data_dir: Path | None, as_json: bool) -> None:
    from service.directory import streams

    async with opened(data_dir) as here:
        found = await here.database.read(streams.every)
    if as_json:
        for each in found:
            json_line(document(each))
        return
    table(
        ("organization", "state", "waiting", "since", "delivered", "last failure"),
        (
            (
                each.organization,
                f"stopped {moment(each.stopped_at)}" if each.stopped_at else "running",
                each.waiting,
                each.since,
                each.delivered_at or "never",
                f"{each.error['code']}: {each.error['message']}" if each.error else None,
            )
            for each in found
        ),
    )


@app.command()
def resume(
    name: Name,
    skip: Annotated[
        bool, typer.Option("--skip", help="Leave out the event that was refused, for good.")
    ] = False,
    data_dir: DataDir = None,
    actor: Actor = None,
) -> None:
    """Let a stopped stream go on, where it stopped. Nothing that waits is lost."""
    run(lambda: _resume(name, skip, data_dir, acting(actor)))


async def _resume(name: str, skip: bool, data_dir: Path | None, actor: str) -> None:
    from operators import security_events

    at = now()
    async with opened(data_dir) as here:
        skipped = await here.database.transact(
            lambda tx: security_events.resume(tx, name, skip=skip, actor=actor, now=at)
        )
    left_out = f", without {skipped}" if skipped is not None else ""
    line(f"the stream of {name} goes on{left_out}")


@app.command()
def verify(name: Name, data_dir: DataDir = None, actor: Actor = None) -> None:
    """Send a verification event, after all that waits: 'list' tells whether it arrived."""
    run(lambda: _verify(name, data_dir, acting(actor)))


async def _verify(name: str, data_dir: Path | None, actor: str) -> None:
    from operators import security_events

    at = now()
    async with opened(data_dir) as here:
        await here.database.transact(
            lambda tx: security_events.verify(tx, name, actor=actor, now=at)
        )
    line(f"a verification event waits in the stream of {name}")
