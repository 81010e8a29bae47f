"""Mails handed to a service of the installation's own, by a signed POST of JSON.

Signed as Standard Webhooks has it: ``webhook-id``, ``webhook-timestamp`` and ``webhook-signature``.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import ssl
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import orjson

from service.clock import Clock
from service.errors import ConfigurationError
from service.mail import Mail, NotTaken
from service.urls import is_trustworthy_url

_PREFIX: Final = "whsec_"
_SHORTEST: Final = 24
_ABOUT_THE_MAIL: Final = frozenset((400, 409, 410, 413, 415, 422))
"""Refusals of this mail, which it will meet again; any other may be the receiver's own trouble."""

_NOT_BEGUN: Final = frozenset((501, 503, 505))
"""The only 5xx that say that nothing was done: not made for this, not now, not this HTTP."""


def signing_key(text: str) -> bytes:
    """The key in a setting: ``whsec_`` and base64, as Standard Webhooks writes it, else the text's
    own bytes. Raises ConfigurationError where it has fewer than 24 bytes.
    """
    try:
        key = (
            base64.b64decode(text.removeprefix(_PREFIX), validate=True)
            if text.startswith(_PREFIX)
            else text.encode()
        )
    except binascii.Error:
        key = b""
    if len(key) < _SHORTEST:
        raise ConfigurationError(
            "PROVISIONER_MAIL_WEBHOOK_SIGNING_KEY: give whsec_ and base64 of 24 random bytes or"
            " more, or that many characters."
        )
    return key


def signature(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """The value of ``webhook-signature``: version 1, HMAC-SHA256 in base64."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    digest = hmac.new(key, signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookMailer:
    """POSTs each mail to one URL. 2xx says that it was taken; 3xx, 4xx, 501, 503 and 505 that it was
    not. After no answer, 408 or any other 5xx it may have been: the receiver may have failed
    after it mailed. Redirects are not followed: the link goes to whom the configuration names.
    """

    url: str
    key: bytes = field(repr=False)
    clock: Clock
    credential: str = field(default="", repr=False)
    """Sent as a bearer token; empty: none."""
    idempotent: bool = False
    """Whether the receiver mails once for an ``Idempotency-Key``: then what may have been taken is
    sent again under the same key, rather than left to an operator."""
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    """Whose certificates are believed; None: those that well-known authorities signed."""
    timeout: float = 7.0
    """Seconds for the whole exchange. A process that stops waits for it, and has 15 in all."""

    def __post_init__(self) -> None:
        if not is_trustworthy_url(self.url):
            raise ConfigurationError(
                "PROVISIONER_MAIL_WEBHOOK_URL: give an https:// URL (http:// only for this machine)."
            )
        if not self.credential.isascii() or not self.credential.isprintable():
            raise ConfigurationError(
                "PROVISIONER_MAIL_WEBHOOK_CREDENTIAL: give a single line of printable ASCII."
            )

    async def send(self, mail: Mail) -> None:
        body = orjson.dumps(_document(mail))
        # A client of its own: mails are few, and a stale connection would leave doubt.
        timeout = httpx.Timeout(self.timeout, connect=3.0)
        verify = True if self.tls is None else self.tls
        async with httpx.AsyncClient(trust_env=False, timeout=timeout, verify=verify) as http:
            try:
                async with asyncio.timeout(self.timeout):
                    status = await self._post(http, mail.id, body)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                raise NotTaken(type(error).__name__) from error
            except (httpx.RequestError, TimeoutError) as error:
                raise self._doubt(type(error).__name__) from error
        if status == 408 or (status >= 500 and status not in _NOT_BEGUN):
            raise self._doubt(f"webhook answered {status}")
        if not httpx.codes.is_success(status):
            raise NotTaken(f"webhook answered {status}", for_good=status in _ABOUT_THE_MAIL)

    def _doubt(self, reason: str) -> Exception:
        return NotTaken(reason) if self.idempotent else ConnectionError(reason)

    async def _post(self, http: httpx.AsyncClient, message_id: str, body: bytes) -> int:
        # The answer's body says nothing to us and is not read.
        request: dict[str, Any] = {"content": body, "headers": self._headers(message_id, body)}
        async with http.stream("POST", self.url, **request) as answer:
            return answer.status_code

    def _headers(self, message_id: str, body: bytes) -> dict[str, str]:
        timestamp = int(self.clock.now().timestamp())
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": message_id,
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(self.key, message_id, timestamp, body),
        }
        if self.credential:
            headers["Authorization"] = f"Bearer {self.credential}"
        return headers


def _document(mail: Mail) -> dict[str, Any]:
    return {
        "type": "invitation",
        "id": mail.id,
        "from": mail.sender,
        "to": mail.to,
        "subject": mail.subject,
        "text": mail.text,
        "organization": mail.organization,
        "link": mail.link,
        "expiresAt": mail.expires_at.isoformat(),
    }
