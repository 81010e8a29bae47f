"""No process begins work that it lacks a secret for."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from operators import composition, needs
from service.configuration import Settings
from service.directory import migrate
from service.errors import ConfigurationError


@pytest.mark.parametrize("role", ["scim", "intake", "lanes"])
async def test_a_role_that_needs_the_pepper_does_not_start_without(
    tmp_path: Path, role: str
) -> None:
    url = f"sqlite:///{tmp_path}/directory.db"
    await migrate.upgrade(url)
    settings = Settings(database_url=SecretStr(url))
    with pytest.raises(ConfigurationError, match=rf"PROVISIONER_TOKEN_PEPPER is not set \({role} "):
        await composition.serve(settings, roles=frozenset({role}), host="127.0.0.1", port=0)


def test_a_publisher_alone_does_not_start_without_anywhere_to_tell() -> None:
    with pytest.raises(ConfigurationError, match="PROVISIONER_KAFKA_BOOTSTRAP_SERVERS"):
        needs.require(Settings(), {"publisher"})


def test_the_roles_that_hold_no_secret_of_others_need_none() -> None:
    needs.require(Settings(), {"console"})
    needs.require(Settings(), {"console", "publisher"})
    needs.require(Settings(token_pepper=SecretStr("x" * 32)), composition.ROLES)
