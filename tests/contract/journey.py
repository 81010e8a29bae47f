"""One walk through every operation of the simulator with auth0-python's own client."""

import json
from collections.abc import Awaitable, Callable

from auth0.management import AsyncAuth0
from auth0.management.types import (
    ConnectionForOrganization,
    CreateExportUsersFields,
    OrganizationInvitationInvitee,
    OrganizationInvitationInviter,
    UpdateEnabledClientConnectionsRequestContentItem,
)

from tests.contract.conftest import Wire
from tests.simulator.driver import PASSWORD

ANN = "ann@hoekstra.example"
Step = Callable[[Wire], Awaitable[None]]


async def _new_user(sdk: AsyncAuth0, email: str, connection: str = "hoekstra-users") -> str:
    user = await sdk.users.create(
        connection=connection, email=email, password=PASSWORD, verify_email=False
    )
    assert user.user_id is not None
    return user.user_id


async def users(wire: Wire) -> None:
    sdk = wire.sdk
    created = await sdk.users.create(
        connection="hoekstra-users",
        email=ANN,
        password=PASSWORD,
        user_id="key-1",
        email_verified=False,
        verify_email=False,
        blocked=False,
        given_name="Ann",
        family_name="Lee",
        name="Ann Lee",
        user_metadata={"language": "nl"},
        app_metadata={"managed": {"by": "provisioner"}},
    )
    assert created.user_id == "auth0|key-1"
    assert created.app_metadata == {"managed": {"by": "provisioner"}}
    changed = await sdk.users.update(
        "auth0|key-1", given_name=None, blocked=True, app_metadata={"managed": None, "a": 1}
    )
    assert (changed.blocked, changed.given_name, changed.app_metadata) == (True, None, {"a": 1})
    read = await sdk.users.get("auth0|key-1")
    assert read.identities is not None
    assert read.identities[0].connection == "hoekstra-users"
    by_email = await sdk.users.list_users_by_email(email=ANN)
    assert [user.user_id for user in by_email] == ["auth0|key-1"]
    found = [user async for user in await sdk.users.list(q=f'email:"{ANN}"', per_page=1)]
    assert [user.user_id for user in found] == ["auth0|key-1"]
    await sdk.users.delete("auth0|key-1")


async def identities(wire: Wire) -> None:
    sdk = wire.sdk
    primary = await _new_user(sdk, ANN)
    second = await _new_user(sdk, ANN, "clinics-users")
    own_id = second.removeprefix("auth0|")
    linked = await sdk.users.identities.link(primary, provider="auth0", user_id=own_id)
    assert len(linked) == 2
    await sdk.users.identities.delete(primary, "auth0", own_id)
    for user_id in (primary, second):
        await sdk.users.delete(user_id)


async def access(wire: Wire) -> None:
    sdk = wire.sdk
    user_id = await _new_user(sdk, ANN)
    for revoke in (sdk.users.sessions.delete, sdk.users.refresh_token.delete):
        await wire.caller.login(ANN)
        sessions = [row async for row in await sdk.users.sessions.list(user_id)]
        tokens = [row async for row in await sdk.users.refresh_token.list(user_id)]
        assert sessions
        assert tokens
        await revoke(user_id)
    await sdk.users.revoke_access(user_id)
    assert [row async for row in await sdk.users.sessions.list(user_id)] == []
    await wire.caller.control("brute-force", {"connection": "hoekstra-users", "email": ANN})
    blocks = await sdk.user_blocks.list_by_identifier(identifier=ANN)
    assert blocks.blocked_for is not None
    assert blocks.blocked_for[0].identifier == ANN
    assert await sdk.user_blocks.list(user_id) is not None
    await sdk.user_blocks.delete_by_identifier(identifier=ANN)
    await sdk.user_blocks.delete(user_id)
    ticket = await sdk.tickets.change_password(
        user_id=user_id, ttl_sec=3600, mark_email_as_verified=True
    )
    assert ticket.ticket.startswith("http://auth0.test/")
    await sdk.users.delete(user_id)


async def organizations(wire: Wire) -> None:
    sdk = wire.sdk
    connection = await wire.caller.connection()
    created = await sdk.organizations.create(
        name="acme",
        display_name="Acme",
        metadata={"tier": "gold"},
        enabled_connections=[ConnectionForOrganization(connection_id=connection)],
    )
    assert created.id is not None
    assert (await sdk.organizations.get_by_name("acme")).id == created.id
    await sdk.organizations.update(created.id, display_name="Acme B.V.")
    assert (await sdk.organizations.get(created.id)).display_name == "Acme B.V."
    listed = [row.name async for row in await sdk.organizations.list(take=2)]
    assert listed == ["acme", "clinic-a", "clinic-b", "hoekstra", "metahexa"]
    other = await wire.caller.connection("clinics-users")
    enabled = sdk.organizations.enabled_connections
    added = await enabled.add(created.id, connection_id=other, show_as_button=False)
    assert added.connection is not None
    assert added.connection.name == "clinics-users"
    changed = await enabled.update(created.id, other, assign_membership_on_login=True)
    assert changed.assign_membership_on_login is True
    assert (await enabled.get(created.id, other)).show_as_button is False
    assert len([row async for row in await enabled.list(created.id)]) == 2
    await enabled.delete(created.id, other)
    await sdk.organizations.delete(created.id)


async def members(wire: Wire) -> None:
    sdk = wire.sdk
    organization = await wire.caller.organization()
    ids = [await _new_user(sdk, f"u{n}@hoekstra.example") for n in range(3)]
    await sdk.organizations.members.create(organization, members=ids)
    listed = [row async for row in await sdk.organizations.members.list(organization, take=2)]
    assert sorted(row.user_id or "" for row in listed) == sorted(ids)
    joined = [row async for row in await sdk.users.organizations.list(ids[0])]
    assert [row.name for row in joined] == ["hoekstra"]
    roles = sdk.organizations.members.roles
    role = await wire.caller.role()
    await roles.assign(organization, ids[0], roles=[role])
    assert [row.name async for row in await roles.list(organization, ids[0])] == ["admin"]
    await roles.delete(organization, ids[0], roles=[role])
    await sdk.organizations.members.delete(organization, members=ids)
    for user_id in ids:
        await sdk.users.delete(user_id)


async def invitations(wire: Wire) -> None:
    sdk = wire.sdk
    organization = await wire.caller.organization()
    created = await sdk.organizations.invitations.create(
        organization,
        inviter=OrganizationInvitationInviter(name="Hoekstra"),
        invitee=OrganizationInvitationInvitee(email=ANN),
        client_id="sample-app",
        connection_id=await wire.caller.connection(),
        roles=[await wire.caller.role()],
        ttl_sec=3600,
        send_invitation_email=False,
        app_metadata={"a": 1},
    )
    assert created.id is not None
    read = await sdk.organizations.invitations.get(organization, created.id)
    assert read.ticket_id == created.ticket_id
    listed = [row.id async for row in await sdk.organizations.invitations.list(organization)]
    assert listed == [created.id]
    await sdk.organizations.invitations.delete(organization, created.id)


async def roles(wire: Wire) -> None:
    created = await wire.sdk.roles.create(name="auditor", description="Looks")
    assert created.id is not None
    assert (await wire.sdk.roles.get(created.id)).name == "auditor"
    listed = [row.name async for row in await wire.sdk.roles.list(name_filter="aud")]
    assert listed == ["auditor"]
    await wire.sdk.roles.delete(created.id)


async def connections(wire: Wire) -> None:
    sdk = wire.sdk
    created = await sdk.connections.create(
        name="acme-users", strategy="auth0", enabled_clients=["sample-app"]
    )
    assert created.id is not None
    listed = [row.id async for row in await sdk.connections.list(name="acme-users")]
    assert listed == [created.id]
    await sdk.connections.update(created.id, display_name="Acme")
    assert (await sdk.connections.get(created.id)).strategy == "auth0"
    off = UpdateEnabledClientConnectionsRequestContentItem(client_id="sample-app", status=False)
    await sdk.connections.clients.update(created.id, request=[off])
    assert [row async for row in await sdk.connections.clients.get(created.id)] == []
    await sdk.connections.delete(created.id)


async def applications(wire: Wire) -> None:
    found = await wire.sdk.clients.get("sample-app", fields="client_id,organization_usage")
    assert found.client_id == "sample-app"
    assert found.organization_usage == "allow"
    assert (await wire.sdk.tenants.settings.get()).default_redirection_uri is None


async def jobs(wire: Wire) -> None:
    sdk = wire.sdk
    connection = await wire.caller.connection()
    rows = [{"email": ANN}, {"email": ANN}]
    started = await sdk.jobs.users_imports.create(
        users=("users.json", json.dumps(rows).encode(), "application/json"),
        connection_id=connection,
        external_id="batch-1",
        send_completion_email=False,
    )
    done = await sdk.jobs.get(started.id)
    assert (done.status, done.summary and done.summary.inserted) == ("completed", 1)
    assert isinstance(await sdk.jobs.errors.get(started.id), list)
    exported = await sdk.jobs.users_exports.create(
        connection_id=connection, format="csv", fields=[CreateExportUsersFields(name="email")]
    )
    assert (await sdk.jobs.get(exported.id)).location
    (user,) = await sdk.users.list_users_by_email(email=ANN)
    assert user.user_id is not None
    await sdk.jobs.verification_email.create(user_id=user.user_id)
    await sdk.users.delete(user.user_id)


async def events(wire: Wire) -> None:
    sdk = wire.sdk
    user_id = await _new_user(sdk, ANN)
    members = f"/organizations/{await wire.caller.organization()}/members"
    wanted = {"roles": [await wire.caller.role()]}
    await wire.caller.post(members, {"members": [user_id]})
    await wire.caller.post(f"{members}/{user_id}/roles", wanted)
    await wire.caller.send("DELETE", f"{members}/{user_id}/roles", wanted)
    await wire.caller.send("DELETE", members, {"members": [user_id]})
    await sdk.users.update(user_id, blocked=True)
    await sdk.users.delete(user_id)
    told = [each async for each in sdk.events.subscribe(from_timestamp="2020-01-01T00:00:00Z")]
    kinds = {type(each).__name__.removeprefix("EventStreamCloudEvent") for each in told}
    assert kinds >= {
        "UserCreated",
        "UserUpdated",
        "UserDeleted",
        "OrgCreated",
        "OrgConnectionAdded",
        "OrgMemberAdded",
        "OrgMemberDeleted",
        "OrgMemberRoleAssigned",
        "OrgMemberRoleDeleted",
        "OffsetOnlyMessage",
    }


STEPS: tuple[Step, ...] = (
    users,
    identities,
    access,
    organizations,
    members,
    invitations,
    roles,
    connections,
    applications,
    jobs,
    events,
)
