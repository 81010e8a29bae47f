"""What an organization's declaration wants of Auth0 beside accounts. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from service.organizations import Organization, Tenant


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedConnection:
    """One connection. ``create``: made where there is none; ``own``: no other organization's."""

    name: str
    strategy: str
    create: bool
    own: bool
    assign_membership_on_login: bool = False
    show_as_button: bool = True

    @property
    def is_database(self) -> bool:
        return self.strategy == "auth0"


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredSetUp:
    """``name``: ours, which markers hold; ``auth0_name``: the Organization's. Roles by name."""

    name: str
    auth0_name: str
    display_name: str
    connections: tuple[WantedConnection, ...]
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    """Of the Organization: what a key holds; empty: the key is not there."""
    application: str = ""
    fallback_application: str = ""
    """Our own client: a connection that nobody is named for is enabled for it, so that the API
    creates users there; nobody logs in by it."""
    roles: tuple[str, ...] = ()
    create_roles: bool = False
    adopt: bool = False
    dismantle: bool = False
    """The organization has ended: what was made for it goes."""
    closed: bool = False
    """It has ended, and its accounts are not gone yet: nobody becomes a member by logging in."""
    own: bool = True
    """Whether the Organization is no other's that goes on."""


def desire(
    organization: Organization,
    tenant: Tenant | None,
    *,
    dismantle: bool = False,
    closed: bool = False,
    others: Collection[Organization] = (),
) -> DesiredSetUp:
    """``others``: those of the tenant that go on; what they live in stays."""
    used_by_others = {connection.name for each in others for connection in each.connections}
    administrator = organization.administrator
    roles = {*organization.roles.values()}
    if administrator is not None and administrator.role:
        roles.add(administrator.role)
    return DesiredSetUp(
        name=organization.name,
        auth0_name=organization.auth0_name,
        display_name=organization.display_name or organization.auth0_name,
        connections=tuple(
            WantedConnection(
                name=each.name,
                strategy=each.strategy,
                create=each.is_database
                and (organization.model != "shared" if each.create is None else each.create),
                own=organization.model_in(each) == "isolated" and each.name not in used_by_others,
                assign_membership_on_login=each.assign_membership_on_login,
                show_as_button=each.show_as_button,
            )
            for each in organization.connections
        ),
        metadata=organization.metadata,
        application=organization.application,
        fallback_application=tenant.client_id if tenant is not None else "",
        roles=tuple(sorted(roles)),
        create_roles=organization.set_up.create_roles,
        adopt=organization.set_up.adopt,
        dismantle=dismantle,
        closed=closed,
        own=organization.auth0_name not in {each.auth0_name for each in others},
    )
