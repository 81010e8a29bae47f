"""A receiver of Security Event Tokens on loopback: verifies by our key set, keeps what it took."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson
from joserfc import jws
from joserfc.jwk import KeySet
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from tests.infrastructure.serving import served

ACCEPTED = Response(status_code=202)


def refusal(err: str, description: str = "Not like this.") -> Response:
    """RFC 8935 section 2.3."""
    told = {"err": err, "description": description}
    return JSONResponse(told, status_code=400, headers={"Content-Language": "en"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """One request, as it came."""

    path: str
    headers: dict[str, str]
    token: str

    @property
    def claims(self) -> dict[str, Any]:
        """Unverified: see ``verified``."""
        return orjson.loads(jws.extract_compact(self.token.encode()).payload)

    @property
    def jti(self) -> str:
        return self.claims["jti"]

    @property
    def event(self) -> str:
        (event,) = self.claims["events"]
        return event


Answer = Callable[[Push], Awaitable[Response]]


@dataclass(kw_only=True)
class Receiver:
    """``pushes`` is what came, ``taken`` what was answered with 202; ``answer`` decides."""

    url: str
    pushes: list[Push] = field(default_factory=list[Push])
    taken: list[Push] = field(default_factory=list[Push])
    answer: Answer | None = None

    async def take(self, request: Request) -> Response:
        push = Push(
            path=request.url.path,
            headers=dict(request.headers),
            token=(await request.body()).decode(),
        )
        self.pushes.append(push)
        response = await self.answer(push) if self.answer is not None else ACCEPTED
        if response.status_code == 202:
            self.taken.append(push)
        return response

    async def until(self, number: int, *, path: str = "", within: float = 10.0) -> list[Push]:
        """What was taken (below a path), once there is so much of it."""
        async with asyncio.timeout(within):
            while True:
                taken = [each for each in self.taken if each.path.startswith(path)]
                if len(taken) >= number:
                    return taken
                await asyncio.sleep(0.01)


def always(response: Response) -> Answer:
    async def answer(_: Push) -> Response:
        return response

    return answer


@asynccontextmanager
async def receiving() -> AsyncGenerator[Receiver]:
    """Answers until it is left."""
    receiver = Receiver(url="")
    app = Starlette(routes=[Route("/{rest:path}", receiver.take, methods=["POST"])])
    async with served(app, lifespan="off", grace=1) as receiver.url:
        yield receiver


async def key_set(routes: Sequence[BaseRoute]) -> KeySet:
    """As a receiver fetches it, by way of the metadata."""
    transport = httpx.ASGITransport(app=Starlette(routes=routes))
    async with httpx.AsyncClient(transport=transport) as http:
        metadata = await http.get("https://scim.test/.well-known/ssf-configuration")
        found = await http.get(metadata.json()["jwks_uri"])
    return KeySet.import_key_set(found.json())


def verified(push: Push, keys: KeySet) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a token whose signature is of one of these keys; raises otherwise."""
    algorithms = ["ES256", "ES384", "ES512", "RS256", "PS256"]
    read = jws.deserialize_compact(push.token, keys, algorithms=algorithms)
    assert read.payload is not None
    return dict(read.headers()), orjson.loads(read.payload)
