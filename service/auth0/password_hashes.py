"""The forms of password hashes that Auth0 imports: what is wrong with one, in words that repeat no hash.

Source: docs on the schema of bulk imports. Pure.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, Final, cast

_BCRYPT: Final = re.compile(r"\$2[ab]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")
_ARGON2: Final = re.compile(
    r"\$argon2(i|d|id)\$(v=\d+\$)?m=\d+,t=\d+,p=\d+(,[a-z]+=[^,$]+)*\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+"
)
_PBKDF2: Final = re.compile(r"\$pbkdf2-[a-z0-9]+\$i=\d+(,l=\d+)?\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+")
_LDAP: Final = re.compile(r"\{(S?MD5|S?SHA[0-9]*)\}[A-Za-z0-9+/]+={0,2}", re.IGNORECASE)
_LENGTHS: Final = {
    "md4": 16,
    "md5": 16,
    "ripemd160": 20,
    "sha1": 20,
    "sha224": 28,
    "sha256": 32,
    "sha384": 48,
    "sha512": 64,
    "whirlpool": 64,
}
"""Bytes of a digest."""
_PLAIN: Final = frozenset({"md4", "md5", "sha1", "sha256", "sha512"})
_WHOLE: Final = {
    "argon2": (_ARGON2, "a PHC string such as $argon2id$v=19$m=…,t=…,p=…$salt$hash"),
    "bcrypt": (_BCRYPT, "a bcrypt hash, $2a$ or $2b$ and 53 characters after the cost"),
    "ldap": (_LDAP, "an RFC 2307 value such as {SSHA}…; {CRYPT} cannot be imported"),
    "pbkdf2": (_PBKDF2, "a PHC string such as $pbkdf2-sha256$i=…,l=…$salt$hash"),
}
"""Algorithms whose value holds its salt and parameters."""
ALGORITHMS: Final = (*sorted({*_PLAIN, *_WHOLE, "hmac", "scrypt"}),)
_PARTS: Final = frozenset(
    {"algorithm", "hash", "salt", "password", "keylen", "cost", "blockSize", "parallelization"}
)


def problem_of_bcrypt(value: object) -> str | None:
    """What to mend in a ``password_hash``; None where it is well."""
    if isinstance(value, str) and _BCRYPT.fullmatch(value):
        return None
    if isinstance(value, str) and value.startswith("$2y$"):
        return "password_hash: write $2b$ for $2y$, which is the same hash"
    return f"password_hash is to be {_WHOLE['bcrypt'][1]}; for others give custom_password_hash"


def problem_of_custom(value: object) -> str | None:
    """What to mend in a ``custom_password_hash``; None where it is well."""
    if not isinstance(value, dict):
        return "custom_password_hash is an object with algorithm and hash"
    custom = cast("dict[str, Any]", value)
    if unknown := sorted(set(custom) - _PARTS):
        return f"custom_password_hash: Auth0 knows no {', '.join(map(repr, unknown))}"
    algorithm = custom.get("algorithm")
    if algorithm not in ALGORITHMS:
        return f"custom_password_hash.algorithm is one of {', '.join(ALGORITHMS)}"
    hashed = custom.get("hash")
    if not isinstance(hashed, dict):
        return "custom_password_hash.hash is an object with value and encoding"
    return _problem_of_hash(custom, algorithm, cast("dict[str, Any]", hashed)) or _problem_of_salt(
        custom.get("salt"), needed=algorithm == "scrypt"
    )


def _problem_of_hash(
    custom: Mapping[str, Any], algorithm: str, hashed: Mapping[str, Any]
) -> str | None:
    value, encoding = hashed.get("value"), hashed.get("encoding")
    if not isinstance(value, str) or not value:
        return "custom_password_hash.hash.value is a text"
    if algorithm in _WHOLE:
        form, described = _WHOLE[algorithm]
        if encoding not in (None, "utf8"):
            return f"custom_password_hash.hash.encoding is utf8 for {algorithm}"
        said = f"custom_password_hash.hash.value is to be {described}"
        return None if form.fullmatch(value) else said
    if encoding not in ("hex", "base64"):
        return f"custom_password_hash.hash.encoding is hex or base64 for {algorithm}"
    digest = algorithm
    if algorithm == "hmac":
        digest = str(hashed.get("digest"))
        key = hashed.get("key")
        if digest not in _LENGTHS:
            return f"custom_password_hash.hash.digest is one of {', '.join(sorted(_LENGTHS))}"
        if not isinstance(key, dict) or not cast("dict[str, Any]", key).get("value"):
            return "custom_password_hash.hash.key is an object with the HMAC key as its value"
    length = custom.get("keylen") if algorithm == "scrypt" else _LENGTHS[digest]
    if not isinstance(length, int) or isinstance(length, bool) or length < 1:
        return "custom_password_hash.keylen is the length of the scrypt key in bytes"
    if _length(value, encoding) != length:
        return f"custom_password_hash.hash.value is to be {length} bytes in {encoding}"
    return None


def _problem_of_salt(salt: object, *, needed: bool) -> str | None:
    if salt is None:
        return "custom_password_hash.salt is needed for scrypt" if needed else None
    told = cast("dict[str, Any]", salt) if isinstance(salt, dict) else {}
    well = (
        isinstance(told.get("value"), str)
        and told.get("encoding", "utf8") in ("base64", "hex", "utf8")
        and told.get("position", "prefix") in ("prefix", "suffix")
    )
    said = (
        "custom_password_hash.salt has a value, an encoding (base64, hex or utf8) and a position"
        " (prefix or suffix)"
    )
    return None if well else said


def _length(value: str, encoding: str) -> int | None:
    """Bytes that are encoded; None where they are not."""
    try:
        if encoding == "hex":
            return len(bytes.fromhex(value))
        return len(base64.b64decode(value + "=" * (-len(value) % 4), validate=True))
    except (ValueError, binascii.Error):
        return None
