"""The Dockerfile is clean by hadolint and ships our packages, hashed requirements and no root."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "Dockerfile"


def test_hadolint_finds_nothing() -> None:
    findings = _hadolint(DOCKERFILE.read_text())
    assert findings.returncode == 0, findings.stdout
    assert findings.stdout == ""


def test_hadolint_finds_what_is_wrong() -> None:
    assert "DL3002" in _hadolint("FROM python:3.11\nUSER root\n").stdout


def test_every_package_is_copied_and_let_through_to_the_build() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    copied = re.findall(r"^COPY (\w+) /app/(\w+)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert {source for source, _ in copied} == packages
    assert all(source == target for source, target in copied)

    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignore
    assert {line[1:] for line in ignore if line.startswith("!")} == {
        "requirements/runtime.txt",
        *packages,
    }


def test_only_the_build_stage_installs_and_it_asks_for_hashes() -> None:
    build, shipped = re.split(r"^FROM .*$", DOCKERFILE.read_text(), flags=re.MULTILINE)[1:]
    assert "--require-hashes" in build
    assert not re.findall(r"^(?:RUN|ADD)\b", shipped, re.MULTILINE)
    assert re.findall(r"^USER (.*)$", shipped, re.MULTILINE) == ["10001:10001"]
    assert 'ENTRYPOINT ["python", "-m", "operators"]' in shipped


def _hadolint(dockerfile: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).parent / "hadolint", "--no-color", "-"],
        input=dockerfile,
        capture_output=True,
        text=True,
        check=False,
    )
