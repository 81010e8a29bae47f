"""SCIM filters and PATCH paths (RFC 7644 sections 3.4.2.2 and 3.5.2) to typed predicates.

An unknown attribute is an error, never a dropped term. Knows no HTTP and no SQL.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from scim2_filter_parser import ast
from scim2_filter_parser.parser import SCIMParserError

from scim.comparisons import comparison, kind_of, leaf_of
from scim.errors import invalid_filter, invalid_path
from scim.grammar import FilterLexer, FilterParser
from scim.matching import depth_of, terms_of
from scim.schema import Attribute, Path, ResourceType
from service.directory.predicates import (
    And,
    Entry,
    Not,
    Or,
    Predicate,
    Target,
)

LONGEST: Final = 8192
DEEPEST: Final = 32
"""Parentheses and brackets within each other."""
DEEPEST_TERM: Final = 20
"""Terms within each other, where parentheses that only group do not count: SQLite reads 25 of them."""
MOST_TERMS: Final = 200
MOST_CONDITIONS: Final = 500
"""Comparisons once extensions are taken for all of their attributes: SQLite nests no deeper."""

# One that does not end goes on to the end of the text, so that it is looked through once.
_STRINGS: Final = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?$)')
_SELECTION: Final = re.compile(
    r'([A-Za-z][A-Za-z0-9_.:-]*)\[\s*([A-Za-z]+)\s+[eE][qQ]\s+"([^"\\\x00-\x1f]*)"\s*\]'
)
_EQUALITY: Final = re.compile(r'\s*([A-Za-z][A-Za-z0-9_.:-]*)\s+[eE][qQ]\s+"([^"\\\x00-\x1f]*)"\s*')
# Without quotes, as some providers send it: a word that is no other value of JSON.
_WORD: Final = re.compile(
    r"\s*([A-Za-z][A-Za-z0-9_.:-]*)\s+[eE][qQ]\s+"
    r"(?!(?i:true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)\s*$)([^\s\"'()\[\]\\\x00-\x1f]+)\s*"
)
_NAME: Final = re.compile(r"[A-Za-z$][A-Za-z0-9_$:.\-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchPath:
    """The target of a PATCH operation; ``where`` selects entries of a multi-valued attribute."""

    path: Path
    where: Predicate | None = None
    read: int = 0
    """Characters that it took the grammar to read."""


def parse_filter(text: str, resource_type: ResourceType, *, tolerant: bool) -> Predicate:
    """The predicate of a filter. Raises ScimError 400 ``invalidFilter`` for whatever is wrong."""
    simple = _EQUALITY.fullmatch(text) if len(text) <= LONGEST else None
    if simple is None and tolerant and len(text) <= LONGEST:
        simple = _WORD.fullmatch(text)
    if simple is not None:  # nearly all that identity providers send
        path = resource_type.resolve(_meant(simple[1], tolerant), tolerant=tolerant)
        if path is None:
            raise _unknown(simple[1], resource_type)
        return comparison(resource_type, path, "eq", _storable(simple[2]))
    found = _Reader(resource_type, tolerant=tolerant).predicate(_parse(text))
    if depth_of(found) > DEEPEST_TERM:
        raise invalid_filter(f"and, or and not change places at most {DEEPEST_TERM} levels deep.")
    return found


def parse_path(text: str, resource_type: ResourceType, *, tolerant: bool) -> PatchPath | None:
    """The target that a PATCH path names; None for an attribute that nobody knows.

    Raises ScimError 400 ``invalidPath`` for a malformed path, ``invalidFilter`` for its filter.
    """
    if _NAME.fullmatch(text):
        path = resource_type.resolve(text, tolerant=tolerant)
        return PatchPath(path=path) if path else None
    selection = _SELECTION.fullmatch(text) if len(text) <= LONGEST else None
    if selection is not None:  # thousands of these come at once, each for a member who leaves
        return _selected(selection, resource_type, tolerant=tolerant)
    node = _unwrapped(_parse(f"{text} pr"))
    if not isinstance(node, ast.AttrExpr) or str(node.value).lower() != "pr":
        raise invalid_path("A path is an attribute name, with a filter in brackets where needed.")
    target = _Reader(resource_type, tolerant=tolerant).target(node.attr_path)
    return target and replace(target, read=len(text))


def _selected(
    selection: re.Match[str], resource_type: ResourceType, *, tolerant: bool
) -> PatchPath | None:
    """The target of a path with one equality in its brackets."""
    name, part, value = selection.groups()
    path = resource_type.resolve(name, tolerant=tolerant)
    if path is None:
        return None
    reader = _Reader(resource_type, tolerant=tolerant)
    return PatchPath(path=path, where=reader.equality(path, part, value))


def _parse(text: str) -> Any:
    """The parser's tree. Its library raises four kinds of error; the client gets one."""
    if len(text) > LONGEST:
        raise invalid_filter(f"A filter has at most {LONGEST} characters.")
    _require_shallow(text)
    try:
        node = cast("Any", FilterParser().parse(FilterLexer().tokenize(text)))
    except (SCIMParserError, ValueError, IndexError, RecursionError, AttributeError) as error:
        raise invalid_filter("The filter cannot be read: see RFC 7644 section 3.4.2.2.") from error
    if node is None:
        raise invalid_filter("The filter is empty or ends too early.")
    return node


def _require_shallow(text: str) -> None:
    depth = 0
    for character in _STRINGS.sub("", text):
        if character in "([":
            depth += 1
            if depth > DEEPEST:
                raise invalid_filter(f"Filters nest at most {DEEPEST} levels deep.")
        elif character in ")]":
            depth -= 1


def _unwrapped(node: Any) -> Any:
    while isinstance(node, ast.Filter) and not node.negated and not _namespace(node):
        node = node.expr
    return node


def _namespace(node: ast.Filter) -> Any:
    """The attribute before the brackets that this node stands for, if it does."""
    return cast("Any", node.namespace)


@dataclass(frozen=True, slots=True)
class _Scope:
    """Inside brackets: the attribute whose entries are meant, and the keys of its parts."""

    attribute: Attribute
    keys: tuple[str, ...]


class _Reader:
    """Reads one tree; counts its comparisons, since each becomes SQL."""

    def __init__(self, resource_type: ResourceType, *, tolerant: bool) -> None:
        self._type = resource_type
        self._tolerant = tolerant
        self._terms = 0
        self._conditions = 0

    def predicate(self, node: Any, scope: _Scope | None = None) -> Predicate:
        if isinstance(node, ast.Filter):
            if _namespace(node):
                return self._value_path(node, scope, None)
            inner = self.predicate(node.expr, scope)
            if not node.negated:
                return inner
            return inner.term if isinstance(inner, Not) else Not(inner)
        if isinstance(node, ast.LogExpr):
            return self._logical(node, scope)
        if isinstance(node, ast.AttrExpr):
            return self._expression(node, scope)
        raise invalid_filter("The filter cannot be read: see RFC 7644 section 3.4.2.2.")

    def target(self, node: Any) -> PatchPath | None:
        """What the path of a PATCH operation names."""
        if not isinstance(node.attr_name, ast.Filter):
            path = self._find(node)
            return PatchPath(path=path) if path else None
        brackets = node.attr_name
        path = self._find(brackets.namespace)
        if path is None:
            return None
        where = self.predicate(brackets.expr, _Scope(_of_many(path), ()))
        return PatchPath(path=path, where=where)

    def equality(self, path: Path, part: str, value: str) -> Predicate:
        """``part eq "value"`` in the brackets of a path."""
        scope = _Scope(_of_many(path), ())
        return self._inner(scope, self._part(scope, part), "eq", _storable(value))

    def _logical(self, node: Any, scope: _Scope | None) -> Predicate:
        operator = str(node.op).lower()
        terms: list[Any] = []
        rest: Any = node
        # The tree leans to the left; a loop keeps long chains off the stack.
        while isinstance(rest, ast.LogExpr) and str(rest.op).lower() == operator:
            terms.append(rest.expr2)
            rest = _unwrapped(rest.expr1)
        terms.append(rest)
        read = tuple(self.predicate(term, scope) for term in reversed(terms))
        return And(read) if operator == "and" else Or(read)

    def _value_path(
        self, node: Any, scope: _Scope | None, comparison: tuple[str, Any] | None
    ) -> Predicate:
        """``emails[type eq "work"]``, and Entra's ``emails[type eq "work"].value eq "x"``."""
        if scope is not None:
            raise invalid_filter("Brackets do not stand inside brackets.")
        path = self._find(node.namespace)
        if path is None or path.attribute is None:
            raise _unknown(_text_of(node.namespace), self._type)
        attribute = path.attribute
        if not attribute.is_complex:
            raise invalid_filter(f"{attribute.name} has no sub-attributes to select by.")
        inner = _Scope(attribute, () if attribute.many else path.keys)
        where = self.predicate(node.expr, inner)
        negate = False
        if comparison is not None:
            operator, value = comparison
            sub = path.sub or attribute.sub.get("value")
            if sub is None:
                raise invalid_filter(f"Name the sub-attribute of {attribute.name} to compare.")
            negate = operator == "ne"
            where = And((where, self._inner(inner, sub, "eq" if negate else operator, value)))
        elif path.sub is not None:
            raise invalid_filter("A value path ends with its brackets or with a comparison.")
        found = Entry(keys=path.keys, where=where) if attribute.many else where
        return Not(found) if negate else found

    def _expression(self, node: Any, scope: _Scope | None) -> Predicate:
        self._terms += 1
        if self._terms > MOST_TERMS:
            raise invalid_filter(f"A filter has at most {MOST_TERMS} comparisons.")
        operator = str(node.value).lower()
        value = node.comp_value.value if node.comp_value is not None else None
        if isinstance(value, str):
            value = _storable(value)
        if isinstance(node.attr_path.attr_name, ast.Filter):
            return self._value_path(node.attr_path.attr_name, scope, (operator, value))
        if scope is not None:
            return self._inner(scope, self._sub_attribute(node.attr_path, scope), operator, value)
        path = self._find(node.attr_path)
        if path is None and node.attr_path.uri is None and node.attr_path.sub_attr is None:
            name = _meant(str(node.attr_path.attr_name), self._tolerant)
            path = self._type.find(None, name, None, tolerant=self._tolerant)
        if path is None:
            raise _unknown(_text_of(node.attr_path), self._type)
        found = comparison(self._type, path, operator, value)
        self._conditions += terms_of(found)  # an extension is there where any attribute of it is
        if self._conditions > MOST_CONDITIONS:
            raise invalid_filter("The filter names whole extensions too often: name attributes.")
        return found

    def _inner(self, scope: _Scope, sub: Attribute, operator: str, value: Any) -> Predicate:
        target = Target(keys=(*scope.keys, sub.name), kind=kind_of(sub), exact=sub.exact)
        return leaf_of(target, sub, operator, value)

    def _sub_attribute(self, node: Any, scope: _Scope) -> Attribute:
        if node.sub_attr is not None or node.uri is not None:
            raise invalid_filter(f"{scope.attribute.name} has no attribute {_text_of(node)}.")
        return self._part(scope, _text_of(node))

    def _part(self, scope: _Scope, name: str) -> Attribute:
        found = scope.attribute.sub.get(name.casefold())
        if found is None:
            raise invalid_filter(f"{scope.attribute.name} has no attribute {name[:100]}.")
        return found

    def _find(self, node: Any) -> Path | None:
        if isinstance(node.attr_name, ast.Filter):
            raise invalid_filter("Brackets do not follow brackets.")
        sub = node.sub_attr.value if node.sub_attr is not None else None
        return self._type.find(node.uri, str(node.attr_name), sub, tolerant=self._tolerant)


def _of_many(path: Path) -> Attribute:
    attribute = path.attribute
    if attribute is None or not attribute.many or not attribute.is_complex:
        raise invalid_path("Brackets select entries of a multi-valued attribute.")
    return attribute


def _meant(name: str, tolerant: bool) -> str:
    """PingOne's documentation filters by ``email``."""
    return "emails" if tolerant and name.casefold() == "email" else name


def _storable(text: str) -> str:
    """Text that a stored value can equal: databases hold no NUL and no lone surrogates."""
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise invalid_filter("A value holds a character that no attribute can have.")
    return text


def _text_of(node: Any) -> str:
    parts: Sequence[str] = [str(node.attr_name)] if isinstance(node.attr_name, str) else ["…"]
    if node.sub_attr is not None:
        parts = [*parts, str(node.sub_attr.value)]
    return ".".join(parts)


def _unknown(name: str, resource_type: ResourceType) -> Exception:
    return invalid_filter(f"{resource_type.name} has no attribute {name[:100]}.")
