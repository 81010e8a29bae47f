"""``python -m bench.fuzz``: random SCIM requests without end, every answer looked at.

Findings on stdout, one a line, with the seed that repeats them; status 1 where there are any.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.scim.fuzzed import fuzz

_PER_ROUND: Final = 2000
"""Requests to one database: filters would else spend their time on ever more users."""


def main() -> None:
    asked = _parser().parse_args()
    statuses: Counter[int] = Counter()
    findings = 0
    columns = (TextColumn("fuzzing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("fuzzing", total=asked.requests)
        for number, start in enumerate(range(0, asked.requests, _PER_ROUND)):
            seed = asked.seed + number
            with tempfile.TemporaryDirectory() as directory:
                met = asyncio.run(
                    fuzz(
                        Path(directory),
                        seed=seed,
                        requests=min(_PER_ROUND, asked.requests - start),
                        tick=lambda: progress.advance(bar),
                    )
                )
            statuses.update(met.statuses)
            findings += len(met.findings)
            for finding in met.findings:
                print(f"seed {seed}: {finding}", flush=True)
    shown = ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))
    print(f"{statuses.total()} requests, {findings} findings ({shown})")
    sys.exit(1 if findings else 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.fuzz", description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1, help="of the first round; the next adds one")
    return parser


if __name__ == "__main__":
    main()
