"""Issuers' public keys: found, fetched, kept. Asked rarely, and never twice at the same time.

Knows no tokens but their key ids, and no organizations: one issuer's silence delays only its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import orjson
import structlog

from scim.access_tokens import AccessToken, VerifyingKey, candidates, keys_of
from service.clock import Clock
from service.organizations import ScimOauth
from service.urls import is_loopback, is_trustworthy_url

_LOG: Final = structlog.stdlib.get_logger(__name__)
FRESH_FOR: Final = 300.0
"""Seconds after which keys are asked for again, so that a withdrawn one is soon forgotten."""
KEPT_FOR: Final = 86_400.0
"""Seconds that keys are still good for while their issuer does not answer."""
ASKED_AGAIN_AFTER: Final = 10.0
"""Seconds between two questions, however many unknown key ids come in."""
_PATIENCE: Final = 1.0
"""Seconds that a request waits for newer keys where the ones we have would do."""
_ANSWERS_WITHIN: Final = 5.0
_LARGEST_DOCUMENT: Final = 256 * 1024
_MOST_ISSUERS: Final = 1_000


class Unreachable(Exception):
    """The issuer's keys cannot be had; the message says why, for the log."""


def http_client() -> httpx.AsyncClient:
    return httpx.AsyncClient(timeout=httpx.Timeout(_ANSWERS_WITHIN, connect=3.0))


@dataclass(slots=True, kw_only=True)
class _Kept:
    """What we have of one issuer."""

    keys: tuple[VerifyingKey, ...] = ()
    fetched_at: float = field(default=float("-inf"))
    asked_at: float = field(default=float("-inf"))
    asking: asyncio.Task[None] | None = None


class Issuers:
    """The keys of issuers, by where they are published."""

    def __init__(
        self, *, clock: Clock, http: Callable[[], httpx.AsyncClient] = http_client
    ) -> None:
        self._clock = clock
        self._new_http = http
        self._http: httpx.AsyncClient | None = None
        self._kept: dict[tuple[str, str], _Kept] = {}

    async def keys_for(self, oauth: ScimOauth, token: AccessToken) -> list[VerifyingKey]:
        """The keys that may have signed a token; none where the issuer has no such key.

        Raises Unreachable where the issuer does not answer and nothing usable is kept.
        """
        kept = self._of(oauth)
        if self._clock.monotonic() - kept.fetched_at > FRESH_FOR:
            await self._ask(oauth, kept, _PATIENCE if kept.keys else _ANSWERS_WITHIN)
        found = candidates(token, kept.keys)
        if not found:  # the issuer may have begun to use a new one
            await self._ask(oauth, kept, _ANSWERS_WITHIN)
            found = candidates(token, kept.keys)
        if not found and kept.fetched_at < kept.asked_at:
            raise Unreachable(f"{oauth.issuer} does not tell whether it has such a key")
        return found

    async def close(self) -> None:
        asking = [kept.asking for kept in self._kept.values() if kept.asking is not None]
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        if self._http is not None:
            await self._http.aclose()

    def _of(self, oauth: ScimOauth) -> _Kept:
        place = (oauth.issuer, oauth.jwks_url)
        kept = self._kept.pop(place, None) or _Kept()
        self._kept[place] = kept
        if len(self._kept) > _MOST_ISSUERS:
            del self._kept[next(iter(self._kept))]
        return kept

    async def _ask(self, oauth: ScimOauth, kept: _Kept, patience: float) -> None:
        """Waits this many seconds for newer keys, where it is time to ask for them."""
        now = self._clock.monotonic()
        if now - kept.fetched_at > KEPT_FOR:
            kept.keys = ()
        if kept.asking is None:
            if now - kept.asked_at < ASKED_AGAIN_AFTER:
                return
            kept.asked_at = now
            kept.asking = asyncio.create_task(self._fetch(oauth, kept))
        await asyncio.wait({kept.asking}, timeout=patience)

    async def _fetch(self, oauth: ScimOauth, kept: _Kept) -> None:
        """Raises nothing: what we had is kept, and the log says what is wrong."""
        try:
            if self._http is None:
                self._http = self._new_http()
            async with asyncio.timeout(_ANSWERS_WITHIN):
                kept.keys = await fetch_keys(oauth, self._http)
            kept.fetched_at = self._clock.monotonic()
        except Exception as error:
            told = str(error) if isinstance(error, Unreachable) else type(error).__name__
            _LOG.warning("the keys of an issuer cannot be had", issuer=oauth.issuer, error=told)
        finally:
            kept.asking = None


async def fetch_keys(oauth: ScimOauth, http: httpx.AsyncClient) -> tuple[VerifyingKey, ...]:
    """An issuer's keys as published now, at least one. Raises Unreachable."""
    keys: tuple[VerifyingKey, ...] = ()
    place = oauth.jwks_url or await _published_at(oauth, http)
    try:
        keys = keys_of(await _document(place, http))
    except ValueError as error:
        raise Unreachable(f"{place}: {error}") from None
    if not keys:
        raise Unreachable(f"{place}: no key there can verify a token")
    return keys


async def _published_at(oauth: ScimOauth, http: httpx.AsyncClient) -> str:
    """``jwks_uri`` of the issuer's metadata, else the place where many have their keys."""
    for place in _metadata_places(oauth.issuer):
        try:
            metadata = await _document(place, http)
        except Unreachable:
            continue
        if not isinstance(metadata, dict) or metadata.get("issuer") != oauth.issuer:
            continue  # another's word on where the keys are (RFC 8414 section 3.3)
        uri = metadata.get("jwks_uri")
        if isinstance(uri, str) and _may_lead_to(uri, oauth.issuer):
            return uri
    return f"{oauth.issuer.rstrip('/')}/.well-known/jwks.json"


def _metadata_places(issuer: str) -> Iterator[str]:
    """OpenID Connect Discovery 1.0 section 4, then RFC 8414 section 3."""
    yield f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    yield parts._replace(path=f"/.well-known/oauth-authorization-server{path}", query="").geturl()


def _may_lead_to(uri: str, issuer: str) -> bool:
    """Metadata from elsewhere must not send us to this machine's own services."""
    return is_trustworthy_url(uri) and (
        urlsplit(uri).scheme == "https" or is_loopback(urlsplit(issuer).hostname or "")
    )


async def _document(url: str, http: httpx.AsyncClient) -> Any:
    """A JSON document, read no further than its limit. Raises Unreachable."""
    # Not compressed: what we count is what we read.
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    body = bytearray()
    try:
        async with http.stream("GET", url, headers=headers) as answer:
            if answer.status_code != 200:
                raise Unreachable(f"{url}: answers {answer.status_code}")
            async for part in answer.aiter_raw():
                body += part
                if len(body) > _LARGEST_DOCUMENT:
                    raise Unreachable(f"{url}: more than {_LARGEST_DOCUMENT} bytes")
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Unreachable(f"{url}: not JSON") from None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise Unreachable(f"{url}: {type(error).__name__}") from None
