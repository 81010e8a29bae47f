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
    httpx client as every other call. Raises TokenRefused and httpx.RequestError: to everyone who
    waited for the same grant, since asking again for each would keep them all waiting.
    """

    _MARGIN: Final = 60.0
    _TIMEOUT: Final = 15.0

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
        self._fetching: asyncio.Task[str] | None = None

    async def __call__(self) -> str:
        if self._value is not None and self._clock.monotonic() < self._until:
            return self._value
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.create_task(self._fetch())
            # Whoever asked may be gone by the time that it fails.
            self._fetching.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._fetching)

    def invalidate(self, used: str | None = None) -> None:
        """Forgets the token, as after a 401; not where ``used`` is an older one than ours."""
        if used is None or used == self._value:
            self._value = None

    def close(self) -> None:
        """Gives up a grant under way."""
        if self._fetching is not None:
            self._fetching.cancel()

    async def _fetch(self) -> str:
        try:
            async with asyncio.timeout(self._TIMEOUT):
                return await self._grant()
        except TimeoutError as error:
            raise httpx.ReadTimeout("/oauth/token took too long") from error

    async def _grant(self) -> str:
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
        try:
            granted = answer.json()
            value, seconds = str(granted["access_token"]), float(granted["expires_in"])
        except (ValueError, LookupError, TypeError) as error:
            # As from a proxy in between. No detail: it could show the token.
            raise httpx.RemoteProtocolError("/oauth/token answered without a token") from error
        self._value = value
        self.scope = granted.get("scope")
        self._until = self._clock.monotonic() + seconds - self._MARGIN
        return value
