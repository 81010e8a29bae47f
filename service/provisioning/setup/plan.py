"""The plan: from what is declared and what was seen to operations, and to what an operator must
decide. Pure. Nothing that is not declared is changed, and nothing of others is deleted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from service.organizations import MARKER
from service.provisioning.setup import operations as op
from service.provisioning.setup.desired import DesiredSetUp, WantedConnection
from service.provisioning.setup.observed import (
    Enabled,
    ObservedSetUp,
    SeenConnection,
    SeenOrganization,
    after,
)
from service.provisioning.setup.operations import Operation

MOST_CONNECTIONS: Final = 10
"""Of one Organization (Auth0's entity limits)."""
OF_ANOTHER: Final = "organization_of_another"
"""We made the Organization for another organization: nobody is let into it for this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What keeps the set-up from being as declared. ``advice``: what the operator may do."""

    code: str
    message: str
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do, in this order, and what stands in the way of the rest."""

    operations: tuple[Operation, ...] = ()
    problems: tuple[Problem, ...] = ()


def plan(desired: DesiredSetUp, observed: ObservedSetUp) -> Plan:
    steps = _dismantle if desired.dismantle else _close if desired.closed else _prepare
    operations: list[Operation] = []
    problems: list[Problem] = []
    for step in steps(desired, observed):
        if isinstance(step, Problem):
            problems.append(step)
        else:
            operations.append(step)
    return Plan(operations=tuple(operations), problems=tuple(problems))


def _prepare(desired: DesiredSetUp, observed: ObservedSetUp) -> Iterator[Operation | Problem]:
    usable: list[WantedConnection] = []
    for wanted in desired.connections:
        seen = observed.connections.get(wanted.name)
        if seen is None and wanted.create:
            create = op.CreateConnection(name=wanted.name)
            yield create
            seen = after(observed, create, id="", owner=desired.name).connections[wanted.name]
        problem = _unusable(wanted, seen)
        if problem is not None:
            yield problem
        elif seen is not None:
            usable.append(wanted)
            yield from _connection(desired, wanted, seen)
    yield from _organization(desired, observed, usable)
    yield from _roles(desired, observed)


def _unusable(wanted: WantedConnection, seen: SeenConnection | None) -> Problem | None:
    if seen is None:
        return Problem(
            code="unknown_connection",
            message=f"There is no connection {wanted.name} in this tenant.",
            advice="Correct connections[].name, make it in Auth0 (Authentication), or declare"
            " create = true for a database.",
        )
    if seen.strategy != wanted.strategy:
        return Problem(
            code="connection_strategy",
            message=f"Connection {wanted.name} has the strategy {seen.strategy}, declared is"
            f" {wanted.strategy}.",
            advice="Correct connections[].strategy.",
        )
    return None


def _connection(
    desired: DesiredSetUp, wanted: WantedConnection, seen: SeenConnection
) -> Iterator[Operation | Problem]:
    if wanted.is_database and seen.mark is None and desired.adopt and wanted.own:
        yield op.AdoptConnection(name=wanted.name)
    elif wanted.is_database and seen.mark is not None and seen.sign_up:
        yield op.CloseSignUp(name=wanted.name)
    application = desired.application
    if not application and not seen.applications:
        application = desired.fallback_application
    if application and application not in seen.applications:
        yield op.EnableForApplication(name=wanted.name, application=application)
    elif not application and not seen.applications:
        yield Problem(
            code="no_application",
            message=f"Connection {wanted.name} is enabled for no application, so Auth0 creates no"
            " user in it.",
            advice="Declare the organization's application = its client_id.",
        )


def _organization(
    desired: DesiredSetUp, observed: ObservedSetUp, usable: list[WantedConnection]
) -> Iterator[Operation | Problem]:
    seen = observed.organization
    if seen is None:
        create = op.CreateOrganization(
            name=desired.auth0_name,
            display_name=desired.display_name,
            metadata={key: value for key, value in desired.metadata.items() if value},
        )
        yield create
        seen = after(observed, create, id="", owner=desired.name).organization
        assert seen is not None
    elif seen.mark is None and not desired.adopt:
        yield from _left_alone(desired, seen, usable)
        return
    elif seen.mark is None:
        yield op.AdoptOrganization(
            name=desired.auth0_name,
            display_name=desired.display_name,
            metadata=_differing(desired, seen),
        )
    elif seen.mark.organization != desired.name:
        yield Problem(
            code=OF_ANOTHER,
            message=f"The Organization {desired.auth0_name} is that of {seen.mark.organization}.",
            advice="Give this one an auth0_organization of its own; or, where that one has ended,"
            f" take the key {MARKER} out of the Organization's metadata in Auth0, and apply again.",
        )
        return
    elif seen.display_name != desired.display_name or _differing(desired, seen):
        yield op.UpdateOrganization(
            name=desired.auth0_name,
            display_name=desired.display_name,
            metadata=_differing(desired, seen),
        )
    yield from _enabled(seen, usable)


def _differing(desired: DesiredSetUp, seen: SeenOrganization) -> dict[str, str]:
    """Of the declared metadata. A key that nobody declares is nobody's business here."""
    return {
        key: value for key, value in desired.metadata.items() if seen.metadata.get(key, "") != value
    }


def _left_alone(
    desired: DesiredSetUp, seen: SeenOrganization, usable: list[WantedConnection]
) -> Iterator[Problem]:
    """Somebody else made it: it is used as it is, as long as it serves."""
    missing = [each.name for each in usable if each.name not in seen.enabled]
    if missing:
        yield Problem(
            code="organization_not_ours",
            message=f"The Organization {desired.auth0_name} was there before us, and"
            f" {', '.join(missing)} is not enabled for it.",
            advice="Declare set_up = { adopt = true } to have it kept as declared, give another"
            " auth0_organization, or enable the connection in Auth0 (Organizations, Connections).",
        )


def _enabled(
    seen: SeenOrganization, usable: list[WantedConnection]
) -> Iterator[Operation | Problem]:
    room = MOST_CONNECTIONS - len(seen.enabled)
    for wanted in usable:
        switches = Enabled(
            assign_membership_on_login=wanted.assign_membership_on_login,
            show_as_button=wanted.show_as_button,
        )
        known = seen.enabled.get(wanted.name)
        if known == switches:
            continue
        if known is not None:
            yield op.UpdateEnabledConnection(
                name=wanted.name,
                assign_membership_on_login=wanted.assign_membership_on_login,
                show_as_button=wanted.show_as_button,
            )
        elif room > 0:
            room -= 1
            yield op.EnableConnection(
                name=wanted.name,
                assign_membership_on_login=wanted.assign_membership_on_login,
                show_as_button=wanted.show_as_button,
            )
        else:
            yield Problem(
                code="too_many_connections",
                message=f"The Organization has {MOST_CONNECTIONS} connections, and no room for"
                f" {wanted.name}.",
                advice="Disable one in Auth0 (Organizations, Connections).",
            )


def _roles(desired: DesiredSetUp, observed: ObservedSetUp) -> Iterator[Operation | Problem]:
    for name in desired.roles:
        if name in observed.roles:
            continue
        if desired.create_roles:
            yield op.CreateRole(name=name)
        else:
            yield Problem(
                code="unknown_role",
                message=f"There is no role {name} in this tenant.",
                advice="Create it in Auth0 (User Management, Roles), correct roles, or declare"
                " set_up = { create_roles = true }.",
            )


def _close(desired: DesiredSetUp, observed: ObservedSetUp) -> Iterator[Operation | Problem]:
    """Whoever we never heard of would come in by logging in, as long as that makes a member."""
    seen = observed.organization
    if seen is None or (seen.mark is not None and seen.mark.organization != desired.name):
        return
    for name in sorted(seen.enabled.keys() & observed.connections.keys()):
        known = seen.enabled[name]
        if not known.assign_membership_on_login:
            continue
        if seen.mark is None:
            yield Problem(
                code="organization_not_ours",
                message=f"The Organization {desired.auth0_name} was there before us, and whoever"
                f" logs in through {name} becomes a member of it, though it has ended.",
                advice="Turn that off in Auth0 (Organizations, Connections).",
            )
            continue
        yield op.UpdateEnabledConnection(
            name=name, assign_membership_on_login=False, show_as_button=known.show_as_button
        )


def _dismantle(desired: DesiredSetUp, observed: ObservedSetUp) -> Iterator[Operation | Problem]:
    """What we made for this organization goes. What was there before us stays."""
    for wanted in desired.connections:
        seen = observed.connections.get(wanted.name)
        mark = seen.mark if seen is not None else None
        if wanted.own and mark is not None and mark.made and mark.organization == desired.name:
            yield op.DeleteConnection(name=wanted.name)
    seen = observed.organization
    mark = seen.mark if seen is not None else None
    if desired.own and mark is not None and mark.made and mark.organization == desired.name:
        yield op.DeleteOrganization(name=desired.auth0_name)
