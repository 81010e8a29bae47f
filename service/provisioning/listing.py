"""``app_metadata.organizations``: the older list of who is where, kept beside memberships. Pure.

Auth0 merges metadata at the first level only, so the list is replaced whole: it is read first, and
only entries of organizations that ask for it are added or taken away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from service.directory.events import Problem
from service.organizations import Organization
from service.provisioning import operations as op
from service.provisioning.desired import Desired
from service.provisioning.observed import Observed
from service.provisioning.operations import Operation, Subject

SCOPE: Final = "app_metadata.organizations"
"""Under which a refusal stops work on the list and nothing else. No Organization has such a name."""
_NOT_A_LIST: Final = Problem(
    kind="permanent",
    code="app_metadata_not_a_list",
    message="app_metadata.organizations of this user in Auth0 is not a list, so it is left as it is:"
    " make it one, then replay.",
)


def entries_of(desired: Desired, observed: Observed | None = None) -> dict[str, str]:
    """The entries that should be there, by Organization: of those whose membership is not refused."""
    refused = observed.refused if observed is not None else {}
    return {name: entry for name, entry in desired.entries.items() if name not in refused}


def surplus_in(desired: Desired, observed: Observed) -> set[str]:
    """Entries that are there and should not be: of organizations that ask and that the person is not
    in, and former ones of ours."""
    wanted = entries_of(desired, observed)
    gone = {*desired.former_entries.values(), *desired.entries.values()}
    for name, entry in observed.entries.items():
        asks = name in desired.entries or name in desired.former_entries
        # Who lives here and has stopped asking leaves the list to whoever keeps it now.
        if asks or name not in {*desired.memberships, *desired.leavers}:
            gone.add(entry)
    there = {each for each in observed.listed or () if isinstance(each, str)}
    return (gone - set(wanted.values())) & there


def missing_in(desired: Desired, observed: Observed) -> set[str]:
    there = [each for each in observed.listed or () if isinstance(each, str)]
    return set(entries_of(desired, observed).values()) - set(there)


def list_after(desired: Desired, observed: Observed) -> tuple[Any, ...]:
    """The whole list as it should be: what others put there stays, in its order."""
    surplus = surplus_in(desired, observed)
    kept = [
        each for each in observed.listed or () if not isinstance(each, str) or each not in surplus
    ]
    return (*kept, *sorted(missing_in(desired, observed)))


def is_asked_for(desired: Desired, observed: Observed) -> bool:
    """Whether anybody wants to know what the list holds, and may."""
    asks = desired.entries or desired.former_entries or observed.entries
    return bool(asks) and SCOPE not in observed.refused


def mark(desired: Desired, observed: Observed) -> Operation:
    """With the list in the same call, where that was just read."""
    differs = observed.fresh and _is_out_of_step(desired, observed)
    listed = list_after(desired, observed) if differs else None
    return op.MarkAccount(subject=desired.principal, listed=listed)


def _is_out_of_step(desired: Desired, observed: Observed) -> bool:
    if not is_asked_for(desired, observed) or observed.listed is None:
        return False
    return bool(surplus_in(desired, observed) or missing_in(desired, observed))


def unlist(desired: Desired, observed: Observed) -> Iterator[Operation]:
    """The older list says who has access where applications go by it: who leaves goes from it with
    the membership."""
    if not is_asked_for(desired, observed):
        return
    if observed.listed is None:
        if not observed.fresh:
            yield op.ReadUser(subject=desired.principal)
    elif surplus_in(desired, observed):
        yield from keep(desired, observed)


def keep(desired: Desired, observed: Observed) -> Iterator[Operation]:
    if not _is_out_of_step(desired, observed):
        return
    if not observed.fresh:
        yield op.ReadUser(subject=desired.principal)
    else:
        listed = list_after(desired, observed)
        yield op.ListOrganizations(subject=_who_lists(desired, observed), listed=listed)


def _who_lists(desired: Desired, observed: Observed) -> Subject:
    """Whose entry comes or goes."""
    missing = missing_in(desired, observed)
    for name, entry in sorted(desired.entries.items()):
        if entry in missing:
            return desired.memberships[name].subject
    surplus = surplus_in(desired, observed)
    for name, entry in sorted(desired.former_entries.items()):
        if entry in surplus:
            return desired.leavers[name]
    return desired.principal


def settled(observed: Observed, desired: Desired) -> Observed:
    """The picture at the end of a turn: with the entries that are there for us."""
    strangers = {
        name: entry
        for name, entry in observed.entries.items()
        if name not in {*desired.memberships, *desired.leavers}
    }
    ours: Mapping[str, str] = {**strangers, **desired.entries}
    there = [each for each in observed.listed or () if isinstance(each, str)]
    return replace(observed, entries={name: e for name, e in ours.items() if e in there})


def problem_of(organization: Organization, observed: Observed) -> Problem | None:
    """Why the list is not as this organization asks."""
    if not organization.app_metadata_organizations:
        return None
    if (refused := observed.refused.get(SCOPE)) is not None:
        return Problem.from_document(refused)
    return _NOT_A_LIST if observed.unlistable else None
