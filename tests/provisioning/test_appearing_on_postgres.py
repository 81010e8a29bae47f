"""What is kept of feed and looks, on Postgres as on SQLite."""

from __future__ import annotations

from service.directory import appearances
from service.directory import tables as t
from tests.provisioning.logins import blocked, follow, followed, log_in
from tests.provisioning.test_leavers_at_identity_providers import looked_for_again
from tests.provisioning.world import World


async def applied(world: World) -> None:
    """Until everyone who is awaited is as they should be."""

    async def hold() -> bool:
        rows = await world.database.read(lambda tx: tx.execute(t.users.select()).all())
        return all(row.state == "applied" for row in rows)

    await world.until(hold, 10.0)


async def test_who_appears_is_found_by_stable_id_or_address(postgres_world: World) -> None:
    world = postgres_world
    await follow(world)
    await world.join("metahexa", "ada@metahexa.example", externalId="stable-1")
    await world.join("metahexa", "eve@metahexa.example", active=False)
    await world.settled()
    await log_in(world, "ada.new@metahexa.example", subject="stable-1")
    await log_in(world, "Eve@MetaHexa.example")
    await blocked(world, "Eve@MetaHexa.example")
    await applied(world)
    assert ("metahexa", "ada.new@metahexa.example") in await world.members()
    assert (await followed(world)).cursor is not None


async def test_a_place_is_kept_over_restarts(postgres_world: World) -> None:
    world = postgres_world
    await follow(world)
    await world.join("metahexa", "eve@metahexa.example", active=False)
    await world.settled()
    await world.rest()
    await log_in(world, "eve@metahexa.example")
    world.work(world.lanes(feed=True))
    await blocked(world, "eve@metahexa.example")


async def test_who_is_awaited_is_looked_for_in_turn(postgres_world: World) -> None:
    world = postgres_world
    world.work()
    await world.join("metahexa", "ada@metahexa.example")
    await world.settled()
    await log_in(world, "ada@metahexa.example")
    await looked_for_again(world)
    await applied(world)


async def test_all_who_are_awaited_are_looked_for_after_a_gap_the_longest_first(
    postgres_world: World,
) -> None:
    world = postgres_world
    world.work()
    for number in range(3):
        await world.join("metahexa", f"x{number}@metahexa.example")
    await world.settled()
    await world.rest()
    now = world.clock.now()
    taken = await world.database.transact(lambda tx: appearances.take_looks(tx, "main", now, 10))
    assert taken == 0, "each waits five minutes at first"
    await world.database.transact(lambda tx: appearances.look_soon(tx, "main", now))
    counts = [
        await world.database.transact(lambda tx: appearances.take_looks(tx, "main", now, 2))
        for _ in range(3)
    ]
    assert counts == [2, 1, 0]
