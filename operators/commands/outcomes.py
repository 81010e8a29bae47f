"""``provisioner outcomes``: what was done and how events ended, as it is published."""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from operators.commands.moments import since as moment_of
from operators.commands.printing import json_line, line, moment
from operators.commands.running import DataDir, now, opened, run

if TYPE_CHECKING:
    from service.directory.outbox import Outcome

_PAGE = 500
_POLL = 0.3
"""Seconds between two looks with ``--follow``."""


def outcomes(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new ones.")] = False,
    since: Annotated[
        str | None, typer.Option(help="RFC 3339, or an age: 15m, 2h, 3d.", metavar="WHEN")
    ] = None,
    organization: Annotated[
        str | None, typer.Option("--organization", metavar="ORG", help="Only this organization's.")
    ] = None,
    types: Annotated[
        bool, typer.Option("--types", help="List the types that there are, and what each means.")
    ] = False,
    schema: Annotated[
        str | None, typer.Option(metavar="TYPE", help="Print a type's JSON Schema: user.created.")
    ] = None,
    data_dir: DataDir = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="CloudEvents in JSON, one a line.")
    ] = False,
) -> None:
    """Show outcome events, oldest first."""
    if types:
        _list_types(as_json=as_json)
        return
    if schema is not None:
        _print_schema(schema)
        return
    try:
        begun = moment_of(since, now()) if since is not None else None
    except ValueError as mistake:
        raise typer.BadParameter(str(mistake), param_hint="--since") from None
    run(lambda: _outcomes(follow, begun, organization, data_dir, as_json))


def _list_types(*, as_json: bool) -> None:
    from service.outcomes.entries import ENTRIES

    for entry in ENTRIES.values():
        if not as_json:
            line(f"{entry.name:<20}  {entry.sentence}")
            continue
        json_line(
            {
                "type": entry.full_name,
                "sentence": entry.sentence,
                "key": entry.key.replace("`", ""),
                "ends": entry.ends,
                "counterparts": [each.uri for each in entry.counterparts],
                "example": entry.payload(),
            }
        )


def _print_schema(asked: str) -> None:
    import json

    from service.outcomes.catalogue import PREFIX, SUFFIX
    from service.outcomes.entries import ENTRIES
    from service.outcomes.schemas import schema_of

    short = asked.removeprefix(PREFIX).removesuffix(SUFFIX)
    entry = next((each for each in ENTRIES.values() if each.name == short), None)
    if entry is None:
        raise typer.BadParameter("no such type: --types lists them", param_hint="--schema")
    line(json.dumps(schema_of(entry), indent=2, ensure_ascii=False))


async def _outcomes(
    follow: bool,
    since: datetime | None,
    organization: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    from operators.declaring import the_organization
    from operators.following import Following
    from service.directory import outbox

    following = Following()
    async with opened(data_dir) as here:
        if organization is not None:
            await here.database.read(lambda tx: the_organization(tx, organization))
        while True:
            after = following.settled
            while after is not None:
                page = await here.database.read(
                    lambda tx, after=after: outbox.listing(
                        tx, after=after, since=since, organization=organization, limit=_PAGE
                    )
                )
                for outcome in following.fresh(page):
                    _print(outcome, as_json=as_json)
                after = page[-1].number if len(page) == _PAGE else None
            if not follow:
                return
            sys.stdout.flush()
            following.settle(now())
            await asyncio.sleep(_POLL)


def _print(outcome: Outcome, *, as_json: bool) -> None:
    if as_json:
        from service.outcomes.cloudevents import to_document

        json_line(to_document(outcome))
        return
    from operators.showing import detail_of, short

    whose = outcome.key if outcome.organization is None else outcome.organization
    who = f" {outcome.user_id}" if outcome.user_id else ""
    line(
        f"{moment(outcome.created_at)}  {short(outcome.type):<20}  {whose}{who}"
        f"  {detail_of(outcome)}".rstrip()
    )
