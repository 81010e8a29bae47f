"""Auth0's OpenAPI document as a judge of requests and answers.

The document is not part of this project. It declares no bodies for 4xx, and its list answers are
either an array or an object.
"""

import functools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import httpx
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

_PROJECT = Path(__file__).resolve().parents[2]
LOCATION = Path(
    os.environ.get("TEST_AUTH0_OPENAPI")
    or _PROJECT.parent / "shared" / "auth0" / "management-api-oas.slim.json"
)
_ROOT = "urn:auth0"
LEFT_OUT = frozenset({("GET", "/clients/{id}"), ("GET", "/tenants/settings")})
"""Operations that the document at hand was slimmed by: auth0-python's models alone judge them."""
_RECORDED_BUT_UNDECLARED = {
    ("POST", "/organizations/{id}/invitations", 201): "200",
    # An unknown Organization is recorded as 404 of its other operations.
    ("DELETE", "/organizations/{id}/members", 404): "204",
    ("POST", "/organizations/{id}/members", 404): "204",
    # So is an unknown role.
    ("POST", "/organizations/{id}/members/{user_id}/roles", 404): "204",
}

JSON = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """One operation of the document; `template` has the document's own parameter names."""

    method: str
    template: str
    description: JSON

    @property
    def scopes(self) -> set[str]:
        """Scopes that the operation mentions."""
        found: set[str] = set()
        for alternative in self.description.get("security", []):
            for scopes in alternative.values():
                found.update(scopes)
        return found


@dataclass(slots=True, kw_only=True)
class Document:
    """The document, with its schemas ready for use."""

    contents: JSON
    _registry: Any = field(init=False)
    _validators: dict[str, Draft202012Validator] = field(
        init=False, default_factory=dict[str, Draft202012Validator]
    )

    def __post_init__(self) -> None:
        resource = Resource(contents=self.contents, specification=DRAFT202012)
        self._registry = Registry().with_resource(_ROOT, resource)

    @classmethod
    @functools.cache
    def load(cls) -> "Document":
        """From `LOCATION`, once in a process.

        Its alternatives are not exclusive: `{"members": []}` is both kinds of page.
        """
        text = LOCATION.read_text().replace('"oneOf":', '"anyOf":')
        return cls(contents=json.loads(text))

    def find(self, method: str, path: str) -> Declared | None:
        """The operation for a path below `/api/v2`, or for a template with other names."""
        segments = path.strip("/").split("/")
        best: tuple[int, Declared] | None = None
        for template, operations in self.contents["paths"].items():
            own = template.strip("/").split("/")
            if len(own) != len(segments) or method.lower() not in operations:
                continue
            literal = sum(a == b for a, b in zip(own, segments, strict=True))
            fits = all(a == b or a.startswith("{") for a, b in zip(own, segments, strict=True))
            if fits and (best is None or literal > best[0]):
                description = operations[method.lower()]
                best = literal, Declared(method=method, template=template, description=description)
        return None if best is None else best[1]

    def properties(self, method: str, path: str) -> dict[str, bool]:
        """Names of a JSON body's properties, and whether each is required."""
        declared = self.find(method, path)
        assert declared is not None
        content = declared.description["requestBody"]["content"]
        schema = content["application/json"]["schema"]
        if "$ref" in schema:
            schema = self.contents["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        required = schema.get("required", [])
        return {name: name in required for name in schema["properties"]}

    def problems(self, request: httpx.Request, response: httpx.Response) -> list[str]:
        """What breaks the document in one exchange; empty where nothing does."""
        path = unquote(request.url.raw_path.decode().partition("?")[0].partition("/api/v2")[2])
        declared = self.find(request.method, path)
        name = f"{request.method} {path}"
        if declared is None and _is_left_out(request.method, path):
            return []
        if declared is None:
            return [f"{name}: not in the document"]
        found = [
            *self._of_query(declared, request),
            *self._of_request(declared, request),
            *self._of_response(declared, response),
        ]
        return [f"{name}: {problem}" for problem in found]

    def _of_query(self, declared: Declared, request: httpx.Request) -> list[str]:
        parameters: Mapping[str, JSON] = {
            parameter["name"]: parameter
            for parameter in declared.description.get("parameters", [])
            if parameter.get("in") == "query"
        }
        found: list[str] = []
        for name, text in parse_qsl(request.url.query.decode()):
            if name not in parameters:
                found.append(f"query parameter {name} is not declared")
                continue
            schema = parameters[name].get("schema", {})
            number = schema.get("type") in {"integer", "number", "boolean"}
            found += self._errors(json.loads(text) if number else text, schema)
        return found

    def _of_request(self, declared: Declared, request: httpx.Request) -> list[str]:
        if not request.headers.get("content-type", "").startswith("application/json"):
            return []
        content = declared.description.get("requestBody", {}).get("content", {})
        if "application/json" not in content:
            return ["a body is sent but not declared"]
        body = json.loads(request.content)
        return self._errors(body, content["application/json"]["schema"])

    def _of_response(self, declared: Declared, response: httpx.Response) -> list[str]:
        status = response.status_code
        stands_for = _RECORDED_BUT_UNDECLARED.get((declared.method, declared.template, status))
        answers = declared.description["responses"]
        answer = answers.get(stands_for or str(status))
        if answer is None:
            return [f"status {status} is not declared"]
        content = answer.get("content", {})
        if "text/event-stream" in content:
            return self._of_stream(response, content["text/event-stream"]["schema"])
        schema = content.get("application/json", {}).get("schema")
        if not response.content or schema is None:
            return []
        return self._errors(response.json(), schema)

    def _of_stream(self, response: httpx.Response, schema: JSON) -> list[str]:
        found: list[str] = []
        for line in response.text.splitlines():
            if line.startswith("data: "):
                message = json.loads(line.removeprefix("data: "))
                if "event" in message:
                    # Required by the document, and left out in this feed by the SDK's description.
                    message["event"].setdefault("a0stream", "est_0123456789abcdef")
                found += self._errors(message, schema)
        return found

    def _errors(self, value: Any, schema: JSON) -> list[str]:
        found = self._validator(json.dumps(schema)).iter_errors(value)
        return [f"{error.json_path}: {error.message}" for error in found]

    def _validator(self, schema: str) -> Draft202012Validator:
        if schema not in self._validators:
            # A reference within the document needs the document as its base.
            rebased: JSON = json.loads(schema.replace('"#/', f'"{_ROOT}#/'))
            self._validators[schema] = Draft202012Validator(rebased, registry=self._registry)
        return self._validators[schema]


def _is_left_out(method: str, path: str) -> bool:
    segments = path.split("/")
    return any(
        method == known
        and len(segments) == len(template.split("/"))
        and all(
            a == b or a.startswith("{") for a, b in zip(template.split("/"), segments, strict=True)
        )
        for known, template in LEFT_OUT
    )
