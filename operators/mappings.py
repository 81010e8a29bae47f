"""Mappings as customers declare them: read from their files, tested, held against what is stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from service.errors import ConfigurationError
from service.organizations import EventSource

Document = Mapping[str, Any]
"""A mapping as it is stored: JSON, with the keys that its file had."""

_SAYS: Final = ("rules", "enriched", "zone")
"""Keys of a mapping that decide what events it makes."""


def files(file: Path, names: Iterable[str]) -> dict[str, Document]:
    """The mappings in these files, by name; each path is relative to ``file``, which names them.

    Raises ConfigurationError that says where a mistake stands, or which test failed.
    """
    found: dict[str, Document] = {}
    for name in names:
        from consumers.mappings import packs  # only where there is one: it brings YAML and JMESPath

        path = file.parent / name
        document, _ = packs.file(path)
        if document.mapping in packs.names():
            raise ConfigurationError(
                f"{path}: mapping: {document.mapping} is a shipped mapping: give yours another name."
            )
        if document.mapping in found:
            raise ConfigurationError(f"{file}: mappings: two files declare {document.mapping}.")
        found[document.mapping] = packs.stored_form(document)
    return found


def check(
    declared: Mapping[str, Document],
    stored: Mapping[str, Document],
    sources: Iterable[EventSource],
) -> None:
    """Raises ConfigurationError where a mapping changed under its old version number, or a source
    names one that there is not.
    """
    for name, after in declared.items():
        before = stored.get(name)
        if before is None or before["version"] != after["version"]:
            continue
        if any(before.get(key) != after.get(key) for key in _SAYS):
            raise ConfigurationError(
                f"mappings[{name}].version: its rules differ from those that are stored as version"
                f" {before['version']}: make it {before['version'] + 1}."
            )
    for source in sources:
        if source.mapping == "canonical" or source.mapping in {*stored, *declared}:
            continue
        from consumers.mappings import packs

        if source.mapping not in packs.names():
            raise ConfigurationError(
                f"sources[{source.name}].mapping: there is no mapping {source.mapping}: use"
                f" {', '.join(packs.names())}, or name its file under mappings."
            )


def differences(before: Document, after: Document) -> tuple[str, ...]:
    """The keys that differ, sorted."""
    return tuple(sorted(key for key in {*before, *after} if before.get(key) != after.get(key)))
