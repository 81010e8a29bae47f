"""The file of ``provisioner user import``: arrays and lines alike, each row with the line it is on."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from operators.migration_rows import Coming, Mistake, gathered, rows_of

BCRYPT = "$2b$10$" + "k" * 53


def person(address: str, **more: Any) -> dict[str, Any]:
    return {"email": address, "password_hash": BCRYPT, **more}


def test_an_array_and_lines_say_the_same() -> None:
    rows = [person(f"P{number}@a.example", given_name="Ada") for number in range(3)]
    lines = "\n\n".join(json.dumps(row) for row in rows).encode()
    array = json.dumps(rows, indent=2).encode()
    told = [gathered(content) for content in (lines, array)]
    assert [[each.email for each in coming] for coming, _ in told] == [
        [f"p{number}@a.example" for number in range(3)]
    ] * 2
    assert [each.line for each in told[0][0]] == [1, 3, 5]
    assert [each.line for each in told[1][0]] == [2, 7, 12]
    assert told[0][1] == told[1][1] == []


def test_a_broken_line_spoils_no_other_and_a_broken_array_all_that_follows() -> None:
    row = json.dumps(person("a@a.example"))
    coming, mistakes = gathered(f"{{oops\n{row}\n".encode())
    assert ([each.line for each in coming], [each.line for each in mistakes]) == ([2], [1])
    coming, mistakes = gathered(f"[{row},\n{{oops}}]".encode())
    assert ([each.line for each in coming], [each.line for each in mistakes]) == ([1], [2])


def test_a_hash_is_in_no_repr_and_no_resource() -> None:
    coming, _ = gathered(json.dumps(person("a@a.example", user_id="u|1")).encode())
    assert BCRYPT not in repr(coming)
    assert BCRYPT not in json.dumps(dict(coming[0].resource))
    assert coming[0].has_own_id


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_whatever_stands_in_a_row_is_a_person_or_a_mistake(value: Any) -> None:
    for row in (value, {"email": value}, person("a@a.example", app_metadata=value, nickname=value)):
        content = json.dumps([row]).encode()
        coming, mistakes = gathered(content)
        assert len(coming) + len(mistakes) == len(list(rows_of(content))) == 1
        assert isinstance([*coming, *mistakes][0], Coming | Mistake)
