"""What the documentation lists is what there is: settings, metrics, keys of declarations, decisions."""

from __future__ import annotations

import re

import pytest

from operators.cli import main
from service.configuration import PREFIX, Settings
from service.directory.depths import Depths
from service.metrics import Metrics
from service.organizations import Organization, Policies
from tests.infrastructure.processes import PROJECT_ROOT

DOCS = PROJECT_ROOT / "docs"
OPERATIONS = (DOCS / "operations.md").read_text()
OPERATORS = (DOCS / "operators.md").read_text()
SETTINGS = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}


def test_every_setting_is_listed_and_every_listed_one_exists() -> None:
    table = "\n".join(line for line in OPERATIONS.splitlines() if line.startswith("| `PROV"))
    assert set(re.findall(r"`(PROVISIONER_[A-Z0-9_]+)`", table)) == SETTINGS


def test_no_page_names_a_setting_that_does_not_exist() -> None:
    for page in [*DOCS.rglob("*.md"), PROJECT_ROOT / "README.md"]:
        named = re.findall(r"PROVISIONER_[A-Z0-9_]*[A-Z0-9]", page.read_text())
        known = SETTINGS | {f"{name}_FILE" for name in SETTINGS} | {"PROVISIONER_AUTH0"}
        assert set(named) <= known, page.name


def test_every_metric_is_listed() -> None:
    nothing = Depths(
        open_events=0,
        due_accounts=0,
        untouched_users=0,
        unpublished_outcomes=0,
        paused_tenants=0,
        set_ups_in_trouble=0,
        deadlettered_events=0,
        staged_events=0,
        thin_events=0,
    )
    metrics = Metrics()
    page = metrics.render(nothing).decode()
    there = set(re.findall(r"^# TYPE (\S+) ", page, re.MULTILINE))
    assert there
    assert set(re.findall(r"^\| `(provisioner_\w+)`", OPERATIONS, re.MULTILINE)) == there


@pytest.mark.parametrize("key", [*Organization.model_fields, *Policies.model_fields])
def test_every_key_of_an_organization_is_explained(key: str) -> None:
    assert f"`{key}`" in OPERATORS or f"`policies.{key}`" in OPERATORS or key == "policies"


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*DOCS.rglob("*.md"), *PROJECT_ROOT.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_decisions_are_numbered_without_a_gap() -> None:
    pages = sorted((DOCS / "adr").glob("*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        assert page.read_text().startswith(f"# {int(page.name[:4])}. ")


@pytest.mark.parametrize("page", ["operators.md", "operations.md"])
def test_every_command_that_a_page_names_exists(page: str) -> None:
    text = (DOCS / page).read_text()
    nouns = "org|events|user|db"
    named = set(
        re.findall(
            rf"`(?:provisioner )?((?:{nouns}) (?:token |security-events )?[a-z]+)\b(?!-)", text
        )
    )
    assert named
    for command in sorted(named):
        assert main([*command.split(), "--help"]) == 0, command
