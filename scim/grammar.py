# pyright: basic, reportUndefinedVariable=false, reportRedeclaration=false, reportIncompatibleMethodOverride=false
# ruff: noqa: F821, RUF012
"""scim2-filter-parser's lexer and parser, mended: JSON numbers and strings, keywords as whole words,
typed literals, and OR below AND below NOT. Its transpiler is never used.
"""

from __future__ import annotations

import json

from scim2_filter_parser.lexer import SCIMLexer
from scim2_filter_parser.parser import SCIMParser

# What may follow a keyword or number; else it is the start of a longer name.
_END = r"(?![A-Za-z0-9_$:.\-])"


class FilterLexer(SCIMLexer):
    tokens = set(SCIMLexer.tokens)
    ignore = " \t"

    @_(rf"(?i:false){_END}")
    def FALSE(self, t):
        t.value = False
        return t

    @_(rf"(?i:true){_END}")
    def TRUE(self, t):
        t.value = True
        return t

    @_(rf"(?i:null){_END}")
    def NULL(self, t):
        t.value = None
        return t

    @_(rf"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?{_END}")
    def NUMBER(self, t):
        t.value = json.loads(t.value)
        return t

    @_(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
    def COMP_VALUE(self, t):
        t.value = json.loads(t.value)
        return t


class FilterParser(SCIMParser):
    tokens = FilterLexer.tokens
    start = "filter"
    precedence = (("left", OR), ("left", AND), ("right", NOT))

    # A derived sly parser takes its grammar from its own names only.
    filter = SCIMParser.filter
    value_path = SCIMParser.value_path
    attr_exp = SCIMParser.attr_exp
    log_exp = SCIMParser.log_exp
    comp_value = SCIMParser.comp_value
    attr_path = SCIMParser.attr_path
    sub_attr = SCIMParser.sub_attr
