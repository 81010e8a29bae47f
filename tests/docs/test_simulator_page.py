"""docs/simulator.md lists every operation that the simulator has, and the source of every trait."""

from __future__ import annotations

import re
from collections.abc import Iterator

from service.auth0.simulator.simulation import OPERATIONS
from tests.infrastructure.processes import PROJECT_ROOT

PAGE = (PROJECT_ROOT / "docs" / "simulator.md").read_text()
SOURCE = re.compile(r"\[(spec|recorded|assumed)\]|\]\(https://|^this project$")


def rows(heading: str) -> Iterator[list[str]]:
    """Cells of the rows of a section's tables, headings aside."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and cells[0] not in ("path", "trait"):
            yield cells


def test_every_operation_is_listed_and_every_listed_one_exists() -> None:
    listed = {
        (method.strip(), path.strip("`"))
        for path, methods in rows("Operations")
        for method in methods.split(",")
    }
    assert listed == {(each.method, each.template) for each in OPERATIONS}


def test_every_trait_has_a_source() -> None:
    traits = list(rows("What is modelled, and from which source"))
    assert len(traits) > 40
    for cells in traits:
        assert SOURCE.search(cells[-1]), cells[0]
