"""An identity provider for the tests: speaks to the SCIM door of one organization over ASGI."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from sqlalchemy import Connection
from starlette.applications import Starlette
from starlette.routing import Mount

from scim.app import create_app
from service.clock import Clock, SystemClock
from service.directory import credentials, organizations, tables
from service.directory.database import Database, open_database
from service.organizations import Connection as Auth0Connection
from service.organizations import Organization
from tests.infrastructure.schema import migrated_where_new

PEPPER = b"pepper of the tests"
CORE_USER = "urn:ietf:params:scim:schemas:core:2.0:User"
CORE_GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
PROVISIONING = "urn:auth0-provisioner:scim:1.0:Provisioning"
PATCH_OP = "urn:ietf:params:scim:api:messages:2.0:PatchOp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scim:
    """One organization's SCIM base URL with its token; ``http`` adds what each request needs."""

    http: httpx.AsyncClient
    database: Database
    organization: str
    token: str

    async def post_user(self, user_name: str, **attributes: Any) -> dict[str, Any]:
        body = {"schemas": [CORE_USER], "userName": user_name, **attributes}
        answer = await self.http.post("Users", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def post_group(self, name: str, *members: str, **attributes: Any) -> dict[str, Any]:
        body = {
            "schemas": [CORE_GROUP],
            "displayName": name,
            "members": [{"value": member} for member in members],
            **attributes,
        }
        answer = await self.http.post("Groups", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def patch(self, path: str, *operations: Mapping[str, Any]) -> httpx.Response:
        return await self.http.patch(
            path, json={"schemas": [PATCH_OP], "Operations": list(operations)}
        )

    async def get(self, path: str, **query: str | int) -> dict[str, Any]:
        answer = await self.http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def names(self, wanted: str) -> list[str]:
        """The userNames that a filter finds."""
        found = await self.get("Users", filter=wanted, count=1000)
        return sorted(user["userName"] for user in found["Resources"])

    async def members(self, group_id: str) -> set[str]:
        found = await self.get(f"Groups/{group_id}")
        return {member["value"] for member in found.get("members", [])}


def organization(name: str = "hoekstra", **settings: Any) -> Organization:
    return Organization(name=name, connections=(Auth0Connection(name=f"{name}-users"),), **settings)


async def register(database: Database, configured: Organization) -> str:
    """Stores an organization and returns a token for its SCIM door."""
    now = SystemClock().now()

    def work(transaction: Connection) -> str:
        organizations.apply(transaction, configured, now)
        return credentials.create(
            transaction, organization=configured.name, door="scim", pepper=PEPPER, now=now
        )

    return await database.transact(work)


async def create_tables(database: Database) -> None:
    await database.transact(tables.metadata.create_all)


@asynccontextmanager
async def opened(
    url: str, *configured: Organization, clock: Clock | None = None
) -> AsyncGenerator[list[Scim]]:
    """The door on a database, and a client for each organization. An SQLite file is made anew."""
    database = open_database(migrated_where_new(url))
    try:
        door = create_app(database=database, clock=clock or SystemClock(), pepper=PEPPER)
        app = Starlette(routes=[Mount("/scim/v2", app=door)])
        clients: list[Scim] = []
        for each in configured:
            token = await register(database, each)
            http = httpx.AsyncClient(
                transport=httpx.ASGITransport(app=app),
                base_url=f"http://scim.test/scim/v2/{each.name}/",
                headers={"Authorization": f"Bearer {token}"},
            )
            clients.append(Scim(http=http, database=database, organization=each.name, token=token))
        yield clients
        for client in clients:
            await client.http.aclose()
    finally:
        await database.close()
