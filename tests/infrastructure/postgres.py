"""A Postgres server for the tests, and databases on it.

Knows where a server may come from and how it is started; knows nothing of our tables.
"""

import contextlib
import os
import pwd
import re
import secrets
import shutil
import time
from collections.abc import AsyncGenerator, Generator, Mapping
from pathlib import Path
from signal import SIGINT, SIGQUIT

import asyncpg
from sqlalchemy.engine import URL, make_url

from tests.infrastructure.availability import UnavailableError, container_engine_answers
from tests.infrastructure.processes import (
    RunningProcess,
    free_ports,
    run_apart,
    scratch_directory,
    start,
    tail,
)

_IMAGE = "postgres:17-alpine"
_DRIVER = "postgresql+asyncpg"
_SUPERUSER = "tests"
# Tests ask what survives the death of our process, never of the machine.
_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "timezone": "UTC",
}
# What is measured must have been written.
_DURABLE = {
    **_SETTINGS,
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
}


@contextlib.contextmanager
def postgres_server(
    environment: Mapping[str, str] = os.environ, *, durable: bool = False
) -> Generator[str]:
    """URL (`postgresql+asyncpg://…`) of a server whose user may create databases.

    `durable`: one that we start writes to disk before it answers, as for benchmarks.

    From `TEST_DATABASE_URL`, else a container engine, else a local `postgres` binary; the last two
    are stopped at the end. Raises UnavailableError when there is none of these.
    """
    settings = _DURABLE if durable else _SETTINGS
    if given := environment.get("TEST_DATABASE_URL"):
        yield make_url(given).set(drivername=_DRIVER).render_as_string(hide_password=False)
    elif container_engine_answers():
        with _container(settings) as url:
            yield url
    elif (binaries := _binaries()) is not None:
        with _local(binaries, settings) as url:
            yield url
    else:
        raise UnavailableError(
            "no Postgres: set TEST_DATABASE_URL, start a container engine, "
            "or install a Postgres server (Debian: apt-get install postgresql)"
        )


async def create_database(server_url: str, *, template: str | None = None) -> str:
    """URL of a new, empty database (or a copy of `template`, which nobody may be connected to)."""
    name = f"test_{secrets.token_hex(6)}"
    copy = f' TEMPLATE "{template}"' if template else ""
    await _execute(server_url, f'CREATE DATABASE "{name}"{copy}')
    return make_url(server_url).set(database=name).render_as_string(hide_password=False)


async def drop_database(server_url: str, database_url: str) -> None:
    """Drop it, closing whatever connections are left."""
    name = make_url(database_url).database
    await _execute(server_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncGenerator[asyncpg.Connection]:
    """A connection beside those of the program under test."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await asyncpg.connect(plain, timeout=10)
    try:
        yield connection
    finally:
        await connection.close()


async def _execute(url: str, statement: str) -> None:
    async with connected(url) as connection:
        await connection.execute(statement)


@contextlib.contextmanager
def _container(settings: Mapping[str, str]) -> Generator[str]:
    from testcontainers.community.postgres import PostgresContainer

    flags = " ".join(f"-c {name}={value}" for name, value in settings.items())
    container = PostgresContainer(_IMAGE, driver="asyncpg").with_command(f"postgres {flags}")
    with container:
        yield container.get_connection_url()


def _binaries() -> Path | None:
    """The folder with `postgres` and `initdb`: of the newest version Debian has, else on PATH."""
    found = sorted(
        (file for file in Path("/usr/lib/postgresql").glob("*/bin/initdb")),
        key=lambda file: [int(part) for part in re.findall(r"\d+", file.parts[-3])],
    )
    on_path = [Path(initdb).resolve()] if (initdb := shutil.which("initdb")) else []
    for candidate in [*on_path, *reversed(found)]:
        if (candidate.parent / "postgres").exists():
            return candidate.parent
    return None


@contextlib.contextmanager
def _local(binaries: Path, settings: Mapping[str, str]) -> Generator[str]:
    user = _unprivileged_user()
    with scratch_directory("postgres") as directory:
        if user is not None:
            shutil.chown(directory, user)
        password = secrets.token_urlsafe(16)
        _initialise(binaries, directory, password=password, user=user)
        process, url = _listening(binaries, directory, settings, password=password, user=user)
        try:
            yield url
        finally:
            process.stop(SIGINT)  # fast shutdown; SIGTERM would wait for open connections


def _unprivileged_user() -> str | None:
    """Postgres refuses to run as root: then the account of Debian's package, else `nobody`."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _initialise(binaries: Path, directory: Path, *, password: str, user: str | None) -> None:
    # A password, since other users of this machine reach the loopback address too.
    secret = directory / "password"
    secret.write_text(password)
    secret.chmod(0o600)
    if user is not None:
        shutil.chown(secret, user)
    process = start(
        [
            binaries / "initdb",
            *("--pgdata", directory / "data"),
            *("--username", _SUPERUSER),
            *("--pwfile", secret),
            *("--auth", "scram-sha-256"),
            *("--encoding", "UTF8", "--locale", "C"),
            "--no-sync",
        ],
        name="initdb",
        directory=directory,
        working_directory=directory,
        user=user,
    )
    if process.wait(within=60) != 0:
        raise RuntimeError(f"initdb failed\n{tail(process.stdout)}{process}")


def _listening(
    binaries: Path,
    directory: Path,
    settings: Mapping[str, str],
    *,
    password: str,
    user: str | None,
) -> tuple[RunningProcess, str]:
    """Start the server; again on another port where someone took the first one meanwhile."""
    failures: list[str] = []
    for _ in range(3):
        (port,) = free_ports(1)
        placed = {
            **settings,
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": "",
        }
        process = start(
            [
                binaries / "postgres",
                *("-D", directory / "data"),
                *(part for pair in placed.items() for part in ("-c", "=".join(pair))),
            ],
            name="postgres",
            directory=directory,
            working_directory=directory,
            when_orphaned=SIGQUIT,
            user=user,
        )
        url = URL.create(_DRIVER, _SUPERUSER, password, "127.0.0.1", port, "postgres")
        rendered = url.render_as_string(hide_password=False)
        if _accepts_connections(process, rendered):
            return process, rendered
        failures.append(str(process))
    raise RuntimeError("\n".join(["postgres did not start", *failures]))


def _accepts_connections(process: RunningProcess, url: str) -> bool:
    """False once the process has ended, or 60 s have passed."""
    deadline = time.monotonic() + 60
    while process.exit_status is None and time.monotonic() < deadline:
        try:
            run_apart(_execute(url, "SELECT 1"))
        except (OSError, asyncpg.PostgresError):
            time.sleep(0.05)
        else:
            return True
    process.stop(SIGINT)
    return False
