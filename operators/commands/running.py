"""What every command shares: its options, the database it works on, and who is at the keyboard."""

from __future__ import annotations

import asyncio
import getpass
import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from service.configuration import Settings
    from service.directory.database import Database

T = TypeVar("T")

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="D",
        help="The directory of an installation started by 'provisioner dev'. Without it, settings"
        " come from the environment; where that names no database, from .provisioner.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON Lines on standard output.")]
Actor = Annotated[
    str | None,
    typer.Option(help="Who does this, for the audit log. By default the user of this machine."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The installation that a command works on."""

    settings: Settings
    database: Database


def end_when_asked() -> None:
    """From here to the serving loop's own handlers, SIGTERM ends the process with status 0.

    For processes that stay: an orchestrator may change its mind while they import and connect. At
    once, since Python ignores what is raised in a finalizer or a callback of a weak reference, and
    every import has some: the request would be lost. Nothing has been promised to anybody yet.
    """
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))


def settings_for(data_dir: Path | None) -> Settings:
    """Settings of a data dir, or of the environment. Raises ConfigurationError.

    Where the environment names neither a database nor a pepper, they are those of what ``provisioner
    dev`` keeps in the working directory, if it does.
    """
    from operators import installation
    from service.configuration import load

    if data_dir is None:
        settings = load()
        if settings.model_fields_set & {"database_url", "token_pepper"}:
            return settings
        if not installation.is_in(installation.HERE):
            return settings
        data_dir = installation.HERE
    return installation.settings_of(data_dir)


@asynccontextmanager
async def opened(data_dir: Path | None) -> AsyncGenerator[Running]:
    """The installation, open. Raises ConfigurationError where it has no schema of ours."""
    from sqlalchemy.exc import OperationalError, ProgrammingError

    from operators.installation import NoInstallation
    from service.directory.database import open_database, sqlite_file

    settings = settings_for(data_dir)
    url = settings.database_url.get_secret_value()
    file = sqlite_file(url)
    if file is not None and not file.exists():
        raise NoInstallation(
            f"There is no database {file}: name the installation with --data-dir, or set"
            " PROVISIONER_DATABASE_URL; 'provisioner db upgrade' makes a new one."
        )
    database = open_database(url)
    try:
        yield Running(settings=settings, database=database)
    except (OperationalError, ProgrammingError):
        from service.directory import migrate

        await migrate.require_current(url)  # says what to do where the schema is the cause
        raise
    finally:
        await database.close()


def run(work: Callable[[], Awaitable[T]]) -> T:
    """Runs a command's coroutine to its end."""

    async def begin() -> T:
        return await work()

    return asyncio.run(begin())


def acting(actor: str | None) -> str:
    """Who is at the keyboard: as given, else this machine's name for them."""
    if actor:
        return actor
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return f"uid {os.getuid()}"


def now() -> datetime:
    return datetime.now(UTC)
