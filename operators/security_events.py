"""Security Event Tokens as an installation sends them: its keys and issuer, what it publishes of both,
and what operators see and do about streams.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from operators import declaring
from service.auth0.inspection import Finding
from service.configuration import Settings, read_secret
from service.directory import audit, streams
from service.directory.database import Transaction
from service.directory.streams import Stream
from service.errors import ConfigurationError, NotFound
from service.ids import new_id
from service.organizations import Organization
from service.security_events.keys import SETTING, SigningKeys, read_keys
from service.urls import is_trustworthy_url

_PUSH: Final = "urn:ietf:rfc:8935"
_FRESH: Final = {"Cache-Control": "public, max-age=300"}


def signing_keys(settings: Settings) -> SigningKeys | None:
    """The keys of this installation; None where it sends no tokens.

    Raises ConfigurationError for keys that cannot sign, and where nobody could name their issuer.
    """
    keys = read_keys(settings.set_signing_keys.get_secret_value())
    if keys is not None:
        issuer(settings)
    return keys


def issuer(settings: Settings) -> str:
    """``iss`` of our tokens (SSF 1.0 section 6.1). Raises ConfigurationError where there is none."""
    url = settings.public_url.rstrip("/")
    if not url or not is_trustworthy_url(url) or "?" in url:
        raise ConfigurationError(
            f"{SETTING} needs PROVISIONER_PUBLIC_URL: the https:// URL that receivers find our keys by."
        )
    return url


def routes(settings: Settings, keys: SigningKeys | None) -> list[BaseRoute]:
    """The key set and the transmitter's metadata, to be mounted at the root; none without keys."""
    if keys is None:
        return []
    key_set, metadata = keys.as_document(), transmitter_metadata(issuer(settings))

    async def jwks(_: Request) -> Response:
        return JSONResponse(key_set, headers=_FRESH, media_type="application/jwk-set+json")

    async def configuration(_: Request) -> Response:
        return JSONResponse(metadata, headers=_FRESH)

    place = "/.well-known/ssf-configuration"
    found: list[BaseRoute] = [
        Route("/.well-known/jwks.json", jwks, methods=["GET"]),
        Route(place, configuration, methods=["GET"]),
    ]
    if path := issuer(settings).partition("://")[2].partition("/")[2]:
        found.append(Route(f"{place}/{path}", configuration, methods=["GET"]))
    return found


def transmitter_metadata(issuer: str) -> dict[str, Any]:
    """SSF 1.0 section 6.1. Streams are declared by operators: there are no endpoints to manage them."""
    return {
        "spec_version": "1_0",
        "issuer": issuer,
        "jwks_uri": f"{issuer}/.well-known/jwks.json",
        "delivery_methods_supported": [_PUSH],
        "default_subjects": "ALL",
    }


# Streams


def resume(
    transaction: Transaction, organization: str, *, skip: bool, actor: str, now: datetime
) -> str | None:
    """Lets a stopped stream go on; the ``jti`` of the event that is left out. NotFound, Refused."""
    declaring.the_organization(transaction, organization)
    skipped = streams.resume(transaction, organization, skip=skip, now=now)
    left_out = {"jti": skipped.jti, "event": skipped.uri} if skipped is not None else None
    audit.record(
        transaction,
        actor=actor,
        action="stream.resume",
        now=now,
        organization=organization,
        subject=organization,
        detail={"skipped": left_out} if left_out else {},
    )
    return skipped.jti if skipped is not None else None


def verify(transaction: Transaction, organization: str, *, actor: str, now: datetime) -> None:
    """Has a stream send a verification event. Raises NotFound."""
    registered = declaring.the_organization(transaction, organization)
    if registered.organization.security_events is None:
        raise NotFound(f"{organization} declares no security_events.")
    streams.verify(transaction, organization, new_id(now), now)
    audit.record(
        transaction,
        actor=actor,
        action="stream.verify",
        now=now,
        organization=organization,
        subject=organization,
    )


def findings(
    settings: Settings, declared: Sequence[Organization], known: Sequence[Stream]
) -> Iterable[Finding]:
    """For ``doctor``: whether the tokens that organizations ask for can be signed and arrive."""
    asking = [each for each in declared if each.security_events is not None]
    try:
        keys, problem = signing_keys(settings), ""
    except ConfigurationError as error:
        keys, problem = None, str(error)
    if problem or (asking and keys is None):
        names = ", ".join(each.name for each in asking)
        yield Finding(
            check="security events",
            verdict="failed",
            detail=problem or f"no key signs what {names} asked for: nothing is sent, all is kept",
            advice="openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out FILE, then set"
            f" {SETTING}_FILE and PROVISIONER_PUBLIC_URL for scim and publisher.",
        )
    elif keys is not None:
        yield Finding(
            check="security events",
            verdict="ok",
            detail=f"signed with {keys.algorithm} by {keys.key_id}, keys published: {len(keys.published)}",
        )
    states = {each.organization: each for each in known}
    for organization in asking:
        if (stream := states.get(organization.name)) is not None:
            yield _finding(organization, stream)


def _finding(organization: Organization, stream: Stream) -> Finding:
    check = f"stream of {organization.name}"
    error = stream.error or {}
    told = f"{error.get('code')}: {error.get('message')}"
    if stream.stopped_at is not None:
        return Finding(
            check=check,
            verdict="failed",
            detail=f"stopped since {stream.stopped_at}, {stream.waiting} events wait. {told}",
            advice="Mend it with the receiver, then: provisioner org security-events resume"
            f" {organization.name}.",
        )
    if stream.attempts:
        return Finding(
            check=check,
            verdict="failed",
            detail=f"{stream.waiting} events wait after {stream.attempts} pushes in vain. {told}",
            advice="Look at the receiver: it is asked again until it takes them.",
        )
    declared = organization.security_events
    if declared is not None and declared.credential_file:
        try:
            read_secret(Path(declared.credential_file), "security_events.credential_file")
        except ConfigurationError as unreadable:
            return Finding(
                check=check,
                verdict="failed",
                detail=str(unreadable),
                advice="Mount the file, or correct credential_file.",
            )
    return Finding(check=check, verdict="ok", detail=f"{stream.waiting} events wait")
