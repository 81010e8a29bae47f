"""Random SCIM requests: of our own schemas, of what providers really send, and of neither.

Seeded, so that a finding can be repeated. Knows no server.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final
from urllib.parse import quote

from scim.schema import Attribute, Catalogue, ResourceType
from tests.scim.extremes import Extremes, Sent

SECRET: Final = "Hidden-7f3c-password"
"""The text of every password that is sent."""
PATCH_OP: Final = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
BULK: Final = "urn:ietf:params:scim:api:messages:2.0:BulkRequest"
_METHODS: Final = ("GET", "GET", "GET", "POST", "POST", "PUT", "PATCH", "PATCH", "PATCH", "DELETE")
_ODD_METHODS: Final = ("HEAD", "OPTIONS", "TRACE", "BREW", "get", "")
_TEXTS: Final = (
    "", " ", "lena", "LENA", "mira@hoekstra.example", "work", "True", "false", "null", "7", "%", "_",
    "a\x00b", "é", "\u0130", "ß", "\U0001f600", "x" * 3000, "../..", "'; --", "{{x}}", '"', "\\",
    "2026-11-22T09:30:15Z", "9999-99-99T99:99:99Z", "urn:ietf:params:scim:schemas:core:2.0:User",
    "urn:", ":", ".", "emails[", 'emails[type eq "work"]', "members", "schemas", "$ref",
)  # fmt: skip
_NUMBERS: Final = (0, -1, 1, 2**31, 2**53, 2**63, -(2**63), 1.5, -0.0, 1e300)
_TOKENS: Final = (
    "eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le", "pr", "and", "or", "not", "(", ")", "[", "]",
    '"x"', '"\\u0000"', '"\\ud800"', "true", "False", "null", "42", "-1.5e9", "1e999", ".", ":", "\\",
    '"', "'", '"2026-11-22T00:00:00Z"', "nosuch", "urn:x:y", "email",
)  # fmt: skip
_HEADERS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("if-match", ('W/"1"', '"1"', "*", "", "W/", 'W/"99999999999"', "\x80")),
    ("if-none-match", ('W/"1"', "*", "x")),
    ("content-type", ("application/json", "text/xml", "", "application/scim+json; charset=utf-16")),
    ("accept", ("application/xml", "*/*", "")),
    ("x-http-method-override", ("PUT", "patch", "DELETE", "GET", "BREW", "")),
    ("prefer", ("respond-async", "return=minimal", "respond-async, wait=0", ",;=")),
    ("traceparent", ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-x")),
    ("content-length", ("99999999999999999999", "-1", "x", "0")),
    ("host", ("", "elsewhere.example", "\xff")),
)


@dataclass(slots=True)
class Known:
    """Ids to aim at; ``foreign`` are those of another organization."""

    users: list[str] = field(default_factory=list[str])
    groups: list[str] = field(default_factory=list[str])
    foreign: Sequence[str] = ()


def recorded_requests() -> list[Mapping[str, Any]]:
    """Every request of ``tests/recorded``, placeholders and all."""
    files = sorted((Path(__file__).parents[1] / "recorded").glob("*/*.json"))
    return [step["request"] for file in files for step in json.loads(file.read_text())["steps"]]


class Generator:
    """An endless source of requests, the same for the same seed and the same answers."""

    def __init__(self, seed: int, catalogue: Catalogue, known: Known) -> None:
        self._random = Random(seed)
        self._catalogue = catalogue
        self._known = known
        self._recorded = recorded_requests()
        self._names = [*_names(catalogue.user), *_names(catalogue.group)]
        self._extremes = Extremes(self._random, self._names, self._of_kind)

    def next(self) -> Sent:
        sorts = (
            self._of_schema,
            self._of_schema,
            self._of_record,
            self._of_nothing,
            self._extremes.next,
        )
        sent = self._one_of(sorts)()
        if self._chance(0.05) and SECRET.encode() not in sent.body:
            body = bytearray(sent.body)
            for _ in range(self._random.randrange(1, 4)):
                if body:
                    body[self._random.randrange(len(body))] = self._random.randrange(256)
            cut = self._random.randrange(len(body) + 1) if self._chance(0.5) else len(body)
            sent = Sent(
                method=sent.method, path=sent.path, query=sent.query, headers=sent.headers,
                body=bytes(body[:cut]),
            )  # fmt: skip
        return sent

    # Requests

    def _of_schema(self) -> Sent:
        method = self._one_of(_METHODS)
        kind = self._one_of((self._catalogue.user, self._catalogue.user, self._catalogue.group))
        base = kind.endpoint.strip("/")
        path, body = f"{base}/{self._id(kind)}", None
        match method:
            case "GET" if self._chance(0.6):
                path = base
            case "POST":
                path, body = self._post(kind, base)
            case "PUT":
                body = self._resource(kind)
            case "PATCH":
                body = self._patch(kind)
            case _:
                pass
        return self._sent(method, path, body)

    def _post(self, kind: ResourceType, base: str) -> tuple[str, Any]:
        if self._chance(0.15):
            return self._one_of((f"{base}/.search", ".search")), self._search()
        if self._chance(0.05):
            return "Bulk", self._bulk()
        return base, self._resource(kind)

    def _of_record(self) -> Sent:
        recorded = self._one_of(self._recorded)
        body = self._filled(recorded.get("body"))
        for _ in range(self._random.randrange(3)):
            body = self._mutated(body)
        path, _, query = self._filled(recorded["path"]).strip("/").partition("?")
        sent = self._sent(recorded["method"], path, body)
        return Sent(
            method=sent.method, path=sent.path, query=quote(query, safe="=&%+"),
            headers=(*recorded.get("headers", {}).items(), *sent.headers), body=sent.body,
        )  # fmt: skip

    def _of_nothing(self) -> Sent:
        method = self._one_of((*_METHODS, *_ODD_METHODS))
        parts = ("Users", "Groups", "Schemas", "ResourceTypes", "ServiceProviderConfig", "Me", "Bulk",
                 ".search", "x", "", self._text()[:50], self._id(self._catalogue.user))  # fmt: skip
        path = "/".join(self._one_of(parts) for _ in range(self._random.randrange(1, 4)))
        return self._sent(method, path, self._anything(3))

    def _sent(self, method: str, path: str, body: Any) -> Sent:
        headers = tuple(
            (name, self._one_of(values)) for name, values in _HEADERS if self._chance(0.06)
        )
        text = "" if body is None else json.dumps(body)
        # A lone surrogate is no text that JSON could carry.
        raw = text.encode("utf-8", "replace")
        return Sent(method=method, path=path, query=self._query(), headers=headers, body=raw)

    # Parts

    def _query(self) -> str:
        pairs: list[str] = []
        for name, value in self._search().items():
            shown = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            pairs.append(f"{name}={quote(shown.encode('utf-8', 'replace'))}")
        if self._chance(0.03):
            pairs.append(self._text()[:50].encode("ascii", "replace").decode())
        return "&".join(pairs)

    def _search(self) -> dict[str, Any]:
        made: dict[str, Any] = {}
        if self._chance(0.35):
            made[self._one_of(("filter", "Filter"))] = self._filter()
        for name in ("sortBy", "sortOrder", "startIndex", "count", "cursor"):
            if self._chance(0.08):
                made[name] = self._one_of(
                    (self._name(), "descending", self._number(), self._text()[:60], "", 1)
                )
        for name in ("attributes", "excludedAttributes"):
            if self._chance(0.08):
                made[name] = [self._name() for _ in range(self._random.randrange(4))]
        return made

    def _filter(self) -> str:
        if self._chance(0.3):
            count = self._random.randrange(9)
            return " ".join(self._one_of((*_TOKENS, self._name())) for _ in range(count))
        terms = [self._term() for _ in range(self._random.randrange(1, 4))]
        return self._one_of((" and ", " or ")).join(terms)

    def _term(self) -> str:
        operator = self._one_of(_TOKENS[:9])
        value = json.dumps(self._one_of((self._text()[:100], True, self._number(), None)))
        term = f"{self._name()} {operator} {value}"
        shape = self._random.randrange(6)
        if shape == 0:
            return f"not ({term})"
        if shape == 1:
            return f'{self._name()}[type eq "work" and value {operator} {value}]'
        return f"{self._name()} pr" if shape == 2 else term

    def _resource(self, kind: ResourceType) -> Any:
        made: dict[str, Any] = {"schemas": [kind.core.id, *(x.id for x in kind.extensions)]}
        for attribute in (*kind.core.attributes.values(), *kind.common.values()):
            if attribute.required or self._chance(0.25):
                made[self._cased(attribute.name)] = self._of(attribute)
        for extension in kind.extensions:
            if self._chance(0.3):
                made[extension.id] = {
                    attribute.name: self._of(attribute)
                    for attribute in extension.attributes.values()
                    if self._chance(0.4)
                }
        return self._mutated(made) if self._chance(0.25) else made

    def _of(self, attribute: Attribute) -> Any:
        """A value of the attribute, mostly of its type."""
        if self._chance(0.02):
            return self._anything(2)
        if attribute.many:
            return [self._one(attribute) for _ in range(self._random.randrange(4))]
        return self._one(attribute)

    def _one(self, attribute: Attribute) -> Any:
        if attribute.name == "password":
            return SECRET
        if attribute.name == "members":
            return {"value": self._id(self._catalogue.user), "$ref": None}
        if attribute.is_complex:
            return {
                part.name: self._of(part) for part in attribute.sub.values() if self._chance(0.6)
            }
        match attribute.kind:
            case "boolean":
                return self._one_of((True, False, "True", "false"))
            case "integer" | "decimal":
                return self._number()
            case "dateTime":
                return "2026-11-22T09:30:15.1234567Z"
            case _:
                plain = f"n{self._random.randrange(400)}"
                return plain if self._chance(0.9) else self._text()

    def _patch(self, kind: ResourceType) -> Any:
        operations = [self._operation(kind) for _ in range(self._random.randrange(1, 5))]
        made = {"schemas": [PATCH_OP], "Operations": operations}
        return self._mutated(made) if self._chance(0.2) else made

    def _operation(self, kind: ResourceType) -> dict[str, Any]:
        made: dict[str, Any] = {"op": self._one_of(("add", "Replace", "remove", "REMOVE", "move"))}
        attribute = self._one_of(list(kind.core.attributes.values()))
        if self._chance(0.25):
            return made | {
                "value": {attribute.name: self._of(attribute), self._name(): self._anything(1)}
            }
        path = attribute.name
        value = self._of(attribute)
        if attribute.name == "password":
            return made | {"path": path, "value": SECRET}
        if attribute.many and attribute.is_complex and self._chance(0.6):
            part = self._one_of(list(attribute.sub.values()))
            chosen = json.dumps(self._one_of((self._id(kind), "work", True)))
            path = f"{path}[{self._one_of(('type', 'value', 'primary'))} eq {chosen}]"
            if self._chance(0.6):
                path, value = f"{path}.{part.name}", self._of(part)
        elif self._chance(0.2):
            path = self._one_of((self._name(), self._text()[:60]))
        return made | {"path": path} | ({} if self._chance(0.2) else {"value": value})

    def _bulk(self) -> Any:
        operations: list[dict[str, Any]] = []
        for number in range(self._random.randrange(4)):
            kind = self._one_of(self._catalogue.types)
            method = self._one_of(("POST", "PUT", "PATCH", "DELETE", "GET"))
            data = self._patch(kind) if method == "PATCH" else self._resource(kind)
            path = kind.endpoint if method == "POST" else f"{kind.endpoint}/{self._id(kind)}"
            operations.append(
                {"method": method, "path": path, "bulkId": f"b{number}", "data": data}
            )
        made = {"schemas": [BULK], "failOnErrors": self._number(), "Operations": operations}
        return self._mutated(made) if self._chance(0.3) else made

    def _mutated(self, document: Any) -> Any:
        """The document with one thing in it changed."""
        if isinstance(document, dict) and document:
            key = self._one_of(list(document))
            if SECRET in (document.get("value"), document.get("password")):
                return document  # a password stays where it is known for one
            change = self._random.randrange(6)
            if change == 0:
                return {name: value for name, value in document.items() if name != key}
            if change == 1:
                return {
                    (name.swapcase() if name == key else name): v for name, v in document.items()
                }
            if change == 2 and SECRET not in str(document[key]):
                return document | {self._name(): document[key]}
            if change == 3 and SECRET not in str(document[key]):
                return document | {key: self._anything(2)}
            return document | {key: self._mutated(document[key])}
        if isinstance(document, list) and document:
            index = self._random.randrange(len(document))
            one = self._mutated(document[index])
            return [*document[:index], one, *document[index + (0 if self._chance(0.2) else 1) :]]
        return document if SECRET in str(document) else self._anything(2)

    def _anything(self, depth: int) -> Any:
        shape = self._random.randrange(8 if depth else 5)
        if shape < 3:
            return self._text()
        if shape == 3:
            return self._one_of((None, True, False))
        if shape == 4:
            return self._number()
        if shape == 5:
            return [self._anything(depth - 1) for _ in range(self._random.randrange(4))]
        count = self._random.randrange(4)
        return {
            self._one_of((self._name(), self._text()[:20])): self._anything(depth - 1)
            for _ in range(count)
        }

    def _filled(self, value: Any) -> Any:
        """A recorded value with ids of our own in the places of its names."""
        if isinstance(value, str) and "{{" in value:
            before, _, rest = value.partition("{{")
            return self._filled(
                before + self._id(self._one_of(self._catalogue.types)) + rest.partition("}}")[2]
            )
        if isinstance(value, list):
            return [self._filled(item) for item in value]
        if isinstance(value, dict):
            return {
                key: SECRET
                if _is_password(key, value) and isinstance(item, str)
                else self._filled(item)
                for key, item in value.items()
            }
        return value

    def _id(self, kind: ResourceType) -> str:
        return self._of_kind(kind.endpoint.strip("/"))

    def _of_kind(self, endpoint: str) -> str:
        own = self._known.users if endpoint == "Users" else self._known.groups
        if own and self._chance(0.85):
            return self._one_of(own)
        return self._one_of(
            (*self._known.foreign, "nobody", "01a20506-04d6-7762-8274-a85a96b34eb2")
        )

    def _name(self) -> str:
        return self._cased(self._one_of(self._names))

    def _cased(self, name: str) -> str:
        return self._one_of((name, name, name, name.lower(), name.upper()))

    def _text(self) -> str:
        return self._one_of(_TEXTS)

    def _number(self) -> int | float:
        return self._one_of(_NUMBERS)

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    def _one_of(self, options: Sequence[Any]) -> Any:
        return options[self._random.randrange(len(options))]


def _is_password(key: str, holder: Mapping[str, Any]) -> bool:
    if key.casefold() == "password":
        return True
    return key == "value" and str(holder.get("path", "")).casefold() == "password"


def _names(kind: ResourceType) -> Iterator[str]:
    """Every attribute path of a resource type, password left out: its values are told apart."""
    prefixes = [
        (schema, f"{schema.id}:" if schema is not kind.core else "")
        for schema in (kind.core, *kind.extensions)
    ]
    for schema, prefix in prefixes:
        for attribute in schema.attributes.values():
            if attribute.name != "password":
                yield prefix + attribute.name
                yield from (
                    f"{prefix}{attribute.name}.{part.name}" for part in attribute.sub.values()
                )
    yield from (
        "id",
        "externalId",
        "schemas",
        "meta",
        "meta.created",
        "meta.version",
        "meta.location",
    )
