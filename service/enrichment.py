"""How a source's thin events are filled up: where the worker is asked for, and by which credential.

Knows no HTTP and no storage: a template becomes a URL here, and a secret a header.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Self
from urllib.parse import quote, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator

from service.urls import is_trustworthy_url

_NAMES: Final = frozenset({"worker_id", "organization"})
_TOKEN: Final = re.compile(r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$")
_PLACE: Final = re.compile(r"\{([^{}]*)\}")
_OURS: Final = frozenset({"host", "content-length", "transfer-encoding", "connection"})


def _header_name(name: str) -> str:
    if not _TOKEN.fullmatch(name) or name.lower() in _OURS:
        raise ValueError("give the name of a request header, such as Authorization")
    return name


def _template(url: str) -> str:
    names = set(_PLACE.findall(url))
    if re.search(r"[{}]", _PLACE.sub("", url)):
        names.add("")
    if not names <= _NAMES:
        raise ValueError("braces stand for {worker_id} and {organization} only")
    before_path = url[: url.find("/", url.find("//") + 2)] if url.count("/") > 2 else url
    if "{" in before_path:
        raise ValueError("scheme and host are fixed: braces stand in the path or the query")
    if not is_trustworthy_url(_PLACE.sub("x", url)):
        raise ValueError("give an https:// URL (http:// only for this machine, as 127.0.0.1)")
    return url


def _texts(value: JsonValue) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)


def _filled(value: JsonValue, told: Mapping[str, str]) -> JsonValue:
    if isinstance(value, str):
        return _PLACE.sub(lambda place: told[place[1]], value)
    if isinstance(value, list):
        return [_filled(each, told) for each in value]
    if isinstance(value, dict):
        return {name: _filled(each, told) for name, each in value.items()}
    return value


class Credential(BaseModel):
    """A secret in a file, and the request header that it is sent in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str = Field(min_length=1)
    """Read for each request, so that a rotated secret counts at once."""
    header: Annotated[str, AfterValidator(_header_name)] = "Authorization"
    scheme: str = Field(default="Bearer", max_length=50)
    """Goes before the secret; with ``Basic`` the file holds ``user:password``. Empty: nothing."""

    def as_header(self, secret: str) -> str:
        """The header's value for a secret. Raises ValueError where no header can hold it."""
        if not secret or not secret.isascii() or not secret.isprintable():
            raise ValueError(f"{self.file} holds no single line of printable ASCII")
        if self.scheme.lower() == "basic":
            secret = base64.b64encode(secret.encode()).decode()
        return f"{self.scheme} {secret}".strip()


class Enrichment(BaseModel):
    """Where a worker whom a thin event only names is asked for: an HTTP GET that answers JSON, or a
    POST for HR systems that are read so.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[str, AfterValidator(_template)]
    """A template: ``https://hr.example/api/employees/{worker_id}``."""
    body: JsonValue = None
    """Sent by POST where it is there; a template, too: ``{"ids": ["{worker_id}"]}``."""
    credential: Credential | None = None
    headers: dict[Annotated[str, AfterValidator(_header_name)], str] = {}
    rate: float = Field(default=5.0, gt=0.0, le=1000.0)
    """Requests a second, of each process that reads this source."""
    at_once: int = Field(default=4, ge=1, le=100)
    timeout: float = Field(default=10.0, gt=0.0, le=60.0)
    """Seconds for the whole answer."""
    give_up_after: float = Field(default=86_400.0, ge=60.0, le=30 * 86_400.0)
    """Seconds from acceptance on; then the event is dead-lettered."""

    @model_validator(mode="after")
    def _the_worker_is_named(self) -> Self:
        named = [self.url, *_texts(self.body)]
        if not any("{worker_id}" in each for each in named):
            raise ValueError("say by {worker_id} where in url or body the worker is named")
        if any(set(_PLACE.findall(each)) - _NAMES for each in _texts(self.body)):
            raise ValueError("body: braces stand for {worker_id} and {organization} only")
        return self

    @model_validator(mode="after")
    def _headers_are_plain(self) -> Self:
        if any(not value.isascii() or not value.isprintable() for value in self.headers.values()):
            raise ValueError("headers hold printable ASCII")
        return self

    def url_for(self, worker_id: str, organization: str) -> str:
        """The URL of one worker. Whatever the id is made of, it stays one piece of a path."""
        piece = quote(worker_id, safe="")
        if piece in (".", ".."):  # which a client would resolve
            piece = piece.replace(".", "%2E")
        told = {"worker_id": piece, "organization": quote(organization, safe="")}
        return _PLACE.sub(lambda place: told[place[1]], self.url)

    def body_for(self, worker_id: str, organization: str) -> JsonValue:
        """The JSON to post for one worker; None: it is a GET."""
        return _filled(self.body, {"worker_id": worker_id, "organization": organization})

    @property
    def names_organization(self) -> bool:
        """Whether a request tells whose worker is meant."""
        return any("{organization}" in each for each in (self.url, *_texts(self.body)))

    @property
    def host(self) -> str:
        """Whom it asks, for logs and listings."""
        return urlsplit(self.url).hostname or ""
