"""The keys: the first signs, all are published, and nothing private ever is."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from joserfc import jws
from joserfc.jwk import ECKey, Key, KeySet, OctKey, OKPKey, RSAKey

from service.directory.database import Database
from service.errors import ConfigurationError
from service.security_events.keys import SigningKeys, read_keys
from tests.directory.customer import Customer
from tests.security_events.customer import tell
from tests.security_events.pushing import keys_of, transmitting
from tests.security_events.receiver import Receiver, verified

ELLIPTIC = ECKey.generate_key("P-256")
OTHER = ECKey.generate_key("P-384")
RSA = RSAKey.generate_key(2048)


def jwk_set(*keys: Key, **more: Any) -> str:
    return orjson.dumps({"keys": [key.as_dict(private=True) | more for key in keys]}).decode()


def pem(*keys: ECKey | RSAKey | OKPKey) -> str:
    return "".join(key.as_pem(private=True).decode() for key in keys)


def read(text: str) -> SigningKeys:
    keys = read_keys(text)
    assert keys is not None
    return keys


@pytest.mark.parametrize("text", [pem(ELLIPTIC, RSA, OTHER), jwk_set(ELLIPTIC, RSA, OTHER)])
def test_the_first_key_signs_and_all_are_published(text: str) -> None:
    keys = read(text)
    assert [each["alg"] for each in keys.published] == ["ES256", "RS256", "ES384"]
    assert [each["kid"] for each in keys.published] == [
        key.thumbprint() for key in (ELLIPTIC, RSA, OTHER)
    ]
    token = keys.sign({"jti": "1"})
    known = KeySet.import_key_set(keys.as_document())  # pyright: ignore[reportArgumentType]
    opened = jws.deserialize_compact(token, known, algorithms=["ES256"])
    assert opened.headers() == {
        "alg": "ES256",
        "kid": ELLIPTIC.thumbprint(),
        "typ": "secevent+jwt",
    }


@pytest.mark.parametrize(
    "text", [pem(ELLIPTIC, RSA, OTHER), jwk_set(ELLIPTIC, RSA, key_ops=["sign"])]
)
def test_nothing_private_is_published(text: str) -> None:
    for key in read(text).published:
        assert set(key) <= {"kty", "crv", "x", "y", "n", "e", "kid", "alg", "use"}


def test_a_key_may_choose_its_name_and_among_its_algorithms() -> None:
    keys = read(jwk_set(RSA, kid="2026-11", alg="PS256"))
    assert (keys.key_id, keys.algorithm) == ("2026-11", "PS256")


def test_a_retired_key_may_be_public_alone() -> None:
    document = {"keys": [ELLIPTIC.as_dict(private=True), RSA.as_dict(private=False)]}
    assert len(read(orjson.dumps(document).decode()).published) == 2


def test_without_keys_there_is_nothing() -> None:
    assert read_keys(" \n") is None


# Keys are made anew each time, so the cases are named: workers have to find the same ones.
_CANNOT_SIGN = {
    "words": "secret words",
    "an object": "{}",
    "no keys": '{"keys": []}',
    "a number": '{"keys": [1]}',
    "keys by name": '{"keys": {"a": 1}}',
    "a list": "[1]",
    "a PEM of words": "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----",
    "a PEM cut off": pem(ELLIPTIC)[:80],
    "another curve": pem(OKPKey.generate_key("Ed25519")),
    "one key twice": pem(ELLIPTIC, ELLIPTIC),
    "a public key": ELLIPTIC.as_pem(private=False).decode(),
    "a shared secret": jwk_set(OctKey.generate_key(256)),
    "another algorithm": jwk_set(ELLIPTIC, alg="ES512"),
    "no algorithm": jwk_set(RSA, alg="none"),
    "two keys of one name": jwk_set(ECKey.generate_key("P-256"), kid="a")[:-2]
    + ","
    + jwk_set(ECKey.generate_key("P-256"), kid="a").removeprefix('{"keys":['),
}


@pytest.mark.filterwarnings("ignore:Key size should be")
@pytest.mark.parametrize("text", _CANNOT_SIGN.values(), ids=_CANNOT_SIGN.keys())
def test_what_cannot_sign_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ConfigurationError, match="PROVISIONER_SET_SIGNING_KEYS") as error:
        read_keys(text)
    assert "secret" not in str(error.value)


@pytest.mark.filterwarnings("ignore:Key size should be")
def test_short_rsa_keys_are_refused() -> None:
    with pytest.raises(ConfigurationError):
        read_keys(pem(RSAKey.generate_key(1024)))


async def test_keys_rotate_without_a_token_that_nobody_can_verify(
    database: Database, hoekstra: Customer, receiver: Receiver
) -> None:
    """New key published second, then signing first with the old one kept, then alone."""
    user = await hoekstra.create("ann@hoekstra.example")
    for signing in (keys_of(ELLIPTIC, RSA), keys_of(RSA, ELLIPTIC), keys_of(RSA)):
        number = len(receiver.taken)
        async with transmitting(database, signing, owner=f"a#{number}"):
            await tell(hoekstra, "access.revoked", user, {"revoked": True})
            (*_, push) = await receiver.until(number + 1)
        known = KeySet.import_key_set(signing.as_document())  # pyright: ignore[reportArgumentType]
        header, _ = verified(push, known)
        assert header["kid"] == signing.key_id
    kids = [verified(push, KeySet([ELLIPTIC, RSA]))[0]["alg"] for push in receiver.taken]
    assert kids == ["ES256", "RS256", "RS256"]
