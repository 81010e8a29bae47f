"""Whether each Auth0 tenant is declared once. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.errors import ConfigurationError

if TYPE_CHECKING:
    from operators.declaration import Stored
    from service.organizations import Installation


def check(declared: Installation, stored: Stored) -> None:
    """Under two names a tenant's limit would be spent twice, and two organizations could each take a
    connection of it for their own. Raises ConfigurationError.
    """
    after = {**stored.tenants, **{each.name: each for each in declared.tenants}}
    known: dict[str, str] = {}
    for name, tenant in after.items():
        if not (tenant.domain or tenant.base_url):
            continue
        other = known.setdefault(tenant.url.lower(), name)
        if other != name:
            raise ConfigurationError(
                f"tenants[{name}]: {tenant.url} is that of tenant {other}: declare each tenant of"
                " Auth0 once, and name it in the organizations."
            )
