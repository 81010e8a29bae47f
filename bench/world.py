"""What the benches of Auth0's side begin with: a simulator in a process of its own, and a directory on
SQLite beside it. Knows nothing of what is measured.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from operators.sample.organizations import CLIENT_SECRET
from service.directory import migrate
from service.directory.database import open_database
from tests.infrastructure.processes import provisioner, start
from tests.provisioning.world import World


def environment(url: str) -> dict[str, str]:
    """Of a process of the program on the database at ``url``, whose Auth0 is the simulator."""
    outside = {
        name: value for name, value in os.environ.items() if not name.startswith("PROVISIONER_")
    }
    return {
        **outside,
        "PROVISIONER_DATABASE_URL": url,
        "PROVISIONER_TOKEN_PEPPER": "a pepper for benchmarks, of 32 bytes",
        "PROVISIONER_AUTH0_CLIENT_SECRET": CLIENT_SECRET,
        "PROVISIONER_LOG_LEVEL": "warning",
    }


def address_of(world: World) -> str:
    """The URL of its directory."""
    return f"sqlite:///{world.folder}/directory.db"


@asynccontextmanager
async def simulated(*options: str, deadline: float, kept: bool = False) -> AsyncGenerator[World]:
    """A world on a simulator with these options. ``kept``: its state is on disk, not in memory.

    Raises TimeoutError ``deadline`` seconds after it was ready.
    """
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        state = ("--data-dir", where / "auth0") if kept else ()
        simulator = start(
            provisioner("simulator", "--port", "0", *options, *state),
            name="simulator",
            directory=where,
        )
        url = f"sqlite:///{where}/directory.db"
        await migrate.upgrade(url)
        database = open_database(url)
        try:
            auth0 = simulator.ready_line()["url"]
            async with httpx.AsyncClient(base_url=auth0, timeout=60) as http:
                async with asyncio.timeout(deadline):
                    yield World(database=database, url=auth0, folder=where, http=http)
        finally:
            await database.close()
            simulator.stop()
