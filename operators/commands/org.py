"""``provisioner org``: organizations as declared, their tokens, and their end."""

from __future__ import annotations

import sys
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from operators.commands import security_events, set_up
from operators.commands.printing import document, json_line, line, moment, note, table
from operators.commands.running import Actor, AsJson, DataDir, acting, now, opened, run

if TYPE_CHECKING:
    from operators.declaration import Change
    from service.directory.database import Transaction
    from service.directory.organizations import Registered
    from service.organizations import TokenScope

app = typer.Typer(help="Organizations: list, declare, give tokens, end.", no_args_is_help=True)
token = typer.Typer(help="Bearer tokens of an organization's doors.", no_args_is_help=True)
app.add_typer(token, name="token")
app.add_typer(security_events.app, name="security-events")

Door = Literal["scim", "events"]
Name = Annotated[str, typer.Argument(metavar="ORG", help="The organization's name.")]


class Scope(StrEnum):
    """As an option wants it that is given several times."""

    READ = "read"
    WRITE = "write"


@app.command("list")
def list_(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the organizations."""
    run(lambda: _list(data_dir, as_json))


async def _list(data_dir: Path | None, as_json: bool) -> None:
    from service.directory import organizations

    async with opened(data_dir) as here:
        found = await here.database.read(organizations.every)
    if as_json:
        for registered in found:
            json_line(_as_document(registered))
        return
    table(
        ("name", "display name", "model", "tenant", "connections", "state"),
        (
            (
                each.organization.name,
                each.organization.display_name,
                each.organization.model,
                each.organization.tenant,
                ", ".join(connection.name for connection in each.organization.connections),
                f"decommissioned {moment(each.decommissioned_at)}"
                if each.decommissioned
                else "active",
            )
            for each in found
        ),
    )


@app.command()
def show(
    name: Name,
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not ask Auth0 what differs there by now.")
    ] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show everything that is declared for an organization, and how far Auth0's side is."""
    run(lambda: _show(name, offline, data_dir, as_json))


async def _show(name: str, offline: bool, data_dir: Path | None, as_json: bool) -> None:
    import orjson

    from service.directory import credentials, decommissions

    async with opened(data_dir) as here:
        registered = await here.database.read(lambda tx: _find(tx, name))
        tokens = await here.database.read(lambda tx: credentials.listing(tx, name))
        auth0 = await set_up.shown(here, registered, offline=offline)
        ending = await here.database.read(lambda tx: decommissions.find(tx, name))
        progress = await here.database.read(lambda tx: decommissions.progress(tx, name))
    shown = _as_document(registered) | {"tokens": [document(each) for each in tokens]}
    if auth0 is not None:
        shown["auth0"] = auth0
    if ending is not None:
        shown["decommission"] = document(ending) | {"progress": document(progress)}
    if as_json:
        json_line(shown)
    else:
        line(orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode())


@app.command()
def export(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[ORG...]", help="Without one, everything.")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Print what is declared as a file that 'org apply' takes: YAML, or one JSON object. Mappings are
    not in it.
    """
    run(lambda: _export(names or [], data_dir, as_json))


async def _export(names: list[str], data_dir: Path | None, as_json: bool) -> None:
    import yaml

    from operators import declaring
    from operators.redeclaring import as_declared

    async with opened(data_dir) as here:
        for name in names:
            await here.database.read(lambda tx, it=name: _find(tx, it))
        stored = await here.database.read(declaring.stored)
    found = as_declared(stored, names)
    if as_json:
        json_line(found)
    else:
        line(yaml.safe_dump(found, sort_keys=False, allow_unicode=True).rstrip())
    own = {each["mapping"] for each in found.get("sources", ()) if "mapping" in each}
    for name in sorted(own & stored.mappings.keys()):
        note(f"Add the file of mapping {name} under 'mappings', where it is to be declared anew.")


@app.command()
def apply(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="TOML or YAML.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what would change, in Auth0 too.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until Auth0 is as declared.")
    ] = True,
    data_dir: DataDir = None,
    actor: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Declare tenants, organizations and sources. Those that the file does not name stay as they are.

    A key that is left out of one which it does name goes back to its default. Organizations are set
    up in Auth0 as well: what is missing is made, what differs is mended.
    """
    if run(lambda: _apply(file, dry_run, wait, data_dir, acting(actor), as_json)):
        raise typer.Exit(1)


async def _apply(
    file: Path, dry_run: bool, wait: bool, data_dir: Path | None, actor: str, as_json: bool
) -> bool:
    from operators import declaration, declaring, mappings

    declared = declaration.read(file)
    own = mappings.files(file, declared.mappings)
    async with opened(data_dir) as here:
        default = here.settings.default_tenant()
        known = [default.name] if default is not None else []
        if dry_run:
            changes = await here.database.read(
                lambda tx: declaration.compare(
                    declared,
                    declaring.stored(tx),
                    known_tenants=known,
                    own_mappings=own,
                )
            )
        else:
            at = now()
            changes = await here.database.transact(
                lambda tx: declaring.apply(
                    tx,
                    declared,
                    known_tenants=known,
                    actor=actor,
                    now=at,
                    own_mappings=own,
                )
            )
        for change in changes:
            if as_json:
                json_line(document(change) | {"applied": not dry_run})
            else:
                line(_told(change, dry_run=dry_run))
        if not changes:
            note("The file declares nothing.")
        ended = (await here.database.read(declaring.stored)).ended
        for each in declared.organizations:
            if each.name in ended:
                note(
                    f"{each.name} is decommissioned: it is not carried out. 'provisioner org show"
                    f" {each.name}' tells whether 'org decommission {each.name} --undo' is possible."
                )
        if dry_run:
            return await set_up.compared(here, declared, as_json=as_json)
        if not wait:
            return False
        names = [
            each.name
            for each in declared.organizations
            if each.set_up.enabled and each.name not in ended
        ]
        return await set_up.followed(here, names, as_json=as_json)


def _told(change: Change, *, dry_run: bool) -> str:
    keys = f": {', '.join(change.keys)}" if change.keys else ""
    if change.versions is not None:
        keys += f" (version {change.versions[0]} → {change.versions[1]})"
    match change.verdict:
        case "unchanged":
            verb = "unchanged"
        case "new":
            verb = "would be created" if dry_run else "created"
        case "changed":
            verb = "would be changed" if dry_run else "changed"
    return f"{change.kind} {change.name} {verb}{keys}"


@app.command()
def decommission(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Take it back: possible until deletion begins.")
    ] = False,
    data_dir: DataDir = None,
    actor: Actor = None,
    as_json: AsJson = False,
) -> None:
    """End an organization: its tokens are revoked, all of its users locked out; then, where policy
    deletes and once its hold is over, accounts and what was made for it in Auth0 are deleted.
    """
    if undo:
        run(lambda: _undo(name, data_dir, acting(actor), as_json))
        return
    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("this locks out everybody: say --yes", param_hint="--yes")
        typer.confirm(f"Lock out everybody of {name}?", abort=True, err=True)
    run(lambda: _decommission(name, data_dir, acting(actor), as_json))


async def _decommission(name: str, data_dir: Path | None, actor: str, as_json: bool) -> None:
    from service.directory import decommissions

    at = now()
    async with opened(data_dir) as here:
        ended = await here.database.transact(
            lambda tx: decommissions.begin(tx, name, actor=actor, now=at)
        )
        policies = (await here.database.read(lambda tx: _find(tx, name))).organization.policies
    if as_json:
        json_line(document(ended) | {"organization": name})
    elif ended.event_id is None:
        line(f"{name} was decommissioned before: 'provisioner org show {name}' tells how far it is")
    else:
        line(
            f"{name} is decommissioned: {ended.accounts} accounts will be blocked,"
            f" {ended.tokens} tokens are revoked (event {ended.event_id})"
        )
        if policies.deletion == "delete":
            note(f"Deletion begins at {moment(at + policies.deletion_hold)}; --undo takes it back.")
        else:
            note("Accounts are kept, as policies.deletion says; --undo takes it back.")


async def _undo(name: str, data_dir: Path | None, actor: str, as_json: bool) -> None:
    from service.directory import decommissions, events
    from service.directory.windingup import ENDED

    at = now()
    dropped = events.Filter(organization=name, error=ENDED.code)
    async with opened(data_dir) as here:
        event_id = await here.database.transact(
            lambda tx: decommissions.undo(tx, name, actor=actor, now=at)
        )
        lost = await here.database.read(lambda tx: events.listing(tx, dropped, limit=1))
    if as_json:
        json_line({"organization": name, "event_id": event_id, "undone": True})
    else:
        line(f"{name} is back: its users come back in as their sources say (event {event_id})")
        note("Its tokens stay revoked: 'provisioner org token create' makes new ones.")
        note(
            "Whoever left meanwhile is back in until their source says so again: have the identity"
            " provider push all of its users anew."
        )
        if lost:
            note(
                "What was planned or staged has ended, leavers among it maybe: 'provisioner events"
                f" list --organization {name} --error {ENDED.code}'; have HR send it again."
            )


@token.command("create")
def create_token(
    name: Name,
    door: Annotated[Door, typer.Option(help="What the token opens.")],
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="What it may do; once for each. Without it, read and write."),
    ] = None,
    expires_in_days: Annotated[
        int | None, typer.Option(min=1, max=3650, help="Without it, the token does not expire.")
    ] = None,
    data_dir: DataDir = None,
    actor: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Make a token and print it, this once. A door has two live ones at most, for rotation."""
    asked_for = scope or [*Scope]
    run(
        lambda: _create_token(
            name, door, asked_for, expires_in_days, data_dir, acting(actor), as_json
        )
    )


async def _create_token(
    name: str,
    door: Door,
    asked_for: list[Scope],
    days: int | None,
    data_dir: Path | None,
    actor: str,
    as_json: bool,
) -> None:
    from operators import declaring
    from service.organizations import SCOPES

    at = now()
    scopes: list[TokenScope] = [each for each in SCOPES if Scope(each) in asked_for]
    lifetime = timedelta(days=days) if days is not None else None
    async with opened(data_dir) as here:
        pepper = here.settings.pepper()
        made = await here.database.transact(
            lambda tx: declaring.create_token(
                tx,
                name,
                door=door,
                scopes=scopes,
                lifetime=lifetime,
                pepper=pepper,
                actor=actor,
                now=at,
            )
        )
    if as_json:
        expires = at + lifetime if lifetime is not None else None
        json_line(
            {
                "organization": name,
                "door": door,
                "id": declaring.id_of(made),
                "token": made,
                "scopes": scopes,
                "expires_at": expires,
            }
        )
    else:
        line(made)
        note("Keep it safe: it is not shown again.")


@token.command("list")
def list_tokens(name: Name, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List an organization's tokens by id, without their secrets."""
    run(lambda: _list_tokens(name, data_dir, as_json))


async def _list_tokens(name: str, data_dir: Path | None, as_json: bool) -> None:
    from service.directory import credentials

    async with opened(data_dir) as here:
        await here.database.read(lambda tx: _find(tx, name))
        found = await here.database.read(lambda tx: credentials.listing(tx, name))
    if as_json:
        for each in found:
            json_line(document(each))
        return
    table(
        ("id", "door", "scopes", "created", "expires", "last used", "revoked"),
        (
            (
                each.id,
                each.door,
                " ".join(each.scopes),
                each.created_at,
                each.expires_at or "never",
                each.last_used_at or "never",
                each.revoked_at,
            )
            for each in found
        ),
    )


@token.command("revoke")
def revoke_token(
    name: Name,
    key_id: Annotated[
        str, typer.Argument(metavar="ID", help="The token's id (see 'token list'), or the token.")
    ],
    data_dir: DataDir = None,
    actor: Actor = None,
) -> None:
    """End a token at once."""
    run(lambda: _revoke_token(name, key_id, data_dir, acting(actor)))


async def _revoke_token(name: str, key_id: str, data_dir: Path | None, actor: str) -> None:
    from operators import declaring

    at = now()
    async with opened(data_dir) as here:
        ended = await here.database.transact(
            lambda tx: declaring.revoke_token(tx, name, key_id, actor=actor, now=at)
        )
    line(f"token {ended} of {name} is revoked")


def _find(transaction: Transaction, name: str) -> Registered:
    from operators import declaring

    return declaring.the_organization(transaction, name)


def _as_document(registered: Registered) -> dict[str, Any]:
    # By alias: schemas in the RFC's camelCase, as the file has them.
    return registered.organization.model_dump(mode="json", by_alias=True) | {
        "version": registered.version,
        "decommissioned_at": registered.decommissioned_at,
    }
