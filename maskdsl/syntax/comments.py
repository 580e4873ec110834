"""Finds the comments between the words of a text, and attaches `##` lines to the declaration right below them."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from maskdsl.base.source import Source, Span
from maskdsl.syntax import tree

_COMMENT = re.compile(r"#[^\r\n]*")
_DOC_LINE = re.compile(r"##(?!#)")


def find_comments(source: Source, words: Iterable[tuple[int, int]]) -> tuple[tree.Comment, ...]:
    """All comments of a text, in order. `words` are the start and end offsets of its words."""
    comments: list[tree.Comment] = []
    gap_start = 0
    for start, end in [*words, (len(source.text), len(source.text))]:
        if start > gap_start:
            for match in _COMMENT.finditer(source.text, gap_start, start):
                text = match[0].rstrip()
                comments.append(tree.Comment(text, span=Span(source, match.start(), match.start() + len(text))))
        gap_start = end
    return tuple(comments)


def attach_comments(file: tree.File, comments: Sequence[tree.Comment]) -> tree.File:
    """The file with documentation attached to its declarations, and all other comments in `comments`."""
    by_line = {comment.span.source.position(comment.span.start)[0]: comment for comment in comments}
    used: set[int] = set()
    declarations = []
    for declaration in file.declarations:
        lines = [] if isinstance(declaration, tree.UseDeclaration) else _doc_lines(declaration, by_line)
        doc = "\n".join(by_line[line].text[2:].removeprefix(" ") for line in lines)
        if doc and not isinstance(declaration, tree.UseDeclaration):
            used.update(by_line[line].span.start for line in lines)
            declaration = replace(declaration, doc=doc)
        declarations.append(declaration)
    others = tuple(comment for comment in comments if comment.span.start not in used)
    return replace(file, declarations=tuple(declarations), comments=others)


def _doc_lines(declaration: tree.Declaration, by_line: dict[int, tree.Comment]) -> list[int]:
    """The lines right above a declaration that hold a `##` comment and nothing else."""
    source, start = declaration.span.source, declaration.span.start
    first, column = source.position(start)
    if source.line(first)[: column - 1].strip():
        return []
    line = first - 1
    while line in by_line and _DOC_LINE.match(by_line[line].text) and source.line(line).lstrip().startswith("##"):
        line -= 1
    return list(range(line + 1, first))
