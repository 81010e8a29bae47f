"""How to reach Kafka, and topics there. Knows nothing of what is read or written."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from aiokafka.abc import AbstractTokenProvider
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError
from aiokafka.helpers import create_ssl_context
from pydantic import SecretStr

from service.configuration import Settings
from service.errors import ConfigurationError
from service.kafka_oauth import ClientCredentials, OauthClient
from service.kafka_start import started
from service.urls import is_trustworthy_url

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]
_TOPIC_EXISTS: Final = 36
_NO_ERROR: Final = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaConnection:
    """Where the brokers are, and how we prove who we are. Secrets stay out of its ``repr``.

    ``ca_file``: PEM; absent means the system's. ``certificate_file`` and ``key_file``: ours, where
    the brokers ask for one.
    """

    bootstrap_servers: str
    client_id: str = "auth0-provisioner"
    security_protocol: SecurityProtocol = "PLAINTEXT"
    sasl_mechanism: SaslMechanism = "PLAIN"
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    key_password: str | None = field(default=None, repr=False)
    tokens: AbstractTokenProvider | None = field(default=None, repr=False)
    """For OAUTHBEARER."""

    def arguments(self) -> dict[str, Any]:
        """What every aiokafka client takes. Reads the certificate files; raises OSError, SSLError."""
        given: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers,
            "client_id": self.client_id,
            "security_protocol": self.security_protocol,
        }
        if self.security_protocol in ("SSL", "SASL_SSL"):
            given["ssl_context"] = create_ssl_context(
                cafile=self.ca_file,
                certfile=self.certificate_file,
                keyfile=self.key_file,
                password=self.key_password,
            )
        if self.security_protocol.startswith("SASL"):
            given["sasl_mechanism"] = self.sasl_mechanism
            if self.sasl_mechanism == "OAUTHBEARER":
                given["sasl_oauth_token_provider"] = self.tokens
            else:
                given["sasl_plain_username"] = self.sasl_username
                given["sasl_plain_password"] = self.sasl_password
        return given


def connection_of(settings: Settings) -> KafkaConnection:
    """The brokers that the environment names. Raises ConfigurationError where settings are missing."""
    uses_sasl = settings.kafka_security_protocol.startswith("SASL")
    oauth = uses_sasl and settings.kafka_sasl_mechanism == "OAUTHBEARER"
    if oauth:
        _require(settings, "oauth_token_url", "oauth_client_id", "oauth_client_secret")
        if not is_trustworthy_url(settings.kafka_oauth_token_url):
            raise ConfigurationError(
                "PROVISIONER_KAFKA_OAUTH_TOKEN_URL must be an https URL: the client's secret goes there."
            )
    elif uses_sasl:
        _require(settings, "sasl_username", "sasl_password")
    if settings.kafka_key_file:
        _require(settings, "certificate_file")
    return KafkaConnection(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        client_id=settings.kafka_client_id,
        security_protocol=settings.kafka_security_protocol,
        sasl_mechanism=settings.kafka_sasl_mechanism,
        sasl_username=settings.kafka_sasl_username or None,
        sasl_password=settings.kafka_sasl_password.get_secret_value() or None,
        ca_file=settings.kafka_ca_file or None,
        certificate_file=settings.kafka_certificate_file or None,
        key_file=settings.kafka_key_file or None,
        key_password=settings.kafka_key_password.get_secret_value() or None,
        tokens=ClientCredentials(_oauth_client(settings)) if oauth else None,
    )


def _oauth_client(settings: Settings) -> OauthClient:
    return OauthClient(
        token_url=settings.kafka_oauth_token_url,
        client_id=settings.kafka_oauth_client_id,
        client_secret=settings.kafka_oauth_client_secret.get_secret_value(),
        scope=settings.kafka_oauth_scope,
    )


def _require(settings: Settings, *names: str) -> None:
    for name in names:
        value = getattr(settings, f"kafka_{name}")
        if not (value.get_secret_value() if isinstance(value, SecretStr) else value):
            raise ConfigurationError(
                f"PROVISIONER_KAFKA_{name.upper()} is not set: the other Kafka settings ask for it."
            )


async def create_missing_topics(
    connection: KafkaConnection,
    topics: Sequence[str],
    *,
    partitions: int = 1,
    replicas: int = 1,
    largest: int = 1024 * 1024,
    within: float = 15.0,
) -> list[str]:
    """Creates those topics that are not there, for development and tests; returns their names.

    ``largest``: bytes of the largest batch. Raises KafkaError, TimeoutError.
    """
    async with asyncio.timeout(within):
        admin = AIOKafkaAdminClient(**connection.arguments())
        try:
            await started(admin.start())
            given = {"max.message.bytes": str(largest)}
            wanted = [
                NewTopic(topic, partitions, replicas, topic_configs=given) for topic in topics
            ]
            response: Any = await admin.create_topics(wanted)
            created: list[str] = []
            for topic, code, *message in response.topic_errors:
                if code == _NO_ERROR:
                    created.append(topic)
                elif code != _TOPIC_EXISTS:
                    raise KafkaError(f"topic {topic} was not created: {code} {message}")
            return created
        finally:
            await admin.close()
