"""Writes what others read of the outcomes: schemas, AsyncAPI, a table. `make schemas` runs it.

``--check`` writes nothing and fails where a file is not as it would be written, or where today's
schemas break readers of the released ones. ``--release`` makes today's the released ones.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from operators import asyncapi
from service.outcomes.compatibility import bare, breaks
from service.outcomes.counterparts import Counterpart
from service.outcomes.entries import ENTRIES, Entry
from service.outcomes.schemas import schema_of

FOLDER: Final = Path(__file__).parents[1] / "docs" / "outcomes"
RELEASED: Final = "released.json"


def files() -> dict[str, str]:
    """Every generated file by its path below the folder."""
    found = {
        "README.md": _page(),
        "asyncapi.yaml": yaml.safe_dump(
            asyncapi.document(), sort_keys=False, allow_unicode=True, width=100
        ),
        f"schemas/{asyncapi.CANONICAL}.json": _json(asyncapi.canonical_schema()),
    }
    for entry in ENTRIES.values():
        found[f"schemas/{entry.name}.v1.json"] = _json(_schemas()[entry.full_name])
    return found


def released(folder: Path = FOLDER) -> dict[str, Any]:
    """The schemas as they were released, by full name."""
    return json.loads((folder / RELEASED).read_text("utf-8"))


def today() -> dict[str, Any]:
    return dict(_schemas())


@functools.cache
def _schemas() -> Mapping[str, Any]:
    """By full name; made once, as it takes a second."""
    return {each.full_name: schema_of(each) for each in ENTRIES.values()}


def problems(folder: Path = FOLDER) -> Iterator[str]:
    """What ``--check`` finds, as sentences that say what to do."""
    wanted = files()
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    for name, text in wanted.items():
        if name not in there:
            yield f"docs/outcomes/{name} is missing: run 'make schemas'"
        elif (folder / name).read_text("utf-8") != text:
            yield f"docs/outcomes/{name} does not follow from the code: run 'make schemas'"
    for name in sorted(there - wanted.keys() - {RELEASED}):
        yield f"docs/outcomes/{name} belongs to no outcome: remove it"
    yield from map(str, breaks(released(folder), today()))


def write(folder: Path = FOLDER) -> None:
    for name, text in files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


def release(folder: Path = FOLDER) -> None:
    kept = (f"{json.dumps(name)}: {json.dumps(bare(each))}" for name, each in today().items())
    lines = ",\n".join(kept)
    (folder / RELEASED).write_text(f"{{\n{lines}\n}}\n", "utf-8")


def main(arguments: Sequence[str]) -> int:
    if "--check" in arguments:
        found = list(problems())
        for each in found:
            print(each, file=sys.stderr)
        return 1 if found else 0
    write()
    if "--release" in arguments:
        release()
    return 0


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _page() -> str:
    rows = "\n".join(map(_row, ENTRIES.values()))
    examples = "\n".join(map(_example, ENTRIES.values()))
    return (
        "# Outcome events\n"
        "Made by `make schemas`. Types have the prefix `io.auth0-provisioner.` and the suffix `.v1`;"
        " each links to the JSON\nSchema of its data. [asyncapi.yaml](asyncapi.yaml) describes the"
        " topics, keys and headers. Ignore members and types\nthat you do not know: more may come."
        " What there is stays; a change that readers would notice gets `.v2`.\n\n"
        "| type | means | key | ends an event | elsewhere |\n|---|---|---|---|---|\n"
        f"{rows}\n\n## Examples\n{examples}"
    )


def _row(entry: Entry) -> str:
    elsewhere = "<br>".join(map(_elsewhere, entry.counterparts)) or "-"
    ends = "yes" if entry.ends else "-"
    link = f"[`{entry.name}`](schemas/{entry.name}.v1.json)"
    return f"| {link} | {entry.sentence} | {entry.key} | {ends} | {elsewhere} |"


def _elsewhere(counterpart: Counterpart) -> str:
    short = counterpart.uri.removeprefix("https://schemas.openid.net/secevent/")
    told = f"{counterpart.specification} `{short.removeprefix('urn:ietf:params:scim:event:')}`"
    return f"{told} where {counterpart.only}" if counterpart.only else told


def _example(entry: Entry) -> str:
    return f"\n`{entry.name}`\n```json\n{json.dumps(entry.payload(), ensure_ascii=False)}\n```"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
