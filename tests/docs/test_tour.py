"""The README's tour, command by command as it is printed, beside a running ``provisioner dev``."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conftest import StartProcess
from tests.infrastructure.processes import PROJECT_ROOT, provisioner

BIN = Path(sys.executable).parent


def tour(ready: dict[str, Any]) -> list[str]:
    """The tour's steps with this run's addresses, each in one shell that stops at any failure."""
    text = (PROJECT_ROOT / "README.md").read_text().partition("## A five-minute tour")[2]
    found = re.search(r"```sh\n(.*?)```", text, re.DOTALL)
    assert found is not None
    script = found[1]
    for printed, address in (("8080", ready["url"]), ("9400", ready["auth0"])):
        assert f"http://127.0.0.1:{printed}" in script
        script = script.replace(f"http://127.0.0.1:{printed}", address)
    return script.strip().split("\n\n")


def test_every_command_of_the_tour_works_as_printed(
    start_process: StartProcess, tmp_path: Path
) -> None:
    arguments = provisioner("dev", "--port", "0", "--simulator-port", "0", "--no-sample")
    process = start_process([*arguments, "--data-dir", str(tmp_path / ".provisioner")], name="dev")
    steps = tour(process.ready_line())
    activate = tmp_path / ".venv" / "bin" / "activate"
    activate.parent.mkdir(parents=True)
    activate.write_text(f'PATH="{BIN}:$PATH"\n')

    setup, joins, shown, leaves, outcomes, trouble, calls = run_steps(steps, tmp_path).split(
        "=====\n"
    )

    assert setup == ""
    assert '"userName": "eva@hoekstra.example"' in joins
    assert "eva@hoekstra.example" in shown
    assert "desired" in shown
    assert '"id": "hr-1"' in leaves
    assert "user.created" in outcomes
    assert trouble == ""  # without the sample day nothing waits
    assert '"method": "POST"' in calls


def run_steps(steps: list[str], folder: Path) -> str:
    parted = "\nsleep 1; echo =====\n".join(steps)
    ended = subprocess.run(
        ["bash", "-c", f"set -eu -o pipefail\n{parted}"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr.decode()
    return ended.stdout.decode()
