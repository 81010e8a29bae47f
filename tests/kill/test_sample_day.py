"""``--exit-after-sample`` tells by its status whether the day went as it should."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.infrastructure.processes import provisioner, start
from tests.kill.conftest import ENVIRONMENT, dev


@pytest.mark.kill
@pytest.mark.timeout(240)
def test_a_day_on_which_something_went_wrong_ends_with_status_1(tmp_path: Path) -> None:
    """Auth0 refuses one creation: that step ends otherwise, all others as they should."""
    data = tmp_path / "data" / "simulator"
    data.mkdir(parents=True)
    simulator = start(
        provisioner("simulator", "--port", "0", "--data-dir", data),
        name="simulator",
        directory=tmp_path,
        environment=ENVIRONMENT,
    )
    fault = {
        "match": {"method": "POST", "path": "/users"},
        "kind": "status",
        "status": 400,
        "times": 1,
    }
    url = simulator.ready_line(60)["url"]
    httpx.post(f"{url}/simulator/faults", json=fault).raise_for_status()
    assert simulator.stop() == 0
    day = start(
        dev(tmp_path, "--exit-after-sample"),
        name="dev",
        directory=tmp_path,
        environment=ENVIRONMENT,
    )
    assert day.wait(200) == 1, str(day)
    told = day.stderr.read_text()
    assert "1 of " in told, told
    assert "annelies-joins: deadlettered" in told, told
