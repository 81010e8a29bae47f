"""The servers that are measured: how each is started, filled and asked. One process each."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg
import orjson
from sqlalchemy.engine import make_url

from bench import installing, seed, usage
from bench.seed import Place, Told
from tests.infrastructure.postgres import create_database, drop_database
from tests.infrastructure.processes import (
    PROJECT_ROOT,
    RunningProcess,
    free_ports,
    provisioner,
    run_apart,
    start,
)

OURS_ON_SQLITE: Final = "ours on SQLite"
OURS_ON_POSTGRES: Final = "ours on Postgres"
SCIM2_SERVER: Final = "scim2-server"
SCIMMY: Final = "scimmy-routers"
BARE: Final = "bare Starlette"
DURABLE: Final = "durable Starlette"
SAME_WRITE: Final = "same write, Starlette"
STARLETTES: Final = (BARE, DURABLE, SAME_WRITE)
"""They know no SCIM: they are measured empty, and one and the same user stands behind all paths."""

_HOEKSTRA: Final = Place(organization="hoekstra", tenant="main", connection="hoekstra-users")
_DECLARED: Final = """
[[tenants]]
name = "main"
domain = "bench.invalid"
client_id = "bench"

[[organizations]]
name = "hoekstra"
display_name = "Hoekstra & Associates"
connections = [{ name = "hoekstra-users" }]
verified_domains = ["hoekstra.example"]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A server that takes requests. ``database``: the process of the database that it uses."""

    process: RunningProcess
    port: int
    path: str = ""
    token: str = "bench"
    database: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A server to measure. ``most``: as many users as can be stored in bounded time.

    ``serve(stored, tell)`` runs it while its context lasts; with so many users where ``filled``,
    else empty, to be filled by requests. Raises LeftOutError where it cannot be had.
    """

    name: str
    serve: Callable[[int, Told], AbstractContextManager[Running]]
    most: int
    filled: bool = False


def contenders(postgres: str | None) -> list[Contender]:
    """All of them. ``postgres``: URL of the server for ours; None leaves that one out."""
    found = [
        Contender(name=BARE, serve=_bare, most=0),
        Contender(name=DURABLE, serve=_durable, most=0),
        Contender(name=SAME_WRITE, serve=_same_write, most=0),
        Contender(name=SCIMMY, serve=_scimmy, most=10_000),
        Contender(name=SCIM2_SERVER, serve=_scim2_server, most=10_000),
        Contender(name=OURS_ON_SQLITE, serve=_on_sqlite, most=10_000_000, filled=True),
    ]
    if postgres is not None:

        def on_postgres(stored: int, tell: Told) -> AbstractContextManager[Running]:
            return _on_postgres(postgres, stored, tell)

        found.append(
            Contender(name=OURS_ON_POSTGRES, serve=on_postgres, most=10_000_000, filled=True)
        )
    return found


@contextmanager
def _on_sqlite(stored: int, tell: Told) -> Generator[Running]:
    with _folder() as folder:
        file = folder / "directory.db"
        environment = _environment(f"sqlite:///{file}")
        token = _prepared(environment, folder)
        if stored:
            seed.fill_sqlite(file, _HOEKSTRA, stored, tell)
        with _ours(environment, folder, token, None) as running:
            yield running


@contextmanager
def _on_postgres(server: str, stored: int, tell: Told) -> Generator[Running]:
    url = run_apart(create_database(server))
    try:
        with _folder() as folder:
            environment = _environment(
                make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
            )
            token = _prepared(environment, folder)
            if stored:
                seed.fill_postgres(url, _HOEKSTRA, stored, tell)
            with _ours(environment, folder, token, run_apart(_postmaster(url))) as running:
                yield running
    finally:
        run_apart(drop_database(server, url))


async def _postmaster(url: str) -> int | None:
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await asyncpg.connect(plain, timeout=10)
    try:
        return usage.postmaster_of(await connection.fetchval("SELECT pg_backend_pid()"))
    finally:
        await connection.close()


def _environment(url: str) -> dict[str, str]:
    outside = {
        name: value for name, value in os.environ.items() if not name.startswith("PROVISIONER_")
    }
    return {
        **outside,
        "PROVISIONER_DATABASE_URL": url,
        "PROVISIONER_TOKEN_PEPPER": "a pepper for benchmarks, of 32 bytes",
        "PROVISIONER_SCIM_RATE": "0",  # no limit: the server is measured, not its patience
        "PROVISIONER_LOG_LEVEL": "warning",
    }


def _prepared(environment: Mapping[str, str], folder: Path) -> str:
    """A migrated database with one organization; the token of its SCIM door."""
    declared = folder / "organizations.toml"
    declared.write_text(_DECLARED)
    _said(environment, "db", "upgrade")
    _said(environment, "org", "apply", str(declared))
    made = _said(environment, "org", "token", "create", "hoekstra", "--door", "scim", "--json")
    token: str = orjson.loads(made.splitlines()[-1])["token"]
    return token


def _said(environment: Mapping[str, str], *arguments: str) -> str:
    ended = subprocess.run(
        provisioner(*arguments),
        env=dict(environment),
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if ended.returncode != 0:
        raise RuntimeError(f"provisioner {' '.join(arguments)} failed:\n{ended.stderr}")
    return ended.stdout


@contextmanager
def _ours(
    environment: Mapping[str, str], folder: Path, token: str, database: int | None
) -> Generator[Running]:
    (port,) = free_ports(1)
    arguments = ("--host", "127.0.0.1", "--port", str(port), "--roles", "scim")
    process = start(
        provisioner("serve", *arguments), name="ours", directory=folder, environment=environment
    )
    with _stopped(process):
        yield Running(
            process=process, port=port, path="/scim/v2/hoekstra", token=token, database=database
        )


@contextmanager
def _bare(_: int, __: Told) -> Generator[Running]:
    with _folder() as folder, _starlette(folder) as running:
        yield running


@contextmanager
def _durable(_: int, __: Told) -> Generator[Running]:
    with _folder() as folder, _starlette(folder, folder / "bare.db") as running:
        yield running


@contextmanager
def _same_write(_: int, __: Told) -> Generator[Running]:
    with _folder() as folder:
        file = folder / "directory.db"
        _prepared(_environment(f"sqlite:///{file}"), folder)
        with _starlette(folder, file, "--our-rows") as running:
            yield running


@contextmanager
def _starlette(folder: Path, *arguments: str | Path) -> Generator[Running]:
    (port,) = free_ports(1)
    command: Sequence[str | Path] = [sys.executable, "-m", "bench.bare", str(port), *arguments]
    process = start(command, name="bare", directory=folder)
    with _stopped(process):
        yield Running(process=process, port=port)


@contextmanager
def _scim2_server(_: int, tell: Told) -> Generator[Running]:
    tell("installing", 0.0)
    python = installing.scim2_server()
    with _folder() as folder:
        (port,) = free_ports(1)
        program = installing.PEERS / "scim2_server_app.py"
        command: list[str | Path] = [python, program, str(port), "bench"]
        process = start(command, name="scim2-server", directory=folder)
        with _stopped(process):
            yield Running(process=process, port=port, path="/v2")


@contextmanager
def _scimmy(_: int, tell: Told) -> Generator[Running]:
    tell("installing", 0.0)
    place = installing.scimmy()
    with _folder() as folder:
        (port,) = free_ports(1)
        process = start(
            ["node", place / "scimmy_app.js", str(port), "bench"],
            name="scimmy",
            directory=folder,
            environment={**os.environ, "NODE_ENV": "production"},
            working_directory=place,
        )
        with _stopped(process):
            yield Running(process=process, port=port, path="/scim")


@contextmanager
def _folder() -> Generator[Path]:
    with tempfile.TemporaryDirectory(prefix="provisioner-bench-") as folder:
        yield Path(folder)


@contextmanager
def _stopped(process: RunningProcess) -> Generator[None]:
    try:
        yield
    finally:
        process.stop()
