"""A lane worked by hand, one step at a time, so that things can happen between any two of them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from operators.sample.organizations import CLIENT_SECRET
from service.auth0.answers import Answer
from service.auth0.calls import http_client
from service.auth0.client import Auth0Client
from service.auth0.pacing import Pacer
from service.directory import accounts, leases
from service.directory.accounts import Account
from service.mail import FolderMailer
from service.people import User
from service.provisioning import turn
from service.provisioning.effects import Later, TenantRefused
from service.provisioning.interpreting import interpret
from service.provisioning.observed import Observed
from service.provisioning.perform import Performer
from service.provisioning.turn import Owner, Step
from tests.provisioning.world import Hurried, World, tenant_of

LOST = Answer(verdict="doubtful", message="the answer was lost")


class TakeOver(Protocol):
    """Takes the tenant, from whoever had it, to work on this user's account."""

    async def __call__(self, user: User) -> Hand: ...


@dataclass(frozen=True, slots=True)
class _Record:
    world: World
    step: Step
    owner: Owner

    async def intend(self) -> bool:
        now = self.world.clock.now()
        return await self.world.database.transact(
            lambda tx: turn.intend_mail(tx, self.step, self.owner, now)
        )

    async def withdraw(self) -> None:
        await self.world.database.transact(lambda tx: turn.withdraw_mail(tx, self.step, self.owner))


@dataclass(slots=True)
class Hand:
    """Owns the tenant ``main`` and does what lanes do, when the test says so."""

    world: World
    owner: Owner
    performer: Performer
    account_id: str = ""

    async def begin(self) -> Step | None:
        now = self.world.clock.now()
        return await self.world.database.transact(
            lambda tx: turn.begin(tx, self.account_id, self.owner, now)
        )

    async def call(self, step: Step) -> Answer:
        record = _Record(self.world, step, self.owner)
        return await self.performer.perform(step, record, leaver=False)

    async def record(self, step: Step, answer: Answer) -> Step | None:
        effect = interpret(step.operation, answer, step.setting())
        assert not isinstance(effect, TenantRefused)
        now = self.world.clock.now()
        if isinstance(effect, Later):
            await self.world.database.transact(
                lambda tx: turn.postpone(tx, step, effect, self.owner, now, now)
            )
            return None
        return await self.world.database.transact(
            lambda tx: turn.advance(tx, step, effect, self.owner, now)
        )

    async def until(self, kind: str) -> Step:
        """Works on until this kind of operation is next; it is recorded and not yet called."""
        step = await self.begin()
        while step is not None and step.operation.kind != kind:
            step = await self.record(step, await self.call(step))
        assert step is not None, f"no {kind} was planned"
        return step

    async def finish(self, step: Step | None = None) -> list[str]:
        """Works to the end of the turn, anew where ``step`` is None; the kinds of what was done."""
        step = step or await self.begin()
        done: list[str] = []
        while step is not None:
            done.append(step.operation.kind)
            assert len(done) < 40, done
            step = await self.record(step, await self.call(step))
        return done

    async def account(self) -> Account:
        found = await self.world.database.read(lambda tx: accounts.get(tx, self.account_id))
        assert found is not None
        return found

    async def observed(self) -> Observed:
        return Observed.from_document((await self.account()).observed)


async def take_over(world: World, user: User) -> Hand:
    """Takes the tenant, from whoever had it, to work on this user's account."""
    account_id = (await world.user(user)).account_id
    assert account_id is not None
    client = Auth0Client(
        tenant_of(world),
        CLIENT_SECRET,
        clock=world.clock,
        pacer=Pacer("enterprise", Hurried()),
        http=http_client(),
    )
    name = f"hand#{secrets.token_hex(4)}"
    fence = await world.database.transact(
        lambda tx: leases.claim_tenant(tx, "main", name, world.clock.now(), timedelta(seconds=60))
    )
    assert fence is not None
    return Hand(
        world=world,
        owner=Owner(tenant="main", fence=fence),
        performer=Performer(
            client, mailer=FolderMailer(world.folder / "mail"), sender="no-reply@example.com"
        ),
        account_id=account_id,
    )
