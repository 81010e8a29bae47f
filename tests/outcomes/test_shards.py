"""Shards of the outbox: each has one publisher, the living share them, the dead lose them."""

from datetime import datetime, timedelta

from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from sqlalchemy import create_engine

from service.directory import shards, tables
from service.directory.database import Database
from service.directory.outbox import SHARDS
from tests.consumers.conftest import database, database_url
from tests.consumers.support import START
from tests.infrastructure.examples import tried_on

__all__ = ["database", "database_url"]
LEASE = timedelta(seconds=10)


async def hold(database: Database, owner: str, now: datetime = START) -> dict[int, int]:
    held = await database.transact(lambda tx: shards.hold(tx, owner, now, LEASE))
    return {each.shard: each.fence for each in held}


async def test_one_publisher_holds_every_shard(database: Database) -> None:
    assert set(await hold(database, "a")) == set(range(SHARDS))


async def test_renewal_keeps_the_fence(database: Database) -> None:
    first = await hold(database, "a")
    assert await hold(database, "a", START + timedelta(seconds=5)) == first


async def test_newcomer_gets_its_share_once_the_other_gives_it_back(database: Database) -> None:
    await hold(database, "a")
    assert await hold(database, "b") == {}  # nothing is taken from a lease that runs
    kept = await hold(database, "a")
    given_back = await hold(database, "b")
    assert len(kept) == len(given_back) == SHARDS // 2
    assert not set(kept) & set(given_back)
    assert set(given_back.values()) == {2}


async def test_shards_of_the_dead_are_taken_over_when_their_leases_end(database: Database) -> None:
    await hold(database, "a")
    await hold(database, "b")
    assert await hold(database, "b", START + LEASE - timedelta(seconds=1)) == {}
    assert set(await hold(database, "b", START + LEASE)) == set(range(SHARDS))


async def test_owner_that_comes_back_too_late_holds_nothing(database: Database) -> None:
    await hold(database, "a")
    later = START + LEASE
    await hold(database, "b", later)
    assert await hold(database, "a", later) == {}


async def test_release_lets_others_in_at_once(database: Database) -> None:
    await hold(database, "a")
    await hold(database, "b")
    await database.transact(lambda tx: shards.release(tx, "a"))
    assert set(await hold(database, "b")) == set(range(SHARDS))


_steps = st.lists(
    st.tuples(st.sampled_from("abcd"), st.integers(0, 12), st.booleans()), min_size=1, max_size=25
)


@tried_on(60, suppressed=[HealthCheck.too_slow])
@given(_steps)
def test_no_shard_ever_has_two_live_owners_and_fences_only_grow(
    steps: list[tuple[str, int, bool]],
) -> None:
    engine = create_engine("sqlite://")
    tables.metadata.create_all(engine, [tables.shards])
    now = START
    believed: dict[str, tuple[datetime, set[int]]] = {}
    fences: dict[int, int] = {}
    for owner, seconds, leaves in steps:
        now += timedelta(seconds=seconds)
        with engine.begin() as transaction:
            if leaves:
                shards.release(transaction, owner)
                believed.pop(owner, None)
                continue
            held = shards.hold(transaction, owner, now, LEASE)
        believed[owner] = (now + LEASE, {each.shard for each in held})
        for each in held:
            assert each.fence >= fences.get(each.shard, 0)
            fences[each.shard] = each.fence
        live = [shard for until, mine in believed.values() if until > now for shard in mine]
        assert len(live) == len(set(live))
    engine.dispose()
