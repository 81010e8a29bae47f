"""Plays what an identity provider sent, step by step, and holds the server to every result.

A scenario says what each answer holds and what each step leaves stored; whatever it does not name
must be as it was before the step, its version included.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import httpx

from tests.scim.client import CORE_GROUP, CORE_USER, PROVISIONING, Scim

_PLACEHOLDER: Final = re.compile(r"\{\{([\w.]+)\}\}")
_ERROR: Final = "urn:ietf:params:scim:api:messages:2.0:Error"
_LIST: Final = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
_OF_TYPE: Final = {"<integer>": int, "<boolean>": bool, "<text>": str}
_CORE: Final = {"Users": CORE_USER, "Groups": CORE_GROUP}
_TOLD: Final = ("schemas", "id", "meta", "groups", PROVISIONING)
"""What the server says of a resource by itself; compared apart from what was sent."""

Stored = dict[str, dict[str, Any]]
"""``Users/{id}`` or ``Groups/{id}`` to the resource; a group's members are its sorted ids."""


def filled(value: Any, known: Mapping[str, str]) -> Any:
    """The value with every ``{{name}}`` replaced by what is known under it."""
    if isinstance(value, str):
        return _PLACEHOLDER.sub(lambda found: known[found[1]], value)
    if isinstance(value, list):
        return [filled(item, known) for item in value]
    if isinstance(value, dict):
        return {filled(key, known): filled(item, known) for key, item in value.items()}
    return value


def matches(actual: Any, expected: Any) -> bool:
    """Objects by subset, lists item for item in any order; ``[]`` is also an absent attribute, and
    ``<integer>``, ``<boolean>`` and ``<text>`` any value of that type.
    """
    if isinstance(expected, dict):
        return isinstance(actual, dict) and all(
            matches(actual.get(key), value) for key, value in expected.items()
        )
    if isinstance(expected, list):
        if actual is None:
            return expected == []
        left = list(actual)
        if len(left) != len(expected):
            return False
        for item in expected:
            found = next((known for known in left if matches(known, item)), None)
            if found is None:
                return False
            left.remove(found)
        return True
    if isinstance(expected, str) and expected in _OF_TYPE:
        return type(actual) is _OF_TYPE[expected]
    return type(actual) is type(expected) and actual == expected


def at(document: Any, path: str) -> Any:
    """The value at a dotted path, or at ``<extension URN>:path``; a number is a list's position."""
    if path.startswith("urn:"):
        urn, _, path = path.rpartition(":")
        document = document.get(urn, {})
    for step in path.split("."):
        if isinstance(document, list) and step.isdigit():
            document = document[int(step)] if int(step) < len(document) else None
        else:
            document = document.get(step) if isinstance(document, dict) else None
    return document


async def send(scim: Scim, request: Mapping[str, Any], known: Mapping[str, str]) -> httpx.Response:
    """Sends a recorded request, the order of its members and its encoding in the path kept."""
    path = quote(filled(request["path"], known).lstrip("/"), safe="/?&=%+:,;!$'()*@~-._")
    body = filled(request.get("body"), known)
    return await scim.http.request(
        request["method"],
        path,
        content=json.dumps(body) if body is not None else None,
        headers={"Content-Type": "application/scim+json", **request.get("headers", {})},
    )


async def play(scim: Scim, scenario: Mapping[str, Any]) -> None:
    """Raises AssertionError at the first step that is not answered, or not stored, as it says."""
    player = _Player(scim)
    await player.prepare(scenario.get("given", {}))
    for number, step in enumerate(scenario["steps"], start=1):
        told = f"step {number}: {step.get('does') or step['request']['path']}"
        await player.step(step, scenario.get("headers", {}), told)


@dataclass(slots=True)
class _Player:
    """One run of a scenario: what its names stand for, and what must be stored by now."""

    scim: Scim
    known: dict[str, str] = field(default_factory=dict[str, str])
    stored: Stored = field(default_factory=Stored)
    versions: dict[str, str] = field(default_factory=dict[str, str])

    async def prepare(self, given: Mapping[str, Mapping[str, Any]]) -> None:
        """Users, then groups, that are there before the provider comes; ``{{name}}`` is their id."""
        self.known["base_url"] = str(self.scim.http.base_url).rstrip("/")
        for kind, core in _CORE.items():
            for name, attributes in given.get(kind, {}).items():
                resource = filled(attributes, self.known)
                members = [{"value": member} for member in resource.get("members", [])]
                sent = {"schemas": [core], **resource} | ({"members": members} if members else {})
                answer = await self.scim.http.post(kind, json=sent)
                assert answer.status_code == 201, (name, answer.text)
                self.known[name] = answer.json()["id"]
                said = {"active": True, **resource} if kind == "Users" else resource
                self.stored[f"{kind}/{self.known[name]}"] = _canonical(said)
        await self._require_stored("before the first step")

    async def step(self, step: Mapping[str, Any], headers: Mapping[str, str], told: str) -> None:
        request = {**step["request"], "headers": {**headers, **step["request"].get("headers", {})}}
        answer = await send(self.scim, request, self.known)
        document = _require_form(answer, told)
        secrets = list(_secrets(request.get("body")))
        assert not any(secret in answer.text for secret in secrets), f"{told}: tells a password"
        for name, path in step.get("capture", {}).items():
            self.known[name] = at(document, path)
        expected = filled(step["expected"], self.known)
        assert answer.status_code == expected["status"], (told, answer.status_code, answer.text)
        assert matches(document, expected.get("json", {})), (told, document)
        for name, value in expected.get("headers", {}).items():
            assert re.fullmatch(value, answer.headers.get(name, "")), (told, name, answer.headers)
        changes = filled(step.get("after", {}), self.known)
        for path, change in changes.items():
            if change is None:
                del self.stored[path]
            else:
                self.stored[path] = _canonical(_merged(self.stored.get(path, {}), change))
        await self._require_stored(told, changes)

    async def _require_stored(self, told: str, changes: Mapping[str, Any] | None = None) -> None:
        """Every resource is as expected, each by itself and in the listing, and nothing else is."""
        found: dict[str, dict[str, Any]] = {}
        for kind in _CORE:
            listed = await self.scim.get(kind, count=1000)
            assert listed["totalResults"] == len(listed["Resources"]), told
            found |= {f"{kind}/{one['id']}": one for one in listed["Resources"]}
        assert found.keys() == self.stored.keys(), (told, found.keys() ^ self.stored.keys())
        for path, document in found.items():
            assert _said(document) == self.stored[path], (told, path)
            self._require_told(path, document, told)
            if changes is not None and path not in changes:
                assert document["meta"]["version"] == self.versions[path], (told, path)
        for path, change in (changes or {}).items():
            if change is not None:
                assert await self.scim.get(path) == found[path], (told, path)
        self.versions = {path: each["meta"]["version"] for path, each in found.items()}

    def _require_told(self, path: str, document: Mapping[str, Any], told: str) -> None:
        """What the server adds fits what is stored."""
        kind, _, own_id = path.partition("/")
        resource = self.stored[path]
        extensions = {name for name in resource if name.startswith("urn:")}
        always = {_CORE[kind]} | ({PROVISIONING} if kind == "Users" else set())
        assert set(document["schemas"]) == always | extensions, (told, document["schemas"])
        meta = document["meta"]
        assert meta["resourceType"] == kind.removesuffix("s"), told
        assert meta["location"] == f"{self.known['base_url']}/{path}", told
        if kind == "Users":
            holding = {
                group.removeprefix("Groups/")
                for group, each in self.stored.items()
                if group.startswith("Groups/") and own_id in each.get("members", ())
            }
            assert {each["value"] for each in document.get("groups", ())} == holding, (told, path)


def _said(document: Mapping[str, Any]) -> dict[str, Any]:
    """A resource as shown, without what the server tells of it by itself."""
    said = {name: value for name, value in document.items() if name not in _TOLD}
    if "members" in said:
        said["members"] = [member["value"] for member in said["members"]]
    return _canonical(said)


def _canonical(resource: Mapping[str, Any]) -> dict[str, Any]:
    """Members are a set; a group without any has no such attribute."""
    kept = {name: value for name, value in resource.items() if value not in ([], {})}
    if "members" in kept:
        kept["members"] = sorted(kept["members"])
    return kept


def _merged(resource: Any, change: Any) -> Any:
    """JSON Merge Patch (RFC 7396): null takes away, objects are merged, all else replaces."""
    if not isinstance(change, dict):
        return change
    merged = dict(resource) if isinstance(resource, dict) else {}
    for name, value in change.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merged(merged.get(name), value)
    return merged


def _require_form(answer: httpx.Response, told: str) -> Any:
    """What holds of every answer: SCIM's media type, and its error and list forms."""
    if not answer.content:
        assert answer.status_code in (204, 304), told
        return {}
    assert answer.headers["content-type"] == "application/scim+json", told
    document = answer.json()
    assert not _holds_null(document), told
    if answer.status_code >= 400:
        assert document["schemas"] == [_ERROR], told
        assert document["status"] == str(answer.status_code), told
        assert document["detail"], told
    elif _LIST in document["schemas"]:
        numbers = [document[name] for name in ("totalResults", "startIndex", "itemsPerPage")]
        assert all(type(number) is int for number in numbers), told
        assert document["itemsPerPage"] == len(document["Resources"]), told
        assert all(resource["schemas"] for resource in document["Resources"]), told
    return document


def _holds_null(value: Any) -> bool:
    """No provider is to meet a null: Entra's import stops at one."""
    if isinstance(value, dict):
        return any(_holds_null(part) for part in value.values())
    if isinstance(value, list):
        return any(_holds_null(part) for part in value)
    return value is None


def _secrets(body: Any) -> Iterator[str]:
    """Every text that a body gives as a password, in PATCH operations too."""
    if isinstance(body, list):
        for item in body:
            yield from _secrets(item)
    elif isinstance(body, dict):
        named = str(body.get("path", "")).casefold() == "password"
        for key, value in body.items():
            if isinstance(value, str) and (
                key.casefold() == "password" or (named and key == "value")
            ):
                yield value
            else:
                yield from _secrets(value)
