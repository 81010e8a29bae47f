"""The composition root: the one place that picks parts, mounts them and wires them together."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount

from consumers.callers import Callers
from consumers.enrichment import Enricher
from consumers.http import event_routes
from consumers.intake import Intake
from consumers.kafka import IntakeSettings
from consumers.webhooks import webhook_routes
from operators import needs, reading, security_events, tenancies
from operators.console import routes as console_routes
from operators.entrance import Entrance
from operators.health import Health, health_routes
from operators.measuring import Measured
from operators.process import Parts, Worker, listen, run, url_of
from scim.app import ScimApp
from scim.app import create_app as create_scim
from service.clock import Clock, SystemClock
from service.configuration import Settings
from service.directory import migrate, organizations
from service.directory.database import Database, open_database
from service.directory.uses import Uses
from service.errors import ConfigurationError
from service.kafka import connection_of
from service.limiting import Limit
from service.metrics import Metrics
from service.outcomes.publisher import Publisher, PublisherSettings
from service.security_events.keys import SigningKeys
from service.security_events.transmitter import Transmitter
from service.version import VERSION

log = structlog.get_logger(__name__)

ROLES: Final = frozenset({"scim", "intake", "lanes", "publisher", "console"})


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
    uses = Uses(database=database, clock=clock)
    keys = security_events.signing_keys(settings)
    intake = _intake(settings, database, clock, metrics) if "intake" in roles else None
    workers = _workers(settings, roles, database, clock, metrics, keys, intake)
    endings: list[Callable[[], Awaitable[None]]] = []
    if roles & {"scim", "intake"}:
        workers["uses"] = uses.run
        endings.append(uses.finish)
    scim: ScimApp | None = None
    if "scim" in roles:
        scim = _scim(settings, database, clock, metrics, uses)
        endings.append(scim.close)
    health = Health(database=database, clock=clock, metrics=metrics, intake=intake)
    routes: list[BaseRoute] = [*health_routes(health)]
    if roles & {"publisher", "scim"}:
        routes += security_events.routes(settings, keys)
    routes += _doors(settings, roles, database, clock, metrics, uses, open_console=open_console)
    return Parts(
        application=Measured(Entrance(scim=scim, others=Starlette(routes=routes)), metrics),
        workers=workers,
        database=database,
        endings=tuple(endings),
    )


def _workers(
    settings: Settings,
    roles: frozenset[str],
    database: Database,
    clock: Clock,
    metrics: Metrics,
    keys: SigningKeys | None,
    intake: Intake | None,
) -> dict[str, Worker]:
    """What runs beside the doors, each by the name that a failure of it is logged under."""
    found: dict[str, Worker] = {}
    if intake is not None:
        found["intake"] = intake.run
    if "intake" in roles:
        owner = _new_owner(settings)
        enricher = Enricher(database=database, clock=clock, again=reading.again, owner=owner)
        found["enrichment"] = enricher.run
    if "lanes" in roles:
        owner = _new_owner(settings)
        found |= tenancies.workers(settings, database, clock, metrics, owner=owner)
    if "publisher" in roles and settings.kafka_bootstrap_servers:
        found["publisher"] = _publisher(settings, database, clock).run
    if "publisher" in roles and keys is not None:
        found["security-events"] = _transmitter(settings, keys, database, clock, metrics).run
    return found


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


def _say_ready(listening: socket.socket) -> None:
    log.info("process.ready", url=url_of(listening))


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
