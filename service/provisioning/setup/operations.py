"""What is done in Auth0 for an organization, as values: planned, printed, recorded before the call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, cast

_Pairs = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Operation:
    kind: ClassVar[str]
    name: str
    """In Auth0, of what is made or changed."""

    def as_document(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self)}

    def __str__(self) -> str:
        more = [
            told
            for key, value in asdict(self).items()
            if key != "name"
            for told in _told(key, value)
        ]
        return " ".join([self.kind, self.name, *more])


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateConnection(_Operation):
    """A database connection with sign-up off, and our marker in its metadata."""

    kind: ClassVar[str] = "create-connection"


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseSignUp(_Operation):
    """Nobody signs up in the connection by themselves."""

    kind: ClassVar[str] = "close-sign-up"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptConnection(_Operation):
    """Our marker in a connection that was there before us, and sign-up off."""

    kind: ClassVar[str] = "adopt-connection"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnableForApplication(_Operation):
    """Without one application the API creates no user in the connection."""

    kind: ClassVar[str] = "enable-for-application"
    application: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateOrganization(_Operation):
    kind: ClassVar[str] = "create-organization"
    display_name: str
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateOrganization(_Operation):
    """``metadata``: the keys that change, an empty one going; all others stay as they are."""

    kind: ClassVar[str] = "update-organization"
    display_name: str
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptOrganization(_Operation):
    """Our marker in an Organization that was there before us, and the declared display name."""

    kind: ClassVar[str] = "adopt-organization"
    display_name: str
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class EnableConnection(_Operation):
    """The connection for the Organization: its members log in through it."""

    kind: ClassVar[str] = "enable-connection"
    assign_membership_on_login: bool
    show_as_button: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateEnabledConnection(_Operation):
    """How it is enabled; Organizations' own sign-up is always off."""

    kind: ClassVar[str] = "update-enabled-connection"
    assign_membership_on_login: bool
    show_as_button: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRole(_Operation):
    kind: ClassVar[str] = "create-role"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteConnection(_Operation):
    """With every user in it: only where nobody is left."""

    kind: ClassVar[str] = "delete-connection"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteOrganization(_Operation):
    """Its members lose the membership and stay users."""

    kind: ClassVar[str] = "delete-organization"


Operation = (
    CreateConnection
    | CloseSignUp
    | AdoptConnection
    | EnableForApplication
    | CreateOrganization
    | UpdateOrganization
    | AdoptOrganization
    | EnableConnection
    | UpdateEnabledConnection
    | CreateRole
    | DeleteConnection
    | DeleteOrganization
)


def _told(key: str, value: object) -> list[str]:
    if isinstance(value, Mapping):
        return [f"{key}.{name}={_shown(each)}" for name, each in cast("_Pairs", value).items()]
    return [f"{key}={_shown(value)}"]


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
