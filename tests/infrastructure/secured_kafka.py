"""A broker with every kind of listener that we can reach: TLS, mutual TLS, and SASL by each mechanism.

Knows how such a broker is set up and what a client needs for it; nothing of our settings.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from joserfc import jwk, jwt

from tests.infrastructure.availability import UnavailableError
from tests.infrastructure.kafka import Extra, broker_jars, serving
from tests.infrastructure.processes import scratch_directory

USER, PASSWORD = "ada", "kafka-sasl-password"
AUDIENCE, ISSUER = "kafka", "https://login.example"
_SECURITY = "org.apache.kafka.common.security"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecuredKafka:
    """Addresses as ``host:port``, files as PEM. ``mutual`` is TLS where clients show a certificate."""

    plaintext: str
    tls: str
    mutual: str
    sasl_tls: str
    sasl_plaintext: str
    ca_file: Path
    certificate_file: Path
    key_file: Path
    signing_key: jwk.ECKey

    def token(self, *, seconds: float = 300, audience: str = AUDIENCE) -> str:
        """An access token that the broker takes."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": audience,
            "sub": USER,
            "iat": now,
            "exp": now + int(seconds),
        }
        return jwt.encode({"alg": "ES256", "kid": "k1"}, claims, self.signing_key)


@contextlib.contextmanager
def secured_kafka() -> Generator[SecuredKafka]:
    """Raises UnavailableError without Java or Maven: a container's listeners are not ours to set."""
    java = shutil.which("java")
    if java is None:
        raise UnavailableError("no Kafka with TLS: install Java 17 and Maven")
    jars = broker_jars()
    with scratch_directory("kafka-tls") as directory:
        signing_key = jwk.ECKey.generate_key("P-256", {"kid": "k1", "alg": "ES256", "use": "sig"})
        keys = directory / "jwks.json"
        keys.write_text(json.dumps({"keys": [signing_key.as_dict(private=False)]}))
        authority = Authority("Kafka tests")
        ca_file = authority.write(directory / "ca.pem")
        broker = authority.issue(directory / "broker.pem", "127.0.0.1")
        certificate_file, key_file = authority.issue_apart(directory / "client", USER)

        def extra(ports: Sequence[int]) -> Extra:
            return _extra(ports, keys=keys, ca=ca_file, broker=broker)

        process, plaintext, ports = serving(java, jars, directory, ports=4, extra=extra)
        tls, mutual, sasl_tls, sasl_plaintext = (f"127.0.0.1:{port}" for port in ports)
        try:
            yield SecuredKafka(
                plaintext=plaintext,
                tls=tls,
                mutual=mutual,
                sasl_tls=sasl_tls,
                sasl_plaintext=sasl_plaintext,
                ca_file=ca_file,
                certificate_file=certificate_file,
                key_file=key_file,
                signing_key=signing_key,
            )
        finally:
            process.stop(within=10)


class Authority:
    """A certificate authority that signs what it is asked to."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        ability = x509.BasicConstraints(ca=True, path_length=0)
        self._certificate = (
            _certificate(self._name, self._name, self._key.public_key())
            .add_extension(ability, critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def write(self, file: Path) -> Path:
        file.write_bytes(_pem(self._certificate))
        return file

    def issue(self, file: Path, subject: str) -> Path:
        """A key and its certificate in one file."""
        key, certificate = self._issue(subject)
        file.write_bytes(_pem_key(key) + _pem(certificate) + _pem(self._certificate))
        return file

    def issue_apart(self, stem: Path, subject: str) -> tuple[Path, Path]:
        """A certificate, and its key, each in a file."""
        key, certificate = self._issue(subject)
        files = stem.with_suffix(".crt"), stem.with_suffix(".key")
        files[0].write_bytes(_pem(certificate))
        files[1].write_bytes(_pem_key(key))
        return files

    def _issue(self, subject: str) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        key = ec.generate_private_key(ec.SECP256R1())
        with contextlib.suppress(ValueError):
            address: x509.GeneralName = x509.IPAddress(ip_address(subject))
            names = x509.SubjectAlternativeName([address])
            made = _certificate(_name(subject), self._name, key.public_key())
            return key, made.add_extension(names, critical=False).sign(self._key, hashes.SHA256())
        made = _certificate(_name(subject), self._name, key.public_key())
        return key, made.sign(self._key, hashes.SHA256())


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
    )


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _pem_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _extra(ports: Sequence[int], *, keys: Path, ca: Path, broker: Path) -> Extra:
    tls, mutual, sasl_tls, sasl_plaintext = ports
    kinds = {"TLS": "SSL", "MUTUAL": "SSL", "SASLTLS": "SASL_SSL", "SASLPLAIN": "SASL_PLAINTEXT"}
    protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **kinds}
    listening = zip(kinds, (tls, mutual, sasl_tls, sasl_plaintext), strict=True)
    stores: dict[str, Any] = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": broker,
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": ca,
    }
    properties: dict[str, Any] = {
        "listener.security.protocol.map": ",".join(f"{k}:{v}" for k, v in protocols.items()),
        **stores,
        "listener.name.mutual.ssl.client.auth": "required",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
    }
    for listener in ("sasltls", "saslplain"):
        properties |= _sasl(f"listener.name.{listener}", keys)
    storage = [
        part
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
        for part in ("--add-scram", f"{mechanism}=[name={USER},password={PASSWORD}]")
    ]
    allowed = f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={keys.as_uri()}"
    listeners = [f"{name}://127.0.0.1:{port}" for name, port in listening]
    return Extra(
        listeners=listeners, properties=properties, storage=storage, virtual_machine=[allowed]
    )


def _sasl(listener: str, keys: Path) -> dict[str, str]:
    oauth = f"{listener}.oauthbearer"
    return {
        f"{listener}.plain.sasl.jaas.config": (
            f'{_SECURITY}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
        ),
        f"{listener}.scram-sha-256.sasl.jaas.config": (
            f"{_SECURITY}.scram.ScramLoginModule required;"
        ),
        f"{listener}.scram-sha-512.sasl.jaas.config": (
            f"{_SECURITY}.scram.ScramLoginModule required;"
        ),
        f"{oauth}.sasl.jaas.config": (f"{_SECURITY}.oauthbearer.OAuthBearerLoginModule required;"),
        f"{oauth}.sasl.server.callback.handler.class": (
            f"{_SECURITY}.oauthbearer.OAuthBearerValidatorCallbackHandler"
        ),
        f"{oauth}.sasl.oauthbearer.jwks.endpoint.url": keys.as_uri(),
        f"{oauth}.sasl.oauthbearer.expected.audience": AUDIENCE,
        f"{oauth}.sasl.oauthbearer.expected.issuer": ISSUER,
    }
