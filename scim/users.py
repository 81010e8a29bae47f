"""The routes of ``/Users``: each write is one transaction, answered when it is durable."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from scim.asynchronous import carry_out
from scim.door import Door, not_modified, registered_now, resource_answer
from scim.http import Answer, Request
from scim.listing import Asked, Found, Window, found_in
from scim.members import asserts
from scim.operations import read_operations
from scim.patch import patch_user
from scim.representation import requested, user_document
from scim.resource import Profile
from service.directory import keys, search, together, users
from service.directory.database import Alike, Transaction
from service.directory.inbox import Received
from service.directory.together import Change
from service.errors import NotFound
from service.organizations import Organization
from service.people import User

Changed = Callable[[User], Mapping[str, Any]]
"""From the user as stored, and locked, to its new resource."""


_LONG: Final = 16 * 1024


def _is_long(request: Request) -> bool:
    """Whether others had better not wait while this is worked through."""
    return len(request.body) > _LONG


class Users:
    """Answers requests for users of the organization that the caller was admitted to."""

    def __init__(self, door: Door) -> None:
        self._door = door

    async def create(self, request: Request, organization: Organization) -> Answer:
        document = request.json()
        received = self._door.received(request, organization, "user.created", document)
        profile = self._profile(organization)
        resource = {"active": True, **profile.normalise(document)}

        def work(transaction: Transaction) -> User:
            registered = registered_now(transaction, organization.name)
            return users.create(transaction, registered, resource, received)

        return await carry_out(
            self._door,
            request,
            received,
            work
            if _is_long(request)
            else Alike(work, together.new(organization, resource, received), together.create),
            lambda user: self._one(profile, request, user, [], status=201),
        )

    async def get(self, request: Request, organization: Organization, user_id: str) -> Answer:
        profile = self._profile(organization)
        wants_groups = requested(request, profile.resource_type).wants("groups")

        def work(transaction: Transaction) -> tuple[User, list[tuple[str, str]]]:
            if wants_groups:
                found = users.get_with_groups(transaction, organization.name, user_id)
            else:
                user = users.get(transaction, organization.name, user_id)
                found = (user, []) if user is not None else None
            if found is None:
                raise NotFound(f"There is no user {user_id} in this organization.")
            return found

        user, groups = await self._door.database.look_up(work)
        if request.is_known(user.version):
            return not_modified(user.version)
        return self._one(profile, request, user, groups)

    async def replace(self, request: Request, organization: Organization, user_id: str) -> Answer:
        document = request.json()
        received = self._door.received(request, organization, "user.replaced", document)
        profile = self._profile(organization)
        resource = profile.normalise(document)
        says_active = asserts(profile, document, "active") and "active" in resource

        def changed(user: User) -> Mapping[str, Any]:
            # Nobody is let in by leaving a word out.
            sent = resource if says_active else {**resource, "active": user.active}
            return profile.replacing(user.resource or {}, sent)

        return await self._change(profile, request, organization, user_id, received, changed)

    async def patch(self, request: Request, organization: Organization, user_id: str) -> Answer:
        profile = self._profile(organization)
        document = request.json()
        operations = read_operations(document, tolerant=profile.tolerant)

        def changed(user: User) -> Mapping[str, Any]:
            return patch_user(profile, user.resource or {}, operations)

        received = self._door.received(request, organization, "user.patched", document)
        return await self._change(profile, request, organization, user_id, received, changed)

    async def delete(self, request: Request, organization: Organization, user_id: str) -> Answer:
        received = self._door.received(request, organization, "user.deleted")

        def work(transaction: Transaction) -> None:
            registered = registered_now(transaction, organization.name)
            request.require_match(users.lock(transaction, organization.name, user_id).version)
            users.delete(transaction, registered, user_id, received)

        return await carry_out(self._door, request, received, work, lambda _: Answer(status=204))

    async def search(
        self, request: Request, organization: Organization, asked: Asked, window: Window
    ) -> Found:
        """A page of them, shown as asked. Raises ScimError 400 for a wrong filter or order."""
        profile = self._profile(organization)
        query, projection = asked.query(profile, window), asked.projection(profile)
        wants_groups = projection.wants("groups")

        def work(
            transaction: Transaction,
        ) -> tuple[search.Page[User], Mapping[str, list[tuple[str, str]]]]:
            if wants_groups:
                return search.users_and_groups(transaction, organization.name, query)
            return search.users(transaction, organization.name, query), {}

        database = self._door.database
        looks = database.look_up if keys.names_one(query) else database.read
        page, groups = await looks(work)
        resources = [
            projection.apply(
                user_document(
                    user, profile.resource_type, request.base_url, groups.get(user.id, ())
                )
            )
            for user in page.items
        ]
        return found_in(page, resources)

    async def _change(
        self,
        profile: Profile,
        request: Request,
        organization: Organization,
        user_id: str,
        received: Received,
        changed: Changed,
    ) -> Answer:
        def matching(user: User) -> Mapping[str, Any]:
            request.require_match(user.version)
            return changed(user)

        def work(transaction: Transaction) -> tuple[User, list[tuple[str, str]]]:
            registered = registered_now(transaction, organization.name)
            user, groups = users.lock_with_groups(transaction, organization.name, user_id)
            after = users.replace(transaction, registered, user, matching(user), received)
            return after, groups

        change = Change(
            organization=organization.name, user_id=user_id, changed=matching, received=received
        )
        return await carry_out(
            self._door,
            request,
            received,
            work if _is_long(request) else Alike(work, change, together.change),
            lambda found: self._one(profile, request, *found),
        )

    def _profile(self, organization: Organization) -> Profile:
        return self._door.users(organization)

    def _one(
        self,
        profile: Profile,
        request: Request,
        user: User,
        groups: list[tuple[str, str]],
        *,
        status: int = 200,
    ) -> Answer:
        document = user_document(user, profile.resource_type, request.base_url, groups)
        location: str = document["meta"]["location"]
        shown = requested(request, profile.resource_type).apply(document)
        return resource_answer(shown, user.version, location, status=status)
