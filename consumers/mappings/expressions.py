"""JMESPath, bounded: parsed once, told apart from absent values, and never longer at work than allowed.

Knows expressions and JSON; not what a mapping does with them.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, Final, cast

import orjson
from jmespath import functions
from jmespath.exceptions import JMESPathError
from jmespath.parser import Parser
from jmespath.visitor import TreeInterpreter

from consumers.unusable import Unusable

MAX_LENGTH: Final = 2000
MAX_DEPTH: Final = 20
MAX_NODES: Final = 200
MAX_GROWTH: Final = 50
"""How many times longer than its input the result of an expression may get at most."""
MAX_STEPS: Final = 1_000_000
"""Steps that all expressions together may take for one input."""

Node = Mapping[str, Any]


class Absent(Enum):
    """What a plain path finds where its last member is not there: not the same as null."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT
Root = Mapping[str, Any]


class InvalidExpression(ValueError):
    """The expression is not JMESPath, or is larger than expressions may be."""


class Steps(TreeInterpreter):
    """JMESPath's interpreter with a budget: one for each input, shared by all its expressions."""

    def __init__(self, most: int = MAX_STEPS) -> None:
        super().__init__()
        self.left = most
        self._visits: dict[str, Callable[..., Any]] = {}

    def visit_comparator(self, node: Node, value: Any) -> Any:
        left, right = (self.visit(child, value) for child in node["children"])
        return _COMPARES[node["value"]](left, right)

    def visit(self, node: Node, *args: Any, **kwargs: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise Unusable("too_complex", "Reading this event takes more steps than are allowed.")
        kind: str = node["type"]
        method = self._visits.get(kind)
        if method is None:
            method = self._visits[kind] = getattr(self, f"visit_{kind}")
        return method(node, *args, **kwargs)


_Run = Callable[[Any, Steps], Any]
_Compare = Callable[[Any, Any], Any]


class Expression:
    """One expression, ready to be evaluated as often as one likes.

    ``path``: its member names where it is a plain path such as ``payload.data.email``, else None.
    """

    __slots__ = ("_run", "path", "text")

    def __init__(self, text: str) -> None:
        """Raises InvalidExpression."""
        tree = _parsed(text)
        self.text = text
        self.path = _path(tree)
        self._run = _compiled(tree)

    def value(self, root: Root, steps: Steps) -> Any:
        """What it finds; null where it finds nothing. Raises Unusable."""
        if self.path is not None:
            found = _walk(self.path, root)
            return None if found is ABSENT else found
        try:
            return self._run(root, steps)
        except Unusable:
            raise
        except Exception:  # jmespath's own errors, and what its functions raise beside them
            raise Unusable(
                "expression_failed", f"The expression {self.text} cannot be used on this event."
            ) from None

    def found(self, root: Root, steps: Steps) -> Any:
        """As ``value``, but ABSENT where a plain path leads nowhere."""
        return _walk(self.path, root) if self.path is not None else self.value(root, steps)

    def holds(self, root: Root, steps: Steps) -> bool:
        """Whether it is true as JMESPath has it: not null, false, nor empty."""
        return not is_false(self.value(root, steps))


def is_false(value: Any) -> bool:
    """JMESPath's false: null, false, and empty text, lists and objects; 0 is true."""
    if value is None or value is False:
        return True
    return isinstance(value, (str, list, dict)) and not value


def _walk(path: Sequence[str], root: Root) -> Any:
    value: Any = root
    for name in path:
        if not isinstance(value, dict):
            return ABSENT
        value = cast("dict[str, Any]", value).get(name, ABSENT)
        if value is ABSENT:
            return ABSENT
    return value


def _parsed(text: str) -> Node:
    if len(text) > MAX_LENGTH:
        raise InvalidExpression(f"an expression may have {MAX_LENGTH} characters at most")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            # A parser of its own: the package's shared cache would keep what anybody sends.
            tree = cast("Node", Parser().parse(text).parsed)
    except RecursionError:
        raise InvalidExpression(f"an expression may be nested {MAX_DEPTH} deep at most") from None
    except Warning:
        raise InvalidExpression(
            f"write text as 'text', not as `text`, in the expression {text}"
        ) from None
    except (JMESPathError, ValueError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidExpression(f"not JMESPath: {said}") from None
    _check(tree)
    return tree


def _check(tree: Node) -> None:
    level, nodes = [tree], 0
    for _ in range(MAX_DEPTH):
        nodes += len(level)
        if nodes > MAX_NODES:
            raise InvalidExpression(f"an expression may have {MAX_NODES} parts at most")
        for node in level:
            _check_node(node)
        level = [child for node in level for child in _children(node)]
        if not level:
            break
    else:
        raise InvalidExpression(f"an expression may be nested {MAX_DEPTH} deep at most")
    if _growth(tree) > MAX_GROWTH:
        raise InvalidExpression(
            f"its result may become more than {MAX_GROWTH} times longer than the event"
        )


_FUNCTIONS: Final = frozenset(cast("Mapping[str, Any]", functions.Functions.FUNCTION_TABLE))


def _check_node(node: Node) -> None:
    if _is_literal(node) and not _can_be_stored(node["value"]):
        raise InvalidExpression("it holds a character or a number that no database can store")
    if node["type"] == "function_expression":
        if node["value"] not in _FUNCTIONS:
            raise InvalidExpression(f"JMESPath has no function {node['value']}")
        if (
            node["value"] == "join"
            and node["children"][:1]
            and not _is_literal(node["children"][0])
        ):
            raise InvalidExpression("the separator of join must be written out, as in join(' ', …)")


def _can_be_stored(value: Any) -> bool:
    try:
        return b"\\u0000" not in orjson.dumps(value)
    except TypeError:  # a lone surrogate, or more than 64 bits
        return False


def _is_literal(node: Node) -> bool:
    return node["type"] == "literal"


def _children(node: Node) -> list[Node]:
    # The parts of a slice are numbers, and a list of parts may hold nothing at all.
    return [child for child in node["children"] if isinstance(child, dict)]


_SCALARS: Final = frozenset({"comparator", "not_expression"})
_SIDE_BY_SIDE: Final = frozenset(
    {"multi_select_list", "multi_select_dict", "function_expression", "or_expression"}
    | {"and_expression"}
)


def _growth(node: Node) -> int:
    """An upper bound of how often its input may be found again in its result.

    What stands side by side adds up; what reads another's result multiplies. Since no part of an
    expression sees more than its input, this bounds its work, too.
    """
    kind, children = node["type"], _children(node)
    if kind == "literal":
        return 1 + len(repr(node["value"])) // 20
    if kind == "function_expression":
        doubles = 2 if node["value"] in ("to_string", "join", "map") else 1
        if node["value"] == "map" and len(children) == 2:
            return _growth(children[0]) * _growth(children[1])
        return doubles * max(1, sum(_growth(child) for child in children))
    if kind in _SIDE_BY_SIDE or kind in _SCALARS:
        return max(1, sum(_growth(child) for child in children))
    product = 1
    for child in children:
        product *= _growth(child)
    return product


def _path(tree: Node) -> tuple[str, ...] | None:
    if tree["type"] == "field":
        return (cast("str", tree["value"]),)
    if tree["type"] != "subexpression":
        return None
    path: tuple[str, ...] = ()
    for child in tree["children"]:
        part = _path(child)
        if part is None:
            return None
        path += part
    return path


def _compiled(node: Node) -> _Run:
    """A function for the node. The commonest kinds are plain Python; the others are interpreted."""
    kind: str = node["type"]
    build = _COMPILED.get(kind)
    if build is not None:
        return build(node)
    return lambda value, steps: steps.visit(node, value)


def _literal(node: Node) -> _Run:
    held = node["value"]
    return lambda value, steps: held


def _field(node: Node) -> _Run:
    name = node["value"]
    return lambda value, steps: value.get(name) if isinstance(value, dict) else None


def _index(node: Node) -> _Run:
    at: int = node["value"]

    def run(value: Any, steps: Steps) -> Any:
        if not isinstance(value, list):
            return None
        items = cast("list[Any]", value)
        return items[at] if -len(items) <= at < len(items) else None

    return run


def _sequence(node: Node) -> _Run:
    parts = tuple(_compiled(child) for child in node["children"])

    def run(value: Any, steps: Steps) -> Any:
        for part in parts:
            value = part(value, steps)
        return value

    return run


def _either(node: Node) -> _Run:
    left, right = (_compiled(child) for child in node["children"])

    def run(value: Any, steps: Steps) -> Any:
        found = left(value, steps)
        return right(value, steps) if is_false(found) else found

    return run


def _both(node: Node) -> _Run:
    left, right = (_compiled(child) for child in node["children"])

    def run(value: Any, steps: Steps) -> Any:
        found = left(value, steps)
        return found if is_false(found) else right(value, steps)

    return run


def _comparison(node: Node) -> _Run:
    left, right = (_compiled(child) for child in node["children"])
    compare = _COMPARES[node["value"]]
    return lambda value, steps: compare(left(value, steps), right(value, steps))


def _ordered(compare: _Compare) -> _Compare:
    """Numbers and texts have an order among their own kind. Of other pairs nothing is known: null,
    as JMESPath has it, where its package fails on a number beside a text.
    """

    def run(left: Any, right: Any) -> bool | None:
        if isinstance(left, bool) or isinstance(right, bool):
            return None
        for kind in ((int, float), str):
            if isinstance(left, kind) and isinstance(right, kind):
                return compare(left, right)
        return None

    return run


_EQUALS: Final = cast("Mapping[str, _Compare]", TreeInterpreter.COMPARATOR_FUNC)
_COMPARES: Final[Mapping[str, _Compare]] = {
    "eq": _EQUALS["eq"],
    "ne": _EQUALS["ne"],
    "lt": _ordered(operator.lt),
    "lte": _ordered(operator.le),
    "gt": _ordered(operator.gt),
    "gte": _ordered(operator.ge),
}


_COMPILED: Final[Mapping[str, Callable[[Node], _Run]]] = {
    "literal": _literal,
    "field": _field,
    "index": _index,
    "subexpression": _sequence,
    "index_expression": _sequence,
    "pipe": _sequence,
    "or_expression": _either,
    "and_expression": _both,
    "comparator": _comparison,
    "current": lambda node: lambda value, steps: value,
    "identity": lambda node: lambda value, steps: value,
}
