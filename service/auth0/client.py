"""The operations of Auth0's Management API that accounts need, each with its endpoint group.

Knows neither turns nor tokens (see calls), nor what is done about an Answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from service.auth0.answers import Answer
from service.auth0.authentication import Before, change_password
from service.auth0.calls import PacedCalls


class Auth0Client(PacedCalls):
    """The calls that lanes make. Every method returns an Answer and raises nothing of Auth0's."""

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

    async def users_with_identity(
        self, identities: Sequence[str], *, leaver: bool = False
    ) -> Answer:
        """Users of whom one of these identities, ids without their providers, is a part. Search lags."""
        return await self._call(
            "users-read",
            self._api.users.with_raw_response.list,
            q=" OR ".join(f'identities.user_id:"{_escaped(each)}"' for each in identities),
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

    async def member_roles(self, organization_id: str, user_id: str) -> Answer:
        """The names of the roles that a member has in an Organization, as a list."""
        names: list[str] = []
        for page in range(20):
            answer = await self._call(
                "members-read",
                self._api.organizations.members.roles.with_raw_response.list,
                organization_id,
                user_id,
                page=page,
                per_page=100,
            )
            if answer.verdict != "ok":
                return answer
            names += [role["name"] for role in answer.data]
            if len(answer.data) < 100:  # fifty roles are the most that a member can have
                break
        return Answer(verdict="ok", status=200, data=names)

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


def _escaped(phrase: str) -> str:
    """Text for within the quotes of a query (Lucene syntax)."""
    return phrase.replace("\\", "\\\\").replace('"', '\\"')


def _now(user_ids: Sequence[str] | Callable[[], Sequence[str]]) -> list[str]:
    return list(user_ids() if callable(user_ids) else user_ids)
