"""How a person gets the link that they need: by SMTP, or into a folder while developing. Through a
webhook: service.mail_webhook.

The link is a credential: it goes into the mail and nowhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
import mailbox
import os
import re
import smtplib
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import make_msgid
from pathlib import Path
from typing import Any, Final, Protocol, cast

_AT_ONCE: Final = 16
_CONNECTING: Final = 3.0
"""Seconds to reach one address of a server, and for TLS with it."""


class NotTaken(Exception):
    """The mail was certainly not handed over, so it may be tried again. ``for_good``: the server
    will not take it later either."""

    def __init__(self, reason: str, *, for_good: bool = False) -> None:
        super().__init__(reason)
        self.for_good = for_good


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """What brings a person the link to set a password. Shows no link where it is printed."""

    id: str
    """Of what the mail is for: the same one again where it is tried again."""
    sender: str
    to: str
    organization: str
    """The customer's name, for people."""
    link: str = field(repr=False)
    expires_at: datetime

    @property
    def subject(self) -> str:
        return " ".join(f"Your access to {self.organization}".split())

    @property
    def text(self) -> str:
        until = self.expires_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
        return (
            f"You have been given access to {self.organization}.\n\n"
            f"Choose a password here; the link works once, until {until}:\n{self.link}\n"
        )

    def as_message(self) -> EmailMessage:
        message = EmailMessage()
        message["From"] = self.sender
        message["To"] = _address(self.to)
        message["Subject"] = self.subject
        message["Message-ID"] = make_msgid(domain="auth0-provisioner.invalid")
        message.set_content(self.text)
        return message


def _address(text: str) -> Address:
    """As a header holds it: a local part with a comma or a quote in it is written in quotes, or the
    header would name other people. Raises ValueError where no header can hold it."""
    local, _, domain = text.rpartition("@")
    if len(local) > 1 and local[0] == local[-1] == '"':
        local = re.sub(r"\\(.)", r"\1", local[1:-1])
    return Address(username=local, domain=domain)


class _Unreached(NotTaken):
    """The server was not brought as far as taking mails: no other mail will fare better."""


class _Conversation(smtplib.SMTP):
    """A connection that another thread may cut, and that knows whether it has come to the mail."""

    def __init__(self, timeout: float) -> None:
        super().__init__(timeout=timeout)
        self.handing_over = False
        self._is_cut = False

    def cut(self) -> None:
        """Ends it, whatever it waits for. From any thread."""
        self._is_cut = True
        held: socket.socket | None = getattr(self, "sock", None)
        if held is not None:
            with contextlib.suppress(OSError):
                held.shutdown(socket.SHUT_RDWR)

    def getreply(self) -> tuple[int, bytes]:
        answer = (0, b"") if self._is_cut else super().getreply()
        if self._is_cut:  # what was read of an answer is none
            raise smtplib.SMTPServerDisconnected("given up")
        return answer

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        # Of several addresses each is tried for so long, and none can be cut.
        held = socket.create_connection((host, port), min(timeout, _CONNECTING))
        held.settimeout(timeout)
        self._host = host  # whose certificate is asked for; connect() does not keep it
        return held

    def secure(self, tls: ssl.SSLContext) -> None:
        """STARTTLS. Raises SMTPNotSupportedError where the server offers none: nothing goes in clear."""
        cast("socket.socket", self.sock).settimeout(min(self.timeout, _CONNECTING))
        self.starttls(context=tls)
        cast("socket.socket", self.sock).settimeout(self.timeout)

    def data(self, msg: Any) -> tuple[int, bytes]:
        self.handing_over = True
        return super().data(msg)


@dataclass(slots=True)
class _Gate:
    """Before a server: so many at once, and none for a while after it was not reached."""

    threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="smtp")
    )
    """Of its own: those that all share look up Auth0's name, too."""
    room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))
    closed_until: float = 0.0
    reason: str = ""


class Mailer(Protocol):
    """Hands a mail over. Raises NotTaken where it was certainly not taken; OSError or
    smtplib.SMTPException where it may have been."""

    async def send(self, mail: Mail) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpMailer:
    """Through an SMTP server, with STARTTLS unless told otherwise."""

    host: str
    port: int = 587
    user: str = ""
    password: str = ""
    starttls: bool = True
    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context, repr=False)
    """Whose certificates are believed: by default those that the system's authorities signed for the
    host's name."""
    timeout: float = 7.0
    """Seconds for one answer."""
    conversation: float = 10.0
    """Seconds for all of it, however the server spins it out. A process that stops waits for it, and
    has 15 in all."""
    left_alone: float = 2.0
    """Seconds without an attempt after the server was not reached."""
    _gate: _Gate = field(default_factory=_Gate, init=False, repr=False, compare=False)

    async def send(self, mail: Mail) -> None:
        try:
            message = mail.as_message()
        except ValueError as error:  # no address that a header can hold
            raise NotTaken(type(error).__name__, for_good=True) from error
        gate, loop = self._gate, asyncio.get_running_loop()
        async with gate.room:
            if loop.time() < gate.closed_until:
                raise NotTaken(gate.reason)
            conversation = _Conversation(self.timeout)
            # By the loop, and at once where nobody waits any more: a thread that hangs in a read
            # would hold up the end of the process.
            cut = loop.call_later(self.conversation, conversation.cut)
            try:
                await loop.run_in_executor(gate.threads, self._send, conversation, message)
            except _Unreached as error:
                gate.closed_until, gate.reason = loop.time() + self.left_alone, str(error)
                raise NotTaken(str(error)) from error
            except asyncio.CancelledError:
                conversation.cut()
                raise
            finally:
                cut.cancel()

    def _send(self, server: _Conversation, message: EmailMessage) -> None:
        try:
            self._connect(server)
            server.send_message(message)
        except NotTaken:
            raise
        except smtplib.SMTPRecipientsRefused as error:
            codes = [code for code, _ in error.recipients.values()]
            raise NotTaken(f"recipient refused {codes}", for_good=min(codes) >= 500) from error
        except smtplib.SMTPResponseException as error:
            # An answer to MAIL or to the data: the server says itself that it has not taken it.
            told = f"{type(error).__name__} {error.smtp_code}"
            raise NotTaken(told, for_good=error.smtp_code >= 500) from error
        except (OSError, ValueError, smtplib.SMTPException) as error:
            if server.handing_over:
                raise
            unsupported = isinstance(error, ValueError | smtplib.SMTPNotSupportedError)
            raise NotTaken(type(error).__name__, for_good=unsupported) from error
        finally:
            server.close()  # without QUIT: its answer would say nothing about the mail

    def _connect(self, server: _Conversation) -> None:
        """Up to here no mail was sent, whatever goes wrong."""
        try:
            server.connect(self.host, self.port)
            if self.starttls:
                server.secure(self.tls)
            if self.user:
                server.login(self.user, self.password)
        except (OSError, smtplib.SMTPException) as error:
            raise _Unreached(type(error).__name__) from error


class FolderMailer:
    """Into a Maildir that only its owner can read: for ``provisioner dev`` and tests."""

    def __init__(self, folder: Path) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        self._maildir = mailbox.Maildir(folder, create=True)
        os.chmod(folder, 0o700)

    async def send(self, mail: Mail) -> None:
        await asyncio.to_thread(self._maildir.add, mail.as_message())
