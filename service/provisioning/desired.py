"""What everyone who lives in one account wants of it, all organizations together. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from service.directory.events import Problem
from service.directory.ledger import Sent
from service.organizations import Connection, Model, Organization
from service.people import Profile, User, identifier_of, is_wanted, profile_of, spellings_of
from service.provisioning import inviting
from service.provisioning.inviting import Candidate, Invite, Post
from service.provisioning.operations import Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """One user of the account, with the organization's rules and the roles from the groups."""

    user: User
    organization: Organization
    decommissioned: bool = False
    deleting_at: datetime | None = None
    """Since when the accounts of an organization that ended are deleted."""
    generation: int = 0
    """Of the Organization: memberships of an earlier one are gone with it."""
    roles: frozenset[str] = frozenset()
    post: Post = field(default_factory=Post)
    """What went out for the account, to whichever resident."""
    former: bool = False
    """Whether the user lives in another account by now, after a move between connections."""
    left_at: datetime | None = None
    """Since when a former resident is out here: their new account is there."""
    moving: bool = False
    """Whether the user has a former account that is still needed."""
    stuck: Problem | None = None
    """Why the user cannot move where the rules say."""

    @property
    def wanted(self) -> bool:
        return self.left_at is None and is_wanted(
            self.user, self.organization, decommissioned=self.decommissioned
        )

    @property
    def moved_on(self) -> bool:
        """Whether they are out here because they are in elsewhere."""
        return self.left_at is not None and is_wanted(
            self.user, self.organization, decommissioned=self.decommissioned
        )

    @property
    def subject(self) -> Subject:
        return Subject(organization=self.user.organization, user_id=self.user.id)

    @property
    def asked(self) -> bool:
        """Whether an operator wants an invitation sent that has not gone out yet."""
        return any(
            each.state == "wanted" and each.user_id == self.user.id for each in self.post.sent
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """One membership: the subject who asks for it and the roles that it should carry."""

    subject: Subject
    roles: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """What Auth0 should say of one account. Organizations and roles by their Auth0 names."""

    model: Model
    principal: Subject
    """Under whom account-wide effects are told: see ``principal_of``."""
    connection: Connection
    email: str
    custom_domain: str = ""
    """Whose links are made, where not the tenant's."""
    profile: Profile = field(default_factory=Profile)
    email_verified: bool = False
    wanted: bool = False
    moved_on: bool = False
    """Whether everybody who is out here is in elsewhere: what became a part of another user is theirs
    there."""
    memberships: Mapping[str, Wish] = field(default_factory=dict[str, Wish])
    leavers: Mapping[str, Subject] = field(default_factory=dict[str, Subject])
    """Organizations that someone has left, for telling whose membership went."""
    entries: Mapping[str, str] = field(default_factory=dict[str, str])
    """What those in ``memberships`` ask to have in the older list: see service.provisioning.listing."""
    former_entries: Mapping[str, str] = field(default_factory=dict[str, str])
    """The same of those in ``leavers``, who are to have nothing there."""
    may_adopt: bool = False
    spellings: frozenset[str] = frozenset()
    """How the sources write the address where not in lower case, of a connection that keeps it so."""
    stable_ids: frozenset[str] = frozenset()
    """What the customers' directories know the person by (SCIM's ``externalId``), of a connection to
    an identity provider."""
    invite: Invite | None = None
    by_invitation: bool = False
    """Whether the account comes into being when an invitation is accepted, and not before."""
    invited_to: frozenset[str] = frozenset()
    """Organizations that this address was invited to, or may have been: who appears with it has
    accepted."""
    formerly_invited_to: Mapping[str, frozenset[str]] = field(
        default_factory=dict[str, frozenset[str]]
    )
    """The same by former addresses: who accepted with one of them before it changed is the one."""
    invitations: tuple[Sent, ...] = ()
    """Those that are open, as far as is known."""
    withdraw: tuple[Sent, ...] = ()
    """Those among them that nobody may accept any more."""
    watch_until: datetime | None = None
    """Until when a link that went out may let a former user back in."""
    changed_at: datetime | None = None
    """When a resident changed last, or was out here by a move."""
    delete: bool = False
    deletes_by_order: bool = False
    """Whether an operator has said so, of the user or of the organization, and not policy alone."""
    delete_at: datetime | None = None
    """When a held deletion is due, where policy deletes."""


def desire(
    residents: Sequence[Resident],
    *,
    identifier: str,
    connection_name: str,
    user_id: str,
    now: datetime,
) -> Desired:
    """The joint wish of an account's residents. ``identifier``: the account's address; ``user_id``:
    Auth0's, which tells of what kind a connection is that nobody declares any more."""
    assert residents, "an account without residents wants nothing and is never due"
    staying, gone = _apart(residents)
    writer = max(staying or residents, key=lambda resident: resident.user.modified_at)
    organization = writer.organization
    connection = organization.connection(connection_name, user_id)
    delete_at = _delete_at(residents, connection) if not staying else None
    post = residents[0].post
    # In a database the ids are Auth0's or ours: no directory may point at somebody by one.
    known_to_theirs = [] if connection.is_database else residents
    return Desired(
        model=organization.model_in(connection),
        principal=_principal(staying or residents).subject,
        connection=connection,
        email=identifier,
        custom_domain=organization.custom_domain,
        profile=profile_of(writer.user, organization),
        email_verified=organization.policies.email_verified,
        wanted=bool(staying),
        moved_on=all(each.moved_on for each in residents),
        memberships={
            each.organization.auth0_name: Wish(subject=each.subject, roles=each.roles)
            for each in staying
        },
        leavers={each.organization.auth0_name: each.subject for each in gone},
        spellings=_spellings(known_to_theirs, identifier),
        stable_ids=frozenset(
            each.user.external_id for each in known_to_theirs if each.user.external_id
        ),
        entries=_entries(staying),
        former_entries=_entries(gone),
        may_adopt=any(_may_adopt(resident, identifier) for resident in staying),
        invite=inviting.invite_of(_candidates(staying), post, address=identifier, now=now),
        by_invitation=bool(staying)
        and all(each.organization.policies.invite == "invitation" for each in staying),
        invited_to=inviting.invited_to(post, identifier),
        formerly_invited_to=inviting.formerly_invited_to(post, identifier, now),
        invitations=inviting.open_invitations(post),
        withdraw=inviting.to_withdraw(post, {each.user.id for each in staying}, identifier),
        watch_until=None if staying else inviting.watch_until(post, now),
        changed_at=max(each.left_at or each.user.modified_at for each in residents),
        delete=delete_at is not None and delete_at <= now,
        deletes_by_order=all(each.deleting_at or each.user.released_at for each in residents),
        delete_at=delete_at,
    )


def principal_of(residents: Sequence[Resident]) -> Resident:
    """Whose wish an account-wide effect fulfils: of those who are in, if anybody is, who waits for
    something, else who changed last. No other organization of the account hears of it.
    """
    staying, _ = _apart(residents)
    return _principal(staying or residents)


def _apart(residents: Sequence[Resident]) -> tuple[list[Resident], list[Resident]]:
    """Those who are in, and those who are out."""
    staying: list[Resident] = []
    gone: list[Resident] = []
    for each in residents:
        (staying if each.wanted else gone).append(each)
    return staying, gone


def _principal(candidates: Sequence[Resident]) -> Resident:
    return max(candidates, key=lambda each: (each.user.state == "pending", each.user.modified_at))


def _candidates(staying: Sequence[Resident]) -> list[Candidate]:
    return [
        Candidate(subject=each.subject, organization=each.organization, roles=each.roles)
        for each in staying
    ]


def _spellings(residents: Sequence[Resident], identifier: str) -> frozenset[str]:
    return frozenset(
        spelled for each in residents for spelled in spellings_of(each.user, identifier)
    )


def _entries(residents: Sequence[Resident]) -> dict[str, str]:
    asking = [each.organization for each in residents]
    return {
        each.auth0_name: each.app_metadata_organizations
        for each in asking
        if each.app_metadata_organizations
    }


def _may_adopt(resident: Resident, identifier: str) -> bool:
    """By policy, and only for an address in a domain that the organization has proved to own."""
    return (
        resident.organization.policies.adoption == "verified-email"
        and resident.organization.owns_domain_of(identifier)
        and identifier_of(resident.user, resident.organization) == identifier
    )


def _delete_at(residents: Sequence[Resident], connection: Connection) -> datetime | None:
    """The end of the hold, or when an operator released the user; None where a resident's policy
    keeps, or HR still has the person.

    In the shared model no organization may delete the account.
    """
    ends: list[datetime] = []
    for resident in residents:
        policies, user = resident.organization.policies, resident.user
        kept = policies.deletion != "delete" and user.released_at is None
        known_to_hr = user.employment in ("active", "on_leave")
        shared = resident.organization.model_in(connection) != "isolated"
        if resident.deleting_at is not None and policies.deletion == "delete" and not shared:
            ends.append(resident.deleting_at)  # whatever HR still says: its customer has gone
            continue
        if resident.left_at is not None and policies.deletion == "delete" and not shared:
            ends.append(resident.left_at + policies.deletion_hold)
            continue
        if user.deleted_at is None or kept or known_to_hr or shared:
            return None
        ends.append(user.released_at or user.deleted_at + policies.deletion_hold)
    return max(ends)
