"""What is stored, as the file of ``org apply`` that declares just that. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pydantic import BaseModel

from operators.declaration import Stored


def as_declared(stored: Stored, names: Collection[str] = ()) -> dict[str, Any]:
    """Tenants, organizations and sources, each with what is not its default; secrets are references.

    Left out are organizations that have ended. ``names``: these organizations, with their tenants and
    the sources that speak for nobody else; empty: all there is. Files of mappings are not known here.
    """
    organizations = [
        each
        for name, each in sorted(stored.organizations.items())
        if name not in stored.ended and (not names or name in names)
    ]
    living = {each.name for each in organizations}
    used = {each.tenant for each in organizations}
    tenants = [each for name, each in sorted(stored.tenants.items()) if not names or name in used]
    sources = [
        each
        for _, each in sorted(stored.sources.items())
        if (living.issuperset(each.organizations) if names else True)
    ]
    found = {"tenants": tenants, "organizations": organizations, "sources": sources}
    return {kind: [_document(each) for each in those] for kind, those in found.items() if those}


def _document(declared: BaseModel) -> dict[str, Any]:
    """By alias, as files have it; the name also where it is the default."""
    told = declared.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    name = declared.model_dump(include={"name"})
    return name | told
