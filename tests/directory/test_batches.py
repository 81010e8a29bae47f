"""A batch of worker events leaves what the same events leave that come one by one."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.engine import Row

from service.directory import tables as t
from service.directory import workers
from service.directory.database import Database, Transaction
from service.directory.events import Problem
from service.directory.inbox import Received
from service.directory.workers import Delivery, Refusal
from service.organizations import (
    Connection,
    JoinKey,
    MassLeavers,
    Model,
    Organization,
    Policies,
)
from service.workers import WorkerEvent
from tests.directory.customer import Customer, registered
from tests.infrastructure.examples import tried_on

ON_DATABASE = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
PEOPLE = ["w1", "w2", "W1", "w3"]
ADDRESSES = ["a@x.example", "b@x.example", "A@x.example", "c@x.example", "none"]
KINDS: list[tuple[Model, JoinKey]] = [
    ("isolated", "externalId"),
    ("shared", "userName"),
    ("shared", "externalId"),
]
LENIENT = MassLeavers()
HOW = ("staged", "refused")
_worlds = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """An event of organization 0, 1 or 2, or something else that happens between two batches."""

    what: str
    organization: int
    person: str = ""
    kind: str = "changed"
    said: tuple[tuple[str, str], ...] = ()
    sequence: int | None = None
    ahead: int = 0
    employment: str | None = None
    immediate: bool = False
    earlier: int = 0


events = st.builds(
    Step,
    what=st.just("event"),
    organization=st.integers(0, 2),
    person=st.sampled_from(PEOPLE),
    kind=st.sampled_from(
        [
            *("hired", "changed", "hired", "changed", "snapshot", "terminated", "rehired"),
            *("suspended", "leave_started", "leave_ended", "hire_rescinded", "deleted"),
        ]
    ),
    said=st.lists(
        st.tuples(st.sampled_from(["email", "email", "title"]), st.sampled_from(ADDRESSES)),
        max_size=2,
    ).map(tuple),
    sequence=st.none() | st.integers(1, 5),
    ahead=st.sampled_from([0, 0, 0, 0, 1, 2]),
    employment=st.sampled_from([None, None, None, "e1"]),
)
others = st.builds(
    Step,
    what=st.sampled_from(
        ["again", "redelivered", "reused", "refused", "apply", "due", "create", "again"]
    ),
    organization=st.integers(0, 2),
    person=st.sampled_from(PEOPLE),
    said=st.tuples(st.tuples(st.just("email"), st.sampled_from(ADDRESSES))),
    earlier=st.integers(0, 5),
)
stories = st.lists(st.one_of(events, events, others), min_size=2, max_size=16)


class World:
    """Three organizations, two of which share their accounts, in a tenant of their own."""

    def __init__(self, customers: Sequence[Customer], due_at_once: int) -> None:
        self.customers = customers
        self._due_at_once = due_at_once
        self._sent: list[tuple[int, WorkerEvent, Received]] = []
        self._waiting: list[Delivery | Refusal] = []
        self._offsets = itertools.count()

    @classmethod
    async def made(
        cls, database: Database, *, policy: MassLeavers = LENIENT, due_at_once: int = 300
    ) -> World:
        name = f"t{next(_worlds)}"
        pool = (Connection(name="pool"),)
        return cls(
            [
                await registered(
                    database,
                    Organization(
                        name=f"{name}-{n}",
                        model=model,
                        tenant=name,
                        join=join,
                        connections=pool,
                        policies=Policies(mass_leavers=policy),
                    ),
                )
                for n, (model, join) in enumerate(KINDS)
            ],
            due_at_once,
        )

    async def play(self, story: Sequence[Step], cuts: Sequence[int]) -> list[str]:
        """The verdicts, in order. ``cuts``: after so many events a batch ends, over and over."""
        lengths = itertools.cycle(cuts)
        left, verdicts = next(lengths), list[str]()
        for step in story:
            if step.what in ("apply", "due", "create"):
                verdicts += await self._accept()
                await self._meanwhile(step)
                continue
            self._waiting.append(self._input(step))
            left -= 1
            if left == 0:
                verdicts += await self._accept()
                left = next(lengths)
        return verdicts + await self._accept()

    async def _accept(self) -> list[str]:
        batch, self._waiting = self._waiting, []
        done = await self.customers[0].database.transact(lambda tx: workers.accept_many(tx, batch))
        return [admission.verdict for admission in done]

    async def _meanwhile(self, step: Step) -> None:
        customer = self.customers[step.organization]
        if step.what == "apply":
            await customer.apply()
        elif step.what == "due":
            for each in self.customers:
                each.now += timedelta(days=1)
            while await customer.run_due(self._due_at_once):
                pass
        else:
            known = [str(user.external_id) for user in await customer.everyone() if user.in_scim]
            if step.person not in known:
                # By its number, so that no two have one userName.
                email = {"value": step.said[0][1], "primary": True}
                name = f"{step.person}-{len(known)}"
                await customer.create(name, externalId=step.person, emails=[email])

    def _input(self, step: Step) -> Delivery | Refusal:
        if step.what == "event" or not self._sent:
            return self._delivery(*self._new(step))
        number, event, received = self._sent[step.earlier % len(self._sent)]
        if step.what == "redelivered":
            return self._delivery(number, event, received)
        received = replace(received, offset=next(self._offsets))
        if step.what == "reused":
            return self._delivery(number, event, replace(received, body=b"other"))
        if step.what == "refused":
            return Refusal(
                organization=self.customers[number].name,
                ended="rejected",
                problem=Problem(kind="input", code="no", message="No."),
                received=replace(received, source_id=f"refused {received.offset}"),
            )
        return self._delivery(number, event, received)

    def _new(self, step: Step) -> tuple[int, WorkerEvent, Received]:
        now = self.customers[0].now
        at = now + timedelta(days=step.ahead) if step.ahead else None
        event = WorkerEvent(
            type=f"worker.{step.kind}",
            worker_id=step.person,
            effective_at=at,
            sequence=step.sequence,
            attributes=dict(step.said),
            employment_id=step.employment,
            immediate=step.immediate,
        )
        offset = next(self._offsets)
        received = Received(
            door="kafka",
            source="hr",
            source_id=f"event {offset}",
            type=event.type,
            at=now,
            body=b"%d" % offset,
            effective_at=at,
            topic=self.customers[0].name,
            partition=0,
            offset=offset,
        )
        self._sent.append((step.organization, event, received))
        return self._sent[-1]

    def _delivery(self, number: int, event: WorkerEvent, received: Received) -> Delivery:
        who = self.customers[number].registered
        return Delivery(registered=who, event=event, received=received)

    async def left(self) -> dict[str, Any]:
        """The directory of this world, with names in the place of what is drawn at random."""
        return await self.customers[0].database.read(self._left)

    def _left(self, tx: Transaction) -> dict[str, Any]:
        names = [customer.name for customer in self.customers]
        users = tx.execute(select(t.users).where(t.users.c.organization.in_(names))).all()
        events = tx.execute(
            select(t.events).where(t.events.c.organization.in_(names)).order_by(t.events.c.number)
        ).all()
        tenant = self.customers[0].registered.organization.tenant
        housed = tx.execute(select(t.accounts).where(t.accounts.c.tenant == tenant)).all()
        places = {row.id: f"{row.identifier} {row.closed_at}" for row in housed}
        who: dict[Any, str] = {
            row.id: f"{row.organization[-1]} {row.worker_id} {row.external_id}" for row in users
        }
        which: dict[Any, str] = {row.id: _label(row) for row in events}
        numbers = {row.number: _label(row) for row in events}
        told: defaultdict[str, list[Any]] = defaultdict(list)
        outcomes = select(t.outcomes).where(t.outcomes.c.organization.in_(names))
        for row in tx.execute(outcomes.order_by(t.outcomes.c.number)):
            by = which.get(row.data.get("supersededBy", ""))
            told[str(who.get(row.user_id, row.organization[-1]))].append(
                (
                    *(row.sequence if row.user_id else 0, row.type, which.get(row.event_id), by),
                    row.data.get("threshold"),
                )
            )
        waits = tx.execute(select(t.waits).where(t.waits.c.event_id.in_(list(which)))).all()
        planned = tx.execute(select(t.schedule).where(t.schedule.c.organization.in_(names))).all()
        departed = tx.execute(
            select(t.departures).where(t.departures.c.organization.in_(names))
        ).all()
        return {
            "users": sorted(
                repr(
                    (
                        who[row.id],
                        *(row.employment, row.state, row.detail, row.identifier),
                        *(row.join_key, row.deleted_at, row.created_at, row.modified_at),
                        *(row.version, places.get(row.account_id), which[row.last_event_id]),
                        _named((row.employment_order, row.leave, row.employments), numbers),
                        _named(row.worker, numbers),
                        _labelled(row.withheld, which),
                    )
                )
                for row in users
            ),
            "accounts": sorted(
                (places[row.id], row.revision, row.applied_revision, row.leaver, str(row.due_at))
                for row in housed
            ),
            "events": sorted(
                repr((_label(row), row.state, row.result, row.error, who.get(row.user_id)))
                for row in events
            ),
            "waits": sorted(
                (which[row.event_id], who[row.user_id], places[row.account_id], row.revision)
                for row in waits
            ),
            "planned": sorted((which[row.event_id], row.kind, str(row.due_at)) for row in planned),
            "outcomes": {key: sorted(map(repr, rows)) for key, rows in told.items()},
            "departures": sorted((row.organization[-1], who[row.user_id]) for row in departed),
            # Of those who leave at one moment it does not matter who is counted first.
            "ordinals": sorted(
                (row.organization[-1], row.ordinal, str(row.at)) for row in departed
            ),
        }


def _label(event: Row[Any]) -> str:
    return f"{event.organization[-1]} {event.type} at {event.offset} {event.source_id}"


def _labelled(withheld: Any, which: dict[Any, str]) -> Any:
    """What is withheld, with the events' names in the place of their ids."""
    if withheld is None:
        return None
    return [(how, sorted((cause, which[it]) for cause, it in withheld[how].items())) for how in HOW]


def _named(value: Any, numbers: dict[int, str]) -> Any:
    """Orders with the event's name in the place of its number of acceptance."""
    match value:
        case [int() | None as sequence, int() as number]:
            return [sequence, numbers.get(number, number)]
        case list() | tuple():
            return [_named(each, numbers) for each in value]
        case dict():
            return {name: _named(each, numbers) for name, each in sorted(value.items())}
        case _:
            return value


@tried_on(40, suppressed=ON_DATABASE.suppress_health_check)
@given(story=stories, cuts=st.lists(st.integers(2, 12), min_size=1, max_size=3))
async def test_a_batch_leaves_what_the_same_events_leave_one_by_one(
    database: Database, story: list[Step], cuts: list[int]
) -> None:
    singly, together = await World.made(database), await World.made(database)
    verdicts = await singly.play(story, [1])
    assert await together.play(story, cuts) == verdicts
    assert await together.left() == await singly.left()


POLICIES = st.builds(
    MassLeavers,
    enabled=st.sampled_from([True, True, True, False]),
    count=st.integers(0, 2),
    share=st.sampled_from([0, 0.3, 0.5, 1]),
)
STAFF = [f"w{n}" for n in range(7)]
NEWCOMERS = ["n1", "n2", "n3"]


def said_of(
    person: str, kind: str, *, ahead: int = 0, email: str = "", immediate: bool = False
) -> Step:
    step = Step(what="event", organization=0, person=person, kind=kind, ahead=ahead)
    return replace(step, said=(("email", email),) if email else (), immediate=immediate)


leavings = st.builds(
    said_of,
    st.sampled_from(STAFF),
    st.sampled_from(["terminated", "terminated", "suspended", "deleted"]),
    ahead=st.sampled_from([0, 0, 1]),
    immediate=st.sampled_from([False, False, False, True]),
)
returns = st.builds(said_of, st.sampled_from(STAFF), st.sampled_from(["rehired", "changed"]))
joinings = st.builds(
    said_of,
    st.sampled_from(NEWCOMERS),
    st.just("hired"),
    ahead=st.integers(0, 1),
    email=st.sampled_from(["n@x.example", "m@x.example", "o@x.example"]),
)
APPLY, DUE = (Step(what=what, organization=0) for what in ("apply", "due"))
HIRINGS = [said_of(person, "hired", email=f"{person}@x.example") for person in STAFF]


LEAVING = given(
    policy=POLICIES,
    story=st.lists(
        st.one_of(leavings, leavings, returns, joinings, st.just(DUE)), min_size=4, max_size=25
    ),
    applied=st.booleans(),
    cuts=st.lists(st.integers(2, 12), min_size=1, max_size=3),
)


@settings(ON_DATABASE, max_examples=5)
@LEAVING
async def test_a_batch_of_leavers_lets_those_go_who_would_go_one_by_one(
    database: Database, policy: MassLeavers, story: list[Step], applied: bool, cuts: list[int]
) -> None:
    """And what has come due at one moment lets go whom it would let go one after the other."""
    await leaves_the_same(database, policy, story, applied, cuts)


@pytest.mark.kill
@settings(ON_DATABASE, max_examples=200)
@LEAVING
async def test_so_do_many_batches_of_leavers(
    database: Database, policy: MassLeavers, story: list[Step], applied: bool, cuts: list[int]
) -> None:
    await leaves_the_same(database, policy, story, applied, cuts)


@pytest.mark.parametrize("other", ["joins", "is thrown out"])
async def test_who_comes_or_goes_behind_a_leaver_does_not_count_for_that_leaver(
    database: Database, other: str
) -> None:
    """Neither way: of seven people two may go, of six just one, of nine three or none."""
    out = [said_of(person, "terminated") for person in STAFF]
    if other == "joins":
        hired = [said_of(f"n{n}", "hired", email=f"n{n}@x.example") for n in range(3)]
        story = [out[0], *hired, *out[1:3]]
    else:
        story = [*out[:2], said_of(STAFF[6], "terminated", immediate=True)]
    policy = MassLeavers(count=0, share=0.3)
    await leaves_the_same(database, policy, story, True, [len(story)])


async def leaves_the_same(
    database: Database, policy: MassLeavers, story: list[Step], applied: bool, cuts: list[int]
) -> None:
    singly = await World.made(database, policy=policy, due_at_once=1)
    together = await World.made(database, policy=policy)
    story = [*HIRINGS, *([APPLY] if applied else []), *story, DUE, DUE]
    verdicts = await singly.play(story, [1])
    assert await together.play(story, cuts) == verdicts
    assert await together.left() == await singly.left()
