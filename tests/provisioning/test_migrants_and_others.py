"""``provisioner user import`` beside others: who is known by another key, shares the account, or is brought
by two commands at once. A hash comes to the person whose it is, or to nobody.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from operators import migrating
from operators.migrating import Row
from operators.migration_rows import gathered
from service.directory import overview, people, struggles
from service.directory.events import Filter
from service.organizations import Policies
from service.sealing import sealer_of_hashes
from tests.provisioning.test_migrants import (
    PEPPER,
    at_work,
    lonely,
    moving,
    person,
    sealed,
    written,
)
from tests.provisioning.world import World

__all__ = ["lonely", "moving"]

SEALER = sealer_of_hashes(PEPPER.encode())
DOCTOR = "n.okafor@clinics.example"


async def stored(
    world: World, rows: list[dict[str, Any]], organization: str = "hoekstra"
) -> list[Row]:
    """As the command stores a file."""
    content = written(world, rows).read_bytes()
    coming, mistakes = gathered(content)
    assert not mistakes
    registered = await world.registered(organization)
    known = await migrating.look_up(world.database, organization, coming)
    return await migrating.store(
        world.database,
        registered,
        known,
        run=migrating.run_of(organization, content),
        sealer=SEALER,
        actor="kim",
        clock=world.clock.now,
        progress=lambda _done: None,
    )


async def test_a_hash_comes_to_nobody_whom_the_directory_knows_by_another_key(
    lonely: World,
) -> None:
    """An address that was given to somebody else since, and a number that has another address."""
    await lonely.join("hoekstra", "p0@hoekstra.example", externalId="somebody-else")
    await lonely.join("hoekstra", "other@hoekstra.example", externalId="w1")
    told = await stored(lonely, [person(0), person(1), person(2)])
    assert [each.status for each in told] == ["already_there", "already_there", "waiting"]
    assert "externalId" in str(told[0].reason)
    assert "address" in str(told[1].reason)
    assert len(await sealed(lonely)) == 1


async def test_who_is_known_and_not_made_yet_still_gets_their_password(lonely: World) -> None:
    await lonely.join("hoekstra", "p0@hoekstra.example", externalId="w0")
    told = await stored(lonely, [person(0)])
    assert [each.status for each in told] == ["waiting"]


async def test_an_address_that_changes_while_the_hash_waits_is_not_verified_by_the_file(
    lonely: World,
) -> None:
    await lonely.declare(hoekstra={"policies": Policies(invite="none")})
    told = await stored(lonely, [person(0), person(1)])
    ada = await lonely.database.read(lambda tx: people.get(tx, told[0].user_id or ""))
    assert ada is not None
    later = "later@hoekstra.example"
    await lonely.change(ada, userName=later, emails=[{"value": later, "primary": True}])
    at_work(lonely)
    await lonely.settled()
    user = await lonely.auth0_user(later)
    assert user is not None
    assert user["email_verified"] is False
    assert user["keeps_imported_password"] is True


async def test_a_blocked_row_says_nothing_of_somebody_who_is_known(lonely: World) -> None:
    await lonely.join("hoekstra", "p0@hoekstra.example", externalId="w0")
    told = await stored(lonely, [person(0, blocked=True)])
    assert [(each.status, each.reason) for each in told] == [
        ("already_there", "known to the directory")
    ]


async def test_a_bad_hash_of_one_organization_keeps_nobody_of_another_out(moving: World) -> None:
    await stored(moving, [person(0, email=DOCTOR)], "clinic-a")
    same = await moving.join("clinic-b", DOCTOR)
    await moving.fault("job-refuses", "POST", "/jobs/users-imports", times=1)
    at_work(moving)
    await moving.settled()
    assert (await moving.user(same)).state == "applied"
    assert await moving.members() == {("clinic-b", DOCTOR)}
    endings = {
        e.organization: (e.state, (e.error or {}).get("code")) for e in await moving.events()
    }
    assert endings == {
        "clinic-a": ("deadlettered", "import_row_refused"),
        "clinic-b": ("succeeded", None),
    }
    assert await sealed(moving) == []


async def test_a_hash_is_not_put_into_an_account_that_another_organization_awaits(
    lonely: World,
) -> None:
    await lonely.join("clinic-b", DOCTOR)
    told = await stored(lonely, [person(0, email=DOCTOR)], "clinic-a")
    assert [each.status for each in told] == ["already_there"]
    at_work(lonely)
    await lonely.settled()
    assert await lonely.members() == {("clinic-a", DOCTOR), ("clinic-b", DOCTOR)}


async def test_two_runs_of_one_file_at_once_bring_everybody_once_and_say_the_same(
    moving: World,
) -> None:
    rows = [person(n) for n in range(60)]
    first, second = await asyncio.gather(stored(moving, rows), stored(moving, rows))
    assert {each.status for each in [*first, *second]} == {"waiting"}
    assert [each.user_id for each in first] == [each.user_id for each in second]
    assert len(await moving.events()) == 60


@pytest.mark.parametrize(
    "more",
    [
        {"user_metadata": {"name": "\ud800"}},
        {"given_name": "A\u0000da"},
        {"external_id": "\ud800"},
        {"user_metadata": {"n": float("nan")}},
    ],
)
def test_what_nobody_can_store_is_a_mistake_of_its_row(more: dict[str, Any]) -> None:
    rows = [{**person(0), **more}, person(1)]
    for content in (json.dumps(rows), "\n".join(json.dumps(row) for row in rows)):
        coming, mistakes = gathered(content.encode())
        assert [each.email for each in coming] == ["p1@hoekstra.example"]
        assert len(mistakes) == 1


async def test_who_was_made_before_without_a_number_gets_it_with_the_password(
    lonely: World,
) -> None:
    """As the first administrator is."""
    await lonely.declare(hoekstra={"policies": Policies(invite="none")})
    ada = await lonely.join("hoekstra", "p0@hoekstra.example")
    told = await stored(lonely, [person(0)])
    assert [(each.status, each.user_id) for each in told] == [("waiting", ada.id)]
    at_work(lonely)
    await lonely.settled()
    user = await lonely.auth0_user("p0@hoekstra.example")
    assert user is not None
    assert user["keeps_imported_password"] is True
    await lonely.worker("hoekstra", "terminated", "w0")
    await lonely.settled()
    user = await lonely.auth0_user("p0@hoekstra.example")
    assert user is not None
    assert user["blocked"] is True


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"kind": "status", "status": 403}, "Auth0 takes no import into this connection"),
        ({"kind": "job-fails"}, "no import job brought the user"),
    ],
)
async def test_who_waits_for_another_file_is_seen_to_be_tried_in_vain(
    lonely: World, fault: dict[str, Any], reason: str
) -> None:
    await lonely.fault(method="POST", path="/jobs/users-imports", times=1, **fault)
    await stored(lonely, [person(0)])
    await lonely.fault("hang", "POST", "/jobs/users-imports", times=10)
    at_work(lonely)

    async def seen() -> str:
        def read(tx: Any) -> str:
            events = overview.latest_events(tx, Filter(), retrying=True)
            found = struggles.of_events(tx, [each.id for each in events])
            return " ".join(str(each) for each in found.values())

        return await lonely.database.read(read)

    await lonely.until(seen)
    assert await seen() == f"1 try: {reason}"
    await lonely.mend()
