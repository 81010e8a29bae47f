"""Which hashes Auth0 imports, and what is said of others: never the hash."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from service.auth0.password_hashes import problem_of_bcrypt, problem_of_custom

BCRYPT = "$2a$10$" + "k" * 53
MD5 = "0123456789abcdef" * 2


def custom(algorithm: str, value: str, encoding: str | None = None, **more: Any) -> dict[str, Any]:
    hashed = {"value": value, **({"encoding": encoding} if encoding else {})}
    hashed |= {name: more.pop(name) for name in ("digest", "key") if name in more}
    return {"algorithm": algorithm, "hash": hashed, **more}


SALT = {"value": "c2FsdA==", "encoding": "base64", "position": "prefix"}
WELL = [
    custom("md5", MD5, "hex"),
    custom("md5", MD5.upper(), "hex", salt=SALT),
    custom("sha1", base64.b64encode(bytes(20)).decode(), "base64"),
    custom("sha512", "ab" * 64, "hex", password={"encoding": "utf16le"}),
    custom("hmac", "ab" * 32, "hex", digest="sha256", key={"value": "k"}),
    custom("scrypt", "ab" * 24, "hex", keylen=24, salt=SALT, cost=16384),
    custom("bcrypt", BCRYPT),
    custom("pbkdf2", "$pbkdf2-sha256$i=100000,l=32$c2FsdA$aGFzaA", "utf8"),
    custom("argon2", "$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA", "utf8"),
    custom("ldap", "{SSHA}aGFzaGhhc2g=", "utf8"),
]
WRONG = [
    (custom("rot13", "x"), "algorithm is one of"),
    (custom("md5", MD5), "encoding is hex or base64"),
    (custom("md5", MD5[2:], "hex"), "to be 16 bytes in hex"),
    (custom("md5", "zz" * 16, "hex"), "to be 16 bytes in hex"),
    (custom("hmac", "ab" * 32, "hex", digest="sha256"), "key"),
    (custom("hmac", "ab" * 32, "hex", key={"value": "k"}), "digest is one of"),
    (custom("scrypt", "ab" * 24, "hex", salt=SALT), "keylen"),
    (custom("scrypt", "ab" * 24, "hex", keylen=24), "salt is needed"),
    (custom("pbkdf2", "aGFzaA==", "utf8"), "PHC string"),
    (custom("argon2", "$argon2id$aGFzaA", "utf8"), "PHC string"),
    (custom("ldap", "{CRYPT}aGFzaA=="), "CRYPT"),
    (custom("md5", MD5, "hex", salt={"value": 3}), "salt has"),
    (custom("md5", MD5, "hex", pepper="x"), "knows no 'pepper'"),
    ("plain", "is an object"),
]


@pytest.mark.parametrize("value", WELL, ids=lambda each: each["algorithm"])
def test_a_hash_in_its_documented_form_is_taken(value: dict[str, Any]) -> None:
    assert problem_of_custom(value) is None


@pytest.mark.parametrize(("value", "said"), WRONG)
def test_what_is_wrong_with_another_is_said_without_it(value: Any, said: str) -> None:
    problem = problem_of_custom(value)
    assert problem is not None
    assert said in problem
    if isinstance(value, dict):
        assert value["hash"]["value"] not in problem or len(value["hash"]["value"]) < 3


def test_bcrypt_is_taken_as_auth0_writes_it() -> None:
    assert problem_of_bcrypt(BCRYPT) is None
    assert problem_of_bcrypt(BCRYPT.replace("$2a$", "$2b$")) is None
    assert "write $2b$" in str(problem_of_bcrypt(BCRYPT.replace("$2a$", "$2y$")))
    for wrong in (BCRYPT[:-1], "secret", 3, None):
        assert "bcrypt hash" in str(problem_of_bcrypt(wrong))
