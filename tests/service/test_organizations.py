"""What an organization's configuration must say before anybody is invited."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import ValidationError

from service.organizations import Connection, Invite, Model, Organization, Policies

DATABASE, ENTRA = Connection(name="users"), Connection(name="entra", strategy="waad")


def organization(model: Model, invite: Invite, application: str = "") -> Organization:
    return Organization(
        name="acme",
        model=model,
        connections=(ENTRA if model == "enterprise" else DATABASE,),
        application=application,
        policies=Policies(invite=invite),
    )


@pytest.mark.parametrize("invite", ["auth0-mail", "invitation"])
def test_a_link_that_auth0_mails_needs_an_application_to_lead_to(invite: Invite) -> None:
    with pytest.raises(ValidationError, match="needs application"):
        organization("isolated", invite)
    assert organization("isolated", invite, "app").application == "app"


def test_a_ticket_needs_none() -> None:
    assert organization("isolated", "ticket").policies.invite == "ticket"


def test_enterprise_users_have_no_password_to_choose() -> None:
    with pytest.raises(ValidationError, match="no password in Auth0"):
        organization("enterprise", "auth0-mail", "app")
    assert organization("enterprise", "invitation", "app").policies.invite == "invitation"


@pytest.mark.parametrize("lifetime", [timedelta(minutes=5), timedelta(days=31)])
def test_a_link_lives_for_an_hour_at_least_and_thirty_days_at_most(lifetime: timedelta) -> None:
    with pytest.raises(ValidationError):
        Policies(invite="ticket", invite_lifetime=lifetime)
