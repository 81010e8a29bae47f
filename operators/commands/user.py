"""``provisioner user``: one person's story, and an operator's own word on their being in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from operators.commands.printing import document, json_line, line, moment, table
from operators.commands.running import Actor, AsJson, DataDir, acting, now, opened, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from operators.showing import FormerAccount, ShownUser
    from service.directory.database import Transaction
    from service.directory.locks import Locked

app = typer.Typer(help="One user: look, lock out, let back in.", no_args_is_help=True)

Organization = Annotated[str, typer.Argument(metavar="ORG", help="The organization's name.")]
Key = Annotated[
    str,
    typer.Argument(metavar="USER", help="Our id, userName, externalId, worker id or address."),
]


@app.command()
def show(
    organization: Organization, user: Key, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Show a user's status, what is wanted and what was seen in Auth0, and what has happened."""
    run(lambda: _show(organization, user, data_dir, as_json))


async def _show(organization: str, key: str, data_dir: Path | None, as_json: bool) -> None:
    from operators import showing
    from service.directory import overview

    at = now()
    async with opened(data_dir) as here:
        shown = await here.database.read(
            lambda tx: showing.user(tx, overview.the_user(tx, organization, key), at)
        )
    if as_json:
        json_line(
            {
                "user": document(shown.user),
                "causes": shown.causes,
                "account": document(shown.account) if shown.account else None,
                "former_accounts": [document(each) for each in shown.formers],
                "shared_with": [each.organization for each in shown.neighbours],
                "aspects": [document(each) for each in shown.aspects],
                "plan": shown.plan,
                "timeline": [document(each) for each in shown.timeline],
            }
        )
    else:
        _print(shown)


def _former(former: FormerAccount) -> str:
    since = (
        f"out since {moment(former.left_at)}" if former.left_at else "until the new one is there"
    )
    return f"{former.account.user_id} in {former.account.connection}, {since}"


def _print(shown: ShownUser) -> None:
    user, account = shown.user, shown.account
    pairs: list[tuple[str, object]] = [
        ("id", user.id),
        ("organization", user.organization),
        ("state", f"{user.state}: {user.detail}" if user.detail else user.state),
        ("out because", ", ".join(shown.causes)),
        ("lock reason", user.lock_reason),
        ("userName", (user.resource or {}).get("userName")),
        ("externalId", user.external_id),
        ("worker id", user.worker_id),
        ("employment", user.employment),
        ("address", user.identifier),
        ("deleted", moment(user.deleted_at)),
        ("last applied", moment(user.last_applied_at)),
        ("account", account and f"{account.user_id} in {account.connection} of {account.tenant}"),
        *(("lived in", _former(each)) for each in shown.formers),
        ("shared with", ", ".join(each.organization for each in shown.neighbours)),
    ]
    for name, value in pairs:
        if value:
            line(f"{name:<13} {value}")
    line("")
    table(
        ("", "desired", "observed", ""),
        (
            (each.name, each.desired, each.observed, "≠" if each.differs else "")
            for each in shown.aspects
        ),
        fold=True,
    )
    line(f"plan          {'; '.join(shown.plan) or 'nothing to do'}\n")
    table(
        ("time", "what", "detail", "event"),
        ((each.at, each.what, each.detail, each.event_id) for each in shown.timeline),
    )


@app.command()
def block(
    organization: Organization,
    user: Key,
    reason: Annotated[str | None, typer.Option(help="Why, for those who look later.")] = None,
    data_dir: DataDir = None,
    actor: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Lock a user out now, whatever SCIM and HR say, until 'user unblock'."""

    def decide(transaction: Transaction, user_id: str) -> Locked:
        from service.directory import locks

        return locks.block(transaction, user_id, actor=acting(actor), reason=reason, now=now())

    run(lambda: _decide(organization, user, data_dir, decide, lambda _: "is locked out", as_json))


@app.command()
def unblock(
    organization: Organization,
    user: Key,
    data_dir: DataDir = None,
    actor: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Lift an operator's lock. What SCIM or HR says against the person still holds."""

    def decide(transaction: Transaction, user_id: str) -> Locked:
        from service.directory import locks

        return locks.unblock(transaction, user_id, actor=acting(actor), now=now())

    def said(lifted: Locked) -> str:
        none = lifted.event_id is None
        return "was not locked by an operator" if none else "is no longer locked"

    run(lambda: _decide(organization, user, data_dir, decide, said, as_json))


@app.command()
def release(
    organization: Organization,
    user: Key,
    data_dir: DataDir = None,
    actor: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Delete a former user's account in Auth0 now, so that another person may have the address."""

    def decide(transaction: Transaction, user_id: str) -> Locked:
        from service.directory import locks

        return locks.release(transaction, user_id, actor=acting(actor), now=now())

    said = "is released: once it is deleted in Auth0, replay what waits for the address"
    run(lambda: _decide(organization, user, data_dir, decide, lambda _: said, as_json))


@app.command()
def resend(
    organization: Organization,
    user: Key,
    data_dir: DataDir = None,
    actor: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Send a user's invitation once more, as the organization's policy says, to today's address."""

    def decide(transaction: Transaction, user_id: str) -> Locked:
        from service.directory import resends

        return resends.resend(transaction, user_id, actor=acting(actor), now=now())

    run(
        lambda: _decide(organization, user, data_dir, decide, lambda _: "is invited again", as_json)
    )


async def _decide(
    organization: str,
    key: str,
    data_dir: Path | None,
    decide: Callable[[Transaction, str], Locked],
    said: Callable[[Locked], str],
    as_json: bool,
) -> None:
    """Finds the user and carries out an operator's word in one transaction, then tells of it."""
    from service.directory import overview

    def work(transaction: Transaction) -> Locked:
        return decide(transaction, overview.the_user(transaction, organization, key).id)

    async with opened(data_dir) as here:
        locked = await here.database.transact(work)
    _tell(locked, f"{locked.user.id} {said(locked)}", as_json=as_json)


def _tell(locked: Locked, said: str, *, as_json: bool) -> None:
    causes = sorted(locked.causes)
    if as_json:
        json_line(
            {
                "user": locked.user.id,
                "organization": locked.user.organization,
                "event": locked.event_id,
                "state": locked.user.state,
                "causes": causes,
            }
        )
        return
    event = f" (event {locked.event_id})" if locked.event_id else ""
    still = f"; out because: {', '.join(causes)}" if causes else ""
    line(f"{said}{event}{still}")
