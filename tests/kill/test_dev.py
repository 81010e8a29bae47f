"""One sample day with ``provisioner dev``, killed twenty times at random points."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from random import Random

import pytest

from service.directory.database import open_database
from service.directory.events import Event
from service.directory.outbox import Outcome
from tests.infrastructure.processes import start
from tests.kill.conftest import ENVIRONMENT, dev, state_of
from tests.kill.end_state import (
    EndState,
    all_events,
    all_outcomes,
    require_each_once,
    require_mails_at_most_once,
)

KILLS = 20


@pytest.mark.kill
@pytest.mark.timeout(600)
def test_a_day_that_is_killed_twenty_times_ends_like_an_undisturbed_one(
    undisturbed: EndState, tmp_path: Path, random: Random
) -> None:
    for life in range(KILLS):
        _live_and_die(tmp_path, life, random)
    last = start(
        dev(tmp_path, "--exit-after-sample"),
        name="last",
        directory=tmp_path,
        environment=ENVIRONMENT,
    )
    assert last.wait(180) == 0, str(last)
    assert state_of(tmp_path / "data" / "simulator", tmp_path) == undisturbed
    outcomes, events = asyncio.run(kept(tmp_path))
    require_each_once(outcomes, events)
    require_mails_at_most_once(tmp_path / "data" / "mail", outcomes)


def _live_and_die(folder: Path, life: int, random: Random) -> None:
    """Every fourth life ends while the process starts, the others soon after it is ready."""
    process = start(dev(folder), name=f"life-{life}", directory=folder, environment=ENVIRONMENT)
    if life % 4 == 3:
        time.sleep(random.uniform(0.1, 2.0))
    else:
        process.ready_line(60)
        time.sleep(random.uniform(0.0, 0.8))
    assert process.exit_status is None, str(process)
    process.kill()


async def kept(folder: Path) -> tuple[list[Outcome], list[Event]]:
    database = open_database(f"sqlite:///{folder}/data/directory.db")
    try:
        return await all_outcomes(database), await all_events(database)
    finally:
        await database.close()
