"""``provisioner user import``: people of another system come with their passwords, each exactly once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from service.directory import ending, inbox, migrants, people, replays
from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.events import Problem
from service.directory.inbox import Received
from service.directory.replays import Reading
from service.organizations import Connection, Policies
from service.provisioning.first_load_settings import FirstLoadSettings
from service.sealing import sealer_of_hashes
from tests.operators.house import Ended, run
from tests.provisioning import auth0
from tests.provisioning.test_first_loads import QUICK, tenancy, uploads
from tests.provisioning.world import World

PEPPER = "pepper of the tests, 32 bytes or more"
BCRYPT = "$2b$10$abcdefghijklmnopqrstuuVwXyZ0123456789./ABCDEFGHIJKLMN"
SECRET = BCRYPT[7:]
NEVER = replace(QUICK, threshold=0, still=0.0)
"""No first loads but for people with hashes."""
Import = Callable[..., Any]


@pytest.fixture(params=["sqlite", "postgres"])
def moving(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world on either database, that the command finds by its environment."""
    return _found(request, monkeypatch, request.param)


@pytest.fixture
def lonely(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> World:
    return _found(request, monkeypatch, "sqlite")


def _found(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, on: str) -> World:
    world: World = request.getfixturevalue("world" if on == "sqlite" else "postgres_world")
    folder: Path = request.getfixturevalue("tmp_path")
    url = f"sqlite:///{folder / 'directory.db'}"
    if on == "postgres":
        url = request.getfixturevalue("postgres_migrated")
    monkeypatch.setenv("PROVISIONER_DATABASE_URL", url)
    monkeypatch.setenv("PROVISIONER_TOKEN_PEPPER", PEPPER)
    return world


def person(number: int, **more: Any) -> dict[str, Any]:
    return {
        "email": f"p{number}@hoekstra.example",
        "email_verified": True,
        "given_name": "Ada",
        "external_id": f"w{number}",
        "password_hash": BCRYPT,
        **more,
    }


def written(world: World, rows: Iterable[Any], name: str = "people.jsonl") -> Path:
    path = world.folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


async def command(world: World, file: Path, *options: str) -> Ended:
    results = ("--results", str(world.folder / "results.jsonl"))
    given = ("user", "import", "hoekstra", str(file), *results, *options)
    return await asyncio.to_thread(run, *given)


def results(world: World) -> dict[str, tuple[str, str | None]]:
    lines = (world.folder / "results.jsonl").read_text().splitlines()
    told = [json.loads(line) for line in lines]
    return {each["email"]: (each["status"], each["reason"]) for each in told}


def at_work(world: World, settings: FirstLoadSettings = NEVER, pepper: str = PEPPER) -> None:
    sealer = sealer_of_hashes(pepper.encode())
    world.work(tenancy(world, settings=settings, sealer=sealer))


async def sealed(world: World) -> list[bytes]:
    rows = await world.database.read(
        lambda tx: tx.execute(select(t.migrants.c.sealed)).scalars().all()
    )
    return [each for each in rows if each is not None]


async def test_people_come_with_their_passwords_whatever_policy_sends_to_others(
    moving: World,
) -> None:
    await moving.declare(hoekstra={"policies": Policies(invite="ticket")})
    metadata = {"app_metadata": {"plan": "gold"}, "user_metadata": {"hat": "red"}}
    file = written(moving, [person(0, **metadata), person(1), person(2)])
    at_work(moving)
    ended = await command(moving, file)
    assert ended.status == 0, ended.err
    await moving.settled()
    assert results(moving) == {f"p{n}@hoekstra.example": ("created", None) for n in range(3)}
    assert len(await moving.writes("POST", "/users")) == 0
    assert await uploads(moving) == 1
    assert moving.mails() == []
    assert len(await moving.members()) == 3
    one = await moving.auth0_user("p0@hoekstra.example")
    assert one is not None
    assert (one["email_verified"], one["given_name"]) == (True, "Ada")
    assert one["app_metadata"]["plan"] == "gold"
    assert one["app_metadata"]["auth0_provisioner"]["account"]
    assert one["user_metadata"] == {"hat": "red"}
    assert one["keeps_imported_password"] is True
    assert {(e.type, e.state, e.result) for e in await moving.events()} == {
        ("operator.import", "succeeded", "applied")
    }
    told = await moving.told()
    assert told.count("user.created") == 3
    assert told.count("event.succeeded") == 3
    assert await sealed(moving) == []


async def test_no_lane_creates_whom_an_import_is_to_bring(lonely: World) -> None:
    await command(lonely, written(lonely, [person(0), person(1)]), "--no-wait")
    lonely.work(lonely.lanes())
    known = await lonely.join("hoekstra", "other@hoekstra.example")
    await lonely.until(lambda: _is(lonely, known.id, "applied"))
    state = await lonely.state()
    assert [user["email"] for user in state["users"] if user["tenant"] == "main"] == [
        "other@hoekstra.example"
    ]
    assert len(await sealed(lonely)) == 2


async def _is(world: World, user_id: str, state: str) -> bool:
    query = select(t.users.c.state).where(t.users.c.id == user_id)
    return await world.database.read(lambda tx: tx.execute(query).scalar_one()) == state


async def test_who_leaves_before_the_import_is_never_created_and_their_hash_is_erased(
    moving: World,
) -> None:
    await command(moving, written(moving, [person(0), person(1)]), "--no-wait")
    found = await moving.database.read(
        lambda tx: tx.execute(
            select(t.users.c.id).where(t.users.c.identifier == "p0@hoekstra.example")
        ).scalar_one()
    )
    user = await moving.database.read(lambda tx: people.get(tx, found))
    assert user is not None
    await moving.delete(user)
    at_work(moving)
    await moving.settled()
    assert await moving.auth0_user("p0@hoekstra.example") is None
    assert await moving.auth0_user("p1@hoekstra.example") is not None
    assert await sealed(moving) == []
    (file,) = await moving.database.read(lambda tx: migrants.runs(tx, "hoekstra"))
    assert (file.created, file.refused, file.waiting) == (1, 1, 0)


async def test_the_same_file_again_doubles_nobody_and_tells_the_same(lonely: World) -> None:
    file = written(lonely, [person(n) for n in range(4)])
    await command(lonely, file, "--no-wait")
    await command(lonely, file, "--no-wait")
    at_work(lonely)
    again = await command(lonely, file)
    assert "0 new" in again.err
    assert "4 of an earlier run" in again.err
    await lonely.settled()
    assert results(lonely) == {f"p{n}@hoekstra.example": ("created", None) for n in range(4)}
    assert (await lonely.told()).count("user.created") == 4
    other = written(lonely, [person(0)], "other.jsonl")
    await command(lonely, other)
    assert results(lonely)["p0@hoekstra.example"][0] == "already_there"


async def test_a_row_that_auth0_refuses_ends_in_sight_and_a_mended_one_comes(
    lonely: World,
) -> None:
    file = written(lonely, [person(0), person(1)])
    await lonely.fault("job-refuses", "POST", "/jobs/users-imports", times=1)
    at_work(lonely)
    ended = await command(lonely, file)
    assert ended.status == 1
    await lonely.settled()
    status, reason = results(lonely)["p0@hoekstra.example"]
    assert status == "refused"
    assert "INVALID_FORMAT at password_hash" in str(reason)
    assert {code for _, _, code in await lonely.endings()} == {"import_row_refused"}
    assert (await lonely.state())["users"] == [] or await lonely.auth0_user(
        "p0@hoekstra.example"
    ) is None
    assert await sealed(lonely) == []
    mended = written(lonely, [person(0, name="Ada B."), person(1)], "mended.jsonl")
    assert (await command(lonely, mended)).status == 0
    await lonely.settled()
    assert await lonely.auth0_user("p0@hoekstra.example") is not None


async def test_no_replay_makes_a_person_without_the_password_that_the_file_brought(
    moving: World,
) -> None:
    await moving.fault("job-refuses", "POST", "/jobs/users-imports", times=1)
    at_work(moving)
    file = written(moving, [person(0)])
    assert (await command(moving, file)).status == 1
    await moving.settled()
    (dead,) = await moving.events()
    assert (dead.error or {})["code"] == "import_row_refused"
    ended = await asyncio.to_thread(run, "events", "replay", dead.id)
    assert ended.status == 1
    assert "provisioner user import" in ended.out + ended.err
    await asyncio.to_thread(run, "events", "replay", "--state", "deadlettered")
    await moving.database.transact(lambda tx: _replay_of_many(tx, moving))
    await moving.settled()
    assert await moving.auth0_user("p0@hoekstra.example") is None
    mended = written(moving, [person(0, name="Ada B.")], "mended.jsonl")
    assert (await command(moving, mended)).status == 0
    await moving.settled()
    one = await moving.auth0_user("p0@hoekstra.example")
    assert one is not None
    assert one["keeps_imported_password"] is True


def _replay_of_many(tx: Transaction, world: World) -> None:
    """A replay of something about a whole organization, that ended in trouble."""
    now = world.clock.now()
    received = Received(door="operator", source="ops", type="operator.setup", at=now)
    event_id = inbox.admit(tx, received, "hoekstra").event_id
    problem = Problem(kind="permanent", code="refused", message="No.")
    ending.finish(tx, event_id, "deadlettered", now=now, problem=problem)
    result = replays.replay(tx, event_id, read=_unread, actor="kim", now=now)
    assert result.verdict == "replayed"


def _unread(*_: object) -> Reading:
    raise AssertionError("nothing of this is read again")


async def test_somebody_whom_auth0_has_is_left_to_the_rules_of_adoption(lonely: World) -> None:
    await auth0.sign_up(lonely, "hoekstra-users", "p0@hoekstra.example", verified=True)
    at_work(lonely)
    await auth0.sign_up(lonely, "hoekstra-users", "p1@hoekstra.example", verified=False)
    await command(lonely, written(lonely, [person(0), person(1), person(2)]))
    await lonely.settled()
    told = {address: status for address, (status, _) in results(lonely).items()}
    assert told == {
        "p0@hoekstra.example": "already_there",
        "p1@hoekstra.example": "already_there",
        "p2@hoekstra.example": "created",
    }
    assert (await lonely.told()).count("user.adopted") == 1
    assert ("deadlettered", None, "identifier_in_use") in await lonely.endings()
    assert await sealed(lonely) == []


async def test_a_job_that_fails_half_way_brings_everybody_all_the_same(lonely: World) -> None:
    await lonely.fault("job-fails", "POST", "/jobs/users-imports", times=1)
    at_work(lonely)
    ended = await command(lonely, written(lonely, [person(n) for n in range(6)]))
    assert ended.status == 0, ended.err
    await lonely.settled()
    assert len(await lonely.writes("POST", "/users")) == 0
    assert len(await lonely.members()) == 6
    assert await uploads(lonely) == 2
    assert (await lonely.told()).count("user.created") == 6


async def test_what_another_pepper_sealed_is_refused_in_sight(lonely: World) -> None:
    at_work(lonely, pepper="another pepper of more than 32 bytes")
    await command(lonely, written(lonely, [person(0)]))
    await lonely.settled()
    assert results(lonely)["p0@hoekstra.example"][0] == "refused"
    assert {code for _, _, code in await lonely.endings()} == {"seal_broken"}
    assert await lonely.auth0_user("p0@hoekstra.example") is None


async def test_hashes_are_nowhere_in_clear(
    lonely: World, capfd: pytest.CaptureFixture[str]
) -> None:
    file = written(lonely, [person(n) for n in range(3)])
    stored = await command(lonely, file, "--no-wait")
    files = [path for path in lonely.folder.glob("directory.db*") if path.is_file()]
    assert files
    assert len(await sealed(lonely)) == 3
    assert not any(SECRET.encode() in path.read_bytes() for path in files)
    await lonely.fault("job-refuses", "POST", "/jobs/users-imports", times=1)
    at_work(lonely)
    ended = await command(lonely, file)
    await lonely.settled()
    assert not any(SECRET.encode() in path.read_bytes() for path in files)
    said = capfd.readouterr()
    told = f"{stored.out}{stored.err}{ended.out}{ended.err}{said.out}{said.err}"
    assert SECRET not in told
    assert SECRET not in (lonely.folder / "results.jsonl").read_text()
    assert SECRET not in str(await lonely.outcomes())
    assert SECRET not in str(await lonely.events())


async def test_a_blocked_person_is_known_and_not_made(lonely: World) -> None:
    at_work(lonely)
    await command(lonely, written(lonely, [person(0, blocked=True), person(1)]))
    await lonely.settled()
    status, reason = results(lonely)["p0@hoekstra.example"]
    assert status == "created"
    assert "not made in Auth0" in str(reason)
    assert await lonely.auth0_user("p0@hoekstra.example") is None


async def test_a_later_event_of_hr_finds_the_same_person(lonely: World) -> None:
    at_work(lonely)
    await command(lonely, written(lonely, [person(0)]))
    await lonely.settled()
    await lonely.worker("hoekstra", "terminated", "w0")
    await lonely.settled()
    gone = await lonely.auth0_user("p0@hoekstra.example")
    assert gone is not None
    assert gone["blocked"] is True


async def test_all_is_checked_before_anything_is_stored(lonely: World) -> None:
    rows = [
        person(0),
        person(1, password_hash="$2y$10$" + SECRET),
        person(0, external_id="w9"),
        {"email": "nobody"},
        person(4, shoe_size=43),
        person(5, app_metadata={"auth0_provisioner": {}}),
    ]
    ended = await command(lonely, written(lonely, rows))
    assert ended.status == 1
    assert "line 2: password_hash: write $2b$ for $2y$" in ended.err
    assert "line 3: line 1 has the same email" in ended.err
    assert "line 4: email is needed" in ended.err
    assert "line 5: Auth0's imports know no 'shoe_size'" in ended.err
    assert "line 6: app_metadata.auth0_provisioner is written by us" in ended.err
    assert "Nothing is stored" in ended.err
    assert SECRET not in ended.err
    assert await lonely.events() == []
    dry = await command(lonely, written(lonely, [person(0), person(7)]), "--dry-run")
    assert (dry.status, "2 new" in dry.err, "1 import files" in dry.err) == (0, True, True)
    assert await lonely.events() == []
    some = await command(lonely, written(lonely, rows), "--skip-refused", "--no-wait")
    assert some.status == 1
    assert len(await lonely.events()) == 1


async def test_people_of_an_identity_provider_cannot_be_imported(lonely: World) -> None:
    await lonely.declare(
        hoekstra={
            "model": "enterprise",
            "connections": (Connection(name="hoekstra-entra", strategy="waad"),),
        }
    )
    ended = await command(lonely, written(lonely, [person(0)]))
    assert ended.status == 1
    assert "log in at an identity provider" in ended.err
    assert await lonely.events() == []
