"""The composition root: the one place that picks parts, mounts them and wires them together."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import socket
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Final, Literal

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount
from starlette.types import ASGIApp

from consumers.callers import Callers
from consumers.enrichment import Enricher
from consumers.faults import place_of
from consumers.http import event_routes
from consumers.intake import Intake
from consumers.kafka import IntakeSettings
from consumers.webhooks import webhook_routes
from operators import needs, reading, security_events
from operators.console import routes as console_routes
from operators.entrance import Entrance
from operators.health import Health, health_routes
from operators.mailing import mailer_of
from operators.measuring import Measured
from scim.app import ScimApp
from scim.app import create_app as create_scim
from service.auth0.calls import http_client
from service.auth0.client import Auth0Client
from service.auth0.pacing import Pacers
from service.clock import Clock, SystemClock
from service.configuration import Settings
from service.directory import migrate, organizations
from service.directory.database import Database, open_database
from service.directory.uses import Uses
from service.errors import ConfigurationError
from service.kafka import connection_of
from service.limiting import Limit
from service.mail import Mailer
from service.metrics import Metrics
from service.organizations import Tenant
from service.outcomes.publisher import Publisher, PublisherSettings
from service.provisioning.decommissioning import Decommissions
from service.provisioning.drift import DriftChecks, DriftSettings
from service.provisioning.feed import Feed, Listening
from service.provisioning.first_load_settings import FirstLoadSettings
from service.provisioning.first_loads import FirstLoads
from service.provisioning.fleet import Calendar, FanOuts, Fleet, Snapshots
from service.provisioning.lanes import Lanes
from service.provisioning.outlook import Outlook
from service.provisioning.perform import Performer
from service.provisioning.rounds import Rounds
from service.provisioning.setup.work import SetUps
from service.provisioning.tenancy import Tenancy, TenancySettings
from service.sealing import sealer_of_hashes
from service.security_events.keys import SigningKeys
from service.security_events.transmitter import Transmitter
from service.version import VERSION

log = structlog.get_logger(__name__)

ROLES: Final = frozenset({"scim", "intake", "lanes", "publisher", "console"})
Worker = Callable[[asyncio.Event], Awaitable[None]]
_BESIDE: Final = {
    "calendar": Calendar,
    "fan-outs": FanOuts,
    "decommissions": Decommissions,
    "snapshots": Snapshots,
}
"""What runs beside the tenants, whichever process comes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a process is made of: an HTTP application, and workers that run beside it."""

    application: ASGIApp
    workers: dict[str, Worker]
    database: Database
    endings: tuple[Callable[[], Awaitable[None]], ...] = ()
    """What is left to do when requests and workers have ended; each is done within a second."""


def assemble(
    settings: Settings,
    *,
    roles: frozenset[str],
    database: Database,
    clock: Clock,
    open_console: bool = False,
) -> Parts:
    """Picks and wires the parts that these roles need."""
    metrics = Metrics()
    workers: dict[str, Worker] = {}
    intake = _intake(settings, database, clock, metrics) if "intake" in roles else None
    if intake is not None:
        workers["intake"] = intake.run
    if "intake" in roles:
        owner = _new_owner(settings)
        enricher = Enricher(database=database, clock=clock, again=reading.again, owner=owner)
        workers["enrichment"] = enricher.run
    if "lanes" in roles:
        owner = _new_owner(settings)
        mailer = mailer_of(settings, clock)
        pacers = Pacers(
            clock,
            share=settings.auth0_background_share,
            on_share=lambda tenant, bucket, share: metrics.auth0_rate_share.labels(
                tenant, bucket
            ).set(share),
        )

        outlook = Outlook(database=database, clock=clock)

        def tenancy_of(tenant: Tenant) -> Tenancy:
            return _tenancy(
                settings, tenant, database, clock, mailer, owner, metrics, pacers, outlook
            )

        workers["outlook"] = outlook.run
        workers["lanes"] = Fleet(database=database, tenancy_of=tenancy_of).run
        for name, kind in _BESIDE.items():
            workers[name] = kind(database=database, clock=clock, outlook=outlook).run
    if "publisher" in roles and settings.kafka_bootstrap_servers:
        workers["publisher"] = _publisher(settings, database, clock).run
    keys = security_events.signing_keys(settings)
    if "publisher" in roles and keys is not None:
        workers["security-events"] = _transmitter(settings, keys, database, clock, metrics).run
    health = Health(database=database, clock=clock, metrics=metrics, intake=intake)
    routes: list[BaseRoute] = [*health_routes(health)]
    scim: ScimApp | None = None
    endings: list[Callable[[], Awaitable[None]]] = []
    uses = Uses(database=database, clock=clock)
    if roles & {"scim", "intake"}:
        workers["uses"] = uses.run
        endings.append(uses.finish)
    if "scim" in roles:
        scim = _scim(settings, database, clock, metrics, uses)
        endings.append(scim.close)
    if roles & {"publisher", "scim"}:
        routes += security_events.routes(settings, keys)
    routes += _doors(settings, roles, database, clock, metrics, uses, open_console=open_console)
    others = Starlette(routes=routes)
    return Parts(
        application=Measured(Entrance(scim=scim, others=others), metrics),
        workers=workers,
        database=database,
        endings=tuple(endings),
    )


def _scim(
    settings: Settings, database: Database, clock: Clock, metrics: Metrics, uses: Uses
) -> ScimApp:
    return create_scim(
        database=database,
        clock=clock,
        pepper=settings.pepper(),
        base_url=settings.public_url or None,
        limit=Limit(rate=settings.scim_rate, burst=settings.scim_burst),
        on_use=uses.note,
        on_refused=lambda of: metrics.scim_refused.labels(of).inc(),
    )


def _new_owner(settings: Settings) -> str:
    """Names one part of this run of this process, where it holds leases (service.directory.leases)."""
    return f"{settings.instance_name()}#{secrets.token_hex(4)}"


def _doors(
    settings: Settings,
    roles: frozenset[str],
    database: Database,
    clock: Clock,
    metrics: Metrics,
    uses: Uses,
    *,
    open_console: bool,
) -> list[BaseRoute]:
    """The other HTTP doors of these roles, each at its place in the contract."""
    routes: list[BaseRoute] = []
    if "intake" in roles:
        callers = Callers(
            database=database,
            clock=clock,
            pepper=settings.pepper(),
            limit=Limit(rate=settings.events_rate, burst=settings.events_burst),
            on_use=uses.note,
            on_refused=lambda of: metrics.events_refused.labels(of).inc(),
        )
        routes += webhook_routes(database=database, clock=clock, callers=callers)
        routes += event_routes(database=database, clock=clock, callers=callers)
    if "console" in roles:
        password = settings.console_password.get_secret_value() or None
        console = console_routes(
            database=database, clock=clock, password=password, open=open_console
        )
        routes.append(Mount("/console", routes=console))
    return routes


async def serve(settings: Settings, *, roles: frozenset[str], host: str, port: int) -> int:
    """A production process, until SIGTERM or SIGINT. Returns the exit status.

    Raises ConfigurationError for unknown roles, for what they lack, and for a schema that this
    version does not know.
    """
    if unknown := roles - ROLES:
        raise ConfigurationError(f"Unknown role {', '.join(sorted(unknown))}: use {sorted(ROLES)}.")
    needs.require(settings, roles)
    url = settings.database_url.get_secret_value()
    await migrate.require_current(url)
    database = open_database(url)
    try:
        if (tenant := settings.default_tenant()) is not None:
            await database.transact(lambda tx: organizations.apply_tenant(tx, tenant))
        parts = assemble(settings, roles=roles, database=database, clock=SystemClock())
        listening = listen(host, port)
        return await run(parts, listening, ready=lambda: _say_ready(listening))
    finally:
        await database.close()


async def run(
    parts: Parts,
    listening: socket.socket,
    *,
    ready: Callable[[], Awaitable[None] | None],
    beside: Worker | None = None,
) -> int:
    """Serves and works until a signal, or until ``beside`` returns; then ends within 15 s.

    A worker that dies ends the process with status 1: its supervisor starts it anew.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = Server(parts.application)
    serving = asyncio.create_task(server.serve(sockets=[listening]), name="http")
    await server.until_started(serving)
    tasks = {
        name: asyncio.create_task(_call(worker, stop), name=name)
        for name, worker in parts.workers.items()
    }
    announced = ready()
    if announced is not None:
        await announced
    if beside is not None:
        tasks["beside"] = asyncio.create_task(_call(beside, stop), name="beside")
    stopping = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait(
        {*tasks.values(), serving, stopping}, return_when=asyncio.FIRST_COMPLETED
    )
    status = 0 if stopping in done or tasks.get("beside") in done else 1
    stop.set()
    server.should_exit = True
    status = await _end({**tasks, "http": serving}) or status
    for ending in parts.endings:
        await ending()
    return status


async def _end(tasks: dict[str, asyncio.Task[None]]) -> int:
    """Waits for the workers to end; 1 where one has failed or does not end in time."""
    await asyncio.wait(tasks.values(), timeout=14.0)
    status = 0
    for name, task in tasks.items():
        if not task.done():
            log.error("process.worker_hangs", worker=name)
            task.cancel()
            status = 1
        elif (error := task.exception()) is not None:
            log.error("process.worker_failed", worker=name, error=place_of(error))
            status = 1
    return status


class Server(uvicorn.Server):
    """uvicorn without its own signal handling, since the process decides when it ends."""

    def __init__(
        self, application: ASGIApp, lifespan: Literal["on", "off"] = "off", *, grace: int = 5
    ) -> None:
        """``grace``: seconds that requests under way may take once the server stops."""
        super().__init__(
            uvicorn.Config(
                application,
                lifespan=lifespan,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=grace,
                timeout_keep_alive=65,  # Okta keeps sockets for 60 s
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Also ends what began: uvicorn leaves the lifespan of an application open where it was asked
        to end while it started, and writes a traceback when the loop closes.
        """
        await super().startup(sockets=sockets)
        if self.started and self.should_exit:
            await self.shutdown(sockets=sockets)

    async def until_started(self, serving: asyncio.Task[None]) -> None:
        while not self.started and not serving.done():  # noqa: ASYNC110 - uvicorn tells no event
            await asyncio.sleep(0.01)
        if serving.done():
            await serving  # raises what went wrong


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 picks a free one. Raises ConfigurationError where it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise ConfigurationError(f"Cannot listen on {host}:{port}: {error.strerror}.") from error
    listening.set_inheritable(True)
    return listening


def url_of(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _say_ready(listening: socket.socket) -> None:
    log.info("process.ready", url=url_of(listening))


async def _call(worker: Worker, stop: asyncio.Event) -> None:
    await worker(stop)


def _tenancy(
    settings: Settings,
    tenant: Tenant,
    database: Database,
    clock: Clock,
    mailer: Mailer,
    owner: str,
    metrics: Metrics,
    pacers: Pacers,
    outlook: Outlook,
) -> Tenancy:
    client = Auth0Client(
        tenant,
        settings.client_secret(tenant),
        clock=clock,
        pacer=pacers.of(tenant),
        http=http_client(),
    )

    def count(kind: str, effect: object) -> None:
        metrics.auth0_calls.labels(tenant.name, kind, type(effect).__name__).inc()

    lanes = Lanes(
        tenant.name,
        database=database,
        performer=Performer(client, mailer=mailer, sender=settings.mail_sender),
        clock=clock,
        on_call=count,
    )
    set_ups = SetUps(database=database, client=client, clock=clock, on_call=count)
    first_loads = FirstLoads(
        tenant.name,
        database=database,
        client=client,
        clock=clock,
        settings=FirstLoadSettings(threshold=settings.import_threshold),
        sealer=sealer_of_hashes(settings.pepper()) if settings.token_pepper else None,
        on_call=lambda kind, verdict: metrics.auth0_calls.labels(tenant.name, kind, verdict).inc(),
        on_rows=lambda result, rows: metrics.imported.labels(tenant.name, result).inc(rows),
    )
    drift_checks = DriftChecks(
        tenant.name,
        database=database,
        client=client,
        clock=clock,
        settings=DriftSettings(hour=settings.drift_hour),
        on_found=lambda aspect: metrics.drift_found.labels(tenant.name, aspect).inc(),
    )
    listening = Listening()
    feed = Feed(tenant.name, client=client, listening=listening)
    rounds = Rounds(tenant.name, client=client, plan=tenant.plan, listening=listening)
    return Tenancy(
        tenant.name,
        database=database,
        client=client,
        works=(lanes, feed, rounds, set_ups, first_loads, drift_checks),
        clock=clock,
        owner=owner,
        settings=TenancySettings(lease=settings.lease_seconds),
        outlook=outlook,
    )


def _intake(
    settings: Settings, database: Database, clock: Clock, metrics: Metrics
) -> Intake | None:
    if not settings.kafka_bootstrap_servers:
        return None
    return Intake(
        database=database,
        clock=clock,
        metrics=metrics.intake,
        settings=IntakeSettings(
            connection=connection_of(settings),
            group_id=settings.kafka_group_id,
            group_instance_id=settings.kafka_group_instance_id or None,
            high_water=settings.intake_high_water,
        ),
    )


def _publisher(settings: Settings, database: Database, clock: Clock) -> Publisher:
    return Publisher(
        database=database,
        clock=clock,
        owner=_new_owner(settings),
        settings=PublisherSettings(
            connection=connection_of(settings),
            outcomes_topic=settings.kafka_outcomes_topic,
            deadletters_topic=settings.kafka_deadletters_topic,
            create_topics=settings.kafka_create_topics,
            group=settings.kafka_group_id,
            service_version=VERSION,
        ),
    )


def _transmitter(
    settings: Settings, keys: SigningKeys, database: Database, clock: Clock, metrics: Metrics
) -> Transmitter:
    return Transmitter(
        database=database,
        clock=clock,
        keys=keys,
        issuer=security_events.issuer(settings),
        owner=_new_owner(settings),
        on_push=lambda result: metrics.security_events_pushed.labels(result).inc(),
    )
