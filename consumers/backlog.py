"""Which topics rest since an Auth0 tenant has more to catch up with than makes sense to take in. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from consumers.records import Route
from service.directory.depths import Backlog


def full_tenants(backlog: Backlog, high_water: int) -> frozenset[str]:
    """Tenants with ``high_water`` open events or more; 0: none ever is.

    Without a lower mark at which they go on: of several processes the one that looks first would fill
    the tenant up to the higher mark again, and the others would never reach the lower.
    """
    counted = backlog.open_events.items()
    return frozenset(tenant for tenant, count in counted if high_water and count >= high_water)


def resting_topics(
    routes: Mapping[str, Route], tenant_of: Mapping[str, str], full: Collection[str]
) -> dict[str, str]:
    """Topics that speak for an organization of such a tenant, each with the tenant's name.

    A topic that speaks for several rests for all: what stands behind a record cannot pass it.
    """
    found: dict[str, str] = {}
    for topic, route in routes.items():
        tenants = {tenant_of[each] for each in route.organizations if each in tenant_of}
        if over := sorted(tenants & set(full)):
            found[topic] = over[0]
    return found
