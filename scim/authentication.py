"""Who speaks for an organization: tokens of ours, and JWTs of its own issuer where it has one.

Answers the same for a wrong token and for an organization that does not exist.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog

from scim import access_tokens
from scim.access_tokens import AccessToken
from scim.errors import ScimError
from scim.issuers import Issuers, Unreachable
from service.clock import Clock
from service.directory import credentials, organizations
from service.directory.credentials import Credential
from service.directory.database import Database, Transaction, Work
from service.directory.organizations import Registered
from service.limiting import Buckets, Limit
from service.organizations import SLUG, ScimOauth, TokenScope
from service.strangers import Strangers

_LOG: Final = structlog.stdlib.get_logger(__name__)
T = TypeVar("T")
_BEARER: Final = re.compile(rb"bearer +([A-Za-z0-9._~+/=-]+) *", re.IGNORECASE)
_SENT: Final = re.compile(rb"bearer\b", re.IGNORECASE)
_OURS: Final = re.compile(r"ap_[0-9a-f]{1,64}_[A-Za-z0-9_-]{1,200}")
_SLUG: Final = re.compile(SLUG)
_REMEMBERED_FOR: Final = 3.0
_MOST_REMEMBERED: Final = 10_000
_TOLD: Final = Limit(rate=1 / 60, burst=1)
"""How often the log says of an organization why a JWT was refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who has shown a valid token, and what it allows."""

    registered: Registered
    scopes: frozenset[TokenScope]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asking:
    """One token that is being looked at. ``stranger``: it has not opened anything yet."""

    digest: bytes
    organization: str
    token: str
    jwt: AccessToken | None
    stranger: bool


class Authentication:
    """Verifies tokens; a revoked one opens nothing any more after three seconds.

    A token that was good before is looked at again without waiting behind those that never were.
    """

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        pepper: bytes,
        issuers: Issuers,
        on_use: Callable[[str], None],
    ) -> None:
        self._database = database
        self._clock = clock
        self._pepper = pepper
        self._issuers = issuers
        self._on_use = on_use
        self._strangers = Strangers(clock)
        self._told = Buckets(_TOLD)
        self._known: dict[bytes, tuple[float, Caller]] = {}
        self._looking: dict[bytes, asyncio.Task[Caller | None]] = {}

    async def authenticate(
        self, organization: str, authorization: bytes | None, client: str
    ) -> Caller:
        """The caller that this header belongs to. ``client``: the address of its connection.

        Raises ScimError 401; 403 where the organization is decommissioned; 503 where its issuer
        does not answer; Crowded.
        """
        if authorization is None:
            raise _unauthorized(None)
        # Only a digest is kept, so that no token lies in memory longer than its request.
        digest = hashlib.sha256(
            organization.encode("utf-8", "replace") + b"\n" + authorization
        ).digest()
        known = self._known.get(digest)
        if known is not None and self._clock.monotonic() < known[0]:
            caller: Caller | None = known[1]
        else:
            asking = _asked(digest, organization, authorization, stranger=known is None)
            if asking is None or self._strangers.is_wrong(digest):
                raise _unauthorized(authorization)
            caller = await self._look_once(asking, client)
        if caller is None:
            raise _unauthorized(authorization)
        if caller.registered.decommissioned:
            raise ScimError(403, "This organization is decommissioned: it takes no more changes.")
        return caller

    async def close(self) -> None:
        await self._issuers.close()

    async def _look_once(self, asking: _Asking, client: str) -> Caller | None:
        """However many requests bring a token at the same time, it is looked at once."""
        looking = self._looking.get(asking.digest)
        if looking is None:
            if asking.stranger:
                self._strangers.charge(client)
            looking = asyncio.create_task(self._look(asking, client))
            self._looking[asking.digest] = looking
            looking.add_done_callback(lambda _: self._looking.pop(asking.digest, None))
        return await asyncio.shield(looking)

    async def _look(self, asking: _Asking, client: str) -> Caller | None:
        caller = await (self._by_jwt if asking.jwt else self._by_token)(asking)
        if caller is None:
            self._known.pop(asking.digest, None)
            self._strangers.remember_wrong(asking.digest)
            return None
        if asking.stranger:
            self._strangers.give_back(client)
        self._known.pop(asking.digest, None)  # so that it comes last
        self._known[asking.digest] = (self._clock.monotonic() + _REMEMBERED_FOR, caller)
        if len(self._known) > _MOST_REMEMBERED:
            del self._known[next(iter(self._known))]
        return caller

    async def _by_token(self, asking: _Asking) -> Caller | None:
        def work(transaction: Transaction) -> tuple[Credential, Registered] | None:
            credential = credentials.verify(
                transaction,
                asking.token,
                organization=asking.organization,
                door="scim",
                pepper=self._pepper,
                now=self._clock.now(),
            )
            if credential is None:
                return None
            registered = organizations.find(transaction, asking.organization)
            return (credential, registered) if registered is not None else None

        found = await self._read(work, asking)
        if found is None:
            return None
        credential, registered = found
        self._on_use(credential.id)
        return Caller(registered=registered, scopes=frozenset(credential.scopes))

    async def _by_jwt(self, asking: _Asking) -> Caller | None:
        registered = await self._read(
            lambda transaction: organizations.find(transaction, asking.organization), asking
        )
        token = asking.jwt
        if registered is None or token is None:
            return None
        oauth = registered.organization.scim_oauth
        if oauth is None:
            return None
        scopes = await self._verified(token, oauth)
        if scopes is None:
            self._tell(asking.organization, token, oauth)
            return None
        return Caller(registered=registered, scopes=scopes)

    async def _verified(self, token: AccessToken, oauth: ScimOauth) -> frozenset[TokenScope] | None:
        if not token.is_meant_for(oauth):
            return None
        try:
            keys = await self._issuers.keys_for(oauth, token)
        except Unreachable:
            raise ScimError(
                503,
                "The issuer of this token does not answer, so it cannot be verified: try again.",
                headers=(("Retry-After", "10"),),
            ) from None
        return access_tokens.verify(token, keys, oauth, self._clock.now())

    def _tell(self, organization: str, token: AccessToken, oauth: ScimOauth) -> None:
        """The caller is told nothing: whoever runs this must be able to find out why."""
        if self._told.take(organization, self._clock.monotonic()) > 0:
            return
        because = access_tokens.why_refused(token, oauth, self._clock.now())
        _LOG.warning("an access token was refused", organization=organization, because=because)

    async def _read(self, work: Work[T], asking: _Asking) -> T:
        if not asking.stranger:
            return await self._database.look_up(work)
        async with self._strangers.look():
            return await self._database.read(work)


def _asked(
    digest: bytes, organization: str, authorization: bytes, *, stranger: bool
) -> _Asking | None:
    """None where no organization could take this, so that there is nothing to look at."""
    found = _BEARER.fullmatch(authorization)
    if found is None or not _SLUG.fullmatch(organization):
        return None
    token, jwt = found[1].decode(), None
    if token.startswith("ap_"):
        if not _OURS.fullmatch(token):
            return None
    elif (jwt := access_tokens.read(token)) is None:
        return None
    return _Asking(
        digest=digest, organization=organization, token=token, jwt=jwt, stranger=stranger
    )


def _unauthorized(authorization: bytes | None) -> ScimError:
    """RFC 6750 section 3.1: an error is named only to who sent a token."""
    sent = authorization is not None and _SENT.match(authorization)
    error = ', error="invalid_token"' if sent else ""
    return ScimError(
        401,
        "Send a valid bearer token of this organization in the Authorization header.",
        headers=(("WWW-Authenticate", f'Bearer realm="scim"{error}'),),
    )
