"""The settings of an installation, from the environment: one list, nothing read at import.

Every variable has the prefix PROVISIONER_ and may instead be given as …_FILE, naming a file that
holds the value (mounted Secrets).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from service.errors import ConfigurationError
from service.organizations import Tenant

PREFIX = "PROVISIONER_"


class Settings(BaseSettings):
    """What one process needs to know. Secrets never show in ``repr`` or logs."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    database_url: SecretStr = SecretStr("sqlite:///.provisioner/directory.db")
    token_pepper: SecretStr = SecretStr("")
    """Keys the hashes of bearer tokens. Changing it makes every token invalid."""
    instance: str = ""
    """Names this process's place, unique among those that run (a pod's name): a restarted one takes
    over its own leases at once. Empty: a random one."""

    kafka_bootstrap_servers: str = ""
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = (
        "PLAIN"
    )
    kafka_sasl_username: str = ""
    kafka_sasl_password: SecretStr = SecretStr("")
    kafka_oauth_token_url: str = ""
    kafka_oauth_client_id: str = ""
    kafka_oauth_client_secret: SecretStr = SecretStr("")
    kafka_oauth_scope: str = ""
    kafka_ca_file: str = ""
    kafka_certificate_file: str = ""
    """Ours, for brokers that ask for one; the key may be in it, too."""
    kafka_key_file: str = ""
    kafka_key_password: SecretStr = SecretStr("")
    kafka_group_id: str = "auth0-provisioner"
    kafka_group_instance_id: str = ""
    """A static place in the consumer group, which a restarted process takes up again without a
    rebalance. Only for names that come back (a StatefulSet's): one that does not come back keeps
    its partitions until the session ends. Empty: a place for as long as the process lives."""
    kafka_client_id: str = "auth0-provisioner"
    kafka_outcomes_topic: str = "provisioning.outcomes"
    kafka_deadletters_topic: str = "provisioning.deadletters"
    kafka_create_topics: bool = False
    intake_high_water: int = Field(default=200_000, ge=0)
    """Open events of an Auth0 tenant from which on its topics are not read; 0: they always are."""

    auth0_domain: str = ""
    auth0_client_id: str = ""
    auth0_client_secret: SecretStr = SecretStr("")
    auth0_base_url: str = ""
    auth0_plan: Literal["free", "professional", "enterprise-nonproduction", "enterprise"] = (
        "professional"
    )
    auth0_background_share: float = Field(default=0.1, ge=0.01, le=1)

    drift_hour: int = Field(default=-1, ge=-1, le=23)
    """The hour of the day in UTC at which each tenant is compared; -1: only when asked for."""
    import_threshold: int = Field(default=500, ge=0)
    """Accounts to be created in one connection from which on import jobs do it; 0: never."""

    smtp_host: str = ""
    smtp_port: int = 587
    smtp_user: str = ""
    smtp_password: SecretStr = SecretStr("")
    smtp_starttls: bool = True
    smtp_verify: bool = True
    """Whether the server's certificate is checked. False: whoever is on the way there reads the links."""
    mail_sender: str = "no-reply@auth0-provisioner.invalid"
    mail_folder: str = ""
    """A Maildir instead of SMTP, for development."""
    mail_ca_file: str = ""
    """Authorities, as PEM, that sign the certificate of the mail server or the mail webhook, instead of
    the well-known ones."""
    mail_webhook_url: str = ""
    """A service of the installation's own that mails, instead of SMTP."""
    mail_webhook_credential: SecretStr = SecretStr("")
    """Sent to it as a bearer token. Empty: none."""
    mail_webhook_signing_key: SecretStr = SecretStr("")
    """Signs what is sent to it: ``whsec_`` and base64 of 24 bytes or more."""
    mail_webhook_idempotent: bool = False
    """Whether it mails once for an ``Idempotency-Key``: then what may have been taken is sent again."""

    scim_rate: float = Field(default=100.0, ge=0.0, le=1_000_000.0)
    """SCIM requests a second that each organization may send to this process, on and on; 0: any."""
    scim_burst: int = Field(default=500, ge=0, le=1_000_000)
    """How many of them at once; 0: any."""
    events_rate: float = Field(default=1000.0, ge=0.0, le=1_000_000.0)
    """Events a second that each organization may send to this process over HTTP, on and on; 0: any."""
    events_burst: int = Field(default=10_000, ge=0, le=1_000_000)
    """How many of them at once; 0: any."""
    public_url: str = ""
    """How customers reach us, for SCIM locations; empty: taken from each request."""
    set_signing_keys: SecretStr = SecretStr("")
    """Private keys as PEM or a JWK set: the first signs Security Event Tokens, the public halves of
    all are published. Empty: none are sent."""
    console_password: SecretStr = SecretStr("")
    log_format: Literal["json", "text"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    lease_seconds: float = Field(default=45.0, ge=20.0, le=3600.0)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, env_settings, _Files(settings_cls))

    def default_tenant(self) -> Tenant | None:
        """The tenant that PROVISIONER_AUTH0_… describe, named ``main``; None where they do not."""
        if not (self.auth0_domain or self.auth0_base_url):
            return None
        return Tenant(
            name="main",
            domain=self.auth0_domain,
            base_url=self.auth0_base_url,
            client_id=self.auth0_client_id,
            plan=self.auth0_plan,
        )

    def client_secret(self, tenant: Tenant) -> str:
        """The secret of a tenant: its own file's content, else the installation's."""
        if not tenant.client_secret_file:
            return self.auth0_client_secret.get_secret_value()
        return read_secret(Path(tenant.client_secret_file), f"client secret of {tenant.name}")

    def pepper(self) -> bytes:
        pepper = self.token_pepper.get_secret_value()
        if not pepper:
            raise ConfigurationError(
                "PROVISIONER_TOKEN_PEPPER is not set: give 32 random bytes or more, and keep them;"
                " for what 'provisioner dev' started, name its directory by --data-dir."
            )
        return pepper.encode()

    def instance_name(self) -> str:
        return self.instance or f"{socket.gethostname()}-{os.getpid()}"


class _Files(PydanticBaseSettingsSource):
    """PROVISIONER_X_FILE names a file whose content, without the last line end, is X."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        variable = f"{PREFIX}{field_name.upper()}_FILE"
        path = os.environ.get(variable)
        return (read_secret(Path(path), variable) if path else None), field_name, False

    def __call__(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, field in self.settings_cls.model_fields.items():
            value, key, _ = self.get_field_value(field, name)
            if value is not None:
                found[key] = value
        return found


def read_secret(path: Path, what: str) -> str:
    """A file's content without the last line end. Raises ConfigurationError."""
    try:
        return path.read_text().rstrip("\r\n")
    except OSError as error:
        raise ConfigurationError(f"{what}: cannot read {path} ({error.strerror}).") from error
    except UnicodeDecodeError:  # which repeats the content
        raise ConfigurationError(f"{what}: {path} is not text in UTF-8.") from None


def load(overrides: Mapping[str, Any] | None = None) -> Settings:
    """The settings of this process. Raises ConfigurationError with every mistake by variable name."""
    try:
        return Settings(**dict(overrides or {}))
    except ValidationError as error:
        mistakes = "; ".join(
            f"{PREFIX}{'_'.join(str(part) for part in mistake['loc']).upper()}:"
            f" {mistake['msg'].removeprefix('Value error, ')}"
            for mistake in error.errors()
        )
        raise ConfigurationError(mistakes) from None  # which repeats the values
