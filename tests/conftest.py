"""Fixtures for the real components: Postgres, Kafka and processes of our own.

A component that cannot be had skips its tests; under `CI=true` it fails them.
"""

import contextlib
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Awaitable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import pytest

from tests.contract import whole_run
from tests.infrastructure.availability import UnavailableError
from tests.infrastructure.kafka import create_topic, delete_topic, kafka_broker
from tests.infrastructure.outcomes import Watch
from tests.infrastructure.postgres import create_database, drop_database, postgres_server
from tests.infrastructure.processes import RunningProcess, run_apart, start, tail
from tests.infrastructure.schema import Lending

_EXCHANGES = pytest.StashKey[Path]()
_CONTRACT = pytest.StashKey[tuple[int, list[str]]]()
_STARTED = pytest.StashKey[list[RunningProcess]]()


class StartProcess(Protocol):
    """Starts a command from the project root; it is stopped at the end of the test."""

    def __call__(
        self,
        command: Sequence[str | Path],
        *,
        name: str = "process",
        environment: Mapping[str, str] | None = None,
        working_directory: Path | None = None,
    ) -> RunningProcess: ...


class CreateTopic(Protocol):
    """Creates a topic under a name of its own that starts with `name`; deleted after the test."""

    def __call__(
        self, name: str, *, partitions: int = 1, settings: Mapping[str, str] | None = None
    ) -> Awaitable[str]: ...


def pytest_configure(config: pytest.Config) -> None:
    """With pytest-xdist: one server of each for all workers, started by the run's main process."""
    if hasattr(config, "workerinput"):
        return
    _write_exchanges_down(config)
    _trust_nobody(config)
    if not config.getoption("numprocesses", None):
        return
    servers = contextlib.ExitStack()
    config.add_cleanup(servers.close)
    with contextlib.suppress(UnavailableError):
        os.environ["TEST_DATABASE_URL"] = servers.enter_context(postgres_server())
    with contextlib.suppress(UnavailableError):
        os.environ["TEST_KAFKA_BOOTSTRAP_SERVERS"] = servers.enter_context(kafka_broker())


def _write_exchanges_down(config: pytest.Config) -> None:
    folder = tempfile.TemporaryDirectory(prefix="exchanges-")
    config.add_cleanup(folder.cleanup)
    config.stash[_EXCHANGES] = Path(folder.name)
    os.environ[whole_run.FOLDER] = folder.name


def _trust_nobody(config: pytest.Config) -> None:
    """Nothing here speaks TLS to the world, whose authorities each HTTP client would read anew."""
    folder = tempfile.TemporaryDirectory(prefix="authorities-")
    config.add_cleanup(folder.cleanup)
    os.environ.pop("SSL_CERT_FILE", None)  # would come first
    os.environ["SSL_CERT_DIR"] = folder.name


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fails the run where a call or an answer of a simulator is not as Auth0 describes it."""
    folder = session.config.stash.get(_EXCHANGES, None)
    if folder is None:
        return
    looked_at, problems = whole_run.problems_in(folder)
    session.config.stash[_CONTRACT] = looked_at, problems
    if problems:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    looked_at, problems = terminalreporter.config.stash.get(_CONTRACT, (0, []))
    if looked_at:
        against = "Auth0's document and " if whole_run.LOCATION.exists() else ""
        terminalreporter.write_line(
            f"{looked_at} exchanges with the simulator held against {against}auth0-python's models"
        )
    for problem in problems:
        terminalreporter.write_line(f"CONTRACT {problem}", red=True)


@pytest.fixture(scope="session")
def _watched_outcomes() -> Iterator[Watch]:
    watch = Watch()
    watch.start()
    yield watch
    watch.stop()


@pytest.fixture(autouse=True)
def _every_outcome_fits_its_schema(_watched_outcomes: Watch) -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    yield
    assert _watched_outcomes.taken() == []


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """`postgresql+asyncpg://…` of a server whose user may create databases."""
    with _or_skip(postgres_server()) as url:
        yield url


@pytest.fixture
async def postgres_database(postgres_url: str) -> AsyncIterator[str]:
    """`postgresql+asyncpg://…` of an empty database of this test's own."""
    url = await create_database(postgres_url)
    yield url
    await drop_database(postgres_url, url)


@pytest.fixture(scope="session")
def postgres_lending(postgres_url: str) -> Iterator[Lending]:
    """Migrated databases, each at one test at a time."""
    lending = run_apart(Lending.begin(postgres_url))
    yield lending
    run_apart(lending.end())


@pytest.fixture
async def postgres_migrated(postgres_lending: Lending) -> AsyncIterator[str]:
    """`postgresql+asyncpg://…` of a database with our tables and no rows, this test's own."""
    url = await postgres_lending.borrow()
    yield url
    await postgres_lending.give_back(url)


@pytest.fixture(scope="session")
def kafka_bootstrap_servers() -> Iterator[str]:
    """`host:port[,…]` of a broker shared by the tests of this run."""
    with _or_skip(kafka_broker()) as bootstrap_servers:
        yield bootstrap_servers


@pytest.fixture
async def kafka_topic(kafka_bootstrap_servers: str) -> AsyncIterator[CreateTopic]:
    created: list[str] = []

    async def create(
        name: str, *, partitions: int = 1, settings: Mapping[str, str] | None = None
    ) -> str:
        topic = f"{name}.{secrets.token_hex(4)}"
        await create_topic(kafka_bootstrap_servers, topic, partitions=partitions, settings=settings)
        created.append(topic)
        return topic

    yield create
    for topic in created:
        await delete_topic(kafka_bootstrap_servers, topic)


@pytest.fixture
def start_process(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StartProcess]:
    """Starts processes that are stopped after the test; their standard error is shown on failure."""
    started = request.node.stash.setdefault(_STARTED, [])

    def start_one(
        command: Sequence[str | Path],
        *,
        name: str = "process",
        environment: Mapping[str, str] | None = None,
        working_directory: Path | None = None,
    ) -> RunningProcess:
        process = start(
            command,
            name=name,
            directory=tmp_path,
            environment=environment,
            working_directory=working_directory,
        )
        started.append(process)
        return process

    yield start_one
    for process in reversed(started):
        process.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for process in item.stash.get(_STARTED, []):
            heading = f"Standard error of {process.name} (pid {process.pid})"
            report.sections.append((heading, tail(process.stderr)))
    return report


@contextlib.contextmanager
def _or_skip(server: contextlib.AbstractContextManager[str]) -> Generator[str]:
    with contextlib.ExitStack() as stack:
        try:
            address = stack.enter_context(server)
        except UnavailableError as missing:
            if os.environ.get("CI") == "true":
                pytest.fail(f"{missing} (CI runs these tests, it never skips them)")
            pytest.skip(str(missing))
        yield address
