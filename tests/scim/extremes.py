"""Requests at the far end of what can be sent: depth, length, numbers, letters, bytes, references.

Seeded by whoever asks. Knows no server.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final
from urllib.parse import quote

LETTERS: Final = (
    "İstanbul", "\u0131Ii\u0130", "Straße", "ẞ", "\u017ftaff", "\u212aelvin", "Ångström", "A\u030angstro\u0308m",
    "Ωμέγα", "ΣΊΣΥΦΟΣ σς", "ﬃ", "ǅ", "אבג", "\u202eevil", "\u200b", "\ufeff", "\ufffd", "田中", "👩‍👩‍👧",
    "\U0010ffff", "\x7f", "\x85", "\u2028", "e\u0301" * 300, "ŉ", "ΐ", "\u0345",
)  # fmt: skip
"""Letters whose case, length or form changes when they are compared."""
NUMBERS: Final = (
    "1e400", "-1e400", "1e-400", "9" * 400, "-" + "9" * 400, "0." + "3" * 400, "18446744073709551616",
    "9223372036854775808", "-9223372036854775809", "1" + "0" * 4400, "-0", "-0.0", "00", "1.", ".5", "+1",
    "1E+2", "NaN", "Infinity", "0x10", "1_000", "9007199254740993", "2147483648",
)  # fmt: skip
"""As they are written, JSON or not."""
BYTES: Final = (
    b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc3", b"\x80", b"\x00", b"\xfe\xff",
    b"\xef\xbb\xbf", b"\xe2\x28\xa1", b"\xf0\x9f\x98",
)  # fmt: skip
"""Most of them are no UTF-8."""
MEDIA_TYPES: Final = (
    "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/json;charset=",
    "application/scim+json; charset=iso-8859-1", "image/png", "*/*", "application/jwt", ";", "a" * 5000,
)  # fmt: skip
METHODS: Final = (
    "HEAD", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "MKCOL", "SEARCH", "QUERY", "Post", "patch",
    "GET ", "\x00", "G" * 2000,
)  # fmt: skip
_PATHS: Final = (
    "Users",
    "Groups",
    "Users/.search",
    ".search",
    "Bulk",
    "Me",
    "Schemas",
    "Users/nobody",
)
_PATCH: Final = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
_DEPTHS: Final = (2, 10, 19, 20, 21, 31, 32, 33, 60, 200, 499, 1000, 2500)
_MANY: Final = (
    "emails",
    "phoneNumbers",
    "addresses",
    "roles",
    "members",
    "keys",
    "tags",
    "x509Certificates",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One request below an organization's base URL; ``query`` is as on the wire."""

    method: str
    path: str
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class Extremes:
    """``names``: attribute paths; ``an_id``: gives the id of a user or group, or of neither."""

    def __init__(self, random: Random, names: Sequence[str], an_id: Callable[[str], str]) -> None:
        self._random = random
        self._names = names
        self._id = an_id

    def next(self) -> Sent:
        make = self._one_of(
            (self._filtered, self._filtered, self._patched, self._patched, self._numbers,
             self._letters, self._bytes, self._odd, self._circle, self._deep)
        )  # fmt: skip
        return make()

    # Requests

    def _filtered(self) -> Sent:
        kind, text = self._one_of(("Users", "Groups")), self._filter()
        if self._random.random() < 0.4:
            body = json.dumps({"filter": text, "count": 3, "cursor": ""}).encode()
            return Sent(method="POST", path=f"{kind}/.search", body=body)
        written = self._one_of((quote(text), quote(text, safe="+\"()[]'"), text.replace(" ", "+")))
        return Sent(method="GET", path=kind, query=f"filter={_ascii(written)}&count=3")

    def _patched(self) -> Sent:
        """PATCH paths with a filter of any depth within them, and values that do not fit."""
        kind = self._one_of(("Users", "Users", "Groups"))
        operations = [self._operation() for _ in range(self._one_of((1, 1, 2, 5, 40)))]
        body = json.dumps({"schemas": [_PATCH], "Operations": operations}).encode()
        return Sent(method="PATCH", path=f"{kind}/{self._id(kind)}", body=body)

    def _numbers(self) -> Sent:
        number, name = self._one_of(NUMBERS), self._one_of(self._names)
        shape = self._random.randrange(4)
        if shape == 0:
            part = self._one_of(("startIndex", "count", "cursor", "filter"))
            value = quote(f"{name} {self._one_of(('eq', 'gt', 'le'))} {number}")
            return Sent(
                method="GET", path="Users", query=f"{part}={value if part == 'filter' else number}"
            )
        if shape == 1:
            body = f'{{"userName": {json.dumps(self._text())}, "{name}": {number}}}'
            return Sent(method="POST", path="Users", body=body.encode())
        if shape == 2:
            body = f'{{"failOnErrors": {number}, "Operations": [{{"bulkId": {number}}}]}}'
            return Sent(method="POST", path="Bulk", body=body.encode())
        operation = f'{{"op": "add", "path": {json.dumps(name)}, "value": {number}}}'
        body = f'{{"schemas": ["{_PATCH}"], "Operations": [{operation}]}}'
        return Sent(method="PATCH", path=f"Users/{self._id('Users')}", body=body.encode())

    def _letters(self) -> Sent:
        """A person of odd letters, or a question for one, in any case that the letters have."""
        text = self._one_of(LETTERS)
        turned = self._one_of((text, text.upper(), text.lower(), text.casefold(), text.swapcase()))
        if self._random.random() < 0.5:
            address = [{"value": f"{turned}@hoekstra.example", "type": text[:20]}]
            body = {
                "userName": turned,
                "name": {"familyName": text},
                "emails": address,
                text[:9]: 1,
            }
            return Sent(method="POST", path="Users", body=json.dumps(body).encode())
        operator = self._one_of(("eq", "co", "sw", "ew", "ne", "gt"))
        name = self._one_of(("userName", "name.familyName", "emails.value", "emails", text[:5]))
        wanted = quote(f"{name} {operator} {json.dumps(turned, ensure_ascii=False)}")
        return Sent(method="GET", path="Users", query=f"filter={wanted}&sortBy=userName&count=5")

    def _bytes(self) -> Sent:
        broken = self._one_of(BYTES)
        escaped = "".join(f"%{each:02X}" for each in broken)
        shape = self._random.randrange(4)
        if shape == 0:
            return Sent(method="POST", path="Users", body=b'{"userName": "' + broken + b'"}')
        if shape == 1:
            return Sent(
                method="GET",
                path="Users",
                query=f"filter=userName%20eq%20%22{escaped}%22&{escaped}=1",
            )
        raw = broken.decode("utf-8", "surrogateescape")
        if shape == 2:
            return Sent(method="GET", path="Users", query=f'filter=title co "{raw}"&cursor={raw}')
        return Sent(method="POST", path="Bulk", body=broken + b'{"Operations": []}' + broken)

    def _odd(self) -> Sent:
        method = self._one_of((*METHODS, "POST", "PUT", "PATCH"))
        media = (("content-type", self._one_of(MEDIA_TYPES)),)
        body = self._one_of((b"", b"{}", b"userName=lena", b'{"userName": "lena"}', b"[]", b"null"))
        return Sent(method=method, path=self._one_of(_PATHS), headers=media, body=body)

    def _circle(self) -> Sent:
        """A Bulk whose operations refer to each other, to themselves or to nobody."""
        size = self._one_of((1, 2, 3, 8))
        operations = [self._linked(number, size) for number in range(size)]
        self._random.shuffle(operations)
        body = {"failOnErrors": self._one_of((None, 1, 3)), "Operations": operations}
        return Sent(method="POST", path="Bulk", body=json.dumps(body).encode())

    def _deep(self) -> Sent:
        depth = self._one_of(_DEPTHS)
        opened, closed = self._one_of((("[", "]"), ('{"name": ', "}"), ('{"members": [', "]}")))
        nested = opened * depth + '"x"' + closed * depth
        method, path = self._one_of((("POST", "Users"), ("POST", "Groups"), ("POST", ".search")))
        if self._random.random() < 0.3:
            body = f'{{"Operations": [{{"method": "POST", "path": "/Users", "data": {nested}}}]}}'
            return Sent(method="POST", path="Bulk", body=body.encode())
        return Sent(method=method, path=path, body=f'{{"userName": {nested}}}'.encode())

    # Parts

    def _linked(self, number: int, size: int) -> dict[str, Any]:
        other = f"bulkId:b{self._one_of((number, (number + 1) % size, self._random.randrange(size + 1)))}"
        kind = self._one_of(("Users", "Groups", "Groups"))
        name = f"circle-{self._random.randrange(200)}"
        data: dict[str, Any] = {
            "userName": name, "displayName": name, "manager": {"value": other},
            "members": [{"value": other}, {"value": self._id("Users")}],
        }  # fmt: skip
        match self._random.randrange(6):
            case 0:
                path = f'members[value eq "{other}"]'
                data = {"Operations": [{"op": "remove", "path": path}]}
                return {"method": "PATCH", "path": f"/{kind}/{other}", "data": data}
            case 1:
                return {
                    "method": self._one_of(("PUT", "DELETE")),
                    "path": f"/{kind}/{other}",
                    "data": data,
                }
            case _:
                return {"method": "POST", "path": f"/{kind}", "bulkId": f"b{number}", "data": data}

    def _operation(self) -> dict[str, Any]:
        attribute = self._one_of(_MANY)
        inner = self._nested(self._one_of(_DEPTHS[:6]), ("type", "value", "primary", "display"))
        part = self._one_of(("", ".value", ".display", ".nosuch", ".primary", "]", "[value pr]"))
        value: Any = self._one_of(
            (
                None,
                "",
                [],
                {},
                self._text(),
                True,
                [{"value": self._id("Users")}],
                {"primary": "True"},
            )
        )
        made = {
            "op": self._one_of(("add", "Replace", "remove")),
            "path": f"{attribute}[{inner}]{part}",
        }
        return made if self._random.random() < 0.3 else made | {"value": value}

    def _filter(self) -> str:
        depth = self._one_of(_DEPTHS)
        match self._random.randrange(5):
            case 0:
                return self._nested(depth, self._names)
            case 1:
                return self._one_of((" and ", " or ")).join(
                    self._term(self._names) for _ in range(depth)
                )
            case 2:
                return (
                    "(" * depth
                    + self._term(self._names)
                    + ")" * self._one_of((depth, depth - 1, 0))
                )
            case 3:
                return "not (" * depth + self._term(self._names) + ")" * depth
            case _:
                inner = self._nested(depth, ("type", "value", "primary"))
                return f"{self._one_of(_MANY)}[{inner}]"

    def _nested(self, depth: int, names: Sequence[str]) -> str:
        """Alternating words, each within the one before."""
        made = self._term(names)
        for level in range(depth):
            word = ("and", "or")[level % 2]
            made = f"{self._term(names)} {word} {self._one_of(('', 'not '))}({made})"
        return made

    def _term(self, names: Sequence[str]) -> str:
        value = self._one_of(
            (json.dumps(self._text()), self._one_of(NUMBERS), "true", "null", '"work"')
        )
        name, operator = self._one_of(names), self._one_of(("eq", "ne", "co", "sw", "gt", "LE"))
        return f"{name} pr" if self._random.random() < 0.2 else f"{name} {operator} {value}"

    def _text(self) -> str:
        return self._one_of(LETTERS)[:12]

    def _one_of(self, options: Sequence[Any]) -> Any:
        return options[self._random.randrange(len(options))]


def _ascii(text: str) -> str:
    """Letters beyond ASCII escaped, and the rest as it is."""
    return "".join(each if each.isascii() else quote(each) for each in text)
