"""``provisioner dev``, ``serve``, ``simulator`` and ``db``: processes that stay, and the schema."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Annotated, Literal

import typer

from operators.commands.printing import line, note
from operators.commands.running import DataDir, end_when_asked, run, settings_for

db = typer.Typer(help="The database's schema.", no_args_is_help=True)
Host = Annotated[str, typer.Option(help="The address to listen on.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free one.")]
_ALL_ROLES = "scim,intake,lanes,publisher,console"


Exchanges = Annotated[
    Path | None,
    typer.Option(
        "--exchanges",
        metavar="D",
        envvar="SIMULATOR_EXCHANGES",
        help="Where the simulator's calls and answers are written down, a few of each form.",
    ),
]


def dev(
    host: Host = "127.0.0.1",
    port: Port = 8080,
    simulator_port: Annotated[
        int, typer.Option(min=0, max=65535, help="The Auth0 simulator's; 0 picks a free one.")
    ] = 9400,
    data_dir: Annotated[
        Path, typer.Option(metavar="D", help="Where everything is kept, over restarts too.")
    ] = Path(".provisioner"),
    no_sample: Annotated[
        bool, typer.Option("--no-sample", help="Do not play the sample day.")
    ] = False,
    exit_after_sample: Annotated[
        bool,
        typer.Option(
            "--exit-after-sample",
            help="End when the sample day is over; status 0 if all went as expected.",
        ),
    ] = False,
    exchanges: Exchanges = None,
) -> None:
    """Run everything in one process on the embedded defaults, with the sample organizations."""
    if no_sample and exit_after_sample:
        raise typer.BadParameter("--no-sample and --exit-after-sample exclude each other")
    end_when_asked()
    from operators import dev as development

    status = development.run(
        host=host,
        port=port,
        simulator_port=simulator_port,
        data_dir=data_dir,
        sample=not no_sample,
        exit_after_sample=exit_after_sample,
        exchanges=exchanges,
    )
    raise typer.Exit(status)


def serve(
    host: Host = "0.0.0.0",  # noqa: S104 - a container's process is reached from outside
    port: Port = 8080,
    roles: Annotated[
        str, typer.Option(help="What this process does, parted by commas.", metavar="ROLE,…")
    ] = _ALL_ROLES,
) -> None:
    """Run a production process: Postgres, Kafka and Auth0 as the environment names them."""
    chosen = frozenset(role.strip() for role in roles.split(",") if role.strip())
    unknown = sorted(chosen - set(_ALL_ROLES.split(",")))
    if unknown or not chosen:
        raise typer.BadParameter(
            f"{', '.join(unknown) or 'nothing'} is no role: {_ALL_ROLES}", param_hint="--roles"
        )
    end_when_asked()
    from operators import composition
    from service import logs
    from service.configuration import load
    from service.memory import look_for_garbage_seldom

    settings = load()
    logs.configure(settings.log_format, settings.log_level)
    look_for_garbage_seldom()
    with asyncio.Runner(loop_factory=_fast_loop()) as runner:
        status = runner.run(composition.serve(settings, roles=chosen, host=host, port=port))
    raise typer.Exit(status)


def simulator(
    host: Host = "127.0.0.1",
    port: Port = 9400,
    plan: Annotated[
        Literal["free", "professional", "enterprise"],
        typer.Option(help="Whose rate limits it keeps."),
    ] = "enterprise",
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir", metavar="D", help="Where its state is kept; without, in memory."
        ),
    ] = None,
    rate_headers: Annotated[
        Literal["group", "global"],
        typer.Option(help="Whose bucket the rate headers tell of, where a call has two."),
    ] = "group",
    exchanges: Exchanges = None,
) -> None:
    """Run the stand-in for Auth0 alone."""
    end_when_asked()
    asyncio.run(_simulator(host, port, plan, data_dir, rate_headers, exchanges))


async def _simulator(
    host: str,
    port: int,
    plan: Literal["free", "professional", "enterprise"],
    data_dir: Path | None,
    rate_headers: Literal["group", "global"],
    exchanges: Path | None,
) -> None:
    from dataclasses import replace

    import orjson

    from operators.process import Server, listen, url_of
    from service.auth0.simulator.app import create_simulator
    from service.auth0.simulator.exchanges import ExchangeLog
    from service.auth0.simulator.limits import LIMITS

    observe = ExchangeLog(exchanges) if exchanges is not None else None
    listening = listen(host, port)
    url = url_of(listening)  # now: a server that is asked to end closes its socket
    limits = replace(LIMITS[plan], headers=rate_headers)
    simulating_auth0 = create_simulator(
        data_dir=data_dir, plan=plan, limits=limits, observe=observe
    )
    server = Server(simulating_auth0, lifespan="on")
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, setattr, server, "should_exit", True)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    await server.until_started(serving)
    typer.echo(orjson.dumps({"ready": True, "url": url, "auth0": url}).decode())
    await serving


@db.command()
def upgrade(data_dir: DataDir = None) -> None:
    """Bring the schema to this release's, from whichever earlier one."""
    run(lambda: _upgrade(data_dir))


async def _upgrade(data_dir: Path | None) -> None:
    from service.directory import migrate

    url = settings_for(data_dir).database_url.get_secret_value()
    before = await migrate.current(url)
    await migrate.upgrade(url)
    after = migrate.newest()
    if before == after:
        note(f"The schema was at revision {after} already.")
    else:
        line(f"The schema is at revision {after} now (before: {before or 'none'}).")


def _fast_loop() -> type[asyncio.AbstractEventLoop] | None:
    """uvloop's loop where it is installed: it is not on every platform."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop
