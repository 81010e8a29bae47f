"""A directory, a simulator on a real socket and the lanes between them: what the rules are tried on."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import httpx
from sqlalchemy import select

from operators.sample.organizations import CLIENT_SECRET, sample_installation
from service.auth0.calls import http_client
from service.auth0.client import Auth0Client
from service.auth0.pacing import Pacer
from service.auth0.simulator.app import create_simulator
from service.auth0.simulator.lag import NO_LAG, Lag
from service.auth0.simulator.limits import UNLIMITED, Limits
from service.clock import SystemClock
from service.directory import accounts, events, organizations, outbox, people, users, workers
from service.directory import tables as t
from service.directory.database import Database
from service.directory.events import Event, Filter
from service.directory.inbox import Received
from service.directory.organizations import Registered
from service.directory.outbox import Outcome
from service.mail import FolderMailer, Mailer
from service.organizations import Organization, Tenant
from service.people import User
from service.provisioning.feed import Feed, FeedSettings, Listening
from service.provisioning.lanes import Lanes, LaneSettings
from service.provisioning.perform import Performer
from service.provisioning.rounds import Rounds, RoundSettings
from service.provisioning.setup.work import SetUps
from service.provisioning.tenancy import Tenancy, TenancySettings
from service.workers import WorkerEvent
from tests.contract.whole_run import exchange_log
from tests.infrastructure.serving import served


@dataclass(frozen=True, slots=True)
class Hurried:
    """The machine's clock, whose seconds pass ``times`` as fast: where a wait is not the rule."""

    times: float = 20.0

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic() * self.times

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds) / self.times)


@dataclass(slots=True)
class World:
    """Drives the directory as the doors do, and looks at Auth0 through the control API."""

    database: Database
    url: str
    folder: Path
    http: httpx.AsyncClient
    clock: SystemClock = field(default_factory=SystemClock)
    running: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def declare(self, **changes: Mapping[str, Any]) -> None:
        """The sample organizations, some of them with changed fields."""
        installation = sample_installation(self.url)
        for tenant in installation.tenants:
            await self.database.transact(lambda tx, it=tenant: organizations.apply_tenant(tx, it))
        for organization in installation.organizations:
            changed = organization.model_copy(update=dict(changes.get(organization.name, {})))
            await self.apply(Organization.model_validate(changed.model_dump()))

    async def apply(self, organization: Organization) -> None:
        now = self.clock.now()
        await self.database.transact(lambda tx: organizations.apply(tx, organization, now))

    async def registered(self, organization: str) -> Registered:
        found = await self.database.read(lambda tx: organizations.find(tx, organization))
        assert found is not None
        return found

    def lanes(
        self,
        tenant: str = "main",
        *,
        secret: str = CLIENT_SECRET,
        mailer: Mailer | None = None,
        settings: LaneSettings | None = None,
        owner: str = "",
        http: httpx.AsyncClient | None = None,
        pacer: Pacer | None = None,
        feed: bool = False,
        sweep: float = 1000.0,
        sweep_beside: float = 1000.0,
        full_again: float = 0.3,
    ) -> Tenancy:
        """``feed``: whether to follow what the tenant tells; ``sweep``: seconds between two looks at
        who is new where there is no feed, ``sweep_beside`` the same where there is one.
        """
        described = next(t for t in sample_installation(self.url).tenants if t.name == tenant)
        client = Auth0Client(
            described,
            secret,
            clock=self.clock,
            pacer=pacer or Pacer(described.plan, Hurried()),
            http=http or http_client(),
        )
        lanes = Lanes(
            tenant,
            database=self.database,
            performer=Performer(
                client,
                mailer=mailer or FolderMailer(self.folder / "mail"),
                sender="no-reply@example.com",
                full_again=full_again,
            ),
            clock=self.clock,
            settings=settings or LaneSettings(poll=0.02),
            wait=lambda attempts: 0.05 * attempts,
        )
        set_ups = SetUps(
            database=self.database,
            client=client,
            clock=self.clock,
            poll=0.05,
            wait=lambda attempts: 0.05 * attempts,
        )
        listening = Listening()
        rounds = Rounds(
            tenant,
            client=client,
            plan=described.plan,
            listening=listening,
            settings=RoundSettings(look=0.05, sweep=sweep, sweep_beside=sweep_beside),
        )
        quick = FeedSettings(again=0.01, first=0.2, no_room=0.1, no_feed=0.1)
        following = Feed(tenant, client=client, listening=listening, settings=quick)
        followers = (*([following] if feed else []), rounds)
        return Tenancy(
            tenant,
            database=self.database,
            client=client,
            works=(lanes, set_ups, *followers),
            clock=self.clock,
            owner=owner or f"test#{secrets.token_hex(4)}",
            settings=TenancySettings(look=0.05, probe=0.3),
        )

    def work(self, lanes: Tenancy | None = None) -> None:
        """Starts lanes; they run until the world ends."""
        self.running.append(asyncio.create_task((lanes or self.lanes()).run(self.stop)))

    async def rest(self) -> None:
        """Stops the lanes."""
        self.stop.set()
        await asyncio.gather(*self.running)
        self.running.clear()
        self.stop = asyncio.Event()

    async def join(self, organization: str, address: str, **resource: Any) -> User:
        body = {
            "userName": address,
            "emails": [{"value": address, "primary": True}],
            "name": {"givenName": "Ada", "familyName": "Byron"},
            "active": True,
            **resource,
        }
        registered = await self.registered(organization)
        return await self.database.transact(
            lambda tx: users.create(tx, registered, body, self.received("created"))
        )

    async def change(self, user: User, **resource: Any) -> User:
        registered = await self.registered(user.organization)

        def replace(tx: Any) -> User:
            held = users.lock(tx, user.organization, user.id)
            body = {**(held.resource or {}), **resource}
            return users.replace(tx, registered, held, body, self.received("patched"))

        return await self.database.transact(replace)

    async def delete(self, user: User) -> None:
        registered = await self.registered(user.organization)
        await self.database.transact(
            lambda tx: users.delete(tx, registered, user.id, self.received("deleted"))
        )

    async def worker(self, organization: str, kind: str, worker_id: str, **fields: Any) -> str:
        registered = await self.registered(organization)
        event = WorkerEvent(type=f"worker.{kind}", worker_id=worker_id, **fields)
        received = Received(
            door="http", source="hr", type=event.type, at=self.clock.now(), body=b"{}"
        )
        admission = await self.database.transact(
            lambda tx: workers.accept(tx, registered, event, received)
        )
        return admission.event_id

    def received(self, verb: str) -> Received:
        return Received(
            door="scim", source="scim", type=f"scim.user.{verb}", at=self.clock.now(), body=b"{}"
        )

    async def settled(self, within: float = 20.0) -> None:
        """Until no event is open and no account is due."""
        await self.until(self._is_settled, within)

    async def _is_settled(self) -> bool:
        def busy(tx: Any) -> bool:
            is_open = events.listing(tx, Filter(state="accepted"), limit=1)
            due = accounts.due(tx, "main", now=self.clock.now(), limit=1)
            return bool(is_open or due)

        return not await self.database.read(busy)

    async def until(self, holds: Callable[[], Any], within: float = 20.0) -> None:
        deadline = self.clock.monotonic() + within
        while not await holds():
            assert self.clock.monotonic() < deadline, await self.picture()
            await asyncio.sleep(0.02)

    async def picture(self) -> str:
        events = await self.events()
        calls = await self.calls()
        return "\n".join(
            [f"{e.type} {e.state} {e.result} {e.error}" for e in events]
            + [f"{c['method']} {c['path']} {c['status']}" for c in calls[-20:]]
        )

    async def hired(self, worker_id: str) -> User:
        """The user whom HR knows by this number."""

        def find(tx: Any) -> User | None:
            found = tx.execute(select(t.users.c.id).where(t.users.c.worker_id == worker_id))
            return people.get(tx, found.scalar_one())

        user = await self.database.read(find)
        assert user is not None
        return user

    async def user(self, user: User) -> User:
        found = await self.database.read(lambda tx: people.get(tx, user.id))
        assert found is not None
        return found

    async def in_doubt(self) -> list[str]:
        """The accounts for which a call is recorded: about to be made, or its answer lost."""

        def find(tx: Any) -> list[str]:
            rows = tx.execute(select(t.accounts.c.id, t.accounts.c.doubt))
            return [row.id for row in rows if row.doubt is not None]

        return await self.database.read(find)

    async def events(self) -> list[Event]:
        return await self.database.read(lambda tx: events.listing(tx, Filter()))

    async def endings(self) -> list[tuple[str, str | None, str | None]]:
        return [(e.state, e.result, (e.error or {}).get("code")) for e in await self.events()]

    async def outcomes(self, user: User | None = None) -> list[Outcome]:
        wanted = user.id if user else None
        return await self.database.read(lambda tx: outbox.listing(tx, user_id=wanted))

    async def told(self, user: User | None = None) -> list[str]:
        return [
            outcome.type.removeprefix("io.auth0-provisioner.").removesuffix(".v1")
            for outcome in await self.outcomes(user)
        ]

    async def state(self) -> dict[str, list[dict[str, Any]]]:
        return (await self.http.get("/simulator/state")).json()

    async def auth0_user(self, address: str, tenant: str = "main") -> dict[str, Any] | None:
        found = [
            user
            for user in (await self.state())["users"]
            if user.get("email") == address and user["tenant"] == tenant
        ]
        assert len(found) <= 1, found
        return found[0] if found else None

    async def members(self) -> set[tuple[str, str]]:
        state = await self.state()
        addresses = {user["user_id"]: user.get("email") for user in state["users"]}
        return {
            (member["organization"], str(addresses.get(member["user_id"])))
            for member in state["members"]
        }

    async def calls(self, after: int = 0) -> list[dict[str, Any]]:
        return (await self.http.get("/simulator/calls", params={"after": after})).json()

    async def writes(self, method: str, ending: str) -> list[dict[str, Any]]:
        return [
            call
            for call in await self.calls()
            if call["method"] == method and call["path"].rstrip("/").endswith(ending)
        ]

    async def fault(self, kind: str, method: str, path: str, **fields: Any) -> None:
        body = {"match": {"method": method, "path": path}, "kind": kind, **fields}
        (await self.http.post("/simulator/faults", json=body)).raise_for_status()

    async def mend(self) -> None:
        await self.http.delete("/simulator/faults")

    def mails(self) -> list[str]:
        folder = self.folder / "mail" / "new"
        return [path.read_text() for path in folder.iterdir()] if folder.exists() else []


class Simulator:
    """The simulator under uvicorn, on a port of its own, in this event loop."""

    def __init__(
        self, folder: Path, *, limits: Limits = UNLIMITED, lag: Lag = NO_LAG, **options: Any
    ) -> None:
        application = create_simulator(
            data_dir=folder,
            limits=limits,
            random=Random(7),
            observe=exchange_log(),
            lag=lag,
            **options,
        )
        self._served = served(application, grace=1)  # an answer that a fault holds back

    async def start(self) -> str:
        return await self._served.__aenter__()

    async def stop(self) -> None:
        await self._served.__aexit__(None, None, None)


def tenant_of(world: World, name: str = "main") -> Tenant:
    return next(t for t in sample_installation(world.url).tenants if t.name == name)
