"""What a process of ``provisioner serve`` cannot do its work without, by role. Reads no database."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from service.configuration import Settings
from service.errors import ConfigurationError

PEPPER_IS_FOR: Final = {
    "scim": "checks SCIM tokens with it",
    "intake": "checks event tokens with it",
    "lanes": "opens with it the password hashes that wait for an import",
}
"""What each role that needs the pepper does with it."""


def require(settings: Settings, roles: Collection[str]) -> None:
    """Raises ConfigurationError where a setting is missing that one of these roles needs."""
    asking = [name for name in PEPPER_IS_FOR if name in roles]
    if asking and not settings.token_pepper.get_secret_value():
        said = ", ".join(f"{name} {PEPPER_IS_FOR[name]}" for name in asking)
        raise ConfigurationError(
            f"PROVISIONER_TOKEN_PEPPER is not set ({said}): give this process the 32 random bytes or"
            " more that all others of the installation have."
        )
    tells = settings.kafka_bootstrap_servers or settings.set_signing_keys.get_secret_value()
    if set(roles) == {"publisher"} and not tells:
        raise ConfigurationError(
            "The publisher has nowhere to tell outcomes: set PROVISIONER_KAFKA_BOOTSTRAP_SERVERS, or"
            " PROVISIONER_SET_SIGNING_KEYS for security events."
        )
