"""Moves between connections that others take part in: whoever comes after the person, shares the account,
has blocked it, or knows the person by another record. Nobody keeps a way in that nobody meant.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import update

from service.directory import accounts as directory_accounts
from service.directory import groups, locks, moves, replays
from service.directory import tables as t
from service.directory.groups import MemberChange
from service.organizations import Organization
from tests.faults import proves
from tests.provisioning.auth0 import call, sign_up
from tests.provisioning.logins import log_in
from tests.provisioning.test_moves import ADA, EXTERN, OUTSIDE, STAFF, accounts, either, rules
from tests.provisioning.world import World

__all__ = ["either"]

DOCTOR = "n.okafor@clinics.example"
LATER = "n.obi@clinics.example"
POOL, OWN = "clinics-users", "conglomerate-users"
TEMPORARY: dict[str, Any] = {
    "name": "hoekstra-users",
    "rules": [{"attributes": {"userType": ["Temporary"]}}],
}


def unread(*_: object) -> replays.Reading:
    raise AssertionError("whose person is known is not read again")


async def clinic(world: World, name: str = "clinic-a", **policies: Any) -> None:
    """Shared, with another database for temporary people."""
    organization = {
        "name": name,
        "model": "shared",
        "connections": [TEMPORARY, {"name": POOL}],
        "verified_domains": ["clinics.example"],
        "policies": {"moves": "follow", **policies},
    }
    await world.apply(Organization.model_validate(organization))


async def lives_in(world: World, connection: str, address: str) -> dict[str, Any] | None:
    users = (await world.state())["users"]
    there = [u for u in users if u["connection"] == connection and u.get("email") == address]
    return there[0] if there else None


async def test_nobody_else_of_the_organization_gets_an_account_that_somebody_moved_out_of(
    either: World,
) -> None:
    """The password of the former account is known to whoever had it."""
    await either.declare()
    await clinic(either)
    either.work()
    okafor = await either.join("clinic-a", DOCTOR)
    await either.settled()
    await either.change(
        okafor,
        userType="Temporary",
        userName=LATER,
        emails=[{"value": LATER, "primary": True}],
    )
    await either.settled()
    other = await either.join("clinic-a", DOCTOR)
    await either.settled()
    assert (await either.user(other)).state == "failed"
    assert (await either.endings())[-1][2] == "identifier_in_use"
    former = await lives_in(either, POOL, DOCTOR)
    assert former is not None
    assert former["blocked"] is True


@proves("mover blocked by somebody")
async def test_who_is_blocked_by_somebody_elses_hand_does_not_move_out_of_the_block(
    either: World,
) -> None:
    await rules(either, OUTSIDE)
    ada = await either.join("hoekstra", ADA)
    either.work()
    await either.settled()
    there = await lives_in(either, STAFF, ADA)
    assert there is not None
    await call(either, "PATCH", f"/users/{there['user_id']}", {"blocked": True})
    await either.change(ada, userType="Contractor")
    await either.settled()
    assert await accounts(either, ADA) == {STAFF: "blocked member"}
    assert (await either.endings())[-1] == ("deadlettered", None, "blocked_by_another")
    # Whoever placed the block lifts it, and the person moves with the next change.
    await call(either, "PATCH", f"/users/{there['user_id']}", {"blocked": False})
    await either.change(ada, title="Partner")
    await either.settled()
    assert await accounts(either, ADA) == {STAFF: "blocked", EXTERN: "open member"}


async def test_a_leaver_is_told_of_as_long_as_a_former_account_could_not_be_locked(
    either: World,
) -> None:
    await rules(either, OUTSIDE)
    ada = await either.join("hoekstra", ADA)
    either.work()
    await either.settled()
    there = await lives_in(either, STAFF, ADA)
    assert there is not None
    path = f"/users/{there['user_id']}"
    await either.fault("status", "PATCH", path, status=400, times=1000)
    await either.change(ada, userType="Contractor")
    await either.settled()
    assert await accounts(either, ADA) == {STAFF: "open", EXTERN: "open member"}
    await either.mend()
    await either.change(ada, active=False)
    await either.settled()
    assert await accounts(either, ADA) == {STAFF: "blocked", EXTERN: "blocked"}


async def test_releasing_a_former_user_gives_the_address_free_everywhere(either: World) -> None:
    await rules(either, OUTSIDE)
    ada = await either.join("hoekstra", ADA)
    either.work()
    await either.settled()
    await either.change(ada, userType="Contractor")
    await either.settled()
    await either.delete(ada)
    await either.settled()
    now = either.clock.now()
    await either.database.transact(lambda tx: locks.release(tx, ada.id, actor="kim", now=now))
    await either.settled()
    assert (await either.state())["users"] == []
    other = await either.join("hoekstra", ADA)
    await either.settled()
    assert (await either.user(other)).state == "applied"


async def test_the_account_before_is_needed_until_a_third_one_is_there(either: World) -> None:
    third = {"name": OWN, "rules": [{"attributes": {"userType": ["Guest"]}}]}
    await rules(either, OUTSIDE, third)
    await call(
        either,
        "POST",
        "/connections",
        {"name": OWN, "strategy": "auth0", "enabled_clients": ["sample-app"]},
    )
    ada = await either.join("hoekstra", ADA)
    either.work()
    await either.settled()
    await either.fault("status", "POST", "/users", status=429, times=1000)
    for kind in ("Contractor", "Guest"):
        before = (await either.user(ada)).account_id
        await either.change(ada, userType=kind)

        async def has_moved(before: str | None = before) -> bool:
            return (await either.user(ada)).account_id != before

        await either.until(has_moved)
    locked = [c for c in await either.calls() if c["method"] in ("PATCH", "DELETE")]
    assert locked == []
    formers = await either.database.read(lambda tx: moves.of_users(tx, [ada.id]))
    open_still = {each.account_id for each in formers if each.left_at is None}
    assert ada.account_id in open_still
    await either.mend()
    await either.settled()
    assert await accounts(either, ADA) == {STAFF: "blocked", OWN: "open member"}


async def test_what_another_organization_is_refused_keeps_no_former_account_open(
    either: World,
) -> None:
    """The new account is as the person's own organization wants it."""
    await either.declare()
    await clinic(either)
    b = {
        "name": "clinic-b",
        "auth0_organization": "no-such-organization",
        "model": "shared",
        "connections": [{"name": "hoekstra-users"}],
    }
    await either.apply(Organization.model_validate(b))
    either.work()
    okafor = await either.join("clinic-a", DOCTOR)
    await either.join("clinic-b", DOCTOR)
    await either.settled()
    await either.change(okafor, userType="Temporary")
    await either.settled()
    assert (await either.user(okafor)).state == "applied"
    former = await lives_in(either, POOL, DOCTOR)
    assert former is not None
    assert former["blocked"] is True


async def test_what_waits_for_somebodys_first_login_says_nothing_of_another_organization(
    either: World,
) -> None:
    await either.declare()
    staff = {"name": "metahexa-ad", "strategy": "waad"}
    a = {
        "name": "clinic-a",
        "model": "shared",
        "connections": [
            {**staff, "rules": [{"attributes": {"userType": ["Staff"]}}]},
            {"name": POOL},
        ],
        "policies": {"moves": "follow"},
    }
    await either.apply(Organization.model_validate(a))
    either.work()
    okafor = await either.join("clinic-a", DOCTOR)
    same = await either.join("clinic-b", DOCTOR)
    await either.settled()
    await either.change(okafor, userType="Staff")
    await either.settled()
    assert (await either.user(okafor)).state == "waiting"
    await either.change(same, title="Surgeon")
    await either.settled()
    assert (await either.endings())[-1] == ("succeeded", "applied", None)


async def test_while_the_new_account_cannot_be_had_the_former_one_follows_what_is_wanted(
    either: World,
) -> None:
    """Who loses a role loses it where they are."""
    await rules(either, OUTSIDE)
    hoekstra = await either.registered("hoekstra")
    with_roles = {**hoekstra.organization.model_dump(), "roles": {"Administrators": "admin"}}
    await either.apply(Organization.model_validate(with_roles))
    await sign_up(either, EXTERN, ADA, verified=False)
    await either.worker(
        "hoekstra", "hired", "w1", attributes={"email": ADA}, groups=["Administrators"]
    )
    either.work()
    await either.settled()
    ada = await either.hired("w1")
    rule = {"name": EXTERN, "rules": [{"attributes": {"hr.employment_type": ["external"]}}]}
    moving = {**with_roles, "connections": [rule, {"name": STAFF}]}
    await either.apply(Organization.model_validate(moving))
    await either.worker("hoekstra", "changed", "w1", attributes={"employment_type": "external"})
    await either.settled()
    assert (await either.endings())[-1][2] == "identifier_in_use"
    await either.worker("hoekstra", "changed", "w1", groups=[])
    await either.settled()
    there = await lives_in(either, STAFF, ADA)
    assert there is not None
    roles = {m["user_id"]: m["roles"] for m in (await either.state())["members"]}
    assert roles[there["user_id"]] == []
    assert (await either.user(ada)).state == "failed"


async def test_a_record_that_joins_somebody_in_the_middle_of_a_move_leaves_no_account_open(
    either: World,
) -> None:
    """HR's person moves, then SCIM has the same person."""
    external = {"attributes": {"hr.employment_type": ["external"]}}
    await rules(either, {"name": EXTERN, "rules": [external]})
    await either.worker("hoekstra", "hired", "w1", attributes={"email": ADA})
    either.work()
    await either.settled()
    await either.fault("status", "POST", "/users", status=503, times=1000)
    before = (await either.hired("w1")).account_id
    await either.worker("hoekstra", "changed", "w1", attributes={"employment_type": "external"})

    async def has_moved() -> bool:
        return (await either.hired("w1")).account_id != before

    await either.until(has_moved)
    scim = await either.join("hoekstra", "ada.b@hoekstra.example", active=False)
    await either.change(scim, externalId="w1", userName=ADA, emails=[{"value": ADA}], active=True)
    await either.mend()
    await either.settled()
    assert await accounts(either, ADA) == {STAFF: "blocked", EXTERN: "open member"}


async def test_who_was_deleted_and_comes_back_moves_back_as_ever(either: World) -> None:
    await rules(either, OUTSIDE)
    ada = await either.join("hoekstra", ADA, externalId="w1")
    either.work()
    await either.settled()
    await either.change(ada, userType="Contractor")
    await either.settled()
    await either.delete(ada)
    await either.settled()
    again = await either.join("hoekstra", ADA, externalId="w1", userType="Contractor")
    await either.settled()
    await either.change(again, userType="Employee")
    await either.settled()
    assert await accounts(either, ADA) == {STAFF: "open member", EXTERN: "blocked"}


async def test_a_new_address_comes_although_the_move_was_called_off(either: World) -> None:
    await rules(either, {"name": EXTERN, "rules": [{"groups": ["Contractors"]}]})
    ada = await either.join("hoekstra", ADA)
    either.work()
    await either.settled()
    await either.rest()
    registered = await either.registered("hoekstra")
    group = await either.database.transact(
        lambda tx: groups.create(
            tx, registered, {"displayName": "contractors"}, [ada.id], either.received("g")
        )
    )
    later = "ada.b@hoekstra.example"
    await either.change(ada, userName=later, emails=[{"value": later, "primary": True}])

    def leave(tx: Any) -> Any:
        held = groups.lock(tx, "hoekstra", group.id)
        change = MemberChange(remove=frozenset({ada.id}))
        return groups.change(tx, registered, held, held.resource, change, either.received("g"))

    await either.database.transact(leave)
    either.work()
    await either.settled()
    assert await accounts(either, later) == {STAFF: "open member"}


async def test_a_link_that_may_open_a_former_account_is_looked_for_soon_after_the_move(
    either: World,
) -> None:
    """However long ago the person changed last: here the rules have."""
    await rules(either, OUTSIDE, invite="ticket", invite_lifetime="P7D")
    ada = await either.join("hoekstra", ADA)
    either.work()
    await either.settled()
    long_ago = either.clock.now() - timedelta(days=3)
    back_dated = update(t.users).values(modified_at=long_ago)
    await either.database.transact(lambda tx: tx.execute(back_dated))
    everybody = {"name": EXTERN, "domains": ["hoekstra.example"]}
    await rules(either, everybody, invite="ticket", invite_lifetime="P7D")
    before = either.clock.now()

    def touch(tx: Any) -> None:
        directory_accounts.touch(tx, ada.account_id or "", leaver=False, now=before)

    await either.database.transact(touch)
    await either.settled()
    former = await either.database.read(lambda tx: directory_accounts.get(tx, ada.account_id or ""))
    assert former is not None
    assert former.due_at is not None
    assert former.due_at <= either.clock.now() + timedelta(minutes=1)


@proves("mover linked to another user")
async def test_who_has_become_a_part_of_another_user_does_not_move(either: World) -> None:
    """To lock the former account would be to lock all of that user, the new identity with it."""
    staff = {
        "name": "metahexa-ad",
        "strategy": "waad",
        "rules": [{"attributes": {"userType": ["Employee"]}}],
    }
    await rules(either, staff)
    ada = await either.join("hoekstra", ADA, userType="Contractor")
    either.work()
    await either.settled()
    ours = await lives_in(either, STAFF, ADA)
    assert ours is not None
    await log_in(either, ADA)
    profile = await lives_in(either, "metahexa-ad", ADA)
    assert profile is not None
    path = f"/users/{profile['user_id'].replace('|', '%7C')}/identities"
    body = {"provider": "auth0", "user_id": ours["user_id"].partition("|")[2]}
    await call(either, "POST", path, body)
    await either.change(ada, userType="Employee")
    await either.settled()
    (user,) = (await either.state())["users"]
    assert user["user_id"] == profile["user_id"]
    assert user["blocked"] is False
    assert (await either.endings())[-1] == ("deadlettered", None, "identity_linked")
    await either.change(ada, active=False)
    await either.settled()
    (user,) = (await either.state())["users"]
    assert user["blocked"] is True


async def test_a_replay_locks_a_former_account_whose_lock_was_refused(either: World) -> None:
    await rules(either, OUTSIDE)
    ada = await either.join("hoekstra", ADA)
    either.work()
    await either.settled()
    there = await lives_in(either, STAFF, ADA)
    assert there is not None
    path = f"/users/{there['user_id']}"
    await either.fault("status", "PATCH", path, status=400, times=1000)
    await either.change(ada, userType="Contractor")
    await either.settled()
    assert await accounts(either, ADA) == {STAFF: "open", EXTERN: "open member"}
    await either.mend()
    (dead,) = [each for each in await either.events() if each.state == "deadlettered"]
    now = either.clock.now()
    replayed = await either.database.transact(
        lambda tx: replays.replay(tx, dead.id, read=unread, actor="kim", now=now)
    )
    assert replayed.verdict == "replayed"
    await either.settled()
    assert await accounts(either, ADA) == {STAFF: "blocked", EXTERN: "open member"}
    assert (await either.endings())[-1] == ("succeeded", "applied", None)


async def test_a_former_account_that_was_linked_to_the_new_one_locks_nobody_out(
    either: World,
) -> None:
    """As Actions do that link identities with one address at the first login."""
    staff = {
        "name": "metahexa-ad",
        "strategy": "waad",
        "rules": [{"attributes": {"userType": ["Employee"]}}],
    }
    await rules(either, staff)
    ada = await either.join("hoekstra", ADA, userType="Contractor")
    either.work()
    await either.settled()
    former = ada.account_id or ""
    ours = await lives_in(either, STAFF, ADA)
    assert ours is not None
    await either.change(ada, userType="Employee")
    await either.settled()
    await log_in(either, ADA)
    await either.change(ada, title="Partner")
    await either.settled()
    profile = await lives_in(either, "metahexa-ad", ADA)
    assert profile is not None
    path = f"/users/{profile['user_id'].replace('|', '%7C')}/identities"
    body = {"provider": "auth0", "user_id": ours["user_id"].partition("|")[2]}
    await call(either, "POST", path, body)
    await either.database.transact(
        lambda tx: directory_accounts.look(tx, former, either.clock.now())
    )
    await either.settled()
    (user,) = (await either.state())["users"]
    assert user["blocked"] is False
    assert user["user_id"] in {each["user_id"] for each in (await either.state())["members"]}
    await either.change(ada, active=False)
    await either.settled()
    (user,) = (await either.state())["users"]
    assert user["blocked"] is True
    await either.change(ada, active=True)
    await either.settled()
    (user,) = (await either.state())["users"]
    assert user["blocked"] is False
    assert user["user_id"] in {each["user_id"] for each in (await either.state())["members"]}
