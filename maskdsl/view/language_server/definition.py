"""Go to definition: finds where a name is declared, in the text, in used files, or in the standard library."""

from importlib.resources import files
from pathlib import Path

from lsprotocol import types

from maskdsl.base.source import Span
from maskdsl.syntax import tree
from maskdsl.view.language_server.declarations import declared_at
from maskdsl.view.language_server.documents import Document, Lines, uri_of
from maskdsl.view.language_server.nodes_at import path_at
from maskdsl.view.language_server.text_diagnostics import range_of


def definition(document: Document, offset: int) -> types.Location | None:
    """The location of the declaration of the name at an offset; None if there is none."""
    program = document.understood
    path = path_at(program.root, offset)
    declared = declared_at(program, path) if path else None
    if declared is None:
        return None
    match declared:
        case tree.File(span=span):
            target = Span(span.source, 0, 0)
        case tree.Quantifier(variable=name):
            target = name.span
        case tree.AxisDeclaration(name=None, span=span):
            target = span
        case _:
            assert declared.name is not None
            target = declared.name.span
    source = target.source
    if source is program.root.span.source:
        return types.Location(document.uri, range_of(target, document.lines))
    if source is program.standard.span.source:
        uri: str | None = Path(str(files("maskdsl.grammar").joinpath("std.attn"))).as_uri()
    else:
        uri = uri_of(source)
    return None if uri is None else types.Location(uri, range_of(target, Lines(source.text)))
