"""What is configured for one customer and for one Auth0 tenant. Knows no storage and no secrets."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Final, Literal, Self, cast
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from service.enrichment import Enrichment
from service.extension_schemas import MOST_SCHEMAS, SchemaDeclaration, require_apart
from service.security_events.declaration import SecurityEvents
from service.urls import is_trustworthy_url

Model = Literal["isolated", "shared", "enterprise"]
Invite = Literal["none", "ticket", "auth0-mail", "invitation"]
Source = Literal["scim", "hr"]
JoinKey = Literal["externalId", "userName", "employeeNumber"]
SLUG = r"^[a-z0-9][a-z0-9_-]{0,49}$"
MAPPING_NAME: Final = r"^[a-z0-9-]{1,100}$"
SOURCE_NAME: Final = r"^[A-Za-z0-9._-]{1,100}$"
HOST_OR_NONE: Final = r"^([a-z0-9-]+(\.[a-z0-9-]+)+)?$"
TokenScope = Literal["read", "write"]
SCOPES: Final[tuple[TokenScope, ...]] = ("read", "write")
"""What a caller of a door may do. Neither holds the other."""

MARKER: Final = "auth0_provisioner"
"""The key in the metadata of what we made or adopted in Auth0: users, Organizations, connections."""

LISTED: Final = "organizations"
"""The key in users' ``app_metadata`` of the list that some applications go by."""


Domain = Annotated[str, AfterValidator(lambda name: name.strip().lower().removeprefix("@"))]
AttributePath = Annotated[
    str,
    Field(pattern=r"^(hr\.[a-z][a-z0-9_]*|(urn:\S+:)?[A-Za-z$][\w$-]*(\.[A-Za-z$][\w$-]*)?)$"),
]


class Configured(BaseModel):
    """Configuration is frozen and knows every one of its keys: a misspelt one is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ConnectionRule(Configured):
    """Who lives in a connection: whoever all of this is true of. Of each, one is enough."""

    domains: tuple[Domain, ...] = ()
    """Of the address that the person logs in with."""
    attributes: dict[AttributePath, Annotated[tuple[str, ...], Field(min_length=1)]] = {}
    """A SCIM attribute, as ``userType``, ``name.familyName`` or with its schema's URN, or ``hr.`` and
    an attribute of HR's, to its values, whatever their case."""
    groups: tuple[str, ...] = ()
    """Groups by id, ``externalId`` or ``displayName``."""

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if not (self.domains or self.attributes or self.groups):
            raise ValueError("a rule needs domains, attributes or groups: else leave it out")
        return self


class Connection(Configured):
    """One Auth0 connection that an organization's users may live in."""

    name: str
    strategy: str = "auth0"
    domains: tuple[Domain, ...] = ()
    """A rule in short: addresses in these domains go here."""
    rules: tuple[ConnectionRule, ...] = ()
    """Whoever fits one of them lives here, in the first such connection; who fits none lives in the
    first connection without any."""
    create: bool | None = None
    """Whether ``org apply`` makes it where there is none. Unset: a database of an isolated
    organization, which is its own, is made; what others share is not, since a misspelt name would
    part their people."""
    assign_membership_on_login: bool = False
    """Whether Auth0 makes a member of whoever logs in through it (just in time)."""
    show_as_button: bool = True
    """Whether the Organization's login page offers it."""

    @property
    def is_database(self) -> bool:
        return self.strategy == "auth0"

    @property
    def every_rule(self) -> tuple[ConnectionRule, ...]:
        short = (ConnectionRule(domains=self.domains),) if self.domains else ()
        return (*short, *self.rules)


class MassLeavers(Configured):
    """When leavers wait for an operator: more than ``count`` and more than ``share`` of an
    organization's people left ``within`` so long a time. Both have to be exceeded.
    """

    count: int = Field(default=20, ge=0)
    share: float = Field(default=0.1, ge=0, le=1)
    within: timedelta = Field(default=timedelta(hours=1), gt=timedelta(), le=timedelta(days=31))
    enabled: bool = True


class Policies(Configured):
    """What the customer decided where good practice allows more than one answer."""

    invite: Invite = "none"
    invite_lifetime: timedelta | None = Field(
        default=None, ge=timedelta(hours=1), le=timedelta(days=30)
    )
    """How long the link of a ticket or an invitation lives; by default as long as Auth0's."""
    deletion: Literal["keep", "delete"] = "keep"
    deletion_hold: timedelta = timedelta(days=30)
    adoption: Literal["never", "verified-email"] = "never"
    on_leave: Literal["keep", "block"] = "keep"
    mass_leavers: MassLeavers = MassLeavers()
    drift: Literal["report", "correct"] = "report"
    """What a compare with Auth0 does about what somebody else changed there."""
    moves: Literal["never", "follow"] = "never"
    """Whether people whom the rules send elsewhere by now move to that connection: there a new
    account, and the former one locked. ``never``: the rules choose when an account is opened."""
    email_verified: bool = False
    """Whether an address that the customer sends counts as verified. Off: nobody has proved it."""


def _trustworthy(url: str) -> str:
    if not is_trustworthy_url(url):
        raise ValueError("give an https:// URL (http:// only for this machine, as 127.0.0.1)")
    return url


class ScimOauth(Configured):
    """Whose JWT access tokens open an organization's SCIM door, beside tokens of our own."""

    issuer: Annotated[str, AfterValidator(_trustworthy)]
    """As its tokens' ``iss`` has it, to the last slash."""
    audience: str = Field(min_length=1)
    """What its tokens' ``aud`` must hold."""
    clients: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=1)
    """The customer's clients, as ``azp``, ``client_id``, ``appid`` or ``cid`` names them, or ``sub``
    where a token has none of these. Needed, since one issuer may serve several customers.
    """
    jwks_url: Annotated[str, AfterValidator(lambda url: url and _trustworthy(url))] = ""
    """Where the issuer's keys are; empty: as its metadata says, else its /.well-known/jwks.json."""
    scope_claim: str = Field(default="scope", min_length=1)
    """The claim that ``scopes`` are looked up in: a text of names, or a list."""
    scopes: dict[str, tuple[TokenScope, ...]] = {}
    """A name in that claim to what it allows. Empty: a token of these clients may read and write."""


def _not_our_mark(key: str) -> str:
    if key == MARKER:
        raise ValueError(f"{MARKER} is the key that tells whose an Organization is: choose another")
    return key


MetadataKey = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_not_our_mark)]


class SetUp(Configured):
    """How far ``org apply`` goes in Auth0 itself."""

    enabled: bool = True
    """Off: nothing is read or written there but accounts."""
    adopt: bool = False
    """Whether an Organization, or an isolated database, that was there before us is kept as declared,
    too. Off: it is used as it is, and what it lacks is told."""
    create_roles: bool = False
    """Whether roles that are named here and do not exist are made."""


class Administrator(Configured):
    """The first person of an organization: made once, an ordinary user from then on."""

    email: Annotated[str, AfterValidator(lambda address: address.strip().lower())] = Field(
        pattern=r"^[^@\s]+@[^@\s]+$", max_length=254
    )
    given_name: str = ""
    family_name: str = ""
    role: str = ""
    """The Auth0 role that the person has in the Organization, whatever groups say."""


def _alone(rule: ConnectionRule) -> tuple[str, ...]:
    """The domains of a rule that asks for nothing else."""
    return () if rule.attributes or rule.groups else rule.domains


def _told(rule: ConnectionRule) -> str:
    asked = rule.model_dump(mode="json", exclude_defaults=True)
    return ", ".join(f"{key} {value}" for key, value in asked.items())


class Organization(Configured):
    """One customer: a SCIM base URL, credentials, an Auth0 tenant and Organization, policies."""

    name: str = Field(pattern=SLUG)
    display_name: str = ""
    metadata: dict[MetadataKey, Annotated[str, Field(max_length=255)]] = Field(
        default={}, max_length=24
    )
    """Of the Organization in Auth0, for Actions and applications to read; never its branding. An
    empty value takes the key away; keys that are not declared stay as they are."""
    model: Model = "isolated"
    tenant: str = Field(default="main", pattern=SLUG)
    auth0_organization: str = ""
    custom_domain: str = Field(default="", pattern=HOST_OR_NONE)
    """The custom domain of links to this organization's people, where not the tenant's."""
    application: str = Field(default="", max_length=100)
    """The ``client_id`` of the Application that people log in to, and invitations lead to."""
    set_up: SetUp = SetUp()
    administrator: Administrator | None = None
    connections: tuple[Connection, ...] = Field(min_length=1)
    verified_domains: tuple[str, ...] = ()
    join: JoinKey = "externalId"
    """The SCIM attribute that holds the worker id: by it HR's and SCIM's records of a person meet."""
    attributes_from: dict[str, Source] = {}
    """Attribute to the source that counts for it; the key ``default`` names the rest (scim)."""
    roles: dict[str, str] = {}
    """Group (its id, ``externalId``, or ``displayName`` where unique) to Auth0 role name."""
    app_metadata_organizations: str = Field(default="", max_length=255, pattern=r"^(\S(.*\S)?)?$")
    """What stands for this organization in the list ``app_metadata.organizations`` of its members,
    for applications that go by that; empty: the list is left alone."""
    scim_profile: Literal["tolerant", "strict"] = "tolerant"
    scim_oauth: ScimOauth | None = None
    scim_schemas: tuple[SchemaDeclaration, ...] = Field(default=(), max_length=MOST_SCHEMAS)
    """Extensions of the customer's own, beside the enterprise extension."""
    security_events: SecurityEvents | None = None
    """Where Security Event Tokens about its people are pushed to."""
    outcomes: Literal["notice", "full"] = "notice"
    """Whether outcome events name people and values (full), or ids and names of attributes."""
    policies: Policies = Policies()

    @model_validator(mode="after")
    def _model_fits_connections(self) -> Self:
        database = {connection.is_database for connection in self.connections}
        if self.model == "enterprise" and False not in database:
            raise ValueError(
                'model = "enterprise" needs a connection to an identity provider: give one a strategy'
                ' other than "auth0", such as "waad" or "samlp"'
            )
        if self.model != "enterprise" and True not in database:
            raise ValueError(
                f'model = "{self.model}" needs a database connection: strategy = "auth0"'
            )
        return self

    @model_validator(mode="after")
    def _rules_are_clear(self) -> Self:
        names = [each.name for each in self.connections]
        if len(names) != len(set(names)):
            raise ValueError("connections: each is named once; give one several rules instead")
        known: dict[str, str] = {}
        for connection in self.connections:
            for rule in connection.every_rule:
                key = rule.model_dump_json()
                if (other := known.setdefault(key, connection.name)) != connection.name:
                    raise ValueError(
                        f"connections: {other} and {connection.name} have the same rule"
                        f" ({_told(rule)}): leave it with one"
                    )
            for domain in {each for rule in connection.every_rule for each in _alone(rule)}:
                if (other := known.setdefault(domain, connection.name)) != connection.name:
                    raise ValueError(
                        f"connections: {other} and {connection.name} both take all of {domain}:"
                        " leave it with one"
                    )
        return self

    @model_validator(mode="after")
    def _invitations_lead_somewhere(self) -> Self:
        invite = self.policies.invite
        if invite in ("auth0-mail", "invitation") and not self.application:
            raise ValueError(
                f'policies.invite = "{invite}" needs application: the client_id of the Application'
                " that the link leads to"
            )
        databases = any(connection.is_database for connection in self.connections)
        if invite == "auth0-mail" and not databases:
            raise ValueError(
                "an enterprise organization's users have no password in Auth0: let policies.invite"
                ' be "invitation" or "none"'
            )
        return self

    @model_validator(mode="after")
    def _schemas_are_apart(self) -> Self:
        require_apart(self.scim_schemas)
        return self

    @property
    def auth0_name(self) -> str:
        return self.auth0_organization or self.name

    def model_in(self, connection: Connection) -> Model:
        """How accounts in one of its connections are treated: an organization may have both kinds."""
        if not connection.is_database:
            return "enterprise"
        return "isolated" if self.model == "enterprise" else self.model

    def connection(self, name: str, user_id: str = "auth0|") -> Connection:
        """By name. One that is not declared any more is of the kind that an account's Auth0
        ``user_id`` begins with (``waad|``, ``samlp|``, …); until one is bound, a database.
        """
        known = (each for each in self.connections if each.name == name)
        return next(known, Connection(name=name, strategy=user_id.partition("|")[0]))

    @property
    def has_enterprise(self) -> bool:
        """Whether some of its people come by an identity provider."""
        return any(not each.is_database for each in self.connections)

    @property
    def asks_for_groups(self) -> bool:
        """Whether a rule of its connections names groups."""
        return any(rule.groups for each in self.connections for rule in each.every_rule)

    @property
    def asks_for_more(self) -> bool:
        """Whether a rule of its connections asks for more than the address."""
        rules = (rule for each in self.connections for rule in each.every_rule)
        return any(rule.groups or rule.attributes for rule in rules)

    def owns_domain_of(self, address: str) -> bool:
        return address.rpartition("@")[2].lower() in self.verified_domains

    def source_of(self, attribute: str) -> Source:
        return self.attributes_from.get(attribute, self.attributes_from.get("default", "scim"))


class Tenant(Configured):
    """One Auth0 tenant: where it answers, and its plan's rates. Secrets are named, never held."""

    name: str = Field(default="main", pattern=SLUG)
    domain: str = ""
    base_url: str = ""
    """For a stand-in or a proxy; empty means ``https://{domain}``."""
    client_id: str = ""
    client_secret_file: str = ""
    """A file that holds the secret; empty means the installation's own client secret."""
    custom_domain: str = Field(default="", pattern=HOST_OR_NONE)
    """Which of the tenant's custom domains links are made for; needed where it has several."""
    plan: Literal["free", "professional", "enterprise-nonproduction", "enterprise"] = "professional"

    @property
    def url(self) -> str:
        return (self.base_url or f"https://{self.domain}").rstrip("/")


class EventSource(Configured):
    """Where HR events come from, a topic or a webhook, and the organizations it may speak for."""

    name: str = Field(default="hr.events", pattern=SOURCE_NAME)
    topic: str | None = Field(default=None, min_length=1, max_length=249)
    """Absent: a webhook has none; another source reads the topic hr.events."""
    organizations: tuple[str, ...] = Field(min_length=1)
    mapping: str = Field(default="canonical", pattern=MAPPING_NAME)
    """A shipped mapping, or one that is declared under ``mappings``."""
    zone: str | None = None
    """The IANA zone that dates and local times are meant in, where the payload names none."""
    webhook: bool = False
    """Whether ``POST /events/{organization}/{source}`` takes its events."""
    enrichment: Enrichment | None = None
    """Where to ask about a worker whom an event only names."""
    fuse: int = Field(default=50, ge=0, le=1_000_000)
    """So many failed events one after the other stop the source; 0: it goes on whatever comes."""

    @model_validator(mode="before")
    @classmethod
    def _one_without_a_webhook_has_a_topic(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        members = cast("dict[str, Any]", data)
        if members.get("webhook") in (True, "true") or members.get("topic") is not None:
            return members
        return members | {"topic": "hr.events"}

    @field_validator("zone")
    @classmethod
    def _zone_is_known(cls, zone: str | None) -> str | None:
        if zone is not None:
            try:
                ZoneInfo(zone)
            except (LookupError, OSError, ValueError):
                raise ValueError("give an IANA time zone such as Europe/Amsterdam") from None
        return zone


class Installation(Configured):
    """The file of ``provisioner org apply``: everything declared at once."""

    tenants: tuple[Tenant, ...] = ()
    organizations: tuple[Organization, ...] = ()
    sources: tuple[EventSource, ...] = ()
    mappings: tuple[str, ...] = ()
    """Files of mappings, each path relative to this file."""

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        for kind in (self.tenants, self.organizations, self.sources):
            names = [item.name for item in kind]
            if len(names) != len(set(names)):
                raise ValueError(f"a name is used twice among {names}")
        return self
