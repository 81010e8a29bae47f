"""What a creation or an update does to a user's profile, from checked bodies.

Sources: Management API reference, `POST` and `PATCH /users`; docs on user metadata, on database
connections' lower-case addresses, and on blocked users.
"""

import sqlite3
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from service.auth0.simulator import connections, mails, passwords, profiles
from service.auth0.simulator.errors import Refusal, bad_body
from service.auth0.simulator.operation import World
from service.auth0.simulator.profiles import Identity, Profile
from service.auth0.simulator.shapes import FLAG, OBJECT, Property, text
from service.auth0.simulator.store import new_id, timestamp

_NAMES: Mapping[str, int] = {"given_name": 150, "family_name": 150, "name": 300, "nickname": 300}
ROOT_TEXT = (*_NAMES, "picture")

CREATE = {
    "connection": text(required=True),
    "email": Property(kind="email"),
    "username": text(most=128),
    "phone_number": Property(kind="string", pattern=r"\+[0-9]{1,15}"),
    "password": text(),
    "user_id": Property(kind="string", most=255, pattern=r"\S*"),
    "email_verified": FLAG,
    "phone_verified": FLAG,
    "verify_email": FLAG,
    "blocked": FLAG,
    **{name: text(most=most) for name, most in _NAMES.items()},
    "picture": text(),
    "user_metadata": OBJECT,
    "app_metadata": OBJECT,
}
UPDATE = {
    "connection": text(),
    "client_id": text(),
    "email": Property(kind="email", nullable=True),
    "username": Property(kind="string", least=1, most=128, nullable=True),
    "phone_number": Property(kind="string", pattern=r"\+[0-9]{1,15}", nullable=True),
    "password": Property(kind="string", least=1, nullable=True),
    "email_verified": FLAG,
    "phone_verified": FLAG,
    "verify_email": FLAG,
    "verify_phone_number": FLAG,
    "blocked": FLAG,
    **{
        name: Property(kind="string", least=1, most=most, nullable=True)
        for name, most in _NAMES.items()
    },
    "picture": Property(kind="string", least=1, nullable=True),
    "user_metadata": OBJECT,
    "app_metadata": OBJECT,
}
_NOT_TOGETHER = (
    ("password", ("email", "email_verified")),
    ("username", ("email", "email_verified", "password")),
)
_METADATA = ("user_metadata", "app_metadata")


def create(world: World, body: Mapping[str, Any]) -> Profile:
    """Create a profile in a database or passwordless connection, by a checked body.

    Raises Refusal: 400 where the connection does not take it, 409 where it exists.
    """
    connection = _creatable(world, body["connection"])
    is_database = connection["strategy"] == connections.DATABASE
    email = body.get("email")
    if is_database:
        if email is None:
            raise bad_body("Missing required property: email")
        email = email.lower()
        if "password" not in body:
            raise bad_body("Missing required property: password")
        passwords.check(body["password"], connections.options(connection))
    elif email is None and body.get("phone_number") is None:
        raise bad_body("Missing required property: email")
    profile = new_profile(body, email)
    username = body.get("username")
    identity = Identity(
        provider=connection["strategy"],
        id=identity_id(body.get("user_id") or "", connection["strategy"]),
        connection=connection["name"],
        email_key=None if email is None else email.lower(),
        username_key=None if username is None else username.lower(),
    )
    stored = profiles.insert(world, identity, profile)
    if body.get("verify_email", not body.get("email_verified", False)) and email:
        mails.send(world, kind="verification", recipient=email, subject=identity.user_id)
    return stored


def _creatable(world: World, name: str) -> sqlite3.Row:
    connection = connections.by_name(world, name)
    if connection is None:
        raise connections.unknown_connection(status=400)
    strategy = connection["strategy"]
    if strategy != connections.DATABASE and strategy not in connections.PASSWORDLESS:
        raise Refusal(
            status=400,
            message=f"Users of a {strategy} connection cannot be created through the API",
            error_code="operation_not_supported",
        )
    if not connections.is_enabled(world, connection["id"]):
        raise Refusal(status=400, message="The connection is disabled for all applications")
    return connection


def identity_id(wanted: str, provider: str) -> str:
    """The id within a provider: the wanted one without its prefix, or a new one for `""`."""
    if not wanted:
        return new_id("", 24)
    prefix = f"{provider}|"
    return wanted[len(prefix) :] if wanted.startswith(prefix) else wanted


def new_profile(body: Mapping[str, Any], email: str | None) -> Profile:
    """Root attributes and metadata of a profile that is to be created."""
    label = email or body.get("username") or body.get("phone_number") or ""
    profile: Profile = {
        "name": label,
        "nickname": label.partition("@")[0],
        "picture": f"https://avatars.example/{sha256(label.encode()).hexdigest()[:32]}",
        "email_verified": body.get("email_verified", False),
    }
    if email is not None:
        profile["email"] = email
    kept = (*ROOT_TEXT, "username", "phone_number", "phone_verified", "blocked")
    profile.update({name: body[name] for name in kept if name in body})
    for name in _METADATA:
        if body.get(name):
            profile[name] = {k: v for k, v in body[name].items() if v is not None}
    return profile


def update(world: World, profile: Profile, body: Mapping[str, Any]) -> None:
    """Apply a checked body to a profile and store it."""
    _refuse_combinations(body)
    connection = connections.by_name(world, profile["identities"][0]["connection"])
    if "connection" in body and not has_identity(profile, body["connection"]):
        raise bad_body("The user has no identity in that connection")
    if connection is not None and connections.is_enterprise(connection):
        _refuse_on_enterprise(connection, body)
    if body.get("password") is not None:
        passwords.check(body["password"], connections.options(connection) if connection else {})
        reset_password(world, profile)
    if "email" in body or "username" in body:
        _rename(world, profile, body, is_database=_is_database(connection))
    for name in (*ROOT_TEXT, "phone_number"):
        if name in body:
            _put(profile, name, body[name])
    for name in ("blocked", "email_verified", "phone_verified"):
        if name in body:
            profile[name] = body[name]
    for name in _METADATA:
        if name in body:
            _put(profile, name, merged(profile.get(name) or {}, body[name]) or None)
    if body.get("verify_email") and profile.get("email"):
        mails.send(
            world, kind="verification", recipient=profile["email"], subject=profile["user_id"]
        )
    profiles.save(world, profile)


def reset_password(world: World, profile: Profile) -> None:
    """Note a new password. It lifts an administrator's block, as Auth0's documentation warns."""
    profile["last_password_reset"] = timestamp(world.now)
    world.run("DELETE FROM imported_passwords WHERE tenant = ? AND user_id = ?", profile["user_id"])
    profile.pop("blocked", None)


def merged(current: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata after a change: merged at the first level, null removes, `{}` removes all."""
    if not change:
        return {}
    return {k: v for k, v in {**current, **change}.items() if v is not None}


def _put(profile: Profile, name: str, value: Any) -> None:
    if value is None:
        profile.pop(name, None)
    else:
        profile[name] = value


def _is_database(connection: sqlite3.Row | None) -> bool:
    return connection is not None and connection["strategy"] == connections.DATABASE


def has_identity(profile: Profile, connection: str) -> bool:
    """Whether the profile is known in a connection."""
    return any(identity["connection"] == connection for identity in profile["identities"])


def _refuse_combinations(body: Mapping[str, Any]) -> None:
    for name, others in _NOT_TOGETHER:
        clash = [other for other in others if other in body]
        if name in body and clash:
            raise Refusal(
                status=400,
                message=f"Cannot update {name} and {clash[0]} simultaneously",
                error_code="invalid_body",
            )


def _refuse_on_enterprise(connection: sqlite3.Row, body: Mapping[str, Any]) -> None:
    synced = connections.options(connection).get("set_user_root_attributes") or "on_each_login"
    fixed = ["email", "username", "password", "email_verified", "phone_number"]
    if synced == "on_each_login":
        fixed += ROOT_TEXT
    touched = sorted(set(fixed) & set(body))
    if touched:
        raise Refusal(
            status=400,
            message=f"Attributes that the identity provider of connection"
            f" {connection['name']} decides cannot be updated: {', '.join(touched)}",
            error_code="operation_not_supported",
        )


def _rename(world: World, profile: Profile, body: Mapping[str, Any], *, is_database: bool) -> None:
    """Change address or username, in the profile and in its primary identity."""
    identity = profile["identities"][0]
    for name, column in (("email", "email_key"), ("username", "username_key")):
        if name not in body:
            continue
        value = body[name]
        if value is None and name == "email" and is_database:
            raise bad_body("email cannot be removed from a database user")
        if value is not None and is_database:
            value = value.lower()
        if name == "email" and value != profile.get("email"):
            profile["email_verified"] = False
        _put(profile, name, value)
        try:
            world.db.execute(
                f"UPDATE identities SET {column} = ?"  # noqa: S608
                " WHERE tenant = ? AND provider = ? AND id = ?",
                (
                    None if value is None else value.lower(),
                    world.tenant,
                    identity["provider"],
                    str(identity["user_id"]),
                ),
            )
        except sqlite3.IntegrityError:
            # No 409 is declared for this operation.
            raise Refusal(
                status=400,
                message=f"The specified new {name} already exists",
                error_code="auth0_idp_error",
            ) from None
