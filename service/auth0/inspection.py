"""Whether a tenant is set up as we need it: looks only, changes nothing.

Sources: Auth0's Management API reference (scopes of each call), the connections' ``clients`` and the
Organizations' ``enabled_connections``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any, Final

from service.auth0 import probing
from service.auth0.answers import Answer
from service.auth0.client import Auth0Client
from service.auth0.probing import Finding
from service.organizations import MARKER, Connection, Organization

SCOPES: Final = (
    "read:users",
    "create:users",
    "update:users",
    "delete:users",
    "read:organizations",
    "create:organization_members",
    "delete:organization_members",
    "read:organization_member_roles",
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


_GRANT: Final = (
    "Grant them to our application (Applications, APIs, Auth0 Management API, Machine to Machine"
    " Applications)."
)
SET_UP_SCOPES: Final = (
    "create:organizations",
    "update:organizations",
    "delete:organizations",
    "read:organization_connections",
    "create:organization_connections",
    "update:organization_connections",
    "create:connections",
    "update:connections",
    "delete:connections",
    "create:roles",
)
"""What ``org apply`` and ``org decommission`` call for where they make, change or delete something."""


class Inspector(Auth0Client):
    """The calls that only an inspection makes, paced like all others."""

    async def inspect(self, organizations: Sequence[Organization]) -> AsyncGenerator[Finding]:
        """What is as it should be and what is not, for the organizations of this tenant."""
        name = self.tenant.name
        answer = await self.probe()
        if answer.verdict != "ok":
            yield _failed(f"tenant {name}", answer, _advice_for_tenant(answer, self.tenant.url))
            return
        yield Finding(check=f"tenant {name}", verdict="ok", detail=f"{self.tenant.url} accepts us")
        async for finding in self._scopes(organizations):
            yield finding
        yield await probing.entitlements(self)
        if organizations:
            answer = await self.organization_by_name(organizations[0].auth0_name)
            yield await probing.rates(self, answer)
        if any(each.has_enterprise for each in organizations):
            yield await probing.events(self, self._http, await self._token())
        checked: set[str] = set()
        for organization in organizations:
            for connection in organization.connections:
                if connection.name not in checked:
                    checked.add(connection.name)
                    yield await self._connection(connection)
            yield await self._organization(organization)
            if organization.application:
                async for finding in probing.application(
                    self,
                    organization.application,
                    organization=organization.name,
                    invites=organization.policies.invite == "invitation",
                ):
                    yield finding
        async for finding in self._roles(organizations):
            yield finding

    async def _scopes(self, organizations: Sequence[Organization]) -> AsyncIterator[Finding]:
        """As the grant or the token tells them, else by asking."""
        check = f"scopes of {self.tenant.name}"
        granted = self._token.scope or probing.scopes_in(await self._token())
        needed = (*SCOPES, *METADATA_SCOPES)
        if any(each.policies.invite == "invitation" for each in organizations):
            needed += INVITATION_SCOPES
        if granted is None:
            lacking = await probing.missing_by_asking(self, (*needed, *SET_UP_SCOPES))
            told = "all that can be asked for"
        else:
            lacking = [s for s in (*needed, *SET_UP_SCOPES) if s not in granted.split()]
            told = "all that are needed"
        missing = [scope for scope in lacking if scope in needed]
        for_set_up = [scope for scope in lacking if scope not in needed]
        yield Finding(
            check=check,
            verdict="failed" if missing else "ok",
            detail=f"missing: {' '.join(missing)}" if missing else told,
            advice=_GRANT if missing else "",
        )
        if for_set_up:
            yield Finding(
                check=f"scopes of {self.tenant.name} for org apply",
                verdict="skipped",
                detail=f"missing: {' '.join(for_set_up)}; what needs them is refused",
                advice=f"{_GRANT} Not needed where Organizations and connections are made by hand.",
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
        return await self._enabled(check, known[0], wanted)

    async def _enabled(self, check: str, known: Mapping[str, Any], wanted: Connection) -> Finding:
        clients = await self._call(
            "other", self._api.connections.clients.with_raw_response.get, known["id"]
        )
        if clients.verdict != "ok":
            return _failed(check, clients, "Grant read:connections, or try again.")
        if not clients.data:
            return Finding(
                check=check,
                verdict="failed",
                detail="no application may use it, so no user can be created in it",
                advice="Declare the organization's application and apply, or enable it for one in"
                " Auth0 (Authentication, the connection, Applications).",
            )
        if wanted.is_database and not (known.get("options") or {}).get("disable_signup"):
            return _open(check, ours=MARKER in (known.get("metadata") or {}))
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
        for each in organizations:
            if each.administrator is not None and each.administrator.role:
                wanted.setdefault(each.administrator.role, each.name)
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
                detail=f"tenant {self.tenant.name} has none of this name ({wanted[role]} grants it)",
                advice="Create it in Auth0, or correct the organization's roles.",
            )
        if not set(wanted) - names:
            yield Finding(check=f"roles of {self.tenant.name}", verdict="ok")


def _open(check: str, *, ours: bool) -> Finding:
    """Sign-up: somebody may take a colleague's address before we make the account."""
    by_hand = "in Auth0: Authentication, Database, the connection, Disable Sign Ups"
    if ours:
        return Finding(
            check=check,
            verdict="failed",
            detail="anybody may sign up in it, though we made it with sign-up off",
            advice=f"provisioner org apply mends it; or {by_hand}.",
        )
    return Finding(
        check=check,
        verdict="warning",
        detail="in use; anybody may sign up in it, and it is not ours to close",
        advice=f"Close it {by_hand}; or declare set_up = {{ adopt = true }} where it is isolated.",
    )


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
