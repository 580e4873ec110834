"""Explains syntax errors: a diagnostic for the first word or character that the grammar does not accept. No lark here.

`explain_word` is for a word that is not accepted after those before it, `explain_character` for characters that do not
form a word.
"""

import re
from collections.abc import Sequence, Set
from itertools import islice
from typing import NamedTuple

from maskdsl.base.diagnostics import Diagnostic, Note, nearest_name
from maskdsl.base.errors.language.syntax import (
    ForeignSpelling,
    MalformedNumber,
    NoResult,
    PythonDefinition,
    ReservedWord,
    SingleEquals,
    UnclosedBracket,
    UnexpectedEnd,
    UnexpectedWord,
    UnknownCharacter,
    UnknownWord,
    UnmatchedBracket,
    UnterminatedString,
)
from maskdsl.base.source import Source, Span
from maskdsl.base.text import FORBIDDEN, LINE_END, printable


class Word(NamedTuple):
    """A word of the text. `kind` is the text of a keyword or symbol, else the grammar's name, such as `NAME`."""

    kind: str
    text: str
    start: int
    end: int


END = "END"
DECLARATION_WORDS = frozenset({"use", "def", "pattern", "stack"})
STATEMENT_WORDS = frozenset(
    [
        "space",
        "tokens",
        "queries",
        "keys",
        "input",
        "coord",
        "let",
        "route",
        "attend",
        "require",
        "score",
        "scale",
        "weight",
        "value",
        "sink",
        "normalize",
        "order",
        "assert",
        "branch",
    ]
)
_STARTS = DECLARATION_WORDS | STATEMENT_WORDS
SOFT_WORDS = _STARTS | {"auto", "always"}
RESERVED_WORDS = frozenset(["and", "or", "not", "if", "else", "where", "for", "in", "by", "True", "False"])
_OPERATORS = frozenset(
    ["+", "-", "*", "/", "//", "%", "**", "COMPARE", "and", "or", "where", "if", "else", "for", "->", ".", "[", "("]
)
_EXPRESSION_STARTS = (
    frozenset(["NAME", "INTEGER", "FLOAT", "STRING", "True", "False", "not", "+", "-", "("]) | SOFT_WORDS
)
_BRACKETS = {"(": ")", "[": "]", "{": "}"}

_SPELLINGS = {
    "<<": "write `2 ** n` for `1 << n`",
    ">>": "write `// 4` for `>> 2`",
    "===": "write `==`",
    "!==": "write `!=`",
    "&&": "write `and`",
    "||": "write `or`",
    "=>": "write `->` for an arrow, `>=` to compare",
    "=<": "write `<=`",
    "<>": "write `!=`",
    ":=": "write `=`",
    "&": "write `and`",
    "|": "write `or`",
    "!": "write `not`",
    "~": "write `not`",
    "^": "write `**` for a power",
    "@": "the product of two vectors is `dot(q, k)`",
    ";": "write statements one below the other",
    "'": 'write strings in `"`',
    "`": "write names without quotes",
    "\u201c": 'write strings in `"`',
    "\u201d": 'write strings in `"`',
    "\u2019": 'write strings in `"`',
    "\u2212": "write `-`",
    "\u2013": "write `-`",
    "\u00d7": "write `*`",
    "\u2264": "write `<=`",
    "\u2265": "write `>=`",
    "\u2260": "write `!=`",
    "\u2192": "write `->`",
    "\u2227": "write `and`",
    "\u2228": "write `or`",
    "\u00ac": "write `not`",
    "\u00a0": "this is a no-break space; write a normal one",
}
_FOREIGN_WORDS = {
    "import": ("use",),
    "include": ("use",),
    "function": ("def",),
    "macro": ("def",),
    "mask": ("pattern", "attend"),
    "var": ("let",),
    "const": ("let",),
    "allow": ("attend",),
    "bias": ("score",),
    "axis": ("space",),
}
"""Words of other languages, and ours, of which the first that is accepted is meant."""

_NUMBER_LIKE = re.compile(r"[0-9][0-9A-Za-z_.]*")


def explain_character(source: Source, start: int) -> Diagnostic:
    """Why no word begins at `start`. To go on, the caller leaves out the span of the diagnostic."""
    text = source.text
    if text[start] == '"':
        end = LINE_END.search(text, start)
        return UnterminatedString(span=Span(source, start, len(text) if end is None else end.start()))
    number = _NUMBER_LIKE.match(text, start)
    if number:
        span = Span(source, start, number.end())
        return MalformedNumber(span=span, found=number[0], advice="write a space between a number and letters")
    spelling = _foreign_spelling(source, start)
    if spelling is not None:
        return spelling
    return _unknown_character(source, start)


def forbidden_characters(source: Source, most: int) -> list[Diagnostic]:
    """Errors for the first `most` characters that are not allowed anywhere, not even in comments and strings."""
    matches = islice(FORBIDDEN.finditer(source.text), most)
    return [_unknown_character(source, each.start(), "not allowed in a text, comments included") for each in matches]


def _unknown_character(source: Source, start: int, reason: str = "") -> Diagnostic:
    character = source.text[start]
    point = f"U+{ord(character):04X}"
    span = Span(source, start, start + 1)
    return UnknownCharacter(span=span, character=printable(character), point=point, reason=reason)


def explain_word(source: Source, words: Sequence[Word], at: int, accepted: Set[str]) -> Diagnostic:
    """Why `words[at]`, or the end of the text, cannot follow the words before it, after which `accepted` may come."""
    if at == len(words):
        return _explain_end(source, words, accepted)
    return (
        _explain_brackets(source, words, at, accepted)
        or _explain_declaration(source, words, at, accepted)
        or _explain_spelling(source, words, at, accepted)
        or _explain_name(source, words, at, accepted)
        or _unexpected(source, words, at, accepted)
    )


def find_edges(source: Source, words: Sequence[Word]) -> list[int]:
    """The indices of words that begin a declaration or a statement of a pattern, first on a line."""
    edges, inside = [], ""
    for at, word in enumerate(words):
        if word.text in _STARTS and _starts_line(source, words, at):
            inside = word.text if word.text in DECLARATION_WORDS else inside
            if word.text in DECLARATION_WORDS or inside == "pattern":
                edges.append(at)
    return edges


def next_construct(words: Sequence[Word], edges: Sequence[int], at: int) -> tuple[int, int, str] | None:
    """The first declaration or statement from word `at` on: its begin, its end, and the grammar's rule for it."""
    begin = next((edge for edge in edges if edge >= at and words[edge].text != "branch"), None)  # its lines come alone
    if begin is None:
        return None
    if words[begin].text in DECLARATION_WORDS:
        later = (edge for edge in edges if edge > begin and words[edge].text in DECLARATION_WORDS)
        return begin, next(later, len(words)), "declaration"
    end = next((edge for edge in edges if edge > begin), len(words))
    return begin, next((at for at in range(begin, end) if words[at].kind == "}"), end), "statement"


def _starts_line(source: Source, words: Sequence[Word], at: int) -> bool:
    return at == 0 or LINE_END.search(source.text, words[at - 1].end, words[at].start) is not None


def _expectation(accepted: Set[str]) -> str:
    """The accepted kinds of words as a phrase, such as "an operator, a statement or `}`"."""
    left = set(accepted)
    names = []
    if "INTEGER" in left:
        names.append("an expression")
        left -= _EXPRESSION_STARTS
    elif "NAME" in left:
        names.append("a name")
        left -= SOFT_WORDS | {"NAME"}
    if "COMPARE" in left or "+" in left:
        names.append("an operator")
        left -= _OPERATORS
    if "attend" in left:
        names.append("a statement")
        left -= STATEMENT_WORDS
    if "pattern" in left:
        names.append("a declaration")
        left -= DECLARATION_WORDS
    if "STRING" in left:
        names.append("a string")
        left -= {"STRING"}
    left -= {END}
    names += [f"`{text}`" for text in sorted(left)]
    return _listed(names) if names else "the end"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _span(source: Source, word: Word) -> Span:
    return Span(source, word.start, word.end)


def _explain_brackets(source: Source, words: Sequence[Word], at: int, accepted: Set[str]) -> Diagnostic | None:
    """Explains a closing bracket that matches none, or a statement that begins inside an open bracket."""
    word = words[at]
    unclosed = _open_brackets(words[:at])
    if word.kind in _BRACKETS.values():
        if word.kind == "}" and not unclosed and END not in accepted:
            return None  # the end of the pattern, when this statement is parsed alone
        if unclosed and _BRACKETS[unclosed[-1].kind] == word.kind:
            return None
        if any(_BRACKETS[opener.kind] == word.kind for opener in unclosed):
            return _unclosed(source, unclosed[-1])
        if unclosed:
            opener = unclosed[-1]
            note = Note(f"`{opener.text}` is open", _span(source, opener))
            reason = f"expected `{_BRACKETS[opener.kind]}`"
            return UnmatchedBracket(span=_span(source, word), closer=word.text, reason=reason, notes=(note,))
        return UnmatchedBracket(span=_span(source, word), closer=word.text, reason="no bracket is open here")
    for nearby in range(max(at - 1, 0), at + 1):
        if words[nearby].text in _STARTS and _starts_line(source, words, nearby):
            declared = words[nearby].text in DECLARATION_WORDS
            inner = [opener for opener in _open_brackets(words[:nearby]) if declared or opener.kind != "{"]
            if inner:
                return _unclosed(source, inner[-1])
    return None


def _open_brackets(words: Sequence[Word]) -> list[Word]:
    unclosed: list[Word] = []
    for word in words:
        if word.kind in _BRACKETS:
            unclosed.append(word)
        elif word.kind in _BRACKETS.values() and unclosed:
            unclosed.pop()
    return unclosed


def _unclosed(source: Source, opener: Word) -> Diagnostic:
    return UnclosedBracket(span=_span(source, opener), opener=opener.text, closer=_BRACKETS[opener.kind])


def _explain_declaration(source: Source, words: Sequence[Word], at: int, accepted: Set[str]) -> Diagnostic | None:
    """Explains a macro that is written as a function of Python."""
    if words[at].kind == ":" and accepted == {"="}:
        return PythonDefinition(span=_span(source, words[at]))
    return None


def _explain_spelling(source: Source, words: Sequence[Word], at: int, accepted: Set[str]) -> Diagnostic | None:
    """Explains a spelling of other languages, a malformed number, or `=` for `==`."""
    word = words[at]
    before = words[at - 1] if at else None
    joined = before is not None and before.end == word.start
    for start in (before.start, word.start) if before is not None and joined else (word.start,):
        spelling = _foreign_spelling(source, start)
        if spelling is not None:
            return spelling
    if word.kind == "." and joined and before is not None and before.kind == "INTEGER":
        span = Span(source, before.start, word.end)
        return MalformedNumber(span=span, found=span.text, advice="write digits on both sides of the point")
    after = words[at + 1] if at + 1 < len(words) else None
    if word.kind == "." and after is not None and after.kind == "INTEGER" and after.start == word.end:
        span = Span(source, word.start, after.end)
        return MalformedNumber(span=span, found=span.text, advice="write digits on both sides of the point")
    if word.kind == "}" and {"COMPARE", "INTEGER"} <= accepted:  # one expression is complete, and another is missing
        return NoResult(span=_span(source, word))
    if word.kind == "=" and "COMPARE" in accepted:
        return SingleEquals(span=_span(source, word))
    if word.kind == "=" and before is not None and before.text in STATEMENT_WORDS and "INTEGER" in accepted:
        advice = f"`{before.text}` has its value right behind it, without `=`"
        return UnexpectedWord(span=_span(source, word), found="`=`", expected=_expectation(accepted), advice=advice)
    return None


def _foreign_spelling(source: Source, start: int) -> Diagnostic | None:
    for spelling, advice in _SPELLINGS.items():
        if source.text.startswith(spelling, start):
            span = Span(source, start, start + len(spelling))
            return ForeignSpelling(span=span, found=spelling, advice=advice)
    return None


def _explain_name(source: Source, words: Sequence[Word], at: int, accepted: Set[str]) -> Diagnostic | None:
    """Explains a misspelled word of the language, or a reserved word in place of a name."""
    word = words[at]
    expected = _expectation(accepted)
    if word.text in RESERVED_WORDS and "NAME" in accepted:
        if "INTEGER" in accepted:
            return None
        return ReservedWord(span=_span(source, word), word=word.text, expected=expected)
    if word.kind != "NAME":
        return None
    known = {text.lower() for text in accepted if text.isalpha()}
    meant = next((each for each in _FOREIGN_WORDS.get(word.text, ()) if each in known), None)
    nearest = nearest_name(word.text, known)
    advice = "" if nearest and not meant else _beginnings(accepted)
    nearest = meant or nearest
    return UnknownWord(span=_span(source, word), name=word.text, expected=expected, nearest=nearest, advice=advice)


def _beginnings(accepted: Set[str]) -> str:
    """The words that a statement or a declaration begins with, where one is expected and nothing else."""
    for kind, starts in (("statement", STATEMENT_WORDS), ("declaration", DECLARATION_WORDS)):
        if starts <= accepted and not _OPERATORS & accepted:
            return f"a {kind} begins with {_listed(sorted(f'`{each}`' for each in starts))}"
    return ""


def _unexpected(source: Source, words: Sequence[Word], at: int, accepted: Set[str]) -> Diagnostic:
    word = words[at]
    kind = {"INTEGER": "number ", "FLOAT": "number ", "STRING": "string "}.get(word.kind, "")
    shown = word.text if len(word.text) <= 40 else word.text[:37] + "..."
    return UnexpectedWord(span=_span(source, word), found=f"{kind}`{shown}`", expected=_expectation(accepted))


def _explain_end(source: Source, words: Sequence[Word], accepted: Set[str]) -> Diagnostic:
    unclosed = _open_brackets(words)
    if unclosed:
        return _unclosed(source, unclosed[-1])
    end = words[-1].end if words else len(source.text)
    return UnexpectedEnd(span=Span(source, end, end), expected=_expectation(accepted))
