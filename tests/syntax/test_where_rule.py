"""What is refused beside a `where` is what one rule of a grammar refuses; the rule is written here as that grammar.

The product parses more than the rule allows, so that an error can show both readings, and checks the tree.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lark import Lark, Token, UnexpectedInput
from lark.parsers.lalr_interactive_parser import InteractiveParser

from maskdsl.base.diagnostics import AttnError
from maskdsl.base.source import Source
from maskdsl.syntax import tree
from maskdsl.syntax.parse import parse_expression
from tests.support.drawn import examples

GRAMMAR = (Path(__file__).parents[2] / "grammar" / "attn.lark").read_text()
RULE = """
?expression: alternatives
           | disjunction "if" alternatives "else" expression -> conditional
?alternatives: disjunction
             | restriction
             | disjunction OR restriction -> binary

// `where` takes all behind it. An `or` in it needs brackets, and so does a `not` in front of what it restricts.
restriction: restricted "where" condition -> where
?restricted: comparison
           | conjunction AND comparison -> binary

?disjunction: conjunction
            | disjunction OR conjunction -> binary
?conjunction: negation
            | conjunction AND negation -> binary
?negation: comparison
         | NOT negation -> unary
?comparison: operand
           | operand (COMPARE operand)+ -> comparisons
?operand: sum
        | name "->" name -> arrow

// The same without arrows.
?condition: denial
          | condition AND denial -> binary
?denial: demand
       | NOT denial -> unary
?demand: sum
       | sum (COMPARE sum)+ -> comparisons

"""
WORDS = ("a -> b", "x", "(", ")", "where", "and", "or", "not", "if", "else", "==")
LEAVES = ("a -> b", "x", "x == x", "x == a -> b == x", "x == (a -> b) == x")
LONGEST = 5
"""Of all expressions that are tried, in words."""


@cache
def rule() -> Lark:
    before, rest = GRAMMAR.split("?expression:")
    return Lark(before + RULE + "?sum:" + rest.split("?sum:")[1], parser="lalr", start="expression")


@cache
def product() -> Lark:
    return Lark(GRAMMAR, parser="lalr", start="expression")


def expressions(longest: int) -> Iterator[str]:
    """All that the product parses, of at most this many words."""
    words = {word: list(product().lex(word)) for word in WORDS}

    def longer(parser: InteractiveParser, before: tuple[str, ...]) -> Iterator[str]:
        if "$END" in parser.accepts():
            yield " ".join(before)
        for word, tokens in words.items() if len(before) < longest else ():
            if (*before[-1:], word) == ("x", "("):  # a call
                continue
            following = parser.copy()
            try:
                for token in tokens:
                    following.feed_token(token)
            except UnexpectedInput:
                continue
            yield from longer(following, (*before, word))

    return longer(product().parse_interactive(""), ())


def shape(node: object) -> str:
    """A tree of either parser, in brackets."""
    match node:
        case Token():
            return str(node)
        case tree.Name(id=name):
            return name
        case tree.Where(relation=relation, condition=condition):
            return f"({shape(relation)} where {shape(condition)})"
        case tree.Binary(operator=operator, left=left, right=right):
            return f"({shape(left)} {operator} {shape(right)})"
        case tree.Comparison(operands=operands):
            return f"({' == '.join(map(shape, operands))})"
        case tree.Unary(operand=operand):
            return f"(not {shape(operand)})"
        case tree.Conditional(condition=condition, then=then, otherwise=otherwise):
            return f"({shape(then)} if {shape(condition)} else {shape(otherwise)})"
        case tree.Arrow(query=query, key=key):
            return f"({shape(query)} -> {shape(key)})"
    children = [shape(each) for each in node.children]
    match node.data, children:
        case "where", [relation, condition]:
            return f"({relation} where {condition})"
        case "conditional", [then, condition, otherwise]:
            return f"({then} if {condition} else {otherwise})"
        case "arrow", [query, key]:
            return f"({query} -> {key})"
        case "name", [name]:
            return name
        case _:
            return f"({' '.join(children)})"


def check(text: str) -> None:
    """Both refuse it, or both read it alike."""
    try:
        expected = shape(rule().parse(text))
    except UnexpectedInput:
        with pytest.raises(AttnError) as caught:
            parse_expression(Source("text", text))
        (error,) = {each.code for each in caught.value.diagnostics}
        assert error == "E251", text
        return
    assert shape(parse_expression(Source("text", text))) == expected, text


def test_short_expressions() -> None:
    found = [text for text in expressions(LONGEST) if "where" in text]
    assert len(found) > 60
    for text in found:
        check(text)


def test_arrows_between_comparisons() -> None:
    for operand in ("a -> b", "(a -> b)", "(x) == a -> b", "(a -> b) == (x)"):
        check(f"x where x == {operand} == x")
        check(f"x where {operand} == x")


def drawn(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    forms = ["({0})", "{0} where {1}", "{0} or {1}", "{0} and {1}", "not {0}", "{0} if {1} else {2}"]
    return st.builds(str.format, st.sampled_from(forms), inner, inner, inner)


@settings(max_examples=examples(150))
@given(st.recursive(st.sampled_from(LEAVES), drawn, max_leaves=8))
def test_longer_expressions(text: str) -> None:
    try:
        product().parse(text)
    except UnexpectedInput:
        return
    check(text)
