"""TLS, mutual TLS and every SASL mechanism against a real broker; what is wrong is told so that it can be mended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from consumers.intake import Intake
from consumers.kafka import IntakeSettings
from operators.checks import examine
from service.auth0.inspection import Finding
from service.clock import SystemClock
from service.configuration import Settings, load
from service.directory import organizations
from service.directory.database import Database
from service.errors import ConfigurationError
from service.kafka import KafkaConnection, connection_of
from service.kafka_oauth import ClientCredentials, NoToken, OauthClient
from service.organizations import EventSource
from tests.consumers.conftest import database
from tests.consumers.support import SetClock, events_of
from tests.infrastructure.availability import UnavailableError
from tests.infrastructure.kafka import create_topic
from tests.infrastructure.schema import migrated_sqlite
from tests.infrastructure.secured_kafka import (
    PASSWORD,
    USER,
    Authority,
    SecuredKafka,
    secured_kafka,
)
from tests.integration.test_kafka_intake import AS_STRUCTURED, event, running, until

__all__ = ["database"]
slow = pytest.mark.kill
SECRET = "oauth-client-secret"


@pytest.fixture(scope="module")
def kafka() -> Iterator[SecuredKafka]:
    with contextlib.ExitStack() as stack:
        try:
            started = stack.enter_context(secured_kafka())
        except UnavailableError as missing:
            if os.environ.get("CI") == "true":
                pytest.fail(str(missing))
            pytest.skip(str(missing))
        yield started


@pytest.fixture(autouse=True)
async def _said_goodbye() -> AsyncIterator[None]:  # pyright: ignore[reportUnusedFunction]
    """TLS ends in an exchange of its own after a connection was closed; a loop that ends before it
    leaves a socket to the garbage collector, which complains in some later test."""
    yield
    await asyncio.sleep(0.1)


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    return migrated_sqlite(tmp_path / "provisioner.db")


@dataclass
class TokenEndpoint:
    """A server that gives tokens to one client, and counts."""

    kafka: SecuredKafka
    audience: str = "kafka"
    url: str = ""
    asked: list[dict[str, list[str]]] = field(default_factory=list[dict[str, list[str]]])

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = {
            name.lower(): value
            for name, _, value in (each.partition(": ") for each in _lines(head))
        }
        body = await reader.readexactly(int(lines["content-length"]))
        self.asked.append(parse_qs(body.decode()))
        known = httpx.BasicAuth("provisioner", SECRET)._auth_header  # pyright: ignore[reportPrivateUsage]
        if lines["authorization"] == known:
            told: dict[str, object] = {
                "access_token": self.kafka.token(audience=self.audience),
                "token_type": "Bearer",
                "expires_in": 300,
            }
            status = "200 OK"
        else:
            told = {"error": "invalid_client"}
            status = "401 Unauthorized"
        content = json.dumps(told).encode()
        writer.write(
            f"HTTP/1.1 {status}\r\ncontent-length: {len(content)}\r\nconnection: close\r\n\r\n".encode()
            + content
        )
        await writer.drain()
        writer.close()


def _lines(head: bytes) -> list[str]:
    return head.decode().split("\r\n")


@pytest.fixture
async def tokens(kafka: SecuredKafka) -> AsyncIterator[TokenEndpoint]:
    endpoint = TokenEndpoint(kafka)
    server = await asyncio.start_server(endpoint.answer, "127.0.0.1", 0)
    endpoint.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/oauth/token"
    yield endpoint
    server.close()


def settings_of(kafka: SecuredKafka, kind: str, tokens: TokenEndpoint, **changes: str) -> Settings:
    """As an operator would set them."""
    login = {"kafka_sasl_username": USER, "kafka_sasl_password": PASSWORD}
    oauth = {
        "kafka_oauth_token_url": tokens.url,
        "kafka_oauth_client_id": "provisioner",
        "kafka_oauth_client_secret": SECRET,
        "kafka_oauth_scope": "kafka.read",
    }
    protocol, _, mechanism = kind.partition("/")
    address = {
        "SSL": kafka.tls,
        "mutual": kafka.mutual,
        "SASL_SSL": kafka.sasl_tls,
        "SASL_PLAINTEXT": kafka.sasl_plaintext,
    }[protocol]
    given = {
        "kafka_bootstrap_servers": address,
        "kafka_security_protocol": "SSL" if protocol == "mutual" else protocol,
        "kafka_ca_file": str(kafka.ca_file),
    }
    if protocol == "mutual":
        given["kafka_certificate_file"] = str(kafka.certificate_file)
        given["kafka_key_file"] = str(kafka.key_file)
    if mechanism:
        given["kafka_sasl_mechanism"] = mechanism
        given |= oauth if mechanism == "OAUTHBEARER" else login
    return load(given | changes)


KINDS = [
    "SSL",
    "mutual",
    "SASL_SSL/PLAIN",
    "SASL_SSL/SCRAM-SHA-256",
    "SASL_SSL/SCRAM-SHA-512",
    "SASL_SSL/OAUTHBEARER",
    "SASL_PLAINTEXT/SCRAM-SHA-512",
]


@slow
@pytest.mark.parametrize("kind", KINDS)
async def test_events_come_in_over(
    database: Database, kafka: SecuredKafka, tokens: TokenEndpoint, kind: str
) -> None:
    topic = f"hr.{kind.replace('/', '.')}"
    await create_topic(kafka.plaintext, topic)
    source = EventSource(name=topic, topic=topic, organizations=("acme",))
    await database.transact(lambda tx: organizations.apply_source(tx, source))
    connection = connection_of(settings_of(kafka, kind, tokens))
    async with AIOKafkaProducer(**connection.arguments()) as producer:
        await producer.send_and_wait(topic, event("e-1"), headers=list(AS_STRUCTURED))
    intake = Intake(
        database=database,
        clock=SystemClock(),
        settings=IntakeSettings(connection=connection, group_id=topic, poll_timeout=0.05),
    )
    async with running(intake):

        async def stored() -> bool:
            return bool(await events_of(database))

        await until(stored)
        assert intake.facts.problems == ()
    assert [each.source_id for each in await events_of(database)] == ["e-1"]
    if kind.endswith("OAUTHBEARER"):  # for every connection of the producer and of the consumer
        asked = {"grant_type": ["client_credentials"], "scope": ["kafka.read"]}
        assert tokens.asked == [asked]


async def doctor(settings: Settings) -> Finding:
    """What it says of Kafka."""
    async for finding in examine(settings, SystemClock()):
        if finding.check == "kafka":
            return finding
    raise AssertionError("doctor says nothing of Kafka")


@slow
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_a_wrong_password_is_told_and_not_repeated(
    kafka: SecuredKafka, tokens: TokenEndpoint, mechanism: str
) -> None:
    kind = f"SASL_SSL/{mechanism}"
    assert (await doctor(settings_of(kafka, kind, tokens))).verdict == "ok"
    wrong = settings_of(kafka, kind, tokens, kafka_sasl_password="wrong-one")
    told = await doctor(wrong)
    assert told.verdict == "failed"
    assert "does not let us in" in told.detail
    assert "SASL" in told.advice
    assert "wrong-one" not in f"{told}"


@slow
async def test_a_broker_that_another_authority_vouches_for_is_not_trusted(
    kafka: SecuredKafka, tokens: TokenEndpoint, tmp_path: Path
) -> None:
    other = Authority("somebody else").write(tmp_path / "other.pem")
    for kind in ("SSL", "SASL_SSL/PLAIN"):
        told = await doctor(settings_of(kafka, kind, tokens, kafka_ca_file=str(other)))
        assert "certificate is not trusted" in told.detail
        assert "PROVISIONER_KAFKA_CA_FILE" in told.advice


@slow
async def test_a_certificate_that_is_asked_for_and_missing_is_told(
    kafka: SecuredKafka, tokens: TokenEndpoint, tmp_path: Path
) -> None:
    told = await doctor(settings_of(kafka, "SSL", tokens, kafka_bootstrap_servers=kafka.mutual))
    assert "PROVISIONER_KAFKA_CERTIFICATE_FILE" in told.advice
    absent = settings_of(kafka, "SSL", tokens, kafka_ca_file=str(tmp_path / "absent.pem"))
    assert "cannot be read" in (await doctor(absent)).detail


@slow
async def test_a_protocol_that_the_port_does_not_speak_is_told(
    kafka: SecuredKafka, tokens: TokenEndpoint
) -> None:
    plain = load({"kafka_bootstrap_servers": kafka.tls})
    assert "PROVISIONER_KAFKA_SECURITY_PROTOCOL" in (await doctor(plain)).advice
    tls = settings_of(kafka, "SSL", tokens, kafka_bootstrap_servers=kafka.plaintext)
    assert "PROVISIONER_KAFKA_SECURITY_PROTOCOL" in (await doctor(tls)).advice


@slow
async def test_a_refused_oauth_client_and_a_refused_token_are_told_apart(
    kafka: SecuredKafka, tokens: TokenEndpoint
) -> None:
    kind = "SASL_SSL/OAUTHBEARER"
    assert (await doctor(settings_of(kafka, kind, tokens))).verdict == "ok"
    wrong = settings_of(kafka, kind, tokens, kafka_oauth_client_secret="wrong-one")
    told = await doctor(wrong)
    assert "401: invalid_client" in told.detail
    assert "wrong-one" not in f"{told}"
    tokens.audience = "somebody-else"
    told = await doctor(settings_of(kafka, kind, tokens))
    assert told.verdict == "failed"
    assert "access token" in told.advice


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"kafka_security_protocol": "SASL_SSL"}, "SASL_USERNAME"),
        (
            {"kafka_security_protocol": "SASL_SSL", "kafka_sasl_mechanism": "OAUTHBEARER"},
            "OAUTH_TOKEN_URL",
        ),
        (
            {
                "kafka_security_protocol": "SASL_SSL",
                "kafka_sasl_mechanism": "OAUTHBEARER",
                "kafka_oauth_token_url": "http://login.example/token",
                "kafka_oauth_client_id": "c",
                "kafka_oauth_client_secret": "s",
            },
            "must be an https URL",
        ),
        ({"kafka_security_protocol": "SSL", "kafka_key_file": "k"}, "CERTIFICATE_FILE"),
    ],
)
def test_settings_that_lack_something_say_what(given: dict[str, str], missing: str) -> None:
    with pytest.raises(ConfigurationError, match=missing):
        connection_of(load(given))


class Endpoint:
    """A token endpoint without a socket: gives numbered tokens until it is broken."""

    def __init__(self) -> None:
        self.given = 0
        self.broken = False

    def open(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self._answer))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if self.broken:
            return httpx.Response(503)
        self.given += 1
        return httpx.Response(200, json={"access_token": f"t{self.given}", "expires_in": 100})


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


@pytest.fixture
def credentials(clock: SetClock, endpoint: Endpoint) -> ClientCredentials:
    client = OauthClient(token_url="https://login.example/token", client_id="c", client_secret="s")
    return ClientCredentials(client, clock=clock, open_http=endpoint.open)


async def test_one_token_serves_all_who_connect_until_it_is_time_to_renew_it(
    credentials: ClientCredentials, clock: SetClock
) -> None:
    assert set(await asyncio.gather(*(credentials.token() for _ in range(5)))) == {"t1"}
    await clock.sleep(79)
    assert await credentials.token() == "t1"
    await clock.sleep(2)
    assert await credentials.token() == "t2"


async def test_a_token_that_is_still_good_is_used_while_the_endpoint_is_away(
    credentials: ClientCredentials, clock: SetClock, endpoint: Endpoint
) -> None:
    await credentials.token()
    endpoint.broken = True
    await clock.sleep(90)
    assert await credentials.token() == "t1"
    await clock.sleep(20)
    with pytest.raises(NoToken, match="answered 503"):
        await credentials.token()


def test_secrets_show_nowhere() -> None:
    client = OauthClient(token_url="u", client_id="c", client_secret=SECRET)
    connection = KafkaConnection(
        bootstrap_servers="b", sasl_password=SECRET, tokens=ClientCredentials(client)
    )
    assert SECRET not in f"{client} {connection}"
