"""The lanes' part of the composition root: what works for Auth0 tenants, and beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from operators.mailing import mailer_of
from operators.process import Worker
from service.auth0.calls import http_client
from service.auth0.client import Auth0Client
from service.auth0.pacing import Pacers
from service.clock import Clock
from service.configuration import Settings
from service.directory.database import Database
from service.mail import Mailer
from service.metrics import Metrics
from service.organizations import Tenant
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

_BESIDE: Final = {
    "calendar": Calendar,
    "fan-outs": FanOuts,
    "decommissions": Decommissions,
    "snapshots": Snapshots,
}
"""What runs beside the tenants, whichever process comes first."""


def workers(
    settings: Settings, database: Database, clock: Clock, metrics: Metrics, *, owner: str
) -> dict[str, Worker]:
    """``owner``: under which name the tenants' leases are held."""
    outlook = Outlook(database=database, clock=clock)
    tenancies = _Tenancies(
        settings=settings,
        database=database,
        clock=clock,
        metrics=metrics,
        owner=owner,
        mailer=mailer_of(settings, clock),
        pacers=Pacers(
            clock,
            share=settings.auth0_background_share,
            on_share=lambda tenant, bucket, share: metrics.auth0_rate_share.labels(
                tenant, bucket
            ).set(share),
        ),
        outlook=outlook,
    )
    beside = {
        name: kind(database=database, clock=clock, outlook=outlook).run
        for name, kind in _BESIDE.items()
    }
    fleet = Fleet(database=database, tenancy_of=tenancies.of)
    return {"outlook": outlook.run, "lanes": fleet.run, **beside}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tenancies:
    """What the works of all tenants of this process have in common."""

    settings: Settings
    database: Database
    clock: Clock
    metrics: Metrics
    owner: str
    mailer: Mailer
    pacers: Pacers
    outlook: Outlook

    def of(self, tenant: Tenant) -> Tenancy:
        client = Auth0Client(
            tenant,
            self.settings.client_secret(tenant),
            clock=self.clock,
            pacer=self.pacers.of(tenant),
            http=http_client(),
        )
        listening = Listening()
        return Tenancy(
            tenant.name,
            database=self.database,
            client=client,
            works=(
                self._lanes(tenant, client),
                Feed(tenant.name, client=client, listening=listening),
                Rounds(tenant.name, client=client, plan=tenant.plan, listening=listening),
                self._set_ups(tenant, client),
                self._first_loads(tenant, client),
                self._drift_checks(tenant, client),
            ),
            clock=self.clock,
            owner=self.owner,
            settings=TenancySettings(lease=self.settings.lease_seconds),
            outlook=self.outlook,
        )

    def _lanes(self, tenant: Tenant, client: Auth0Client) -> Lanes:
        sender = self.settings.mail_sender
        return Lanes(
            tenant.name,
            database=self.database,
            performer=Performer(client, mailer=self.mailer, sender=sender),
            clock=self.clock,
            on_call=lambda kind, effect: self._count(tenant, kind, type(effect).__name__),
        )

    def _set_ups(self, tenant: Tenant, client: Auth0Client) -> SetUps:
        return SetUps(
            database=self.database,
            client=client,
            clock=self.clock,
            on_call=lambda kind, effect: self._count(tenant, kind, type(effect).__name__),
        )

    def _first_loads(self, tenant: Tenant, client: Auth0Client) -> FirstLoads:
        settings, metrics = self.settings, self.metrics
        return FirstLoads(
            tenant.name,
            database=self.database,
            client=client,
            clock=self.clock,
            settings=FirstLoadSettings(threshold=settings.import_threshold),
            sealer=sealer_of_hashes(settings.pepper()) if settings.token_pepper else None,
            on_call=lambda kind, verdict: self._count(tenant, kind, verdict),
            on_rows=lambda result, rows: metrics.imported.labels(tenant.name, result).inc(rows),
        )

    def _drift_checks(self, tenant: Tenant, client: Auth0Client) -> DriftChecks:
        return DriftChecks(
            tenant.name,
            database=self.database,
            client=client,
            clock=self.clock,
            settings=DriftSettings(hour=self.settings.drift_hour),
            on_found=lambda aspect: self.metrics.drift_found.labels(tenant.name, aspect).inc(),
        )

    def _count(self, tenant: Tenant, kind: str, verdict: str) -> None:
        self.metrics.auth0_calls.labels(tenant.name, kind, verdict).inc()
