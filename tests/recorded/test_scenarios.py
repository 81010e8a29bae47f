"""What identity providers send, step by step, does what they expect, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.infrastructure.schema import Lending
from tests.recorded.replay import play
from tests.scim.client import opened, organization

_HERE = Path(__file__).parent
_FILES = sorted(_HERE.glob("*/*.json"))
_SCENARIOS: dict[str, dict[str, Any]] = {
    f"{file.parent.name}/{file.stem}": json.loads(file.read_text()) for file in _FILES
}
_QUIRKS: dict[str, str] = json.loads((_HERE / "quirks.json").read_text())
_PROVIDERS = {
    "auth0", "authentik", "entra", "entra-aadOptscim062020", "google", "jumpcloud", "keycloak",
    "okta-aiw", "okta-oin", "onelogin", "pingfederate", "pingone", "sailpoint",
}  # fmt: skip

Play = Callable[[str], None]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def played(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Play]:
    """Plays a scenario in an organization of its own."""
    configured = {
        name: organization(f"s{number}", scim_profile=scenario.get("profile", "tolerant"))
        for number, (name, scenario) in enumerate(_SCENARIOS.items())
    }
    with asyncio.Runner() as runner, contextlib.ExitStack() as cleanup:
        if request.param == "sqlite":
            url = f"sqlite:///{tmp_path_factory.mktemp('recorded') / 'directory.db'}"
        else:
            lending: Lending = request.getfixturevalue("postgres_lending")
            url = runner.run(lending.borrow())
            cleanup.callback(lambda: runner.run(lending.give_back(url)))
        door = opened(url, *configured.values())
        clients = dict(zip(configured, runner.run(door.__aenter__()), strict=True))
        cleanup.callback(lambda: runner.run(door.__aexit__(None, None, None)))
        yield lambda name: runner.run(play(clients[name], _SCENARIOS[name]))


@pytest.mark.parametrize("name", _SCENARIOS)
def test_recorded_scenario_ends_as_its_provider_expects(played: Play, name: str) -> None:
    played(name)


def test_every_provider_and_every_quirk_is_recorded() -> None:
    shown = {quirk for scenario in _SCENARIOS.values() for quirk in scenario["shows"]}
    assert shown == _QUIRKS.keys()
    assert {name.partition("/")[0] for name in _SCENARIOS} == _PROVIDERS
