"""How a person gets the link that they need: by SMTP, or into a folder while developing.

The link is a credential: it goes into the mail and nowhere else.
"""

from __future__ import annotations

import asyncio
import mailbox
import os
import smtplib
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import make_msgid
from pathlib import Path
from typing import Protocol


class Mailer(Protocol):
    """Hands a mail over. Raises OSError or smtplib.SMTPException where that fails."""

    async def send(self, message: EmailMessage) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpMailer:
    """Through an SMTP server, with STARTTLS unless told otherwise."""

    host: str
    port: int = 587
    user: str = ""
    password: str = ""
    starttls: bool = True
    timeout: float = 15.0

    async def send(self, message: EmailMessage) -> None:
        await asyncio.to_thread(self._send, message)

    def _send(self, message: EmailMessage) -> None:
        with smtplib.SMTP(self.host, self.port, timeout=self.timeout) as server:
            if self.starttls:
                server.starttls()
            if self.user:
                server.login(self.user, self.password)
            server.send_message(message)


class FolderMailer:
    """Into a Maildir that only its owner can read: for ``provisioner dev`` and tests."""

    def __init__(self, folder: Path) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        self._maildir = mailbox.Maildir(folder, create=True)
        os.chmod(folder, 0o700)

    async def send(self, message: EmailMessage) -> None:
        await asyncio.to_thread(self._maildir.add, message)


def invitation(*, sender: str, to: str, organization: str, link: str) -> EmailMessage:
    """The mail that brings a new user the link to set a password."""
    message = EmailMessage()
    message["From"] = sender
    message["To"] = to
    message["Subject"] = f"Your access to {organization}"
    message["Message-ID"] = make_msgid(domain="auth0-provisioner.invalid")
    message.set_content(
        f"You have been given access to {organization}.\n\n"
        f"Choose a password here; the link works once and for five days:\n{link}\n"
    )
    return message
