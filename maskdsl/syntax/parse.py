"""Parses a text to a syntax tree, by the grammar in `grammar/attn.lark`. No other module imports lark.

lark splits a text into words (its tokens) and derives it; `build` makes nodes of the derivation, `mistakes` makes
diagnostics of a failure. Nothing here recurses, so that no depth of nesting can overflow the stack.
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
from maskdsl.syntax.build import BUILDERS, Builders
from maskdsl.syntax.comments import attach_comments, find_comments
from maskdsl.syntax.mistakes import (
    END,
    Word,
    explain_character,
    explain_word,
    find_edges,
    forbidden_characters,
    next_construct,
)

LARGEST_TEXT = 1_000_000
MOST_WORDS = 60_000
DEEPEST = 100
MOST_ERRORS = 10
_STARTS = ["file", "declaration", "statement", "expression"]


def parse(source: Source, builders: Builders = BUILDERS) -> tree.File:
    """The tree of a whole file, by the builders of a version. Raises `AttnError` with the mistakes in the text."""
    words = _words(source)
    file: tree.File = _node(source, words, "file", builders)
    comments = find_comments(source, ((word.start_pos or 0, word.end_pos or 0) for word in words))
    return attach_comments(file, comments)


def parse_expression(source: Source) -> tree.Expression:
    """The tree of one expression, such as a value on the command line. Raises `AttnError`."""
    expression: tree.Expression = _node(source, _words(source), "expression")
    return expression


def parse_statement(source: Source) -> tree.Statement:
    """The tree of one statement of a pattern. Raises `AttnError`."""
    statement: tree.Statement = _node(source, _words(source), "statement")
    return statement


@cache
def _lark() -> Lark:
    """The parser of the grammar. Its tables are cached on disk: making them takes far longer than reading them."""
    grammar = files("maskdsl.grammar").joinpath("attn.lark").read_text(encoding="utf-8")
    key = f"{grammar}\n{_STARTS}\n{lark_version}\n{sys.version_info[:2]}"
    name = f"grammar_{sha256(key.encode()).hexdigest()[:24]}.tables"
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
    """The parser of cached tables; None if they are unusable, for example written by another version of lark."""
    try:
        lark = Lark.load(BytesIO(tables))
        lark.parse('use "a" pattern a(n = 1) { attend q }', start=_STARTS[0])
    except Exception:
        return None
    return lark


def _words(source: Source) -> list[Token]:
    """The words of a text. Raises `AttnError` with everything that is not a word."""
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


def _node(source: Source, words: Sequence[Token], start: str, builders: Builders = BUILDERS) -> Any:
    derivation = _derive(words, start)
    if isinstance(derivation, Tree):
        return _build(source, derivation, builders)
    raise AttnError(*_mistakes(source, words, *derivation))


def _derive(words: Sequence[Token], start: str) -> Tree[Token] | tuple[int, frozenset[str]]:
    """The derivation of the words from a rule; or the index of the first wrong word, and the kinds accepted there."""
    try:
        parser = _fed(words, start)
        derivation = parser.feed_token(Token("$END", ""))
    except UnexpectedToken as failure:
        at = next((at for at, word in enumerate(words) if word is failure.token), len(words))
        accepts: Callable[[], set[str]] = _fed(words[:at], start).accepts  # the words before it, without lookahead
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
    """The text of every terminal that is a fixed string."""
    return {
        terminal.name: terminal.pattern.value
        for terminal in _lark().terminals
        if isinstance(terminal.pattern, PatternStr)
    } | {"$END": END}


def _plain(kind: str) -> str:
    return _spellings().get(kind, kind)


def _mistakes(source: Source, words: Sequence[Token], at: int, accepted: frozenset[str]) -> list[Diagnostic]:
    """The first mistake, and the mistakes of the declarations and statements after it, each parsed alone."""
    plain = [Word(_plain(word.type), str(word), word.start_pos or 0, word.end_pos or 0) for word in words]
    mistakes = [explain_word(source, plain, at, accepted)]
    edges = find_edges(source, plain)
    while len(mistakes) < MOST_ERRORS:
        construct = next_construct(plain, edges, at)
        if construct is None:
            break
        begin, end, start = construct
        derivation = _derive(words[begin:end], start)
        if isinstance(derivation, Tree):
            at = end
        else:
            wrong, accepted = derivation
            mistakes.append(explain_word(source, plain[begin : end + 1], wrong, accepted))
            at = begin + max(wrong, 1)
    return mistakes


def _build(source: Source, derivation: Tree[Token], builders: Builders) -> Any:
    """Builds the nodes of a derivation from the leaves up."""
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
            node = builders[branch.data](span, built[first:])
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
    """The span of a derivation. A file spans all of its text: it may have no words, and then no offsets in lark."""
    if derivation.data == "file":
        return Span(source, 0, len(source.text))
    return Span(source, derivation.meta.start_pos, derivation.meta.end_pos)
