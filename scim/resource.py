"""From what clients send to the resource that is stored: names and values made canonical, or refused.

Plain dicts in and out. The tolerant profile takes what identity providers really send; the strict
one refuses what RFC 7643 does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from scim.comparisons import number_of, parse_instant
from scim.entries import says_something
from scim.errors import ScimError, invalid_value
from scim.rules import kept_over_put, require_complete, require_unchanged
from scim.schema import Attribute, Path, ResourceType
from scim.undeclared import described, with_the_rest

CLEAR: Final = object()
"""What a value becomes that takes the attribute away: null, an empty string, an empty list."""
_EMPTY: Final[tuple[object, ...]] = ({}, [])
_LONGEST_KEY: Final = 2000
_SHORT: Final = _LONGEST_KEY // 12
"""Characters that are short enough however many others they fold to, of four bytes at most."""
_INDEXED: Final = frozenset(("userName", "externalId", "displayName"))
_EXACT: Final = 2**53
"""Up to here a number without quotes is read as it was written, so that no two become the same."""
MOST_ENTRIES: Final = 1000
MEMBERS: Final = "members"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How a resource type is read for one organization."""

    resource_type: ResourceType
    tolerant: bool = True

    def normalise(self, document: object) -> dict[str, Any]:
        """A resource from a POST or PUT body, without what the client may not set.

        Raises ScimError 400 where it is no object, a value has the wrong type, or a required
        attribute is missing.
        """
        if not isinstance(document, dict):
            raise ScimError(400, "The body must be a JSON object.", "invalidSyntax")
        resource: dict[str, Any] = {}
        self._check_schemas(document)
        texts = self.resource_type.texts
        for key, value in document.items():
            if key in texts and _is_text(value):
                resource[key] = value
            else:
                self._take(resource, str(key), value)
        return self.complete(resource)

    def complete(
        self, resource: dict[str, Any], before: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The resource with empty parts gone. Raises ScimError where it cannot be stored.

        ``before``: the resource that was changed into it. A declared extension that was not touched
        is not held against the client: it may have been declared otherwise since it was written.
        """
        for name in [name for name, value in resource.items() if value in _EMPTY]:
            del resource[name]
        for name in self.resource_type.core.required:
            if not resource.get(name):
                raise invalid_value(f"{name} is required.")
        for schema in self.resource_type.declared:
            written = resource.get(schema.id)
            if before is not None:
                require_unchanged(schema, before.get(schema.id) or {}, written or {})
            if written and (before is None or written != before.get(schema.id)):
                require_complete(schema, written)
        for name in _INDEXED & resource.keys():
            _require_short(name, resource[name])
        for email in resource.get("emails") or ():
            _require_short("emails.value", email.get("value", ""))
        return resource

    def value(self, attribute: Attribute, value: object) -> Any:
        """A value in the attribute's canonical form, or CLEAR. Raises ScimError ``invalidValue``."""
        if attribute.many:
            return self._list(attribute, value)
        if isinstance(value, list) and self.tolerant:
            value = _only_one(attribute, value)
        if attribute.is_complex:
            return self._complex(attribute, value)
        return self._simple(attribute, value)

    def replacing(self, stored: Mapping[str, Any], sent: Mapping[str, Any]) -> dict[str, Any]:
        """What a PUT makes of a stored resource: the one that was sent, with what only the server may
        change. Raises ScimError ``mutability`` where it changes what is immutable.
        """
        if not self.resource_type.declared:
            return with_the_rest(self.resource_type, sent, stored)
        before = described(self.resource_type, stored)
        after = dict(sent)
        for schema in self.resource_type.declared:
            kept = kept_over_put(schema, before.get(schema.id) or {}, sent.get(schema.id) or {})
            if kept:
                after[schema.id] = kept
            require_unchanged(schema, before.get(schema.id) or {}, kept)
        return with_the_rest(self.resource_type, after, stored)

    def _check_schemas(self, document: Mapping[str, Any]) -> None:
        found = next((value for key, value in document.items() if key.casefold() == "schemas"), [])
        urns = found if isinstance(found, list) else [found]
        if not self.tolerant:
            unknown = [urn for urn in urns if self._schema(urn) is None]
            if unknown or not urns:
                raise invalid_value("schemas must list the schemas of this resource and no others.")
        elif any(not isinstance(urn, str) for urn in urns if urn is not None):
            raise invalid_value("schemas is a list of strings.")

    def _schema(self, urn: object) -> str | None:
        return self.resource_type.schema_of(urn) if isinstance(urn, str) else None

    def _take(self, resource: dict[str, Any], key: str, value: object) -> None:
        """Reads one member of a body into the resource."""
        path = self.resource_type.resolve(key, tolerant=self.tolerant)
        if path is None:
            if isinstance(value, dict) and self._schema(key) == self.resource_type.core.id:
                for name, inner in value.items():
                    self._take(resource, name, inner)
            else:
                self.ignore(key)
        elif path.attribute is None:
            self._take_extension(resource, path, value)
        else:
            self.put(resource, path, value)

    def _take_extension(self, resource: dict[str, Any], path: Path, value: object) -> None:
        if value is None:
            return
        if not isinstance(value, dict):
            raise invalid_value(f"{path.extension} must be an object.")
        schema = self.resource_type.extension(path.extension or "")
        assert schema is not None
        holder: dict[str, Any] = resource.setdefault(schema.id, {})
        for name, inner in value.items():
            if name in schema.texts and _is_text(inner):
                holder[name] = inner
                continue
            attribute = schema.attributes.get(str(name).casefold())
            if attribute is None:
                self.ignore(str(name))
            else:
                self.put(resource, Path(extension=schema.id, attribute=attribute), inner)

    def ignore(self, name: str) -> None:
        """What an unknown name does: nothing, or under the strict profile a refusal."""
        if not self.tolerant:
            raise invalid_value(f"{self.resource_type.name} has no attribute {name[:100]}.")

    def put(self, resource: dict[str, Any], path: Path, value: object) -> None:
        """Sets an attribute or sub-attribute to a value as sent; read-only ones stay as they are."""
        attribute = path.attribute
        assert attribute is not None
        if not attribute.writable or (path.sub is not None and not path.sub.writable):
            return
        if attribute.name == MEMBERS and path.extension is None:
            return  # a set of its own, however large: see scim.members
        if path.sub is None:
            made = self.value(attribute, value)
        else:
            made = self._part(resource, path, value)
        if attribute.required and isinstance(made, str) and not made.strip():
            raise invalid_value(f"{attribute.name} is required.")
        if attribute.returned == "never":
            return  # the type was checked; a password goes no further than this
        holder = resource
        if path.extension is not None:
            holder = resource.setdefault(path.extension, {})
        if made is CLEAR:
            holder.pop(attribute.name, None)
        else:
            holder[attribute.name] = made

    def _part(self, resource: Mapping[str, Any], path: Path, value: object) -> Any:
        """The whole value of ``name`` where only ``name.givenName`` was given."""
        attribute, sub = path.attribute, path.sub
        assert attribute is not None
        assert sub is not None
        holder = resource.get(path.extension, {}) if path.extension else resource
        made = self.value(sub, value)
        if attribute.many:
            entries = [dict(entry) for entry in holder.get(attribute.name) or [{}]]
            for entry in entries:
                set_part(entry, sub.name, made)
            return [entry for entry in entries if entry] or CLEAR
        # Another manager's id makes the $ref of the last one wrong.
        whole = {} if sub.name == "value" else dict(holder.get(attribute.name) or {})
        set_part(whole, sub.name, made)
        return whole or CLEAR

    def _list(self, attribute: Attribute, value: object) -> Any:
        if value is None or value == "":
            return CLEAR
        entries = value if isinstance(value, list) else [value]
        if not isinstance(value, list) and not self.tolerant:
            raise invalid_value(f"{attribute.name} must be a list.")
        if len(entries) > MOST_ENTRIES:
            raise invalid_value(f"{attribute.name} has at most {MOST_ENTRIES} entries.")
        made: list[Any] = []
        for entry in entries:
            one = self.entry(attribute, entry)
            if one is CLEAR or (self.tolerant and _is_emptied(attribute, entry, one)):
                continue
            made.append(one)
        if len(made) > 1:
            unlike: dict[bytes, Any] = {}
            for one in made:
                unlike.setdefault(orjson.dumps(one, option=orjson.OPT_SORT_KEYS), one)
            made = list(unlike.values())
            if attribute.is_complex:
                self._keep_one_primary(attribute, made)
        return made or CLEAR

    def entry(self, attribute: Attribute, entry: object) -> Any:
        """One entry of a multi-valued attribute; a bare value is its ``value``."""
        if not attribute.is_complex:
            return self._simple(attribute, entry)
        return self._complex(attribute, entry)

    def _keep_one_primary(self, attribute: Attribute, entries: list[dict[str, Any]]) -> None:
        primary = [entry for entry in entries if entry.get("primary") is True]
        if len(primary) > 1 and not self.tolerant:
            raise invalid_value(f"At most one of {attribute.name} is primary.")
        for entry in primary[1:]:
            entry["primary"] = False

    def _complex(self, attribute: Attribute, value: object) -> Any:
        if value is None or value == "":
            return CLEAR
        if not isinstance(value, dict):
            if not self.tolerant or "value" not in attribute.sub or isinstance(value, list):
                raise invalid_value(f"{attribute.name} must be an object.")
            value = {"value": value}
        made: dict[str, Any] = {}
        texts = attribute.texts
        for key, inner in value.items():
            if key in texts and _is_text(inner):
                made[key] = inner
                continue
            name = str(key).casefold()
            if name == "managerid" and attribute.name == "manager" and self.tolerant:
                name = "value"  # OneLogin
            sub = attribute.sub.get(name)
            if sub is None:
                self.ignore(f"{attribute.name}.{key}")
            elif sub.writable:
                set_part(made, sub.name, self.value(sub, inner))
        return made or CLEAR

    def _simple(self, attribute: Attribute, value: object) -> Any:
        if value is None or value == "":
            return CLEAR
        match attribute.kind:
            case "boolean":
                return self._boolean(attribute, value)
            case "integer" | "decimal":
                number = number_of(value)
                if isinstance(number, int) or (attribute.kind == "decimal" and number is not None):
                    return number
            case "dateTime":
                moment = parse_instant(value) if isinstance(value, str) else None
                if moment is not None:
                    return moment.isoformat(timespec="microseconds")
            case _:
                return self._text(attribute, value)
        raise invalid_value(f"{attribute.name} must be of type {attribute.kind}.")

    def _boolean(self, attribute: Attribute, value: object) -> bool:
        if isinstance(value, bool):
            return value
        if self.tolerant and isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        raise invalid_value(f"{attribute.name} must be true or false.")

    def _text(self, attribute: Attribute, value: object) -> str:
        if isinstance(value, int | float) and not isinstance(value, bool) and self.tolerant:
            if isinstance(value, float) and abs(value) > _EXACT:
                raise invalid_value(
                    f"{attribute.name} has more digits than a number keeps: quote it."
                )
            value = str(value)  # employeeNumber as a number
        if not isinstance(value, str):
            raise invalid_value(f"{attribute.name} must be a string.")
        if "\x00" in value:
            raise invalid_value(f"{attribute.name} holds a NUL character.")
        return self._allowed(attribute, value) if attribute.allowed else value

    def _allowed(self, attribute: Attribute, value: str) -> str:
        """The value as the schema spells it; only the strict profile keeps to the schema's values."""
        found = attribute.allowed.get(value if attribute.exact else value.casefold())
        if found is None and not self.tolerant:
            listed = ", ".join(attribute.allowed.values())
            raise invalid_value(f"{attribute.name} must be one of {listed[:500]}.")
        return value if found is None else found


def _is_text(value: object) -> bool:
    """Whether this is stored as it is where any text will do."""
    return isinstance(value, str) and value != "" and "\x00" not in value


def set_part(entry: dict[str, Any], name: str, value: Any) -> None:
    if value is CLEAR:
        entry.pop(name, None)
    else:
        entry[name] = value


def _only_one(attribute: Attribute, values: list[Any]) -> Any:
    """The value of an attribute that has one, sent as a list: an object, also around a plain value,
    as the older Entra does. Any other list stays one, and is refused.
    """
    if len(values) > 1:
        raise invalid_value(f"{attribute.name} has one value.")
    first = values[0] if values else None
    if attribute.is_complex:
        return first
    return first["value"] if isinstance(first, dict) and "value" in first else values


def _is_emptied(attribute: Attribute, sent: object, made: Any) -> bool:
    """Whether an entry came with empty parts and says nothing without them: an unfilled template."""
    if not isinstance(sent, dict) or not isinstance(made, dict) or len(sent) == len(made):
        return False
    return any(part in (None, "") for part in sent.values()) and not says_something(attribute, made)


def _require_short(name: str, value: str) -> None:
    """These are indexed, and an index takes no longer keys."""
    if len(value) <= _SHORT:
        return
    if len(value.casefold().encode()) > _LONGEST_KEY:
        raise invalid_value(f"{name} is longer than {_LONGEST_KEY} bytes.")
