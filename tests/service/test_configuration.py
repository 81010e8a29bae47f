"""Settings from the environment: mistakes are named by variable, values are shown nowhere."""

import traceback
from pathlib import Path

import pytest

from service.configuration import load
from service.errors import ConfigurationError

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    import os

    for name in [name for name in os.environ if name.startswith("PROVISIONER_")]:
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LEASE_SECONDS", SECRET),
        ("LEASE_SECONDS", "nan"),
        ("LEASE_SECONDS", "inf"),
        ("LOG_FORMAT", SECRET),
        ("SMTP_PORT", SECRET),
        ("KAFKA_SECURITY_PROTOCOL", SECRET),
        ("KAFKA_CREATE_TOPICS", SECRET),
    ],
)
def test_a_wrong_value_names_its_variable_and_is_not_repeated(
    environment: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    environment.setenv(f"PROVISIONER_{variable}", value)
    with pytest.raises(ConfigurationError, match=f"PROVISIONER_{variable}: ") as wrong:
        load()
    assert SECRET not in "".join(traceback.format_exception(wrong.value))


@pytest.mark.parametrize("content", [b"\xff\xfehunter2", None])
def test_a_file_that_cannot_be_read_names_its_variable(
    environment: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "pepper"
    if content is not None:
        path.write_bytes(content)
    environment.setenv("PROVISIONER_TOKEN_PEPPER_FILE", str(path))
    with pytest.raises(ConfigurationError, match="PROVISIONER_TOKEN_PEPPER_FILE") as wrong:
        load()
    assert SECRET not in "".join(traceback.format_exception(wrong.value))


def test_a_file_gives_its_content_without_the_line_end(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "pepper"
    path.write_text(f"{SECRET}\n")
    environment.setenv("PROVISIONER_TOKEN_PEPPER_FILE", str(path))
    assert load().pepper() == SECRET.encode()


def test_secrets_do_not_show(environment: pytest.MonkeyPatch) -> None:
    secrets = ("TOKEN_PEPPER", "AUTH0_CLIENT_SECRET", "KAFKA_SASL_PASSWORD", "CONSOLE_PASSWORD")
    for name in (*secrets, "SMTP_PASSWORD", "DATABASE_URL"):
        environment.setenv(f"PROVISIONER_{name}", SECRET)
    settings = load()
    assert SECRET not in f"{settings!r} {settings} {settings.model_dump()}"


@pytest.mark.parametrize("pepper", ["", None])
def test_a_missing_pepper_is_named(environment: pytest.MonkeyPatch, pepper: str | None) -> None:
    if pepper is not None:
        environment.setenv("PROVISIONER_TOKEN_PEPPER", pepper)
    with pytest.raises(ConfigurationError, match="PROVISIONER_TOKEN_PEPPER"):
        load().pepper()
