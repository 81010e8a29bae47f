"""What hands mails over, as an installation's settings say."""

from __future__ import annotations

import ssl
from pathlib import Path

from service.clock import Clock
from service.configuration import Settings
from service.errors import ConfigurationError
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
            tls=_trust(settings) if settings.mail_ca_file else None,
            clock=clock,
        )
    return SmtpMailer(
        host=settings.smtp_host,
        port=settings.smtp_port,
        user=settings.smtp_user,
        password=settings.smtp_password.get_secret_value(),
        starttls=settings.smtp_starttls,
        tls=_trust(settings) if settings.smtp_verify else _blind(),
    )


def _trust(settings: Settings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=settings.mail_ca_file or None)
    except OSError as error:  # no such file, or none with certificates
        raise ConfigurationError(
            f"PROVISIONER_MAIL_CA_FILE: cannot read certificates from {settings.mail_ca_file}"
            f" ({error.strerror or type(error).__name__}): give authorities as PEM."
        ) from error


def _blind() -> ssl.SSLContext:
    """Encrypts, and believes whoever answers: only by PROVISIONER_SMTP_VERIFY=false."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
