"""The calls by which an organization is set up: Organizations, connections, applications, roles.

Sources: Auth0's Management API reference. ``PATCH`` replaces ``options`` and ``metadata`` as a
whole, so both are read before they are written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from service.auth0.answers import Answer
from service.auth0.client import Auth0Client

_PAGES: Final = 20
"""Of 100: Auth0 has 1,000 roles and 10 connections of an Organization at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetUpCalls:
    """Each call paced and an Answer, as all of the client's."""

    client: Auth0Client

    async def connection(self, name: str) -> Answer:
        """The connection of exactly this name, or None."""
        answer = await self.client.call(
            "other", lambda api: api.connections.with_raw_response.list, name=name
        )
        if answer.verdict != "ok":
            return answer
        found = [each for each in answer.data if each["name"] == name]
        return Answer(verdict="ok", status=200, data=found[0] if found else None)

    async def applications(self, connection_id: str) -> Answer:
        """The ``client_id`` of the applications that may use it: all of up to 100."""
        answer = await self.client.call(
            "other",
            lambda api: api.connections.clients.with_raw_response.get,
            connection_id,
            take=100,
        )
        if answer.verdict != "ok":
            return answer
        return Answer(verdict="ok", status=200, data=[each["client_id"] for each in answer.data])

    async def create_connection(self, name: str, metadata: Mapping[str, str]) -> Answer:
        """A database in which nobody signs up by themselves."""
        return await self.client.call(
            "other",
            lambda api: api.connections.with_raw_response.create,
            name=name,
            strategy="auth0",
            options={"disable_signup": True},
            metadata=dict(metadata),
        )

    async def update_connection(
        self, connection_id: str, options: Mapping[str, Any], metadata: Mapping[str, str]
    ) -> Answer:
        """Adds to what the connection has."""
        known = await self.client.call(
            "other", lambda api: api.connections.with_raw_response.get, connection_id
        )
        if known.verdict != "ok":
            return known
        changes: dict[str, Any] = {"options": {**(known.data.get("options") or {}), **options}}
        if metadata:
            changes["metadata"] = {**(known.data.get("metadata") or {}), **metadata}
        return await self.client.call(
            "other",
            lambda api: api.connections.with_raw_response.update,
            connection_id,
            **changes,
        )

    async def enable_for_application(self, connection_id: str, application: str) -> Answer:
        return await self.client.call(
            "other",
            lambda api: api.connections.clients.with_raw_response.update,
            connection_id,
            request=[{"client_id": application, "status": True}],
        )

    async def delete_connection(self, connection_id: str) -> Answer:
        """Takes all of its users along; Auth0 may need a while."""
        return await self.client.call(
            "other", lambda api: api.connections.with_raw_response.delete, connection_id
        )

    async def users_in(self, connection: str) -> Answer:
        """A few of the users of a connection, by an index that lags by seconds."""
        return await self.client.call(
            "users-read",
            lambda api: api.users.with_raw_response.list,
            q=f'identities.connection:"{connection}"',
            search_engine="v3",
            per_page=5,
            fields="user_id",
            include_fields=True,
        )

    async def create_organization(
        self, name: str, display_name: str, metadata: Mapping[str, str]
    ) -> Answer:
        return await self.client.call(
            "organizations-write",
            lambda api: api.organizations.with_raw_response.create,
            name=name,
            display_name=display_name,
            metadata=dict(metadata),
        )

    async def update_organization(
        self, organization_id: str, display_name: str, metadata: Mapping[str, str]
    ) -> Answer:
        """Into the metadata that the Organization has; an empty value takes its key away."""
        known = await self.client.call(
            "organizations-read",
            lambda api: api.organizations.with_raw_response.get,
            organization_id,
        )
        if known.verdict != "ok":
            return known
        merged = {**(known.data.get("metadata") or {}), **metadata}
        return await self.client.call(
            "organizations-write",
            lambda api: api.organizations.with_raw_response.update,
            organization_id,
            display_name=display_name,
            metadata={key: value for key, value in merged.items() if value or key not in metadata},
        )

    async def delete_organization(self, organization_id: str) -> Answer:
        return await self.client.call(
            "organizations-write",
            lambda api: api.organizations.with_raw_response.delete,
            organization_id,
        )

    async def enabled_connections(self, organization_id: str) -> Answer:
        return await self.client.call(
            "organizations-read",
            lambda api: api.organizations.enabled_connections.with_raw_response.list,
            organization_id,
            per_page=50,
        )

    async def enable_connection(
        self, organization_id: str, connection_id: str, switches: Mapping[str, bool]
    ) -> Answer:
        return await self.client.call(
            "organization-connections-write",
            lambda api: api.organizations.enabled_connections.with_raw_response.add,
            organization_id,
            connection_id=connection_id,
            **switches,
        )

    async def update_enabled_connection(
        self, organization_id: str, connection_id: str, switches: Mapping[str, bool]
    ) -> Answer:
        return await self.client.call(
            "organization-connections-write",
            lambda api: api.organizations.enabled_connections.with_raw_response.update,
            organization_id,
            connection_id,
            **switches,
        )

    async def roles(self) -> Answer:
        """The names of all roles of the tenant."""
        names: set[str] = set()
        for page in range(_PAGES):
            answer = await self.client.roles(page)
            if answer.verdict != "ok":
                return answer
            names |= {role["name"] for role in answer.data}
            if len(answer.data) < 100:
                break
        return Answer(verdict="ok", status=200, data=names)

    async def create_role(self, name: str) -> Answer:
        return await self.client.call(
            "other", lambda api: api.roles.with_raw_response.create, name=name
        )
