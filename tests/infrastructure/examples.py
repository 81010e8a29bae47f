"""On how many examples a law is tried: a few new ones in every run, all of them in the slow ring."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from typing import Any, Final, TypeVar

import pytest
from hypothesis import HealthCheck, settings

_Test = TypeVar("_Test", bound=Callable[..., Any])
_VARIABLE: Final = "TEST_EXAMPLES"
_PART: Final = 4


def tried_on(most: int, *, suppressed: Collection[HealthCheck] = ()) -> Callable[[_Test], _Test]:
    """``most`` examples under ``TEST_EXAMPLES=all``, as ``make kill`` has it; otherwise a quarter.

    For laws whose examples run into the hundreds: the few that find a fault are drawn anew each run.
    """
    number = most if os.environ.get(_VARIABLE) == "all" else most // _PART

    def marked(test: _Test) -> _Test:
        drawn = settings(max_examples=number, deadline=None, suppress_health_check=suppressed)
        return pytest.mark.examples(drawn(test))

    return marked
