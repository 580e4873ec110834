"""One derivation of the grammar to one node of the tree: a function for every rule of `attn.lark`.

A builder gets the span of the rule and what its parts became, words of the text left out unless the grammar keeps them.
"""

import math
import re
from collections.abc import Callable, Sequence
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

Parts = Sequence[Any]


def _integer(span: Span, parts: Parts) -> tree.Integer:
    digits = parts[0].replace("_", "").lstrip("0") or "0"
    if len(digits) > len(str(_LARGEST_INTEGER)) or int(digits) > _LARGEST_INTEGER:
        raise AttnError(NumberTooLarge(span=span, kind="integer", limit="2**63 - 1"))
    return tree.Integer(int(digits), span=span)


def _floating(span: Span, parts: Parts) -> tree.Float:
    value = float(parts[0])
    if math.isinf(value):
        raise AttnError(NumberTooLarge(span=span, kind="float", limit="about 1.8e308"))
    return tree.Float(value, span=span)


def _string(span: Span, parts: Parts) -> tree.String:
    def unescape(match: re.Match[str]) -> str:
        if match[1] not in ESCAPES:
            start = span.start + 1 + match.start()
            position = Span(span.source, start, start + 2)
            raise AttnError(UnknownEscape(span=position, escape=match[0]))
        return ESCAPES[match[1]]

    return tree.String(re.sub(r"\\(.)", unescape, parts[0][1:-1]), span=span)


def _name(span: Span, parts: Parts) -> tree.Name:
    word = str(parts[0])
    if word in _PYTHON_WORDS:
        raise AttnError(ForeignSpelling(span=span, found=word, advice=f"write `{_PYTHON_WORDS[word]}`"))
    return tree.Name(word, span=span)


def _quantifier(span: Span, parts: Parts) -> tree.Quantifier:
    kind, body, variable, domain = parts
    if kind.id not in QUANTIFIERS:
        raise AttnError(NotQuantifier(span=kind.span, name=kind.id))
    return tree.Quantifier(kind.id, body, variable, domain, span=span)


def _comparisons(span: Span, parts: Parts) -> tree.Comparison:
    return tree.Comparison(tuple(parts[::2]), tuple(str(operator) for operator in parts[1::2]), span=span)


def _argument(span: Span, parts: Parts) -> tree.Argument:
    *keyword, value = parts
    return tree.Argument(keyword[0] if keyword else None, value, span=span)


def _macro(span: Span, parts: Parts) -> tree.MacroDeclaration:
    called, parameters, *lets, body = parts
    return tree.MacroDeclaration(called, parameters or (), tuple(lets), body, span=span)


def _pattern(span: Span, parts: Parts) -> tree.PatternDeclaration:
    called, parameters, *statements = parts
    return tree.PatternDeclaration(called, parameters or (), tuple(statements), span=span)


def _let(span: Span, parts: Parts) -> tree.LetStatement:
    return tree.LetStatement(parts[0], parts[1], span=span)


def _where(span: Span, parts: Parts) -> tree.Where:
    made = tree.Where(*parts, span=span)
    check_where(made)
    return made


def _conditional(span: Span, parts: Parts) -> tree.Conditional:
    made = tree.Conditional(*parts, span=span)
    check_conditional(made)
    return made


def _binary(span: Span, parts: Parts) -> tree.Binary:
    made = tree.Binary(str(parts[1]), parts[0], parts[2], span=span)
    check_or(made)
    return made


def _several(span: Span, parts: Parts) -> tuple[Any, ...]:
    return tuple(parts)


BUILDERS: dict[str, Callable[[Span, Parts], Any]] = {
    "file": lambda span, parts: tree.File(tuple(parts), span=span),
    "use": lambda span, parts: tree.UseDeclaration(parts[0], span=span),
    "macro": _macro,
    "pattern": _pattern,
    "stack": lambda span, parts: tree.StackDeclaration(parts[0], parts[1] or (), parts[2], span=span),
    "macro_let": _let,
    "parameters": _several,
    "parameter": lambda span, parts: tree.Parameter(*parts, span=span),
    "space": lambda span, parts: tree.SpaceStatement(parts[0], tuple(parts[1:]), span=span),
    "axis": lambda span, parts: tree.AxisDeclaration(*parts, span=span),
    "pooled_space": lambda span, parts: tree.PooledSpaceStatement(*parts, span=span),
    "sequence": lambda span, parts: tree.SequenceStatement(str(parts[0]), tuple(parts[1::2]), span=span),
    "input": lambda span, parts: tree.InputStatement(*parts, span=span),
    "coordinate": lambda span, parts: tree.CoordinateStatement(*parts, span=span),
    "let": _let,
    "route": lambda span, parts: tree.RouteStatement(*parts, span=span),
    "attend": lambda span, parts: tree.AttendStatement(parts[0], span=span),
    "require": lambda span, parts: tree.RequireStatement(parts[0], span=span),
    "score": lambda span, parts: tree.ScoreStatement(parts[0], span=span),
    "scale": lambda span, parts: tree.ScaleStatement(parts[0], span=span),
    "weight": lambda span, parts: tree.WeightStatement(parts[0], span=span),
    "order": lambda span, parts: tree.OrderStatement(parts[0], tuple(parts[1:]), span=span),
    "auto_order": lambda span, parts: tree.AutoOrderStatement(parts[0], span=span),
    "assertion": lambda span, parts: tree.AssertStatement(*parts, span=span),
    "expressions": _several,
    "conditional": _conditional,
    "where": _where,
    "arrow": lambda span, parts: tree.Arrow(*parts, span=span),
    "comparisons": _comparisons,
    "binary": _binary,
    "unary": lambda span, parts: tree.Unary(str(parts[0]), parts[1], span=span),
    "attribute": lambda span, parts: tree.Attribute(*parts, span=span),
    "index": lambda span, parts: tree.Index(*parts, span=span),
    "tuple": lambda span, parts: tree.Tuple((parts[0], *(parts[1] or ())), span=span),
    "call": lambda span, parts: tree.Call(parts[0], parts[1] or (), span=span),
    "arguments": _several,
    "argument": _argument,
    "quantifier": _quantifier,
    "range": lambda span, parts: tree.HalfOpenRange(*parts, span=span),
    "boolean": lambda span, parts: tree.Boolean(parts[0] == "True", span=span),
    "integer": _integer,
    "float": _floating,
    "string": _string,
    "name": _name,
}
