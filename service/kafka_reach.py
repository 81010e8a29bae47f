"""Whether the brokers let us in, and if not, why: aiokafka's clients only say that they do not."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import Any

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from service.kafka import KafkaConnection
from service.kafka_oauth import NoToken


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why the brokers were not reached, and what to do about it."""

    detail: str
    advice: str


async def why_refused(connection: KafkaConnection, within: float) -> Refusal | None:
    """None where one of the brokers that are named lets us in."""
    try:
        given = connection.arguments()
    except OSError as error:  # ssl.SSLError is one
        return Refusal(
            detail=f"a certificate or key cannot be read: {error}",
            advice="Correct PROVISIONER_KAFKA_CA_FILE, _CERTIFICATE_FILE, _KEY_FILE, _KEY_PASSWORD.",
        )
    refusal: Refusal | None = None
    servers = given.pop("bootstrap_servers")
    for host, port, _ in collect_hosts(servers):
        try:
            async with asyncio.timeout(within):
                connected: Any = await create_conn(host, port, **given)
                try:
                    # Of a token that is refused aiokafka takes no note: what follows tells.
                    if not (await connected.send(MetadataRequest([]))).brokers:
                        raise KafkaConnectionError("no broker is named")
                finally:
                    connected.close()
                return None
        except (KafkaError, OSError, TimeoutError) as error:
            refusal = _refusal(f"{host}:{port}", error, connection)
    return refusal


def _refusal(where: str, error: BaseException, connection: KafkaConnection) -> Refusal:
    said = str(error) or type(error).__name__
    if isinstance(error, NoToken):
        return Refusal(detail=said, advice="Correct the PROVISIONER_KAFKA_OAUTH_ settings.")
    if isinstance(error, ssl.SSLCertVerificationError):
        return Refusal(
            detail=f"{where}: its certificate is not trusted: {error.verify_message}",
            advice="Name the certificate authority by PROVISIONER_KAFKA_CA_FILE, and the brokers as"
            " their certificates do.",
        )
    if isinstance(error, UnsupportedSaslMechanismError):
        return Refusal(
            detail=f"{where}: {said}", advice="Correct PROVISIONER_KAFKA_SASL_MECHANISM."
        )
    if isinstance(
        error, SaslAuthenticationFailed | AuthenticationFailedError | IllegalSaslStateError
    ):
        return Refusal(
            detail=f"{where}: does not let us in: {said}",
            advice="Correct the SASL settings: mechanism, and user and password or OAuth client.",
        )
    if isinstance(error, ssl.SSLError):
        return Refusal(
            detail=f"{where}: TLS fails: {error.reason or said}",
            advice="Correct PROVISIONER_KAFKA_SECURITY_PROTOCOL; where brokers ask for a certificate,"
            " give PROVISIONER_KAFKA_CERTIFICATE_FILE and _KEY_FILE.",
        )
    if isinstance(error, KafkaConnectionError | ConnectionResetError):
        return Refusal(
            detail=f"{where}: does not let us in, without saying why",
            advice=_advice_when_closed(connection),
        )
    return Refusal(
        detail=f"{where}: {'does not answer' if isinstance(error, TimeoutError) else said}",
        advice="Correct PROVISIONER_KAFKA_BOOTSTRAP_SERVERS, or the way there.",
    )


def _advice_when_closed(connection: KafkaConnection) -> str:
    """Brokers close a connection without a word where they expect another protocol, or somebody else."""
    protocol = connection.security_protocol
    if protocol.startswith("SASL") and connection.sasl_mechanism == "OAUTHBEARER":
        return (
            "They refuse the access token, or want another PROVISIONER_KAFKA_SECURITY_PROTOCOL: see"
            " their log; audience and scope come with PROVISIONER_KAFKA_OAUTH_SCOPE."
        )
    if protocol in ("SSL", "SASL_SSL") and connection.certificate_file is None:
        return (
            "Where they ask for a certificate, give PROVISIONER_KAFKA_CERTIFICATE_FILE and"
            " _KEY_FILE; else correct PROVISIONER_KAFKA_SECURITY_PROTOCOL."
        )
    return "Correct PROVISIONER_KAFKA_SECURITY_PROTOCOL: they speak another one at this port."
