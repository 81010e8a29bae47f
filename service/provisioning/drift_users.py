"""Compares the users of a connection, by an export of it. Knows no memberships."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import httpx
import orjson

from service.auth0.answers import Answer
from service.auth0.jobs import TIMEOUT
from service.clock import pause
from service.directory import drift, leases
from service.directory.accounts import Account
from service.directory.database import Transaction
from service.directory.drift import Finding
from service.directory.organizations import Registered
from service.organizations import Model, Organization
from service.provisioning.comparing import FIELDS, differences, is_idle, of_user
from service.provisioning.drift_run import PAGE, CheckFailed, Run, why
from service.provisioning.observed import Observed
from service.provisioning.spool import Spool, spooling

_MOST_UNKNOWN: Final = 1_000
"""Of a connection, that are kept by name; all are counted."""


async def compare_users(
    run: Run,
    name: str,
    owners: Sequence[Registered],
) -> None:
    """A connection's users. Raises CheckFailed where they cannot be read."""
    run.jobs.forget(name)  # it may have been made anew since the last check
    connection = await run.jobs.connection(name)
    if isinstance(connection, Answer):
        if connection.verdict == "not-found" and all(o.decommissioned for o in owners):
            return  # it has gone with them
        raise CheckFailed(why(f"the connection {name}", connection))
    theirs = [each.organization for each in owners]
    with spooling() as spool:
        await _export(run, name, connection, spool)
        await _walk(run, name, theirs, spool)
        if run.check.organization is None or _model(theirs, name) != "shared":
            await _unknown(run, name, theirs, spool)


async def _export(
    run: Run,
    name: str,
    connection: str,
    spool: Spool,
) -> None:
    """Everybody in a connection, into the spool."""
    started = await run.again(lambda: run.jobs.export_users(connection, FIELDS))
    if started.verdict != "ok":
        raise CheckFailed(why(f"an export of {name}", started))
    await run.say(f"exporting {name}", 0, 0)
    deadline = run.clock.monotonic() + TIMEOUT
    while not run.tenure.ended.is_set():
        job = await run.again(lambda: run.jobs.job(started.data["id"]))
        status = job.data.get("status") if job.verdict == "ok" else None
        if status == "completed":
            break
        if status == "failed":
            raise CheckFailed(f"the export of {name} failed in Auth0: check again later")
        if job.verdict != "ok" or run.clock.monotonic() > deadline:
            raise CheckFailed(why(f"the export of {name}", job))
        await pause(run.tenure.ended, run.look)
    else:
        raise CheckFailed("stopping")
    try:
        batch: list[tuple[str, Mapping[str, Any]]] = []
        async for line in run.jobs.lines(job.data["location"]):
            if line.strip():
                said = orjson.loads(line)
                user_id = said.get("user_id") if isinstance(said, dict) else None
                if isinstance(user_id, str):
                    batch.append((user_id, said))
                else:
                    run.counts["unreadable"] += 1
            if len(batch) == 1_000:
                spool.put(batch)
                batch = []
                await asyncio.sleep(0)  # a file that is here already keeps nobody waiting
        spool.put(batch)
    except (httpx.HTTPError, orjson.JSONDecodeError) as error:
        raise CheckFailed(f"the export of {name} cannot be read: {type(error).__name__}") from error


async def _walk(
    run: Run,
    connection: str,
    owners: Sequence[Organization],
    spool: Spool,
) -> None:
    """Every account of the connection against its line; whoever differs is read before a word."""
    after, done, total, model = "", 0, len(spool), _model(owners, connection)
    while not run.tenure.ended.is_set():
        page = await run.database.read(
            lambda tx, after=after: drift.accounts_after(tx, run.tenant, connection, after, PAGE)
        )
        if not page:
            return
        after, now, same = page[-1].identifier, run.clock.now(), list[str]()
        asked = await _asked_for(run, page)
        for account in page:
            found = spool.take(account.user_id)
            if account.id not in asked or not is_idle(account, now):
                continue
            observed = Observed.from_document(account.observed)
            if not differences(account, observed, found, model):
                # A block of somebody else's stays on the list for as long as it stands.
                if not observed.blocked or observed.blocked_by_us:
                    same.append(account.id)
                continue
            told = await _confirmed(run, account, observed, owners)
            if told:
                await run.found(account, "account", told)
            elif told is not None:
                same.append(account.id)
        await run.forget("account", same)
        done += len(page)
        run.counts["compared"] += len(page)
        await run.say(f"comparing {connection}", done, max(done, total))


async def _asked_for(run: Run, page: Sequence[Account]) -> set[str]:
    """Those of these accounts that the check is about: a shared connection has others'."""
    ids, name = [account.id for account in page], run.check.organization
    if name is None:
        return set(ids)
    return await run.database.read(lambda tx: drift.accounts_of(tx, name, ids))


async def _confirmed(
    run: Run, account: Account, observed: Observed, owners: Sequence[Organization]
) -> dict[str, Any] | None:
    """What differs by a read of the user itself, which does not lag; None where nobody knows."""
    answer = await run.again(lambda: run.client.get_user(account.user_id))
    if answer.verdict == "not-found":
        return differences(account, observed, None, _model(owners, account.connection))
    if answer.verdict != "ok":
        return None
    return differences(account, observed, of_user(answer.data), _model(owners, account.connection))


async def _unknown(
    run: Run,
    connection: str,
    owners: Sequence[Organization],
    spool: Spool,
) -> None:
    """Users in our connection who are no account of ours: reported, never touched."""
    after, owner, found = "", owners[0].name if len(owners) == 1 else None, 0
    while page := spool.unseen(after, PAGE):
        after, now = page[-1], run.clock.now()
        known = await run.database.read(
            lambda tx, page=page: drift.known_users(tx, run.tenant, page)
        )
        strangers = [
            each
            for each in page
            if each not in known or (not known[each] and await _is_back(run, each))
        ]
        kept = strangers[: max(0, _MOST_UNKNOWN - found)]
        found += len(strangers)
        run.counts["unknown"] += len(strangers)

        def keep(tx: Transaction, kept: Sequence[str] = kept, now: datetime = now) -> None:
            leases.require(tx, run.tenant, run.tenure.owner.fence)
            for user_id in kept:
                drift.find(
                    tx,
                    Finding(
                        tenant=run.tenant,
                        subject=user_id,
                        aspect=f"unknown:{connection}",
                        organization=owner,
                        user_id=None,
                        auth0_user_id=user_id,
                        detail={"connection": connection},
                        check_id=run.check.id,
                        correcting=False,
                        found_at=now,
                    ),
                )

        await run.database.transact(keep)
    await run.database.transact(lambda tx: drift.forget_unseen(tx, run.check, connection))


async def _is_back(run: Run, user_id: str) -> bool:
    """Whether somebody whom we deleted is there, and not only in an export from before."""
    answer = await run.again(lambda: run.client.get_user(user_id))
    return answer.verdict == "ok"


def _model(owners: Sequence[Organization], connection: str) -> Model:
    """How the accounts of a connection are treated by those who use it."""
    return owners[0].model_in(owners[0].connection(connection))
