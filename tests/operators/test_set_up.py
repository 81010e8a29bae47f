"""``org apply`` and ``org show`` over a running installation: what Auth0's side is told to be."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog

from operators.sample.organizations import CLIENT_ID
from service.directory import depths, leases, organizations
from service.directory.database import open_database
from service.organizations import Tenant
from service.provisioning.tenancy import Tenancy
from tests.operators.house import Ended, House, furnish
from tests.provisioning.auth0 import call
from tests.provisioning.world import Simulator, World

DECLARED = """
[[organizations]]
name = "initech"
display_name = "Initech"
application = "sample-app"
connections = [{ name = "initech-users" }]
roles = { Admins = "admin" }
administrator = { email = "boss@initech.example", role = "admin" }
"""


@dataclass
class Site:
    """An installation whose tenant is a simulator, and what happens there."""

    house: House
    world: World
    file: Path

    async def work(self, lanes: Tenancy | None = None) -> None:
        """Lanes that have the tenant: before they do, a command rightly finds that nothing runs."""
        self.world.work(lanes)
        await self.world.until(self._is_worked)

    async def _is_worked(self) -> bool:
        now = self.world.clock.now()
        return bool(await self.world.database.read(lambda tx: leases.worked(tx, now)))

    async def run(self, *arguments: str) -> Ended:
        """A command beside what runs: in a thread, as another process would."""
        return await asyncio.to_thread(self.house.run, *arguments)

    async def apply(self, text: str, *options: str) -> Ended:
        self.file.write_text(text)
        return await self.run("org", "apply", str(self.file), *options)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    # What works beside the command would write its log among the command's own lines.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    house = await asyncio.to_thread(furnish, tmp_path / "installation")
    simulator = Simulator(tmp_path / "simulator")
    url = await simulator.start()
    database = open_database(house.url)
    tenant = Tenant(name="main", base_url=url, client_id=CLIENT_ID, plan="enterprise")
    await database.transact(lambda tx: organizations.apply_tenant(tx, tenant))
    async with httpx.AsyncClient(base_url=url) as http:
        world = World(database=database, url=url, folder=tmp_path, http=http)
        yield Site(house, world, tmp_path / "organizations.toml")
        await world.rest()
    await database.close()
    await simulator.stop()
    structlog.reset_defaults()


async def test_apply_follows_the_set_up_until_it_is_done(site: Site) -> None:
    await site.work()
    ended = await site.apply(DECLARED, "--json")

    assert ended.status == 0
    assert [(row["kind"], row["verdict"]) for row in ended.rows] == [
        ("organization", "new"),
        ("set-up", "done"),
    ]
    made = await call(site.world, "GET", "/organizations/name/initech")
    assert made["display_name"] == "Initech"


async def test_what_is_refused_ends_with_status_1_and_says_what_to_do(site: Site) -> None:
    await site.work()
    ended = await site.apply(DECLARED.replace('Admins = "admin"', 'Admins = "emperor"'))

    assert ended.status == 1
    assert "unknown_role: There is no role emperor in this tenant." in ended.out
    assert "create_roles = true" in ended.out
    shown = (await site.run("org", "show", "initech", "--json", "--offline")).rows[0]["auth0"]
    assert (shown["verdict"], shown["problems"][0]["code"]) == ("refused", "unknown_role")
    assert "drift" not in shown


async def test_dry_run_tells_of_both_sides_and_changes_neither(site: Site) -> None:
    ended = await site.apply(DECLARED, "--dry-run")

    assert ended.status == 0
    assert ended.out.splitlines() == [
        "organization initech would be created",
        "set-up initech would create-connection initech-users",
        "set-up initech would enable-for-application initech-users application=sample-app",
        "set-up initech would create-organization initech display_name=Initech",
        "set-up initech would enable-connection initech-users"
        " assign_membership_on_login=false show_as_button=true",
    ]
    assert {each["method"] for each in await site.world.calls()} == {"GET"}
    assert (await site.run("org", "show", "initech")).status == 1


async def test_drift_is_shown_and_mended_by_applying(site: Site) -> None:
    await site.work()
    await site.apply(DECLARED)
    made = await call(site.world, "GET", "/organizations/name/initech")
    await call(site.world, "PATCH", f"/organizations/{made['id']}", {"display_name": "Oops"})
    differs = ["update-organization initech display_name=Initech"]

    shown = (await site.run("org", "show", "initech", "--json")).rows[0]["auth0"]
    assert (shown["verdict"], shown["drift"]["operations"]) == ("done", differs)
    dry = (await site.apply(DECLARED, "--dry-run", "--json")).rows[-1]
    assert (dry["operations"], dry["applied"]) == (differs, False)

    assert (await site.apply(DECLARED)).status == 0
    shown = (await site.run("org", "show", "initech", "--json")).rows[0]["auth0"]
    assert shown["drift"] == {"operations": [], "problems": []}


async def test_dry_run_tells_who_would_become_the_first_administrator(site: Site) -> None:
    told = "boss@initech.example would become its first administrator, with the role admin"
    assert told in (await site.apply(DECLARED, "--dry-run")).err
    await site.work()
    await site.apply(DECLARED)
    assert told not in (await site.apply(DECLARED, "--dry-run")).err


async def test_show_counts_on_our_own_application_as_apply_does(site: Site) -> None:
    await site.work()
    declared = DECLARED.replace('application = "sample-app"\n', "")
    await site.apply(declared)
    (known,) = await call(site.world, "GET", "/connections?name=initech-users")
    off = [{"client_id": CLIENT_ID, "status": False}]
    await call(site.world, "PATCH", f"/connections/{known['id']}/clients", off)

    shown = (await site.run("org", "show", "initech", "--json")).rows[0]["auth0"]
    dry = (await site.apply(declared, "--dry-run", "--json")).rows[-1]
    wanted = [f"enable-for-application initech-users application={CLIENT_ID}"]
    assert (shown["drift"]["operations"], shown["drift"]["problems"]) == (wanted, [])
    assert dry["operations"] == wanted


async def test_where_nothing_runs_it_is_stored_and_told(site: Site) -> None:
    ended = await site.apply(DECLARED)

    assert ended.status == 0
    assert "not set up in Auth0 yet" in ended.err
    assert [each for each in await site.world.calls() if each["method"] != "GET"] == []


async def test_nobody_waits_who_does_not_want_to(site: Site) -> None:
    await site.work()
    ended = await site.apply(DECLARED, "--no-wait", "--json")
    assert (ended.status, [row["kind"] for row in ended.rows]) == (0, ["organization"])


async def test_a_tenant_that_refuses_us_is_told_with_what_to_do(site: Site) -> None:
    await site.work(site.world.lanes(secret="wrong"))
    ended = await site.apply(DECLARED)
    assert ended.status == 1
    assert "the tenant refuses us" in ended.out
    assert "provisioner doctor" in ended.out


async def test_auth0_that_does_not_answer_hides_its_side_alone(site: Site) -> None:
    away = '[[tenants]]\nname = "main"\nbase_url = "http://127.0.0.1:9"\nclient_id = "c"\n'
    ended = await site.apply(away + DECLARED, "--dry-run")
    assert ended.status == 0
    assert "organization initech would be created" in ended.out
    assert "Auth0's side is not shown (unreachable" in ended.err


async def test_doctor_names_open_sign_up_in_a_database_that_we_made(site: Site) -> None:
    await site.work()
    await site.apply(DECLARED)
    (users,) = await call(site.world, "GET", "/connections?name=initech-users")
    await call(site.world, "PATCH", f"/connections/{users['id']}", {"options": {}})

    found = {row["check"]: row for row in (await site.run("doctor", "--json")).rows}
    assert found["connection initech-users"]["verdict"] == "failed"
    assert "org apply" in found["connection initech-users"]["advice"]


async def test_doctor_warns_of_open_sign_up_in_a_database_that_is_not_ours(site: Site) -> None:
    await site.work()
    made = {"name": "initech-users", "strategy": "auth0", "options": {}}
    await call(site.world, "POST", "/connections", made)
    await site.apply(DECLARED)

    found = {row["check"]: row for row in (await site.run("doctor", "--json")).rows}
    assert found["connection initech-users"]["verdict"] == "warning"
    assert "Disable Sign Ups" in found["connection initech-users"]["advice"]


async def test_doctor_tells_of_what_the_plan_and_the_client_lack_without_failing_for_the_plan(
    site: Site,
) -> None:
    refused = {"statusCode": 403, "error": "Forbidden", "errorCode": "insufficient_entitlement"}
    await site.world.fault("status", "POST", "/users/*/revoke-access", status=403, body=refused)
    lacking = {
        "statusCode": 403,
        "error": "Forbidden",
        "errorCode": "insufficient_scope",
        "message": "Insufficient scope, expected any of: create:user_tickets",
    }
    await site.world.fault("status", "POST", "/tickets/*", status=403, body=lacking)

    found = {row["check"]: row for row in (await site.run("doctor", "--json")).rows}
    assert found["sessions of main"]["verdict"] == "skipped"
    assert "no session endpoints" in found["sessions of main"]["detail"]
    assert found["scopes of main"]["verdict"] == "failed"
    assert found["scopes of main"]["detail"] == "missing: create:user_tickets"
    state = await site.world.state()
    assert (state["users"], state["invitations"], state["tickets"]) == ([], [], [])


async def test_doctor_tells_of_a_set_up_that_is_refused(site: Site) -> None:
    await site.work()
    await site.apply(DECLARED.replace('Admins = "admin"', 'Admins = "emperor"'))
    found = {row["check"]: row for row in (await site.run("doctor", "--json")).rows}
    assert found["set-up of initech"]["verdict"] == "failed"
    assert "create_roles" in found["set-up of initech"]["advice"]


@pytest.mark.parametrize(("plan", "verdict"), [("free", "ok"), ("enterprise", "failed")])
async def test_doctor_compares_the_plan_with_what_headers_tell(
    site: Site, plan: Any, verdict: str
) -> None:
    for path in ("/organizations/name/*",):
        await site.world.fault(
            "status", "GET", path, status=404, headers={"x-ratelimit-limit": "10"}
        )
    tenant = Tenant(name="main", base_url=site.world.url, client_id=CLIENT_ID, plan=plan)
    await site.world.database.transact(lambda tx: organizations.apply_tenant(tx, tenant))
    found = {row["check"]: row for row in (await site.run("doctor", "--json")).rows}
    assert found["rate of main"]["verdict"] == verdict
    if verdict == "failed":
        assert 'plan = "professional"' in found["rate of main"]["advice"]


@pytest.mark.parametrize(("users", "meant"), [("40", False), ("10", True)])
async def test_doctor_takes_no_enterprise_tenant_for_a_professional_one(
    site: Site, users: str, meant: bool
) -> None:
    """Both allow bursts of 10 to most calls; only a Professional one has more for reading users."""
    for path, limit in (("/organizations/name/*", "10"), ("/users/auth0|doctor-*", users)):
        await site.world.fault(
            "status", "GET", path, status=404, headers={"x-ratelimit-limit": limit}
        )
    found = {row["check"]: row for row in (await site.run("doctor", "--json")).rows}
    advice = found["rate of main"]["advice"]
    assert 'plan = "professional"' in advice
    assert ("enterprise-nonproduction" in advice) is meant


async def test_doctor_looks_at_the_application_that_people_log_in_to(site: Site) -> None:
    await site.work()
    await site.apply(DECLARED)
    found = {row["check"]: row for row in (await site.run("doctor", "--json")).rows}
    assert found["application sample-app of initech"]["verdict"] == "ok"

    await site.apply(DECLARED.replace("sample-app", "nobody"), "--no-wait")
    found = {row["check"]: row for row in (await site.run("doctor", "--json")).rows}
    assert found["application nobody of initech"]["verdict"] == "failed"


@pytest.mark.parametrize(("way", "verdict"), [("auth0-mail", "ok"), ("invitation", "failed")])
async def test_doctor_asks_for_a_login_route_only_where_invitations_need_it(
    site: Site, way: str, verdict: str
) -> None:
    bare = {"client_id": "sample-app", "name": "Bare", "organization_usage": "allow"}
    await site.world.fault(
        "status", "GET", "/clients/sample-app", status=200, body=bare, times=1000
    )
    await site.apply(DECLARED + f'policies = {{ invite = "{way}" }}\n', "--no-wait")
    found = {row["check"]: row for row in (await site.run("doctor", "--json")).rows}
    assert found["application sample-app of initech"]["verdict"] == verdict


async def test_doctor_says_nothing_of_a_login_route_that_it_could_not_read(site: Site) -> None:
    bare = {"client_id": "sample-app", "name": "Bare", "organization_usage": "allow"}
    await site.world.fault(
        "status", "GET", "/clients/sample-app", status=200, body=bare, times=1000
    )
    await site.world.fault("status", "GET", "/tenants/settings", status=503, times=1000)
    await site.apply(DECLARED + 'policies = { invite = "invitation" }\n', "--no-wait")
    found = {row["check"]: row for row in (await site.run("doctor", "--json")).rows}
    told = found["application sample-app of initech"]
    assert "no login route" not in told["detail"]
    assert (told["verdict"], told["advice"]) == ("failed", "Try again.")


async def test_doctor_names_an_administrators_role_that_is_missing(site: Site) -> None:
    await site.work()
    await site.apply(DECLARED.replace('role = "admin"', 'role = "emperor"'))
    found = {row["check"]: row for row in (await site.run("doctor", "--json")).rows}
    assert found["role emperor"]["verdict"] == "failed"


async def test_an_end_is_shown_and_taken_back(site: Site) -> None:
    await site.work()
    await site.apply(DECLARED + 'policies = { deletion = "delete", deletion_hold = "P3D" }\n')
    ended = await site.run("org", "decommission", "initech", "--yes")
    assert "--undo takes it back" in ended.err
    shown = (await site.run("org", "show", "initech", "--json", "--offline")).rows[0]
    assert shown["decommission"]["stage"] == "locking"
    assert shown["decommission"]["progress"]["failed"] == 0

    back = await site.run("org", "decommission", "initech", "--undo")
    assert back.status == 0
    assert "have the identity provider push all of its users anew" in back.err
    shown = (await site.run("org", "show", "initech", "--json", "--offline")).rows[0]
    assert shown["decommissioned_at"] is None
    assert "decommission" not in shown
    again = await site.run("org", "decommission", "initech", "--undo")
    assert (again.status, "not decommissioned" in again.err) == (1, True)


async def test_metrics_count_organizations_that_are_not_set_up_as_declared(site: Site) -> None:
    await site.work()
    counted = await site.world.database.read(lambda tx: depths.measure(tx, site.world.clock.now()))
    assert counted.set_ups_in_trouble == 0
    await site.apply(DECLARED.replace('Admins = "admin"', 'Admins = "emperor"'))
    counted = await site.world.database.read(lambda tx: depths.measure(tx, site.world.clock.now()))
    assert counted.set_ups_in_trouble == 1


async def test_an_organization_that_ended_is_not_set_up_by_declaring_it_again(site: Site) -> None:
    await site.work()
    await site.apply(DECLARED)
    await site.run("org", "decommission", "initech", "--yes")
    ended = await site.apply(DECLARED, "--json")
    assert (ended.status, [row["kind"] for row in ended.rows]) == (0, ["organization"])
    assert "initech is decommissioned: it is not carried out" in ended.err
    assert (await site.apply(DECLARED, "--dry-run")).out == "organization initech unchanged\n"
