"""One person whom SCIM and HR both speak of ends the same, in whichever order the two are heard."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.directory import people, roles
from service.directory.database import Database
from service.organizations import Connection, JoinKey, Organization, Source
from service.people import (
    ENTERPRISE,
    Cause,
    Profile,
    User,
    causes,
    identifier_of,
    is_wanted,
    profile_of,
)
from service.workers import Employment, WorkerEvent, attributes_after
from tests.directory.customer import START, Customer, registered
from tests.directory.test_order import ON_DATABASE

_organizations = itertools.count(1)
WORKER = "W1"
HR = {
    "worker.hired": {"email": "hr@x.example", "given_name": "Ada"},
    "worker.rehired": {"family_name": "King"},
    "worker.terminated": {},
    "worker.suspended": {},
    "worker.leave_started": {},
    "worker.leave_ended": {},
    "worker.changed": {"email": "new@x.example", "display_name": "Countess"},
    "worker.snapshot": {"given_name": "Augusta", "email": None},
}
SCIM = {
    "move": {"emails": [{"value": "moved@x.example"}]},
    "rename": {"name": {"givenName": "Ann", "familyName": "Lee"}, "displayName": "Ann Lee"},
    "deactivate": {"active": False},
    "reactivate": {"active": True},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """``hr``: in the order of their sequence. ``scim``: in order; ``late_key``: whether the first of
    them creates the user without the key, which the last one adds.
    """

    organization: Organization
    hr: Sequence[WorkerEvent]
    scim: Sequence[str]
    late_key: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    causes: frozenset[Cause]
    wanted: bool
    profile: Profile
    identifier: str | None


@st.composite
def stories(draw: st.DrawFn) -> Story:
    number = next(_organizations)
    sources: st.SearchStrategy[Mapping[str, Source]] = st.dictionaries(
        st.sampled_from(["default", "email", "given_name", "display_name"]),
        st.sampled_from(get_args(Source)),
        max_size=2,
    )
    organization = Organization(
        name=f"o{number}",
        connections=(Connection(name=f"users-{number}"),),
        join=draw(st.sampled_from(get_args(JoinKey))),
        attributes_from=dict(draw(sources)),
    )
    drawn = draw(
        st.lists(st.tuples(st.sampled_from(sorted(HR)), st.booleans()), min_size=1, max_size=5)
    )
    hr = [
        WorkerEvent(
            type=kind,
            worker_id=WORKER,
            sequence=n,
            attributes=HR[kind],
            employment_id="main" if named else None,
        )
        for n, (kind, named) in enumerate(drawn)
    ]
    scim = draw(st.lists(st.sampled_from(sorted(SCIM)), max_size=4))
    return Story(organization=organization, hr=hr, scim=scim, late_key=draw(st.booleans()))


def expected(story: Story) -> Ending:
    """What both sources say in the end, each by its own order."""
    employment, worker = Employment(), dict[str, Any]()
    for n, event in enumerate(story.hr):
        order = [event.sequence, n]
        if event.kind != "attributes":
            employment = employment.after(event, order) or employment
        worker = attributes_after(worker, event, order) or worker
    resource = created(story)
    for verb in story.scim:
        resource |= SCIM[verb]
    user = User(
        id="u",
        organization=story.organization.name,
        resource=resource,
        active=resource.get("active", True),
        worker=worker,
        created_at=START,
        modified_at=START,
        **people.columns_of(employment),
    )
    return ending_of(user, story.organization)


def ending_of(user: User, organization: Organization) -> Ending:
    return Ending(
        causes=frozenset(causes(user, organization)),
        wanted=is_wanted(user, organization),
        profile=profile_of(user, organization),
        identifier=identifier_of(user, organization),
    )


def created(story: Story) -> dict[str, Any]:
    return {"userName": "w1", "emails": [{"value": "scim@x.example"}]} | key(story)


def key(story: Story) -> dict[str, Any]:
    match story.organization.join:
        case "employeeNumber":
            return {ENTERPRISE: {"employeeNumber": WORKER}}
        case join:
            return {join: WORKER}


@ON_DATABASE
@given(story=stories(), data=st.data())
async def test_a_person_ends_the_same_in_every_order_of_hr_and_scim(
    database: Database, story: Story, data: st.DataObject
) -> None:
    customer = await registered(database, story.organization)
    scim = ["create", *story.scim, *(["key"] if story.late_key else [])]
    turns = data.draw(st.permutations(["scim"] * len(scim) + ["hr"] * len(story.hr)))
    hr, said = iter(data.draw(st.permutations(story.hr))), iter(scim)
    for turn in turns:
        if turn == "hr":
            event = next(hr)
            await customer.deliver(event, customer.from_hr(event.type))
        else:
            await speak(customer, story, next(said))
    user = await customer.user(WORKER)
    assert ending_of(user, story.organization) == expected(story)
    assert user.identifier == expected(story).identifier
    account = await customer.account(user)
    # Who was joined late may once have had two accounts, and an operator decides on an address
    # that the other one holds.
    if expected(story).wanted and expected(story).identifier and not story.late_key:
        assert account is not None
        assert account.identifier == user.identifier
    assert [other.id for other in await customer.everyone() if other.worker_id] == [user.id]
    await customer.apply()
    assert not {"accepted", "scheduled"} & set(await customer.states())


async def speak(customer: Customer, story: Story, verb: str) -> None:
    if verb == "create":
        without = dict.fromkeys(key(story)) if story.late_key else {}
        resource = {
            name: value for name, value in (created(story) | without).items() if value is not None
        }
        await customer.create(resource.pop("userName", "someone"), **resource)
        return
    (user,) = [user for user in await customer.everyone() if user.in_scim]
    await customer.change(user, **(key(story) if verb == "key" else SCIM[verb]))


@pytest.mark.parametrize(
    ("chosen", "granted"),
    [
        ({}, {"of-hr", "of-scim"}),
        ({"default": "hr"}, {"of-hr", "of-scim"}),
        ({"groups": "hr"}, {"of-hr"}),
        ({"groups": "scim"}, {"of-scim"}),
    ],
)
async def test_the_groups_of_both_count_unless_one_source_is_named(
    database: Database, chosen: dict[str, Source], granted: set[str]
) -> None:
    organization = Organization(
        name="hoekstra",
        connections=(Connection(name="users"),),
        attributes_from=chosen,
        roles={"Staff": "of-hr", "Chiefs": "of-scim"},
    )
    customer = await registered(database, organization)
    user = await customer.create("ann@x.example", externalId=WORKER)
    await customer.enrol(user, "Chiefs")
    said = WorkerEvent(type="worker.hired", worker_id=WORKER, groups=("Staff",))
    await customer.deliver(said, customer.from_hr(said.type))
    user = await customer.user(user)
    found = await database.read(lambda tx: roles.of_user(tx, user, organization))
    assert found == granted
