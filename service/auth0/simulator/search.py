"""The query language of user search (`q`, engine v3), as far as reconciliation needs it.

Source: Auth0's page on user search query syntax. Fields, quoted phrases, trailing `*`, `AND`,
`OR`, `NOT`, brackets and `_exists_`; ranges are refused.
"""

import re
from collections.abc import Callable, Collection
from typing import Any

from service.auth0.simulator.errors import bad_query

Test = Callable[[dict[str, Any]], bool]

_TOKEN = re.compile(
    r"\s*(?:(?P<open>\()|(?P<close>\))|(?P<word>AND|OR|NOT)(?=[\s(]|$)|(?P<minus>-)"
    r'|(?P<field>[A-Za-z_][\w.\-]*):(?:"(?P<phrase>(?:[^"\\]|\\.)*)"|(?P<value>[^\s()"\[{]+))'
    r'|"(?P<anywhere>(?:[^"\\]|\\.)*)"|(?P<bare>[^\s():"\[\]{}]+))'
)
_ROOT_TEXT = ("email", "name", "nickname", "given_name", "family_name", "username")


def parsed(q: str) -> Test:
    """A test of profiles for a query. Raises the 400 where the query cannot be read."""
    tokens: list[re.Match[str]] = []
    position = 0
    while position < len(q.rstrip()):
        match = _TOKEN.match(q, position)
        if match is None:
            raise bad_query(f"The query cannot be read at: {q[position:]}")
        tokens.append(match)
        position = match.end()
    reader = _Reader(tokens)
    test = reader.alternatives()
    if not reader.at_end():
        raise bad_query("The query has an unexpected bracket")
    return test


class _Reader:
    """Recursive descent: alternatives, then conjunctions, then one test."""

    def __init__(self, tokens: list[re.Match[str]]) -> None:
        self._tokens = tokens
        self._next = 0

    def at_end(self) -> bool:
        return self._next == len(self._tokens)

    def _peek(self, group: str, text: str | None = None) -> bool:
        if self.at_end():
            return False
        found = self._tokens[self._next].group(group)
        return found is not None and (text is None or found == text)

    def _skip(self, group: str, text: str | None = None) -> bool:
        if self._peek(group, text):
            self._next += 1
            return True
        return False

    def alternatives(self) -> Test:
        tests = [self._conjunction()]
        while self._skip("word", "OR"):
            tests.append(self._conjunction())
        return lambda profile: any(test(profile) for test in tests)

    def _conjunction(self) -> Test:
        tests = [self._one()]
        while not self.at_end() and not self._peek("close") and not self._peek("word", "OR"):
            self._skip("word", "AND")
            tests.append(self._one())
        return lambda profile: all(test(profile) for test in tests)

    def _one(self) -> Test:
        if self._skip("word", "NOT") or self._skip("minus"):
            inner = self._one()
            return lambda profile: not inner(profile)
        if self._skip("open"):
            inner = self.alternatives()
            if not self._skip("close"):
                raise bad_query("The query lacks a closing bracket")
            return inner
        if self.at_end() or self._peek("close") or self._peek("word"):
            raise bad_query("The query ends where a term is expected")
        token = self._tokens[self._next]
        self._next += 1
        return _term(token)


def _term(token: re.Match[str]) -> Test:
    field = token.group("field")
    if field is None:
        wanted = _unescaped(token.group("anywhere") or token.group("bare"))
        return lambda profile: any(_equal(profile.get(f), wanted, False) for f in _ROOT_TEXT)
    phrase, value = token.group("phrase"), token.group("value")
    wanted = _unescaped(phrase if phrase is not None else value)
    if field == "_exists_":
        return lambda profile: bool(_values(profile, wanted.split(".")))
    exact = field.startswith(("app_metadata", "user_metadata"))
    prefix = phrase is None and wanted.endswith("*")
    return lambda profile: any(
        _starts(found, wanted[:-1]) if prefix else _equal(found, wanted, exact)
        for found in _values(profile, field.split("."))
    )


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _values(value: Any, path: list[str]) -> Collection[Any]:
    if isinstance(value, list):
        return [found for item in value for found in _values(item, path)]
    if not path:
        return [] if value is None or value in ("", {}) else [value]
    if isinstance(value, dict):
        return _values(value.get(path[0]), path[1:])
    return []


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _starts(value: Any, wanted: str) -> bool:
    return _text(value).casefold().startswith(wanted.casefold())


def _equal(value: Any, wanted: str, exact: bool) -> bool:
    if value is None or isinstance(value, dict):
        return False
    found = _text(value)
    return found == wanted if exact else found.casefold() == wanted.casefold()
