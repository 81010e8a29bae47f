"""`/oauth/token`: client credentials for opaque tokens, and what a token allows.

Any audience is accepted. Sources: RFC 6749 section 4.4; Auth0's documentation of Management API
tokens (valid for 24 hours).
"""

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from service.auth0.simulator.errors import Refusal
from service.auth0.simulator.operation import Answer, World

LIFETIME = 86_400
"""Seconds."""

CLIENT_ID = "provisioner"
CLIENT_SECRET = "simulator-secret"
APPLICATION = "sample-app"
"""The application that every tenant has, and that seeded connections are enabled for."""

TENANT_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def open_tenant(world: World) -> bool:
    """Let a tenant come into being, with its default client and application; False if it was."""
    created = world.run("INSERT OR IGNORE INTO tenants (name) VALUES (?)")
    if not created:
        return False
    add_client(world, client_id=CLIENT_ID, secret=CLIENT_SECRET, scopes=None)
    world.run(
        "INSERT INTO clients (tenant, client_id, name, machine) VALUES (?, ?, ?, 0)",
        APPLICATION,
        "Sample application",
    )
    return True


def add_client(world: World, *, client_id: str, secret: str, scopes: list[str] | None) -> None:
    """Add a machine client, or change its secret and scopes. None allows every scope."""
    world.run(
        "INSERT OR REPLACE INTO clients (tenant, client_id, name, secret, scopes, machine)"
        " VALUES (?, ?, ?, ?, ?, 1)",
        client_id,
        client_id,
        secret,
        None if scopes is None else json.dumps(scopes),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthError:
    """An error of `/oauth/token`, which has a shape of its own."""

    status: int
    error: str
    description: str

    def answer(self) -> Answer:
        """`{"error", "error_description"}`."""
        return Answer(
            status=self.status, body={"error": self.error, "error_description": self.description}
        )


def token(world: World, body: Mapping[str, Any]) -> Answer:
    """Answer a token request. Body: `grant_type`, `client_id`, `client_secret`, `audience`."""
    if body.get("grant_type") != "client_credentials":
        return OAuthError(
            status=403,
            error="unauthorized_client",
            description="Only the grant type client_credentials is allowed",
        ).answer()
    client = world.row(
        "SELECT * FROM clients WHERE tenant = ? AND client_id = ? AND machine = 1",
        str(body.get("client_id")),
    )
    if client is None or not secrets.compare_digest(
        str(client["secret"]).encode(), str(body.get("client_secret")).encode()
    ):
        return OAuthError(status=401, error="access_denied", description="Unauthorized").answer()
    issued = secrets.token_urlsafe(32)
    world.db.execute(
        "INSERT INTO tokens (digest, tenant, client_id, issued_at, expires_at)"
        " VALUES (?, ?, ?, ?, ?)",
        (_digest(issued), world.tenant, client["client_id"], world.now, world.now + LIFETIME),
    )
    answer: dict[str, Any] = {
        "access_token": issued,
        "token_type": "Bearer",
        "expires_in": LIFETIME,
    }
    if client["scopes"] is not None:
        answer["scope"] = " ".join(json.loads(client["scopes"]))
    return Answer(body=answer)


def allowed(world: World, authorization: str | None) -> frozenset[str] | None:
    """Scopes behind an `Authorization` header, None for all. Raises the 401 of a bad token."""
    scheme, _, credentials = (authorization or "").partition(" ")
    found = None
    if scheme.lower() == "bearer" and credentials:
        found = world.row(
            "SELECT t.expires_at, c.scopes FROM tokens t"
            " JOIN clients c ON c.tenant = t.tenant AND c.client_id = t.client_id"
            " WHERE t.tenant = ? AND t.digest = ?",
            _digest(credentials.strip()),
        )
    if found is None or found["expires_at"] <= world.now:
        raise Refusal(status=401, message="Invalid token", error_code="invalid_token")
    return None if found["scopes"] is None else frozenset(json.loads(found["scopes"]))


def _digest(issued: str) -> str:
    return sha256(issued.encode()).hexdigest()
