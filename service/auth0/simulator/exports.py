"""The run of a users export, and its file. Reads profiles as they are, without search's lag."""

import csv
import gzip
import io
import json
from collections.abc import Mapping
from typing import Any

from service.auth0.simulator.operation import World
from service.auth0.simulator.profiles import Profile

_CSV_FIELDS = ("user_id", "email", "name", "email_verified", "created_at", "updated_at")


def run(world: World, job: Mapping[str, Any]) -> str:
    """The content of an export: NDJSON, or CSV with a header."""
    found = [
        json.loads(row["document"])
        for row in world.rows("SELECT document FROM users WHERE tenant = ? ORDER BY user_id")
    ]
    if "connection" in job:
        name = job["connection"]
        found = [p for p in found if any(i["connection"] == name for i in p["identities"])]
    found = found[: job.get("limit")]
    fields: list[Mapping[str, str]] = job.get("fields") or []
    if job["format"] == "csv":
        return _csv(found, fields or [{"name": name} for name in _CSV_FIELDS])
    rows = [_projected(profile, fields) if fields else profile for profile in found]
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def file(world: World, secret: str) -> bytes | None:
    """The gzipped file behind a link, or None where the link is unknown or has expired."""
    row = world.row(
        "SELECT j.output FROM export_links l JOIN jobs j ON j.tenant = l.tenant AND j.id = l.job_id"
        " WHERE l.tenant = ? AND l.secret = ? AND l.expires_at > ?",
        secret,
        world.now,
    )
    return None if row is None else gzip.compress(str(row["output"]).encode())


def _projected(profile: Profile, fields: list[Mapping[str, str]]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for field in fields:
        value: Any = profile
        for name in field["name"].split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None:
            row[field.get("export_as") or field["name"]] = value
    return row


def _csv(found: list[Profile], fields: list[Mapping[str, str]]) -> str:
    out = io.StringIO()
    header = [field.get("export_as") or field["name"] for field in fields]
    writer = csv.DictWriter(out, header, restval="")
    writer.writeheader()
    writer.writerows(_projected(profile, fields) for profile in found)
    return out.getvalue()
