"""The requirement files install the same bytes everywhere and name no package index."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = [ROOT / "requirements" / "runtime.txt", ROOT / "requirements" / "dev.txt"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_index_address_is_recorded(file: Path) -> None:
    text = file.read_text()
    assert "://" not in text
    assert "--index" not in text
    assert "--find-links" not in text


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_requirement_is_pinned_and_hashed(file: Path) -> None:
    requirements = re.split(r"\n(?=\S)", _without_comments(file))
    assert requirements
    for requirement in requirements:
        assert re.match(r"[a-z0-9._-]+==\S+", requirement), requirement
        assert "--hash=sha256:" in requirement, requirement


def test_runtime_requirements_hold_every_dependency_and_dev_ones_agree_with_them() -> None:
    runtime, dev = (_pins(file) for file in FILES)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {_name(each) for each in project["dependencies"]} <= runtime.keys()
    extra = project["optional-dependencies"]["dev"]
    assert {_name(each) for each in extra} <= dev.keys()
    assert runtime.items() <= dev.items()


def test_no_lock_file_with_addresses_is_committed() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "uv.lock", "**/uv.lock", "pylock*.toml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert listed.stdout == ""


def _without_comments(file: Path) -> str:
    lines = (line for line in file.read_text().splitlines() if not line.lstrip().startswith("#"))
    return "\n".join(line for line in lines if line.strip())


def _pins(file: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", file.read_text(), re.MULTILINE))


def _name(requirement: str) -> str:
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name is not None, requirement
    return re.sub(r"[-_.]+", "-", name[0]).lower()
