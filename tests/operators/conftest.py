"""An installation for each test, in a directory of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.operators.house import House, furnish


@pytest.fixture
def house(tmp_path: Path) -> House:
    return furnish(tmp_path / "installation")
