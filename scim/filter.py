"""SCIM filters and PATCH paths (RFC 7644 sections 3.4.2.2 and 3.5.2) to typed predicates.

An unknown attribute is an error, never a dropped term. Knows no HTTP and no SQL.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, cast

from scim2_filter_parser import ast
from scim2_filter_parser.parser import SCIMParserError

from scim.errors import invalid_filter, invalid_path
from scim.grammar import FilterLexer, FilterParser
from scim.schema import PROVISIONING, Attribute, Path, ResourceType
from service.directory.predicates import (
    And,
    Compare,
    Constant,
    Entry,
    Kind,
    Not,
    Operator,
    Or,
    Predicate,
    Present,
    Target,
    Value,
)

LONGEST: Final = 8192
DEEPEST: Final = 32
MOST_TERMS: Final = 200

_KINDS: Final[dict[str, Kind]] = {
    "string": "string",
    "reference": "string",
    "binary": "string",
    "boolean": "boolean",
    "integer": "number",
    "decimal": "number",
    "dateTime": "instant",
}
_OPERATORS: Final[frozenset[str]] = frozenset(("eq", "co", "sw", "ew", "gt", "ge", "lt", "le"))
_SUBSTRING: Final = frozenset(("co", "sw", "ew"))
_STRINGS: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_EQUALITY: Final = re.compile(r'\s*([A-Za-z][A-Za-z0-9_.:-]*)\s+[eE][qQ]\s+"([^"\\\x00-\x1f]*)"\s*')
_NAME: Final = re.compile(r"[A-Za-z$][A-Za-z0-9_$:.\-]*")
_INSTANT: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d:\d\d)(?:\.(\d+))?)?([Zz]|[+-]\d\d:\d\d)?"
)
_VERSION: Final = re.compile(r'(?:W/)?"?(\d{1,9})"?')


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchPath:
    """The target of a PATCH operation; ``where`` selects entries of a multi-valued attribute."""

    path: Path
    where: Predicate | None = None


def parse_filter(text: str, resource_type: ResourceType, *, tolerant: bool) -> Predicate:
    """The predicate of a filter. Raises ScimError 400 ``invalidFilter`` for whatever is wrong."""
    simple = _EQUALITY.fullmatch(text) if len(text) <= LONGEST else None
    if simple is not None:  # nearly all that identity providers send
        path = resource_type.resolve(simple[1], tolerant=tolerant)
        if path is None:
            raise _unknown(simple[1], resource_type)
        return _comparison(resource_type, path, "eq", _storable(simple[2]))
    return _Reader(resource_type, tolerant=tolerant).predicate(_parse(text))


def parse_path(text: str, resource_type: ResourceType, *, tolerant: bool) -> PatchPath | None:
    """The target that a PATCH path names; None for an attribute that nobody knows.

    Raises ScimError 400 ``invalidPath`` for a malformed path, ``invalidFilter`` for its filter.
    """
    if _NAME.fullmatch(text):
        path = resource_type.resolve(text, tolerant=tolerant)
        return PatchPath(path=path) if path else None
    node = _unwrapped(_parse(f"{text} pr"))
    if not isinstance(node, ast.AttrExpr) or str(node.value).lower() != "pr":
        raise invalid_path("A path is an attribute name, with a filter in brackets where needed.")
    return _Reader(resource_type, tolerant=tolerant).target(node.attr_path)


def parse_instant(text: str) -> datetime | None:
    """An RFC 3339 time, of any number of fractional digits; without a zone it is UTC."""
    found = _INSTANT.fullmatch(text.strip())
    if found is None:
        return None
    fraction = (found[3] or "0")[:6].ljust(6, "0")
    zone = "+00:00" if found[4] in (None, "Z", "z") else found[4]
    try:
        moment = datetime.fromisoformat(f"{found[1]}T{found[2] or '00:00:00'}.{fraction}{zone}")
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


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

    def predicate(self, node: Any, scope: _Scope | None = None) -> Predicate:
        if isinstance(node, ast.Filter):
            if _namespace(node):
                return self._value_path(node, scope, None)
            inner = self.predicate(node.expr, scope)
            return Not(inner) if node.negated else inner
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
        if path.attribute is None or not path.attribute.many or not path.attribute.is_complex:
            raise invalid_path("Brackets select entries of a multi-valued attribute.")
        where = self.predicate(brackets.expr, _Scope(path.attribute, ()))
        return PatchPath(path=path, where=where)

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
        if path is None:
            raise _unknown(_text_of(node.attr_path), self._type)
        return _comparison(self._type, path, operator, value)

    def _inner(self, scope: _Scope, sub: Attribute, operator: str, value: Any) -> Predicate:
        target = Target(keys=(*scope.keys, sub.name), kind=_kind(sub), exact=sub.exact)
        return _leaf(target, sub, operator, value)

    def _sub_attribute(self, node: Any, scope: _Scope) -> Attribute:
        found = scope.attribute.sub.get(str(node.attr_name).casefold())
        if found is None or node.sub_attr is not None or node.uri is not None:
            raise invalid_filter(f"{scope.attribute.name} has no attribute {_text_of(node)}.")
        return found

    def _find(self, node: Any) -> Path | None:
        if isinstance(node.attr_name, ast.Filter):
            raise invalid_filter("Brackets do not follow brackets.")
        sub = node.sub_attr.value if node.sub_attr is not None else None
        return self._type.find(node.uri, str(node.attr_name), sub, tolerant=self._tolerant)


def _comparison(resource_type: ResourceType, path: Path, operator: str, value: Any) -> Predicate:
    """A comparison outside brackets; what is not stored in the resource is answered here."""
    attribute = path.attribute
    if attribute is None:
        return _whole_extension(path, operator)
    if attribute.returned == "never":
        raise invalid_filter(f"{attribute.name} cannot be filtered on.")
    if attribute.name == "schemas":
        return _schemas(resource_type, operator, value)
    if attribute.name == "meta":
        return _meta(resource_type, path, operator, value)
    leaf = path.sub
    if attribute.is_complex and leaf is None:
        if operator == "pr":
            return Present(target=Target(keys=path.keys, many=attribute.many))
        leaf = attribute.sub.get("value")
        if leaf is None:
            raise invalid_filter(f"Name the sub-attribute of {attribute.name} to compare.")
    described = leaf or attribute
    return _leaf(target_of(path, leaf), described, operator, value)


def target_of(path: Path, leaf: Attribute | None) -> Target:
    """Where the values of an attribute (or of this sub-attribute of it) are."""
    attribute = path.attribute
    assert attribute is not None
    described = leaf or attribute
    kind, exact = _kind(described), described.exact
    if leaf is None:
        return Target(keys=path.keys, kind=kind, exact=exact, many=attribute.many)
    if attribute.many:
        return Target(keys=path.keys, kind=kind, exact=exact, many=True, sub=leaf.name)
    return Target(keys=(*path.keys, leaf.name), kind=kind, exact=exact)


def _leaf(target: Target, attribute: Attribute, operator: str, value: Any) -> Predicate:
    if operator == "pr":
        return Present(target=target)
    if value is None:
        if operator not in ("eq", "ne"):
            raise invalid_filter(f"{operator} does not compare with null.")
        return Not(Present(target=target)) if operator == "eq" else Present(target=target)
    typed = _typed(attribute, operator, value)
    if operator == "ne":
        return Not(Compare(target=target, operator="eq", value=typed))
    return Compare(target=target, operator=_operator(operator), value=typed)


def _operator(name: str) -> Operator:
    if name not in _OPERATORS:
        raise invalid_filter(f"The operator {name} is not supported.")
    return name  # pyright: ignore[reportReturnType] - one of the literals, as just checked


def _typed(attribute: Attribute, operator: str, value: Any) -> Value:
    """The value in the attribute's type; text as Entra sends it is taken for booleans."""
    name = attribute.name
    if attribute.kind in ("boolean", "binary") and operator not in ("eq", "ne"):
        raise invalid_filter(f"{operator} does not apply to {name}, which is {attribute.kind}.")
    if attribute.kind == "boolean":
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if isinstance(value, bool):
            return value
    elif attribute.kind == "dateTime":
        if operator in _SUBSTRING:
            raise invalid_filter(f"{operator} does not apply to {name}, which is a time.")
        moment = parse_instant(value) if isinstance(value, str) else None
        if moment is not None:
            return moment
    elif attribute.kind in ("integer", "decimal"):
        if operator not in _SUBSTRING and isinstance(value, int | float):
            return value
    elif isinstance(value, str):
        return value
    elif isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # employeeNumber eq 42
    raise invalid_filter(f"The value compared with {name} must be of type {attribute.kind}.")


def _whole_extension(path: Path, operator: str) -> Predicate:
    if operator != "pr":
        raise invalid_filter("Name the attribute of the extension to compare.")
    if path.extension == PROVISIONING:
        return Constant(True)
    return Present(target=Target(keys=path.keys))


def _schemas(resource_type: ResourceType, operator: str, value: Any) -> Predicate:
    """``schemas`` follows from the resource: the core, and every extension that has data."""
    if operator == "pr":
        return Constant(True)
    if not isinstance(value, str):
        raise invalid_filter("The value compared with schemas must be of type string.")
    positive = "eq" if operator == "ne" else _operator(operator)
    terms: list[Predicate] = [Constant(_holds(resource_type.core.id, positive, value))]
    for extension in resource_type.extensions:
        if _holds(extension.id, positive, value):
            terms.append(_whole_extension(Path(extension=extension.id), "pr"))
    found = Or(tuple(terms))
    return Not(found) if operator == "ne" else found


def _meta(resource_type: ResourceType, path: Path, operator: str, value: Any) -> Predicate:
    sub = path.sub
    if operator == "pr":
        return Constant(True)
    if sub is None or sub.name == "location":
        raise invalid_filter("Compare meta.created, lastModified, resourceType or version.")
    if sub.name == "resourceType":
        if not isinstance(value, str):
            raise invalid_filter("The value compared with meta.resourceType must be a string.")
        if operator == "ne":
            return Constant(resource_type.name != value)
        return Constant(_holds(resource_type.name, _operator(operator), value))
    if sub.name == "version":
        found = _VERSION.fullmatch(value) if isinstance(value, str) else None
        if found is None or operator not in ("eq", "ne"):
            raise invalid_filter('Compare meta.version by eq with a version such as W/"1".')
        target = Target(keys=("meta", "version"), kind="number")
        same = Compare(target=target, operator="eq", value=int(found[1]))
        return Not(same) if operator == "ne" else same
    return _leaf(target_of(path, sub), sub, operator, value)


def _holds(actual: str, operator: Operator, wanted: str) -> bool:
    match operator:
        case "eq":
            return actual == wanted
        case "co":
            return wanted in actual
        case "sw":
            return actual.startswith(wanted)
        case "ew":
            return actual.endswith(wanted)
        case "gt":
            return actual > wanted
        case "ge":
            return actual >= wanted
        case "lt":
            return actual < wanted
        case "le":
            return actual <= wanted


def _kind(attribute: Attribute) -> Kind:
    found = _KINDS.get(attribute.kind)
    if found is None:
        raise invalid_filter(f"Name the sub-attribute of {attribute.name} to compare.")
    return found


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
