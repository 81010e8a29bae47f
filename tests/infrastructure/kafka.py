"""A Kafka broker for the tests, and topics on it.

Knows where a broker may come from and how it is started; knows nothing of our topics' contents.
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from tests.infrastructure.availability import UnavailableError, container_engine_answers
from tests.infrastructure.processes import (
    PROJECT_ROOT,
    RunningProcess,
    free_ports,
    run_apart,
    scratch_directory,
    start,
)

_VERSION = "4.4.0"
_CACHE = PROJECT_ROOT / ".cache" / "kafka" / _VERSION
_COPY_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
_POM = f"""\
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>tests</groupId>
  <artifactId>kafka-broker</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-simple</artifactId>
      <version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""
_CLUSTER_ID = "cHJvdmlzaW9uZXItdGVzdA"  # 16 bytes in base64, as Kafka wants them
_NO_ERROR = 0
_NO_LEADER = -1
_ROOM_FOR_SLOW_MACHINES = 90  # seconds; 2 are usual


@contextlib.contextmanager
def kafka_broker(environment: Mapping[str, str] = os.environ) -> Generator[str]:
    """Bootstrap servers (`host:port[,…]`) of a broker that takes requests.

    From `TEST_KAFKA_BOOTSTRAP_SERVERS`, else a container engine, else Apache Kafka fetched by
    Maven; the last two are stopped at the end, and create no topic unasked. Raises
    UnavailableError when there is none of these.
    """
    if given := environment.get("TEST_KAFKA_BOOTSTRAP_SERVERS"):
        yield given
    elif container_engine_answers():
        with _container() as bootstrap_servers:
            yield bootstrap_servers
    else:
        java = shutil.which("java")
        if java is None:
            raise UnavailableError(
                "no Kafka: set TEST_KAFKA_BOOTSTRAP_SERVERS, start a container engine, "
                "or install Java 17 and Maven (Debian: apt-get install default-jre-headless maven)"
            )
        with _local(java, broker_jars()) as bootstrap_servers:
            yield bootstrap_servers


def broker_jars() -> Path:
    """The folder with Apache Kafka and all it needs, fetched on first use and kept in `.cache/`.

    Raises UnavailableError without Maven, CalledProcessError where fetching fails.
    """
    jars = _CACHE / "jars"
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if jars.exists():
            return jars
        maven = shutil.which("mvn")
        if maven is None:
            raise UnavailableError(
                "no Kafka: install Maven to fetch it (Debian: apt-get install maven)"
            )
        partial = _CACHE / "jars.partial"
        shutil.rmtree(partial, ignore_errors=True)
        (_CACHE / "pom.xml").write_text(_POM)
        subprocess.run(
            [
                maven,
                *("--quiet", "--batch-mode", "--strict-checksums"),
                *("--file", _CACHE / "pom.xml"),
                _COPY_PLUGIN,
                f"-DoutputDirectory={partial}",
                "-DincludeScope=runtime",
            ],
            check=True,
        )
        partial.rename(jars)
    return jars


async def create_topic(
    bootstrap_servers: str,
    name: str,
    *,
    partitions: int = 1,
    settings: Mapping[str, str] | None = None,
) -> None:
    """Create the topic and wait until each partition has a leader.

    Raises RuntimeError with Kafka's reason, also where the topic exists already.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        topic = NewTopic(name, partitions, 1, topic_configs=dict(settings or {}))
        response: Any = await admin.create_topics([topic])
        for _, code, message in response.topic_errors:
            if code != _NO_ERROR:
                raise RuntimeError(f"topic {name} was not created: error {code}, {message}")
        for _ in range(500):
            if _led(await admin.describe_topics([name]), partitions):
                return
            await asyncio.sleep(0.02)
        raise RuntimeError(f"topic {name} has partitions without a leader after 10 s")
    finally:
        await admin.close()


async def delete_topic(bootstrap_servers: str, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_topics([name])
    finally:
        await admin.close()


def _led(topics: list[dict[str, Any]], partitions: int) -> bool:
    leaders = [each["leader"] for topic in topics for each in topic["partitions"]]
    return len(leaders) == partitions and _NO_LEADER not in leaders


@contextlib.contextmanager
def _container() -> Generator[str]:
    from testcontainers.community.kafka import KafkaContainer

    container = KafkaContainer().with_kraft().with_env("KAFKA_AUTO_CREATE_TOPICS_ENABLE", "false")
    with container:
        yield container.get_bootstrap_server()


@contextlib.contextmanager
def _local(java: str, jars: Path) -> Generator[str]:
    with scratch_directory("kafka") as directory:
        process, bootstrap_servers, _ = serving(java, jars, directory)
        try:
            yield bootstrap_servers
        finally:
            process.stop(within=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Extra:
    """What a broker is given beside what every one needs."""

    listeners: Sequence[str] = ()
    properties: Mapping[str, str]
    storage: Sequence[str] = ()
    virtual_machine: Sequence[str] = ()


def no_extra(ports: Sequence[int]) -> Extra:
    return Extra(properties={})


def serving(
    java: str,
    jars: Path,
    directory: Path,
    *,
    ports: int = 0,
    extra: Callable[[Sequence[int]], Extra] = no_extra,
) -> tuple[RunningProcess, str, Sequence[int]]:
    """Start a broker; again on other ports where someone took the first ones meanwhile.

    ``extra``: of so many further ``ports``, which are returned, too.
    """
    virtual_machine = [
        java,
        # Quick to start rather than quick in the long run.
        *("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        *("-cp", f"{jars}/*"),
    ]
    failures: list[str] = []
    for attempt in range(3):
        broker, controller, *further = free_ports(2 + ports)
        given = extra(further)
        home = directory / str(attempt)
        home.mkdir()
        properties = home / "server.properties"
        settings = _properties(home / "logs", broker=broker, controller=controller)
        listeners = ",".join([str(settings["listeners"]), *given.listeners])
        settings |= {**given.properties, "listeners": listeners}
        properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        storage = [
            *("kafka.tools.StorageTool", "format"),
            *("--cluster-id", _CLUSTER_ID),
            *("--config", properties),
            *given.storage,
        ]
        formatting = start([*virtual_machine, *storage], name="format", directory=home)
        if formatting.wait(within=_ROOM_FOR_SLOW_MACHINES) != 0:
            raise RuntimeError(f"formatting Kafka's storage failed\n{formatting}")
        process = start(
            [*virtual_machine, *given.virtual_machine, "kafka.Kafka", properties],
            name="kafka",
            directory=home,
        )
        bootstrap_servers = f"127.0.0.1:{broker}"
        if _answers(process, bootstrap_servers):
            return process, bootstrap_servers, further
        failures.append(str(process))
    raise RuntimeError("\n".join(["Kafka did not start", *failures]))


def _properties(logs: Path, *, broker: int, controller: int) -> dict[str, object]:
    return {
        "process.roles": "broker,controller",
        "node.id": 1,
        "listeners": f"PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "log.dirs": logs,
        "auto.create.topics.enable": "false",
        # One node cannot hold the usual three copies.
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        # 50 each by default, which costs seconds at the first use.
        "offsets.topic.num.partitions": 1,
        "transaction.state.log.num.partitions": 1,
        "group.initial.rebalance.delay.ms": 0,
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
    }


def _answers(process: RunningProcess, bootstrap_servers: str) -> bool:
    """False once the process has ended, or too much time has passed."""
    deadline = time.monotonic() + _ROOM_FOR_SLOW_MACHINES
    host, _, port = bootstrap_servers.partition(":")
    while process.exit_status is None and time.monotonic() < deadline:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            run_apart(_has_brokers(bootstrap_servers))
        except (OSError, KafkaError):
            time.sleep(0.05)
        else:
            return True
    process.stop()
    return False


async def _has_brokers(bootstrap_servers: str) -> None:
    """Raises KafkaError where the port is open and the broker behind it not ready yet."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    try:
        await admin.start()
        cluster = await admin.describe_cluster()
    finally:
        await admin.close()
    if not cluster["brokers"]:
        raise KafkaError("no broker has registered yet")
