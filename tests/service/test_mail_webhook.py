"""Rules of handing a mail to a webhook: signed, to whom was named, and sure of what became of it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from service.clock import SystemClock
from service.errors import ConfigurationError
from service.mail import Mail, NotTaken
from service.mail_webhook import WebhookMailer, signing_key
from tests.infrastructure.processes import free_ports

KEY = b"0123456789abcdef01234567"
MAIL = Mail(
    id="5b0c",
    sender="no-reply@example.com",
    to="ada@hoekstra.example",
    organization="Hoekstra",
    link="https://login.example/reset?ticket=secret",
    expires_at=datetime(2026, 11, 30, 12, 0, tzinfo=UTC),
)


@dataclass(slots=True)
class _Receiver:
    """Reads requests, answers what it is told to; ``None`` drops the connection."""

    answer: bytes | None = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
    slow: float = 0.0
    url: str = ""
    heads: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    bodies: list[bytes] = field(default_factory=list[bytes])
    served: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = [line.partition(": ") for line in head.split("\r\n")[1:] if line]
        headers = {name.lower(): value for name, _, value in lines}
        self.heads.append(headers)
        self.bodies.append(await reader.readexactly(int(headers["content-length"])))
        with contextlib.suppress(ConnectionError):
            await asyncio.sleep(self.slow)
            if self.answer is not None:
                writer.write(self.answer)
            writer.close()
            await writer.wait_closed()
        self.served.release()


@asynccontextmanager
async def receiver(answer: bytes | None, slow: float = 0.0) -> AsyncGenerator[_Receiver]:
    it = _Receiver(answer=answer, slow=slow)
    server = await asyncio.start_server(it.serve, "127.0.0.1", 0)
    it.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mails"
    async with server:
        yield it
        for _ in it.heads:
            await it.served.acquire()


def answering(status: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n".encode()


def mailer(url: str, *, timeout: float = 7.0, idempotent: bool = False) -> WebhookMailer:
    return WebhookMailer(
        url=url,
        key=KEY,
        credential="s3cret",
        clock=SystemClock(),
        timeout=timeout,
        idempotent=idempotent,
    )


async def test_a_mail_is_posted_with_its_credential_its_key_and_a_signature() -> None:
    async with receiver(answering("202 Accepted")) as there:
        await mailer(there.url).send(MAIL)
        await mailer(there.url).send(MAIL)
    first, again = there.heads
    assert first["authorization"] == "Bearer s3cret"
    assert first["idempotency-key"] == again["idempotency-key"] == first["webhook-id"] == "5b0c"
    signed = b".".join((b"5b0c", first["webhook-timestamp"].encode(), there.bodies[0]))
    digest = base64.b64encode(hmac.digest(KEY, signed, hashlib.sha256)).decode()
    assert first["webhook-signature"] == f"v1,{digest}"
    document = json.loads(there.bodies[0])
    assert document["to"] == MAIL.to
    assert document["link"] == MAIL.link
    assert document["expiresAt"] == "2026-11-30T12:00:00+00:00"
    assert MAIL.link in document["text"]


@pytest.mark.parametrize(
    ("status", "for_good"),
    [
        ("400 Bad Request", True),
        ("401 Unauthorized", False),
        ("404 Not Found", False),
        ("422 Unprocessable", True),
        ("429 Too Many Requests", False),
        ("501 Not Implemented", False),
        ("503 Service Unavailable", False),
        ("307 Temporary Redirect", False),
    ],
)
async def test_an_answer_other_than_success_says_that_it_was_not_taken(
    status: str, for_good: bool
) -> None:
    async with receiver(answering(status)) as there:
        with pytest.raises(NotTaken, match=status[:3]) as raised:
            await mailer(there.url).send(MAIL)
    assert raised.value.for_good is for_good
    assert len(there.bodies) == 1, "a redirect is not followed, the link goes to nobody else"


async def test_a_receiver_that_does_not_listen_has_not_taken_it() -> None:
    with pytest.raises(NotTaken):
        await mailer(f"http://127.0.0.1:{free_ports(1)[0]}/").send(MAIL)


async def test_an_answer_that_is_lost_leaves_doubt() -> None:
    async with receiver(None) as there:
        with pytest.raises(OSError, match="RemoteProtocolError"):
            await mailer(there.url).send(MAIL)
    assert len(there.bodies) == 1


async def test_an_answer_that_is_late_leaves_doubt() -> None:
    async with receiver(answering("200 OK"), slow=0.4) as there:
        with pytest.raises(OSError):
            await mailer(there.url, timeout=0.2).send(MAIL)


@pytest.mark.parametrize(
    "status",
    [
        "504 Gateway Timeout",
        "408 Request Timeout",
        "500 Internal Server Error",
        "502 Bad Gateway",
        "520 Unknown",
    ],
)
async def test_a_gateway_that_waited_in_vain_leaves_doubt(status: str) -> None:
    async with receiver(answering(status)) as there:
        with pytest.raises(ConnectionError, match=status[:3]):
            await mailer(there.url).send(MAIL)


@pytest.mark.parametrize("answer", [None, answering("500 Oops"), answering("504 Late")])
async def test_a_receiver_that_mails_once_for_a_key_is_asked_again(answer: bytes | None) -> None:
    async with receiver(answer) as there:
        with pytest.raises(NotTaken) as raised:
            await mailer(there.url, idempotent=True).send(MAIL)
    assert not raised.value.for_good


@pytest.mark.parametrize(
    "url", ["http://mail.example/", "mail.example", "https://u:p@mail.example"]
)
def test_a_link_is_sent_over_tls_only(url: str) -> None:
    with pytest.raises(ConfigurationError, match="MAIL_WEBHOOK_URL"):
        mailer(url)


def test_a_short_or_unreadable_signing_key_is_refused() -> None:
    written = f"whsec_{base64.b64encode(KEY).decode()}"
    assert signing_key(written) == signing_key(KEY.decode()) == KEY
    for wrong in ("", "short", "whsec_???", "whsec_c2hvcnQ="):
        with pytest.raises(ConfigurationError, match="SIGNING_KEY"):
            signing_key(wrong)


def test_neither_link_nor_secret_shows_where_it_is_printed() -> None:
    assert "secret" not in repr(MAIL)
    assert "s3cret" not in repr(mailer("https://mail.example/"))
