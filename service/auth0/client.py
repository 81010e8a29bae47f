"""One Auth0 tenant's Management API, as far as accounts need it: each call paced, each an Answer.

Over auth0-python's AsyncAuth0 with its own retries off: who repeats what is decided by the lanes.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Final, Self
from weakref import WeakSet

import httpx
import orjson
from auth0.management import AsyncAuth0
from auth0.management.core.api_error import ApiError
from auth0.management.core.pagination import AsyncPager
from auth0.management.management_client import CustomDomainHeader

from service.auth0.answers import Answer, failed, ok
from service.auth0.authentication import Before, change_password
from service.auth0.pacing import Group, Pacer, PacerClosed, Recalled
from service.auth0.token import Token, TokenRefused
from service.clock import Clock
from service.organizations import Tenant

TIMEOUT: Final = 15.0
"""Seconds that one call may take at most, from connecting to its last byte; connecting 3."""

ANOTHER_FIRST: Final = "another call comes first"


def http_client() -> httpx.AsyncClient:
    return httpx.AsyncClient(
        timeout=httpx.Timeout(TIMEOUT, connect=3.0),
        # As many as the quickest plan lets go within a timeout: a call that waited for a connection
        # would wait for calls that hang, leavers too.
        limits=httpx.Limits(max_connections=300, max_keepalive_connections=32),
    )


@dataclass(slots=True)
class _Going:
    """Whether calls may be made, and which tasks wait for the pacer: of a client and its copies."""

    stopped: bool = False
    may_call: Callable[[], bool] = lambda: True
    waiting: set[asyncio.Task[Any]] = field(default_factory=set[asyncio.Task[Any]])
    recalled: WeakSet[asyncio.Task[Any]] = field(default_factory=WeakSet[asyncio.Task[Any]])


class Auth0Client:
    """The calls that lanes make. Every method returns an Answer and raises nothing of Auth0's."""

    def __init__(
        self,
        tenant: Tenant,
        client_secret: str,
        *,
        clock: Clock,
        pacer: Pacer,
        http: httpx.AsyncClient,
    ) -> None:
        self.tenant = tenant
        self.clock = clock
        self._pacer = pacer
        self._http = http
        self._going = _Going()
        self._in_background = False
        self._custom_domain = tenant.custom_domain
        self._token = Token(tenant, client_secret, http, clock)
        self._api = AsyncAuth0(
            base_url=f"{tenant.url}/api/v2",
            token="unused",
            async_token=self._token,
            httpx_client=http,
            max_retries=0,
        )

    def only_while(self, may_call: Callable[[], bool]) -> None:
        """Asks this before each call, after its wait for a turn; where it is False, none is made."""
        self._going.may_call = may_call

    def background(self) -> Self:
        """The same client for work that nobody waits for: its calls keep to a small share."""
        other = copy.copy(self)
        other._in_background = True
        return other

    def branded(self, custom_domain: str) -> Self:
        """The same client, whose links to people are of this custom domain; empty: the tenant's."""
        other = copy.copy(self)
        other._custom_domain = custom_domain or self._custom_domain
        return other

    def hurry(self, task: asyncio.Task[Any]) -> None:
        """Puts the calls for which this task waits, now and later, before those of all joiners."""
        self._pacer.hurry(task)

    def recall(self, task: asyncio.Task[Any]) -> None:
        """Withholds the call for which this task waits, and all that it would make later."""
        self._going.recalled.add(task)
        self._pacer.recall(task)

    def is_recalled(self, task: asyncio.Task[Any] | None) -> bool:
        return task in self._going.recalled

    def stand_for(self, task: asyncio.Task[Any], other: asyncio.Task[Any]) -> None:
        """Gives ``task`` the place in line of ``other``, for which it calls."""
        self._pacer.stand_for(task, other)

    def waiting(self, group: Group) -> int:
        """How many calls of this group wait for their turn in this tenant."""
        return self._pacer.waiting(group)

    @property
    def stopped(self) -> bool:
        return self._going.stopped

    def stop(self) -> None:
        """Makes no further call; those under way go on, and so do others' in this tenant."""
        self._going.stopped = True
        for task in list(self._going.waiting):
            self._pacer.recall(task)

    async def close(self) -> None:
        self.stop()
        self._token.close()
        await self._http.aclose()

    async def probe(self) -> Answer:
        """Whether the tenant accepts us: a fresh token and one small read."""
        self._token.invalidate()
        return await self._look(leaver=False)

    async def accepted(self, *, leaver: bool = False) -> bool | None:
        """Whether the tenant accepts another call of ours, after it has forbidden one; None where
        that is not to be learned now."""
        answer = await self._look(leaver=leaver)
        if answer.verdict in ("ok", "rate-limited", "not-found") or answer.lacks_scope:
            return True
        return False if answer.verdict in ("unauthorized", "forbidden") else None

    async def _look(self, *, leaver: bool) -> Answer:
        return await self._call(
            "other", self._api.roles.with_raw_response.list, per_page=1, leaver=leaver
        )

    async def create_user(self, *, leaver: bool = False, **fields: Any) -> Answer:
        return await self._call(
            "users-write",
            self._api.users.with_raw_response.create,
            leaver=leaver,
            **fields,
            **self._brand(),
        )

    async def get_user(self, user_id: str, *, leaver: bool = False) -> Answer:
        return await self._call(
            "users-read", self._api.users.with_raw_response.get, user_id, leaver=leaver
        )

    async def users_by_email(self, email: str, *, leaver: bool = False) -> Answer:
        """Immediately consistent, unlike search; the address must be in lower case."""
        return await self._call(
            "users-read",
            self._api.users.with_raw_response.list_users_by_email,
            email=email,
            leaver=leaver,
        )

    async def newest_users(self, connection: str, page: int) -> Answer:
        """A hundred users of a connection, the newest first. Search lags by some seconds."""
        return await self._call(
            "users-read",
            self._api.users.with_raw_response.list,
            q=f'identities.connection:"{connection}"',
            search_engine="v3",
            sort="created_at:-1",
            per_page=100,
            page=page,
            include_totals=True,
        )

    async def users_with_identity(self, identity: str, *, leaver: bool = False) -> Answer:
        """Users of whom this identity, an id without its provider, is a part. Search lags."""
        return await self._call(
            "users-read",
            self._api.users.with_raw_response.list,
            q=f'identities.user_id:"{_escaped(identity)}"',
            search_engine="v3",
            per_page=10,
            include_totals=True,
            leaver=leaver,
        )

    async def update_user(self, user_id: str, *, leaver: bool = False, **fields: Any) -> Answer:
        return await self._call(
            "users-write",
            self._api.users.with_raw_response.update,
            user_id,
            leaver=leaver,
            **fields,
            **self._brand(),
        )

    async def delete_user(self, user_id: str, *, leaver: bool = False) -> Answer:
        return await self._call(
            "users-delete", self._api.users.with_raw_response.delete, user_id, leaver=leaver
        )

    async def revoke_access(self, user_id: str, *, leaver: bool = False) -> Answer:
        """Sessions and refresh tokens in one call; Auth0 carries it out a little later."""
        return await self._call(
            "other", self._api.users.with_raw_response.revoke_access, user_id, leaver=leaver
        )

    async def organizations_of(self, user_id: str, *, leaver: bool = False) -> Answer:
        """The names of the Organizations that a user is in, as a list."""
        names: list[str] = []
        for page in range(20):
            answer = await self._call(
                "users-read",
                self._api.users.organizations.with_raw_response.list,
                user_id,
                page=page,
                per_page=50,
                leaver=leaver,
            )
            if answer.verdict != "ok":
                return answer
            names += [organization["name"] for organization in answer.data]
            if len(answer.data) < 50:
                break
        return Answer(verdict="ok", status=200, data=names)

    async def organization_by_name(self, name: str, *, leaver: bool = False) -> Answer:
        return await self._call(
            "organizations-read",
            self._api.organizations.with_raw_response.get_by_name,
            name,
            leaver=leaver,
        )

    async def roles(self, page: int) -> Answer:
        return await self._call(
            "other",
            self._api.roles.with_raw_response.list,
            per_page=100,
            page=page,
            include_totals=True,
        )

    async def add_members(
        self,
        organization_id: str,
        user_ids: Sequence[str] | Callable[[], Sequence[str]],
        *,
        leaver: bool = False,
    ) -> Answer:
        """At most ten. Adding someone who is a member already is a success.

        A callable is asked for them when the call's turn has come.
        """
        create = self._api.organizations.members.with_raw_response.create

        async def add() -> Any:
            return await create(organization_id, members=_now(user_ids))

        return await self._call("members-write", add, leaver=leaver)

    async def remove_members(
        self,
        organization_id: str,
        user_ids: Sequence[str] | Callable[[], Sequence[str]],
        *,
        leaver: bool = False,
    ) -> Answer:
        """As ``add_members``. Removing someone who is no member is a success."""
        delete = self._api.organizations.members.with_raw_response.delete

        async def remove() -> Any:
            return await delete(organization_id, members=_now(user_ids))

        return await self._call("members-write", remove, leaver=leaver)

    async def add_roles(self, organization_id: str, user_id: str, roles: Sequence[str]) -> Answer:
        return await self._call(
            "member-roles-write",
            self._api.organizations.members.roles.with_raw_response.assign,
            organization_id,
            user_id,
            roles=list(roles),
        )

    async def remove_roles(
        self, organization_id: str, user_id: str, roles: Sequence[str], *, leaver: bool = False
    ) -> Answer:
        return await self._call(
            "member-roles-write",
            self._api.organizations.members.roles.with_raw_response.delete,
            organization_id,
            user_id,
            roles=list(roles),
            leaver=leaver,
        )

    async def password_ticket(self, user_id: str, *, seconds: int) -> Answer:
        """A link with which the person sets a password. It is a credential: never log it."""
        return await self._call(
            "other",
            self._api.tickets.with_raw_response.change_password,
            user_id=user_id,
            ttl_sec=seconds,
            mark_email_as_verified=True,
            **self._brand(),
        )

    async def reset_mail(
        self,
        *,
        application: str,
        email: str,
        connection: str,
        organization_id: str,
        before: Before,
    ) -> Answer:
        """Auth0 mails a link for choosing a password, whoever the address belongs to. Of the
        Authentication API: no token, none of our budget."""
        if self._going.stopped or not self._going.may_call():
            return Answer(verdict="withheld", message="the lease is too short for a call")
        return await change_password(
            self._http,
            self._people_url,
            {
                "client_id": application,
                "email": email,
                "connection": connection,
                "organization": organization_id,
            },
            before=before,
        )

    async def connection_by_name(self, name: str) -> Answer:
        """A list of at most one."""
        return await self._call("other", self._api.connections.with_raw_response.list, name=name)

    async def create_invitation(
        self, organization_id: str, *, before: Before, **fields: Any
    ) -> Answer:
        """Mails, each time. ``before``: see ``_call``."""
        return await self._call(
            "invitations-write",
            self._api.organizations.invitations.with_raw_response.create,
            organization_id,
            before=before,
            **fields,
            **self._brand(),
        )

    async def delete_invitation(
        self, organization_id: str, invitation_id: str, *, leaver: bool = False
    ) -> Answer:
        return await self._call(
            "invitations-write",
            self._api.organizations.invitations.with_raw_response.delete,
            organization_id,
            invitation_id,
            leaver=leaver,
        )

    async def invitations(self, organization_id: str, *, leaver: bool = False) -> Answer:
        """Open invitations, the newest 2,000, as a list."""
        found: list[dict[str, Any]] = []
        for page in range(20):
            answer = await self._call(
                "other",
                self._api.organizations.invitations.with_raw_response.list,
                organization_id,
                page=page,
                per_page=100,
                sort="created_at:-1",
                leaver=leaver,
            )
            if answer.verdict != "ok":
                return answer
            found += answer.data
            if len(answer.data) < 100:
                break
        return Answer(verdict="ok", status=200, data=found)

    async def call(
        self,
        group: Group,
        choose: Callable[[AsyncAuth0], Callable[..., Awaitable[Any]]],
        *arguments: Any,
        **named: Any,
    ) -> Answer:
        """A call that few make and that has no method here: ``choose`` picks the SDK's raw one."""
        return await self._call(group, choose(self._api), *arguments, **named)

    @property
    def _people_url(self) -> str:
        """Where the Authentication API answers: it makes links of the domain that it is asked at."""
        branded = self._custom_domain and not self.tenant.base_url
        return f"https://{self._custom_domain}" if branded else self.tenant.url

    def _brand(self) -> dict[str, Any]:
        """For the calls that Auth0 takes the header with: of users, tickets and invitations."""
        if not self._custom_domain:
            return {}
        return {"request_options": CustomDomainHeader(self._custom_domain)}

    def download(self, url: str) -> AbstractAsyncContextManager[httpx.Response]:
        """A file that Auth0 has put somewhere, as it comes. No call: no token, none of our budget."""
        return self._http.stream("GET", url)

    async def _call(
        self,
        group: Group,
        method: Callable[..., Awaitable[Any]],
        *arguments: Any,
        leaver: bool = False,
        before: Before | None = None,
        **named: Any,
    ) -> Answer:
        """``before``: awaited when the call's turn has come; where it is False, none is made."""
        answer = await self._once(group, method, leaver, arguments, named, before)
        if answer.verdict == "unauthorized" and answer.code != "token":
            # A token may have been rotated away: one fresh one, then it is a refusal.
            answer = await self._once(group, method, leaver, arguments, named, before)
        return answer

    async def _once(
        self,
        group: Group,
        method: Callable[..., Awaitable[Any]],
        leaver: bool,
        arguments: Sequence[Any],
        named: Mapping[str, Any],
        before: Before | None = None,
    ) -> Answer:
        try:
            # Before the turn: a call whose token is late must not hold a place in the bucket.
            token = await self._token()
        except TokenRefused as error:
            return Answer(verdict="unauthorized", status=401, code="token", message=str(error))
        except httpx.RequestError as error:
            return Answer(verdict="unreachable", message=f"/oauth/token: {error}")
        if (withheld := await self._turn(group, leaver=leaver)) is not None:
            return Answer(verdict="withheld", message=withheld)
        if before is not None and not await before():
            return Answer(verdict="doubtful", message="this was intended before")
        try:
            async with asyncio.timeout(TIMEOUT):
                answer = _success(await method(*arguments, **named))
        except TokenRefused as error:
            return Answer(verdict="unauthorized", status=401, code="token", message=str(error))
        except Exception as error:
            answer = failed(error)
        if answer.verdict == "unauthorized":
            self._token.invalidate(token)
        if answer.headers is not None:
            self._pacer.learn(
                group,
                answer.headers,
                limited=answer.verdict == "rate-limited",
                epoch=self.clock.now().timestamp(),
                message=answer.message,
            )
        return answer

    async def open_stream(
        self, path: str, query: Sequence[tuple[str, str]], *, silence: float
    ) -> httpx.Response | Answer:
        """A GET whose body is read as it comes, for as long as it comes; to be closed by the caller.

        The opening is a call as any other. ``silence``: seconds between two bytes at most. The Answer
        says why there is no stream.
        """
        try:
            token = await self._token()
        except TokenRefused as error:
            return Answer(verdict="unauthorized", status=401, code="token", message=str(error))
        except httpx.RequestError as error:
            return Answer(verdict="unreachable", message=f"/oauth/token: {error}")
        if (withheld := await self._turn("other", leaver=False)) is not None:
            return Answer(verdict="withheld", message=withheld)
        request = self._http.build_request(
            "GET",
            f"{self.tenant.url}/api/v2/{path}",
            params=list(query),
            headers={"authorization": f"Bearer {token}", "accept": "text/event-stream"},
            timeout=httpx.Timeout(TIMEOUT, connect=3.0, read=silence),
        )
        try:
            async with asyncio.timeout(TIMEOUT):
                response = await self._http.send(request, stream=True)
                if response.status_code == 200:
                    return response
                answer = await _refusal(response)
        except Exception as error:
            return failed(error)
        if answer.verdict == "unauthorized":
            self._token.invalidate(token)
        return answer

    async def _turn(self, group: Group, *, leaver: bool) -> str | None:
        """Waits for a turn to call; why there is none, or None where the call may be made."""
        going, task = self._going, asyncio.current_task()
        if going.stopped or task is None:
            return "stopping"
        if task in going.recalled:
            return ANOTHER_FIRST
        going.waiting.add(task)
        try:
            await self._pacer.turn(group, leaver=leaver, background=self._in_background)
        except (PacerClosed, Recalled):
            return "stopping" if going.stopped else ANOTHER_FIRST
        finally:
            going.waiting.discard(task)
        if not going.may_call():
            return "the lease is too short for a call"
        return None


def _escaped(phrase: str) -> str:
    """Text for within the quotes of a query (Lucene syntax)."""
    return phrase.replace("\\", "\\\\").replace('"', '\\"')


async def _refusal(response: httpx.Response) -> Answer:
    raw = await response.aread()
    await response.aclose()
    try:
        body: Any = orjson.loads(raw)
    except orjson.JSONDecodeError:
        body = raw[:200].decode(errors="replace")
    headers = dict(response.headers)
    return failed(ApiError(status_code=response.status_code, headers=headers, body=body))


def _now(user_ids: Sequence[str] | Callable[[], Sequence[str]]) -> list[str]:
    return list(user_ids() if callable(user_ids) else user_ids)


def _success(raw: Any) -> Answer:
    """A response of the SDK as an Answer; its list operations answer with a pager, without headers."""
    if isinstance(raw, AsyncPager):
        return ok(200, [_plain(item) for item in raw.items or []], {})
    return ok(raw.status_code, _plain(raw.data), raw.headers)


def _plain(data: Any) -> Any:
    """The SDK's models as dicts and lists of dicts, so that no caller depends on its classes."""
    if isinstance(data, list):
        return [_plain(item) for item in data]
    if hasattr(data, "model_dump"):
        return data.model_dump(mode="json", by_alias=True)
    return data
