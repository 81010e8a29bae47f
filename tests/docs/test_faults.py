"""Every fault that docs/faults.md lists is proved by tests, with the codes that the page promises."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from service.provisioning.advice import ADVICE
from tests.infrastructure.processes import PROJECT_ROOT

PAGE = (PROJECT_ROOT / "docs" / "faults.md").read_text()
CODE = re.compile(r"`([a-z0-9]+(?:_[a-z0-9]+)+|forbidden|conflict)`")
HEAD = ("fault", "---")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    fault: str
    outcome: str
    todo: str

    @property
    def codes(self) -> set[str]:
        """The problem codes that the outcome promises."""
        return set(CODE.findall(self.outcome))


def rows() -> list[Row]:
    found: list[Row] = []
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("|") and not cells[0].startswith(HEAD):
            assert len(cells) == 4, line
            found.append(Row(fault=cells[0], outcome=cells[2], todo=cells[3]))
    return found


def proofs() -> dict[str, list[str]]:
    """Of each fault that a test says it proves, the source of these tests with their decorators."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted((PROJECT_ROOT / "tests").rglob("test_*.py")):
        text = path.read_text()
        if "@proves(" in text:
            for fault, source in _proofs_in(path, text):
                found[fault].append(source)
    return found


def _proofs_in(path: Path, text: str) -> Iterator[tuple[str, str]]:
    lines = text.splitlines()
    for node in ast.parse(text).body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for call in node.decorator_list:
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "proves":
                assert node.name.startswith("test_"), f"{path.name}: {node.name} is no test"
                first = min(each.lineno for each in node.decorator_list)
                source = "\n".join(lines[first - 1 : node.end_lineno])
                for argument in call.args:
                    assert isinstance(argument, ast.Constant), f"{path.name}: {node.name}"
                    yield str(argument.value), source


def test_every_fault_of_the_page_is_proved_and_none_is_proved_that_it_lacks() -> None:
    listed = [row.fault for row in rows()]
    assert len(listed) > 40
    assert len(set(listed)) == len(listed)
    assert set(proofs()) == set(listed)


def test_every_code_that_the_page_promises_is_in_a_proof_of_its_row() -> None:
    proved = proofs()
    for row in rows():
        source = "\n".join(proved[row.fault])
        for code in row.codes:
            assert code in source, f"{row.fault}: no proof names {code}"


def test_every_row_says_what_becomes_of_it_and_what_to_do() -> None:
    for row in rows():
        assert row.outcome, row.fault
        assert row.todo, row.fault


def test_every_code_that_messages_give_advice_for_is_on_the_page() -> None:
    named = set(CODE.findall(PAGE)) | {"invalid_body"}
    assert set(ADVICE) <= named
