"""What an organization declares of its stream of security events: which, where to, about whom.

Knows the events by name and URI; not what causes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from service.outcomes.counterparts import CAEP, RISC, SCIM
from service.urls import is_trustworthy_url

EventName = Literal[
    "account-disabled",
    "account-enabled",
    "account-purged",
    "session-revoked",
    "prov:create:notice",
    "prov:patch:notice",
    "prov:activate",
    "prov:deactivate",
    "prov:delete",
    "misc:asyncresp",
]
"""As RISC 1.0, CAEP 1.0 and RFC 9967 name them, each without its prefix."""
EVENTS: Final[tuple[EventName, ...]] = get_args(EventName)

VERIFICATION: Final = "https://schemas.openid.net/secevent/ssf/event-type/verification"
"""Says nothing but that the stream works (SSF 1.0 section 8.1.4)."""


def _uri(name: EventName) -> str:
    if ":" in name:
        return SCIM + name
    return (CAEP if name == "session-revoked" else RISC) + name


URIS: Final[Mapping[EventName, str]] = {name: _uri(name) for name in EVENTS}


def _endpoint(url: str) -> str:
    if not is_trustworthy_url(url):
        raise ValueError("give an https:// URL (http:// only for this machine, as 127.0.0.1)")
    return url


class SecurityEvents(BaseModel):
    """One stream: where an organization's security events are pushed to (RFC 8935)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint: Annotated[str, AfterValidator(_endpoint)]
    audience: str = Field(min_length=1)
    """``aud`` of every token: how the receiver calls itself."""
    credential_file: str = ""
    """Holds the bearer token that the receiver wants to see; read for each push. Empty: none."""
    events: tuple[EventName, ...] = Field(default=EVENTS, min_length=1)
    subject: Literal["iss_sub", "complex", "scim"] = "iss_sub"
    """How RISC and CAEP events name the person: by Auth0's issuer and ``user_id``, by that and the
    organization, or as the SCIM events do. Those keep to the format of RFC 9967.
    """
    issuer: Annotated[str, AfterValidator(lambda url: url and _endpoint(url))] = ""
    """``iss`` of the Auth0 tokens that the receiver knows people by; empty: the tenant's domain."""

    @property
    def uris(self) -> list[str]:
        return [URIS[name] for name in EVENTS if name in self.events]
