"""PATCH (RFC 7644 section 3.5.2) as a pure function: a resource and operations in, a resource out.

Takes the forms that identity providers send beside the RFC's. All or nothing: an error changes
nothing. Members of a group are not looked at; what becomes of them is told as a set operation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from scim.entries import demote_others, is_described, is_same, says_something
from scim.errors import ScimError, invalid_path, invalid_value
from scim.filter import PatchPath, parse_path
from scim.matching import matches, named_values, template, terms_of
from scim.members import member_ids
from scim.operations import Operation, OperationName
from scim.resource import CLEAR, MEMBERS, MOST_ENTRIES, Profile, set_part
from scim.schema import Attribute, Path, Schema
from scim.undeclared import described, with_the_rest
from service.directory.predicates import Predicate
from service.people import MemberChange

_MOST_OPERATIONS: Final = 1000
_MOST_COMPARISONS: Final = 1_000_000
"""Of entries, in one request: about half a second, for which a transaction is held."""

_MOST_PARSED: Final = 100_000
"""Characters of paths that need the filter's grammar, in one request: about a quarter of a second."""


def patch_user(
    profile: Profile, resource: Mapping[str, Any], operations: Sequence[Operation]
) -> dict[str, Any]:
    """The resource after all operations. Raises ScimError 400."""
    if len(operations) > _MOST_OPERATIONS:
        raise ScimError(400, f"At most {_MOST_OPERATIONS} operations at once.", "tooMany")
    draft = _Draft(profile, resource)
    for operation in operations:
        draft.apply(operation)
    return draft.finished()


def patch_group(
    profile: Profile, resource: Mapping[str, Any], operations: Sequence[Operation]
) -> tuple[dict[str, Any], MemberChange]:
    """The group's resource after all operations, and what becomes of its members."""
    draft = _GroupDraft(profile, resource)
    for operation in operations:
        draft.apply(operation)
    return draft.finished(), draft.members()


class _Draft:
    """A copy of a resource that operations are applied to."""

    def __init__(self, profile: Profile, resource: Mapping[str, Any]) -> None:
        self._profile = profile
        self._type = profile.resource_type
        self._stored = resource
        self._before = described(self._type, resource)
        self.resource: dict[str, Any] = orjson.loads(orjson.dumps(self._before))
        self._comparisons = 0
        self._parsed = 0

    def finished(self) -> dict[str, Any]:
        """The resource as it is to be stored. Raises ScimError where it cannot be."""
        after = self._profile.complete(self.resource, self._before)
        if self._before is self._stored:
            return after
        return with_the_rest(self._type, after, self._stored)

    def apply(self, operation: Operation) -> None:
        if operation.path is not None:
            self._at(operation, operation.path, explicit=True)
            return
        if operation.name == "remove":
            raise ScimError(400, "remove needs a path.", "noTarget")
        if not isinstance(operation.value, dict):
            raise invalid_value("Without a path the value must be an object.")
        self._merge(operation.name, operation.value)

    def _merge(self, name: OperationName, value: Mapping[str, Any]) -> None:
        """Each key of a value without a path is one: dotted, URN-qualified, with brackets."""
        for key, inner in value.items():
            if self._type.schema_of(key) == self._type.core.id and isinstance(inner, dict):
                self._merge(name, inner)
            else:
                part = Operation(name=name, path=key, value=inner)
                self._at(part, key, explicit=False)

    def _at(self, operation: Operation, text: str, *, explicit: bool) -> None:
        try:
            target = parse_path(text, self._type, tolerant=self._profile.tolerant)
        except ScimError as error:
            if explicit and error.scim_type == "invalidFilter" and "[" not in text:
                raise invalid_path(f"{text[:100]} is no attribute path.") from error
            if explicit or not self._profile.tolerant:
                raise
            return  # a key that nobody could mean
        if target is None:
            if not self._profile.tolerant:
                raise invalid_path(f"{self._type.name} has no attribute {text[:100]}.")
            return
        self._parsed += target.read
        if self._parsed > _MOST_PARSED:
            raise ScimError(400, "The paths are too long together: send them in parts.", "tooMany")
        path = target.path
        if path.attribute is None:
            self._extension(operation, path, explicit=explicit)
        elif _is_read_only(path):
            if explicit and path.attribute.name != "schemas":
                raise ScimError(400, f"{text[:100]} cannot be changed.", "mutability")
        else:
            self.change(operation, path.attribute, target)

    def change(self, operation: Operation, attribute: Attribute, target: PatchPath) -> None:
        if attribute.returned == "never":
            self._profile.put(self.resource, target.path, operation.value)  # checked, not kept
            return
        clears = operation.name != "remove" and operation.value in (None, "", [])
        if target.where is not None:
            self._selected(operation, attribute, target.path, target.where, removes=clears)
        elif operation.name == "remove" or clears:
            self._remove(operation, attribute, target.path)
        elif attribute.many and operation.name == "add" and target.path.sub is None:
            self._append(attribute, target.path, operation.value)
        elif attribute.is_complex and not attribute.many and target.path.sub is None:
            self._merge_parts(attribute, target.path, operation.value)
        else:
            self._profile.put(self.resource, target.path, operation.value)

    def _extension(self, operation: Operation, path: Path, *, explicit: bool) -> None:
        urn = path.extension or ""
        schema = self._type.extension(urn)
        assert schema is not None
        if not any(attribute.writable for attribute in schema.attributes.values()):
            if explicit:
                raise ScimError(400, f"{urn} cannot be changed.", "mutability")
            return
        if operation.name == "remove" or operation.value is None:
            self._clear_extension(schema)
            return
        if not isinstance(operation.value, dict):
            raise invalid_value(f"{urn} must be an object.")
        for key, inner in operation.value.items():
            name, _, sub = key.partition(".")
            attribute = schema.attributes.get(name.casefold())
            part = attribute.sub.get(sub.casefold()) if attribute and sub else None
            if attribute is None or (sub and part is None):
                self._profile.ignore(key)
                continue
            found = Path(extension=urn, attribute=attribute, sub=part)
            if not _is_read_only(found):
                step = Operation(name=operation.name, value=inner)
                self.change(step, attribute, PatchPath(path=found))

    def _clear_extension(self, schema: Schema) -> None:
        kept = {
            name: value
            for name, value in self.resource.pop(schema.id, {}).items()
            if not schema.attributes[name.casefold()].writable
        }
        if kept:
            self.resource[schema.id] = kept

    # Without brackets

    def _merge_parts(self, attribute: Attribute, path: Path, value: object) -> None:
        """Parts that are not mentioned stay, unless the value itself is another one (a manager)."""
        whole = self._profile.value(attribute, value)
        if not isinstance(value, dict) or (isinstance(whole, dict) and "value" in whole):
            self._profile.put(self.resource, path, value)
            return
        for key, inner in value.items():
            sub = attribute.sub.get(key.casefold())
            if sub is not None:
                part = Path(extension=path.extension, attribute=attribute, sub=sub)
                self._profile.put(self.resource, part, inner)

    def _append(self, attribute: Attribute, path: Path, value: object) -> None:
        added = self._profile.value(attribute, value)
        if added is CLEAR:
            return
        entries = self._entries(path)
        self._compare(len(entries) + len(added), len(added))
        for entry in added:
            same = next((known for known in entries if is_same(attribute, known, entry)), None)
            if same is None:
                entries.append(entry)
                same = entry
            elif attribute.is_complex:
                same.update(entry)
            if attribute.is_complex and entry.get("primary") is True:
                demote_others(entries, [same])
        self._store(attribute, path, entries)

    def _remove(self, operation: Operation, attribute: Attribute, path: Path) -> None:
        if attribute.required and path.sub is None:
            raise ScimError(400, f"{attribute.name} is required.", "mutability")
        listed = operation.name == "remove" and operation.value not in (None, "")
        if listed and attribute.many and path.sub is None:
            self._remove_listed(attribute, path, operation.value)
        else:
            self._profile.put(self.resource, path, None)

    def _remove_listed(self, attribute: Attribute, path: Path, value: object) -> None:
        """``remove`` with a value takes those entries away; the RFC knows no such thing, IdPs do."""
        listed = self._profile.value(attribute, value)
        if listed is CLEAR:
            return
        entries = self._entries(path)
        self._compare(len(entries), len(listed))
        left = [
            entry
            for entry in entries
            if not any(is_described(attribute, entry, wanted) for wanted in listed)
        ]
        self._store(attribute, path, left)

    # With brackets

    def _selected(
        self,
        operation: Operation,
        attribute: Attribute,
        path: Path,
        where: Predicate,
        *,
        removes: bool,
    ) -> None:
        entries = self._entries(path)
        self._compare(len(entries), terms_of(where))
        chosen = [entry for entry in entries if matches(where, entry)]
        if not chosen and not self._profile.tolerant and operation.name != "remove":
            raise ScimError(400, "No entry matches the filter of the path.", "noTarget")
        if operation.name == "remove" or removes:
            for entry in chosen:
                if path.sub is not None:
                    entry.pop(path.sub.name, None)
                if path.sub is None or not says_something(attribute, entry):
                    entries[:] = [other for other in entries if other is not entry]
            self._store(attribute, path, entries)
            return
        others = [entry for entry in chosen if entry.get("primary") is not True]
        if not chosen:
            others = chosen = [self._created(attribute, entries, where)]
        self._write(operation, attribute, path, chosen)
        raised = [entry for entry in others if entry.get("primary") is True]
        if raised:  # who was primary before stays so where something else was written
            demote_others(entries, raised[:1])
        self._store(attribute, path, entries)

    def _created(
        self, attribute: Attribute, entries: list[dict[str, Any]], where: Predicate
    ) -> dict[str, Any]:
        """A value path that matches nothing makes the entry it describes, as Entra expects."""
        described_entry = template(where)
        if described_entry is None or len(entries) >= MOST_ENTRIES:
            raise ScimError(400, "No entry matches the filter of the path.", "noTarget")
        made = self._profile.entry(attribute, described_entry)
        if made is CLEAR:
            raise ScimError(400, "No entry matches the filter of the path.", "noTarget")
        entries.append(made)
        return made

    def _write(
        self,
        operation: Operation,
        attribute: Attribute,
        path: Path,
        chosen: list[dict[str, Any]],
    ) -> None:
        value: Any = operation.value
        if path.sub is not None:
            made = self._profile.value(path.sub, value)
            for entry in chosen:
                set_part(entry, path.sub.name, made)
            return
        if isinstance(value, list):
            if len(value) != 1:
                raise invalid_value("A path with brackets takes one object.")
            value = value[0]
        made = self._profile.entry(attribute, value)
        for entry in chosen:
            entry.update(made if made is not CLEAR else {})

    def _compare(self, entries: int, each_with: int) -> None:
        """Counts what a step is about to compare: nobody else writes while we do."""
        self._comparisons += entries * each_with
        if self._comparisons > _MOST_COMPARISONS:
            raise ScimError(
                400, "The operations look at too many entries: send them in parts.", "tooMany"
            )

    def _entries(self, path: Path) -> list[Any]:
        holder = self.resource.get(path.extension, {}) if path.extension else self.resource
        return list(holder.get(path.keys[-1]) or ())

    def _store(self, attribute: Attribute, path: Path, entries: list[Any]) -> None:
        if len(entries) > MOST_ENTRIES:
            raise invalid_value(f"{attribute.name} has at most {MOST_ENTRIES} entries.")
        holder = self.resource
        if path.extension is not None:
            holder = holder.setdefault(path.extension, {})
        # A path with brackets may have made several entries the same.
        unlike = {orjson.dumps(entry, option=orjson.OPT_SORT_KEYS): entry for entry in entries}
        set_part(holder, attribute.name, list(unlike.values()) or CLEAR)


class _GroupDraft(_Draft):
    """A group: operations on ``members`` add up to one change of a set."""

    def __init__(self, profile: Profile, resource: Mapping[str, Any]) -> None:
        super().__init__(profile, resource)
        self._replaced = False
        self._added: set[str] = set()
        self._removed: set[str] = set()

    def members(self) -> MemberChange:
        return MemberChange(
            replace=self._replaced,
            add=frozenset(self._added),
            remove=frozenset(self._removed),
        )

    def change(self, operation: Operation, attribute: Attribute, target: PatchPath) -> None:
        if attribute.name != MEMBERS:
            super().change(operation, attribute, target)
        elif target.where is not None:
            self._change_selected(operation, target.path, target.where)
        elif target.path.sub is not None and target.path.sub.name != "value":
            return  # what a member is called or where it is follows from its id
        else:
            self._change_members(operation)

    def _change_members(self, operation: Operation) -> None:
        if operation.name == "remove":
            if operation.null:
                raise invalid_value(
                    "Name the members to remove; to empty the group, no value at all."
                )
            if operation.value is None:
                self._replace(frozenset())
            else:
                # Entra's older dialect lists who leaves; read by the RFC it would empty the group.
                self._take_out(member_ids(operation.value))
            return
        ids = member_ids(operation.value)
        if operation.name == "replace":
            self._replace(ids)
        else:
            self._added |= ids
            self._removed -= ids

    def _change_selected(self, operation: Operation, path: Path, where: Predicate) -> None:
        if path.sub is not None and path.sub.name != "value":
            return
        ids = named_values(where)
        if ids is None:
            raise ScimError(400, 'Select members by value eq "id".', "invalidFilter")
        if operation.name == "remove":
            self._take_out(ids)
        else:
            raise ScimError(400, "Add members by their value, remove them by brackets.", "noTarget")

    def _replace(self, ids: frozenset[str]) -> None:
        self._replaced = True
        self._added, self._removed = set(ids), set()

    def _take_out(self, ids: frozenset[str]) -> None:
        self._added -= ids
        if not self._replaced:
            self._removed |= ids


def _is_read_only(path: Path) -> bool:
    attribute = path.attribute
    return attribute is not None and not (
        attribute.writable and (path.sub is None or path.sub.writable)
    )
