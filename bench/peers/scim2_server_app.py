"""scim2-server over its own storage in memory, served as ours is: ``PORT`` and ``TOKEN`` as arguments.

Runs in an environment of its own; knows nothing of our code.
"""

from __future__ import annotations

import secrets
import sys

import uvicorn
from scim2_models import UnauthorizedException  # pyright: ignore[reportMissingImports]
from scim2_server.applications.asgi import ASGIApplication  # pyright: ignore[reportMissingImports]
from scim2_server.memory import AsyncInMemoryStorage  # pyright: ignore[reportMissingImports]
from scim2_server.requests import ScimRequest  # pyright: ignore[reportMissingImports]
from scim2_server.service import ScimService  # pyright: ignore[reportMissingImports]
from scim2_server.utils import load_default_provider  # pyright: ignore[reportMissingImports]


class WithBearerToken(ASGIApplication):  # pyright: ignore[reportUntypedBaseClass]
    """Admits one token, as the project's own test server does."""

    token: str

    def check_auth(self, request: ScimRequest) -> None:  # pyright: ignore[reportUnknownParameterType]
        scheme, _, token = (request.header("Authorization") or "").partition(" ")
        if scheme.lower() != "bearer" or not secrets.compare_digest(token, self.token):
            raise UnauthorizedException


def main(port: int, token: str) -> None:
    provider = load_default_provider()
    service = ScimService(provider, secret=secrets.token_urlsafe(32))
    application = WithBearerToken(AsyncInMemoryStorage(), provider, service)
    application.token = token
    uvicorn.run(
        application,
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        log_level="error",
        access_log=False,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
