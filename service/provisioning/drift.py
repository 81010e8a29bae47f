"""Compares Auth0 with what we know, tells what differs once, and has the lanes mend it by policy.

One check at a time in a tenant, within the background share of its budget. A check that was broken
off begins again; what it had found is not told twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final

import httpx
import orjson
import structlog

from service.auth0.answers import Answer
from service.auth0.client import Auth0Client
from service.auth0.jobs import TIMEOUT, Jobs
from service.clock import Clock, pause
from service.directory import accounts, drift, leases, organizations, people
from service.directory.accounts import Account
from service.directory.database import Database, Transaction, is_unavailable
from service.directory.drift import Check, Finding
from service.directory.organizations import Registered
from service.errors import LostLease
from service.organizations import Organization
from service.outcomes.data import DriftCorrected, DriftDetected
from service.people import is_wanted
from service.provisioning.comparing import (
    FIELDS,
    differences,
    doubt_of,
    is_idle,
    is_ours_to_mend,
    lets_in,
    of_user,
)
from service.provisioning.observed import Observed
from service.provisioning.operations import Subject
from service.provisioning.residents import residents_of
from service.provisioning.spool import Spool, spooling
from service.provisioning.telling import tell
from service.provisioning.tenancy import Tenure

log = structlog.get_logger(__name__)

_PAGE: Final = 200
_MOST_UNKNOWN: Final = 1_000
"""Of a connection, that are kept by name; all are counted."""
_MOST_TOLD: Final = 5
_LAG: Final = timedelta(minutes=1)
"""How long ago a membership was removed that is not to be there any more."""
NIGHTLY: Final = "nightly"


class CheckFailed(Exception):
    """A check cannot go on; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftSettings:
    """When a tenant is compared by itself. Times in seconds. ``hour``: of the day in UTC; -1: never."""

    hour: int = -1
    poll: float = 2.0
    look: float = 5.0
    """How often an export is asked whether it is ready."""


class DriftChecks:
    """Carries out the checks of one tenant, for as long as this process owns the tenant."""

    name: ClassVar[str] = "drift"

    def __init__(
        self,
        tenant: str,
        *,
        database: Database,
        client: Auth0Client,
        clock: Clock,
        settings: DriftSettings | None = None,
        on_found: Callable[[str], None] | None = None,
    ) -> None:
        self._tenant = tenant
        self._database = database
        self._client = client.background()
        self._jobs = Jobs(self._client)
        self._clock = clock
        self._settings = settings or DriftSettings()
        self._on_found = on_found or (lambda _aspect: None)

    async def work(self, tenure: Tenure, *, stop: object) -> None:
        del stop
        while not tenure.ended.is_set():
            if tenure.may_call() and not await tenure.paused():
                await self._plan_nightly()
                await self._tell_corrected(tenure)
                check = await self._database.read(lambda tx: drift.next_open(tx, self._tenant))
                if check is not None:
                    await self._carry_out(check, tenure)
            await pause(tenure.ended, self._settings.poll)

    async def _plan_nightly(self) -> None:
        now = self._clock.now()
        if now.hour != self._settings.hour:
            return
        since = now - timedelta(hours=20)

        def plan(tx: Transaction) -> None:
            if not drift.was_asked_since(tx, self._tenant, NIGHTLY, since):
                drift.ask(tx, self._tenant, None, correct=False, asked_by=NIGHTLY, now=now)

        await self._database.transact(plan)

    async def _carry_out(self, check: Check, tenure: Tenure) -> None:
        counts = Counter[str]()
        error: str | None = None
        log.info("drift.began", tenant=self._tenant, organization=check.organization)
        try:
            await self._compare(check, tenure, counts)
        except CheckFailed as failure:
            error = str(failure)
            log.warning("drift.failed", tenant=self._tenant, reason=error)
        except LostLease:
            raise
        except Exception as failure:
            if is_unavailable(failure) or tenure.ended.is_set():
                raise
            log.exception("drift.crashed", tenant=self._tenant)
            error = f"internal error ({type(failure).__name__}): see the log"
        if tenure.ended.is_set():
            return  # it begins again
        now = self._clock.now()
        await self._store(tenure, check, result=dict(counts), error=error, ended_at=now)
        log.info("drift.ended", tenant=self._tenant, **counts)

    async def _compare(self, check: Check, tenure: Tenure, counts: Counter[str]) -> None:
        """Everything that is asked for. Raises CheckFailed at its end, for what could not be read."""
        every = await self._database.read(lambda tx: organizations.of_tenant(tx, self._tenant))
        ours = [each for each in every if check.organization in (None, each.organization.name)]
        connections: dict[str, list[Registered]] = {}
        for registered in ours:
            for connection in registered.organization.connections:
                connections.setdefault(connection.name, []).append(registered)
        failures: list[str] = []
        for name, owners in connections.items():
            if tenure.ended.is_set():
                return
            try:
                await self._compare_users(check, tenure, name, owners, counts)
            except CheckFailed as failure:
                failures.append(str(failure))
        for registered in ours:
            if tenure.ended.is_set():
                return
            try:
                with spooling() as spool:
                    if await self._read_members(check, tenure, registered.organization, spool):
                        await self._walk_members(
                            check, tenure, registered.organization, spool, counts
                        )
            except CheckFailed as failure:
                failures.append(str(failure))
        if failures:
            more = f" (and {len(failures) - _MOST_TOLD} more)" if len(failures) > _MOST_TOLD else ""
            raise CheckFailed("; ".join(failures[:_MOST_TOLD]) + more)

    async def _compare_users(
        self,
        check: Check,
        tenure: Tenure,
        name: str,
        owners: Sequence[Registered],
        counts: Counter[str],
    ) -> None:
        self._jobs.forget(name)  # it may have been made anew since the last check
        connection = await self._jobs.connection(name)
        if isinstance(connection, Answer):
            if connection.verdict == "not-found" and all(o.decommissioned for o in owners):
                return  # it has gone with them
            raise CheckFailed(_why(f"the connection {name}", connection))
        theirs = [each.organization for each in owners]
        with spooling() as spool:
            await self._export(check, tenure, name, connection, spool, counts)
            await self._walk(check, tenure, name, theirs, spool, counts)
            if check.organization is None or theirs[0].model != "shared":
                await self._unknown(check, tenure, name, theirs, spool, counts)

    # Users

    async def _export(
        self,
        check: Check,
        tenure: Tenure,
        name: str,
        connection: str,
        spool: Spool,
        counts: Counter[str],
    ) -> None:
        """Everybody in a connection, into the spool."""
        started = await self._again(lambda: self._jobs.export_users(connection, FIELDS), tenure)
        if started.verdict != "ok":
            raise CheckFailed(_why(f"an export of {name}", started))
        await self._say(check, tenure, f"exporting {name}", 0, 0)
        deadline = self._clock.monotonic() + TIMEOUT
        while not tenure.ended.is_set():
            job = await self._again(lambda: self._jobs.job(started.data["id"]), tenure)
            status = job.data.get("status") if job.verdict == "ok" else None
            if status == "completed":
                break
            if job.verdict != "ok" or status == "failed" or self._clock.monotonic() > deadline:
                raise CheckFailed(_why(f"the export of {name}", job))
            await pause(tenure.ended, self._settings.look)
        else:
            raise CheckFailed("stopping")
        try:
            batch: list[tuple[str, Mapping[str, Any]]] = []
            async for line in self._jobs.lines(job.data["location"]):
                if line.strip():
                    said = orjson.loads(line)
                    user_id = said.get("user_id") if isinstance(said, dict) else None
                    if isinstance(user_id, str):
                        batch.append((user_id, said))
                    else:
                        counts["unreadable"] += 1
                if len(batch) == 1_000:
                    spool.put(batch)
                    batch = []
            spool.put(batch)
        except (httpx.HTTPError, orjson.JSONDecodeError) as error:
            raise CheckFailed(
                f"the export of {name} cannot be read: {type(error).__name__}"
            ) from error

    async def _walk(
        self,
        check: Check,
        tenure: Tenure,
        connection: str,
        owners: Sequence[Organization],
        spool: Spool,
        counts: Counter[str],
    ) -> None:
        """Every account of the connection against its line; whoever differs is read before a word."""
        after, done, total, model = "", 0, len(spool), owners[0].model
        while not tenure.ended.is_set():
            page = await self._database.read(
                lambda tx, after=after: drift.accounts_after(
                    tx, self._tenant, connection, after, _PAGE
                )
            )
            if not page:
                return
            after, now, same = page[-1].identifier, self._clock.now(), list[str]()
            asked = await self._asked_for(check, page)
            for account in page:
                found = spool.take(account.user_id)
                if account.id not in asked or not is_idle(account, now):
                    continue
                observed = Observed.from_document(account.observed)
                if not differences(account, observed, found, model):
                    same.append(account.id)
                    continue
                told = await self._confirmed(account, observed, tenure, owners)
                if told:
                    await self._found(check, tenure, account, "account", told, counts)
                elif told is not None:
                    same.append(account.id)
            await self._forget(tenure, "account", same)
            done += len(page)
            counts["compared"] += len(page)
            await self._say(check, tenure, f"comparing {connection}", done, max(done, total))

    async def _asked_for(self, check: Check, page: Sequence[Account]) -> set[str]:
        """Those of these accounts that the check is about: a shared connection has others'."""
        ids, name = [account.id for account in page], check.organization
        if name is None:
            return set(ids)
        return await self._database.read(lambda tx: drift.accounts_of(tx, name, ids))

    async def _confirmed(
        self, account: Account, observed: Observed, tenure: Tenure, owners: Sequence[Organization]
    ) -> dict[str, Any] | None:
        """What differs by a read of the user itself, which does not lag; None where nobody knows."""
        answer = await self._again(lambda: self._client.get_user(account.user_id), tenure)
        if answer.verdict == "not-found":
            return differences(account, observed, None, owners[0].model)
        if answer.verdict != "ok":
            return None
        return differences(account, observed, of_user(answer.data), owners[0].model)

    async def _unknown(
        self,
        check: Check,
        tenure: Tenure,
        connection: str,
        owners: Sequence[Organization],
        spool: Spool,
        counts: Counter[str],
    ) -> None:
        """Users in our connection who are no account of ours: reported, never touched."""
        after, owner = "", owners[0].name if len(owners) == 1 else None
        while page := spool.unseen(after, _PAGE):
            after, now = page[-1], self._clock.now()
            known = await self._database.read(
                lambda tx, page=page: drift.known_users(tx, self._tenant, page)
            )
            strangers = [each for each in page if each not in known]
            kept = strangers[: max(0, _MOST_UNKNOWN - counts["unknown"])]
            counts["unknown"] += len(strangers)

            def keep(tx: Transaction, kept: Sequence[str] = kept, now: datetime = now) -> None:
                leases.require(tx, self._tenant, tenure.owner.fence)
                for user_id in kept:
                    drift.find(
                        tx,
                        Finding(
                            tenant=self._tenant,
                            subject=user_id,
                            aspect=f"unknown:{connection}",
                            organization=owner,
                            user_id=None,
                            auth0_user_id=user_id,
                            detail={"connection": connection},
                            check_id=check.id,
                            correcting=False,
                            found_at=now,
                        ),
                    )

            await self._database.transact(keep)
        await self._database.transact(lambda tx: drift.forget_unseen(tx, check, connection))

    # Memberships

    async def _read_members(
        self, check: Check, tenure: Tenure, organization: Organization, spool: Spool
    ) -> bool:
        """An Organization's members into the spool; False where there is no such Organization."""
        answer = await self._again(
            lambda: self._client.organization_by_name(organization.auth0_name), tenure
        )
        if answer.verdict == "not-found":
            return False
        if answer.verdict != "ok":
            raise CheckFailed(_why(f"the Organization {organization.auth0_name}", answer))
        cursor: str | None = None
        while not tenure.ended.is_set():
            page = await self._again(
                lambda cursor=cursor: self._jobs.members(answer.data["id"], cursor), tenure
            )
            if page.verdict != "ok":
                raise CheckFailed(_why(f"the members of {organization.auth0_name}", page))
            if cursor is not None and page.data.get("next") == cursor:
                raise CheckFailed(f"the members of {organization.auth0_name} come in circles")
            members = page.data.get("members") or []
            spool.put(
                (each["user_id"], {"roles": [role["name"] for role in each.get("roles") or []]})
                for each in members
            )
            cursor = page.data.get("next")
            await self._say(
                check, tenure, f"members of {organization.auth0_name}", len(spool), len(spool)
            )
            if not members or not cursor:
                break
        return not tenure.ended.is_set()

    async def _walk_members(
        self,
        check: Check,
        tenure: Tenure,
        organization: Organization,
        spool: Spool,
        counts: Counter[str],
    ) -> None:
        after, name = "", organization.auth0_name
        while not tenure.ended.is_set():
            page = await self._database.read(
                lambda tx, after=after: drift.residents_after(tx, organization.name, after, _PAGE)
            )
            if not page:
                return
            after, now, same = page[-1][0], self._clock.now(), list[str]()
            for user_id, account in page:
                listed = spool.take(account.user_id)
                ours = Observed.from_document(account.observed).memberships.get(name)
                if not is_idle(account, now):
                    continue
                if ours is not None:
                    told = _missing(name, ours, listed)
                elif listed is not None and await self._has_left(user_id, organization, now):
                    told = {"auth0_organization": name, "rejoined": True}
                else:
                    told = {}
                if told:
                    # The list lags: the user's own word counts.
                    told = await self._confirmed_membership(account, name, ours or (), told, tenure)
                if told:
                    await self._found(check, tenure, account, f"membership:{name}", told, counts)
                elif told is not None:
                    same.append(account.id)
            await self._forget(tenure, f"membership:{name}", same)
            counts["memberships"] += len(page)

    async def _has_left(self, user_id: str, organization: Organization, now: datetime) -> bool:
        """Whether somebody is out there, and was a while ago: a removal takes some time to show."""

        def left(tx: Transaction) -> bool:
            user, registered = people.get(tx, user_id), organizations.find(tx, organization.name)
            if user is None or registered is None:
                return False
            ended = registered.decommissioned
            since = user.last_applied_at or user.modified_at
            return since < now - _LAG and not is_wanted(user, organization, decommissioned=ended)

        return await self._database.read(left)

    async def _confirmed_membership(
        self,
        account: Account,
        name: str,
        ours: Sequence[str],
        told: Mapping[str, Any],
        tenure: Tenure,
    ) -> dict[str, Any] | None:
        answer = await self._again(lambda: self._client.organizations_of(account.user_id), tenure)
        if answer.verdict == "not-found":
            return None  # the account's own finding says so
        if answer.verdict != "ok":
            return None
        if "rejoined" in told:
            return dict(told) if name in answer.data else {}
        if name not in answer.data:
            return {"auth0_organization": name}
        if "missing_roles" not in told and not ours:
            return {}
        found = await self._again(lambda: self._client.organization_by_name(name), tenure)
        if found.verdict != "ok":
            return None
        roles = await self._again(
            lambda: self._jobs.member_roles(found.data["id"], account.user_id), tenure
        )
        if roles.verdict != "ok":
            return None
        return _missing(name, ours, {"roles": [each["name"] for each in roles.data]})

    # Findings

    async def _found(
        self,
        check: Check,
        tenure: Tenure,
        account: Account,
        aspect: str,
        told: Mapping[str, Any],
        counts: Counter[str],
    ) -> None:
        """Tells what differs, once, and has it mended where policy or the check says so."""
        now = self._clock.now()

        def record(tx: Transaction) -> bool:
            leases.require(tx, self._tenant, tenure.owner.fence)
            held = accounts.lock(tx, account.id)
            if held is None or held.observed != account.observed or not is_idle(held, now):
                return False  # it has changed since: the next check sees
            residents = residents_of(tx, held)
            name = told.get("auth0_organization")
            theirs = [
                each
                for each in residents
                if name in (None, each.organization.auth0_name)
                and check.organization in (None, each.organization.name)
            ]
            if not theirs:
                return False
            principal = max(theirs, key=lambda resident: resident.user.modified_at)
            policy = principal.organization.policies.drift
            urgent = lets_in(told, wanted=any(resident.wanted for resident in residents))
            mend = is_ours_to_mend(told) and (check.correct or policy == "correct" or urgent)
            finding = Finding(
                tenant=self._tenant,
                subject=account.id,
                aspect=aspect,
                organization=principal.user.organization,
                user_id=principal.user.id,
                auth0_user_id=account.user_id,
                detail=told,
                check_id=check.id,
                correcting=mend,
                found_at=now,
            )
            # A block that was lifted is told by the lane that places it again.
            silent = mend and set(told) == {"blocked"}
            if drift.find(tx, finding) and not silent:
                tell(tx, principal.subject, held, (DriftDetected(**_members(told)),), now)
            if mend:
                accounts.store(tx, account.id, now, doubt=doubt_of(told), due_at=now)
            return True

        if await self._database.transact(record):
            counts["differ"] += 1
            self._on_found(aspect.partition(":")[0])

    async def _tell_corrected(self, tenure: Tenure) -> None:
        """What the lanes have mended since."""
        found = await self._database.read(lambda tx: drift.being_corrected(tx, self._tenant, _PAGE))
        for finding in found:
            now = self._clock.now()

            def settle(tx: Transaction, finding: Finding = finding, now: datetime = now) -> None:
                leases.require(tx, self._tenant, tenure.owner.fence)
                account = accounts.get(tx, finding.subject)
                if account is None or account.closed_at is not None:
                    drift.drop(tx, finding)
                    return
                if (
                    account.doubt is not None
                    or account.applied_revision != account.revision
                    or (account.due_at is not None and account.due_at <= now)
                ):
                    return
                if account.error is not None:
                    drift.give_up(tx, finding)
                    return
                drift.drop(tx, finding)
                if set(finding.detail) != {"blocked"}:
                    subject = Subject(
                        organization=str(finding.organization), user_id=str(finding.user_id)
                    )
                    mended = DriftCorrected(**_members(finding.detail))
                    tell(tx, subject, account, (mended,), now)

            await self._database.transact(settle)

    async def _forget(self, tenure: Tenure, aspect: str, subjects: Sequence[str]) -> None:
        if not subjects:
            return

        def work(tx: Transaction) -> None:
            leases.require(tx, self._tenant, tenure.owner.fence)
            drift.forget(tx, self._tenant, aspect, subjects)

        await self._database.transact(work)

    # Calls

    async def _again(self, call: Callable[[], Any], tenure: Tenure) -> Answer:
        """A read, repeated a few times while nobody answers it."""
        answer: Answer = await call()
        for attempt in range(5):
            if answer.verdict not in ("rate-limited", "unreachable", "doubtful"):
                break
            await pause(tenure.ended, answer.retry_after or float(attempt + 1))
            if tenure.ended.is_set():
                break
            answer = await call()
        return answer

    async def _say(self, check: Check, tenure: Tenure, phase: str, done: int, total: int) -> None:
        await self._store(tenure, check, progress={"phase": phase, "done": done, "total": total})

    async def _store(self, tenure: Tenure, check: Check, **values: Any) -> None:
        def work(tx: Transaction) -> None:
            leases.require(tx, self._tenant, tenure.owner.fence)
            drift.store(tx, check.id, **values)

        await self._database.transact(work)


def _missing(name: str, ours: Sequence[str], listed: Mapping[str, Any] | None) -> dict[str, Any]:
    """What is gone of a membership and of the roles that we granted in it."""
    if listed is None:
        return {"auth0_organization": name}
    gone = sorted(set(ours) - set(listed["roles"]))
    return {"auth0_organization": name, "missing_roles": gone} if gone else {}


def _members(told: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(v) if isinstance(v, list) else v for name, v in told.items()}


def _why(what: str, answer: Answer) -> str:
    return f"{what}: Auth0 answered {answer.status or answer.verdict} {answer.code or ''}".rstrip()
