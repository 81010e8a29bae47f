"""Whatever is found in Auth0, the plan of a set-up comes to an end, and touches nothing of others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.provisioning.setup import operations as op
from service.provisioning.setup.desired import DesiredSetUp, WantedConnection
from service.provisioning.setup.observed import (
    Enabled,
    Mark,
    ObservedSetUp,
    SeenConnection,
    SeenOrganization,
    after,
)
from service.provisioning.setup.plan import MOST_CONNECTIONS, plan

NAMES = ("a-users", "b-users", "saml")
marks = st.none() | st.builds(
    Mark, organization=st.sampled_from(("acme", "globex")), made=st.booleans()
)
switches = st.builds(
    Enabled,
    assign_membership_on_login=st.booleans(),
    show_as_button=st.booleans(),
    is_signup_enabled=st.booleans(),
)
wanted = st.builds(
    WantedConnection,
    name=st.sampled_from(NAMES),
    strategy=st.sampled_from(("auth0", "samlp")),
    create=st.just(False),
    own=st.booleans(),
    assign_membership_on_login=st.booleans(),
    show_as_button=st.booleans(),
) | st.builds(
    WantedConnection,
    name=st.sampled_from(NAMES),
    strategy=st.just("auth0"),
    create=st.just(True),
    own=st.booleans(),
)
desires = st.builds(
    DesiredSetUp,
    name=st.just("acme"),
    auth0_name=st.just("acme"),
    display_name=st.sampled_from(("Acme", "Other")),
    connections=st.lists(wanted, min_size=1, max_size=3, unique_by=lambda each: each.name).map(
        tuple
    ),
    application=st.sampled_from(("", "app")),
    fallback_application=st.sampled_from(("", "ours")),
    roles=st.sampled_from(((), ("admin",))),
    create_roles=st.booleans(),
    adopt=st.booleans(),
    dismantle=st.booleans(),
)
pictures = st.builds(
    ObservedSetUp,
    organization=st.none()
    | st.builds(
        SeenOrganization,
        id=st.just("org_1"),
        display_name=st.sampled_from(("Acme", "Theirs")),
        mark=marks,
        enabled=st.dictionaries(
            st.sampled_from((*NAMES, *(f"x{number}" for number in range(10)))),
            switches,
            max_size=10,
        ),
    ),
    connections=st.dictionaries(
        st.sampled_from(NAMES),
        st.builds(
            SeenConnection,
            id=st.just("con_1"),
            strategy=st.sampled_from(("auth0", "samlp")),
            mark=marks,
            sign_up=st.booleans(),
            applications=st.sampled_from(((), ("other",))),
        ),
    ),
    roles=st.sampled_from((frozenset[str](), frozenset({"admin"}))),
)


@given(desires, pictures)
def test_the_plan_comes_to_its_end_in_as_many_steps_as_it_has(
    desired: DesiredSetUp, seen: ObservedSetUp
) -> None:
    whole = plan(desired, seen)
    for step in whole.operations:
        assert plan(desired, seen).operations[0] == step
        seen = after(seen, step, id="new", owner=desired.name)
    left = plan(desired, seen)
    assert left.operations == ()
    assert left.problems == whole.problems


@given(desires, pictures)
def test_nothing_of_others_is_changed_or_deleted(
    desired: DesiredSetUp, seen: ObservedSetUp
) -> None:
    made = Mark(organization=desired.name, made=True)
    declared = {each.name for each in desired.connections}
    for step in plan(desired, seen).operations:
        match step:
            case op.DeleteConnection():
                assert desired.dismantle
                assert seen.connections[step.name].mark == made
            case op.DeleteOrganization():
                assert desired.dismantle
                assert seen.organization is not None
                assert seen.organization.mark == made
            case op.UpdateOrganization() | op.UpdateEnabledConnection() | op.EnableConnection():
                mark = seen.organization.mark if seen.organization is not None else made
                assert desired.adopt if mark is None else mark.organization == desired.name
            case op.CloseSignUp():
                assert seen.connections[step.name].mark is not None
            case op.AdoptConnection() | op.AdoptOrganization():
                assert desired.adopt
            case op.CreateRole():
                assert desired.create_roles
            case op.CreateConnection() | op.EnableForApplication():
                assert step.name in declared
            case op.CreateOrganization():
                assert seen.organization is None


@given(desires, pictures)
def test_an_organization_never_gets_more_connections_than_auth0_allows(
    desired: DesiredSetUp, seen: ObservedSetUp
) -> None:
    for step in plan(desired, seen).operations:
        seen = after(seen, step, id="new", owner=desired.name)
    if seen.organization is not None:
        assert len(seen.organization.enabled) <= MOST_CONNECTIONS
