"""Rules of whom a link is handed to: the mail server or webhook of that name, and nobody who poses."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from operators.mailing import mailer_of
from service.clock import SystemClock
from service.configuration import Settings
from service.errors import ConfigurationError
from service.mail import Mailer, NotTaken
from tests.faults import proves
from tests.infrastructure.secured_kafka import Authority
from tests.service.test_mail_webhook import MAIL

HERE = "127.0.0.1"
KEY = "whsec_" + "A" * 32


@asynccontextmanager
async def mail_server(certificate: Path | None) -> AsyncGenerator[tuple[int, list[bytes]]]:
    """With STARTTLS where it has a certificate. Gives its port and the mails that it took."""
    taken: list[bytes] = []
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    if certificate is not None:
        context.load_cert_chain(certificate)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(b"220 test\r\n")
            while line := await reader.readline():
                match line[:4].upper():
                    case b"EHLO" if certificate is not None:
                        writer.write(b"250-test\r\n250 STARTTLS\r\n")
                    case b"STAR":
                        writer.write(b"220 go on\r\n")
                        await writer.start_tls(context)
                    case b"DATA":
                        writer.write(b"354 go on\r\n")
                        taken.append(await reader.readuntil(b"\r\n.\r\n"))
                        writer.write(b"250 taken\r\n")
                    case _:
                        writer.write(b"250 ok\r\n")
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, HERE, 0)
    async with server:
        yield server.sockets[0].getsockname()[1], taken


@asynccontextmanager
async def webhook(certificate: Path) -> AsyncGenerator[tuple[str, list[bytes]]]:
    taken: list[bytes] = []
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, HERE, 0, ssl=context)
    async with server:
        yield f"https://{HERE}:{server.sockets[0].getsockname()[1]}/mails", taken


def mailer(**settings: Any) -> Mailer:
    return mailer_of(Settings(**settings), SystemClock())


def authority(folder: Path) -> tuple[Authority, Path]:
    made = Authority("Mail tests")
    return made, made.write(folder / "ca.pem")


@proves("certificate of a mail server is not believed")
async def test_a_mail_server_that_anybody_could_be_gets_no_link(tmp_path: Path) -> None:
    signer, _ = authority(tmp_path)
    async with mail_server(signer.issue(tmp_path / "here.pem", HERE)) as (port, taken):
        with pytest.raises(NotTaken, match="SSLCertVerificationError") as refused:
            await mailer(smtp_host=HERE, smtp_port=port).send(MAIL)
    assert not refused.value.for_good, "a mended certificate is enough"
    assert taken == []


async def test_a_mail_server_of_an_authority_that_is_named_gets_it(tmp_path: Path) -> None:
    signer, ca_file = authority(tmp_path)
    async with mail_server(signer.issue(tmp_path / "here.pem", HERE)) as (port, taken):
        await mailer(smtp_host=HERE, smtp_port=port, mail_ca_file=str(ca_file)).send(MAIL)
    assert len(taken) == 1


async def test_a_mail_server_with_the_certificate_of_another_gets_no_link(tmp_path: Path) -> None:
    signer, ca_file = authority(tmp_path)
    async with mail_server(signer.issue(tmp_path / "other.pem", "127.0.0.2")) as (port, taken):
        with pytest.raises(NotTaken, match="SSLCertVerificationError"):
            await mailer(smtp_host=HERE, smtp_port=port, mail_ca_file=str(ca_file)).send(MAIL)
    assert taken == []


async def test_a_mail_server_that_hides_its_starttls_gets_no_link() -> None:
    async with mail_server(None) as (port, taken):
        with pytest.raises(NotTaken, match="SMTPNotSupportedError"):
            await mailer(smtp_host=HERE, smtp_port=port).send(MAIL)
    assert taken == []


async def test_whoever_answers_is_believed_only_where_a_setting_says_so(tmp_path: Path) -> None:
    signer, _ = authority(tmp_path)
    async with mail_server(signer.issue(tmp_path / "here.pem", HERE)) as (port, taken):
        await mailer(smtp_host=HERE, smtp_port=port, smtp_verify=False).send(MAIL)
    assert len(taken) == 1


async def test_a_webhook_gets_a_link_only_with_a_certificate_that_is_believed(
    tmp_path: Path,
) -> None:
    signer, ca_file = authority(tmp_path)
    async with webhook(signer.issue(tmp_path / "here.pem", HERE)) as (url, taken):
        given: dict[str, Any] = {"mail_webhook_url": url, "mail_webhook_signing_key": KEY}
        with pytest.raises(NotTaken):
            await mailer(**given, smtp_verify=False).send(MAIL)
        assert taken == []
        await mailer(**given, mail_ca_file=str(ca_file)).send(MAIL)
    assert len(taken) == 1


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_authorities_that_cannot_be_read_are_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigurationError, match="PROVISIONER_MAIL_CA_FILE"):
        mailer(smtp_host=HERE, mail_ca_file=str(file))
