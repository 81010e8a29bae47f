"""What a bench of Auth0's side is to keep to, and how it is told: wanted beside measured."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

RESULTS: Final = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A figure and the bound that it is to keep to."""

    what: str
    wanted: float
    measured: float
    at_most: bool = True

    @property
    def kept(self) -> bool:
        if self.at_most:
            return self.measured <= self.wanted
        return self.measured >= self.wanted


def report(
    name: str, title: str, rows: Sequence[Any], budgets: Iterable[Budget], console: Console
) -> bool:
    """Writes ``bench/results/NAME.json``, prints what was wanted; whether all of it was kept.

    ``rows``: dataclasses.
    """
    judged = list(budgets)
    document: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "rows": [asdict(row) for row in rows],
        "budgets": [asdict(budget) | {"kept": budget.kept} for budget in judged],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
    table = Table("budget", "wanted", "measured", "", title=title)
    for budget in judged:
        sign = "≤" if budget.at_most else "≥"
        kept = "yes" if budget.kept else "no"
        table.add_row(budget.what, f"{sign} {budget.wanted:g}", f"{budget.measured:g}", kept)
    console.print(table)
    return all(budget.kept for budget in judged)
