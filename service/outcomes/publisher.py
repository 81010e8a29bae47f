"""From the outbox to Kafka: in order per key, each at least once, and recognisable by its id.

Where no Kafka is configured there is no publisher, and outcomes stay readable in the database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from service.clock import Clock, pause
from service.directory import outbox, sequels, shards
from service.directory.database import Database
from service.directory.outbox import Outcome
from service.kafka import KafkaConnection, create_missing_topics
from service.kafka_start import started
from service.outcomes.cloudevents import SOURCE, to_record
from service.outcomes.deadletter import TYPES, DeadLetter, dead_letter
from service.outcomes.producer import LARGEST, missing_topics, open_producer, stop_producer

_log = structlog.stdlib.get_logger(__name__)
_RENEW_AFTER: Final = 0.25
"""The part of a lease after which it is renewed; sending takes at most half of one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherSettings:
    """Where outcomes go. Times in seconds.

    ``create_topics``: for development and tests. ``group`` is told in dead letters: who read the
    original. ``source`` is the CloudEvents source.
    """

    connection: KafkaConnection
    outcomes_topic: str = "provisioning.outcomes"
    deadletters_topic: str = "provisioning.deadletters"
    create_topics: bool = False
    group: str = "auth0-provisioner"
    source: str = SOURCE
    service_version: str = ""
    batch: int = 500
    poll_every: float = 0.2
    lease: float = 10.0
    start_within: float = 15.0
    send_within: float = 4.0
    stop_within: float = 2.0
    longest_backoff: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherFacts:
    """How publishing is now. ``problem``: a sentence for people, None where all is well."""

    published: int
    published_at: datetime | None
    shards: int
    problem: str | None


class TopicMissing(Exception):
    """A topic to publish to does not exist: create it, or allow the creation of topics."""


@dataclass(slots=True, kw_only=True)
class _Sending:
    """An outcome on its way: all of its records must be acknowledged before it is published."""

    outcome: Outcome
    acknowledgements: list[asyncio.Future[Any]] = field(default_factory=list[asyncio.Future[Any]])

    def await_also(self, acknowledgement: asyncio.Future[Any]) -> None:
        acknowledgement.add_done_callback(_noticed)
        self.acknowledgements.append(acknowledgement)

    @property
    def failure(self) -> BaseException | None:
        for each in self.acknowledgements:
            if not each.done():
                return TimeoutError("Kafka did not acknowledge in time")
            if each.cancelled():
                return asyncio.CancelledError()
            if (error := each.exception()) is not None:
                return error
        return None


class Publisher:
    """Publishes the outcomes of its share of shards, until told to stop."""

    def __init__(
        self, *, database: Database, clock: Clock, settings: PublisherSettings, owner: str
    ) -> None:
        self._database = database
        self._clock = clock
        self._settings = settings
        self._owner = owner
        self._shards: list[int] = []
        self._held_at = float("-inf")
        self._refusals: dict[str, int] = {}
        """By event: how often its dead letter was too large."""
        """Events whose dead letter the broker refused for its size."""
        self._published = 0
        self._published_at: datetime | None = None
        self._problem: str | None = None

    @property
    def facts(self) -> PublisherFacts:
        return PublisherFacts(
            published=self._published,
            published_at=self._published_at,
            shards=len(self._shards),
            problem=self._problem,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Returns within 10 s of ``stop``. Neither Kafka nor the database being away ends it."""
        delay = 0.5
        while not stop.is_set():
            before = self._published
            try:
                await self._publish_until(stop)
            except Exception as error:
                self._problem = _told(error)
                _log.warning("publisher.failed", error=self._problem, again_in=delay)
            if stop.is_set():
                return
            await pause(stop, delay)
            again = delay * 2 if self._published == before else 0.5
            delay = min(again, self._settings.longest_backoff)

    async def _publish_until(self, stop: asyncio.Event) -> None:
        """One producer's life. A producer that failed is never used again: its order is in doubt."""
        settings = self._settings
        producer = open_producer(settings.connection, request_within=settings.send_within)
        try:
            starting = _unless(stop, started(producer.start()))
            if not await asyncio.wait_for(starting, settings.start_within):
                return
            await self._require_topics(producer)
            self._problem = None
            while not stop.is_set():
                await self._hold_shards()
                if not await self._publish_some(producer):
                    await pause(stop, settings.poll_every)
        finally:
            await stop_producer(producer, settings.stop_within)
            await self._release_shards()

    async def _require_topics(self, producer: AIOKafkaProducer) -> None:
        """Never creates a topic unasked: who runs Kafka decides on partitions and retention."""
        settings = self._settings
        wanted = [settings.outcomes_topic, settings.deadletters_topic]
        async with asyncio.timeout(settings.start_within):
            missing = await missing_topics(producer, wanted)
            if missing and settings.create_topics:
                await create_missing_topics(settings.connection, missing, largest=LARGEST)
            elif missing:
                raise TopicMissing(
                    f"Topic {' and '.join(missing)} does not exist, or we may not see it: create it."
                )

    # Shards

    async def _hold_shards(self) -> None:
        """Nothing is sent with less lease left than sending may take."""
        began = self._clock.monotonic()
        if began - self._held_at < self._settings.lease * _RENEW_AFTER:
            return
        now, lease = self._clock.now(), timedelta(seconds=self._settings.lease)
        held = await self._database.transact(
            lambda transaction: shards.hold(transaction, self._owner, now, lease)
        )
        self._shards = [each.shard for each in held]
        self._held_at = began

    async def _release_shards(self) -> None:
        """Another publisher may reach Kafka where we cannot."""
        if not self._shards:
            return
        self._shards, self._held_at = [], float("-inf")
        try:
            async with asyncio.timeout(self._settings.stop_within):
                await self._database.transact(
                    lambda transaction: shards.release(transaction, self._owner)
                )
        except Exception as error:  # the leases end by themselves
            _log.warning("publisher.not_released", error=type(error).__name__)

    # Sending

    async def _publish_some(self, producer: AIOKafkaProducer) -> bool:
        """Sends the oldest outcomes and marks those that arrived; False where there are none."""
        mine, limit = self._shards, self._settings.batch
        outcomes = await self._database.read(
            lambda transaction: outbox.unpublished(transaction, mine, limit)
        )
        sent: list[_Sending] = []
        failure: BaseException | None = None
        try:
            async with asyncio.timeout(self._settings.send_within):
                for outcome in outcomes:
                    sent.append(await self._send(producer, outcome))
                pending = [ack for each in sent for ack in each.acknowledgements]
                if pending:
                    await asyncio.wait(pending)
        except (KafkaError, TimeoutError) as error:
            failure = error
        arrived, refused = self._arrived(sent)
        await self._mark(arrived)
        if failure or refused:
            raise failure or refused or AssertionError
        return bool(outcomes)

    async def _send(self, producer: AIOKafkaProducer, outcome: Outcome) -> _Sending:
        sending = _Sending(outcome=outcome)
        letter = await self._dead_letter(outcome)
        if letter is not None:
            sending.await_also(await self._send_letter(producer, letter))
        record = to_record(outcome, source=self._settings.source)
        topic = self._settings.outcomes_topic
        sending.await_also(
            await producer.send(topic, record.value, key=record.key, headers=record.headers)
        )
        return sending

    async def _dead_letter(self, outcome: Outcome) -> DeadLetter | None:
        """For events that came from Kafka, and replays of them, that ended where an operator must look."""
        event_id = outcome.event_id
        if outcome.type not in TYPES or event_id is None:
            return None
        chain = await self._database.read(lambda transaction: sequels.chain(transaction, event_id))
        if not chain or chain[-1].topic is None:
            return None
        letter = dead_letter(
            chain[0],
            outcome,
            group=self._settings.group,
            service_version=self._settings.service_version,
            origin=chain[-1],
            replays=len(chain) - 1,
        )
        return letter.smaller(self._refusals.get(event_id, 0))

    async def _send_letter(
        self, producer: AIOKafkaProducer, letter: DeadLetter
    ) -> asyncio.Future[Any]:
        for refusals in range(2):
            try:
                return await self._hand_over(producer, letter.smaller(refusals))
            except MessageSizeTooLargeError:
                continue
        return await self._hand_over(producer, letter.smaller(2))

    async def _hand_over(
        self, producer: AIOKafkaProducer, letter: DeadLetter
    ) -> asyncio.Future[Any]:
        # aiokafka refuses a record with neither key nor value; an empty key is the nearest thing.
        key = b"" if letter.key is None and letter.value is None else letter.key
        return await producer.send(
            self._settings.deadletters_topic, letter.value, key=key, headers=letter.headers
        )

    def _arrived(self, sent: Sequence[_Sending]) -> tuple[list[Outcome], BaseException | None]:
        """Those that arrived, of each key only up to its first failure; and the first failure."""
        arrived: list[Outcome] = []
        broken: set[str] = set()
        first: BaseException | None = None
        for each in sent:
            failure = each.failure
            if failure is not None:
                first = first or failure
                broken.add(each.outcome.key)
                if isinstance(failure, MessageSizeTooLargeError) and each.outcome.event_id:
                    event_id = each.outcome.event_id
                    self._refusals[event_id] = self._refusals.get(event_id, 0) + 1
            elif each.outcome.key not in broken:
                arrived.append(each.outcome)
        return arrived, first

    async def _mark(self, arrived: Sequence[Outcome]) -> None:
        """After the acknowledgement, so a crash in between sends again under the same ids.

        Needs no fence: what has arrived has arrived, whoever sent it.
        """
        if not arrived:
            return
        numbers, now = [each.number for each in arrived], self._clock.now()
        await self._database.transact(
            lambda transaction: outbox.mark_published(transaction, numbers, now)
        )
        for each in arrived:
            self._refusals.pop(each.event_id or "", None)
        self._published += len(arrived)
        self._published_at = now


def _told(error: Exception) -> str:
    """Only Kafka's own words: those of a database error may repeat what we store."""
    kind = type(error).__name__
    return f"{kind}: {error}" if isinstance(error, KafkaError | TopicMissing) else kind


def _noticed(acknowledgement: asyncio.Future[Any]) -> None:
    """Failures are told by what is not marked; asyncio need not report them a second time."""
    if not acknowledgement.cancelled():
        acknowledgement.exception()


async def _unless(stop: asyncio.Event, work: Awaitable[None]) -> bool:
    """Whether ``work`` ended before ``stop``; it is cancelled otherwise."""
    working = asyncio.ensure_future(work)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        return working.done()
    finally:
        stopping.cancel()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
