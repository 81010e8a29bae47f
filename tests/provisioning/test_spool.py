"""What is spooled while a tenant is compared leaves nothing behind, however the process ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from service.provisioning.spool import spooling

_DIES = """
import os, signal
from service.provisioning.spool import spooling

with spooling() as spool:
    spool.put((f"auth0|{n}", {"email": "x" * 1000}) for n in range(8000))
    print(len(spool), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_that_is_killed_leaves_nothing_of_what_it_read(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _DIES],
        env={**os.environ, "TMPDIR": str(tmp_path), "SQLITE_TMPDIR": str(tmp_path)},
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, b"8000\n"), ended.stderr.decode()
    assert list(tmp_path.iterdir()) == []


def test_rows_are_taken_once_and_the_others_are_known() -> None:
    with spooling() as spool:
        spool.put([("b", {"n": 1}), ("a", {"n": 2}), ("c", {"n": 3})])
        assert spool.take("a") == {"n": 2}
        assert spool.take("d") is None
        assert len(spool) == 3
        assert spool.unseen("", 1) == ["b"]
        assert spool.unseen("b", 9) == ["c"]
