"""Which tokens end soon, or ended lately, so that a door stays shut for whoever uses them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from service.auth0.inspection import Finding
from service.directory.credentials import Credential

NOTICE: Final = timedelta(days=14)
"""How long before and after its end a token is told of."""


def findings(tokens: Sequence[Credential], now: datetime) -> Iterable[Finding]:
    """One for each token of an organization that ends with nothing in its place.

    In its place is another of the same door that may do as much, lasts longer than we look, and has
    been used: a new one that nobody was given does not help.
    """
    for token in tokens:
        if token.revoked_at is not None or token.expires_at is None:
            continue
        if abs(token.expires_at - now) > NOTICE or any(_replaces(o, token, now) for o in tokens):
            continue
        over = token.expires_at <= now
        if over and token.last_used_at is None:
            continue  # nobody misses it
        yield Finding(
            check=f"{token.door} token {token.id} of {token.organization}",
            verdict="failed",
            detail=f"{'ended' if over else 'ends'} {token.expires_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
            advice=_advice(token, tokens, now),
        )


def _advice(token: Credential, tokens: Sequence[Credential], now: datetime) -> str:
    """Names the new token where there is one: a door has two live ones at most."""
    waiting = [o.id for o in tokens if o.id != token.id and _may_replace(o, token, now)]
    if waiting:
        return f"Have its user take {waiting[-1]} instead, which nobody has used yet."
    return f"Give its user another: provisioner org token create {token.organization} --door {token.door}."


def _replaces(other: Credential, token: Credential, now: datetime) -> bool:
    return other.last_used_at is not None and _may_replace(other, token, now)


def _may_replace(other: Credential, token: Credential, now: datetime) -> bool:
    return (
        other.door == token.door
        and other.is_live(now + NOTICE)
        and set(other.scopes) >= set(token.scopes)
    )
