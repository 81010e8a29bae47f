"""What was seen of an organization in Auth0, and what each success changes in that picture. Pure.

Names, ids and switches only: a connection's options may hold secrets and are never kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from service.organizations import MARKER
from service.provisioning.setup import operations as op
from service.provisioning.setup.operations import Operation

_ADOPTED: Final = "adopted:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Whose it is. ``made``: by us, so that it goes with the organization; else adopted."""

    organization: str
    made: bool

    def __str__(self) -> str:
        return self.organization if self.made else f"{_ADOPTED}{self.organization}"

    @classmethod
    def of(cls, metadata: Any) -> Mark | None:
        text = metadata.get(MARKER) if isinstance(metadata, Mapping) else None
        if not isinstance(text, str) or not text:
            return None
        return cls(organization=text.removeprefix(_ADOPTED), made=not text.startswith(_ADOPTED))


@dataclass(frozen=True, slots=True, kw_only=True)
class Enabled:
    """How a connection is enabled for the Organization."""

    assign_membership_on_login: bool
    show_as_button: bool
    is_signup_enabled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenConnection:
    """``sign_up``: whether anybody may make an account in it; of databases alone."""

    id: str
    strategy: str
    mark: Mark | None = None
    sign_up: bool = False
    applications: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenOrganization:
    """``enabled``: its connections, by name; those that are not declared, too. ``metadata``: of the
    keys that are declared."""

    id: str
    display_name: str
    mark: Mark | None = None
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    enabled: Mapping[str, Enabled] = field(default_factory=dict[str, Enabled])


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedSetUp:
    """Everything that a plan needs, read in one go. Roles: names of all that the tenant has."""

    organization: SeenOrganization | None = None
    connections: Mapping[str, SeenConnection] = field(default_factory=dict[str, SeenConnection])
    roles: frozenset[str] = frozenset()

    def as_document(self) -> dict[str, Any]:
        return {**asdict(self), "roles": sorted(self.roles)}


def after(observed: ObservedSetUp, operation: Operation, *, id: str, owner: str) -> ObservedSetUp:
    """The picture once this has succeeded. ``id``: Auth0's, of what was made; ``owner``: ours."""
    made = Mark(organization=owner, made=True)
    match operation:
        case op.CreateConnection():
            return _with(
                observed, operation.name, SeenConnection(id=id, strategy="auth0", mark=made)
            )
        case op.CloseSignUp():
            known = observed.connections[operation.name]
            return _with(observed, operation.name, replace(known, sign_up=False))
        case op.AdoptConnection():
            known = observed.connections[operation.name]
            adopted = replace(known, sign_up=False, mark=Mark(organization=owner, made=False))
            return _with(observed, operation.name, adopted)
        case op.EnableForApplication():
            known = observed.connections[operation.name]
            applications = tuple(sorted({*known.applications, operation.application}))
            return _with(observed, operation.name, replace(known, applications=applications))
        case op.CreateRole():
            return replace(observed, roles=observed.roles | {operation.name})
        case op.DeleteConnection():
            left = {k: v for k, v in observed.connections.items() if k != operation.name}
            return replace(observed, connections=left)
        case op.CreateOrganization():
            new = SeenOrganization(
                id=id,
                display_name=operation.display_name,
                mark=made,
                metadata=operation.metadata,
            )
            return replace(observed, organization=new)
        case op.DeleteOrganization():
            return replace(observed, organization=None)
        case _:
            return replace(observed, organization=_organization_after(observed, operation, owner))


def _organization_after(
    observed: ObservedSetUp,
    operation: op.UpdateOrganization
    | op.AdoptOrganization
    | op.EnableConnection
    | op.UpdateEnabledConnection,
    owner: str,
) -> SeenOrganization:
    known = observed.organization
    assert known is not None, "only an Organization that is there is changed"
    match operation:
        case op.UpdateOrganization():
            return _told_apart(known, operation)
        case op.AdoptOrganization():
            mark = Mark(organization=owner, made=False)
            return replace(_told_apart(known, operation), mark=mark)
        case op.EnableConnection() | op.UpdateEnabledConnection():
            switches = Enabled(
                assign_membership_on_login=operation.assign_membership_on_login,
                show_as_button=operation.show_as_button,
            )
            return replace(known, enabled={**known.enabled, operation.name: switches})


def _told_apart(
    known: SeenOrganization, operation: op.UpdateOrganization | op.AdoptOrganization
) -> SeenOrganization:
    merged = {**known.metadata, **operation.metadata}
    return replace(
        known,
        display_name=operation.display_name,
        metadata={key: value for key, value in merged.items() if value},
    )


def _with(observed: ObservedSetUp, name: str, connection: SeenConnection) -> ObservedSetUp:
    return replace(observed, connections={**observed.connections, name: connection})
