"""JWT access tokens (RFC 7519, 9068) of a customer's own issuer: read, then verified. Pure.

Knows no HTTP and no storage; where keys come from is the affair of ``issuers``.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson
from joserfc import jws
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwa import JWSAlgModel
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
from joserfc.jws import JWSRegistry
from joserfc.jwt import JWTClaimsRegistry

from service.organizations import SCOPES, ScimOauth, TokenScope

LONGEST: Final = 8192
"""Characters of a token that are looked at."""
LEEWAY: Final = 60
"""Seconds that the issuer's clock may be off."""
_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA", "Ed25519"),
}
ALGORITHMS: Final = frozenset(_RSA).union(*_CURVES.values())
"""Asymmetric ones alone: a public key must never serve as the secret of a MAC."""
_TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt"})
_CLIENT_CLAIMS: Final = ("azp", "client_id", "appid", "cid")
_MOST_KEYS: Final = 100
_MOST_TRIED: Final = 8
_RSA_BITS: Final = range(2048, 8192 + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessToken:
    """A token as it says of itself: nothing in it is proved yet."""

    text: str
    algorithm: str
    key_id: str | None
    claims: Mapping[str, Any]

    def is_meant_for(self, oauth: ScimOauth) -> bool:
        """Whether it claims to be of this issuer, for this audience, from one of these clients."""
        return self.misses(oauth) is None

    def misses(self, oauth: ScimOauth) -> str | None:
        """What of these it does not claim, in words that repeat nothing of it."""
        if self.claims.get("iss") != oauth.issuer:
            return "iss is not scim_oauth.issuer, to the last slash"
        audience = self.claims.get("aud")
        if oauth.audience not in (audience if isinstance(audience, list) else [audience]):
            return "aud does not hold scim_oauth.audience"
        if not _clients(self.claims) <= set(oauth.clients):
            return "its client is not in scim_oauth.clients"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyingKey:
    """A public key and the algorithms that it may be used with."""

    id: str | None
    algorithms: tuple[str, ...]
    key: Key


def read(text: str) -> AccessToken | None:
    """A token's claims before anything is verified; None where it is none that we could accept."""
    parts = text.split(".")
    if len(text) > LONGEST or len(parts) != 3:
        return None
    header, claims = _object(parts[0]), _object(parts[1])
    if header is None or claims is None:
        return None
    algorithm, key_id, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        return None
    if not isinstance(key_id, str | None):
        return None
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        return None
    if "crit" in header or "b64" in header:  # extensions that must be understood, and are not
        return None
    return AccessToken(text=text, algorithm=algorithm, key_id=key_id, claims=claims)


def keys_of(document: object) -> tuple[VerifyingKey, ...]:
    """The keys of a JWK Set (RFC 7517) that may verify tokens; those of other kinds are left out.

    Raises ValueError where the document is no JWK Set.
    """
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise ValueError("a JWK Set is an object with a list of keys")
    found = (_key(each) for each in listed[:_MOST_KEYS] if isinstance(each, dict))
    return tuple(key for key in found if key is not None)


def candidates(token: AccessToken, keys: Iterable[VerifyingKey]) -> list[VerifyingKey]:
    """The keys that may have signed a token: of its id where it names one, fit for its algorithm."""
    return [
        key for key in keys if token.algorithm in key.algorithms and token.key_id in (None, key.id)
    ][:_MOST_TRIED]


def verify(
    token: AccessToken, keys: Sequence[VerifyingKey], oauth: ScimOauth, now: datetime
) -> frozenset[TokenScope] | None:
    """What a token allows; None where it is not signed by one of these keys, or not valid now."""
    if not token.is_meant_for(oauth) or not any(_is_signed(token, key) for key in keys):
        return None
    if _invalid_claim(token, oauth, now) is not None:
        return None
    return _scopes(token.claims, oauth)


def why_refused(token: AccessToken, oauth: ScimOauth, now: datetime) -> str:
    """Why ``verify`` did not take a token, for the log: nothing that a stranger wrote is repeated."""
    return (
        token.misses(oauth)
        or _invalid_claim(token, oauth, now)
        or "none of the issuer's keys has signed it"
    )


def _invalid_claim(token: AccessToken, oauth: ScimOauth, now: datetime) -> str | None:
    expected = JWTClaimsRegistry(
        now=int(now.timestamp()),
        leeway=LEEWAY,
        iss={"essential": True, "value": oauth.issuer},
        aud={"essential": True, "value": oauth.audience},
        exp={"essential": True},
    )
    try:
        expected.validate(dict(token.claims))
    except JoseError as error:
        return error.description or error.error
    return None


def _clients(claims: Mapping[str, Any]) -> frozenset[str]:
    """Who asked for the token: every claim that names a client counts, so that none can mislead."""
    named = [claims[name] for name in _CLIENT_CLAIMS if name in claims] or [claims.get("sub")]
    return frozenset(name if isinstance(name, str) else "" for name in named)


def _scopes(claims: Mapping[str, Any], oauth: ScimOauth) -> frozenset[TokenScope]:
    if not oauth.scopes:
        return frozenset(SCOPES)
    said = claims.get(oauth.scope_claim)
    names = said.split() if isinstance(said, str) else said if isinstance(said, list) else []
    return frozenset(
        scope for name in names if isinstance(name, str) for scope in oauth.scopes.get(name, ())
    )


class _Registry(JWSRegistry):
    """Our algorithms and no others; headers of any names, and as long as the token lets them be."""

    max_header_length = LONGEST

    def __init__(self) -> None:
        super().__init__(algorithms=ALGORITHMS, strict_check_header=False)

    def get_alg(self, name: str) -> JWSAlgModel:
        if name not in ALGORITHMS:
            raise UnsupportedAlgorithmError(name)
        return self.algorithms[name]  # without the warning that EdDSA has a newer name


_REGISTRY: Final = _Registry()


def _is_signed(token: AccessToken, key: VerifyingKey) -> bool:
    try:
        jws.deserialize_compact(token.text, key.key, registry=_REGISTRY)
    except (JoseError, ValueError, TypeError, RecursionError):
        return False
    return True


def _key(jwk: Mapping[str, Any]) -> VerifyingKey | None:
    kind, curve, told = jwk.get("kty"), jwk.get("crv"), jwk.get("alg")
    fitting = _RSA if kind == "RSA" else _CURVES.get((str(kind), str(curve)), ())
    algorithms = tuple(name for name in fitting if told in (None, name))
    key_id = jwk.get("kid")
    if not algorithms or jwk.get("use", "sig") != "sig" or not isinstance(key_id, str | None):
        return None
    try:
        key = _imported(jwk)
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    return VerifyingKey(id=key_id, algorithms=algorithms, key=key) if key is not None else None


def _imported(jwk: Mapping[str, Any]) -> Key | None:
    """The public part of a key alone, whatever else was published; None for a weak one."""
    match jwk["kty"]:
        case "RSA":
            modulus = int.from_bytes(_decoded(jwk["n"]), "big")
            if modulus.bit_length() not in _RSA_BITS:
                return None
            return RSAKey.import_key({"kty": "RSA", "n": jwk["n"], "e": jwk["e"]})
        case "EC":
            return ECKey.import_key({name: jwk[name] for name in ("kty", "crv", "x", "y")})
        case _:
            return OKPKey.import_key({name: jwk[name] for name in ("kty", "crv", "x")})


def _object(segment: str) -> dict[str, Any] | None:
    try:
        found = orjson.loads(_decoded(segment))
    except (ValueError, binascii.Error):
        return None
    return found if isinstance(found, dict) else None


def _decoded(segment: str) -> bytes:
    return base64.b64decode(segment + "=" * (-len(segment) % 4), b"-_", validate=True)
