"""Whether a tenant is set up as we need it: looks only, changes nothing.

Sources: Auth0's Management API reference (scopes of each call), the connections' ``clients`` and the
Organizations' ``enabled_connections``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from service.auth0.answers import Answer
from service.auth0.client import Auth0Client
from service.organizations import Connection, Organization

SCOPES: Final = (
    "read:users",
    "create:users",
    "update:users",
    "delete:users",
    "read:organizations",
    "create:organization_members",
    "delete:organization_members",
    "create:organization_member_roles",
    "delete:organization_member_roles",
    "read:roles",
    "create:user_tickets",
    "delete:sessions",
    "delete:refresh_tokens",
    "read:connections",
)
"""What lanes and this inspection call for. With app_metadata Auth0 asks for two more."""
METADATA_SCOPES: Final = ("update:users_app_metadata", "create:users_app_metadata")
INVITATION_SCOPES: Final = (
    "read:organization_invitations",
    "create:organization_invitations",
    "delete:organization_invitations",
)
"""Where an organization invites by ``invitation``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at. ``advice``: what to do, where it is not as it should be."""

    check: str
    verdict: Literal["ok", "failed", "skipped"]
    detail: str = ""
    advice: str = ""


class Inspector(Auth0Client):
    """The calls that only an inspection makes, paced like all others."""

    async def inspect(self, organizations: Sequence[Organization]) -> AsyncIterator[Finding]:
        """What is as it should be and what is not, for the organizations of this tenant."""
        name = self.tenant.name
        answer = await self.probe()
        if answer.verdict != "ok":
            yield _failed(f"tenant {name}", answer, _advice_for_tenant(answer, self.tenant.url))
            return
        yield Finding(check=f"tenant {name}", verdict="ok", detail=f"{self.tenant.url} accepts us")
        yield self._scopes(organizations)
        checked: set[str] = set()
        for organization in organizations:
            for connection in organization.connections:
                if connection.name not in checked:
                    checked.add(connection.name)
                    yield await self._connection(connection)
            yield await self._organization(organization)
        async for finding in self._roles(organizations):
            yield finding

    def _scopes(self, organizations: Sequence[Organization]) -> Finding:
        check = f"scopes of {self.tenant.name}"
        granted = self._token.scope
        if granted is None:
            return Finding(check=check, verdict="skipped", detail="the tenant does not tell them")
        needed = (*SCOPES, *METADATA_SCOPES)
        if any(each.policies.invite == "invitation" for each in organizations):
            needed += INVITATION_SCOPES
        missing = [scope for scope in needed if scope not in granted.split()]
        if not missing:
            return Finding(check=check, verdict="ok", detail="all that are needed")
        return Finding(
            check=check,
            verdict="failed",
            detail=f"missing: {' '.join(missing)}",
            advice="Grant them to the application, under Auth0's Management API, Permissions.",
        )

    async def _connection(self, wanted: Connection) -> Finding:
        check = f"connection {wanted.name}"
        found = await self._call(
            "other", self._api.connections.with_raw_response.list, name=wanted.name
        )
        if found.verdict != "ok":
            return _failed(check, found, "Grant read:connections, or try again.")
        known: list[Any] = [each for each in found.data if each["name"] == wanted.name]
        if not known:
            return Finding(
                check=check,
                verdict="failed",
                detail=f"tenant {self.tenant.name} has none of this name",
                advice="Create it in Auth0, or correct the organization's connections.",
            )
        strategy = known[0]["strategy"]
        if strategy != wanted.strategy:
            return Finding(
                check=check,
                verdict="failed",
                detail=f"its strategy is {strategy}, declared is {wanted.strategy}",
                advice="Correct the organization's connections[].strategy.",
            )
        return await self._enabled(check, known[0]["id"], wanted)

    async def _enabled(self, check: str, connection_id: str, wanted: Connection) -> Finding:
        clients = await self._call(
            "other", self._api.connections.clients.with_raw_response.get, connection_id
        )
        if clients.verdict != "ok":
            return _failed(check, clients, "Grant read:connections, or try again.")
        if not clients.data:
            return Finding(
                check=check,
                verdict="failed",
                detail="no application may use it, so no user can be created in it",
                advice="Enable it for at least one application.",
            )
        return Finding(check=check, verdict="ok", detail=f"{wanted.strategy}, in use")

    async def _organization(self, wanted: Organization) -> Finding:
        check = f"organization {wanted.name}"
        found = await self.organization_by_name(wanted.auth0_name)
        if found.verdict == "not-found":
            return Finding(
                check=check,
                verdict="failed",
                detail=f"tenant {self.tenant.name} has no Organization {wanted.auth0_name}",
                advice="Create it in Auth0, or correct auth0_organization.",
            )
        if found.verdict != "ok":
            return _failed(check, found, "Grant read:organizations, or try again.")
        enabled = await self._call(
            "organizations-read",
            self._api.organizations.enabled_connections.with_raw_response.list,
            found.data["id"],
        )
        if enabled.verdict != "ok":
            return _failed(check, enabled, "Grant read:organization_connections, or try again.")
        names = {(each.get("connection") or {}).get("name") for each in enabled.data}
        missing = [c.name for c in wanted.connections if c.name not in names]
        if missing:
            return Finding(
                check=check,
                verdict="failed",
                detail=f"connection {', '.join(missing)} is not enabled for it",
                advice="Enable it for the Organization in Auth0: its members cannot log in yet.",
            )
        return Finding(check=check, verdict="ok", detail=f"Organization {wanted.auth0_name}")

    async def _roles(self, organizations: Sequence[Organization]) -> AsyncIterator[Finding]:
        wanted = {role: each.name for each in organizations for role in each.roles.values()}
        if not wanted:
            return
        names: set[str] = set()
        for page in range(10):
            answer = await self.roles(page)
            if answer.verdict != "ok":
                yield _failed(f"roles of {self.tenant.name}", answer, "Grant read:roles.")
                return
            names |= {role["name"] for role in answer.data}
            if len(answer.data) < 100:
                break
        for role in sorted(set(wanted) - names):
            yield Finding(
                check=f"role {role}",
                verdict="failed",
                detail=f"tenant {self.tenant.name} has none of this name ({wanted[role]} maps to it)",
                advice="Create it in Auth0, or correct the organization's roles.",
            )
        if not set(wanted) - names:
            yield Finding(check=f"roles of {self.tenant.name}", verdict="ok")


def _failed(check: str, answer: Answer, advice: str) -> Finding:
    status = f"{answer.status} " if answer.status else ""
    detail = f"{answer.verdict}: {status}{answer.message}".strip()
    return Finding(check=check, verdict="failed", detail=detail, advice=advice)


def _advice_for_tenant(answer: Answer, url: str) -> str:
    match answer.verdict:
        case "unauthorized":
            return "Correct the tenant's client id and client secret."
        case "forbidden":
            return "Authorize the application for the Management API, with its scopes."
        case "unreachable" | "doubtful":
            return f"Correct the tenant's domain or base_url ({url}), or the way there."
        case _:
            return "Try again; if it stays, look at the tenant's log."
