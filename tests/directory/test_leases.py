"""One owner at a time for a tenant's lanes, and a pause that is told once."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from service.directory import leases, organizations, outbox
from service.directory.database import Database, Transaction
from service.errors import LostLease
from service.organizations import Tenant

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
LEASE = timedelta(seconds=30)
LATER = NOW + LEASE


@pytest.fixture(autouse=True)
async def tenant(database: Database) -> str:
    await database.transact(lambda tx: organizations.apply_tenant(tx, Tenant(name="main")))
    return "main"


async def claim(database: Database, owner: str, at: datetime = NOW) -> int | None:
    return await database.transact(lambda tx: leases.claim_tenant(tx, "main", owner, at, LEASE))


async def require(database: Database, fence: int) -> None:
    await database.transact(lambda tx: leases.require(tx, "main", fence))


async def told(database: Database) -> list[tuple[str, int]]:
    outcomes = await database.read(outbox.listing)
    return [(outcome.type, outcome.sequence) for outcome in outcomes]


async def test_a_tenant_has_one_owner_at_a_time(database: Database) -> None:
    assert await claim(database, "a") is not None
    assert await claim(database, "b") is None


async def test_of_many_who_claim_at_once_one_gets_the_tenant(database: Database) -> None:
    fences = await asyncio.gather(*(claim(database, f"owner-{n}") for n in range(8)))
    assert [fence for fence in fences if fence is not None] == [1]


async def test_an_owner_that_claims_again_keeps_its_fence(database: Database) -> None:
    assert await claim(database, "a") == await claim(database, "a", NOW + LEASE / 2)


async def test_the_fence_grows_with_each_change_of_owner(database: Database) -> None:
    fences = [await claim(database, owner, NOW + turn * LEASE) for turn, owner in enumerate("abab")]
    assert fences == [1, 2, 3, 4]


async def test_a_tenant_that_nobody_configured_is_nobodys(database: Database) -> None:
    claimed = await database.transact(
        lambda tx: leases.claim_tenant(tx, "unknown", "a", NOW, LEASE)
    )
    assert claimed is None


async def test_a_renewed_lease_outlives_its_first_end(database: Database) -> None:
    fence = await claim(database, "a")
    assert fence is not None
    middle = NOW + LEASE / 2
    assert await database.transact(lambda tx: leases.renew(tx, "main", "a", fence, middle, LEASE))
    assert await claim(database, "b", LATER) is None
    assert await database.read(lambda tx: leases.holds(tx, "main", "a", fence, LATER))


async def test_a_lease_that_went_to_another_cannot_be_renewed(database: Database) -> None:
    fence = await claim(database, "a")
    assert fence is not None
    await claim(database, "b", LATER)
    assert not await database.transact(
        lambda tx: leases.renew(tx, "main", "a", fence, LATER, LEASE)
    )
    assert not await database.read(lambda tx: leases.holds(tx, "main", "a", fence, LATER))


async def test_no_call_starts_on_a_lease_that_has_run_out(database: Database) -> None:
    fence = await claim(database, "a")
    assert fence is not None
    assert await database.read(lambda tx: leases.holds(tx, "main", "a", fence, NOW))
    assert not await database.read(lambda tx: leases.holds(tx, "main", "a", fence, LATER))


async def test_a_released_tenant_is_free_at_once(database: Database) -> None:
    fence = await claim(database, "a")
    assert fence is not None
    await database.transact(lambda tx: leases.release(tx, "main", "a", fence))
    assert await claim(database, "b") == fence + 1


async def test_a_late_release_does_not_take_the_new_owners_lease(database: Database) -> None:
    fence = await claim(database, "a")
    assert fence is not None
    newer = await claim(database, "b", LATER)
    assert newer is not None
    await database.transact(lambda tx: leases.release(tx, "main", "a", fence))
    await require(database, newer)


async def test_an_owner_may_write_until_another_claims(database: Database) -> None:
    fence = await claim(database, "a")
    assert fence is not None
    await require(database, fence)
    await claim(database, "b", LATER)
    with pytest.raises(LostLease):
        await require(database, fence)


async def test_nobody_writes_after_releasing(database: Database) -> None:
    fence = await claim(database, "a")
    assert fence is not None
    await database.transact(lambda tx: leases.release(tx, "main", "a", fence))
    with pytest.raises(LostLease):
        await require(database, fence)


async def test_a_pause_is_told_once(database: Database) -> None:
    for reason in ("401", "invalid_client"):
        await database.transact(lambda tx, r=reason: leases.pause_tenant(tx, "main", r, NOW, LATER))
    assert await told(database) == [("io.auth0-provisioner.tenant.paused.v1", 1)]
    pause = await database.read(lambda tx: leases.paused(tx, "main"))
    assert pause == leases.Pause(since=NOW, reason="invalid_client", resume_at=LATER)


async def test_a_resumption_is_told_once(database: Database) -> None:
    await database.transact(lambda tx: leases.pause_tenant(tx, "main", "401", NOW, None))
    resumed = [
        await database.transact(lambda tx: leases.resume_tenant(tx, "main", LATER))
        for _ in range(2)
    ]
    assert resumed == [True, False]
    assert await told(database) == [
        ("io.auth0-provisioner.tenant.paused.v1", 1),
        ("io.auth0-provisioner.tenant.resumed.v1", 2),
    ]
    assert await database.read(lambda tx: leases.paused(tx, "main")) is None


async def test_many_lanes_that_meet_the_same_error_tell_one_pause(database: Database) -> None:
    paused = await asyncio.gather(
        *(
            database.transact(lambda tx: leases.pause_tenant(tx, "main", "401", NOW, None))
            for _ in range(8)
        )
    )
    assert sorted(paused) == [False] * 7 + [True]
    assert len(await told(database)) == 1


async def test_nobody_claims_in_the_middle_of_an_owners_transaction(database: Database) -> None:
    fence = await claim(database, "a")
    assert fence is not None
    order: list[str] = []
    inside: list[Transaction] = []

    def lane(tx: Transaction) -> None:
        leases.require(tx, "main", fence)
        inside.append(tx)
        if tx.dialect.name == "postgresql":
            tx.exec_driver_sql("SELECT pg_sleep(0.2)")
        order.append("written under the old fence")

    async def successor() -> None:
        while len(inside) < 2:  # noqa: ASYNC110 - SQLite's writer is another thread
            await asyncio.sleep(0.005)
        assert await claim(database, "b", LATER) == fence + 1
        order.append("claimed")

    await asyncio.gather(database.transact(lane), database.transact(lane), successor())
    assert order == ["written under the old fence"] * 2 + ["claimed"]


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "credentials_refused"), (403, "calls_forbidden"), (None, "tenant_refused")],
)
async def test_a_pause_is_published_in_our_words_and_kept_for_operators_in_theirs(
    database: Database, status: int | None, code: str
) -> None:
    theirs = "Client ann@hoekstra.example may not: Bearer eyJhbGciOi"
    await database.transact(
        lambda tx: leases.pause_tenant(tx, "main", theirs, NOW, None, status=status)
    )
    (outcome,) = await database.read(lambda tx: outbox.listing(tx, limit=10))
    assert "ann@" not in str(outcome.data)
    assert "eyJ" not in str(outcome.data)
    assert (outcome.data["error"]["code"], outcome.data["error"]["httpStatus"]) == (code, status)
    held = await database.read(lambda tx: leases.paused(tx, "main"))
    assert held is not None
    assert held.reason == theirs
