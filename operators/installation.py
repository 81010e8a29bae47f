"""The settings of an installation that keeps everything in one directory, as ``provisioner dev`` does."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any, Final

from operators.sample.organizations import CLIENT_SECRET
from service.configuration import Settings, load, read_secret
from service.errors import ConfigurationError

HERE: Final = Path(".provisioner")
"""Where ``provisioner dev`` keeps its own unless told otherwise."""
DATABASE: Final = "directory.db"
PEPPER: Final = "pepper"
MAIL: Final = "mail"


class NoInstallation(ConfigurationError):
    """There is no installation here: name the directory of one that was started before."""


def settings_of(data_dir: Path, *, create: bool = False) -> Settings:
    """The settings of the installation in a directory; what it does not decide, the environment does.

    ``create`` makes the directory and its pepper where they are missing. Otherwise raises
    NoInstallation where nothing was ever started there.
    """
    if create:
        _create(data_dir)
    elif not is_in(data_dir):
        raise NoInstallation(
            f"There is no installation in {data_dir}: start one with"
            f" 'provisioner dev --data-dir {data_dir}', or name another directory."
        )
    overrides: dict[str, Any] = {
        "database_url": f"sqlite:///{data_dir / DATABASE}",
        "token_pepper": read_secret(data_dir / PEPPER, "the installation's pepper"),
        "mail_folder": str(data_dir / MAIL),
        "log_format": "text",
        # Whatever the environment says of a real tenant: this one is the simulator's.
        "auth0_client_secret": CLIENT_SECRET,
    }
    return load(overrides)


def is_in(data_dir: Path) -> bool:
    """Whether an installation was ever started in this directory."""
    return (data_dir / DATABASE).exists() and (data_dir / PEPPER).exists()


def _create(data_dir: Path) -> None:
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)  # it will hold personal data
    path = data_dir / PEPPER
    if path.exists():
        return
    fresh = path.with_name(f"{PEPPER}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(32))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(fresh, path)  # whoever came first stays: tokens hang on it
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
