"""Text to tree, by the grammar in `grammar/attn.lark`. The one module that knows lark.

lark cuts a text into words and derives it; `build` makes nodes of the derivation, `mistakes` diagnostics of a failure.
Nothing here recurses, so that no text however deep can break it.
"""

import sys
from collections.abc import Callable, Sequence
from functools import cache
from hashlib import sha256
from importlib.resources import files
from io import BytesIO
from itertools import islice
from typing import Any

from lark import Lark, Token, Tree, UnexpectedCharacters, UnexpectedToken
from lark import __version__ as lark_version
from lark.lexer import PatternStr
from lark.parsers.lalr_interactive_parser import InteractiveParser

from maskdsl.base.cache import keep, kept
from maskdsl.base.diagnostics import AttnError, Diagnostic
from maskdsl.base.errors.language.syntax import FileTooLarge, NestingTooDeep, TooManyWords
from maskdsl.base.source import Source, Span
from maskdsl.base.text import FORBIDDEN
from maskdsl.syntax import tree
from maskdsl.syntax.build import BUILDERS
from maskdsl.syntax.comments import attach_comments, find_comments
from maskdsl.syntax.mistakes import (
    END,
    Word,
    explain_character,
    explain_word,
    find_edges,
    forbidden_characters,
    next_part,
)

LARGEST_TEXT = 1_000_000
MOST_WORDS = 60_000
DEEPEST = 100
MOST_ERRORS = 10
_STARTS = ["file", "declaration", "statement", "expression"]


def parse(source: Source) -> tree.File:
    """The tree of a whole file; `AttnError` with the mistakes found if it is none."""
    words = _words(source)
    file: tree.File = _node(source, words, "file")
    comments = find_comments(source, ((word.start_pos or 0, word.end_pos or 0) for word in words))
    return attach_comments(file, comments)


def parse_expression(source: Source) -> tree.Expression:
    """The tree of one expression, such as a value given on the command line."""
    expression: tree.Expression = _node(source, _words(source), "expression")
    return expression


def parse_statement(source: Source) -> tree.Statement:
    """The tree of one statement of a pattern."""
    statement: tree.Statement = _node(source, _words(source), "statement")
    return statement


@cache
def _lark() -> Lark:
    """The parser of the grammar. Its tables take far longer to make than to read, so they are kept on disk."""
    grammar = files("maskdsl.grammar").joinpath("attn.lark").read_text(encoding="utf-8")
    made_of = f"{grammar}\n{_STARTS}\n{lark_version}\n{sys.version_info[:2]}"
    name = f"grammar_{sha256(made_of.encode()).hexdigest()[:24]}.tables"
    tables = kept(name)
    known = None if tables is None else _loaded(tables)
    if known is not None:
        return known
    lark = Lark(grammar, parser="lalr", lexer="basic", start=_STARTS, propagate_positions=True)
    made = BytesIO()
    lark.save(made)
    keep(name, made.getvalue())
    return lark


def _loaded(tables: bytes) -> Lark | None:
    """The parser of kept tables; None where they are no use, as those of another lark, whatever it makes of them."""
    try:
        lark = Lark.load(BytesIO(tables))
        lark.parse('use "a" pattern a(n = 1) { attend q }', start=_STARTS[0])
    except Exception:
        return None
    return lark


def _words(source: Source) -> list[Token]:
    """The words of a text. Every place that makes no word is reported."""
    if len(source.text) > LARGEST_TEXT:
        raise AttnError(FileTooLarge(name=source.name, limit=LARGEST_TEXT))
    text, mistakes = FORBIDDEN.sub(" ", source.text), forbidden_characters(source, MOST_ERRORS)
    while len(mistakes) < MOST_ERRORS:
        try:
            words = list(islice(_lark().lex(text), MOST_WORDS + 1))
        except UnexpectedCharacters as failure:
            mistake = explain_character(source, failure.pos_in_stream or 0)
            mistakes.append(mistake)
            assert mistake.span is not None
            start, end = mistake.span.start, mistake.span.end
            text = text[:start] + " " * (end - start) + text[end:]
            continue
        if len(words) > MOST_WORDS:
            last = words[-1]
            span = Span(source, last.start_pos or 0, last.end_pos or 0)
            raise AttnError(TooManyWords(span=span, name=source.name, limit=MOST_WORDS))
        break
    if mistakes:
        raise AttnError(*sorted(mistakes, key=lambda each: each.span.start if each.span is not None else 0))
    return words


def _node(source: Source, words: Sequence[Token], start: str) -> Any:
    derivation = _derive(words, start)
    if isinstance(derivation, Tree):
        return _build(source, derivation)
    raise AttnError(*_mistakes(source, words, *derivation))


def _derive(words: Sequence[Token], start: str) -> Tree[Token] | tuple[int, frozenset[str]]:
    """The derivation of the words from a rule, or the place of the first wrong one and what was accepted there."""
    try:
        parser = _fed(words, start)
        derivation = parser.feed_token(Token("$END", ""))
    except UnexpectedToken as failure:
        at = next((at for at, word in enumerate(words) if word is failure.token), len(words))
        accepts: Callable[[], set[str]] = _fed(words[:at], start).accepts  # what came before, without a look ahead
        return at, frozenset(_plain(kind) for kind in accepts())
    assert isinstance(derivation, Tree)
    return derivation


def _fed(words: Sequence[Token], start: str) -> InteractiveParser:
    parser = _lark().parse_interactive("", start=start)
    for word in words:
        parser.feed_token(word)
    return parser


@cache
def _spellings() -> dict[str, str]:
    """The text of every keyword and mark that has only one."""
    return {
        terminal.name: terminal.pattern.value
        for terminal in _lark().terminals
        if isinstance(terminal.pattern, PatternStr)
    } | {"$END": END}


def _plain(kind: str) -> str:
    return _spellings().get(kind, kind)


def _mistakes(source: Source, words: Sequence[Token], at: int, accepted: frozenset[str]) -> list[Diagnostic]:
    """The first mistake, and those of the declarations and statements behind it, read one by one."""
    plain = [Word(_plain(word.type), str(word), word.start_pos or 0, word.end_pos or 0) for word in words]
    mistakes = [explain_word(source, plain, at, accepted)]
    edges = find_edges(source, plain)
    while len(mistakes) < MOST_ERRORS:
        part = next_part(plain, edges, at)
        if part is None:
            break
        begin, end, start = part
        derivation = _derive(words[begin:end], start)
        if isinstance(derivation, Tree):
            at = end
        else:
            wrong, accepted = derivation
            mistakes.append(explain_word(source, plain[begin : end + 1], wrong, accepted))
            at = begin + max(wrong, 1)
    return mistakes


def _build(source: Source, derivation: Tree[Token]) -> Any:
    """The node of a derivation, from the leaves up."""
    pending: list[Any] = [derivation]
    downward: list[Any] = []
    while pending:
        branch = pending.pop()
        downward.append(branch)
        if isinstance(branch, Tree):
            pending += branch.children
    built: list[Any] = []
    depths: list[int] = []
    mistakes: list[Diagnostic] = []
    for branch in reversed(downward):
        if not isinstance(branch, Tree):
            built.append(branch)
            depths.append(0)
            continue
        span, first = _span(source, branch), len(built) - len(branch.children)
        try:
            node = BUILDERS[branch.data](span, built[first:])
        except AttnError as error:
            mistakes += error.diagnostics
            node = tree.Name("_", span=span)
        depth = max(depths[first:], default=0) + isinstance(node, tree.Node)
        if depth > DEEPEST:
            raise AttnError(NestingTooDeep(span=span, limit=DEEPEST))
        built[first:], depths[first:] = [node], [depth]
    if mistakes:
        raise AttnError(*mistakes[:MOST_ERRORS])
    return built[0]


def _span(source: Source, derivation: Tree[Token]) -> Span:
    """Where a derivation stands. A file is all of its text: it may have no words, and then no position in lark."""
    if derivation.data == "file":
        return Span(source, 0, len(source.text))
    return Span(source, derivation.meta.start_pos, derivation.meta.end_pos)
