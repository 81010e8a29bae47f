"""What a JWT access token must be before it opens anything. Every rule is broken once."""

from __future__ import annotations

import base64
import hmac
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from joserfc.errors import SecurityWarning
from joserfc.jwk import Key, RSAKey
from joserfc.jws import JWSRegistry

from scim.access_tokens import (
    ALGORITHMS,
    LEEWAY,
    LONGEST,
    VerifyingKey,
    candidates,
    keys_of,
    read,
    verify,
    why_refused,
)
from service.organizations import ScimOauth, TokenScope
from tests.scim.issuer import AUDIENCE, CLIENT, claims, new_key, signed

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
ISSUER = "https://idp.example/"
OAUTH = ScimOauth(issuer=ISSUER, audience=AUDIENCE, clients=(CLIENT, "another"))
HEADER = {"alg": "ES256", "typ": "at+jwt", "kid": "k-1"}
KEY = new_key("ES256", "k-1")


def published(*keys: Key, **more: Any) -> tuple[VerifyingKey, ...]:
    return keys_of({"keys": [{**key.as_dict(private=False), **more} for key in keys]})


def allows(
    text: str, keys: tuple[VerifyingKey, ...] | None = None, oauth: ScimOauth = OAUTH
) -> frozenset[TokenScope] | None:
    token = read(text)
    if token is None:
        return None
    found = candidates(token, keys if keys is not None else published(KEY))
    return verify(token, found, oauth, NOW)


def made(*, without: str = "", **changes: Any) -> str:
    return signed(KEY, HEADER, claims(ISSUER, NOW, without=without, **changes))


def in_seconds(seconds: float) -> float:
    return (NOW + timedelta(seconds=seconds)).timestamp()


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")  # EdDSA has a newer name
def test_every_algorithm_of_the_list_is_verified(algorithm: str) -> None:
    key = new_key(algorithm, "k-1")
    text = signed(key, HEADER | {"alg": algorithm}, claims(ISSUER, NOW))
    assert allows(text, published(key)) == {"read", "write"}
    assert allows(text, published(key, alg=algorithm)) == {"read", "write"}
    assert allows(text, published(new_key(algorithm, "k-1"))) is None


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"aud": ["https://other.example", AUDIENCE]},
        {"nbf": int(in_seconds(LEEWAY - 5)), "iat": int(in_seconds(LEEWAY - 5))},
        {"exp": in_seconds(5 - LEEWAY)},
        {"azp": "another"},
        {"without": "client_id"},
        {"without": "iat"},
    ],
    ids=str,
)
def test_a_token_that_keeps_the_rules_is_taken(changes: dict[str, Any]) -> None:
    assert allows(made(**changes)) == {"read", "write"}


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://idp.example"},
        {"without": "iss"},
        {"aud": "https://other.example"},
        {"aud": [AUDIENCE, 7]},
        {"aud": {AUDIENCE: 1}},
        {"without": "aud"},
        {"exp": in_seconds(-LEEWAY - 5)},
        {"exp": "tomorrow"},
        {"exp": True},
        {"without": "exp"},
        {"nbf": in_seconds(LEEWAY + 30)},
        {"nbf": "today"},
        {"iat": in_seconds(LEEWAY + 30)},
        {"client_id": "somebody-else"},
        {"azp": "somebody-else"},
        {"appid": "somebody-else"},
        {"cid": None},
        {"client_id": [CLIENT]},
        {"without": "client_id", "sub": "somebody-else"},
    ],
    ids=str,
)
def test_a_token_that_breaks_a_rule_is_refused(changes: dict[str, Any]) -> None:
    assert allows(made(**changes)) is None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"iss": "https://idp.example"}, "scim_oauth.issuer"),
        ({"aud": "https://other.example"}, "scim_oauth.audience"),
        ({"client_id": "somebody-else"}, "scim_oauth.clients"),
        ({"exp": in_seconds(-LEEWAY - 5)}, "expired"),
        ({"without": "exp"}, "'exp'"),
        ({"nbf": in_seconds(LEEWAY + 30)}, "not yet valid"),
        ({"iat": in_seconds(LEEWAY + 30)}, "future"),
        ({}, "none of the issuer's keys"),
    ],
    ids=str,
)
def test_the_log_can_say_which_rule_was_broken_without_repeating_the_token(
    changes: dict[str, Any], told: str
) -> None:
    token = read(made(**changes))
    assert token is not None
    because = why_refused(token, OAUTH, NOW)
    assert told in because
    assert "example" not in because
    assert "somebody" not in because


@pytest.mark.parametrize("kind", ["JWT", "jwt", "AT+JWT", "application/at+jwt", None])
def test_an_access_token_may_call_itself_so_or_say_nothing(kind: str | None) -> None:
    assert allows(signed(KEY, HEADER | {"typ": kind}, claims(ISSUER, NOW))) is not None


@pytest.mark.parametrize(
    "header",
    [
        {"typ": "dpop+jwt"},
        {"typ": "logout+jwt"},
        {"kid": "another"},
        {"crit": ["exp"], "exp": 1},
        {"crit": ["b64"], "b64": True},
    ],
    ids=str,
)
def test_a_header_that_asks_for_something_else_is_refused(header: dict[str, Any]) -> None:
    text = _by_hand(HEADER | header, claims(ISSUER, NOW))
    assert allows(text) is None
    assert allows(_by_hand(HEADER, claims(ISSUER, NOW))) is not None


def test_headers_that_we_do_not_know_are_left_alone() -> None:
    text = signed_with(HEADER | {"x5t": "abc", "nonce": "1", "pi.atm": "2", "x5c": ["A" * 900]})
    assert allows(text) is not None


def test_a_public_key_is_no_secret_of_a_mac() -> None:
    rsa = RSAKey.generate_key(2048, {"kid": "k-1"})
    pem = rsa.as_pem(private=False)
    content = _content(HEADER | {"alg": "HS256"}, claims(ISSUER, NOW))
    mac = _encoded(hmac.new(pem, content, "sha256").digest())
    assert allows(f"{content.decode()}.{mac.decode()}", published(rsa)) is None
    unsigned = _content(HEADER | {"alg": "none"}, claims(ISSUER, NOW))
    assert allows(f"{unsigned.decode()}.") is None


def test_a_key_that_comes_with_the_token_is_not_asked() -> None:
    own = new_key("ES256", "k-1")
    header = HEADER | {"jwk": own.as_dict(private=False), "jku": "https://evil.example/keys"}
    assert allows(signed_with(header, own)) is None


def test_a_changed_token_is_refused() -> None:
    header, body, signature = made().split(".")
    other = made(exp=in_seconds(10_000)).split(".")[1]
    assert allows(f"{header}.{other}.{signature}") is None
    assert allows(f"{header}.{body}.{signature[:-2]}") is None
    assert allows(f"{header}.{body}.") is None
    assert allows(f"{header}.{body}") is None


def test_without_a_key_id_every_fitting_key_is_tried() -> None:
    text = signed(KEY, {"alg": "ES256"}, claims(ISSUER, NOW))
    assert allows(text, published(new_key("ES256", "k-0"), new_key("RS256", "k-2"), KEY))
    assert allows(text, published(new_key("ES256", "k-0"))) is None


@pytest.mark.parametrize(
    "more",
    [{"use": "enc"}, {"alg": "ES384"}, {"kid": 7}, {"kty": "EC2"}, {"crv": "P-521"}, {"x": "!"}],
)
def test_a_key_for_other_purposes_is_left_out(more: dict[str, Any]) -> None:
    assert published(KEY, **more) == ()
    assert allows(made(), published(KEY, **more)) is None


def test_a_weak_or_private_key_is_not_kept() -> None:
    with pytest.warns(SecurityWarning):
        weak = RSAKey.generate_key(1024)
    assert published(weak) == ()
    (kept,) = keys_of({"keys": [KEY.as_dict(private=True)]})
    assert not kept.key.is_private


@pytest.mark.parametrize("document", [None, [], {}, {"keys": {}}, {"keys": None}, "keys"])
def test_what_is_no_key_set_is_refused(document: object) -> None:
    with pytest.raises(ValueError, match="JWK Set"):
        keys_of(document)


@pytest.mark.parametrize(
    ("claim", "said", "allowed"),
    [
        ("scope", "scim.read scim.all", {"read", "write"}),
        ("scope", "openid scim.read", {"read"}),
        ("scp", ["scim.read"], {"read"}),
        ("roles", ["scim.all", 7], {"read", "write"}),
        ("scope", "other", set[str]()),
        ("scope", {"scim.all": 1}, set[str]()),
        ("scope", None, set[str]()),
    ],
)
def test_scopes_are_what_the_mapping_says(claim: str, said: Any, allowed: set[str]) -> None:
    oauth = ScimOauth(
        issuer=ISSUER,
        audience=AUDIENCE,
        clients=(CLIENT,),
        scope_claim=claim,
        scopes={"scim.read": ("read",), "scim.all": ("read", "write")},
    )
    assert allows(made(**{claim: said}), oauth=oauth) == allowed
    assert allows(made(), oauth=oauth) == set()


@given(st.text() | st.from_regex(r"[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,9}"))
def test_whatever_is_sent_is_refused_and_breaks_nothing(text: str) -> None:
    assert allows(text) is None


json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
JWK = ["kty", "crv", "alg", "use", "kid", "n", "e", "x", "y", "key_ops", "x5c"]
NAMES = ["iss", "aud", "exp", "nbf", "iat", "sub", "azp", "client_id", "jti", "scope"]


@given(st.dictionaries(st.sampled_from(["alg", "kid", "typ", "jku", "x5c", "jwk", "cty"]), json))
@example({"alg": ["ES256"]})
@example({"alg": {"ES256": 1}})
def test_odd_headers_break_nothing(header: dict[str, Any]) -> None:
    scopes = allows(_by_hand({"alg": "ES256"} | header, claims(ISSUER, NOW)))
    assert scopes is None or scopes == {"read", "write"}


@given(st.dictionaries(st.sampled_from(NAMES), json, min_size=1))
def test_odd_claims_break_nothing(odd: dict[str, Any]) -> None:
    assert allows(made(**odd)) in (None, {"read", "write"})


@pytest.mark.parametrize("key", [KEY, new_key("RS256", "k-1"), new_key("EdDSA", "k-1")])
@given(odd=st.dictionaries(st.sampled_from(JWK), json, min_size=1))
@example(odd={"kty": ["EC"]})
@example(odd={"alg": ["ES256"], "kty": {"RSA": 1}})
@example(odd={"n": "", "x": "AA"})
@example(odd={"e": "AA", "y": "AA"})
def test_odd_keys_break_nothing(key: Key, odd: dict[str, Any]) -> None:
    kept = keys_of({"keys": [{**key.as_dict(private=False), **odd}, KEY.as_dict(private=False)]})
    assert allows(made(), kept) == {"read", "write"}


@pytest.mark.parametrize("deep", [b"[" * 6000, b'{"a":' * 1000 + b"1" + b"}" * 1000])
def test_deep_nesting_breaks_nothing(deep: bytes) -> None:
    head, body = _encoded(orjson.dumps(HEADER)).decode(), _encoded(deep).decode()
    assert allows(f"{head}.{body}.AA") is None
    assert allows(f"{body}.{head}.AA") is None


def test_a_token_is_looked_at_up_to_its_longest() -> None:
    assert allows(made(padding="x" * 4000)) is not None
    assert allows(made(padding="x" * LONGEST)) is None


def signed_with(header: dict[str, Any], key: Key = KEY) -> str:
    return _by_hand(header, claims(ISSUER, NOW), key)


def _by_hand(header: dict[str, Any], body: dict[str, Any], key: Key = KEY) -> str:
    """Signed as JWS has it, with headers that a library would not write."""
    content = _content(header, body)
    signature = JWSRegistry.algorithms["ES256"].sign(content, key)
    return (content + b"." + _encoded(signature)).decode()


def _content(header: dict[str, Any], body: dict[str, Any]) -> bytes:
    return b".".join(_encoded(orjson.dumps(part)) for part in (header, body))


def _encoded(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")
