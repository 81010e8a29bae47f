"""Jobs of one tenant: imports and exports of users, started, looked at, their results read.

Sources: Management API reference, jobs; docs on bulk imports and exports. Decides nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
from auth0.management import AsyncAuth0
from auth0.management.types.create_export_users_fields import CreateExportUsersFields

from service.auth0.answers import Answer
from service.auth0.client import Auth0Client
from service.auth0.unpacking import Lines, NotWhole

MOST_BYTES: Final = 500_000
"""Of one file of users. Auth0 refuses requests of more than 512,000, the form around it included."""
MOST_ACTIVE: Final = 2
"""Imports at a time in one tenant."""
TIMEOUT: Final = 7200.0
"""Seconds after which Auth0 gives a job up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Page:
    """A page as the SDK's raw answers are; its lists come without."""

    data: Any
    status_code: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


class Jobs:
    """The job operations of one tenant; each answers as the client's own calls do."""

    def __init__(self, client: Auth0Client) -> None:
        self._client = client
        self._connections: dict[str, str] = {}

    async def connection(self, name: str) -> str | Answer:
        """A connection's id, or the answer that says why there is none."""
        if name not in self._connections:
            answer = await self._client.call(
                "other", lambda api: api.connections.with_raw_response.list, name=name
            )
            if answer.verdict != "ok":
                return answer
            known = {found["name"]: found["id"] for found in answer.data}
            if name not in known:
                return Answer(
                    verdict="not-found", status=404, message=f"no connection named {name}"
                )
            self._connections[name] = known[name]
        return self._connections[name]

    def forget(self, connection: str) -> None:
        """Has the connection looked up again: it may have been made anew under its name."""
        self._connections.pop(connection, None)

    async def import_users(self, connection_id: str, users: bytes, *, label: str) -> Answer:
        """Starts an import that changes nobody who is there already and mails nobody.

        ``users``: a JSON array in UTF-8. ``label``: comes back as the job's ``external_id``.
        """
        return await self._client.call(
            "other",
            lambda api: api.jobs.users_imports.with_raw_response.create,
            users=("users.json", users, "application/json"),
            connection_id=connection_id,
            upsert=False,
            send_completion_email=False,  # else Auth0 mails all owners of the tenant
            external_id=label,
        )

    async def job(self, job_id: str) -> Answer:
        """The job with ``status`` and, where it has ended, ``summary`` or ``location``."""
        return await self._client.call("other", lambda api: api.jobs.with_raw_response.get, job_id)

    async def errors(self, job_id: str) -> Answer:
        """The rows that failed: a list of ``{"user", "errors"}``, empty where none did."""
        answer = await self._client.call(
            "other", lambda api: api.jobs.errors.with_raw_response.get, job_id
        )
        if answer.verdict != "ok" or isinstance(answer.data, list):
            return answer
        if answer.status not in (200, 204):  # the SDK takes any answer without a body for a success
            return Answer(verdict="doubtful", status=answer.status, message="no body")
        return Answer(verdict="ok", status=answer.status, data=[])

    async def export_users(self, connection_id: str, fields: Sequence[Mapping[str, str]]) -> Answer:
        """Starts an export of a connection as JSON Lines. ``fields``: ``name`` and ``export_as``."""
        wanted = [CreateExportUsersFields(**field) for field in fields]
        return await self._client.call(
            "other",
            lambda api: api.jobs.users_exports.with_raw_response.create,
            connection_id=connection_id,
            format="json",
            fields=wanted,
        )

    async def lines(self, location: str) -> AsyncIterator[bytes]:
        """The lines of an export's file, gzipped or not, as they come; its link lives for 60 s.

        Raises httpx.HTTPError, also where the file is not whole.
        """
        async with self._client.download(location) as response:
            response.raise_for_status()
            lines = Lines()
            try:
                async for piece in response.aiter_bytes():
                    for line in lines.take(piece):
                        yield line
                for line in lines.end():
                    yield line
            except NotWhole as error:
                raise httpx.RemoteProtocolError(str(error)) from error

    async def members(self, organization_id: str, after: str | None) -> Answer:
        """A page of an Organization's members with their roles: ``{"members", "next"}``. The list
        lags behind what was written, and ``next`` comes with the last rows too.
        """
        named = {"from_": after} if after else {}

        def choose(api: AsyncAuth0) -> Callable[..., Awaitable[Any]]:
            async def page(*arguments: Any, **given: Any) -> Any:
                pager = await api.organizations.members.list(*arguments, **given)
                return _Page(data=pager.response)

            return page

        return await self._client.call(
            "members-read", choose, organization_id, take=100, fields="user_id,roles", **named
        )
