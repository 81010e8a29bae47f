"""Access tokens for brokers that want OAUTHBEARER: asked for as a client (RFC 6749, 4.4), kept, renewed
before they end.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote_plus

import httpx
from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaError

from service.clock import Clock, SystemClock

_WITHIN: Final = 10.0
_RENEWED_AT: Final = 0.8
"""Of a token's life. Connections are made all the time, so there is always one who asks."""
_LIFE_WHERE_NOT_TOLD: Final = 300.0


class NoToken(KafkaError):
    """The token endpoint gives none: the message says what it answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OauthClient:
    """Who asks, and where. The secret stays out of its ``repr``."""

    token_url: str
    client_id: str
    client_secret: str = field(repr=False)
    scope: str = ""


def http_client() -> httpx.AsyncClient:
    return httpx.AsyncClient(timeout=_WITHIN, follow_redirects=False)


class ClientCredentials(AbstractTokenProvider):
    """One token for all connections of a process."""

    def __init__(
        self,
        client: OauthClient,
        *,
        clock: Clock | None = None,
        open_http: Callable[[], httpx.AsyncClient] = http_client,
    ) -> None:
        self._client = client
        self._clock = clock or SystemClock()
        self._open_http = open_http
        self._asking = asyncio.Lock()
        self._token = ""
        self._renew_at = self._ends_at = 0.0

    async def token(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride] - untyped
        """A token that has not ended. Raises NoToken."""
        async with self._asking:
            if not self._token or self._clock.monotonic() >= self._renew_at:
                await self._renew()
            return self._token

    async def _renew(self) -> None:
        asked_at = self._clock.monotonic()
        try:
            token, life = await self._ask()
        except NoToken:
            if self._token and asked_at < self._ends_at:
                return  # it is good for a while yet
            raise
        self._token = token
        self._ends_at, self._renew_at = asked_at + life, asked_at + life * _RENEWED_AT

    async def _ask(self) -> tuple[str, float]:
        client = self._client
        named = f"{quote_plus(client.client_id)}:{quote_plus(client.client_secret)}"
        form = {"grant_type": "client_credentials"}
        if client.scope:
            form["scope"] = client.scope
        basic = base64.b64encode(named.encode()).decode()
        try:
            async with self._open_http() as http:
                answer = await http.post(
                    client.token_url, data=form, headers={"Authorization": f"Basic {basic}"}
                )
        except httpx.HTTPError as error:
            raise NoToken(
                f"the token endpoint {client.token_url} does not answer: {error}"
            ) from error
        told = _object(answer)
        token = told.get("access_token")
        if not answer.is_success or not isinstance(token, str) or not token:
            why = told.get("error_description") or told.get("error") or "no access_token"
            raise NoToken(
                f"the token endpoint {client.token_url} answered {answer.status_code}: {why}"
            )
        return token, _life(told.get("expires_in"))


def _object(answer: httpx.Response) -> dict[str, Any]:
    try:
        told = answer.json()
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _life(told: object) -> float:
    try:
        return max(0.0, float(str(told)))
    except ValueError:
        return _LIFE_WHERE_NOT_TOLD
