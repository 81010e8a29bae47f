"""``app_metadata.organizations``: kept in step for organizations that ask, others' entries left alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators import declaring
from service.organizations import Connection, Installation
from service.people import User
from service.provisioning.desired import Desired, Wish
from service.provisioning.listing import list_after, settled
from service.provisioning.observed import Observed
from service.provisioning.operations import Subject
from service.provisioning.plan import plan
from tests.provisioning.auth0 import call, sign_up
from tests.provisioning.links import look
from tests.provisioning.world import World

DOCTOR = "n.okafor@clinics.example"


async def asks(world: World, name: str, entry: str) -> None:
    organization = (await world.registered(name)).organization
    await world.apply(organization.model_copy(update={"app_metadata_organizations": entry}))


@pytest.fixture
async def listing(world: World) -> World:
    """Both clinics ask to be listed."""
    await asks(world, "clinic-a", "a")
    await asks(world, "clinic-b", "b")
    return world


async def _doctor(world: World) -> dict[str, Any]:
    found = await world.auth0_user(DOCTOR)
    assert found is not None
    return found


async def listed(world: World) -> Any:
    user = await call(world, "GET", f"/users/{(await _doctor(world))['user_id']}")
    return user["app_metadata"].get("organizations")


async def _others_list(world: World, value: Any) -> None:
    change = {"app_metadata": {"organizations": value, "theirs": 1}}
    await call(world, "PATCH", f"/users/{(await _doctor(world))['user_id']}", change)


async def _joined(world: World, name: str) -> User:
    user = await world.join(name, DOCTOR)
    await world.settled()
    return user


async def test_who_is_created_is_listed_by_the_same_call(listing: World) -> None:
    listing.work()
    await _joined(listing, "clinic-a")
    writes = [c for c in await listing.calls() if c["method"] == "PATCH"]
    assert writes == []
    assert await listed(listing) == ["a"]


async def test_each_organization_adds_and_takes_away_its_own_entry(listing: World) -> None:
    listing.work()
    a = await _joined(listing, "clinic-a")
    await _joined(listing, "clinic-b")
    assert await listed(listing) == ["a", "b"]
    await listing.change(a, active=False)
    await listing.settled()
    assert await listed(listing) == ["b"]
    await listing.change(a, active=True)
    await listing.settled()
    assert await listed(listing) == ["b", "a"]


async def test_what_others_put_there_meanwhile_stays(listing: World) -> None:
    listing.work()
    a = await _joined(listing, "clinic-a")
    theirs = [{"id": 7}, "a", "elsewhere", 3]
    await _others_list(listing, theirs)
    await _joined(listing, "clinic-b")
    assert await listed(listing) == [*theirs, "b"]
    await _others_list(listing, ["late", *theirs, "b"])
    await listing.delete(a)
    await listing.settled()
    assert await listed(listing) == ["late", {"id": 7}, "elsewhere", 3, "b"]
    assert (await call(listing, "GET", f"/users/{(await _doctor(listing))['user_id']}"))[
        "app_metadata"
    ]["theirs"] == 1


async def test_who_leaves_is_off_the_list_before_sessions_end(listing: World) -> None:
    listing.work()
    a = await _joined(listing, "clinic-a")
    await _joined(listing, "clinic-b")
    before = (await listing.calls())[-1]["number"]
    await listing.change(a, active=False)
    await listing.settled()
    steps = [(c["method"], c["path"].split("/")[-1]) for c in await listing.calls(before)]
    user_id = (await _doctor(listing))["user_id"]
    assert [(m, "user" if last == user_id else last) for m, last in steps] == [
        ("DELETE", "members"),
        ("GET", "user"),
        ("PATCH", "user"),
        ("POST", "revoke-access"),
    ]


async def test_an_adopted_account_is_marked_and_listed_by_one_call(listing: World) -> None:
    user_id = await sign_up(listing, "clinics-users", DOCTOR, verified=True)
    before = {"app_metadata": {"organizations": ["legacy"]}}
    await call(listing, "PATCH", f"/users/{user_id}", before)
    count = len(await listing.writes("PATCH", user_id))
    listing.work()
    user = await _joined(listing, "clinic-a")
    assert await listed(listing) == ["legacy", "a"]
    assert len(await listing.writes("PATCH", user_id)) == count + 1
    assert (await listing.told(user))[:2] == ["user.adopted", "user.updated"]


async def test_nothing_is_read_or_written_where_nobody_asks(world: World) -> None:
    world.work()
    a = await _joined(world, "clinic-a")
    await _others_list(world, ["theirs"])
    before = (await world.calls())[-1]["number"]
    await _joined(world, "clinic-b")
    await world.change(a, active=False)
    await world.settled()
    user_id = (await _doctor(world))["user_id"]
    assert [c for c in await world.calls(before) if c["path"].endswith(user_id)] == []
    assert await listed(world) == ["theirs"]


async def test_a_declaration_lists_those_who_are_there_and_its_end_takes_nobody_off(
    world: World,
) -> None:
    world.work()
    await _joined(world, "clinic-a")
    await _others_list(world, ["theirs"])
    assert await listed(world) == ["theirs"]
    await _declares(world, "clinic-a", "a")
    assert await listed(world) == ["theirs", "a"]
    await _declares(world, "clinic-a", "")
    assert await listed(world) == ["theirs", "a"]


async def _declares(world: World, name: str, entry: str) -> None:
    """As ``org apply`` does."""
    organization = (await world.registered(name)).organization
    changed = organization.model_copy(update={"app_metadata_organizations": entry})
    await world.database.transact(
        lambda tx: declaring.apply(
            tx,
            Installation(organizations=(changed,)),
            known_tenants={"main"},
            actor="eve",
            now=world.clock.now(),
        )
    )
    await world.settled()


async def test_who_no_longer_asks_leaves_the_list_to_others(listing: World) -> None:
    listing.work()
    a = await _joined(listing, "clinic-a")
    await asks(listing, "clinic-a", "")
    await listing.change(a, active=False)
    await listing.settled()
    assert await listed(listing) == ["a"]


async def test_another_entry_takes_the_place_of_the_former(listing: World) -> None:
    listing.work()
    a = await _joined(listing, "clinic-a")
    await asks(listing, "clinic-a", "org_a")
    await listing.change(a, title="Dr")
    await listing.settled()
    assert await listed(listing) == ["org_a"]


async def test_what_is_not_a_list_is_left_and_told(listing: World) -> None:
    listing.work()
    a = await _joined(listing, "clinic-a")
    await _others_list(listing, {"a": True})
    b = await _joined(listing, "clinic-b")
    assert await listed(listing) == {"a": True}
    assert (await listing.user(b)).state == "failed"
    assert (await listing.endings())[-1] == ("deadlettered", None, "app_metadata_not_a_list")
    assert ("clinic-b", DOCTOR) in await listing.members()
    await _others_list(listing, [])
    await listing.change(a, title="Dr")
    await listing.settled()
    assert await listed(listing) == ["a", "b"]


async def test_a_refused_membership_leaves_no_entry(listing: World) -> None:
    organization = (await listing.registered("clinic-b")).organization
    nowhere = organization.model_copy(update={"auth0_organization": "no-such-clinic"})
    await listing.apply(nowhere)
    listing.work()
    await _joined(listing, "clinic-a")
    await _joined(listing, "clinic-b")
    assert await listed(listing) == ["a"]


async def test_a_lost_answer_is_read_before_it_is_repeated(listing: World) -> None:
    listing.work()
    await _joined(listing, "clinic-a")
    await _others_list(listing, ["a", "theirs"])
    user_id = (await _doctor(listing))["user_id"]
    count = len(await listing.writes("PATCH", user_id))
    await listing.fault("drop-after-commit", "PATCH", "/users/*", times=1)
    before = (await listing.calls())[-1]["number"]
    user = await _joined(listing, "clinic-b")
    reads = [c for c in await listing.calls(before) if c["method"] == "GET"]
    assert len([c for c in reads if c["path"].endswith(user_id)]) == 2
    assert await listed(listing) == ["a", "theirs", "b"]
    assert len(await listing.writes("PATCH", user_id)) == count + 1
    assert (await listing.told(user)).count("user.updated") == 1


async def test_a_leaver_is_out_though_the_list_cannot_be_written(listing: World) -> None:
    listing.work()
    a = await _joined(listing, "clinic-a")
    await _joined(listing, "clinic-b")
    await listing.fault("status", "PATCH", "/users/*", status=400, times=1)
    before = (await listing.calls())[-1]["number"]
    await listing.change(a, active=False)
    await listing.settled()
    assert len([c for c in await listing.calls(before) if c["path"].endswith("revoke-access")]) == 1
    assert await listing.members() == {("clinic-b", DOCTOR)}
    assert (await listing.user(a)).state == "failed"


async def test_what_is_told_names_no_other_organization_s_entry(listing: World) -> None:
    organization = (await listing.registered("clinic-b")).organization
    await listing.apply(organization.model_copy(update={"outcomes": "full"}))
    listing.work()
    await _joined(listing, "clinic-a")
    b = await _joined(listing, "clinic-b")
    updated = [o for o in await listing.outcomes(b) if "user.updated" in o.type]
    assert len(updated) == 1
    assert updated[0].data["changed"] == ["app_metadata.organizations"]
    assert updated[0].data.get("values") is None


async def test_an_entry_that_others_took_away_is_back_when_the_account_is_read(
    listing: World,
) -> None:
    listing.work()
    user = await _joined(listing, "clinic-a")
    await _others_list(listing, ["theirs"])
    await look(listing, user)
    assert await listed(listing) == ["theirs", "a"]


SUBJECT = Subject(organization="acme", user_id="u1")
NAMES = st.sampled_from(["acme", "globex", "initech"])
THEIRS = st.one_of(
    st.integers(), st.none(), st.text(), st.lists(st.integers()), st.just({"id": "globex"})
)
ENTRIES = st.sampled_from(["a", "g", "i", "x"])


@st.composite
def wishes(draw: st.DrawFn) -> Desired:
    staying = draw(st.dictionaries(NAMES, ENTRIES))
    leaving = draw(st.dictionaries(NAMES, ENTRIES))
    leaving = {name: entry for name, entry in leaving.items() if name not in staying}
    return Desired(
        model="shared",
        principal=SUBJECT,
        connection=Connection(name="users"),
        email="a@x.example",
        wanted=bool(staying),
        memberships={name: Wish(subject=SUBJECT) for name in staying},
        leavers=dict.fromkeys(leaving, SUBJECT),
        entries=staying,
        former_entries=leaving,
    )


PICTURES = st.builds(
    Observed,
    listed=st.lists(st.one_of(ENTRIES, THEIRS)).map(tuple),
    entries=st.dictionaries(NAMES, ENTRIES),
)


@given(desired=wishes(), observed=PICTURES)
def test_the_list_holds_who_is_in_and_nobody_who_has_left(
    desired: Desired, observed: Observed
) -> None:
    there = list_after(desired, observed)
    wanted = set(desired.entries.values())
    assert all(entry in there for entry in wanted)
    assert not [e for e in desired.former_entries.values() if e not in wanted and e in there]


@given(desired=wishes(), observed=PICTURES)
def test_what_is_not_ours_stays_in_its_place(desired: Desired, observed: Observed) -> None:
    ours = {
        *desired.entries.values(),
        *desired.former_entries.values(),
        *observed.entries.values(),
    }

    def theirs(entries: tuple[Any, ...]) -> list[Any]:
        return [each for each in entries if not isinstance(each, str) or each not in ours]

    assert theirs(list_after(desired, observed)) == theirs(observed.listed or ())


@given(desired=wishes(), observed=PICTURES)
def test_a_list_in_step_is_not_written_again(desired: Desired, observed: Observed) -> None:
    reached = replace(observed, listed=list_after(desired, observed))
    assert list_after(desired, reached) == reached.listed
    present = replace(settled(reached, desired), presence="present", marked=True)
    kinds = {each.kind for each in plan(desired, present)}
    assert "list-organizations" not in kinds
