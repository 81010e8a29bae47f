"""Expressions are JMESPath, and never more work than allowed."""

import time
from collections.abc import Sequence
from typing import Any

import jmespath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.mappings.expressions import (
    ABSENT,
    MAX_LENGTH,
    Expression,
    InvalidExpression,
    Steps,
    is_false,
)
from consumers.unusable import Unusable

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab", max_size=2),
    lambda below: (
        st.lists(below, max_size=3) | st.dictionaries(st.sampled_from("abcd"), below, max_size=3)
    ),
    max_leaves=12,
)
LEAVES = st.sampled_from(["a", "b", "c", "d", "@", "'ab'", "`0`", "`null`", "`[]`", "`1`"])


def _grown(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pairs = st.tuples(parts, parts)
    return st.one_of(
        pairs.map(lambda two: f"({two[0]}) || ({two[1]})"),
        pairs.map(lambda two: f"({two[0]}) && ({two[1]})"),
        pairs.map(lambda two: f"({two[0]}) == ({two[1]})"),
        pairs.map(lambda two: f"({two[0]}) != ({two[1]})"),
        pairs.map(lambda two: f"({two[0]}) < ({two[1]})"),
        pairs.map(lambda two: f"({two[0]}) | ({two[1]})"),
        pairs.map(lambda two: f"[{two[0]}, {two[1]}]"),
        pairs.map(lambda two: f"a[?{two[0]}].b"),
        parts.map(lambda one: f"!({one})"),
        parts.map(lambda one: f"({one}).a"),
        parts.map(lambda one: f"({one})[0]"),
        parts.map(lambda one: f"({one})[-1].b"),
        parts.map(lambda one: f"({one})[]"),
        parts.map(lambda one: f"({one})[*].a"),
        parts.map(lambda one: f"to_array({one})"),
        parts.map(lambda one: f"not_null({one})"),
    )


EXPRESSIONS = st.recursive(LEAVES, _grown, max_leaves=6)


@given(text=EXPRESSIONS, value=JSON)
def test_it_finds_what_jmespath_finds(text: str, value: Any) -> None:
    found = Expression(text).value({"a": value, "b": [value]}, Steps())
    try:
        expected = jmespath.search(text, {"a": value, "b": [value]})
    except TypeError:  # it orders a number and a text, which the language says is null
        return
    assert found == expected


@pytest.mark.parametrize("text", ["'ab' < `1`", "`1` >= 'ab'", "@ > 'x'", "`true` > `0`"])
def test_what_has_no_order_is_neither_more_nor_less(text: str) -> None:
    assert Expression(text).value({}, Steps()) is None
    assert Expression(f"a[?{text}]").value({"a": [{}]}, Steps()) == []


def test_days_are_ordered_as_text() -> None:
    assert Expression("'2026-02-01' > '2026-01-31T23:00:00+00:00'").value({}, Steps()) is True


@given(value=JSON)
def test_false_is_what_jmespath_takes_for_it(value: Any) -> None:
    # Double negation: the one way to see it from outside. Of numbers, 0 is true.
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        assert is_false(value) is (not jmespath.search("!!@", value))
    else:
        assert not is_false(value)


@pytest.mark.parametrize(
    ("text", "absent"),
    [
        ("payload.a.b", False),
        ("payload.a.c", True),
        ("payload.x.b", True),
        ("payload.a.b.c", True),
        ('payload."a".b', False),
        ("payload.a.c || `null`", False),
    ],
)
def test_a_plain_path_tells_null_from_absent(text: str, absent: bool) -> None:
    found = Expression(text).found({"payload": {"a": {"b": None}}}, Steps())
    assert found is (ABSENT if absent else None)


def _doubling(times: int, parts: int = 2) -> str:
    return " | ".join([f"[{', '.join(['@'] * parts)}][]"] * times)


@pytest.mark.parametrize(
    "text",
    [
        "a" * (MAX_LENGTH + 1),
        ".".join("a" * 300),
        "(" * 900 + "a" + ")" * 900,
        "!" * 1900 + "a",
        "[" * 900 + "a" + "]" * 900,
        " || ".join(["a"] * 40),
        _doubling(8),
        _doubling(2, parts=10),
        f"to_string({_doubling(5)})",
        "to_string(" * 8 + "a" + ")" * 8,
        "map(&[@, @, @, @, @, @, @, @], map(&[@, @, @, @, @, @, @, @], a))",
        "join(a, b)",
        "nothing(a)",
        "a.",
        "",
        "`unquoted`",
        "'\x00'",
        '`"\\ud800"`',
        "`123456789012345678901234567890`",
    ],
)
def test_what_is_too_large_or_no_jmespath_is_refused(text: str) -> None:
    with pytest.raises(InvalidExpression):
        Expression(text)


def test_all_expressions_of_an_input_share_one_budget() -> None:
    steps = Steps(100)
    expression = Expression("sort_by(a, &b)")
    for _ in range(10):
        expression.value({"a": [{"b": 1}, {"b": 2}]}, steps)
    with pytest.raises(Unusable) as caught:
        expression.value({"a": [{"b": 1}] * 100}, steps)
    assert caught.value.code == "too_complex"


@pytest.mark.parametrize(
    "text", ["length(a)", "sum(b)", "starts_with(a, 'x')", "ceil(c)", "sort(d)", "max(d)"]
)
def test_a_function_that_cannot_take_what_it_finds_says_so(text: str) -> None:
    root: dict[str, Any] = {"a": None, "b": "x", "c": float("inf"), "d": [1, "a"]}
    with pytest.raises(Unusable) as caught:
        Expression(text).value(root, Steps())
    assert caught.value.code == "expression_failed"
    assert text in caught.value.message


def _work(expressions: Sequence[str], value: Any) -> None:
    steps = Steps()
    for text in expressions:
        Expression(text).value(value, steps)


def test_the_largest_result_that_is_allowed_stays_in_proportion() -> None:

    began = time.process_time()
    _work([_doubling(5)] * 15, list(range(1000)))
    assert time.process_time() - began < 2.0
