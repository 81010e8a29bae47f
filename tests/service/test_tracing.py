"""W3C Trace Context: what is passed on, and what is not."""

import pytest

from service.tracing import NONE, Trace, trace_of

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize("state", ["vendor=1", "a=b,c@d=e f"])
def test_a_trace_is_passed_on_as_it_came(state: str) -> None:
    assert trace_of(PARENT, state) == Trace(parent=PARENT, state=state)


@pytest.mark.parametrize("state", [None, "", "none", "é=1", "a=" + "b" * 511])
def test_a_state_that_is_none_is_left_behind(state: str | None) -> None:
    assert trace_of(PARENT, state) == Trace(parent=PARENT)


@pytest.mark.parametrize(
    "parent",
    [
        None,
        "me",
        PARENT.upper(),
        f"ff{PARENT[2:]}",
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
    ],
)
def test_without_a_valid_parent_there_is_no_trace(parent: str | None) -> None:
    assert trace_of(parent, "vendor=1") == NONE
