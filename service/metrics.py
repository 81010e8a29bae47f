"""Every metric by name, with what it counts. No user, address or other unbounded value is a label."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from service.intake_metrics import IntakeMetrics

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Depths:
    """How much is waiting, counted in the database."""

    open_events: int
    due_accounts: int
    untouched_users: int
    unpublished_outcomes: int
    paused_tenants: int
    set_ups_in_trouble: int
    deadlettered_events: int
    staged_events: int
    thin_events: int
    sources: Mapping[str, bool] = field(default_factory=dict[str, bool])
    """Of every source of events: whether it is stopped."""
    awaited_accounts: int = 0
    feeds: Mapping[str, tuple[float | None, bool]] = field(
        default_factory=dict[str, tuple[float | None, bool]]
    )
    """Of every tenant whose events are followed: seconds since the newest happened, None before any;
    and whether Auth0 refuses the feed."""
    security_events: int = 0
    streams: Mapping[str, bool] = field(default_factory=dict[str, bool])
    """Of every organization with a stream of security events: whether it is stopped."""


class Metrics:
    """The metrics of one process, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.intake = IntakeMetrics(self.registry)
        self.auth0_calls = Counter(
            "provisioner_auth0_calls",
            "Calls to Auth0 by operation and what came of them",
            ("tenant", "operation", "result"),
            registry=self.registry,
        )
        self.auth0_rate_share = Gauge(
            "provisioner_auth0_rate_share",
            "The share of a bucket's configured rate that the tenant seems to leave us",
            ("tenant", "bucket"),
            registry=self.registry,
        )
        self.drift_found = Counter(
            "provisioner_drift_found",
            "Differences between Auth0 and what we know, seen by compares",
            ("tenant", "aspect"),
            registry=self.registry,
        )
        self.imported = Counter(
            "provisioner_imported_accounts",
            "Accounts that import jobs were to create, by what came of each row",
            ("tenant", "result"),
            registry=self.registry,
        )
        self.http_requests = Histogram(
            "provisioner_http_request_seconds",
            "Requests by door, method and status class",
            ("door", "method", "status"),
            registry=self.registry,
        )
        self.scim_refused = Counter(
            "provisioner_scim_refused",
            "SCIM requests refused as too many, by whose they were",
            ("of",),
            registry=self.registry,
        )
        self.events_refused = Counter(
            "provisioner_events_refused",
            "Requests with events over HTTP refused as too many, by whose they were",
            ("of",),
            registry=self.registry,
        )
        self.security_events_pushed = Counter(
            "provisioner_security_events_pushed",
            "Security Event Tokens pushed, by what came of it: delivered, again or refused",
            ("result",),
            registry=self.registry,
        )
        self._open = self._gauge("events_open", "Accepted events without an ending")
        self._dead = self._gauge("events_deadlettered", "Events that wait for an operator")
        self._thin = self._gauge(
            "events_thin", "Accepted events that wait for an answer about their worker"
        )
        self._staged = self._gauge("events_staged", "Leavers who wait for an operator")
        self._due = self._gauge("accounts_due", "Accounts whose turn has come")
        self._untouched = self._gauge(
            "users_untouched", "Users whom a change of many accounts has not reached yet"
        )
        self._unpublished = self._gauge("outcomes_unpublished", "Outcomes not yet on Kafka")
        self._paused = self._gauge("tenants_paused", "Auth0 tenants that refuse us")
        self._set_ups = self._gauge(
            "setups_in_trouble", "Organizations that are not set up in Auth0 as declared"
        )
        self._stopped = Gauge(
            "provisioner_source_stopped",
            "Whether a source of events is stopped, since too many failed one after the other",
            ("source",),
            registry=self.registry,
        )

        self._awaited = self._gauge(
            "accounts_awaited", "Accounts whose profile has not appeared in Auth0"
        )
        self._newest_event = Gauge(
            "provisioner_auth0_feed_newest_seconds_ago",
            "Since the newest event that a tenant's feed told of happened",
            ("tenant",),
            registry=self.registry,
        )
        self._feed_refused = Gauge(
            "provisioner_auth0_feed_refused",
            "Whether a tenant refuses its feed of events: new users are found by looking",
            ("tenant",),
            registry=self.registry,
        )
        self._to_push = self._gauge(
            "security_events_waiting", "Security Event Tokens not yet delivered"
        )
        self._streams_stopped = Gauge(
            "provisioner_stream_stopped",
            "Whether an organization's stream is stopped, since its receiver refused a token",
            ("organization",),
            registry=self.registry,
        )

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"provisioner_{name}", text, registry=self.registry)

    def render(self, depths: Depths) -> bytes:
        """The page that Prometheus reads."""
        self._open.set(depths.open_events)
        self._dead.set(depths.deadlettered_events)
        self._thin.set(depths.thin_events)
        self._staged.set(depths.staged_events)
        self._due.set(depths.due_accounts)
        self._untouched.set(depths.untouched_users)
        self._unpublished.set(depths.unpublished_outcomes)
        self._paused.set(depths.paused_tenants)
        self._set_ups.set(depths.set_ups_in_trouble)
        self._stopped.clear()
        for source, stopped in depths.sources.items():
            self._stopped.labels(source).set(stopped)
        self._awaited.set(depths.awaited_accounts)
        self._newest_event.clear()
        self._feed_refused.clear()
        for tenant, (age, refused) in depths.feeds.items():
            self._newest_event.labels(tenant).set(math.nan if age is None else age)
            self._feed_refused.labels(tenant).set(refused)
        self._to_push.set(depths.security_events)
        self._streams_stopped.clear()
        for organization, stopped in depths.streams.items():
            self._streams_stopped.labels(organization).set(stopped)
        return generate_latest(self.registry)
