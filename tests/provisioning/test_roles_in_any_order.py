"""Whatever comes in whichever order, answers lost included: nobody loses a role that was given by hand,
and everybody has what their groups map to, and nothing else of ours."""

from __future__ import annotations

from random import Random

import pytest

from tests.provisioning.hand import LOST, Hand, TakeOver
from tests.provisioning.test_roles_of_others import Ahead, by_hand, declared, hired, roles
from tests.provisioning.world import World

__all__ = ["declared"]
SEEDS = range(8)
GROUPS = {"Chiefs": "admin", "Board": "admin", "Clerks": "billing"}


async def work(lane: Hand, draw: Random) -> bool:
    """One turn, in which an answer may be lost; whether everything is as wanted by then."""
    step = await lane.begin()
    while step is not None:
        lost = draw.random()
        if lost < 0.1:  # never sent, or landed
            if lost < 0.05:
                await lane.call(step)
            await lane.record(step, LOST)
            return False
        step = await lane.record(step, await lane.call(step))
    return True


@pytest.mark.parametrize("seed", SEEDS)
async def test_roles_given_by_hand_stay_and_ours_are_as_the_groups_are(
    world: World, hand: TakeOver, seed: int
) -> None:
    draw = Random(seed)
    ada = await hired(world, *draw.sample(sorted(GROUPS), draw.randrange(3)))
    lane = await hand(ada)
    await lane.finish()
    theirs: set[str] = set()
    wanted: set[str] | None = None
    log: list[str] = []
    for turn in range(15):
        world.clock = Ahead(turn * 90)  # Auth0 shows by now what we have taken away
        lane = await hand(ada)
        there = set(await roles(world))
        free = sorted({"admin", "billing", "member"} - there)
        what = draw.choice(("groups", "groups", "give", "crash"))
        if what == "give" and free:  # by hand, to somebody on whom nobody works
            role = draw.choice(free)
            await by_hand(world, "POST", role)
            theirs.add(role)
            log.append(f"{role} is given")
        elif what == "crash":
            await lane.begin()
            lane = await hand(ada)
            log.append("crash")
        else:
            names = draw.sample(sorted(GROUPS), draw.randrange(4))
            await world.worker("hoekstra", "changed", "w-1", groups=tuple(names))
            wanted = {GROUPS[name] for name in names}
            log.append(f"groups {names}")
        while not await work(lane, draw):
            log.append("an answer was lost")
            assert theirs <= set(await roles(world)), log
        if wanted is not None:
            assert set(await roles(world)) == wanted | theirs, log
