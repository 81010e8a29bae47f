"""The run of a users import: row by row, with the error rows Auth0 reports."""

import re
from collections.abc import Mapping
from typing import Any

from service.auth0.simulator import changes, profiles
from service.auth0.simulator.errors import Refusal
from service.auth0.simulator.operation import World
from service.auth0.simulator.profiles import Identity, Profile
from service.auth0.simulator.shapes import EMAIL

_UPSERTABLE = ("email_verified", "name", "given_name", "family_name", "nickname", "picture")
_METADATA = ("app_metadata", "user_metadata")
_HASHES = ("password_hash", "custom_password_hash")
_KNOWN = frozenset(
    {"email", "user_id", "username", "blocked", "mfa_factors", *_UPSERTABLE, *_METADATA, *_HASHES}
)
_BCRYPT = re.compile(r"\$2[ab]\$(0[4-9]|1[0-9]|2[0-9]|3[01])\$[./A-Za-z0-9]{53}")
_ALGORITHMS = frozenset(
    {"argon2", "bcrypt", "hmac", "ldap", "md4", "md5", "sha1", "sha256", "sha512", "pbkdf2"}
    | {"scrypt"}
)


def run(
    world: World, job: Mapping[str, Any], rows: list[Any]
) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Import rows; answers the summary and the error rows."""
    summary = {"failed": 0, "updated": 0, "inserted": 0, "total": len(rows)}
    errors: list[dict[str, Any]] = []
    for row in rows:
        done, problem = _import_one(world, job, row)
        summary[done] += 1
        if problem is not None:
            errors.append({"user": row if isinstance(row, dict) else {}, "errors": [problem]})
    return summary, errors


def refuse(
    world: World, job: Mapping[str, Any], rows: list[Any]
) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Refuse every row for its hash, as Auth0 may for reasons that it does not publish."""
    del world, job
    problem = {"code": "INVALID_FORMAT", "message": "No bcrypt hash", "path": _HASHES[0]}
    summary = {"failed": len(rows), "updated": 0, "inserted": 0, "total": len(rows)}
    return summary, [{"user": row, "errors": [problem]} for row in rows]


def _import_one(
    world: World, job: Mapping[str, Any], row: Any
) -> tuple[str, dict[str, str] | None]:
    problem = _problem(row)
    if problem is not None:
        return "failed", problem
    email = row["email"].lower()
    existing = profiles.owner(world, job["connection"], email)
    profile = None if existing is None else profiles.load(world, existing)
    if profile is None:
        try:
            _insert(world, job["connection"], row, email)
        except Refusal:
            return "failed", {
                "code": "DUPLICATED_USER",
                "message": "The user_id or username is taken by another user",
            }
        return "inserted", None
    if not job["upsert"]:
        return "failed", {
            "code": "DUPLICATED_USER",
            "message": "The user already exist and upsert parameter is false",
        }
    _upsert(world, profile, row)
    return "updated", None


def _problem(row: Any) -> dict[str, str] | None:
    if not isinstance(row, dict):
        return {"code": "INVALID_TYPE", "message": "A user is an object"}
    if not isinstance(row.get("email"), str) or not EMAIL.fullmatch(row["email"]):
        return {"code": "INVALID_FORMAT", "message": "email is no address", "path": "email"}
    unknown = sorted(set(row) - _KNOWN)
    if unknown:
        return {
            "code": "OBJECT_ADDITIONAL_PROPERTIES",
            "message": f"Additional properties not allowed: {','.join(unknown)}",
        }
    return _problem_of_hash(row)


def _problem_of_hash(row: Mapping[str, Any]) -> dict[str, str] | None:
    """One hash at most: bcrypt as it is, any other with its algorithm."""
    bcrypt, custom = row.get("password_hash"), row.get("custom_password_hash")
    if bcrypt is not None and custom is not None:
        return {"code": "INVALID_FORMAT", "message": "Give one password hash", "path": _HASHES[1]}
    if bcrypt is not None and not (isinstance(bcrypt, str) and _BCRYPT.fullmatch(bcrypt)):
        return {"code": "INVALID_FORMAT", "message": "No bcrypt hash", "path": _HASHES[0]}
    if custom is None:
        return None
    hashed = custom.get("hash") if isinstance(custom, dict) else None
    value = hashed.get("value") if isinstance(hashed, dict) else None
    if not isinstance(value, str) or not _fits(custom.get("algorithm"), hashed or {}, custom):
        return {
            "code": "INVALID_FORMAT",
            "message": "A custom hash has an algorithm and hash.value",
            "path": _HASHES[1],
        }
    return None


def _fits(algorithm: object, hashed: Mapping[str, Any], custom: Mapping[str, Any]) -> bool:
    """Whether a hash has the form of its algorithm, as far as Auth0's schema tells."""
    value = str(hashed.get("value"))
    match algorithm:
        case "bcrypt":
            return _BCRYPT.fullmatch(value) is not None
        case "argon2" | "pbkdf2":
            return value.startswith(f"${algorithm}") and value.count("$") >= 4
        case "ldap":
            return re.match(r"\{(?!crypt\})[a-z0-9]+\}.", value, re.IGNORECASE) is not None
        case "hmac":
            key = hashed.get("key")
            return "digest" in hashed and isinstance(key, dict) and "value" in key
        case "scrypt":
            return isinstance(custom.get("keylen"), int) and "salt" in custom
        case _:
            return algorithm in _ALGORITHMS and hashed.get("encoding") in (None, "hex", "base64")


def _insert(world: World, connection: str, row: Mapping[str, Any], email: str) -> None:
    username = row.get("username")
    wanted = str(row.get("user_id") or "")
    stored = profiles.insert(
        world,
        Identity(
            provider="auth0",
            # An import always adds the prefix, also where the id has it already.
            id=wanted or changes.identity_id("", "auth0"),
            connection=connection,
            email_key=email,
            username_key=None if username is None else str(username).lower(),
        ),
        changes.new_profile({"email_verified": False, **row}, email),
    )
    if any(row.get(name) is not None for name in _HASHES):
        world.run(
            "INSERT OR REPLACE INTO imported_passwords (tenant, user_id) VALUES (?, ?)",
            stored["user_id"],
        )


def _upsert(world: World, profile: Profile, row: Mapping[str, Any]) -> None:
    """Change what an upsert may change; both metadata objects are replaced, not merged."""
    for name in _UPSERTABLE:
        if name in row:
            profile[name] = row[name]
    if "email_verified" not in row:
        profile["email_verified"] = False
    for name in _METADATA:
        if name in row:
            profile[name] = row[name]
    profiles.save(world, profile)
