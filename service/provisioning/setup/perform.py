"""Reads an organization's set-up from Auth0, and carries out one operation there. Nothing else."""

from __future__ import annotations

from typing import Any, Final

from service.auth0.answers import Answer
from service.auth0.setup import SetUpCalls
from service.organizations import MARKER
from service.provisioning.setup import operations as op
from service.provisioning.setup.desired import DesiredSetUp
from service.provisioning.setup.observed import (
    Enabled,
    Mark,
    ObservedSetUp,
    SeenConnection,
    SeenOrganization,
)
from service.provisioning.setup.operations import Operation

NOT_EMPTY: Final = "connection_not_empty"
INDEX_LAGS: Final = "index_lags"
_CLOSED: Final = {"disable_signup": True}


async def observe(calls: SetUpCalls, desired: DesiredSetUp) -> ObservedSetUp | Answer:
    """What is there of everything that is declared, or the answer that kept us from seeing it."""
    connections: dict[str, SeenConnection] = {}
    for wanted in desired.connections:
        seen = await _connection(calls, wanted.name)
        if isinstance(seen, Answer):
            return seen
        if seen is not None:
            connections[wanted.name] = seen
    organization = await _organization(calls, desired)
    if isinstance(organization, Answer):
        return organization
    roles: frozenset[str] = frozenset()
    if desired.roles and not desired.dismantle:
        answer = await calls.roles()
        if answer.verdict != "ok":
            return answer
        roles = frozenset(answer.data)
    return ObservedSetUp(organization=organization, connections=connections, roles=roles)


async def _connection(calls: SetUpCalls, name: str) -> SeenConnection | Answer | None:
    found = await calls.connection(name)
    if found.verdict != "ok":
        return found
    if found.data is None:
        return None
    known: dict[str, Any] = found.data
    applications = await calls.applications(known["id"])
    if applications.verdict == "not-found":
        return None  # deleted between the two calls
    if applications.verdict != "ok":
        return applications
    is_database = known["strategy"] == "auth0"
    return SeenConnection(
        id=known["id"],
        strategy=known["strategy"],
        mark=Mark.of(known.get("metadata")),
        sign_up=is_database and not (known.get("options") or {}).get("disable_signup", False),
        applications=tuple(sorted(applications.data)),
    )


async def _organization(
    calls: SetUpCalls, desired: DesiredSetUp
) -> SeenOrganization | Answer | None:
    found = await calls.client.organization_by_name(desired.auth0_name)
    if found.verdict == "not-found":
        return None
    if found.verdict != "ok":
        return found
    known: dict[str, Any] = found.data
    enabled = await calls.enabled_connections(known["id"])
    if enabled.verdict == "not-found":
        return None
    if enabled.verdict != "ok":
        return enabled
    return SeenOrganization(
        id=known["id"],
        display_name=known.get("display_name") or "",
        mark=Mark.of(known.get("metadata")),
        metadata={
            key: value
            for key, value in (known.get("metadata") or {}).items()
            if key in desired.metadata and value
        },
        enabled={each["connection"]["name"]: _switches(each) for each in enabled.data},
    )


def _switches(enabled: dict[str, Any]) -> Enabled:
    return Enabled(
        assign_membership_on_login=bool(enabled.get("assign_membership_on_login")),
        show_as_button=enabled.get("show_as_button") is not False,
        is_signup_enabled=bool(enabled.get("is_signup_enabled")),
    )


async def perform(
    calls: SetUpCalls, operation: Operation, desired: DesiredSetUp, observed: ObservedSetUp
) -> Answer:
    """Makes the call. What it needs the id of is in ``observed``, or was made before it."""
    made = {MARKER: str(Mark(organization=desired.name, made=True))}
    adopted = {MARKER: str(Mark(organization=desired.name, made=False))}
    connection = observed.connections.get(operation.name)
    connection_id = connection.id if connection is not None else ""
    organization_id = observed.organization.id if observed.organization is not None else ""
    match operation:
        case op.CreateConnection():
            return await calls.create_connection(operation.name, made)
        case op.CloseSignUp():
            return await calls.update_connection(connection_id, _CLOSED, {})
        case op.AdoptConnection():
            return await calls.update_connection(connection_id, _CLOSED, adopted)
        case op.EnableForApplication():
            return await calls.enable_for_application(connection_id, operation.application)
        case op.CreateOrganization():
            metadata = {**operation.metadata, **made}
            return await calls.create_organization(operation.name, operation.display_name, metadata)
        case op.UpdateOrganization():
            return await calls.update_organization(
                organization_id, operation.display_name, operation.metadata
            )
        case op.AdoptOrganization():
            metadata = {**operation.metadata, **adopted}
            return await calls.update_organization(
                organization_id, operation.display_name, metadata
            )
        case op.EnableConnection() | op.UpdateEnabledConnection():
            call = (
                calls.enable_connection
                if isinstance(operation, op.EnableConnection)
                else calls.update_enabled_connection
            )
            return await call(organization_id, connection_id, _as_declared(operation))
        case op.CreateRole():
            return await calls.create_role(operation.name)
        case op.DeleteConnection():
            return await _delete_connection(calls, operation.name, connection_id)
        case op.DeleteOrganization():
            return await calls.delete_organization(organization_id)


def _as_declared(operation: op.EnableConnection | op.UpdateEnabledConnection) -> dict[str, bool]:
    return {
        "assign_membership_on_login": operation.assign_membership_on_login,
        "show_as_button": operation.show_as_button,
        "is_signup_enabled": False,
    }


async def _delete_connection(calls: SetUpCalls, name: str, connection_id: str) -> Answer:
    """Not while anybody is in it: they would go with it, whoever made them.

    The index shows for a while whom we have just deleted: it takes a read by id to know.
    """
    listed = await calls.users_in(name)
    if listed.verdict != "ok":
        return listed
    for each in listed.data:
        found = await calls.client.get_user(each["user_id"])
        if found.verdict == "ok":
            message = f"there are users in {name} still, such as {each['user_id']}"
            return Answer(verdict="refused", code=NOT_EMPTY, message=message)
        if found.verdict != "not-found":
            return found
    if listed.data:
        message = f"Auth0 still lists users of {name} that are gone"
        return Answer(verdict="refused", code=INDEX_LAGS, message=message)
    return await calls.delete_connection(connection_id)
