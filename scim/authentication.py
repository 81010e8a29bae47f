"""Who may speak for an organization: bearer tokens, remembered for a moment once they were good.

Answers the same for a wrong token and for an organization that does not exist.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from scim.errors import ScimError
from service.clock import Clock
from service.directory import credentials, organizations
from service.directory.database import Database, Transaction
from service.directory.organizations import Registered
from service.organizations import SLUG

_BEARER: Final = re.compile(r"bearer +(ap_[0-9a-f]{1,64}_[A-Za-z0-9_-]{1,200}) *", re.IGNORECASE)
_SLUG: Final = re.compile(SLUG)
_REMEMBERED_FOR: Final = 3.0
_MOST_REMEMBERED: Final = 10_000


class Authentication:
    """Verifies tokens; a revoked one opens nothing any more after three seconds."""

    def __init__(self, *, database: Database, clock: Clock, pepper: bytes) -> None:
        self._database = database
        self._clock = clock
        self._pepper = pepper
        self._known: dict[bytes, tuple[float, Registered]] = {}

    async def admit(self, organization: str, authorization: str | None) -> Registered:
        """The organization that the token opens. Raises ScimError 401, 403 if decommissioned."""
        found = _BEARER.fullmatch(authorization or "")
        if found is None or not _SLUG.fullmatch(organization):
            raise _unauthorized()
        # Only a digest is kept, so that no token lies in memory longer than its request.
        key = hashlib.sha256(f"{organization} {found[1]}".encode()).digest()
        now = self._clock.monotonic()
        remembered = self._known.get(key)
        if remembered is not None and now < remembered[0]:
            return remembered[1]
        registered = await self._verify(organization, found[1])
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        self._known[key] = (now + _REMEMBERED_FOR, registered)
        return registered

    async def _verify(self, organization: str, token: str) -> Registered:
        def work(transaction: Transaction) -> Registered | None:
            valid = credentials.is_valid(
                transaction,
                token,
                organization=organization,
                door="scim",
                pepper=self._pepper,
                now=self._clock.now(),
            )
            return organizations.find(transaction, organization) if valid else None

        registered = await self._database.read(work)
        if registered is None:
            raise _unauthorized()
        if registered.decommissioned:
            raise ScimError(403, "This organization is decommissioned: it takes no more changes.")
        return registered


def _unauthorized() -> ScimError:
    return ScimError(
        401,
        "Send a valid bearer token of this organization in the Authorization header.",
        headers=(("WWW-Authenticate", 'Bearer realm="scim"'),),
    )
