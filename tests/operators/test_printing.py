"""Tables: what a narrow terminal shows, and that nothing to show leaves standard output empty."""

from __future__ import annotations

import os
import pty
import subprocess

from tests.infrastructure.processes import provisioner
from tests.operators.house import House


def on_a_terminal(columns: int, *arguments: str) -> str:
    """What a command prints where standard output is a terminal of this width."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    with subprocess.Popen(provisioner(*arguments), stdout=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 65536):
                shown += part
        except OSError:  # Linux: the other end is closed
            pass
        os.close(ours)
    assert process.returncode == 0
    return shown.decode()


def test_ids_stay_whole_on_a_narrow_terminal(house: House) -> None:
    user = house.create("lena@acme.example")
    event = house.events()[0].id

    listed = on_a_terminal(80, "events", "list", "--data-dir", str(house.data_dir))
    assert event in listed
    assert user.id in listed
    assert max(len(line) for line in listed.splitlines()) <= 80
    assert event in on_a_terminal(
        80, "user", "show", "acme", user.id, "--data-dir", str(house.data_dir)
    )


def test_a_wide_terminal_shows_columns(house: House) -> None:
    house.create("lena@acme.example")
    listed = on_a_terminal(200, "events", "list", "--data-dir", str(house.data_dir))
    assert "accepted" in listed
    assert "organization" in listed


def test_nothing_to_show_is_said_on_standard_error(house: House) -> None:
    ended = house.run("audit")
    assert (ended.status, ended.out) == (0, "")
    assert "Nothing to show" in ended.err


def test_brackets_in_what_people_wrote_are_no_markup(house: House) -> None:
    user = house.create("lena@acme.example")
    house.run("user", "block", "acme", user.id, "--reason", "[red]seen[/red] :smile:")
    assert "[red]seen[/red] :smile:" in house.run("audit").out


def test_a_misspelt_organization_is_an_error(house: House) -> None:
    for command in (["events", "list"], ["outcomes"], ["audit"]):
        for more in ([], ["--json"]):
            ended = house.run(*command, "--organization", "acne", *more)
            assert (ended.status, ended.out) == (1, "")
            assert "There is no organization acne" in ended.err
