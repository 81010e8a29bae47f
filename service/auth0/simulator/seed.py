"""The sample tenants: what `provisioner dev` and the tests find in a new simulator. Data only,
and one function that stores it."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from service.auth0.simulator import connections, oauth, organizations, roles
from service.auth0.simulator.operation import World
from service.auth0.simulator.store import stable_id

ROLES: Mapping[str, str] = MappingProxyType(
    {"admin": "Manages the organization", "member": "Uses the product", "billing": "Pays"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A tenant: its connections (name to strategy) and organizations (name to display name and
    connection)."""

    connections: Mapping[str, str]
    organizations: Mapping[str, tuple[str, str]]


SAMPLES: Mapping[str, Sample] = MappingProxyType(
    {
        "main": Sample(
            connections={
                "hoekstra-users": "auth0",
                "metahexa-ad": "waad",
                "clinics-users": "auth0",
            },
            organizations={
                "hoekstra": ("Hoekstra & Associates", "hoekstra-users"),
                "metahexa": ("MetaHexa Bank", "metahexa-ad"),
                "clinic-a": ("Clinic A", "clinics-users"),
                "clinic-b": ("Clinic B", "clinics-users"),
            },
        ),
        "conglomerate": Sample(
            connections={"conglomerate-users": "auth0"},
            organizations={"conglomerate": ("Conglomerate", "conglomerate-users")},
        ),
    }
)


def plant(world: World, sample: Sample) -> None:
    """Store a sample in an empty tenant. Ids follow from names, so they are the same everywhere."""
    tenant = world.tenant
    for name, strategy in sample.connections.items():
        connection_id = stable_id("con_", tenant, name)
        policy = (
            {"passwordPolicy": "good", "disable_signup": True}
            if strategy == connections.DATABASE
            else {}
        )
        document = {
            "name": name,
            "strategy": strategy,
            "options": policy,
            "realms": [name],
            "is_domain_connection": False,
        }
        connections.insert(world, connection_id, document)
        connections.enable(world, connection_id, [oauth.APPLICATION])
    for name, (display_name, connection) in sample.organizations.items():
        organization_id = stable_id("org_", tenant, name)
        organizations.insert(world, organization_id, {"name": name, "display_name": display_name})
        wanted = {"connection_id": stable_id("con_", tenant, connection)}
        organizations.enable(world, organization_id, wanted)
    for name, description in ROLES.items():
        roles.insert(world, stable_id("rol_", tenant, name), name, description)
