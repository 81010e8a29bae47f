"""Our top-level packages are found in this work tree, and nobody else's are found instead."""

import importlib.util
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = "auth0-provisioner"


def _project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


PACKAGES: list[str] = _project()["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


@pytest.mark.parametrize("name", PACKAGES)
def test_package_resolves_inside_the_repository(name: str) -> None:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin == str(ROOT / name / "__init__.py")


@pytest.mark.parametrize("name", PACKAGES)
def test_no_other_installed_distribution_claims_the_name(name: str) -> None:
    assert set(packages_distributions().get(name, [])) <= {OURS}


def test_import_rules_cover_every_package_we_ship() -> None:
    assert sorted(_project()["tool"]["importlinter"]["root_packages"]) == sorted(PACKAGES)
