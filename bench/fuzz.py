"""``python -m bench.fuzz``: random SCIM requests without end, every answer looked at.

Findings on stdout, one a line, with the seed that repeats them; status 1 where there are any.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.infrastructure.postgres import create_database, drop_database, postgres_server
from tests.scim.fuzzed import Round, fuzz

_PER_ROUND: Final = 2000
"""Requests to one database: filters would else spend their time on ever more users."""


def main() -> None:
    asked = _parser().parse_args()
    statuses: Counter[int] = Counter()
    findings = 0
    columns = (TextColumn("fuzzing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with ExitStack() as stack, Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("fuzzing", total=asked.requests)
        server = stack.enter_context(postgres_server()) if asked.postgres else None
        for number, start in enumerate(range(0, asked.requests, _PER_ROUND)):
            seed, requests = asked.seed + number, min(_PER_ROUND, asked.requests - start)
            met = asyncio.run(_round(server, seed, requests, lambda: progress.advance(bar)))
            statuses.update(met.statuses)
            findings += len(met.findings)
            for finding in met.findings:
                print(f"seed {seed}: {finding}", flush=True)
    shown = ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))
    print(f"{statuses.total()} requests, {findings} findings ({shown})")
    sys.exit(1 if findings else 0)


async def _round(server: str | None, seed: int, requests: int, tick: Callable[[], None]) -> Round:
    """One database: of the Postgres at this URL, else a file of SQLite."""
    url = await create_database(server) if server is not None else None
    try:
        with tempfile.TemporaryDirectory() as directory:
            return await fuzz(Path(directory), seed=seed, requests=requests, tick=tick, url=url)
    finally:
        if server is not None and url is not None:
            await drop_database(server, url)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.fuzz", description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--postgres", action="store_true", help="instead of SQLite")
    parser.add_argument("--seed", type=int, default=1, help="of the first round; the next adds one")
    return parser


if __name__ == "__main__":
    main()
