"""An authorization server for the tests: signs access tokens and publishes keys on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from joserfc import jwt
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from scim.access_tokens import ALGORITHMS
from service.clock import SystemClock
from service.organizations import ScimOauth

AUDIENCE = "https://scim.test"
CLIENT = "hoekstra-provisioning"
OPENID = "/.well-known/openid-configuration"
KEYS = "/keys"


def new_key(algorithm: str, kid: str | None) -> Key:
    named: Any = {"kid": kid} if kid is not None else {}
    match algorithm:
        case "ES256" | "ES384" | "ES512":
            curve = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}[algorithm]
            return ECKey.generate_key(curve, named)
        case "EdDSA" | "Ed25519":
            return OKPKey.generate_key("Ed25519", named)
        case _:
            return RSAKey.generate_key(2048, named)


@dataclass(kw_only=True)
class Issuer:
    """What it publishes is in ``documents``, by path; ``asked`` counts who came for it."""

    url: str
    key: Key = field(default_factory=lambda: new_key("ES256", "k-1"))
    documents: dict[str, bytes] = field(default_factory=dict[str, bytes])
    asked: list[str] = field(default_factory=list[str])
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    status: int = 200

    def __post_init__(self) -> None:
        self.answers.set()
        self.documents[OPENID] = orjson.dumps({"issuer": self.url, "jwks_uri": self.url + KEYS})
        self.publish(self.key)

    def publish(self, *keys: Key) -> None:
        self.documents[KEYS] = orjson.dumps(
            {"keys": [{**key.as_dict(private=False), "use": "sig"} for key in keys]}
        )

    def rotate(self, kid: str, *, publish: bool = True) -> None:
        self.key = new_key("ES256", kid)
        if publish:
            self.publish(self.key)

    def oauth(self, **changes: Any) -> ScimOauth:
        settings: dict[str, Any] = {"issuer": self.url, "audience": AUDIENCE, "clients": (CLIENT,)}
        return ScimOauth(**settings | changes)

    def token(
        self,
        *,
        header: dict[str, Any] | None = None,
        key: Key | None = None,
        algorithm: str = "ES256",
        without: str = "",
        **changes: Any,
    ) -> str:
        """An access token as RFC 9068 has it, with changes."""
        return signed(
            key or self.key,
            {"alg": algorithm, "typ": "at+jwt", "kid": "k-1", **(header or {})},
            claims(self.url, SystemClock().now(), without=without, **changes),
        )


def claims(issuer: str, at: datetime, *, without: str = "", **changes: Any) -> dict[str, Any]:
    now = int(at.timestamp())
    made: dict[str, Any] = {
        "iss": issuer,
        "aud": AUDIENCE,
        "sub": CLIENT,
        "client_id": CLIENT,
        "iat": now,
        "exp": now + 600,
        "jti": "1",
    }
    made |= changes
    made.pop(without, None)
    return made


def signed(key: Key, header: dict[str, Any], made: dict[str, Any]) -> str:
    header = {name: value for name, value in header.items() if value is not None}
    return jwt.encode(
        header, made, key, algorithms=[*ALGORITHMS, "HS256", "none"], default_type=None
    )


@asynccontextmanager
async def listening() -> AsyncGenerator[Issuer]:
    """An issuer that answers until it is left."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            path = request.split(b" ")[1].decode()
            issuer.asked.append(path)
            await issuer.answers.wait()
            body = issuer.documents.get(path)
            status = 404 if body is None else issuer.status
            body = body or b"{}"
            head = (
                f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            )
            writer.write(head.encode() + body)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # nobody waits for it any more
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    issuer = Issuer(url=f"http://127.0.0.1:{port}")
    try:
        yield issuer
    finally:
        issuer.answers.set()
        server.close()
        await server.wait_closed()
