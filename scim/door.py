"""What the routes of users and groups share: profiles, accepted events, transactions of one caller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scim.extensions import Catalogues
from scim.http import Answer, Request, etag
from scim.passwords import storable
from scim.resource import Profile
from scim.schema import ResourceType
from service.clock import Clock
from service.directory import organizations
from service.directory.database import Database, Transaction
from service.directory.inbox import Received
from service.directory.organizations import Registered
from service.errors import NotFound
from service.organizations import Organization


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """The parts that routes work with."""

    database: Database
    clock: Clock
    catalogues: Catalogues

    def users(self, organization: Organization) -> Profile:
        return self._profile(organization, self.catalogues.of(organization).user)

    def groups(self, organization: Organization) -> Profile:
        return self._profile(organization, self.catalogues.of(organization).group)

    def _profile(self, organization: Organization, resource_type: ResourceType) -> Profile:
        return Profile(
            resource_type=resource_type, tolerant=organization.scim_profile == "tolerant"
        )

    def received(
        self, request: Request, organization: Organization, event: str, document: Any = None
    ) -> Received:
        """The event of a write; its body without passwords and what is never to be returned."""
        secret = self.catalogues.of(organization).secret
        body = storable(document, secret) if document is not None else None
        trace = request.trace
        return Received(
            door="scim",
            source="scim",
            type=f"scim.{event}",
            at=self.clock.now(),
            id=request.later.txn if request.later is not None else None,
            body=body,
            correlation_id=request.correlation_id,
            traceparent=trace.parent,
            tracestate=trace.state,
        )


def registered_now(transaction: Transaction, organization: str) -> Registered:
    """The organization as this transaction sees it: a mapping changed a moment ago counts."""
    registered = organizations.find(transaction, organization)
    if registered is None:
        raise NotFound(f"There is no organization {organization}.")
    return registered


def resource_answer(
    document: Mapping[str, Any], version: int, location: str, *, status: int = 200
) -> Answer:
    return Answer(
        status=status,
        document=document,
        headers=(("Location", location), ("ETag", etag(version))),
    )


def not_modified(version: int) -> Answer:
    return Answer(status=304, headers=(("ETag", etag(version)),))
