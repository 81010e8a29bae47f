"""A misspelt key of a declaration is answered with the one that was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from operators import declaration
from service.errors import ConfigurationError


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('user_model = "shared"', "organizations[acme].user_model: there is no such key; did you mean model?"),
        ("policies = { invites = 'none' }", "policies.invites: there is no such key; did you mean invite?"),
        ("connections = [{ named = 'a' }]", "named: there is no such key; did you mean name?"),
        ("set_up = { zzz = true }", "set_up.zzz: there is no such key; known are adopt, create_roles, enabled."),
    ],
)  # fmt: skip
def test_the_key_that_was_meant_is_named(tmp_path: Path, line: str, told: str) -> None:
    file = tmp_path / "declared.toml"
    connections = (
        "" if line.startswith("connections") else 'connections = [{ name = "acme-users" }]'
    )
    file.write_text(f'[[organizations]]\nname = "acme"\n{connections}\n{line}\n')
    with pytest.raises(ConfigurationError) as refused:
        declaration.read(file)
    assert told in str(refused.value)
    assert "Extra inputs" not in str(refused.value)


def test_a_key_at_the_top_is_named_as_well(tmp_path: Path) -> None:
    file = tmp_path / "declared.toml"
    file.write_text('[[organisations]]\nname = "acme"\n')
    with pytest.raises(ConfigurationError, match=r"did you mean organizations\?"):
        declaration.read(file)
