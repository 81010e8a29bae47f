"""``provisioner doctor``: is everything set up, and what to mend."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import typer

from operators.commands.printing import document, json_line, line
from operators.commands.running import AsJson, DataDir, run, settings_for

_MARKS: Final = {
    "ok": "ok      ",
    "warning": "warning ",
    "failed": "FAILED  ",
    "skipped": "skipped ",
}


def doctor(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Check configuration, database, Kafka and each Auth0 tenant's set-up."""
    if run(lambda: _doctor(data_dir, as_json)):
        raise typer.Exit(1)


async def _doctor(data_dir: Path | None, as_json: bool) -> bool:
    from operators.checks import examine
    from service.clock import SystemClock

    settings = settings_for(data_dir)
    failed = False
    async for finding in examine(settings, SystemClock()):
        failed = failed or finding.verdict == "failed"
        if as_json:
            json_line(document(finding))
            continue
        told = f": {finding.detail}" if finding.detail else ""
        advice = f" → {finding.advice}" if finding.advice else ""
        line(f"{_MARKS[finding.verdict]}{finding.check}{told}{advice}")
    return failed
