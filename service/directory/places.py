"""An organization's place in Auth0, its Organization and its connections: whether it is still its own."""

from __future__ import annotations

from service.directory import organizations
from service.directory.database import Transaction
from service.directory.organizations import Registered
from service.errors import Refused


def require_own(transaction: Transaction, registered: Registered) -> None:
    """Raises Refused where another organization lives in its Organization or connections by now."""
    mine = registered.organization
    for each in organizations.every(transaction):
        other = each.organization
        if each.decommissioned or other.name == mine.name or other.tenant != mine.tenant:
            continue
        if other.auth0_name == mine.auth0_name:
            what = f"the Organization {mine.auth0_name}"
        else:
            theirs = {connection.name for connection in other.connections}
            shared = sorted(
                connection.name
                for connection in mine.connections
                if connection.name in theirs
                and "isolated"
                in (mine.model_in(connection), other.model_in(other.connection(connection.name)))
            )
            if not shared:
                continue
            what = f"the connection {shared[0]}"
        raise Refused(
            f"{other.name} has {what} by now: give {other.name} another one, or decommission it."
        )
