"""Asks an HR system what a worker is now: one HTTP GET or POST, and what its answer means for us.

Knows no events and no storage. Says nothing of what was answered: that is personal data.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any, Literal

import httpx
import orjson

from consumers.cloudevents import MAX_BYTES, check_shape, parse_json
from consumers.unusable import Unusable
from service.clock import Clock
from service.configuration import read_secret
from service.enrichment import Enrichment
from service.errors import ConfigurationError
from service.retrying import asked_for

Kind = Literal["gone", "refused", "denied", "busy", "unwell"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the HR system says of the worker: any JSON."""

    document: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class NoAnswer:
    """Why there is none. ``gone`` and ``refused`` are final; ``denied`` is the credential's fault,
    ``busy`` and ``unwell`` the other side's. ``wait``: seconds that it asked for.
    """

    kind: Kind
    code: str
    message: str
    status: int | None = None
    wait: float | None = None

    @property
    def is_final(self) -> bool:
        return self.kind in ("gone", "refused")


def http_client() -> httpx.AsyncClient:
    """Follows no redirects: the credential goes to the configured host and nowhere else. Keeps no
    cookies: customers of one HR system share its host. How many ask at once is for each source to say.
    """
    nobody = DefaultCookiePolicy(allowed_domains=[])
    return httpx.AsyncClient(
        follow_redirects=False,
        trust_env=False,
        cookies=CookieJar(policy=nobody),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
    )


async def ask(
    http: httpx.AsyncClient,
    enrichment: Enrichment,
    *,
    worker_id: str,
    organization: str,
    clock: Clock,
) -> Answer | NoAnswer:
    """Asks once, within the time that is configured. Raises nothing that HTTP may do."""
    try:
        headers = _headers(enrichment)
    except (ConfigurationError, ValueError) as error:
        return NoAnswer(kind="denied", code="enrichment_credential", message=str(error))
    try:
        async with asyncio.timeout(enrichment.timeout):
            body = await _body(http, enrichment, worker_id, organization, headers, clock)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, TimeoutError) as error:
        return NoAnswer(
            kind="unwell",
            code="enrichment_unreachable",
            message=f"{enrichment.host} does not answer ({type(error).__name__}).",
        )
    if isinstance(body, NoAnswer):
        return body
    try:
        document = parse_json(body)
    except orjson.JSONDecodeError:
        # Gateways and log-in pages answer 200, too: another time there may be JSON.
        return NoAnswer(
            kind="unwell",
            code="enrichment_not_json",
            message=f"{enrichment.host} answers something else than JSON: check the URL.",
        )
    if document is None:
        code, said = "enrichment_not_found", "answers null: it knows no such worker"
        return NoAnswer(kind="gone", code=code, message=f"{enrichment.host} {said}.")
    try:
        check_shape(document)
    except Unusable:
        return NoAnswer(
            kind="refused",
            code="enrichment_unusable",
            message=f"The answer of {enrichment.host} holds U+0000, or nests too deep.",
        )
    return Answer(document=document)


async def _body(
    http: httpx.AsyncClient,
    enrichment: Enrichment,
    worker_id: str,
    organization: str,
    headers: dict[str, str],
    clock: Clock,
) -> bytes | NoAnswer:
    url = enrichment.url_for(worker_id, organization)
    asked = enrichment.body_for(worker_id, organization)
    how: dict[str, Any] = {"method": "GET"} if asked is None else {"method": "POST", "json": asked}
    body = bytearray()
    async with http.stream(**how, url=url, headers=headers, timeout=enrichment.timeout) as response:
        if response.status_code != HTTPStatus.OK:
            return _refusal(response, clock)
        async for part in response.aiter_bytes():
            body += part
            if len(body) > MAX_BYTES:
                return NoAnswer(
                    kind="refused",
                    code="enrichment_too_large",
                    message=f"The answer of {enrichment.host} has more than {MAX_BYTES} bytes.",
                )
    return bytes(body)


def _headers(enrichment: Enrichment) -> dict[str, str]:
    headers = {"Accept": "application/json", **enrichment.headers}
    credential = enrichment.credential
    if credential is not None:
        secret = read_secret(Path(credential.file), "the credential of an enrichment")
        headers[credential.header] = credential.as_header(secret)
    return headers


def _refusal(response: httpx.Response, clock: Clock) -> NoAnswer:
    status = response.status_code
    kind, code, said = _meaning(status)
    return NoAnswer(
        kind=kind,
        code=code,
        message=f"{response.request.url.host} {said} ({status}).",
        status=status,
        wait=asked_for(response.headers.get("retry-after", ""), clock.now()),
    )


def _meaning(status: int) -> tuple[Kind, str, str]:
    match status:
        case 404 | 410:
            return "gone", "enrichment_not_found", "knows no such worker"
        case 401 | 403:
            return "denied", "enrichment_denied", "does not take the credential: renew it"
        case 429:
            return "busy", "enrichment_unavailable", "asks us to slow down"
        case 408 | 425:
            return "unwell", "enrichment_unavailable", "asks us to come back"
        case _ if status >= 500:
            return "unwell", "enrichment_unavailable", "fails"
        case _ if 300 <= status < 400:
            return "refused", "enrichment_redirected", "sends us elsewhere: check the URL"
        case _:
            return "refused", "enrichment_refused", "refuses the request: check the URL"
