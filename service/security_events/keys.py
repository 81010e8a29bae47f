"""The keys that sign our tokens: read from what the operator gives, one used, all published. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, RSAKey, import_key

from service.errors import ConfigurationError

SETTING: Final = "PROVISIONER_SET_SIGNING_KEYS"
_CURVES: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_RSA_BITS: Final = range(2048, 8192 + 1)
_MOST: Final = 20
_BLOCK: Final = re.compile(r"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKeys:
    """The first signs. ``published`` are the public halves of all, as JSON Web Keys (RFC 7517)."""

    key: Key
    key_id: str
    algorithm: str
    published: Sequence[Mapping[str, Any]]

    def sign(self, claims: Mapping[str, Any]) -> str:
        """A Security Event Token in compact form, typed as such (RFC 8417 section 2.3)."""
        header = {"alg": self.algorithm, "kid": self.key_id, "typ": "secevent+jwt"}
        return jwt.encode(
            header, dict(claims), self.key, algorithms=[self.algorithm], default_type=None
        )

    def as_document(self) -> dict[str, Any]:
        """The JWK set that receivers verify by."""
        return {"keys": [dict(each) for each in self.published]}


def read_keys(text: str) -> SigningKeys | None:
    """Keys of a JWK set, a JWK or PEM blocks, in order; None for an empty text.

    Raises ConfigurationError, which repeats nothing of what was read.
    """
    if not text.strip():
        return None
    try:
        keys = _of_json(text) if text.lstrip().startswith("{") else _of_pem(text)
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):
        raise ConfigurationError(
            f"{SETTING}: give private keys as PEM without a pass phrase, or as a JWK set."
        ) from None
    if not keys:
        raise ConfigurationError(f"{SETTING}: there is no key in it.")
    if len(keys) > _MOST:
        raise ConfigurationError(f"{SETTING}: more than {_MOST} keys.")
    algorithms = [_algorithm(key, number) for number, key in enumerate(keys, start=1)]
    if not keys[0].is_private:
        raise ConfigurationError(f"{SETTING}: key 1 is public, and the first one has to sign.")
    names = [_name(key) for key in keys]
    if len(set(names)) < len(names):
        raise ConfigurationError(f"{SETTING}: two keys have the same kid.")
    return SigningKeys(
        key=keys[0],
        key_id=names[0],
        algorithm=algorithms[0],
        published=tuple(
            {**_public(key), "kid": name, "alg": algorithm, "use": "sig"}
            for key, name, algorithm in zip(keys, names, algorithms, strict=True)
        ),
    )


def _of_json(text: str) -> list[Key]:
    document = orjson.loads(text)
    found = document.get("keys", [document])
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ValueError("keys is a list of keys")
    return [import_key(each) for each in found]


def _of_pem(text: str) -> list[Key]:
    return [_of_block(block[0]) for block in _BLOCK.finditer(text) if block[1] != "EC PARAMETERS"]


def _of_block(block: str) -> Key:
    """The kind stands in the block's first line in few of the formats: so each is tried."""
    try:
        return ECKey.import_key(block)
    except (JoseError, ValueError, TypeError):
        return RSAKey.import_key(block)


def _algorithm(key: Key, number: int) -> str:
    wanted = key.get("alg")
    match key:
        case ECKey():
            own = _CURVES.get(key.curve_name)
            fits = own is not None and wanted in (None, own)
        case RSAKey():
            own = str(wanted or "RS256")
            fits = own in _RSA and key.raw_value.key_size in _RSA_BITS
        case _:
            own, fits = None, False
    if own is None or not fits:
        raise ConfigurationError(
            f"{SETTING}: key {number} cannot sign tokens: give one of P-256 (as ES256 wants it), P-384"
            " or P-521, or an RSA key of 2048 bits or more."
        )
    return own


def _public(key: Key) -> dict[str, Any]:
    """What makes the public key, and nothing else that the operator's file may hold of it."""
    document = key.as_dict(private=False)
    return {name: document[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in document}


def _name(key: Key) -> str:
    """``kid``, else the key's thumbprint (RFC 7638), which is the same wherever it is read."""
    kid = key.get("kid")
    return kid if isinstance(kid, str) and kid else key.thumbprint()
