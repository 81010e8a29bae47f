"""First loads: many accounts at once go through import jobs, each exactly once, whatever is lost."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from operators.sample.organizations import CLIENT_SECRET
from service.auth0.calls import http_client
from service.auth0.client import Auth0Client
from service.auth0.pacing import Pacer
from service.directory import imports
from service.mail import FolderMailer
from service.organizations import Policies
from service.people import User
from service.provisioning.first_load_settings import FirstLoadSettings
from service.provisioning.first_loads import FirstLoads
from service.provisioning.lanes import Lanes, LaneSettings
from service.provisioning.perform import Performer
from service.provisioning.tenancy import Tenancy, TenancySettings
from service.sealing import Sealer
from tests.faults import proves
from tests.provisioning import auth0
from tests.provisioning.world import World, tenant_of

QUICK = FirstLoadSettings(
    threshold=5,
    poll=0.02,
    count_every=0.05,
    look_first=0.03,
    look_most=0.1,
    look_leaver=0.02,
    again=0.1,
    settle_doubt=0.3,
)
IMPORT = "/jobs/users-imports"
PEOPLE = 12


@pytest.fixture(params=["sqlite", "postgres"])
def loading(request: pytest.FixtureRequest) -> World:
    """An organization without invitations, on either database."""
    name = "world" if request.param == "sqlite" else "postgres_world"
    made: World = request.getfixturevalue(name)
    return made


@pytest.fixture
async def quiet(world: World) -> World:
    await world.declare(hoekstra={"policies": Policies(invite="none")})
    return world


def tenancy(
    world: World,
    *,
    settings: FirstLoadSettings = QUICK,
    lanes: bool = True,
    rows: dict[str, int] | None = None,
    sealer: Sealer | None = None,
    pacer: Pacer | None = None,
) -> Tenancy:
    client = Auth0Client(
        tenant_of(world),
        CLIENT_SECRET,
        clock=world.clock,
        pacer=pacer or Pacer("enterprise", world.clock),
        http=http_client(),
    )
    counted = {} if rows is None else rows

    def count(result: str, number: int) -> None:
        counted[result] = counted.get(result, 0) + number

    loads = FirstLoads(
        "main",
        database=world.database,
        client=client,
        clock=world.clock,
        settings=settings,
        on_rows=count,
        sealer=sealer,
    )
    mailer = FolderMailer(world.folder / "mail")
    worked = Lanes(
        "main",
        database=world.database,
        performer=Performer(client, mailer=mailer, sender="no-reply@example.com"),
        clock=world.clock,
        settings=LaneSettings(poll=0.05),
        wait=lambda attempts: 0.05 * attempts,
    )
    return Tenancy(
        "main",
        database=world.database,
        client=client,
        works=(loads, worked) if lanes else (loads,),
        clock=world.clock,
        owner=f"test#{secrets.token_hex(4)}",
        settings=TenancySettings(look=0.05, probe=0.3),
    )


async def load(world: World, count: int = PEOPLE) -> list[User]:
    return [await world.join("hoekstra", f"p{n}@hoekstra.example") for n in range(count)]


async def all_in_imports(world: World, count: int) -> None:
    async def hold() -> bool:
        known = await world.database.read(lambda tx: imports.listing(tx, "main", 10))
        return sum(one.accounts for one in known) == count

    await world.until(hold)


async def require_each_is_there_once(world: World, people: list[User]) -> None:
    """Everybody: one user in Auth0 that is ours, a member, told as created once; nothing open."""
    state = await world.state()
    addresses = [user["email"] for user in state["users"] if user["tenant"] == "main"]
    assert sorted(addresses) == sorted(f"p{n}@hoekstra.example" for n in range(len(people)))
    assert len(await world.members()) == len(people)
    told = await world.outcomes()
    created = [each.user_id for each in told if each.type.endswith("user.created.v1")]
    assert sorted(filter(None, created)) == sorted(person.id for person in people)
    assert {e.state for e in await world.events()} == {"succeeded"}
    assert await world.database.read(lambda tx: imports.open_ones(tx, "main")) == []


async def uploads(world: World) -> int:
    return len(await world.writes("POST", IMPORT))


async def creates(world: World) -> int:
    return len(await world.writes("POST", "/users"))


async def test_a_large_backlog_is_created_by_one_import_and_finished_by_the_lanes(
    loading: World,
) -> None:
    listed = {"app_metadata_organizations": "hoekstra"}
    policies = Policies(invite="none", email_verified=True)
    await loading.declare(hoekstra={"policies": policies, **listed})
    people = await load(loading)
    rows: dict[str, int] = {}
    await alone_first(loading)
    loading.work(tenancy(loading, rows=rows))
    await loading.settled()
    await require_each_is_there_once(loading, people)
    assert (await uploads(loading), await creates(loading)) == (1, 0)
    assert rows.get("duplicate", 0) == rows.get("unknown", 0) == 0
    one = await loading.auth0_user("p3@hoekstra.example")
    assert one is not None
    assert one["email_verified"] is True
    assert one["given_name"] == "Ada"
    assert one["app_metadata"]["auth0_provisioner"]["account"]
    assert one["app_metadata"]["organizations"] == ["hoekstra"]
    assert [c for c in await loading.calls() if c["method"] == "PATCH"] == []
    assert one["user_id"].count("auth0|") == 1


async def alone_first(world: World, accounts: int = PEOPLE) -> None:
    """Lets the import take all before the lanes, which would be quicker with so few."""
    stop = asyncio.Event()
    task = asyncio.create_task(tenancy(world, lanes=False).run(stop))
    await all_in_imports(world, accounts)
    stop.set()
    await task


async def test_a_file_goes_before_the_joiners_who_wait_already(quiet: World) -> None:
    await load(quiet)
    pacer = Pacer("enterprise", quiet.clock)
    joiners = [asyncio.create_task(pacer.turn("users-write")) for _ in range(400)]
    await asyncio.sleep(0)
    quiet.work(tenancy(quiet, lanes=False, pacer=pacer))

    async def uploaded() -> bool:
        return await uploads(quiet) == 1

    await quiet.until(uploaded)
    waiting = [each for each in joiners if each.cancel()]
    await asyncio.gather(*joiners, return_exceptions=True)
    assert waiting, "a file of thousands waited for each of them"


async def test_who_was_imported_and_waits_for_a_lane_is_no_backlog(loading: World) -> None:
    await loading.declare(hoekstra={"policies": Policies(invite="none")})
    await load(loading)
    loading.work(tenancy(loading, lanes=False))

    async def landed() -> bool:
        known = await loading.database.read(lambda tx: imports.listing(tx, "main", 10))
        return [one.state for one in known] == ["ended"]

    await loading.until(landed)
    now = loading.clock.now()
    left = await loading.database.read(lambda tx: imports.backlogs(tx, "main", now=now, most=100))
    assert left == []


async def test_a_small_backlog_is_left_to_the_lanes(quiet: World) -> None:
    people = await load(quiet, 3)
    quiet.work(tenancy(quiet))
    await quiet.settled()
    assert (await uploads(quiet), await creates(quiet)) == (0, len(people))


async def test_who_needs_an_invitation_is_not_imported(world: World) -> None:
    people = await load(world, 6)
    world.work(tenancy(world))
    await world.settled()
    assert (await uploads(world), await creates(world)) == (0, len(people))
    assert len(world.mails()) == len(people)


async def test_somebody_elses_user_in_the_way_is_named_as_after_any_creation(
    quiet: World,
) -> None:
    await auth0.sign_up(quiet, "hoekstra-users", "p2@hoekstra.example", verified=True)
    people = await load(quiet)
    await alone_first(quiet)
    rows: dict[str, int] = {}
    quiet.work(tenancy(quiet, rows=rows))
    await quiet.settled()
    assert rows["duplicate"] == 1
    assert rows["inserted"] == PEOPLE - 1
    ended = {e.user_id: (e.state, (e.error or {}).get("code")) for e in await quiet.events()}
    assert ended[people[2].id] == ("deadlettered", "identifier_in_use")
    assert {ended[each.id] for each in people if each is not people[2]} == {("succeeded", None)}
    taken = await quiet.auth0_user("p2@hoekstra.example")
    assert taken is not None
    assert "app_metadata" not in taken or not taken["app_metadata"]


@proves("import failed, lost or endless")
@pytest.mark.parametrize("kind", ["drop-after-commit", "drop-before", "html-502", "status"])
async def test_an_upload_without_an_answer_is_looked_for_before_it_is_made_again(
    quiet: World, kind: str
) -> None:
    people = await load(quiet)
    await quiet.fault(kind, "POST", IMPORT, times=1, status=503)
    await alone_first(quiet)
    quiet.work(tenancy(quiet))
    await quiet.settled()
    await require_each_is_there_once(quiet, people)
    calls = await quiet.calls()
    sent = [c["number"] for c in calls if c["path"].endswith(IMPORT)]
    looked = [
        c["number"]
        for c in calls
        if c["method"] == "GET" and c["path"].startswith("/api/v2/users/")
    ]
    assert looked
    assert sent[0] < looked[0]
    assert len(sent) == (1 if kind == "drop-after-commit" else 2)
    assert await creates(quiet) == 0


@proves("import refused", "import failed, lost or endless")
@pytest.mark.parametrize(
    ("method", "path", "fault"),
    [
        ("GET", "/jobs/*", {"kind": "status", "status": 404}),
        ("POST", IMPORT, {"kind": "job-fails", "times": 1}),
        ("GET", "/jobs/*/errors", {"kind": "html-502", "times": 3}),
        ("GET", "/jobs/*/errors", {"kind": "status", "status": 404}),
        ("POST", IMPORT, {"kind": "status", "status": 429, "times": 1}),
        pytest.param(  # a second one slows the tenant down for some seconds
            "POST",
            IMPORT,
            {"kind": "status", "status": 429, "times": 2},
            marks=pytest.mark.kill,
        ),
        ("POST", IMPORT, {"kind": "status", "status": 400}),
        ("POST", IMPORT, {"kind": "status", "status": 413}),
        (
            "POST",
            IMPORT,
            {"kind": "status", "status": 403, "body": {"errorCode": "insufficient_scope"}},
        ),
    ],
)
async def test_a_job_that_is_refused_fails_or_vanishes_loses_nobody(
    quiet: World, method: str, path: str, fault: dict[str, Any]
) -> None:
    people = await load(quiet)
    await quiet.fault(fault.pop("kind"), method, path, **fault)
    await alone_first(quiet)
    quiet.work(tenancy(quiet))
    await quiet.settled()
    await require_each_is_there_once(quiet, people)


@proves("import failed, lost or endless")
async def test_a_job_that_never_ends_is_given_up(quiet: World) -> None:
    people = await load(quiet)
    await quiet.fault("job-hangs", "POST", IMPORT, times=1)
    await alone_first(quiet)
    impatient = replace(QUICK, give_up=0.5)
    quiet.work(tenancy(quiet, settings=impatient))
    await quiet.settled()
    await require_each_is_there_once(quiet, people)


async def test_who_leaves_before_the_upload_is_never_created(quiet: World) -> None:
    people = await load(quiet)
    await quiet.fault("status", "POST", IMPORT, status=429, times=8, body={}, headers={})
    await alone_first(quiet)
    await quiet.change(people[4], active=False)
    quiet.work(tenancy(quiet))
    await quiet.until(lambda: _is_applied(quiet, people[4]))
    assert await quiet.auth0_user("p4@hoekstra.example") is None
    await quiet.mend()
    await quiet.settled(60.0)
    assert await quiet.auth0_user("p4@hoekstra.example") is None
    assert len(await quiet.members()) == PEOPLE - 1


async def _is_applied(world: World, user: User) -> bool:
    return (await world.user(user)).state == "applied"


@pytest.mark.parametrize("lost", [False, True])
async def test_who_leaves_after_the_upload_is_blocked_as_soon_as_there_is_a_user(
    quiet: World, lost: bool
) -> None:
    people = await load(quiet)
    if lost:
        await quiet.fault("drop-after-commit", "POST", IMPORT, times=1)
    await quiet.fault("latency", "GET", "/jobs/*", seconds=0.5, times=1)
    await alone_first(quiet)
    quiet.work(tenancy(quiet))
    await quiet.until(lambda: _was_sent(quiet))
    await quiet.change(people[4], active=False)
    await quiet.settled()
    gone = await quiet.auth0_user("p4@hoekstra.example")
    assert gone is not None
    assert gone["blocked"] is True
    assert len(await quiet.members()) == PEOPLE - 1
    assert (await quiet.told(people[4])).count("user.created") == 1


async def _was_sent(world: World) -> bool:
    return await uploads(world) > 0


@pytest.mark.kill
@pytest.mark.parametrize("seed", range(4))
async def test_whatever_is_lost_and_whoever_owns_the_tenant_each_is_created_once(
    quiet: World, seed: int
) -> None:
    """Owners lose the tenant at any moment to others, answers are lost, some people leave."""
    random = Random(seed)
    people = await load(quiet, 40)
    small = replace(QUICK, most_accounts=15)
    for kind in ("drop-after-commit", "html-502", "status", "drop-before"):
        path = random.choice(["*", IMPORT, "/jobs/*", "/jobs/*/errors"])
        await quiet.fault(kind, "*", path, times=2, probability=0.3)
    leavers: list[User] = []
    before: tuple[asyncio.Event, asyncio.Task[None]] | None = None
    for _ in range(8):
        stop = asyncio.Event()
        task = asyncio.create_task(tenancy(quiet, settings=small).run(stop))
        if before is not None:  # which is in the middle of something, and learns it from the fence
            await asyncio.sleep(0.03)
            before[0].set()
        await asyncio.sleep(random.uniform(0.02, 0.4))
        if before is not None:
            await before[1]
        before = (stop, task)
        leaver = random.choice([each for each in people if each not in leavers])
        await quiet.change(leaver, active=False)
        leavers.append(leaver)
    assert before is not None
    before[0].set()
    await before[1]
    await quiet.mend()
    quiet.work(tenancy(quiet, settings=small))
    await quiet.settled(60.0)
    found = {user["email"]: user for user in (await quiet.state())["users"]}
    gone = {each.identifier for each in leavers}
    stay = {str(each.identifier) for each in people} - {str(each) for each in gone}
    assert stay <= set(found)
    assert all(found[each].get("blocked") for each in gone & set(found))
    assert not any(found[each].get("blocked") for each in stay)
    assert {address for _, address in await quiet.members()} == stay
    told = [o.user_id for o in await quiet.outcomes() if o.type.endswith("user.created.v1")]
    assert len(told) == len(set(told)) == len(found)
    assert await quiet.database.read(lambda tx: imports.open_ones(tx, "main")) == []
