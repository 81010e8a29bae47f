"""What ties a row of docs/faults.md to the tests that prove it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def proves(*rows: str) -> Callable[[F], F]:
    """Says which faults a test proves: by the first column of the page, in plain text.

    tests/docs/test_faults.py reads it from the source, and fails for a row without a proof.
    """

    def unchanged(test: F) -> F:
        return test

    return unchanged
