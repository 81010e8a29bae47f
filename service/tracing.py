"""W3C Trace Context as it is passed on: taken as it came, or not at all. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_PARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)
_STATE: Final = re.compile(r"[\t\x20-\x7e]{1,512}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """``traceparent`` and ``tracestate``; without the first the second means nothing."""

    parent: str | None = None
    state: str | None = None


NONE: Final = Trace()


def trace_of(parent: str | None, state: str | None) -> Trace:
    """What these two values pass on (W3C Trace Context sections 3.2 and 3.3)."""
    if parent is None or not _PARENT.fullmatch(parent):
        return NONE
    passed = state is not None and _STATE.fullmatch(state) and "=" in state
    return Trace(parent=parent, state=state if passed else None)
