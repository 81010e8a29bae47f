"""The Management API token of one tenant: fetched once for all callers, renewed before it ends."""

from __future__ import annotations

import asyncio
from typing import Final

import httpx

from service.clock import Clock
from service.organizations import Tenant


class TokenRefused(Exception):
    """Auth0 does not accept the tenant's client credentials: correct them."""


class Token:
    """An async callable that gives a valid access token.

    auth0-python's own provider blocks the event loop, so the grant is made here, through the same
    httpx client as every other call. Raises TokenRefused and httpx.TransportError.
    """

    _MARGIN: Final = 60.0

    def __init__(
        self, tenant: Tenant, client_secret: str, http: httpx.AsyncClient, clock: Clock
    ) -> None:
        self._tenant = tenant
        self._client_secret = client_secret
        self._http = http
        self._clock = clock
        self.scope: str | None = None
        """What was granted, parted by spaces; None before the first fetch, or where not told."""
        self._value: str | None = None
        self._until = 0.0
        self._lock = asyncio.Lock()

    async def __call__(self) -> str:
        async with self._lock:  # one caller fetches, the others wait for it
            if self._value is None or self._clock.monotonic() >= self._until:
                await self._fetch()
            assert self._value is not None
            return self._value

    def invalidate(self) -> None:
        """Forgets the token, as after a 401."""
        self._value = None

    async def _fetch(self) -> None:
        audience = self._tenant.domain or self._tenant.url.partition("//")[2]
        answer = await self._http.post(
            f"{self._tenant.url}/oauth/token",
            json={
                "grant_type": "client_credentials",
                "client_id": self._tenant.client_id,
                "client_secret": self._client_secret,
                "audience": f"https://{audience}/api/v2/",
            },
        )
        if answer.status_code in (400, 401, 403):
            raise TokenRefused(
                f"Auth0 refused the client credentials of tenant {self._tenant.name}"
                f" ({answer.status_code}): check client id and secret."
            )
        if answer.status_code != 200:
            raise httpx.RemoteProtocolError(f"/oauth/token answered {answer.status_code}")
        granted = answer.json()
        self._value = granted["access_token"]
        self.scope = granted.get("scope")
        self._until = self._clock.monotonic() + float(granted["expires_in"]) - self._MARGIN
