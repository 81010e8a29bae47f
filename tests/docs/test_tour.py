"""The README's tour, command by command as it is printed, beside a running ``provisioner dev``."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conftest import StartProcess
from tests.infrastructure.processes import PROJECT_ROOT, provisioner

BIN = Path(sys.executable).parent
PROGRAM = f"""#!/bin/sh
PYTHONPATH={shlex.quote(str(PROJECT_ROOT))} exec {shlex.quote(sys.executable)} -P -m operators "$@"
"""
"""`provisioner` of this work tree, whichever one the interpreter's environment was set up from."""
WAIT = """
for attempt in $(seq 600); do
    curl -s {users} -H "Authorization: Bearer $TOKEN" | grep -q '"state": *"applied"' && break
    sleep 0.05
done"""


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
    ready = process.ready_line()
    steps = tour(ready)
    lay_out_environment(tmp_path / ".venv" / "bin")

    setup, joins, shown, leaves, outcomes, trouble, calls = run_steps(
        steps, tmp_path, ready["url"]
    ).split("=====\n")

    assert setup == ""
    assert '"userName": "eva@hoekstra.example"' in joins
    assert "eva@hoekstra.example" in shown
    assert "desired" in shown
    assert '"id": "hr-1"' in leaves
    assert "user.created" in outcomes
    assert trouble == ""  # without the sample day nothing waits
    assert '"method": "POST"' in calls


def lay_out_environment(folder: Path) -> None:
    """What `make setup` leaves for the tour: a program, and how a shell comes by it."""
    folder.mkdir(parents=True)
    (folder / "provisioner").write_text(PROGRAM)
    (folder / "provisioner").chmod(0o755)
    (folder / "activate").write_text(f"PATH={shlex.quote(f'{folder}:{BIN}')}:$PATH\n")


def run_steps(steps: list[str], folder: Path, url: str) -> str:
    """What each prints; every one but the first finds Auth0 as those before it want it."""
    setup, *others = steps
    wait = WAIT.format(users=f"{url}/scim/v2/hoekstra/Users")
    parted = f"\n{wait}\necho =====\n".join(others)
    ended = subprocess.run(
        ["bash", "-c", f"set -eu -o pipefail\n{setup}\necho =====\n{parted}"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr.decode()
    return ended.stdout.decode()
