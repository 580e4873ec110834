"""Hover texts in Markdown: the declaration of a name, the value of an expression, or the meaning of a word."""

from collections.abc import Sequence

from maskdsl.base.source import Span
from maskdsl.base.text import markdown, markdown_code, markdown_word
from maskdsl.syntax import tree
from maskdsl.syntax.program import Program
from maskdsl.view.language_server import words
from maskdsl.view.language_server.at_defaults import value_text
from maskdsl.view.language_server.declarations import Declared, declared_at
from maskdsl.view.language_server.documents import Document, shown_name
from maskdsl.view.language_server.measure import Measurements
from maskdsl.view.language_server.nodes_at import path_at

_LONGEST = 400
"""The most characters of a declaration that are shown."""


async def hover(document: Document, offset: int, measurements: Measurements) -> tuple[str, Span] | None:
    """The hover text at an offset, and the span that it is about; None if there is none."""
    program = document.understood
    path = path_at(program.root, offset)
    if not path:
        return None
    node = path[-1]
    declared = declared_at(program, path)
    if declared is not None:
        text = [_declaration(declared, document, program), *_value(program, path, declared)]
        if isinstance(declared, tree.PatternDeclaration | tree.StackDeclaration):
            text.append(await _figures(document, program, declared, measurements))
        return "\n\n".join(filter(None, text)), node.span
    if isinstance(node, tree.Name) and len(path) > 1:
        return _word(program, path, node)
    keyword = _keyword(document, offset, node)
    if keyword is not None:
        return keyword
    value = value_text(program, path)
    constant = isinstance(node, tree.Integer | tree.Float | tree.Boolean | tree.String)
    return None if value is None or constant else (f"{markdown_word(_short(node.span.text))}: {value}", node.span)


def _word(program: Program, path: Sequence[tree.Node], node: tree.Name) -> tuple[str, Span] | None:
    """The text about a name of the language: a function, a type, `q` or `i`."""
    parent = path[-2]
    if isinstance(parent, tree.Argument) and node is parent.name:
        call = path[-3]
        known = words.ARGUMENTS.get(call.function.id, {}) if isinstance(call, tree.Call) else {}
        return (code(known[node.id]), node.span) if node.id in known else None
    if isinstance(parent, tree.Parameter | tree.InputStatement) and node is parent.type:
        known = {**words.TYPES, **words.SPARSE_TYPE}
    elif isinstance(parent, tree.PooledSpaceStatement) or _gathers(parent):
        known = words.POOLINGS
    elif isinstance(parent, tree.Call) or _is_kind(parent, node):
        known = words.CALLED
    elif isinstance(parent, tree.Attribute) and node is parent.name:
        known = words.OF_POOLS
    else:
        known = words.RESERVED
    text = code(known[node.id]) if node.id in known else None
    attribute = isinstance(parent, tree.Attribute) and node is parent.name
    value = value_text(program, path[:-1] if attribute else path)
    if value is not None and known is words.RESERVED:
        text = f"{text or f'`{node.id}`'}\n\n{value}"
    return None if text is None else (text, node.span)


def _gathers(parent: tree.Node) -> bool:
    """Whether a call pools vectors: `max(k by c)`."""
    return isinstance(parent, tree.Call) and any(each.by is not None for each in parent.arguments)


def _is_kind(parent: tree.Node, node: tree.Name) -> bool:
    return isinstance(parent, tree.Quantifier) and node.id == parent.kind and node is not parent.variable


def _keyword(document: Document, offset: int, node: tree.Node) -> tuple[str, Span] | None:
    """The text about a word of a statement or an expression that is not a node of the tree."""
    text, start, end = document.text, offset, offset
    while start and (text[start - 1].isalnum() or text[start - 1] == "_"):
        start -= 1
    while end < len(text) and (text[end].isalnum() or text[end] == "_"):
        end += 1
    known = words.NORMALIZATIONS if isinstance(node, tree.NormalizeStatement) else {}
    meaning = {**words.KEYWORDS, **words.QUANTIFIERS, **known}.get(text[start:end])
    commented = "#" in document.lines.before(start)
    if meaning is None or commented or isinstance(node, tree.String):
        return None
    return code(meaning), Span(node.span.source, start, end)


def code(text: str) -> str:
    """The first line of a description as code, if there are others below it."""
    first, _, rest = text.partition("\n\n")
    return f"{markdown_code(first)}\n\n{rest}" if rest else first


def _declaration(declared: Declared, document: Document, program: Program) -> str:
    """The declaration of a name, with its documentation."""
    match declared:
        case tree.File():
            return markdown_word(shown_name(declared.span.source, document))
        case tree.MacroDeclaration() | tree.PatternDeclaration() | tree.StackDeclaration():
            text = [markdown_code(signature(declared)), markdown(declared.doc)]
            source = declared.span.source
            if source is program.standard.span.source:
                text.append("*from the standard library*")
            elif source is not program.root.span.source:
                text.append(f"*from {markdown(shown_name(source, document))}*")
            return "\n\n".join(filter(None, text))
        case tree.Parameter():
            return f"{markdown_code(declared.span.text)}\n\nA parameter."
        case tree.AxisDeclaration():
            return f"An axis of {markdown_word(_short(declared.span.text))} tokens."
        case tree.Quantifier(domain=domain):
            return markdown_word(f"{declared.variable.id} in {_short(domain.span.text)}")
        case _:
            return markdown_code(_short(declared.span.text))


def signature(declared: tree.MacroDeclaration | tree.PatternDeclaration | tree.StackDeclaration) -> str:
    """The head of a declaration: its word, its name and its parameters as written."""
    parameters = ", ".join(each.span.text for each in declared.parameters)
    word = {tree.MacroDeclaration: "def", tree.PatternDeclaration: "pattern", tree.StackDeclaration: "stack"}
    return f"{word[type(declared)]} {declared.name.id}({parameters})"


def _value(program: Program, path: Sequence[tree.Node], declared: Declared) -> list[str]:
    """The value of the name where it is used, or where it is declared."""
    parent = path[-2]
    match parent:
        case tree.Parameter(name=name) | tree.LetStatement(name=name) if name is path[-1]:
            value = value_text(program, path)
        case tree.Attribute() | tree.Index():
            value = value_text(program, path[:-1])
        case tree.CoordinateStatement(name=name) if name is path[-1]:
            value = value_text(program, [*path[:-1], parent.value])
        case tree.AxisDeclaration(name=name) if name is path[-1]:
            value = value_text(program, [*path[:-1], parent.length])
        case tree.Call(function=function) if function is path[-1]:
            value = None
        case _:
            value = value_text(program, path)
    return [] if value is None else [f"At the defaults: {value}."]


async def _figures(
    document: Document,
    program: Program,
    declared: tree.PatternDeclaration | tree.StackDeclaration,
    measurements: Measurements,
) -> str:
    """The density and tiles of a pattern; empty if a parameter has no default."""
    if any(parameter.default is None for parameter in declared.parameters):
        return ""
    directory = None if document.path is None else str(document.path.parent)
    return await measurements.text(program.root.span.source.text, document.name, directory, declared.name.id)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
