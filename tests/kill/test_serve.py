"""The same day with ``provisioner serve`` on Kafka and Postgres, killed twenty times.

The simulator and the player live in processes of their own and go on; after each death the player
looks up the step in doubt before it repeats it.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx
import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from operators.sample.day import DAY
from operators.sample.organizations import CLIENT_ID, CLIENT_SECRET, sample_installation
from operators.sample.player import HttpDoors, Player
from service.clock import SystemClock
from service.directory.database import Database, open_database
from tests.conftest import CreateTopic
from tests.infrastructure.processes import RunningProcess, free_ports, provisioner, start
from tests.kill.conftest import ENVIRONMENT
from tests.kill.end_state import (
    EndState,
    all_events,
    all_outcomes,
    end_state,
    require_each_once,
    require_mails_at_most_once,
)

KILLS = 20


@dataclass(slots=True, kw_only=True)
class Site:
    """A production installation in miniature."""

    folder: Path
    environment: dict[str, str]
    url: str
    port: int
    lives: int = 0
    process: RunningProcess | None = field(default=None)

    def command(self, *arguments: str | Path) -> RunningProcess:
        """Runs a command of the command line to its end."""
        name = f"command-{arguments[0]}-{secrets.token_hex(2)}"
        done = start(
            provisioner(*arguments), name=name, directory=self.folder, environment=self.environment
        )
        assert done.wait(60) == 0, str(done)
        return done

    def serve(self) -> None:
        self.lives += 1
        self.process = start(
            provisioner("serve", "--host", "127.0.0.1", "--port", str(self.port)),
            name=f"serve-{self.lives}",
            directory=self.folder,
            environment=self.environment,
        )

    async def ready(self) -> None:
        assert self.process is not None
        async with httpx.AsyncClient(base_url=self.url) as http:
            while True:
                assert self.process.exit_status is None, str(self.process)
                try:
                    if (await http.get("/readyz")).status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.05)


class KafkaDoors(HttpDoors):
    """SCIM over HTTP, HR events over Kafka."""

    def __init__(
        self,
        url: str,
        tokens: Mapping[str, tuple[str, str]],
        producer: AIOKafkaProducer,
        topic: str,
    ) -> None:
        super().__init__(url, tokens)
        self._producer = producer
        self._topic = topic
        self._handed: dict[str, float] = {}

    async def hr(self, organization: str, event: Mapping[str, Any], traceparent: str) -> None:
        data = dict(event["data"]) | {"organization": organization}
        headers = [
            (f"ce_{name}", str(value).encode()) for name, value in event.items() if name != "data"
        ]
        headers += [
            ("content-type", b"application/json"),
            ("traceparent", traceparent.encode()),
        ]
        await self._producer.send_and_wait(
            self._topic,
            orjson.dumps(data),
            key=str(data["worker_id"]).encode(),
            headers=headers,
        )


@pytest.mark.kill
@pytest.mark.timeout(900)
async def test_a_day_on_kafka_and_postgres_killed_twenty_times_ends_like_an_undisturbed_one(
    undisturbed: EndState,
    tmp_path: Path,
    random: Random,
    postgres_database: str,
    kafka_bootstrap_servers: str,
    kafka_topic: CreateTopic,
) -> None:
    topics = {
        "hr": await kafka_topic("hr.events", partitions=3),
        "outcomes": await kafka_topic("provisioning.outcomes", partitions=3),
        "deadletters": await kafka_topic("provisioning.deadletters"),
    }
    simulator = start(
        provisioner("simulator", "--port", "0", "--data-dir", tmp_path / "simulator"),
        name="simulator",
        directory=tmp_path,
        environment=ENVIRONMENT,
    )
    auth0 = simulator.ready_line()["url"]
    port = free_ports(1)[0]
    site = Site(
        folder=tmp_path,
        port=port,
        url=f"http://127.0.0.1:{port}",
        environment=_environment(tmp_path, postgres_database, kafka_bootstrap_servers, topics),
    )
    database = open_database(postgres_database)
    try:
        tokens = _set_up(site, auth0, topics["hr"])
        await _day_with_kills(site, tokens, database, random, kafka_bootstrap_servers, topics["hr"])
        assert await end_state(auth0) == undisturbed
        outcomes = await all_outcomes(database)
        require_each_once(outcomes, await all_events(database))
        require_mails_at_most_once(tmp_path / "mail", outcomes)
        await _require_all_published(database)
        published = await _read_all(kafka_bootstrap_servers, topics["outcomes"])
        ids = {outcome.id for outcome in outcomes}
        assert {record["ce_id"] for record in published} == ids
        _require_order(published)
        assert site.process is not None
        assert site.process.stop() == 0, str(site.process)
    finally:
        if site.process is not None:
            site.process.kill()
        simulator.stop()
        await database.close()


def _environment(
    folder: Path, database: str, bootstrap: str, topics: Mapping[str, str]
) -> dict[str, str]:
    settings = {
        "DATABASE_URL": database,
        "TOKEN_PEPPER": "pepper-of-the-kill-test",
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap,
        "KAFKA_OUTCOMES_TOPIC": topics["outcomes"],
        "KAFKA_DEADLETTERS_TOPIC": topics["deadletters"],
        "KAFKA_GROUP_ID": f"kill-{secrets.token_hex(4)}",
        "AUTH0_CLIENT_SECRET": CLIENT_SECRET,
        "MAIL_FOLDER": str(folder / "mail"),
        # Only one process runs under this name, so a new one takes the leases over at once.
        "INSTANCE": "kill-test-0",
        "KAFKA_GROUP_INSTANCE_ID": "kill-test-0",
    }
    return ENVIRONMENT | {f"PROVISIONER_{name}": value for name, value in settings.items()}


def _set_up(site: Site, auth0: str, topic: str) -> dict[str, tuple[str, str]]:
    """As an operator would: migrate, declare, make tokens."""
    site.command("db", "upgrade")
    declared = sample_installation(auth0).model_dump(mode="json")
    declared["sources"][0]["topic"] = topic
    assert declared["tenants"][0]["client_id"] == CLIENT_ID
    file = site.folder / "installation.yaml"
    file.write_text(json.dumps(declared))  # JSON is YAML
    site.command("org", "apply", file)
    tokens: dict[str, tuple[str, str]] = {}
    for organization in declared["organizations"]:
        made = site.command("org", "token", "create", organization["name"], "--door", "scim")
        tokens[organization["name"]] = (made.stdout.read_text().strip().split()[-1], "")
    return tokens


async def _day_with_kills(
    site: Site,
    tokens: Mapping[str, tuple[str, str]],
    database: Database,
    random: Random,
    bootstrap: str,
    topic: str,
) -> None:
    """Plays while the process dies and is started again, then lets it finish in peace."""
    clock = SystemClock()
    site.serve()
    await site.ready()
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True) as producer:
        doors = KafkaDoors(site.url, tokens, producer, topic)
        player = Player(
            "kill", clock.now(), doors=doors, database=database, clock=clock, patience=240
        )
        playing = asyncio.create_task(player.play(DAY, lambda _: None))
        try:
            for _ in range(KILLS):
                await asyncio.sleep(random.uniform(0.05, 1.0))
                assert site.process is not None
                assert site.process.exit_status is None, str(site.process)
                site.process.kill()
                site.serve()
                if random.random() < 0.75:
                    await site.ready()
            await site.ready()
            played = await playing
        finally:
            playing.cancel()
            await doors.close()
    wrong = [one for one in played if not one.as_expected]
    assert not wrong, [(one.step.name, one.event and one.event.state) for one in wrong]


async def _require_all_published(database: Database) -> None:
    for _ in range(300):
        if all(outcome.published_at for outcome in await all_outcomes(database)):
            return
        await asyncio.sleep(0.1)
    raise AssertionError("some outcomes were never published")


async def _read_all(bootstrap: str, topic: str) -> list[dict[str, str]]:
    """Every record of a topic, from the beginning: headers as text, and the key."""
    async with AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    ) as consumer:
        partitions = consumer.assignment()
        ends = await consumer.end_offsets(partitions)
        records: list[dict[str, str]] = []
        while any([await consumer.position(p) < ends[p] for p in partitions]):
            for batch in (await consumer.getmany(timeout_ms=500)).values():
                records += [
                    {name: value.decode() for name, value in record.headers}
                    | {"key": (record.key or b"").decode()}
                    for record in batch
                ]
        return records


def _require_order(published: list[dict[str, str]]) -> None:
    """Within a key the sequence never goes back to a number that was not there before."""
    newest: dict[str, int] = {}
    seen: set[str] = set()
    for record in published:
        if record["ce_id"] in seen:
            continue  # published again after a crash: recognisable by its id
        seen.add(record["ce_id"])
        sequence = int(record["ce_sequence"])
        assert sequence == newest.get(record["key"], 0) + 1, record
        newest[record["key"]] = sequence
