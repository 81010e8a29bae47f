"""Who may send events over HTTP, and how many: tokens, and the bounds of strangers and organizations.

Only a valid token spends its organization's budget, so that nobody spends it for others.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import structlog

from consumers.refusing import Refusal
from service.clock import Clock
from service.directory import credentials, organizations
from service.directory.credentials import Credential
from service.directory.database import Database, Transaction
from service.limiting import UNLIMITED, Buckets, Limit
from service.organizations import SLUG
from service.strangers import Crowded, Strangers

_SLUG: Final = re.compile(SLUG)
_TOKEN: Final = re.compile(r"ap_[0-9a-f]{1,64}_[A-Za-z0-9_-]{1,200}")
_MOST_KNOWN: Final = 10_000
_TOLD: Final = Limit(rate=1 / 60, burst=1)
_log = structlog.stdlib.get_logger(__name__)


class Callers:
    """Shared by the doors for events, so that their bounds are. ``limit`` counts events.

    ``on_use`` is told the id of each token that was found valid; ``on_refused`` each refusal for too
    much: of an ``organization``, or for wrong tokens of a ``client`` or of all in this ``process``.
    """

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        pepper: bytes,
        limit: Limit = UNLIMITED,
        on_use: Callable[[str], None] = lambda _: None,
        on_refused: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._pepper = pepper
        self._limit = limit
        self._budgets = Buckets(limit)
        self._strangers = Strangers(clock)
        self._on_use = on_use
        self._on_refused = on_refused
        self._told = Buckets(_TOLD)
        self._known: dict[bytes, None] = {}
        """Tokens that were valid when they came last: they wait behind nobody."""

    async def authorize(self, organization: str, authorization: str, client: str) -> None:
        """Lets a request pass that may bring events, the first of which it counts.

        ``client``: the address of its connection. Raises Refusal: one answer to every wrong token,
        so that nobody learns which organizations there are.
        """
        credential = await self._credential(organization, authorization, client)
        if credential is None:
            raise Refusal(
                HTTPStatus.UNAUTHORIZED,
                "unauthorized",
                "Send the bearer token of this organization's events.",
                headers={"WWW-Authenticate": 'Bearer realm="events"'},
            )
        self._on_use(credential.id)
        if (wait := self._budgets.take(organization, self._clock.monotonic())) > 0:
            raise self._over(organization, wait)
        if "write" not in credential.scopes:
            raise Refusal(
                HTTPStatus.FORBIDDEN,
                "insufficient_scope",
                "This token lacks the scope write: use one that has it.",
                headers={
                    "WWW-Authenticate": 'Bearer realm="events", error="insufficient_scope",'
                    ' scope="write"'
                },
            )
        if await self._database.read(lambda tx: organizations.find(tx, organization)) is None:
            raise Refusal(
                HTTPStatus.NOT_FOUND, "unknown_organization", "There is no such organization."
            )

    def spend(self, organization: str, events: int) -> None:
        """Counts what an authorized request holds: the next one may have to wait.

        Raises Refusal where another one, authorized at the same time, has done so already.
        """
        if events > 1:
            wait = self._budgets.spend(organization, events - 1, self._clock.monotonic())
            if wait > 0:
                raise self._over(organization, wait)

    async def _credential(
        self, organization: str, authorization: str, client: str
    ) -> Credential | None:
        token = _token_of(authorization)
        if not token or not _SLUG.fullmatch(organization):
            return None
        # Only a digest is kept, so that no token lies in memory longer than its request.
        digest = hashlib.sha256(f"{organization}\n{token}".encode()).digest()
        try:
            return await self._verified(organization, token, digest, client)
        except Crowded as crowded:
            self._on_refused(crowded.by)
            raise _too_many(
                "Too many tokens that are not valid were sent", crowded.seconds
            ) from None

    async def _verified(
        self, organization: str, token: str, digest: bytes, client: str
    ) -> Credential | None:
        """Looked at anew each time: a revoked token opens nothing any more. Raises Crowded."""

        def work(transaction: Transaction) -> Credential | None:
            return credentials.verify(
                transaction,
                token,
                organization=organization,
                door="events",
                pepper=self._pepper,
                now=self._clock.now(),
            )

        stranger = digest not in self._known
        if not stranger:
            credential = await self._database.read(work)
        elif self._strangers.is_wrong(digest):
            return None
        else:
            self._strangers.charge(client)
            async with self._strangers.look():
                credential = await self._database.read(work)
        self._known.pop(digest, None)
        if credential is None:
            self._strangers.remember_wrong(digest)
            return None
        if stranger:
            self._strangers.give_back(client)
        self._known[digest] = None  # comes last now
        if len(self._known) > _MOST_KNOWN:
            del self._known[next(iter(self._known))]
        return credential

    def _over(self, organization: str, wait: float) -> Refusal:
        """Counts every refusal, and logs one of an organization's in a minute."""
        self._on_refused("organization")
        if self._told.take(organization, self._clock.monotonic()) == 0:
            _log.warning(
                "events.over_limit",
                organization=organization,
                rate=self._limit.rate,
                burst=self._limit.burst,
            )
        return _too_many("This organization has sent too many events", wait)


def _too_many(what: str, seconds: float) -> Refusal:
    """RFC 6585 section 4. The header is a whole number: not every client reads fractions."""
    after = max(1, math.ceil(seconds))
    return Refusal(
        HTTPStatus.TOO_MANY_REQUESTS,
        "too_many_requests",
        f"{what}: nothing was stored; send it again in {after} s.",
        headers={"Retry-After": str(after)},
    )


def _token_of(authorization: str) -> str:
    """The bearer token, or the password of HTTP Basic (RFC 7617): many webhooks know only that. Empty
    where there is none.
    """
    scheme, _, given = authorization.partition(" ")
    given = given.strip(" ")
    if scheme.lower() == "basic":
        try:
            _, _, given = base64.b64decode(given, validate=True).decode().partition(":")
        except ValueError:
            return ""
    elif scheme.lower() != "bearer":
        return ""
    return given if _TOKEN.fullmatch(given) else ""
