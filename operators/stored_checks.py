"""What ``doctor`` finds in the database: whether it can be used, and what stands still in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from operators import ending, security_events
from service.auth0.inspection import Finding
from service.clock import Clock
from service.configuration import Settings
from service.directory import (
    appearances,
    credentials,
    enrichments,
    fuses,
    migrate,
    organizations,
    setups,
    staging,
    streams,
)
from service.directory.appearances import Feed
from service.directory.database import Database, check, is_unavailable, open_database
from service.directory.enrichments import Backlog
from service.directory.fuses import Fuse
from service.directory.setups import SetUpState
from service.errors import ConfigurationError
from service.organizations import EventSource, Organization, Tenant


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What the installation is for, with the tenant that the settings name. Of organizations those
    that have not ended."""

    tenants: Sequence[Tenant] = ()
    organizations: Sequence[Organization] = ()
    sources: Sequence[EventSource] = ()


async def usable(url: str) -> AsyncIterator[Finding]:
    """Whether it answers, and its schema is this version's."""
    try:
        database = open_database(url)
        try:
            await database.read(check)
        finally:
            await database.close()
        yield Finding(check="database", verdict="ok", detail=url.partition(":")[0])
        await migrate.require_current(url)
    except ConfigurationError as error:
        yield Finding(
            check="schema", verdict="failed", detail=str(error), advice="provisioner db upgrade"
        )
    except Exception as error:
        if not is_unavailable(error):
            raise
        yield Finding(
            check="database",
            verdict="failed",
            detail=f"does not answer ({type(error).__name__})",
            advice="Correct PROVISIONER_DATABASE_URL, or the way to the server.",
        )
    else:
        yield Finding(check="schema", verdict="ok", detail=f"revision {migrate.newest()}")


async def declared_in(database: Database, settings: Settings) -> Declared:
    tenants = await database.read(organizations.tenants)
    registered = await database.read(organizations.every)
    default = settings.default_tenant()
    if default is not None and default.name not in {tenant.name for tenant in tenants}:
        tenants.append(default)
    return Declared(
        tenants=tenants,
        organizations=[each.organization for each in registered if not each.decommissioned],
        sources=await database.read(organizations.sources),
    )


async def findings(
    database: Database, settings: Settings, declared: Sequence[Organization], clock: Clock
) -> AsyncIterator[Finding]:
    """What ends soon, and what waits for an operator or has trouble."""
    for each in declared:
        tokens = await database.read(lambda tx, of=each.name: credentials.listing(tx, of))
        for finding in ending.findings(tokens, clock.now()):
            yield finding
    for fuse in (await database.read(fuses.blown)).values():
        yield _stopped(fuse)
    for name, count in (await database.read(staging.waiting)).items():
        yield _staged(name, count)
    for name, feed in (await database.read(appearances.feeds)).items():
        yield _feed(name, feed)
    for source, backlog in (await database.read(enrichments.backlogs)).items():
        if backlog.error is not None:
            yield _unanswered(source, backlog)
    known = await database.read(streams.every)
    for finding in security_events.findings(settings, declared, known):
        yield finding
    for state in await database.read(setups.every):
        if (finding := _set_up(state)) is not None:
            yield finding


def _stopped(fuse: Fuse) -> Finding:
    code = (fuse.detail or {}).get("code")
    last = f", the last with {code}" if code else ""
    return Finding(
        check=f"source {fuse.source}",
        verdict="failed",
        detail=f"stopped since {fuse.blown_at}: {fuse.failures} events failed in a row{last}",
        advice="Mend its mapping or what is sent, then: provisioner events resume"
        f" {fuse.source}; then replay what failed.",
    )


def _unanswered(source: str, backlog: Backlog) -> Finding:
    assert backlog.error is not None
    return Finding(
        check=f"enrichment of {source}",
        verdict="failed",
        detail=f"{backlog.waiting} events wait since {backlog.since}: {backlog.error['message']}",
        advice="Mend that, or the source's enrichment: they go on by themselves.",
    )


def _set_up(state: SetUpState) -> Finding | None:
    if state.verdict in ("done", "pending"):
        return None
    error = state.error or {}
    advices = [each["advice"] for each in error.get("problems", ())]
    return Finding(
        check=f"set-up of {state.organization}",
        verdict="failed",
        detail=f"{state.verdict}: {error.get('message', '')}",
        advice=" ".join(dict.fromkeys(advices)) or "It goes on by itself once Auth0 answers.",
    )


def _feed(tenant: str, feed: Feed) -> Finding:
    """Not fatal where it is refused: who is new is found by looking, some seconds later."""
    check = f"event feed of {tenant}"
    if feed.refused is None:
        return Finding(check=check, verdict="ok", detail=f"last heard at {feed.heard_at}")
    advice = {
        "insufficient_scope": "Grant read:events to the application.",
        "too_many_streams": "Close other streams of events, or take a plan with more of them.",
    }.get(str(feed.refused["code"]), "A plan with the Events API makes it quicker.")
    return Finding(
        check=check,
        verdict="skipped",
        detail=f"refused since {feed.refused['since']}: {feed.refused['message']};"
        " new users are found by looking, every 15 s",
        advice=advice,
    )


def _staged(organization: str, count: int) -> Finding:
    return Finding(
        check=f"leavers of {organization}",
        verdict="failed",
        detail=f"{count} are staged, since many left at once",
        advice=f"Ask the customer, then: provisioner events approve|refuse --organization {organization}.",
    )
