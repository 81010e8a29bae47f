"""The routes of ``/Groups``. Members are read only to be shown, and changed as a set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from scim.asynchronous import carry_out
from scim.door import Door, not_modified, registered_now, resource_answer
from scim.http import Answer, Request, etag
from scim.listing import Asked, Found, Window, found_in
from scim.members import asserts, members_in
from scim.operations import read_operations
from scim.patch import patch_group
from scim.representation import group_document, requested
from scim.resource import MEMBERS, Profile
from service.directory import groups, search
from service.directory.database import Transaction
from service.directory.groups import Group
from service.directory.inbox import Received
from service.errors import NotFound
from service.organizations import Organization
from service.people import MemberChange

Changed = Callable[[Group], tuple[Mapping[str, Any], MemberChange]]
"""From the group as stored, and locked, to its new resource and what becomes of its members."""


class Groups:
    """Answers requests for groups of the organization that the caller was admitted to."""

    def __init__(self, door: Door) -> None:
        self._door = door

    async def create(self, request: Request, organization: Organization) -> Answer:
        document = request.json()
        received = self._door.received(request, organization, "group.created", document)
        profile = self._profile(organization)
        resource = profile.normalise(document)
        members = members_in(profile, document)

        def work(transaction: Transaction) -> Group:
            registered = registered_now(transaction, organization.name)
            return groups.create(transaction, registered, resource, members, received)

        return await carry_out(
            self._door,
            request,
            received,
            work,
            lambda group: self._one(profile, request, group, sorted(members), status=201),
        )

    async def get(self, request: Request, organization: Organization, group_id: str) -> Answer:
        profile = self._profile(organization)
        wants_members = requested(request, profile.resource_type).wants(MEMBERS)

        def work(transaction: Transaction) -> tuple[Group, list[str]]:
            group = groups.get(transaction, organization.name, group_id)
            if group is None:
                raise NotFound(f"There is no group {group_id} in this organization.")
            if request.is_known(group.version):
                return group, []
            return group, _members(transaction, group_id) if wants_members else []

        group, members = await self._door.database.read(work)
        if request.is_known(group.version):
            return not_modified(group.version)
        return self._one(profile, request, group, members)

    async def replace(self, request: Request, organization: Organization, group_id: str) -> Answer:
        document = request.json()
        received = self._door.received(request, organization, "group.replaced", document)
        profile = self._profile(organization)
        resource = profile.normalise(document)
        # A body that says nothing of members leaves them; null and [] empty the group.
        change = MemberChange()
        if asserts(profile, document, MEMBERS):
            change = MemberChange(replace=True, add=members_in(profile, document))
        wants_members = requested(request, profile.resource_type).wants(MEMBERS)
        return await self._change(
            request,
            organization,
            group_id,
            received,
            lambda group: (profile.replacing(group.resource, resource), change),
            lambda found: self._one(profile, request, *found),
            wants_members=wants_members,
        )

    async def patch(self, request: Request, organization: Organization, group_id: str) -> Answer:
        profile = self._profile(organization)
        document = request.json()
        operations = read_operations(document, tolerant=profile.tolerant)
        # Entra wants 204, and the members of a large group are not to be read for nothing.
        asked = "attributes" in request.query

        def answer(found: tuple[Group, list[str]]) -> Answer:
            if asked:
                return self._one(profile, request, *found)
            return Answer(status=204, headers=(("ETag", etag(found[0].version)),))

        return await self._change(
            request,
            organization,
            group_id,
            self._door.received(request, organization, "group.patched", document),
            lambda group: patch_group(profile, group.resource, operations),
            answer,
            wants_members=asked and requested(request, profile.resource_type).wants(MEMBERS),
        )

    async def delete(self, request: Request, organization: Organization, group_id: str) -> Answer:
        received = self._door.received(request, organization, "group.deleted")

        def work(transaction: Transaction) -> None:
            registered = registered_now(transaction, organization.name)
            request.require_match(groups.lock(transaction, organization.name, group_id).version)
            groups.remove(transaction, registered, group_id, received)

        return await carry_out(self._door, request, received, work, lambda _: Answer(status=204))

    async def search(
        self, request: Request, organization: Organization, asked: Asked, window: Window
    ) -> Found:
        """A page of them, shown as asked. Raises ScimError 400 for a wrong filter or order."""
        profile = self._profile(organization)
        query, projection = asked.query(profile, window), asked.projection(profile)
        wants_members = projection.wants(MEMBERS)

        def work(transaction: Transaction) -> tuple[search.Page[Group], dict[str, list[str]]]:
            page = search.groups_page(transaction, organization.name, query)
            ids = [group.id for group in page.items] if wants_members else []
            return page, groups.members_of(transaction, ids)

        page, members = await self._door.database.read(work)
        resources = [
            projection.apply(
                group_document(
                    group, profile.resource_type, request.base_url, members.get(group.id, ())
                )
            )
            for group in page.items
        ]
        return found_in(page, resources)

    async def _change(
        self,
        request: Request,
        organization: Organization,
        group_id: str,
        received: Received,
        changed: Changed,
        answer: Callable[[tuple[Group, list[str]]], Answer],
        *,
        wants_members: bool,
    ) -> Answer:
        def work(transaction: Transaction) -> tuple[Group, list[str]]:
            registered = registered_now(transaction, organization.name)
            group = groups.lock(transaction, organization.name, group_id)
            request.require_match(group.version)
            resource, members = changed(group)
            after = groups.change(transaction, registered, group, resource, members, received)
            if not wants_members:
                return after, []
            # Who is all that is left is known: the group of a large PUT is not read again.
            return after, sorted(members.add) if members.replace else _members(
                transaction, after.id
            )

        return await carry_out(self._door, request, received, work, answer)

    def _profile(self, organization: Organization) -> Profile:
        return self._door.groups(organization)

    def _one(
        self,
        profile: Profile,
        request: Request,
        group: Group,
        members: list[str],
        *,
        status: int = 200,
    ) -> Answer:
        document = group_document(group, profile.resource_type, request.base_url, members)
        location: str = document["meta"]["location"]
        shown = requested(request, profile.resource_type).apply(document)
        return resource_answer(shown, group.version, location, status=status)


def _members(transaction: Transaction, group_id: str) -> list[str]:
    return groups.members_of(transaction, [group_id])[group_id]
