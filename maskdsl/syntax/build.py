"""Builds the nodes of the tree: one function for every rule of `attn.lark`.

A builder gets the span of the rule and the nodes of its children; words of the text only if the grammar keeps them.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.language.syntax import ForeignSpelling, NotQuantifier, NumberTooLarge, UnknownEscape
from maskdsl.base.source import Span
from maskdsl.syntax import tree
from maskdsl.syntax.restrictions import check_conditional, check_or, check_where

_LARGEST_INTEGER = 2**63 - 1
QUANTIFIERS = ("any", "all", "sum")
ESCAPES = {"\\": "\\", '"': '"', "n": "\n", "r": "\r", "t": "\t"}
_PYTHON_WORDS = {"true": "True", "false": "False"}

_Children = Sequence[Any]


def _integer(span: Span, children: _Children) -> tree.Integer:
    digits = children[0].replace("_", "").lstrip("0") or "0"
    if len(digits) > len(str(_LARGEST_INTEGER)) or int(digits) > _LARGEST_INTEGER:
        raise AttnError(NumberTooLarge(span=span, kind="integer", limit="2**63 - 1"))
    return tree.Integer(int(digits), span=span)


def _floating(span: Span, children: _Children) -> tree.Float:
    value = float(children[0])
    if math.isinf(value):
        raise AttnError(NumberTooLarge(span=span, kind="float", limit="about 1.8e308"))
    return tree.Float(value, span=span)


def _string(span: Span, children: _Children) -> tree.String:
    def unescape(match: re.Match[str]) -> str:
        if match[1] not in ESCAPES:
            start = span.start + 1 + match.start()
            escape = Span(span.source, start, start + 2)
            raise AttnError(UnknownEscape(span=escape, escape=match[0]))
        return ESCAPES[match[1]]

    return tree.String(re.sub(r"\\(.)", unescape, children[0][1:-1]), span=span)


def _name(span: Span, children: _Children) -> tree.Name:
    word = str(children[0])
    if word in _PYTHON_WORDS:
        raise AttnError(ForeignSpelling(span=span, found=word, advice=f"write `{_PYTHON_WORDS[word]}`"))
    return tree.Name(word, span=span)


def _quantifier(span: Span, children: _Children) -> tree.Quantifier:
    kind, body, variable, domain = children
    if kind.id not in QUANTIFIERS:
        raise AttnError(NotQuantifier(span=kind.span, name=kind.id))
    return tree.Quantifier(kind.id, body, variable, domain, span=span)


def _comparisons(span: Span, children: _Children) -> tree.Comparison:
    return tree.Comparison(tuple(children[::2]), tuple(str(operator) for operator in children[1::2]), span=span)


def _argument(span: Span, children: _Children) -> tree.Argument:
    *keyword, value = children
    return tree.Argument(keyword[0] if keyword else None, value, span=span)


def _macro(span: Span, children: _Children) -> tree.MacroDeclaration:
    called, parameters, *lets, body = children
    return tree.MacroDeclaration(called, parameters or (), tuple(lets), body, span=span)


def _pattern(span: Span, children: _Children) -> tree.PatternDeclaration:
    called, parameters, *statements = children
    return tree.PatternDeclaration(called, parameters or (), tuple(statements), span=span)


def _pooled_space(span: Span, children: _Children) -> tree.PooledSpaceStatement:
    name, pooling, source, box = children
    return tree.PooledSpaceStatement(name, pooling, source, None, box, span=span)


def _let(span: Span, children: _Children) -> tree.LetStatement:
    return tree.LetStatement(children[0], children[1], span=span)


def _branch(span: Span, children: _Children) -> tree.BranchStatement:
    name, variable, domain, *statements = children
    return tree.BranchStatement(name, variable, domain, tuple(statements), span=span)


def _where(span: Span, children: _Children) -> tree.Where:
    made = tree.Where(*children, span=span)
    check_where(made)
    return made


def _normalize(span: Span, children: _Children) -> tree.NormalizeStatement:
    function, by = (each and each.id for each in children)
    return tree.NormalizeStatement(function, by, span=span)


def _conditional(span: Span, children: _Children) -> tree.Conditional:
    made = tree.Conditional(*children, span=span)
    check_conditional(made)
    return made


def _binary(span: Span, children: _Children) -> tree.Binary:
    made = tree.Binary(str(children[1]), children[0], children[2], span=span)
    check_or(made)
    return made


def _several(span: Span, children: _Children) -> tuple[Any, ...]:
    return tuple(children)


Builders = Mapping[str, Callable[[Span, _Children], Any]]

BUILDERS: Builders = {
    "file": lambda span, children: tree.File(tuple(children), span=span),
    "use": lambda span, children: tree.UseDeclaration(children[0], span=span),
    "macro": _macro,
    "pattern": _pattern,
    "stack": lambda span, children: tree.StackDeclaration(children[0], children[1] or (), children[2], span=span),
    "macro_let": _let,
    "parameters": _several,
    "parameter": lambda span, children: tree.Parameter(*children, span=span),
    "space": lambda span, children: tree.SpaceStatement(children[0], tuple(children[1:]), span=span),
    "axis": lambda span, children: tree.AxisDeclaration(*children, span=span),
    "pooled_space": _pooled_space,
    "grouped_space": lambda span, children: tree.PooledSpaceStatement(*children, span=span),
    "sequence": lambda span, children: tree.SequenceStatement(str(children[0]), tuple(children[1::2]), span=span),
    "input": lambda span, children: tree.InputStatement(children[0], children[1], children[2] or (), span=span),
    "coordinate": lambda span, children: tree.CoordinateStatement(*children, span=span),
    "let": _let,
    "route": lambda span, children: tree.RouteStatement(*children, span=span),
    "attend": lambda span, children: tree.AttendStatement(children[0], span=span),
    "require": lambda span, children: tree.RequireStatement(children[0], span=span),
    "score": lambda span, children: tree.ScoreStatement(children[0], span=span),
    "scale": lambda span, children: tree.ScaleStatement(children[0], span=span),
    "value": lambda span, children: tree.ValueStatement(children[0], span=span),
    "weight": lambda span, children: tree.WeightStatement(children[0], span=span),
    "sink": lambda span, children: tree.SinkStatement(children[0], span=span),
    "normalize": _normalize,
    "order": lambda span, children: tree.OrderStatement(children[0], tuple(children[1:]), span=span),
    "auto_order": lambda span, children: tree.AutoOrderStatement(children[0], span=span),
    "assertion": lambda span, children: tree.AssertStatement(*children, span=span),
    "branch": _branch,
    "expressions": _several,
    "conditional": _conditional,
    "where": _where,
    "arrow": lambda span, children: tree.Arrow(*children, span=span),
    "comparisons": _comparisons,
    "binary": _binary,
    "unary": lambda span, children: tree.Unary(str(children[0]), children[1], span=span),
    "attribute": lambda span, children: tree.Attribute(*children, span=span),
    "index": lambda span, children: tree.Index(*children, span=span),
    "tuple": lambda span, children: tree.Tuple((children[0], *(children[1] or ())), span=span),
    "call": lambda span, children: tree.Call(children[0], children[1] or (), span=span),
    "arguments": _several,
    "argument": _argument,
    "gathered": lambda span, children: tree.Argument(None, children[0], children[1], span=span),
    "quantifier": _quantifier,
    "range": lambda span, children: tree.HalfOpenRange(*children, span=span),
    "boolean": lambda span, children: tree.Boolean(children[0] == "True", span=span),
    "integer": _integer,
    "float": _floating,
    "string": _string,
    "name": _name,
}


FIRST_BUILDERS: Builders = {
    **BUILDERS,
    "where": lambda span, children: tree.Where(*children, span=span),
    "conditional": lambda span, children: tree.Conditional(*children, span=span),
    "binary": lambda span, children: tree.Binary(str(children[1]), children[0], children[2], span=span),
}
"""The builders of the first version, in which a `where` ends before `or`, `if` and arrows, without brackets."""
