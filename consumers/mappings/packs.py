"""Which mappings there are, and how a file becomes one: checked, compiled and tested, once.

Those that are shipped lie beside this module, a file each, and are read when first asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from consumers.mappings import trial
from consumers.mappings.compiling import Compiled, compiled
from consumers.mappings.document import Document, from_document, parse
from service.directory.mappings import Declared
from service.errors import ConfigurationError

CANONICAL: Final = "canonical"
"""The one mapping that is code: CloudEvents in canonical form need no other."""
_FOLDER: Final = Path(__file__).parent / "packs"


@functools.cache
def names() -> tuple[str, ...]:
    """The names of all shipped mappings, canonical first."""
    return (CANONICAL, *sorted(path.stem for path in _FOLDER.glob("*.yaml")))


@functools.cache
def pack(name: str) -> Compiled | None:
    """A shipped declarative mapping; None where there is none of this name.

    Raises ConfigurationError where it is broken, which the tests keep from being shipped.
    """
    if name == CANONICAL or name not in names():
        return None
    _, found = checked((_FOLDER / f"{name}.yaml").read_text("utf-8"), where=f"{name}.yaml")
    if found.name != name:
        raise ConfigurationError(f"{name}.yaml: mapping: this file declares {found.name}.")
    return found


def checked(text: str, *, where: str) -> tuple[Document, Compiled]:
    """A mapping in YAML, all of its tests passed. Raises ConfigurationError that names the place of
    a mistake, or the tests that failed.
    """
    document = parse(text, where=where)
    made = compiled(document, where=where)
    if failed := trial.failures(made):
        raise ConfigurationError("\n".join(f"{where}: {each}" for each in failed))
    return document, made


def file(path: Path) -> tuple[Document, Compiled]:
    """As ``checked``, from a file."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigurationError(f"{path}: cannot be read ({said}).") from error
    return checked(text, where=str(path))


def stored_form(document: Document) -> dict[str, Any]:
    """The document as ``stored`` reads it again: JSON, with the keys that the file had."""
    return document.model_dump(mode="json", by_alias=True, exclude_unset=True)


def named(name: str, declared: Mapping[str, Declared]) -> Compiled | None:
    """The mapping of this name, shipped or among those that customers declared; None for canonical.

    Raises ConfigurationError where there is none, or it cannot be used.
    """
    if name == CANONICAL:
        return None
    if (shipped := pack(name)) is not None:
        return shipped
    if (own := declared.get(name)) is None:
        raise ConfigurationError(f"there is no mapping {name}.")
    return stored(name, own.text)


@functools.lru_cache(maxsize=256)
def stored(name: str, text: str) -> Compiled:
    """A mapping that was tested when it was stored, as JSON. Raises ConfigurationError where this
    version of the program reads mappings differently.
    """
    where = f"mapping {name}"
    return compiled(from_document(orjson.loads(text), where=where), where=where)
