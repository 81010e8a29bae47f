"""Jobs: imports and exports of users, and verification mails. A job runs when its time has come.

Sources: Management API reference, jobs; docs on bulk imports (500 KB, two at a time, an upsert
matches by address and replaces metadata); recorded error rows of an import.
"""

import json
import secrets
import sqlite3
from typing import Any

import orjson

from service.auth0.simulator import connections, exports, imports, mails, multipart, users
from service.auth0.simulator.errors import Refusal, bad_body, unknown_connection
from service.auth0.simulator.operation import NO_CONTENT, Answer, Call, Operation, World
from service.auth0.simulator.shapes import Property, text
from service.auth0.simulator.store import new_id, timestamp

MOST_BYTES = 512_000
MOST_ACTIVE = 2
LINK_LIFETIME = 60.0
LIFETIME = 86_400.0
TIMEOUT = 7_200.0
MOST_CSV_FIELDS = 30

_VERIFY = {
    "user_id": text(required=True),
    "client_id": text(),
    "organization_id": text(),
    "identity": Property(kind="object"),
}
_EXPORT = {
    "connection_id": text(),
    "format": text(),
    "limit": Property(kind="integer", least=1),
    "fields": Property(
        kind="array",
        items=Property(
            kind="object",
            properties={"name": text(most=100, required=True), "export_as": text(most=100)},
        ),
    ),
}


def settle(world: World) -> None:
    """Run the tenant's jobs that are due, end those that take too long, forget the old ones."""
    world.run("DELETE FROM jobs WHERE tenant = ? AND created_at <= ?", world.now - LIFETIME)
    for row in world.rows(
        "SELECT * FROM jobs WHERE tenant = ? AND status = 'pending' AND created_at <= ?",
        world.now - TIMEOUT,
    ):
        _complete(world, row["id"], json.loads(row["document"]), status="failed")
    for row in world.rows(
        "SELECT * FROM jobs WHERE tenant = ? AND status = 'pending' AND due <= ? ORDER BY due",
        world.now,
    ):
        document = json.loads(row["document"])
        if row["type"] == "users_import":
            rows = json.loads(row["input"])
            fails = document.pop("fails", False)
            if fails:
                imports.run(world, document, rows[: len(rows) // 2])
                _complete(world, row["id"], document, status="failed")
                continue
            refuses = document.pop("refuses", False)
            run = imports.refuse if refuses else imports.run
            summary, errors = run(world, document, rows)
            document["summary"] = summary
            _complete(world, row["id"], document, errors=errors)
        else:
            _complete(world, row["id"], document, output=exports.run(world, document))


def _complete(
    world: World,
    job_id: str,
    document: dict[str, Any],
    *,
    errors: list[dict[str, Any]] | None = None,
    output: str | None = None,
    status: str = "completed",
) -> None:
    # A job with bad rows still ends as completed.
    if status == "completed":
        document.update({"percentage_done": 100, "time_left_seconds": 0})
    document["status"] = status
    world.db.execute(
        "UPDATE jobs SET status = ?, document = ?, errors = ?, output = ?, input = NULL"
        " WHERE tenant = ? AND id = ?",
        (status, json.dumps(document), json.dumps(errors or []), output, world.tenant, job_id),
    )


def spoil(world: World, job: Any, kind: str) -> None:
    """Let the job that was just started fail half-way, refuse all rows, or never end before its
    timeout."""
    if not isinstance(job, dict) or "id" not in job:
        return
    if kind == "job-hangs":
        world.run("UPDATE jobs SET due = 9e18 WHERE tenant = ? AND id = ?", job["id"])
    else:
        world.db.execute(
            "UPDATE jobs SET document = ? WHERE tenant = ? AND id = ?",
            (
                json.dumps({**job, "refuses" if kind == "job-refuses" else "fails": True}),
                world.tenant,
                job["id"],
            ),
        )


def _start(
    world: World, document: dict[str, Any], *, due: float | None, content: str | None = None
) -> dict[str, Any]:
    job = {
        "id": new_id("job_"),
        "status": "pending" if due is not None else "completed",
        "created_at": timestamp(world.now),
        **document,
    }
    world.run(
        "INSERT INTO jobs (tenant, id, type, status, created_at, due, document, input)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        job["id"],
        job["type"],
        job["status"],
        world.now,
        due,
        json.dumps(job),
        content,
    )
    return job


def _verify(call: Call) -> Answer:
    body = call.body(_VERIFY)
    profile = users.required(call.world, body["user_id"])
    if "email" not in profile:
        raise Refusal(status=400, message="The user has no address to verify")
    mails.send(
        call.world, kind="verification", recipient=profile["email"], subject=profile["user_id"]
    )
    job = _start(call.world, {"type": "verification_email"}, due=None)
    return Answer(status=201, body=job)


def _import(call: Call) -> Answer:
    if len(call.raw) > MOST_BYTES:
        raise Refusal(
            status=413,
            message=f"Payload content length greater than maximum allowed: {MOST_BYTES}",
        )
    parts = multipart.parts(call.raw, call.content_type)
    if parts is None:
        raise bad_body("Expected multipart/form-data")
    rows = _import_rows(parts)
    connection = connections.by_id(call.world, _part(parts, "connection_id") or "")
    if connection is None:
        raise unknown_connection(status=400)
    if connection["strategy"] != connections.DATABASE:
        raise Refusal(
            status=400,
            message="Users can be imported into a database connection only",
            error_code="operation_not_supported",
        )
    active = call.world.rows(
        "SELECT 1 FROM jobs WHERE tenant = ? AND type = 'users_import' AND status = 'pending'"
    )
    if len(active) >= MOST_ACTIVE:
        raise Refusal(
            status=429,
            message=f"{MOST_ACTIVE} import jobs are active; wait until one of them has finished",
            error_code="too_many_requests",
        )
    document: dict[str, Any] = {
        "type": "users_import",
        "connection_id": connection["id"],
        "connection": connection["name"],
        "upsert": _part(parts, "upsert") == "true",
        "send_completion_email": _part(parts, "send_completion_email") != "false",
    }
    if "external_id" in parts:
        document["external_id"] = _part(parts, "external_id")
    due = call.world.due(call.world.lag.jobs)
    return Answer(status=202, body=_start(call.world, document, due=due, content=json.dumps(rows)))


def _part(parts: dict[str, bytes], name: str) -> str | None:
    content = parts.get(name)
    return None if content is None else content.decode(errors="replace").strip()


def _import_rows(parts: dict[str, bytes]) -> list[Any]:
    if "users" not in parts:
        raise bad_body("Missing required property: users")
    try:
        rows = orjson.loads(parts["users"])
    except orjson.JSONDecodeError:
        raise bad_body("users is not JSON") from None
    if not isinstance(rows, list):
        raise bad_body("users is not an array")
    return rows


def _export(call: Call) -> Answer:
    body = call.body(_EXPORT) if call.raw else {}
    form = body.get("format", "json")
    if form not in {"json", "csv"}:
        raise bad_body("format is json or csv")
    if form == "csv" and len(body.get("fields", [])) > MOST_CSV_FIELDS:
        raise bad_body(f"fields has more than {MOST_CSV_FIELDS} entries")
    document = {"type": "users_export", **body, "format": form}
    if "connection_id" in body:
        connection = connections.by_id(call.world, body["connection_id"])
        if connection is None:
            raise unknown_connection(status=400)
        document["connection"] = connection["name"]
    due = call.world.due(call.world.lag.jobs)
    return Answer(body=_start(call.world, document, due=due))


def _required(call: Call) -> sqlite3.Row:
    row = call.world.row("SELECT * FROM jobs WHERE tenant = ? AND id = ?", call.params["id"])
    if row is None:
        raise Refusal(status=404, message="The job does not exist", error_code="inexistent_job")
    return row


def _get(call: Call) -> Answer:
    row = _required(call)
    document = json.loads(row["document"])
    if row["output"] is not None:
        secret = secrets.token_urlsafe(24)
        call.world.db.execute(
            "INSERT INTO export_links (secret, tenant, job_id, expires_at) VALUES (?, ?, ?, ?)",
            (secret, call.world.tenant, row["id"], call.world.now + LINK_LIFETIME),
        )
        document["location"] = f"{call.base_url}/exports/{secret}"
    return Answer(body=document)


def _errors(call: Call) -> Answer:
    row = _required(call)
    errors = json.loads(row["errors"] or "[]")
    return Answer(body=errors) if errors else NO_CONTENT


OPERATIONS = (
    Operation("POST", "/jobs/verification-email", "jobs", ("update:users",), _verify),
    Operation("POST", "/jobs/users-imports", "jobs", ("create:users",), _import),
    Operation("POST", "/jobs/users-exports", "jobs", ("read:users",), _export),
    Operation("GET", "/jobs/{id}", "jobs", ("create:users", "read:users"), _get),
    Operation("GET", "/jobs/{id}/errors", "jobs", ("create:users", "read:users"), _errors),
)
