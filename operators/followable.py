"""What an organization's declaration could not be followed in: asked where it is declared, and not where
it is read, so that what was declared before can still be.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from service.errors import ConfigurationError
from service.organizations import Organization
from service.workers import ATTRIBUTES

_CHOSEN: Final = ("default", "groups", *ATTRIBUTES)
"""What ``attributes_from`` may name."""
_LONGEST_HOLD: Final = timedelta(days=36500)


def check(organization: Organization) -> None:
    """Raises ConfigurationError that names the key."""
    _check_attributes(organization)
    _check_just_in_time(organization)
    _check_policies(organization)


def _check_attributes(organization: Organization) -> None:
    for name in organization.attributes_from:
        if name not in _CHOSEN:
            raise ConfigurationError(
                f"organizations[{organization.name}].attributes_from: {name} is none of"
                f" {', '.join(_CHOSEN)}."
            )


def _check_just_in_time(organization: Organization) -> None:
    """In the shared model people of others live in the connection, and leavers who are elsewhere."""
    for connection in organization.connections:
        if organization.model_in(connection) == "shared" and connection.assign_membership_on_login:
            raise ConfigurationError(
                f"organizations[{organization.name}].connections[{connection.name}]"
                ".assign_membership_on_login: everybody who has an account in a shared connection"
                " would become a member by logging in, whoever has left too: leave it off, members"
                " are added here."
            )


def _check_policies(organization: Organization) -> None:
    policies, where = organization.policies, f"organizations[{organization.name}].policies"
    databases = any(connection.is_database for connection in organization.connections)
    if policies.invite == "ticket" and not databases:
        raise ConfigurationError(
            f"{where}.invite: people of an identity provider choose no password in Auth0, so no"
            ' ticket would ever go out: let it be "invitation" or "none".'
        )
    if not timedelta() <= policies.deletion_hold <= _LONGEST_HOLD:
        raise ConfigurationError(
            f"{where}.deletion_hold: give a duration from PT0S to P{_LONGEST_HOLD.days}D."
        )
