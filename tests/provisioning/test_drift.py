"""Compares with Auth0: what differs is told once, mended by policy, and never taken from a list that lags."""

from __future__ import annotations

import asyncio
import gzip
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from sqlalchemy import update

from operators.sample.organizations import CLIENT_SECRET
from service.auth0.calls import http_client
from service.auth0.client import Auth0Client
from service.auth0.pacing import Pacer
from service.directory import accounts, drift
from service.directory import tables as t
from service.organizations import Policies
from service.people import User
from service.provisioning import drift_users
from service.provisioning.drift import DriftChecks, DriftSettings
from service.provisioning.tenancy import Tenancy
from tests.faults import proves
from tests.provisioning.auth0 import call, sign_up
from tests.provisioning.world import World, tenant_of

ADA, BOB = "ada@hoekstra.example", "bob@hoekstra.example"


@pytest.fixture
async def people(world: World) -> tuple[User, User]:
    """Two people of an organization that invites nobody, as they should be in Auth0."""
    await world.declare(hoekstra={"policies": Policies(invite="none")})
    world.work(world.lanes())
    return await world.join("hoekstra", ADA), await world.join("hoekstra", BOB)


def checking(world: World, client: Auth0Client, hour: int = -1) -> DriftChecks:
    settings = DriftSettings(hour=hour, poll=0.05, look=0.05)
    return DriftChecks(
        "main", database=world.database, client=client, clock=world.clock, settings=settings
    )


def beside_lanes(world: World, http: httpx.AsyncClient | None = None) -> Tenancy:
    """The lanes of a world, with checks beside them."""
    tenancy = world.lanes(http=http)
    client = tenancy._client  # pyright: ignore[reportPrivateUsage]
    works = (*tenancy._works, checking(world, client))  # pyright: ignore[reportPrivateUsage]
    tenancy._works = works  # pyright: ignore[reportPrivateUsage]
    return tenancy


async def check(
    world: World, of: str | None = "hoekstra", *, correct: bool = False, ok: bool = True
) -> dict[str, int]:
    """Asks for a check of the organization, waits for it and what it has mended; its counts."""
    now = world.clock.now()
    check_id = await world.database.transact(
        lambda tx: drift.ask(tx, "main", of, correct=correct, asked_by="eve", now=now)
    )

    async def ended() -> bool:
        found = await world.database.read(lambda tx: drift.get(tx, check_id))
        return found is not None and found.ended_at is not None

    await world.until(ended)

    async def mended() -> bool:
        return not await world.database.read(lambda tx: drift.being_corrected(tx, "main", 1))

    await world.until(mended)
    found = await world.database.read(lambda tx: drift.get(tx, check_id))
    assert found is not None
    assert (found.error is None) is ok, found.error
    return dict(found.result or {})


async def auth0_id(world: World, address: str) -> str:
    user = await world.auth0_user(address)
    assert user is not None
    return user["user_id"]


async def change(world: World, address: str, **body: Any) -> None:
    path = f"/users/{quote(await auth0_id(world, address), safe='')}"
    await call(world, "PATCH", path, body)


async def findings(world: World) -> list[tuple[str, dict[str, Any]]]:
    found = await world.database.read(lambda tx: drift.listing(tx, "main", None, 100))
    return [(each.aspect, dict(each.detail)) for each in found]


async def drifts(world: World, user: User, kind: str = "detected") -> list[dict[str, Any]]:
    names = ("blocked", "deleted", "changed", "auth0Organization", "missingRoles", "rejoined")
    return [
        {name: each.data[name] for name in names if name in each.data}
        for each in await world.outcomes(user)
        if each.type == f"io.auth0-provisioner.drift.{kind}.v1"
    ]


async def ready(world: World, http: httpx.AsyncClient | None = None) -> None:
    await world.settled()
    await world.rest()
    world.work(beside_lanes(world, http))


async def test_where_nothing_differs_nothing_is_told(
    world: World, people: tuple[User, User]
) -> None:
    await ready(world)
    counts = await check(world)
    assert counts["compared"] == 2
    assert counts.get("differ", 0) == counts.get("unknown", 0) == 0
    assert await findings(world) == []


async def test_what_somebody_changed_is_told_once_and_again_when_it_changes(
    world: World, people: tuple[User, User]
) -> None:
    await ready(world)
    await change(world, ADA, given_name="Eve")
    for _ in range(2):
        assert (await check(world))["differ"] == 1
    assert await drifts(world, people[0]) == [{"changed": ["given_name"]}]
    await change(world, ADA, family_name="Evil")
    await check(world)
    changed = ["family_name", "given_name"]
    assert await drifts(world, people[0]) == [{"changed": ["given_name"]}, {"changed": changed}]
    await change(world, ADA, given_name="Ada", family_name="Byron")
    await check(world)
    assert await findings(world) == []
    assert await drifts(world, people[1]) == []


async def test_what_differs_is_mended_where_the_check_says_so(
    world: World, people: tuple[User, User]
) -> None:
    await ready(world)
    await change(world, ADA, given_name="Eve", app_metadata={"auth0_provisioner": None})
    await check(world, correct=True)
    await world.settled()
    mended = await world.auth0_user(ADA)
    assert mended is not None
    assert mended["given_name"] == "Ada"
    assert mended["app_metadata"]["auth0_provisioner"]
    told = [{"changed": ["app_metadata", "given_name"]}]
    assert await drifts(world, people[0]) == told
    assert await drifts(world, people[0], "corrected") == told
    assert await findings(world) == []


async def test_what_differs_is_mended_where_the_policy_says_so(
    world: World, people: tuple[User, User]
) -> None:
    await world.declare(hoekstra={"policies": Policies(invite="none", drift="correct")})
    await ready(world)
    await change(world, ADA, email="eve@elsewhere.example")
    await check(world)
    assert await world.auth0_user(ADA) is not None
    assert await drifts(world, people[0], "corrected") == [{"changed": ["email"]}]


async def test_an_entry_of_ours_that_is_off_the_older_list_is_told_and_put_back(
    world: World, people: tuple[User, User]
) -> None:
    declared = (await world.registered("hoekstra")).organization
    await world.apply(declared.model_copy(update={"app_metadata_organizations": "h"}))
    await world.change(people[0], title="Architect")
    await ready(world)
    await change(world, ADA, app_metadata={"organizations": ["theirs", "h"]})
    await check(world)
    assert await findings(world) == []
    await change(world, ADA, app_metadata={"organizations": ["theirs"]})
    await check(world)
    told = [{"changed": ["app_metadata.organizations"]}]
    assert await drifts(world, people[0]) == told
    await check(world, correct=True)
    await world.settled()
    mended = await world.auth0_user(ADA)
    assert mended is not None
    assert mended["app_metadata"]["organizations"] == ["theirs", "h"]
    assert await drifts(world, people[0], "corrected") == told
    assert await findings(world) == []


async def test_a_user_who_is_gone_is_made_again(world: World, people: tuple[User, User]) -> None:
    await ready(world)
    await call(world, "DELETE", f"/users/{quote(await auth0_id(world, ADA), safe='')}")
    await check(world, correct=True)
    assert await world.auth0_user(ADA) is not None
    assert await drifts(world, people[0]) == [{"deleted": True}]
    assert await drifts(world, people[0], "corrected") == [{"deleted": True}]
    assert ("hoekstra", ADA) in await world.members()


async def test_a_block_of_somebody_elses_is_reported_and_left(
    world: World, people: tuple[User, User]
) -> None:
    await ready(world)
    await change(world, ADA, blocked=True)
    await check(world, correct=True)
    blocked = await world.auth0_user(ADA)
    assert blocked is not None
    assert blocked["blocked"] is True
    assert await drifts(world, people[0]) == [{"blocked": True}]
    assert await findings(world) == [("account", {"blocked": True})]


async def test_a_block_of_somebody_elses_that_a_compare_found_never_becomes_ours(
    world: World, people: tuple[User, User]
) -> None:
    await ready(world)
    await change(world, ADA, blocked=True)
    for _ in range(2):
        await check(world)
        assert await findings(world) == [("account", {"blocked": True})]
    await world.change(people[0], active=False)
    await world.settled()
    await world.change(people[0], active=True)
    await world.settled()
    there = await world.auth0_user(ADA)
    assert there is not None
    assert there["blocked"] is True
    await change(world, ADA, blocked=False)
    await check(world)
    assert await findings(world) == []
    assert await drifts(world, people[0]) == [{"blocked": True}]
    await world.change(people[0], active=False)
    await world.settled()
    there = await world.auth0_user(ADA)
    assert there is not None
    assert there["blocked"] is True


async def test_a_block_of_ours_that_was_lifted_is_put_back(
    world: World, people: tuple[User, User]
) -> None:
    await world.settled()
    await world.change(people[0], active=False)
    await ready(world)
    await change(world, ADA, blocked=False)
    await check(world, correct=True)
    back = await world.auth0_user(ADA)
    assert back is not None
    assert back["blocked"] is True
    assert await drifts(world, people[0]) == [{"blocked": False}]
    assert len(await drifts(world, people[0], "corrected")) == 1


async def test_users_in_our_connection_whom_we_do_not_know_are_reported(
    world: World, people: tuple[User, User]
) -> None:
    stranger = await sign_up(world, "hoekstra-users", "eve@hoekstra.example", verified=True)
    await ready(world)
    assert (await check(world, correct=True))["unknown"] == 1
    found = await world.database.read(lambda tx: drift.listing(tx, "main", "hoekstra", 10))
    assert [each.auth0_user_id for each in found] == [stranger]
    await call(world, "DELETE", f"/users/{quote(stranger, safe='')}")
    await check(world)
    assert await findings(world) == []


async def test_a_membership_that_was_taken_away_is_given_back(
    world: World, people: tuple[User, User]
) -> None:
    await ready(world)
    organizations = (await world.state())["organizations"]
    named = next(o for o in organizations if o["name"] == "hoekstra")
    body = {"members": [await auth0_id(world, ADA)]}
    await call(world, "DELETE", f"/organizations/{named['id']}/members", body)
    await check(world, correct=True)
    assert ("hoekstra", ADA) in await world.members()
    told = [{"auth0Organization": "hoekstra"}]
    assert await drifts(world, people[0]) == await drifts(world, people[0], "corrected") == told


async def test_a_role_of_ours_that_was_taken_away_is_given_back(world: World) -> None:
    await world.declare(
        hoekstra={"policies": Policies(invite="none"), "roles": {"Chiefs": "admin"}}
    )
    world.work(world.lanes())
    await world.worker("hoekstra", "hired", "w-1", attributes={"email": ADA}, groups=("Chiefs",))
    await ready(world)
    (member,) = (await world.state())["members"]
    roles = {(each["tenant"], each["name"]): each["id"] for each in (await world.state())["roles"]}
    path = f"/organizations/{member['organization_id']}/members/{member['user_id']}/roles"
    await call(world, "DELETE", path, {"roles": [roles["main", "admin"]]})
    await call(world, "POST", path, {"roles": [roles["main", "billing"]]})

    assert (await check(world))["differ"] == 1
    ada = await world.hired("w-1")
    told = [{"auth0Organization": "hoekstra", "missingRoles": ["admin"]}]
    assert await drifts(world, ada) == told
    assert (await world.state())["members"][0]["roles"] == ["billing"], "only told"

    await check(world, correct=True)
    assert sorted((await world.state())["members"][0]["roles"]) == ["admin", "billing"]
    assert await drifts(world, ada, "corrected") == told
    assert await findings(world) == []


async def test_a_list_that_lags_is_no_drift(world: World, people: tuple[User, User]) -> None:
    """Whoever is missing from a list and there by their own id does not differ."""
    await ready(world)
    await world.fault(
        "status", "GET", "/organizations/*/members", status=200, body={"members": []}, times=1
    )
    counts = await check(world)
    assert counts.get("differ", 0) == 0
    assert await drifts(world, people[0]) == []


@proves("export failed")
@pytest.mark.parametrize("path", ["/jobs/*", "/jobs/users-exports"])
async def test_a_check_that_cannot_go_on_says_why(
    world: World, people: tuple[User, User], path: str
) -> None:
    await ready(world)
    await world.fault("status", "*", path, status=403)
    await check(world, ok=False)
    await world.mend()
    await check(world)


@proves("export failed")
async def test_an_export_that_fails_ends_the_check_and_changes_nothing(
    world: World, people: tuple[User, User]
) -> None:
    await ready(world)
    await change(world, ADA, given_name="Eve")
    before = await world.auth0_user(ADA)
    failed = {"id": "job_1", "type": "users_export", "status": "failed"}
    await world.fault("status", "GET", "/jobs/*", status=200, body=failed, times=1)
    await check(world, correct=True, ok=False)
    assert await world.auth0_user(ADA) == before
    await check(world, correct=True)
    assert await world.auth0_user(ADA) != before


async def test_a_tenant_is_compared_once_a_night(world: World, people: tuple[User, User]) -> None:
    client = Auth0Client(
        tenant_of(world),
        CLIENT_SECRET,
        clock=world.clock,
        pacer=Pacer("enterprise", world.clock),
        http=http_client(),
    )
    nightly = checking(world, client, hour=datetime.now(UTC).hour)
    for _ in range(3):
        await nightly._plan_nightly()  # pyright: ignore[reportPrivateUsage]
    one = await world.database.read(lambda tx: drift.next_open(tx, "main"))
    assert one is not None
    now = world.clock.now()
    await world.database.transact(lambda tx: drift.store(tx, one.id, ended_at=now))
    assert await world.database.read(lambda tx: drift.next_open(tx, "main")) is None
    await client.close()


async def test_findings_are_kept_mended_and_forgotten_on_postgres(postgres_world: World) -> None:
    world = postgres_world
    await world.declare(hoekstra={"policies": Policies(invite="none")})
    world.work(world.lanes())
    ada = await world.join("hoekstra", ADA)
    await world.join("hoekstra", BOB)
    await sign_up(world, "hoekstra-users", "eve@hoekstra.example", verified=True)
    await ready(world)
    await change(world, ADA, given_name="Eve")
    for _ in range(2):
        assert (await check(world))["unknown"] == 1
    assert len(await findings(world)) == 2
    await check(world, correct=True)
    assert await drifts(world, ada) == await drifts(world, ada, "corrected")
    assert [aspect for aspect, _ in await findings(world)] == ["unknown:hoekstra-users"]


@pytest.mark.kill
async def test_strangers_are_listed_of_each_connection_however_many_another_has(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift_users, "_MOST_UNKNOWN", 1)
    await world.declare(
        hoekstra={"policies": Policies(invite="none")},
        **{"clinic-a": {"policies": Policies(invite="none")}},
    )
    world.work(world.lanes())
    await world.join("hoekstra", ADA)
    await world.join("clinic-a", "ada@clinic-a.clinics.example")
    await ready(world)
    for connection in ("hoekstra-users", "clinics-users"):
        for name in ("eve", "mallory"):
            await sign_up(world, connection, f"{name}@{connection}.example", verified=True)
    assert (await check(world, None))["unknown"] == 4
    assert sorted(aspect for aspect, _ in await findings(world)) == [
        "unknown:clinics-users",
        "unknown:hoekstra-users",
    ]


async def test_a_check_of_one_organization_leaves_those_of_others_alone(world: World) -> None:
    """Two clinics share a connection; one asks."""
    for clinic in ("clinic-a", "clinic-b"):
        await world.declare(**{clinic: {"policies": Policies(invite="none")}})
    world.work(world.lanes())
    people = {
        clinic: await world.join(clinic, f"ada@{clinic}.clinics.example")
        for clinic in ("clinic-a", "clinic-b")
    }
    await ready(world)
    for user in people.values():
        await change(world, str(user.identifier), app_metadata={"auth0_provisioner": None})
    assert (await check(world, "clinic-a", correct=True))["differ"] == 1
    assert await drifts(world, people["clinic-a"], "corrected") == [{"changed": ["app_metadata"]}]
    assert await drifts(world, people["clinic-b"]) == []


async def test_a_connection_that_is_missing_keeps_no_other_from_being_compared(
    world: World, people: tuple[User, User]
) -> None:
    await ready(world)
    connections = (await world.state())["connections"]
    gone = next(c for c in connections if c["name"] == "metahexa-ad" and c["tenant"] == "main")
    await call(world, "DELETE", f"/connections/{gone['id']}")
    await change(world, ADA, given_name="Eve")
    assert (await check(world, None, ok=False))["differ"] == 1
    assert await drifts(world, people[0]) == [{"changed": ["given_name"]}]


async def test_a_block_that_was_lifted_of_somebody_who_is_out_is_put_back_whatever_the_policy(
    world: World, people: tuple[User, User]
) -> None:
    await world.settled()
    await world.change(people[0], active=False)
    await ready(world)
    await change(world, ADA, blocked=False)
    await check(world)
    back = await world.auth0_user(ADA)
    assert back is not None
    assert back["blocked"] is True


async def test_somebody_who_has_left_an_organization_and_is_in_it_again_is_removed(
    world: World,
) -> None:
    """As where a login makes members, and nobody is told of it."""
    for clinic in ("clinic-a", "clinic-b"):
        await world.declare(**{clinic: {"policies": Policies(invite="none")}})
    address = "ada@clinics.example"
    world.work(world.lanes())
    left, stayed = await world.join("clinic-a", address), await world.join("clinic-b", address)
    stranger = await sign_up(world, "clinics-users", "eve@home.example", verified=True)
    await world.settled()
    await world.change(left, active=False)
    await ready(world)
    await check(world, None)
    assert await drifts(world, left) == []
    organizations = (await world.state())["organizations"]
    named = next(o for o in organizations if o["name"] == "clinic-a")
    body = {"members": [await auth0_id(world, address), stranger]}
    await call(world, "POST", f"/organizations/{named['id']}/members", body)
    await world.database.transact(
        lambda tx: tx.execute(
            update(t.users).values(last_applied_at=world.clock.now() - timedelta(minutes=5))
        )
    )
    await check(world, None)
    await world.settled()
    assert await world.members() == {("clinic-b", address), ("clinic-a", "eve@home.example")}
    told = [{"auth0Organization": "clinic-a", "rejoined": True}]
    assert await drifts(world, left) == await drifts(world, left, "corrected") == told
    assert await drifts(world, stayed) == []
    await check(world, None)
    assert all(not aspect.startswith("membership") for aspect, _ in await findings(world))


async def test_a_connection_that_was_made_anew_is_compared(
    world: World, people: tuple[User, User]
) -> None:
    await ready(world)
    assert (await check(world))["compared"] == 2
    connections = (await world.state())["connections"]
    old = next(c for c in connections if c["name"] == "hoekstra-users" and c["tenant"] == "main")
    await call(world, "DELETE", f"/connections/{old['id']}")
    await call(world, "POST", "/connections", {"name": "hoekstra-users", "strategy": "auth0"})
    assert (await check(world))["compared"] == 2


async def test_members_that_come_in_circles_end_the_check(
    world: World, people: tuple[User, User]
) -> None:
    await ready(world)
    page = {"members": [{"user_id": await auth0_id(world, ADA), "roles": []}], "next": "x"}
    await world.fault("status", "GET", "/organizations/*/members", status=200, body=page)
    await asyncio.wait_for(check(world, ok=False), 10.0)


class _WithRow(httpx.AsyncBaseTransport):
    """The tenant, with a row more before those of each export's file."""

    def __init__(self, row: bytes) -> None:
        self._real = httpx.AsyncHTTPTransport()
        self._row = row

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self._real.handle_async_request(request)
        if "/exports/" not in request.url.path:
            return answer
        content = gzip.decompress(await answer.aread())
        return httpx.Response(200, content=self._row + b"\n" + content)

    async def aclose(self) -> None:
        await self._real.aclose()


@pytest.mark.parametrize("row", [b"null", b"[]", b"{}", b'{"user_id": 7}'])
async def test_a_row_that_says_of_nobody_keeps_no_other_from_being_compared(
    world: World, people: tuple[User, User], row: bytes
) -> None:
    http = http_client()
    http._transport = _WithRow(row)  # pyright: ignore[reportPrivateUsage]
    await ready(world, http)
    await change(world, ADA, given_name="Eve")
    counts = await check(world)
    assert (counts["differ"], counts["unreadable"]) == (1, 1)


async def test_a_user_whom_we_deleted_and_who_is_there_again_is_reported(world: World) -> None:
    """As by an import of somebody else's: nobody answers for them any more."""
    gone = Policies(invite="none", deletion="delete", deletion_hold=timedelta())
    await world.declare(hoekstra={"policies": gone})
    world.work(world.lanes())
    ada = await world.join("hoekstra", ADA)
    await world.settled()
    user_id = await auth0_id(world, ADA)
    await world.delete(ada)
    await world.settled()
    assert await world.auth0_user(ADA) is None
    await ready(world)
    assert (await check(world)).get("unknown", 0) == 0
    made = {"connection": "hoekstra-users", "email": ADA, "password": "Someone-elses-1!"}
    await call(world, "POST", "/users", {**made, "user_id": user_id.removeprefix("auth0|")})
    assert (await check(world))["unknown"] == 1
    assert [aspect for aspect, _ in await findings(world)] == ["unknown:hoekstra-users"]


async def test_a_lifted_block_of_somebody_who_is_out_is_put_back_before_joiners_come(
    world: World, people: tuple[User, User]
) -> None:
    await world.settled()
    await world.change(people[0], active=False)
    await world.settled()
    await world.rest()
    await change(world, ADA, blocked=False)
    await world.join("hoekstra", "new@hoekstra.example")
    tenancy = beside_lanes(world)
    tenancy._works = tenancy._works[-1:]  # pyright: ignore[reportPrivateUsage]
    world.work(tenancy)
    now = world.clock.now()
    await world.database.transact(
        lambda tx: drift.ask(tx, "main", "hoekstra", correct=False, asked_by="eve", now=now)
    )

    async def found() -> bool:
        return await findings(world) != []

    await world.until(found)
    due = await world.database.read(
        lambda tx: accounts.due(tx, "main", now=world.clock.now(), limit=2)
    )
    assert [each.leaver for each in due] == [True, False]
    assert due[0].id == (await world.user(people[0])).account_id
