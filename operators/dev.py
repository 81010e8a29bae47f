"""``provisioner dev``: everything in one process on the embedded defaults, with a sample day.

Keeps all of its state in one data dir, the simulator's included, and finds it again at the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import secrets
import signal
import socket
import sys
from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypedDict

import orjson
import structlog
from pydantic import SecretStr

from operators import composition, process
from operators.installation import settings_of
from operators.process import Parts, Server, listen, url_of
from operators.sample.day import DAY
from operators.sample.organizations import CLIENT_SECRET, sample_installation
from operators.sample.player import HttpDoors, Player
from operators.sample.timeline import Timeline
from service import logs
from service.auth0.simulator.app import create_simulator
from service.auth0.simulator.exchanges import ExchangeLog
from service.clock import Clock, SystemClock
from service.configuration import Settings
from service.directory import credentials, migrate, organizations
from service.directory.credentials import TokenDoor
from service.directory.database import Database, Transaction, open_database
from service.errors import ConfigurationError
from service.organizations import Installation

log = structlog.get_logger(__name__)


_WELCOME: Final = """
Console          {console}
SCIM             {url}/scim/v2/<organization>
HR events        {url}/events/<organization>
Auth0 simulator  {auth0}
Tokens are in {data_dir}/tokens.json. Ctrl-C ends it; everything is kept in {data_dir}.

"""


_LIMITS: Final = frozenset({"scim_rate", "scim_burst", "events_rate", "events_burst"})


class Tokens(TypedDict):
    scim: str
    events: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What the command line asked for."""

    host: str
    port: int
    simulator_port: int
    data_dir: Path
    sample: bool
    exit_after_sample: bool
    exchanges: Path | None


def run(
    *,
    host: str,
    port: int,
    simulator_port: int,
    data_dir: Path,
    sample: bool,
    exit_after_sample: bool,
    exchanges: Path | None = None,
) -> int:
    """Runs until a signal, or until the day has been played. Returns the exit status."""
    choices = Choices(
        host=host,
        port=port,
        simulator_port=simulator_port,
        data_dir=data_dir,
        sample=sample,
        exit_after_sample=exit_after_sample,
        exchanges=exchanges,
    )
    logs.configure("text", os.environ.get("PROVISIONER_LOG_LEVEL", "warning"))
    with _only_one(data_dir):
        try:
            return asyncio.run(_run(choices))
        except asyncio.CancelledError:  # asked to end while it started
            return 0


async def _run(choices: Choices) -> int:
    starting = asyncio.current_task()
    assert starting is not None
    # Until process.run has handlers of its own: by an exit the simulator would be torn down.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, starting.cancel)
    clock = SystemClock()
    settings = settings_of(choices.data_dir, create=True)
    settings = settings.model_copy(
        update={
            "auth0_client_secret": SecretStr(CLIENT_SECRET),
            "instance": "dev",
            # A trial of one's own may be as fast as it likes, unless the environment says how fast.
            **dict.fromkeys(_LIMITS - settings.model_fields_set, 0),
        }
    )
    simulator_socket = listen(choices.host, choices.simulator_port)
    listening = listen(choices.host, choices.port)
    # Its callers have ended by the time that it stops: what still hangs there is a fault on order.
    observe = ExchangeLog(choices.exchanges) if choices.exchanges is not None else None
    simulating_auth0 = create_simulator(data_dir=choices.data_dir / "simulator", observe=observe)
    simulator = Server(simulating_auth0, lifespan="on", grace=1)
    simulating = asyncio.create_task(simulator.serve(sockets=[simulator_socket]))
    async with contextlib.AsyncExitStack() as ends:
        ends.push_async_callback(_end, simulator, simulating)
        await simulator.until_started(simulating)
        url = settings.database_url.get_secret_value()
        await migrate.upgrade(url)
        database = open_database(url)
        ends.push_async_callback(database.close)
        installation = sample_installation(url_of(simulator_socket))
        await database.transact(lambda tx: _declare(tx, installation, clock.now()))
        tokens = await _tokens(choices.data_dir, installation, database, settings, clock)
        parts = composition.assemble(
            settings,
            roles=composition.ROLES,
            database=database,
            clock=clock,
            open_console=True,
        )
        return await _serve(choices, parts, listening, simulator_socket, tokens, clock)


async def _end(simulator: Server, simulating: asyncio.Task[None]) -> None:
    simulator.should_exit = True
    await simulating


async def _serve(
    choices: Choices,
    parts: Parts,
    listening: socket.socket,
    simulator_socket: socket.socket,
    tokens: dict[str, Tokens],
    clock: Clock,
) -> int:
    failed = False

    def ready() -> None:
        line = _ready_line(url_of(listening), url_of(simulator_socket), tokens)
        sys.stdout.write(orjson.dumps(line).decode() + "\n")
        sys.stdout.flush()
        if not choices.exit_after_sample:
            sys.stderr.write(_WELCOME.format(**line, data_dir=choices.data_dir))

    async def sample_day(stop: asyncio.Event) -> None:
        nonlocal failed
        playing = asyncio.create_task(
            _play(choices.data_dir, url_of(listening), tokens, parts.database, clock)
        )
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({playing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if playing.done():
            failed = _went_wrong(playing)
            if not choices.exit_after_sample:
                await stopping
        for task in (playing, stopping):
            task.cancel()
        await asyncio.gather(playing, stopping, return_exceptions=True)

    status = await process.run(
        parts, listening, ready=ready, beside=sample_day if choices.sample else None
    )
    return 1 if status or (failed and choices.exit_after_sample) else 0


def _went_wrong(playing: asyncio.Task[bool]) -> bool:
    """A day that broke off is told and has gone wrong; the installation stays up all the same."""
    if (error := playing.exception()) is not None:
        log.error("sample.broke_off", error=str(error) or type(error).__name__)
        return True
    return not playing.result()


async def _play(
    data_dir: Path, url: str, tokens: dict[str, Tokens], database: Database, clock: Clock
) -> bool:
    """Plays the day of this data dir, or the rest of it; whether every step ended as expected."""
    day, started = _day_of(data_dir, clock.now())
    doors = HttpDoors(url, {name: (pair["scim"], pair["events"]) for name, pair in tokens.items()})
    timeline = Timeline(len(DAY))
    try:
        player = Player(day, started, doors=doors, database=database, clock=clock)
        with timeline:
            played = await player.play(DAY, timeline.tell)
        return timeline.sum_up(played)
    finally:
        await doors.close()


def _day_of(data_dir: Path, now: datetime) -> tuple[str, datetime]:
    """The id and the start of this data dir's sample day: kept, so that a restart continues it."""
    path = data_dir / "sample-day.json"
    if not path.exists():
        write_private(path, orjson.dumps({"day": secrets.token_hex(4), "started": now}))
    kept = orjson.loads(path.read_bytes())
    return kept["day"], datetime.fromisoformat(kept["started"])


def _declare(transaction: Transaction, installation: Installation, now: datetime) -> None:
    """Declares the samples; what somebody has changed since stays as they want it."""
    for tenant in installation.tenants:
        organizations.apply_tenant(transaction, tenant)  # the simulator's port may have changed
    for organization in installation.organizations:
        if organizations.find(transaction, organization.name) is None:
            organizations.apply(transaction, organization, now)
    for source in installation.sources:
        organizations.apply_source(transaction, source)


async def _tokens(
    data_dir: Path,
    installation: Installation,
    database: Database,
    settings: Settings,
    clock: Clock,
) -> dict[str, Tokens]:
    """Tokens of both doors for every sample organization, kept in the data dir."""
    path = data_dir / "tokens.json"
    known: dict[str, Any] = orjson.loads(path.read_bytes()) if path.exists() else {}
    for organization in installation.organizations:
        if organization.name not in known:
            known[organization.name] = await database.transact(
                lambda tx, name=organization.name: _make_tokens(tx, name, settings, clock.now())
            )
            write_private(path, orjson.dumps(known))
    return known


def _make_tokens(
    transaction: Transaction, organization: str, settings: Settings, now: datetime
) -> Tokens:
    def make(door: TokenDoor) -> str:
        known = credentials.listing(transaction, organization, door)
        live = [each for each in known if each.is_live(now)]
        for each in live[: max(0, len(live) - credentials.MOST_LIVE + 1)]:
            credentials.revoke(transaction, organization, each.id, now)  # their file was lost
        return credentials.create(
            transaction, organization=organization, door=door, pepper=settings.pepper(), now=now
        )

    return Tokens(scim=make("scim"), events=make("events"))


def write_private(path: Path, content: bytes) -> None:
    """Writes a file that only its owner can read, whole or not at all."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _ready_line(url: str, simulator: str, tokens: dict[str, Tokens]) -> dict[str, Any]:
    return {
        "ready": True,
        "url": url,
        "console": f"{url}/console/",
        "auth0": simulator,
        "organizations": {
            name: {
                "scim": f"{url}/scim/v2/{name}",
                "token": pair["scim"],
                "events": f"{url}/events/{name}",
                "events_token": pair["events"],
            }
            for name, pair in tokens.items()
        },
    }


@contextlib.contextmanager
def _only_one(data_dir: Path) -> Generator[None, None, None]:
    """Keeps a second ``provisioner dev`` out of the data dir; a killed one leaves it free."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)  # it will hold personal data
    with (data_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigurationError(
                f"Another 'provisioner dev' uses {data_dir}: stop it, or choose another --data-dir."
            ) from error
        yield
