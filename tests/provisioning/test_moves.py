"""Whoever an organization's rules send to another connection moves: the new account first, then the
former one is locked. Nobody is without access on the way, and nobody keeps two.
"""

from __future__ import annotations

from typing import Any

import pytest

from operators import showing
from service.directory import decommissions, groups, moves, workers
from service.directory.groups import MemberChange
from service.directory.workers import Delivery
from service.organizations import Organization
from service.people import User
from service.workers import WorkerEvent
from tests.provisioning.auth0 import sign_up
from tests.provisioning.test_full_organizations import FULL, retrying
from tests.provisioning.world import World

STAFF, EXTERN = "hoekstra-users", "clinics-users"
OUTSIDE: dict[str, Any] = {"name": EXTERN, "rules": [{"attributes": {"userType": ["Contractor"]}}]}


@pytest.fixture(params=["world", "postgres_world"])
def either(request: pytest.FixtureRequest) -> World:
    return request.getfixturevalue(request.param)


async def rules(world: World, *connections: dict[str, Any], **policies: Any) -> None:
    await world.declare()
    hoekstra = Organization.model_validate(
        {
            "name": "hoekstra",
            "display_name": "Hoekstra",
            "connections": [*connections, {"name": STAFF}],
            "policies": {"moves": "follow", **policies},
        }
    )
    await world.apply(hoekstra)


async def accounts(world: World, address: str) -> dict[str, str]:
    """Connection to whether somebody with this address can log in there, and is a member."""
    state = await world.state()
    members = {each["user_id"] for each in state["members"] if each["organization"] == "hoekstra"}
    return {
        user["connection"]: ("blocked" if user["blocked"] else "open")
        + (" member" if user["user_id"] in members else "")
        for user in state["users"]
        if user.get("email") == address
    }


ADA = "ada@hoekstra.example"


async def moved(world: World) -> User:
    """Ada, who became a contractor."""
    await rules(world, OUTSIDE)
    ada = await world.join("hoekstra", ADA)
    world.work()
    await world.settled()
    assert await accounts(world, ADA) == {STAFF: "open member"}
    await world.change(ada, userType="Contractor")
    await world.settled()
    return await world.user(ada)


async def test_the_rule_chooses_where_somebody_new_lives(either: World) -> None:
    await rules(either, OUTSIDE)
    await either.join("hoekstra", ADA, userType="contractor")
    either.work()
    await either.settled()
    assert await accounts(either, ADA) == {EXTERN: "open member"}


async def test_who_changes_moves_and_is_locked_out_where_they_were(either: World) -> None:
    ada = await moved(either)
    assert await accounts(either, ADA) == {STAFF: "blocked", EXTERN: "open member"}
    assert ada.state == "applied"
    assert (await either.endings())[-1] == ("succeeded", "applied", None)


async def test_operators_see_where_somebody_lived(either: World) -> None:
    ada = await moved(either)
    now = either.clock.now()
    shown = await either.database.read(lambda tx: showing.user(tx, ada, now))
    assert [(each.account.connection, each.left_at is None) for each in shown.formers] == [
        (STAFF, False)
    ]
    assert shown.neighbours == []


async def test_the_new_account_is_there_before_the_former_one_is_locked(either: World) -> None:
    await moved(either)
    writes = [
        f"{each['method']} {each['path'].rpartition('/')[2].partition('|')[0]}"
        for each in await either.calls()
        if each["method"] in ("POST", "PATCH", "DELETE") and "oauth" not in each["path"]
    ]
    assert writes == [
        "POST users",
        "POST members",
        "POST users",
        "POST members",
        "PATCH auth0",
        "POST revoke-access",
        "DELETE members",
    ]


async def test_moving_back_takes_the_old_account_again(either: World) -> None:
    ada = await moved(either)
    await either.change(ada, userType="Employee")
    await either.settled()
    assert await accounts(either, ADA) == {STAFF: "open member", EXTERN: "blocked"}
    assert len((await either.state())["users"]) == 2


async def test_a_new_address_goes_with_them_and_back(either: World) -> None:
    ada = await moved(either)
    later = "ada.b@hoekstra.example"
    await either.change(
        ada, userType="Employee", userName=later, emails=[{"value": later, "primary": True}]
    )
    await either.settled()
    assert await accounts(either, later) == {STAFF: "open member"}
    assert await accounts(either, ADA) == {EXTERN: "blocked"}


async def test_who_leaves_after_a_move_is_out_of_both(either: World) -> None:
    ada = await moved(either)
    await either.change(ada, active=False)
    await either.settled()
    assert await accounts(either, ADA) == {STAFF: "blocked", EXTERN: "blocked"}


async def test_who_leaves_in_the_middle_of_a_move_is_out_of_both(either: World) -> None:
    await rules(either, OUTSIDE)
    ada = await either.join("hoekstra", ADA)
    either.work()
    await either.settled()
    await either.fault("status", "POST", "/users", status=503, times=1000)
    await either.change(ada, userType="Contractor")

    async def tried() -> bool:
        return len([c for c in await either.calls() if c["status"] == 503]) > 0

    await either.until(tried)
    assert await accounts(either, ADA) == {STAFF: "open member"}
    await either.change(ada, active=False)
    await either.mend()
    await either.settled()
    assert set((await accounts(either, ADA)).values()) == {"blocked"}
    assert [each[0] for each in (await either.endings())[-2:]] == ["superseded", "succeeded"]


async def test_who_leaves_in_the_middle_by_a_batch_of_events_is_out_of_both(
    either: World,
) -> None:
    """As Kafka's intake takes them in."""
    external = {"attributes": {"hr.employment_type": ["external"]}}
    await rules(either, {"name": EXTERN, "rules": [external]}, mass_leavers={"enabled": False})
    await either.worker("hoekstra", "hired", "w1", attributes={"email": ADA})
    await either.worker("hoekstra", "hired", "w2", attributes={"email": "bob@hoekstra.example"})
    either.work()
    await either.settled()
    await either.fault("status", "POST", "/users", status=503, times=1000)
    before = (await either.hired("w1")).account_id
    await either.worker("hoekstra", "changed", "w1", attributes={"employment_type": "external"})

    async def has_moved() -> bool:
        return (await either.hired("w1")).account_id != before

    await either.until(has_moved)
    registered = await either.registered("hoekstra")
    left = [
        Delivery(
            registered=registered,
            event=WorkerEvent(type="worker.terminated", worker_id=worker_id),
            received=either.received("terminated"),
        )
        for worker_id in ("w1", "w2")
    ]
    await either.database.transact(lambda tx: workers.accept_many(tx, left))
    await either.mend()
    await either.settled()
    assert set((await accounts(either, ADA)).values()) == {"blocked"}


async def test_while_there_is_no_room_for_the_new_member_the_former_account_is_needed(
    either: World,
) -> None:
    await rules(either, OUTSIDE)
    ada = await either.join("hoekstra", ADA)
    either.work(either.lanes(full_again=0.5))
    await either.settled()
    members = "/organizations/*/members"
    await either.fault("status", "POST", members, status=403, body=FULL, times=1000)
    # The first one who is refused is told so, whoever comes next waits.
    await either.join("hoekstra", "first@hoekstra.example")
    await either.settled()
    await either.change(ada, userType="Contractor")

    async def waits() -> bool:
        return ada.id in await retrying(either)

    await either.until(waits)
    assert await either.database.read(lambda tx: moves.needed(tx, ada.id)) == [ada.account_id]
    assert (await accounts(either, ADA))[STAFF] == "open member"
    await either.mend()
    await either.settled()
    assert await accounts(either, ADA) == {STAFF: "blocked", EXTERN: "open member"}


async def test_where_the_new_address_is_taken_the_person_stays_and_it_is_told(
    either: World,
) -> None:
    await rules(either, OUTSIDE)
    await sign_up(either, EXTERN, ADA, verified=False)
    ada = await either.join("hoekstra", ADA)
    either.work()
    await either.settled()
    await either.change(ada, userType="Contractor")
    await either.settled()
    assert (await accounts(either, ADA))[STAFF] == "open member"
    assert (await either.endings())[-1] == ("deadlettered", None, "identifier_in_use")
    assert (await either.user(ada)).state == "failed"


async def test_a_former_account_is_deleted_after_the_hold_where_policy_deletes(
    either: World,
) -> None:
    await rules(either, OUTSIDE, deletion="delete", deletion_hold="PT0S")
    ada = await either.join("hoekstra", ADA)
    either.work()
    await either.settled()
    await either.change(ada, userType="Contractor")
    await either.settled()
    assert await accounts(either, ADA) == {EXTERN: "open member"}
    await either.change(ada, userType="Employee")
    await either.settled()
    assert await accounts(either, ADA) == {STAFF: "open member"}


async def test_without_the_policy_the_rule_chooses_once(either: World) -> None:
    await rules(either, OUTSIDE, moves="never")
    ada = await either.join("hoekstra", ADA)
    either.work()
    await either.settled()
    await either.change(ada, userType="Contractor")
    await either.settled()
    assert await accounts(either, ADA) == {STAFF: "open member"}


async def test_members_of_a_group_move_with_it(either: World) -> None:
    await rules(either, {"name": EXTERN, "rules": [{"groups": ["Contractors"]}]})
    ada = await either.join("hoekstra", ADA)
    bob = await either.join("hoekstra", "bob@hoekstra.example")
    either.work()
    await either.settled()
    registered = await either.registered("hoekstra")
    group = await either.database.transact(
        lambda tx: groups.create(
            tx, registered, {"displayName": "contractors"}, [ada.id], either.received("g")
        )
    )
    await either.settled()
    assert await accounts(either, ADA) == {STAFF: "blocked", EXTERN: "open member"}
    assert await accounts(either, bob.identifier or "") == {STAFF: "open member"}

    def leave(tx: Any) -> Any:
        held = groups.lock(tx, "hoekstra", group.id)
        change = MemberChange(remove=frozenset({ada.id}))
        return groups.change(tx, registered, held, held.resource, change, either.received("g"))

    await either.database.transact(leave)
    await either.settled()
    assert await accounts(either, ADA) == {STAFF: "open member", EXTERN: "blocked"}


async def test_contractors_in_a_database_become_staff_at_the_identity_provider(
    either: World,
) -> None:
    staff = {
        "name": "metahexa-ad",
        "strategy": "waad",
        "rules": [{"attributes": {"userType": ["Employee"]}}],
    }
    await rules(either, staff)
    ada = await either.join("hoekstra", ADA, userType="Contractor")
    either.work()
    await either.settled()
    await either.change(ada, userType="Employee")
    await either.settled()
    assert await accounts(either, ADA) == {STAFF: "blocked"}
    assert (await either.user(ada)).state == "waiting"
    assert (await either.endings())[-1] == ("succeeded", "waiting", None)
    await either.change(ada, active=False)
    await either.settled()
    assert (await either.user(ada)).state == "applied"


async def test_a_rehired_person_finds_the_account_that_the_rules_choose_today(
    either: World,
) -> None:
    ada = await moved(either)
    await either.change(ada, active=False)
    await either.settled()
    await either.change(ada, active=True, userType="Employee")
    await either.settled()
    assert await accounts(either, ADA) == {STAFF: "open member", EXTERN: "blocked"}


async def test_an_end_of_the_organization_locks_former_accounts_too(either: World) -> None:
    await rules(either, OUTSIDE)
    ada = await either.join("hoekstra", ADA)
    either.work()
    await either.settled()
    await either.fault("status", "POST", "/users", status=503, times=1000)
    await either.change(ada, userType="Contractor")

    async def has_moved() -> bool:
        before = ada.account_id
        return (await either.user(ada)).account_id != before

    await either.until(has_moved)
    await either.database.transact(
        lambda tx: decommissions.begin(tx, "hoekstra", actor="kim", now=either.clock.now())
    )
    await either.mend()
    await either.settled()
    assert set((await accounts(either, ADA)).values()) == {"blocked"}
