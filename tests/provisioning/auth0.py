"""What others do in the same Auth0 tenant, behind the product's back."""

from __future__ import annotations

from typing import Any

from tests.provisioning.world import World


async def call(world: World, method: str, path: str, body: Any = None) -> Any:
    """A Management API call of somebody else's."""
    token = await world.http.post(
        "/oauth/token",
        json={
            "grant_type": "client_credentials",
            "client_id": "provisioner",
            "client_secret": "simulator-secret",
        },
    )
    answer = await world.http.request(
        method,
        f"/api/v2{path}",
        json=body,
        headers={"Authorization": f"Bearer {token.json()['access_token']}"},
    )
    answer.raise_for_status()
    return answer.json() if answer.content else None


async def sign_up(world: World, connection: str, address: str, *, verified: bool) -> str:
    """A person has an account that nobody provisioned; its user id."""
    body = {
        "connection": connection,
        "email": address,
        "email_verified": verified,
        "password": "Someone-elses-1!",
        "verify_email": False,
    }
    return (await call(world, "POST", "/users", body))["user_id"]
