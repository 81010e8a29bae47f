"""No password is stored, however it is written; what holds none is stored as it was."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scim.errors import ScimError
from scim.passwords import storable, without_passwords

names = st.one_of(st.sampled_from(["password", "PassWord", "pa\u017fsword", "x"]), st.text())
documents = st.recursive(
    st.one_of(st.none(), st.booleans(), st.text(max_size=5), st.just("password")),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=4)),
    max_leaves=12,
)


@given(documents)
def test_the_short_way_stores_what_the_long_way_does(document: Any) -> None:
    assert orjson.loads(storable(document)) == without_passwords(document)


@pytest.mark.parametrize(
    "body",
    [
        b'{"password": "hunter2"}',
        b'{"PASSWORD": "hunter2"}',
        b'{"p\\u0061ssword": "hunter2"}',
        '{"pa\u017fsword": "hunter2"}'.encode(),
        b'{"Operations": [{"op": "replace", "path": "password", "value": "hunter2"}]}',
        b'{"Operations": [{"op": "replace", "path": "p\\u0061ssword", "value": "hunter2"}]}',
        b'{"Operations": [{"op": "add", "value": "{\\"password\\": \\"hunter2\\"}"}]}',
        b'"[{\\"PassWord\\": \\"hunter2\\"}]"',
        b'{"urn:x:2.0:User:password": "hunter2", "a": [[[{"b": {"password": "hunter2"}}]]]}',
    ],
)
def test_a_password_is_found_however_it_is_written(body: bytes) -> None:
    assert b"hunter2" not in storable(orjson.loads(body))


@pytest.mark.parametrize("depth", [33, 300, 900])
def test_a_body_that_nests_too_deep_is_refused(depth: int) -> None:
    document = orjson.loads(b'{"a":' * depth + b"1" + b"}" * depth)
    with pytest.raises(ScimError, match="nests deeper"):
        storable(document)


@pytest.mark.parametrize(
    "body",
    [
        b'{"urn:x:Staff": {"PIN": "hunter2"}}',
        b'{"urn:x:Staff:pin": "hunter2"}',
        b'{"Operations": [{"op": "add", "path": "urn:x:Staff:Pin", "value": "hunter2"}]}',
        b'{"Operations": [{"op": "add", "path": "urn:x:pin[a eq \\"b:c\\"].d", "value": "hunter2"}]}',
    ],
)
def test_what_is_never_returned_is_not_stored_either(body: bytes) -> None:
    document = orjson.loads(body)
    assert b"hunter2" not in storable(document, {"pin"})
    assert orjson.loads(storable(document, {"pi", "other"})) == document
