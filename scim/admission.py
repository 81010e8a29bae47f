"""Whether a request may go on: who asks, how often, and for what; in this order.

Only a valid token spends its organization's budget, so that nobody spends it for others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from scim.authentication import Authentication
from scim.errors import ScimError
from service.clock import Clock
from service.directory.organizations import Registered
from service.limiting import Buckets, Limit
from service.organizations import TokenScope
from service.strangers import Crowded

_LOG: Final = structlog.stdlib.get_logger(__name__)
_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_TOLD_EVERY: Final = 60.0


def needed(method: str, segments: Sequence[str]) -> TokenScope:
    """What a request needs: a search by POST (RFC 7644 section 3.4.3) reads."""
    if method in _READING or (method == "POST" and segments and segments[-1] == ".search"):
        return "read"
    return "write"


class Admission:
    """``on_refused`` is told each refusal for too many requests: of an ``organization``, or for
    unknown tokens of a ``client`` or of all in this ``process``.
    """

    def __init__(
        self,
        authentication: Authentication,
        *,
        limit: Limit,
        clock: Clock,
        on_refused: Callable[[str], None],
    ) -> None:
        self._authentication = authentication
        self._limit = limit
        self._budgets = Buckets(limit)
        self._clock = clock
        self._on_refused = on_refused
        self._told: dict[str, float] = {}

    async def admit(
        self, organization: str, authorization: bytes | None, *, needs: TokenScope, client: str
    ) -> Registered:
        """The organization that the caller may act for. ``client``: the address that it calls from.

        Raises ScimError 401, 403, 429, 503.
        """
        try:
            caller = await self._authentication.authenticate(organization, authorization, client)
        except Crowded as crowded:
            self._on_refused(crowded.by)
            raise _too_many(
                "Too many tokens that are not valid were sent", crowded.seconds
            ) from None
        if (wait := self._budgets.take(organization, self._clock.monotonic())) > 0:
            self._tell(organization)
            raise _too_many("This organization has sent too many requests", wait)
        if needs not in caller.scopes:
            raise _insufficient(needs)
        return caller.registered

    def spend(self, organization: str, requests: int) -> None:
        """Counts what an admitted request holds beyond itself: the next one may have to wait.

        Raises ScimError 429 where another one, admitted at the same time, has done so already.
        """
        if (wait := self._budgets.spend(organization, requests, self._clock.monotonic())) > 0:
            self._tell(organization)
            raise _too_many("This organization has sent too many requests", wait)

    async def close(self) -> None:
        await self._authentication.close()

    def _tell(self, organization: str) -> None:
        """Counts every refusal, and logs one of an organization's in a minute."""
        self._on_refused("organization")
        now = self._clock.monotonic()
        if now < self._told.get(organization, now):
            return
        if len(self._told) >= 1_000:
            self._told.clear()
        self._told[organization] = now + _TOLD_EVERY
        _LOG.warning(
            "an organization is over its limit of SCIM requests",
            organization=organization,
            rate=self._limit.rate,
            burst=self._limit.burst,
        )


def _too_many(what: str, seconds: float) -> ScimError:
    """RFC 6585 section 4. The header is a whole number: not every client reads fractions."""
    after = max(1, math.ceil(seconds))
    return ScimError(
        429,
        f"{what}: nothing was done; send it again in {after} s.",
        headers=(("Retry-After", str(after)),),
    )


def _insufficient(scope: TokenScope) -> ScimError:
    """RFC 6750 section 3.1."""
    return ScimError(
        403,
        f"This token lacks the scope {scope}: use one that has it.",
        headers=(
            (
                "WWW-Authenticate",
                f'Bearer realm="scim", error="insufficient_scope", scope="{scope}"',
            ),
        ),
    )
