"""``make bench``: runs the benchmarks, prints tables, writes ``bench/results/*.json``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench import (
    decommission,
    drift,
    first_load,
    intake,
    leavers,
    onboarding,
    rest,
    scim,
    user_import,
)
from bench.intake import Taken
from bench.scim import Plan, Results, Row
from bench.targets import Verdict, intake_verdicts, verdicts

RESULTS: Final = Path(__file__).parent / "results"
_QUIET: Final = 0.1
_SIZES: Final = (0, 10_000, 1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bench:
    """One of Auth0's side, which works at the pace of a plan. ``always``: also where none is named."""

    name: str
    says: str
    main: Callable[[Sequence[str]], int]
    takes: str
    quickly: str
    quick: Sequence[str]
    always: bool = False


_AUTH0: Final = (
    _Bench(
        name="leavers",
        says="Leavers while joiners wait",
        main=leavers.main,
        takes="about 2 min",
        quickly="about 2 min",
        quick=("--joiners", "2000"),
        always=True,
    ),
    _Bench(
        name="onboarding",
        says="Joiners of one organization",
        main=onboarding.main,
        takes="about 12 min",
        quickly="about 2 min",
        quick=("--users", "200", "--only", "enterprise"),
    ),
    _Bench(
        name="first_load",
        says="A first load",
        main=first_load.main,
        takes="about 15 min",
        quickly="about 2 min",
        quick=("--people", "1000", "--only", "jobs"),
    ),
    _Bench(
        name="drift",
        says="A compare with Auth0",
        main=drift.main,
        takes="about 10 min",
        quickly="about 2 min",
        quick=("--quick",),
    ),
    _Bench(
        name="decommission",
        says="The end of an organization",
        main=decommission.main,
        takes="about 45 min",
        quickly="about 3 min",
        quick=("--quick",),
    ),
    _Bench(
        name="rest",
        says="An installation at rest",
        main=rest.main,
        takes="about 10 min",
        quickly="about 1 min",
        quick=("--quick",),
    ),
    _Bench(
        name="user_import",
        says="People with their passwords",
        main=user_import.main,
        takes="about 15 min",
        quickly="about 1 min",
        quick=("--quick",),
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 1 where one of Auth0's side misses a budget of its own."""
    asked = _parser().parse_args(arguments)
    console, plain = Console(stderr=True), Console(width=None if sys.stdout.isatty() else 140)
    if asked.only in (None, "scim"):
        results = _scim(_plan(asked), console)
        judged = verdicts(results.rows)
        _write("scim", results, judged)
        plain.print(_table(results.rows))
        plain.print(_targets(judged))
        for reason in [*results.left_out, *_busy(results.rows)]:
            plain.print(reason, soft_wrap=True)
    if asked.only in (None, "intake"):
        workers = 2_000 if asked.quick else 20_000
        _intake(intake.run(console.print, workers=workers), plain)
    missed = False
    for bench in _AUTH0:
        # All of them take an hour by the plan's pace: one by one, or all of them in short.
        if asked.only == bench.name or (asked.only is None and (asked.quick or bench.always)):
            console.print(f"{bench.says}, {bench.quickly if asked.quick else bench.takes}")
            missed |= bench.main(bench.quick if asked.quick else ()) != 0
    return 1 if missed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "--only",
        choices=("scim", "intake", *(bench.name for bench in _AUTH0)),
        help="one benchmark of them",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="fewer users, shorter: about a quarter of an hour in all",
    )
    parser.add_argument("--stored", metavar="N,…", help="sizes, instead of 0, 10000 and 1000000")
    parser.add_argument("--servers", metavar="NAME,…", help="only those whose names begin so")
    parser.add_argument("--seconds", type=float, help="of each measurement, instead of 4")
    return parser


def _plan(asked: argparse.Namespace) -> Plan:
    sizes = _SIZES[:2] if asked.quick else _SIZES
    if asked.stored:
        sizes = tuple(int(size) for size in asked.stored.split(","))
    return Plan(
        sizes=sizes,
        servers=tuple(asked.servers.split(",")) if asked.servers else (),
        seconds=asked.seconds or (2.0 if asked.quick else 4.0),
    )


def _scim(plan: Plan, console: Console) -> Results:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("starting", total=1.0)

        def tell(what: str, share: float) -> None:
            progress.update(bar, description=what, completed=share)

        return scim.run(plan, tell)


def _intake(rows: list[Taken], plain: Console) -> None:
    judged = intake_verdicts(rows)
    RESULTS.mkdir(exist_ok=True)
    document = _circumstances() | {
        "partitions": intake.PARTITIONS,
        "mix": intake.MIX,
        "rows": [row.as_row() for row in rows],
        "targets": [verdict.as_row() for verdict in judged],
    }
    (RESULTS / "intake.json").write_text(json.dumps(document, indent=2) + "\n")
    table = Table(title=f"Intake from {intake.PARTITIONS} partitions, one process: {intake.MIX}")
    names = (
        "database",
        "events",
        "events/s",
        "events/CPU s",
        "CPU µs",
        "database µs",
        "idle",
        "others",
    )
    for name in names:
        table.add_column(name, justify="left" if name == "database" else "right")
    for row in rows:
        table.add_row(
            row.database,
            f"{row.events:,}",
            f"{row.per_second:,.0f}",
            f"{row.per_cpu_second:,.0f}",
            _figure(row.cpu / row.events * 1e6),
            _figure(None if row.database_cpu is None else row.database_cpu / row.events * 1e6),
            "" if row.idle is None else f"{row.idle:.0%}",
            "" if row.others is None else f"{row.others:.0%}",
        )
    plain.print(table)
    plain.print(_targets(judged))
    for row in rows:
        for wrong in row.wrong:
            plain.print(f"{row.database}: {wrong}", soft_wrap=True)


def _circumstances() -> dict[str, Any]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


def _write(name: str, results: Results, judged: Iterable[Verdict]) -> None:
    RESULTS.mkdir(exist_ok=True)
    document = _circumstances() | {
        "connections": scim.CONNECTIONS,
        "rows": [row.as_row() for row in results.rows],
        "targets": [verdict.as_row() for verdict in judged],
        "left_out": results.left_out,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")


def _table(rows: Iterable[Row]) -> Table:
    table = Table(title=f"SCIM, {scim.CONNECTIONS} connections, one process each")
    names = ("server", "users", "operation", "requests/s", "p50 ms", "p99 ms", "failures")
    for name in (*names, "CPU µs", "database µs", "peak MB", "load", "others"):
        table.add_column(name, justify="left" if name in ("server", "operation") else "right")
    before = ("", -1)
    for row in rows:
        if (row.server, row.stored) != before:
            table.add_section()
        before = (row.server, row.stored)
        table.add_row(
            row.server,
            f"{row.stored:,}",
            row.operation,
            f"{row.per_second:,.0f}",
            f"{row.p50:.1f}",
            f"{row.p99:.1f}",
            str(row.failures),
            *(_figure(value) for value in (row.cpu, row.database_cpu, row.memory)),
            f"{row.load:.0%}",
            "" if row.others is None else f"{row.others:.0%}",
        )
    return table


def _targets(judged: Iterable[Verdict]) -> Table:
    table = Table(title="To reach")
    for name in ("target", "wanted", "reached", "by CPU time", ""):
        table.add_column(name, justify="left" if name in ("target", "") else "right")
    words = {True: "yes", False: "no", None: "not measured"}
    for verdict in judged:
        sign = "≤" if verdict.at_most else "≥"
        figures = (verdict.reached, verdict.by_cpu)
        told = ("" if figure is None else f"{figure:.2f}" for figure in figures)
        table.add_row(verdict.target, f"{sign} {verdict.wanted:.2f}", *told, words[verdict.met])
    return table


def _busy(rows: Iterable[Row]) -> list[str]:
    shares = [row.others for row in rows if row.others is not None]
    if not shares or statistics.mean(shares) < _QUIET:
        return []
    return [
        f"Other processes took {statistics.mean(shares):.0%} of a core meanwhile: requests per second"
        " say little then, CPU time a request still does."
    ]


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


if __name__ == "__main__":
    sys.exit(main())
