"""What of a tenant is only found out by asking: scopes, plan entitlements, rates, the Events API.

Each question is one call that can change nothing: it names what does not exist, by an id that was
drawn for it. Sources: Auth0's Management API reference; its pages on rate limits and entity limits.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import httpx
import orjson
from auth0.management import AsyncAuth0

from service.auth0.answers import Answer
from service.auth0.client import Auth0Client
from service.auth0.rates import GLOBAL, PLANS, Group, Plan, Rate
from service.ids import account_key

_WITHIN: Final = 5.0
"""Seconds for the first bytes of the Events API, which stays silent where nothing happens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at. ``advice``: what to do, where it is not as it should be. A
    ``warning`` is something that works, and that somebody should look at."""

    check: str
    verdict: Literal["ok", "warning", "failed", "skipped"]
    detail: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True)
class _Question:
    scope: str
    group: Group
    choose: Callable[[AsyncAuth0], Callable[..., Awaitable[Any]]]
    arguments: Callable[[str], tuple[Sequence[Any], Mapping[str, Any]]]


def _questions() -> tuple[_Question, ...]:
    """``nobody`` is a fresh name of nothing; the address of a new user is empty, which is refused. Of
    writes whose refusals Auth0 does not declare, or that could make something, nothing is asked.
    """
    return (
        _Question(
            "read:users",
            "users-read",
            lambda api: api.users.with_raw_response.get,
            lambda nobody: ((f"auth0|{nobody}",), {}),
        ),
        _Question(
            "create:users",
            "users-write",
            lambda api: api.users.with_raw_response.create,
            lambda nobody: ((), {"connection": nobody, "email": ""}),
        ),
        _Question(
            "update:users",
            "users-write",
            lambda api: api.users.with_raw_response.update,
            lambda nobody: ((f"auth0|{nobody}",), {"blocked": True}),
        ),
        _Question(
            "delete:users",
            "users-delete",
            lambda api: api.users.with_raw_response.delete,
            lambda nobody: ((f"auth0|{nobody}",), {}),
        ),
        _Question(
            "read:organizations",
            "organizations-read",
            lambda api: api.organizations.with_raw_response.get_by_name,
            lambda nobody: ((nobody,), {}),
        ),
        _Question(
            "create:user_tickets",
            "other",
            lambda api: api.tickets.with_raw_response.change_password,
            lambda nobody: ((), {"user_id": f"auth0|{nobody}"}),
        ),
        _Question(
            "update:connections",
            "other",
            lambda api: api.connections.with_raw_response.update,
            lambda nobody: ((f"con_{nobody}",), {"display_name": nobody}),
        ),
        _Question(
            "create:organization_connections",
            "organizations-write",
            lambda api: api.organizations.enabled_connections.with_raw_response.add,
            lambda nobody: ((f"org_{nobody}",), {"connection_id": f"con_{nobody}"}),
        ),
    )


def scopes_in(token: str) -> str | None:
    """The scopes that a JWT access token names in itself, unverified; None where it names none."""
    try:
        part = token.split(".")[1]
        claims: Any = orjson.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (IndexError, ValueError, binascii.Error):
        return None
    scope = claims.get("scope") if isinstance(claims, dict) else None
    return scope if isinstance(scope, str) else None


async def missing_by_asking(client: Auth0Client, wanted: Sequence[str]) -> list[str]:
    """Which of these scopes Auth0 says that we lack, of those that can be asked for."""
    lacking: list[str] = []
    for question in _questions():
        if question.scope not in wanted:
            continue
        positional, named = question.arguments(f"doctor-{account_key()}")
        answer = await client.call(question.group, question.choose, *positional, **named)
        if answer.lacks_scope:
            lacking.append(question.scope)
    return lacking


async def entitlements(client: Auth0Client) -> Finding:
    """Whether the plan lets us end sessions. A refusal is told, and nothing hangs on it."""
    check = f"sessions of {client.tenant.name}"
    answer = await client.revoke_access(f"auth0|doctor-{account_key()}")
    if answer.code == "insufficient_entitlement":
        return Finding(
            check=check,
            verdict="skipped",
            detail="the plan has no session endpoints: who is blocked stays out, and sessions and"
            " refresh tokens live until they expire",
            advice="Shorten the lifetimes of sessions and refresh tokens, or change the plan.",
        )
    if answer.lacks_scope:
        return Finding(
            check=check,
            verdict="failed",
            detail="sessions and refresh tokens of leavers cannot be ended",
            advice="Grant delete:sessions and delete:refresh_tokens to our application"
            " (Applications, APIs, Auth0 Management API, Machine to Machine Applications).",
        )
    if answer.verdict in ("unreachable", "doubtful", "rate-limited", "withheld"):
        detail = f"not found out: {answer.message or answer.status}"
        return Finding(check=check, verdict="skipped", detail=detail)
    return Finding(check=check, verdict="ok", detail="they end when somebody leaves")


async def rates(client: Auth0Client, answer: Answer) -> Finding:
    """The rate that an answer's headers tell, beside the configured plan's. ``answer``: of a call in
    a group that has no bucket of its own.
    """
    check = f"rate of {client.tenant.name}"
    plan = client.tenant.plan
    expected = _unnamed(plan)
    told = _burst(answer)
    if told is None:
        return Finding(check=check, verdict="skipped", detail="Auth0 told no rate")
    if told >= expected.burst:
        return Finding(check=check, verdict="ok", detail=f"plan {plan}, bursts of {told}")
    best = await _fitting(client, told)
    others = "".join(f', or "{each}" {_WHEN[each]}' for each in best[1:])
    return Finding(
        check=check,
        verdict="failed",
        detail=f"Auth0 allows bursts of {told}, plan {plan} is configured with {expected.burst}",
        advice=f'Declare plan = "{best[0]}"{others} for the tenant: until then calls are refused'
        " (429), and repeated.",
    )


_PLANS: Final[tuple[Plan, ...]] = tuple(PLANS)
"""From the narrowest to the widest."""
_WHEN: Final[Mapping[Plan, str]] = {
    "enterprise-nonproduction": "where it is a tenant of an Enterprise plan that is not for production"
}


async def _fitting(client: Auth0Client, told: int) -> list[Plan]:
    """The widest plans that have bursts as told, where several do: the likelier first."""
    fits: list[Plan] = [name for name in _PLANS if _unnamed(name).burst <= told] or ["free"]
    widest = _unnamed(fits[-1]).burst
    fits = [name for name in fits if _unnamed(name).burst == widest]
    if len(fits) > 1:
        # Plans tell apart by what reading users may do: with a bucket of its own, or without.
        read = _burst(await client.get_user(f"auth0|doctor-{account_key()}"))
        own: list[Plan] = [name for name in fits if "users-read" in PLANS[name]]
        if read is not None and read > told and own:
            return own
    return fits


def _burst(answer: Answer) -> int | None:
    try:
        return int((answer.headers or {})["x-ratelimit-limit"])
    except (KeyError, ValueError):
        return None


def _unnamed(plan: Plan) -> Rate:
    """The bucket of calls that have none of their own."""
    buckets = PLANS[plan]
    return buckets[GLOBAL] if GLOBAL in buckets else buckets["other"]


async def events(client: Auth0Client, http: httpx.AsyncClient, token: str) -> Finding:
    """Whether the Events API tells us of first logins; without it they are looked for in turn."""
    check = f"events of {client.tenant.name}"
    without = "first logins of enterprise users are noticed by looking from time to time"
    try:
        async with http.stream(
            "GET",
            f"{client.tenant.url}/api/v2/events",
            params={"event_type": "user.created"},
            headers={"authorization": f"Bearer {token}", "accept": "text/event-stream"},
            timeout=_WITHIN,
        ) as answer:
            status = answer.status_code
    except httpx.RequestError as error:
        detail = f"{type(error).__name__}; {without}"
        return Finding(check=check, verdict="skipped", detail=detail)
    match status:
        case 200:
            return Finding(check=check, verdict="ok", detail="the Events API answers")
        case 403:
            advice = "Grant read:events to our application."
            return Finding(check=check, verdict="skipped", detail=without, advice=advice)
        case _:
            detail = f"the Events API answers {status}; {without}"
            return Finding(check=check, verdict="skipped", detail=detail)


async def application(
    client: Auth0Client, client_id: str, *, organization: str, invites: bool
) -> AsyncIterator[Finding]:
    """Whether the Application that people log in to takes part in Organizations, and whether an
    invitation's link leads somewhere.
    """
    check = f"application {client_id} of {organization}"
    answer = await client.call(
        "other",
        lambda api: api.clients.with_raw_response.get,
        client_id,
        fields="client_id,name,organization_usage,initiate_login_uri",
        include_fields=True,
    )
    if answer.lacks_scope:
        yield Finding(
            check=check,
            verdict="skipped",
            detail="we may not look at it",
            advice="Grant read:clients to our application, if doctor shall look.",
        )
        return
    if answer.verdict == "not-found":
        yield Finding(
            check=check,
            verdict="failed",
            detail=f"tenant {client.tenant.name} has none of this client_id",
            advice="Correct the organization's application.",
        )
        return
    if answer.verdict != "ok":
        detail = f"{answer.verdict}: {answer.message}"
        yield Finding(check=check, verdict="failed", detail=detail, advice="Try again.")
        return
    if answer.data.get("organization_usage") not in ("allow", "require"):
        yield Finding(
            check=check,
            verdict="failed",
            detail="it takes no part in Organizations, so nobody logs in to one through it",
            advice="In Auth0: Applications, its Login Experience, Types of Users: Business Users.",
        )
        return
    if invites and not answer.data.get("initiate_login_uri"):
        yield await _login_route(client, check)
        return
    yield Finding(check=check, verdict="ok", detail="takes part in Organizations")


async def _login_route(client: Auth0Client, check: str) -> Finding:
    settings = await client.call("other", lambda api: api.tenants.settings.with_raw_response.get)
    if settings.verdict == "ok" and settings.data.get("default_redirection_uri"):
        return Finding(check=check, verdict="ok", detail="invitations lead to the tenant's route")
    if settings.lacks_scope:
        return Finding(
            check=check,
            verdict="skipped",
            detail="it has no Application Login URI, and we may not look at the tenant's",
            advice="Grant read:tenant_settings, or set the Application Login URI.",
        )
    if settings.verdict != "ok":
        detail = f"{settings.verdict}: {settings.message}"
        return Finding(check=check, verdict="failed", detail=detail, advice="Try again.")
    return Finding(
        check=check,
        verdict="failed",
        detail="no login route: Auth0 refuses to invite anybody (400)",
        advice="In Auth0: Applications, its Settings, Application Login URI; or Tenant Settings,"
        " Advanced, Tenant Login URI.",
    )
