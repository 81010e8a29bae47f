"""``make bench``: runs the benchmarks, prints a table, writes ``bench/results/*.json``."""

from __future__ import annotations

import asyncio
import json
import platform
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import leavers, scim
from bench.load import Measured

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    console = Console(stderr=True)
    with console.status("SCIM on SQLite beside bare Starlette, about 30 s"):
        rows = asyncio.run(scim.run())
    _write("scim", rows)
    console.print(_table("SCIM, 32 connections, one process each", rows))
    console.print("Leavers while 2,000 joiners wait, about 30 s")
    leavers.main()


def _write(name: str, rows: list[Measured]) -> None:
    RESULTS.mkdir(exist_ok=True)
    document = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "rows": [row.as_row() for row in rows],
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")


def _table(title: str, rows: list[Measured]) -> Table:
    table = Table(title=title)
    for column in ("work", "requests/s", "p50 ms", "p99 ms", "failures"):
        table.add_column(column, justify="left" if column == "work" else "right")
    for row in rows:
        table.add_row(
            row.name, f"{row.per_second:.0f}", f"{row.p50}", f"{row.p99}", str(row.failures)
        )
    return table


if __name__ == "__main__":
    main()
