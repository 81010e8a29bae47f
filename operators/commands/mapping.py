"""``provisioner events map`` and ``mappings``: what mappings there are, and what they make of payloads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from operators.commands.printing import document, json_line, note, table
from operators.commands.running import now, opened

if TYPE_CHECKING:
    from operators.mapping_preview import Preview
    from operators.rehearsing import Rehearsed
    from service.directory.mappings import Declared


async def map_(
    mapping: str,
    file: Path,
    zone: str | None,
    organization: str | None,
    data_dir: Path | None,
) -> bool:
    """Prints an event a line, problems on stderr; whether there was a problem."""
    from operators import mapping_preview

    needs_no_installation = mapping_preview.is_file(mapping) or mapping_preview.is_shipped(mapping)
    stored = {} if needs_no_installation else await _stored(data_dir)
    reader = mapping_preview.chosen(mapping, stored)
    _check_zone(zone)
    found = list(mapping_preview.preview(reader, file, now=now(), zone=zone))
    rehearsed = None
    if organization is not None:
        rehearsed = await _rehearse(found, organization, data_dir)
    return _print(found, rehearsed)


async def _rehearse(
    found: Sequence[Preview], organization: str, data_dir: Path | None
) -> list[Rehearsed]:
    from consumers.mappings.canonical import Mapped
    from operators import rehearsing
    from service.errors import ConfigurationError

    events = [each.result for each in found if isinstance(each.result, Mapped)]
    if len(events) > rehearsing.MOST:
        raise ConfigurationError(
            f"--plan takes {rehearsing.MOST} events at most, since others wait meanwhile: give it"
            f" a part of {len(events)}."
        )
    async with opened(data_dir) as here:
        return await rehearsing.rehearse(here.database, organization, events, now=now())


def _print(found: Sequence[Preview], rehearsed: Sequence[Rehearsed] | None) -> bool:
    from consumers.mappings.engine import Ignored
    from consumers.unusable import Unusable
    from operators.mapping_preview import document as as_document
    from operators.mapping_preview import problem_of

    failed = False
    plans = iter(rehearsed or ())
    for each in found:
        place = f"line {each.line}" + (f", event {each.child}" if each.child is not None else "")
        match each.result:
            case Unusable() as problem:
                failed = True
                note(f"{place}: {problem_of(problem)}")
            case Ignored() as ignored:
                note(f"{place}: {problem_of(ignored)}")
            case mapped:
                shown: dict[str, Any] = as_document(each, mapped)
                if rehearsed is not None:
                    shown["plan"] = document(next(plans))
                json_line(shown)
    return failed


def _check_zone(zone: str | None) -> None:
    from consumers.mappings.instants import known_zone
    from consumers.unusable import Unusable
    from service.errors import ConfigurationError

    try:
        known_zone(zone or "UTC")
    except Unusable:
        raise ConfigurationError(f"--zone: {zone} is no IANA time zone.") from None


async def list_(data_dir: Path | None, as_json: bool) -> None:
    from consumers.mappings import packs

    rows: list[dict[str, Any]] = []
    for name in packs.names():
        pack = packs.pack(name)
        rows.append(
            {
                "name": name,
                "version": pack.version if pack else None,
                "title": pack.title if pack else "CloudEvents in canonical form",
                "from": "shipped",
            }
        )
    for name, own in (await _stored(data_dir)).items():
        title = packs.stored(name, own.text).title
        rows.append({"name": name, "version": own.version, "title": title, "from": "declared"})
    if as_json:
        for row in rows:
            json_line(row)
        return
    table(("mapping", "version", "title", "from"), (tuple(row.values()) for row in rows))


async def _stored(data_dir: Path | None) -> Mapping[str, Declared]:
    """Those that the installation declared; none where there is no installation at all."""
    from operators.installation import NoInstallation
    from service.directory import mappings

    try:
        async with opened(data_dir) as here:
            return await here.database.read(mappings.every)
    except NoInstallation:
        if data_dir is not None:
            raise
        return {}
