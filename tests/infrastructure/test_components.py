"""The components the other tests stand on do what those tests take for granted."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.conftest import CreateTopic, StartProcess
from tests.infrastructure.availability import UnavailableError
from tests.infrastructure.kafka import create_topic, kafka_broker
from tests.infrastructure.postgres import create_database, drop_database, postgres_server
from tests.infrastructure.processes import PROJECT_ROOT

_PARENT = """
import sys, time
from pathlib import Path
from tests.infrastructure.processes import start

child = start(
    ["sh", "-c", "echo '{\\"ready\\": true}'; exec sleep 60"], name="child", directory=Path(sys.argv[1])
)
child.ready_line()
print(child.pid, flush=True)
time.sleep(60)
"""


async def test_each_test_gets_an_empty_database(postgres_database: str, postgres_url: str) -> None:
    engine = create_async_engine(postgres_database)
    try:
        async with engine.begin() as connection:
            await connection.execute(text("CREATE TABLE kept (id int)"))
            await connection.execute(text("INSERT INTO kept VALUES (1)"))
    finally:
        await engine.dispose()

    other = await create_database(postgres_url)
    copy = await create_database(postgres_url, template=postgres_database.rpartition("/")[2])
    try:
        assert await _tables(other) == 0
        assert await _tables(copy) == 1
    finally:
        await drop_database(postgres_url, other)
        await drop_database(postgres_url, copy)


async def test_dropped_database_is_gone_even_with_a_connection_open(postgres_url: str) -> None:
    url = await create_database(postgres_url)
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    await drop_database(postgres_url, url)
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(url.replace("+asyncpg", ""))
    connection.terminate()


async def test_topic_has_the_partitions_asked_for_and_keeps_order_within_one(
    kafka_bootstrap_servers: str, kafka_topic: CreateTopic
) -> None:
    topic = await kafka_topic("hr.events", partitions=3, settings={"cleanup.policy": "compact"})
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka_bootstrap_servers, enable_idempotence=True, acks="all"
    )
    await producer.start()
    try:
        for number in range(20):
            await producer.send_and_wait(topic, str(number).encode(), key=b"worker-1")
    finally:
        await producer.stop()

    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=kafka_bootstrap_servers,
        group_id=f"{topic}.readers",
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        async with asyncio.timeout(20):
            values = [int((await consumer.getone()).value or b"") for _ in range(20)]
        assert len(consumer.partitions_for_topic(topic) or ()) == 3
    finally:
        await consumer.stop()
    assert values == list(range(20))


async def test_topic_that_exists_is_not_created_again(
    kafka_bootstrap_servers: str, kafka_topic: CreateTopic
) -> None:
    topic = await kafka_topic("taken")
    with pytest.raises(RuntimeError, match="was not created"):
        await create_topic(kafka_bootstrap_servers, topic)


def test_given_servers_are_used_as_they_are() -> None:
    with postgres_server({"TEST_DATABASE_URL": "postgresql://a:b@db.example:5433/x"}) as url:
        assert url == "postgresql+asyncpg://a:b@db.example:5433/x"
    with kafka_broker({"TEST_KAFKA_BOOTSTRAP_SERVERS": "kafka.example:9092"}) as servers:
        assert servers == "kafka.example:9092"


def test_missing_component_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent.sock")
    with pytest.raises(UnavailableError, match="default-jre"), kafka_broker({}):
        pass


@pytest.mark.parametrize(("ci", "verdict"), [("true", "1 error"), ("", "1 skipped")])
def test_missing_component_skips_tests_but_fails_them_in_ci(ci: str, verdict: str) -> None:
    needs_kafka = test_topic_that_exists_is_not_created_again.__name__
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"{__file__}::{needs_kafka}"],
        env={"PATH": "", "CI": ci, "DOCKER_HOST": "unix:///nonexistent.sock"},
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert verdict in run.stdout
    assert "default-jre" in run.stdout


def test_ready_line_of_a_process_is_read_and_the_process_stops_when_asked(
    start_process: StartProcess,
) -> None:
    process = start_process(
        _python(
            "import json, signal, sys, time\n"
            "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
            "print(json.dumps({'ready': True, 'url': 'u'}), flush=True)\n"
            "time.sleep(60)"
        )
    )
    assert process.ready_line() == {"ready": True, "url": "u"}
    assert process.exit_status is None
    assert process.stop() == 0


def test_process_that_does_not_stop_when_asked_is_killed(start_process: StartProcess) -> None:
    process = start_process(
        _python(
            "import signal, time\n"
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            """print('{"ready": true}', flush=True)\n"""
            "time.sleep(60)"
        )
    )
    process.ready_line()
    assert process.stop(within=0.2) == -signal.SIGKILL


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("import sys; print('why', file=sys.stderr); sys.exit(3)", "ended with 3.*why"),
        ("print('hello')", "not a ready line"),
        ("""print('{"ready": false}')""", "not a ready line"),
        ("import time; time.sleep(60)", "not ready after 0.5 s"),
    ],
)
def test_process_that_is_not_ready_says_why(
    start_process: StartProcess, script: str, reason: str
) -> None:
    process = start_process(_python(script))
    with pytest.raises(AssertionError, match=f"(?s){reason}"):
        process.ready_line(within=0.5 if "sleep" in script else 30)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals orphans")
def test_children_end_with_a_killed_test_run(tmp_path: Path) -> None:
    parent = subprocess.Popen(_python(_PARENT, str(tmp_path)), stdout=subprocess.PIPE)
    with parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 10
    while _runs(child):
        assert time.monotonic() < deadline, "the child outlived its parent"
        time.sleep(0.02)


def _python(script: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", script, *arguments]


def _runs(pid: int) -> bool:
    """False for a process that has ended, also where nobody has waited for it yet."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


async def _tables(url: str) -> int:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        return await connection.fetchval(
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        )
    finally:
        await connection.close()
