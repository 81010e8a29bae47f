"""Peers, each in an environment of its own under ``.cache/bench``; installed when first asked for."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.infrastructure.processes import PROJECT_ROOT

PEERS: Final = Path(__file__).parent / "peers"
_INSTALLED: Final = PROJECT_ROOT / ".cache" / "bench"
_SECONDS: Final = 300.0


class LeftOutError(Exception):
    """This peer cannot be measured here; the text says why."""


def scim2_server() -> Path:
    """The Python that has scim2-server. Raises LeftOutError."""
    wanted = PEERS / "requirements.txt"
    place = _place("scim2-server", wanted, sys.version)
    python = place / "bin" / "python"
    if not (place / "complete").exists():
        shutil.rmtree(place, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(place)])
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet"]
        _run([*pip, "install", "--require-hashes", "--requirement", str(wanted)])
        (place / "complete").touch()
    return python


def scimmy() -> Path:
    """The folder with scimmy-routers and the program that serves it. Raises LeftOutError."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise LeftOutError("node and npm are needed: install Node.js 20 or newer")
    place = _place("scimmy", PEERS / "package.json", "")
    if not (place / "complete").exists():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        shutil.copy(PEERS / "package.json", place)
        _run(
            [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(place)]
        )
        (place / "complete").touch()
    shutil.copy(PEERS / "scimmy_app.js", place)
    return place


def _place(name: str, wanted: Path, beside: str) -> Path:
    """Where a peer is installed; another place as soon as other versions are wanted."""
    digest = hashlib.sha256(wanted.read_bytes() + beside.encode()).hexdigest()[:12]
    return _INSTALLED / f"{name}-{digest}"


def _run(command: Sequence[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        raise LeftOutError(f"installing took more than {_SECONDS:.0f} s") from None
    except (OSError, subprocess.CalledProcessError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        raise LeftOutError(f"installing failed: {said[-1] if said else error}") from None
