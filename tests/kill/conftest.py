"""The undisturbed day, played once, that the killed days are compared with."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from random import Random

import pytest

from tests.infrastructure.processes import provisioner, start
from tests.kill.end_state import EndState, end_state

ENVIRONMENT = {
    name: value for name, value in os.environ.items() if not name.startswith("PROVISIONER_")
}


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> EndState:
    folder = tmp_path_factory.mktemp("undisturbed")
    day = start(
        dev(folder, "--exit-after-sample"), name="dev", directory=folder, environment=ENVIRONMENT
    )
    assert day.wait(180) == 0, str(day)
    return state_of(folder / "data" / "simulator", folder)


def dev(folder: Path, *options: str) -> list[str]:
    ports = ("--port", "0", "--simulator-port", "0")
    return provisioner("dev", *ports, "--data-dir", folder / "data", *options)


def state_of(simulator_data: Path, folder: Path) -> EndState:
    """What the simulator kept: looked at by starting it alone."""
    command = provisioner("simulator", "--port", "0", "--data-dir", simulator_data)
    simulator = start(command, name="look", directory=folder, environment=ENVIRONMENT)
    try:
        ready = simulator.ready_line()
        return asyncio.run(end_state(ready["url"]))
    finally:
        simulator.stop()


@pytest.fixture
def random(capsys: pytest.CaptureFixture[str]) -> Random:
    """Seeded by KILL_SEED, else anew; the seed is printed, so that a failure can be repeated."""
    seed = int(os.environ.get("KILL_SEED") or int.from_bytes(os.urandom(4)))
    with capsys.disabled():
        print(f"\nKILL_SEED={seed}")
    return Random(seed)
