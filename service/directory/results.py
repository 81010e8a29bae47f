"""What an operator's command did to one event, as it is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["replayed", "discarded", "set-aside", "approved", "refused", "skipped", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """``failed``: done, and it ended in trouble again. ``replay_id``: the event that replays it."""

    event_id: str
    verdict: Verdict
    reason: str
    replay_id: str | None = None
