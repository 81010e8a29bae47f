"""What hands mails over, as an installation's settings say."""

from __future__ import annotations

from pathlib import Path

from service.clock import Clock
from service.configuration import Settings
from service.mail import FolderMailer, Mailer, SmtpMailer
from service.mail_webhook import WebhookMailer, signing_key


def mailer_of(settings: Settings, clock: Clock) -> Mailer:
    """A folder, a webhook or SMTP, the first that is set. Raises ConfigurationError."""
    if settings.mail_folder:
        return FolderMailer(Path(settings.mail_folder))
    if settings.mail_webhook_url:
        return WebhookMailer(
            url=settings.mail_webhook_url,
            key=signing_key(settings.mail_webhook_signing_key.get_secret_value()),
            credential=settings.mail_webhook_credential.get_secret_value(),
            idempotent=settings.mail_webhook_idempotent,
            clock=clock,
        )
    return SmtpMailer(
        host=settings.smtp_host,
        port=settings.smtp_port,
        user=settings.smtp_user,
        password=settings.smtp_password.get_secret_value(),
        starttls=settings.smtp_starttls,
    )
