"""The same events, once in order and once five times and shuffled, leave the same behind in Auth0."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from sqlalchemy import and_, func, or_, select

from consumers.cloudevents import STRUCTURED
from consumers.intake import Intake
from consumers.kafka import IntakeSettings
from operators.sample.organizations import CLIENT_SECRET
from service.auth0.calls import http_client
from service.auth0.client import Auth0Client
from service.auth0.pacing import Pacer
from service.directory import organizations, tables
from service.directory.database import Database, Transaction, Work, open_database
from service.kafka import KafkaConnection
from service.mail import FolderMailer
from service.organizations import EventSource, MassLeavers
from service.outcomes.publisher import Publisher, PublisherSettings
from service.provisioning.fleet import Calendar
from service.provisioning.lanes import Lanes
from service.provisioning.perform import Performer
from service.provisioning.tenancy import Tenancy
from tests.conftest import CreateTopic
from tests.infrastructure.postgres import create_database, drop_database
from tests.kill.end_state import all_events, all_outcomes, require_each_once
from tests.kill.generated_hr import EVENTS, Signal, gone_wrong, history
from tests.provisioning.world import Simulator, World, tenant_of

_PATIENCE = 150.0
"""Seconds for one part of a run; 20 are usual."""
_RANDOM_KEYS = {"user_id", "identities", "created_at", "updated_at", "last_password_reset"}
_MAKES = re.compile(r"^/(users|organizations/[^/]+/invitations|tickets/.*|jobs/.*)$")
"""Writes that make an account or have a mail sent."""
_ENDS = re.compile(
    r"^io\.auth0-provisioner\.event\."
    r"(succeeded|superseded|rejected|deadlettered|duplicate|cancelled|discarded)\.v1$"
)


class Unpaced(Pacer):
    """The simulator has no limits here."""

    async def turn(self, group: Any, *, leaver: bool = False, background: bool = False) -> None:
        return


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What a run leaves behind. Users by the worker, without Auth0's own keys and times."""

    users: dict[str, dict[str, Any]]
    members: dict[str, tuple[str, ...]]
    creations: Counter[str]
    mails: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Everything that one run works with."""

    world: World
    servers: str
    topic: str
    outcomes: str
    dead: str

    @property
    def database(self) -> Database:
        return self.world.database

    @contextlib.asynccontextmanager
    async def working(self, *, lanes: bool = True) -> AsyncGenerator[None]:
        """Intake, calendar and publisher, and lanes, until they are not needed any more."""
        connection = KafkaConnection(bootstrap_servers=self.servers)
        clock = self.world.clock
        intake = Intake(
            database=self.database,
            clock=clock,
            settings=IntakeSettings(
                connection=connection, group_id=self.topic, refresh_sources_every=1.0
            ),
        )
        publisher = Publisher(
            database=self.database,
            clock=clock,
            owner=self.topic,
            settings=PublisherSettings(
                connection=connection, outcomes_topic=self.outcomes, deadletters_topic=self.dead
            ),
        )
        calendar = Calendar(database=self.database, clock=clock)
        stop = asyncio.Event()
        workers = [intake.run, publisher.run, calendar.run]
        workers += [self._lanes().run] if lanes else []
        running = [asyncio.create_task(each(stop)) for each in workers]
        try:
            yield
            assert intake.facts.restarts == 0
        finally:
            stop.set()
            await asyncio.gather(*running)

    def _lanes(self) -> Tenancy:
        tenant = tenant_of(self.world)
        client = Auth0Client(
            tenant,
            CLIENT_SECRET,
            clock=self.world.clock,
            pacer=Unpaced(tenant.plan, self.world.clock),
            http=http_client(),
        )
        mailer = FolderMailer(self.world.folder / "mail")
        lanes = Lanes(
            "main",
            database=self.database,
            performer=Performer(client, mailer=mailer, sender="no-reply@example.com"),
            clock=self.world.clock,
        )
        return Tenancy(
            "main",
            database=self.database,
            client=client,
            works=(lanes,),
            clock=self.world.clock,
            owner=self.topic,
        )

    async def send(self, signals: Sequence[Signal]) -> None:
        headers = [("content-type", STRUCTURED.encode())]
        async with AIOKafkaProducer(
            bootstrap_servers=self.servers, enable_idempotence=True
        ) as producer:
            for each in signals:
                await producer.send(
                    self.topic, each.body, key=each.worker.encode(), headers=headers
                )

    async def taken_in(self, count: int) -> None:
        """Until so many events have come, and nothing is planned any more."""

        def waiting(tx: Transaction) -> dict[str, int]:
            events = tables.events
            return {
                "events to come": count - _count(tx, events),
                "planned events": _count(tx, events, events.c.state == "scheduled"),
            }

        await self._until_none(waiting)

    async def settled(self, count: int) -> None:
        """Until so many events have come and ended, nothing is due or planned, and all is told."""

        def waiting(tx: Transaction) -> dict[str, int]:
            events, outcomes, accounts = tables.events, tables.outcomes, tables.accounts
            now = self.world.clock.now()
            wanted = accounts.c.revision > accounts.c.applied_revision
            # Leavers whose links are open are looked at again and again, with nothing left to do.
            due = or_(
                accounts.c.due_at <= now,
                and_(accounts.c.due_at <= now + timedelta(minutes=1), wanted),
            )
            return {
                "events to come": count - _count(tx, events),
                "open events": _count(
                    tx, events, events.c.state.in_(("accepted", "scheduled", "staged"))
                ),
                "accounts due": _count(tx, accounts, due),
                "outcomes to publish": _count(tx, outcomes, outcomes.c.published_at.is_(None)),
            }

        await self._until_none(waiting)

    async def _until_none(self, waiting: Work[dict[str, int]]) -> None:
        deadline = self.world.clock.monotonic() + _PATIENCE
        while any((left := await self.database.read(waiting)).values()):
            assert self.world.clock.monotonic() < deadline, left
            await asyncio.sleep(0.2)

    async def left(self) -> Left:
        state = await self.world.state()
        users = {_worker(each["email"]): each for each in state["users"]}
        assert len(users) == len(state["users"]), "a worker has two accounts"
        names = {each["user_id"]: name for name, each in users.items()}
        created: Counter[str] = Counter()
        for call in await self.world.calls():
            path = call["path"].partition("/api/v2")[2] or call["path"]
            if call["method"] == "POST" and _MAKES.search(path) and call["status"] < 300:
                created[path] += 1
        return Left(
            users={name: _kept(each) for name, each in users.items()},
            members={
                names[each["user_id"]]: tuple(sorted(each["roles"])) for each in state["members"]
            },
            creations=created,
            mails=len(self.world.mails()),
        )


def _count(tx: Transaction, table: Any, *where: Any) -> int:
    return tx.execute(select(func.count()).select_from(table).where(*where)).scalar_one()


def _worker(address: str) -> str:
    return re.split(r"[.@]", address)[0]


def _kept(user: dict[str, Any]) -> dict[str, Any]:
    """Without what is random or a time: the account's key in our marker, too."""
    marker = user["app_metadata"]["auth0_provisioner"]
    assert marker.keys() == {"account"}
    kept = {name: value for name, value in user.items() if name not in _RANDOM_KEYS}
    return kept | {"app_metadata": user["app_metadata"].keys() - {"auth0_provisioner"}}


@contextlib.asynccontextmanager
async def site(
    folder: Path, postgres_url: str, servers: str, kafka_topic: CreateTopic
) -> AsyncGenerator[Site]:
    url = await create_database(postgres_url)
    database = open_database(url)
    simulator = Simulator(folder / "simulator")
    address = await simulator.start()
    try:
        await database.transact(tables.metadata.create_all)
        topic = await kafka_topic("hr.events", partitions=12)
        async with httpx.AsyncClient(base_url=address) as http:
            world = World(database=database, url=address, folder=folder, http=http)
            await world.declare()
            await _let_everybody_leave(world)
            source = EventSource(name="hr", topic=topic, organizations=("hoekstra",))
            await database.transact(lambda tx: organizations.apply_source(tx, source))
            yield Site(
                world=world,
                servers=servers,
                topic=topic,
                outcomes=await kafka_topic("provisioning.outcomes", partitions=3),
                dead=await kafka_topic("provisioning.deadletters"),
            )
    finally:
        await simulator.stop()
        await database.close()
        await drop_database(postgres_url, url)


async def _let_everybody_leave(world: World) -> None:
    """Who waits for an operator depends on who came first, which is what is shuffled here."""
    organization = (await world.registered("hoekstra")).organization
    free = {"mass_leavers": MassLeavers(enabled=False)}
    policies = organization.policies.model_copy(update=free)
    await world.apply(organization.model_copy(update={"policies": policies}))


async def played(here: Site, before: Sequence[Signal], rest: Sequence[Signal]) -> Left:
    """What the events leave behind, once everything that is promised of each has been looked at."""
    async with here.working():
        await here.send(before)
        await here.settled(len(before))
    async with here.working(lanes=False):  # which would make what comes and goes meanwhile
        await here.send(rest)
        await here.taken_in(len(before) + len(rest))
    async with here.working():
        await here.settled(len(before) + len(rest))
    events = await all_events(here.database)
    outcomes = await all_outcomes(here.database)
    assert len(events) == len(before) + len(rest)
    assert {each.state for each in events} <= {"succeeded", "superseded", "cancelled", "duplicate"}
    require_each_once(outcomes, events)
    records = await read_all(here.servers, here.outcomes)
    assert {each["ce_id"] for each in records} == {each.id for each in outcomes}
    require_order(records)
    return await here.left()


def require_order(records: Sequence[dict[str, str]]) -> None:
    """Exactly one ending of each event, and a worker's outcomes in their order, on the topic itself."""
    seen: set[str] = set()
    last: dict[str, int] = {}
    for each in records:
        if each["ce_id"] in seen:
            continue
        seen.add(each["ce_id"])
        sequence = int(each["ce_sequence"])
        assert sequence == last.get(each["key"], 0) + 1, each
        last[each["key"]] = sequence
    ends = Counter(
        each["ce_causationid"]
        for each in {each["ce_id"]: each for each in records}.values()
        if _ENDS.match(each["ce_type"])
    )
    assert set(ends.values()) == {1}


async def read_all(servers: str, topic: str) -> list[dict[str, str]]:
    """The headers of every record of a topic, with its key, each partition in order."""
    async with AIOKafkaConsumer(
        topic, bootstrap_servers=servers, enable_auto_commit=False, auto_offset_reset="earliest"
    ) as consumer:
        partitions = consumer.assignment()
        ends = await consumer.end_offsets(partitions)
        records: list[dict[str, str]] = []
        while any([await consumer.position(each) < ends[each] for each in partitions]):
            for batch in (await consumer.getmany(timeout_ms=500)).values():
                records += [
                    {name: (value or b"").decode() for name, value in record.headers}
                    | {"key": (record.key or b"").decode()}
                    for record in batch
                ]
        return records


@pytest.mark.kill
@pytest.mark.timeout(600)
async def test_five_times_and_shuffled_ends_like_once_and_in_order(
    tmp_path: Path,
    random: Random,
    postgres_url: str,
    kafka_bootstrap_servers: str,
    kafka_topic: CreateTopic,
) -> None:
    seed = random.random()
    left: list[Left] = []
    for wrong in (False, True):
        chance = Random(seed)
        before, rest = history(chance, datetime.now().astimezone())
        assert len(before) + len(rest) == EVENTS
        if wrong:
            before, rest = gone_wrong(before, chance), gone_wrong(rest, chance)
        folder = tmp_path / ("wrong" if wrong else "right")
        async with site(folder, postgres_url, kafka_bootstrap_servers, kafka_topic) as here:
            left.append(await played(here, before, rest))
    right, wronged = left
    assert right.users
    assert right.users.keys() == wronged.users.keys()
    different = {
        (name, key): (value, wronged.users[name].get(key))
        for name, user in right.users.items()
        for key, value in user.items()
        if value != wronged.users[name].get(key)
    }
    assert different == {}
    assert wronged == right
