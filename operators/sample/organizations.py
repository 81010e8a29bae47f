"""The five sample organizations, one for each way in which customers' users come to be in Auth0."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from service.extension_schemas import AttributeDeclaration, SchemaDeclaration
from service.organizations import (
    Connection,
    EventSource,
    Installation,
    Organization,
    Policies,
    Tenant,
)

CLIENT_ID: Final = "provisioner"
CLIENT_SECRET: Final = "simulator-secret"  # the simulator's, which guards nothing
_PRACTICE: Final = SchemaDeclaration(
    id="urn:hoekstra:scim:schemas:1.0:Practice",
    name="Practice",
    description="What a law firm knows of its people",
    attributes=(
        AttributeDeclaration(
            name="barNumber", description="Given once.", case_exact=True, mutability="immutable"
        ),
        AttributeDeclaration(
            name="office",
            description="Where they mostly work.",
            canonical_values=("Amsterdam", "Utrecht"),
        ),
        AttributeDeclaration(
            name="hourlyRate", type="decimal", description="In euros.", returned="request"
        ),
    ),
)


def sample_installation(simulator_url: str) -> Installation:
    """Everything that ``provisioner dev`` declares. ``simulator_url`` without a trailing slash."""
    return Installation(
        tenants=(
            Tenant(name="main", base_url=simulator_url, client_id=CLIENT_ID, plan="enterprise"),
            Tenant(
                name="conglomerate",
                base_url=f"{simulator_url}/tenants/conglomerate",
                client_id=CLIENT_ID,
                plan="enterprise",
            ),
        ),
        organizations=(
            Organization(
                name="hoekstra",
                display_name="Hoekstra & Associates",
                connections=(Connection(name="hoekstra-users"),),
                verified_domains=("hoekstra.example",),
                roles={"Administrators": "admin", "Bookkeeping": "billing"},
                scim_schemas=(_PRACTICE,),
                policies=Policies(
                    invite="ticket",
                    adoption="verified-email",
                    deletion="delete",
                    deletion_hold=timedelta(days=30),
                ),
            ),
            Organization(
                name="metahexa",
                display_name="MetaHexa Bank",
                model="enterprise",
                connections=(Connection(name="metahexa-ad", strategy="waad"),),
                verified_domains=("metahexa.example",),
            ),
            *(
                Organization(
                    name=f"clinic-{letter}",
                    display_name=f"Clinic {letter.upper()}",
                    model="shared",
                    connections=(Connection(name="clinics-users"),),
                    verified_domains=("clinics.example",),
                    policies=Policies(adoption="verified-email"),
                )
                for letter in "ab"
            ),
            Organization(
                name="conglomerate",
                display_name="Conglomerate Holdings",
                tenant="conglomerate",
                connections=(Connection(name="conglomerate-users"),),
                verified_domains=("conglomerate.example",),
                roles={"Administrators": "admin"},
            ),
        ),
        sources=(
            EventSource(
                name="hr.events",
                topic="hr.events",
                organizations=("hoekstra", "metahexa", "clinic-a", "clinic-b", "conglomerate"),
            ),
        ),
    )
