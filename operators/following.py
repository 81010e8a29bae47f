"""Reading a table that grows, without missing a row: numbers are given before rows are committed.

Pure; knows only numbers and when rows were written.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from service.directory.outbox import Outcome

_LATE: Final = timedelta(seconds=30)
"""How long a transaction may take that still commits a smaller number than those seen."""


class Following:
    """What of a growing table was shown. Each poll reads on from ``settled``, and again what is young."""

    def __init__(self) -> None:
        self.settled = 0
        """Nothing up to this number is still to come."""
        self._shown: dict[int, datetime] = {}

    def fresh(self, page: Iterable[Outcome]) -> list[Outcome]:
        """Those of a page that were not shown before."""
        found = [outcome for outcome in page if outcome.number not in self._shown]
        self._shown |= {outcome.number: outcome.created_at for outcome in found}
        return found

    def settle(self, now: datetime) -> None:
        """Ends a poll: what is old enough need not be read again."""
        old = [number for number, at in self._shown.items() if at <= now - _LATE]
        self.settled = max([self.settled, *old])
        self._shown = {number: at for number, at in self._shown.items() if number > self.settled}
