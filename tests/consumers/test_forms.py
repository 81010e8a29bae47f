"""Forms that HR systems post, as the JSON objects that they stand for."""

import contextlib
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.forms import MAX_FIELDS, parse_form
from consumers.unusable import Unusable


@pytest.mark.parametrize(
    ("body", "meant"),
    [
        (b"", {}),
        (b"event=hired&id=7&name=", {"event": "hired", "id": "7", "name": ""}),
        (b"name=Zo%C3%AB+%26+Co", {"name": "Zo\xeb & Co"}),
        (
            b"data[id]=7&data[changed][0]=a&data[changed][1]=b",
            {"data": {"id": "7", "changed": ["a", "b"]}},
        ),
        (b"a[1]=x&a[2]=y", {"a": {"1": "x", "2": "y"}}),
        (b"group=a&group=b&group=c", {"group": ["a", "b", "c"]}),
        (b"a[=1&]b=2&c[]=3", {"a[": "1", "]b": "2", "c[]": "3"}),
    ],
)
def test_fields_are_text_and_brackets_nest(body: bytes, meant: dict[str, Any]) -> None:
    assert parse_form(body) == meant


@pytest.mark.parametrize(
    "body",
    [
        b"no equals sign",
        b"a=%FF",
        b"\xff=1",
        b"a=1&a[b]=2",
        b"a[b]=2&a=1",
        b"&".join(b"a=1" for _ in range(MAX_FIELDS + 1)),
        b"a" + b"[a]" * 50 + b"=1",
    ],
)
def test_what_is_no_form_is_refused(body: bytes) -> None:
    with pytest.raises(Unusable) as caught:
        parse_form(body)
    assert caught.value.code == "malformed_form"


@given(
    st.dictionaries(
        st.text(st.characters(exclude_characters="[]", codec="utf-8"), min_size=1),
        st.text(st.characters(codec="utf-8")),
        min_size=1,
    )
)
def test_flat_fields_come_back_as_they_were(fields: dict[str, str]) -> None:
    assert parse_form(urlencode(fields).encode()) == fields


@given(st.binary(max_size=200))
def test_any_body_is_a_form_or_refused(body: bytes) -> None:
    with contextlib.suppress(Unusable):
        assert isinstance(parse_form(body), dict)
