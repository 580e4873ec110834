"""Completion: words of the language, names in scope, coordinates, arguments, and files to use."""

import re
from collections.abc import Iterator, Mapping

from lsprotocol import types

from maskdsl.base.attn_paths import SUFFIX
from maskdsl.base.text import markdown
from maskdsl.syntax import tree
from maskdsl.syntax.program import Program
from maskdsl.view.language_server import words
from maskdsl.view.language_server.declarations import SIDES, NameScope, called
from maskdsl.view.language_server.documents import Document
from maskdsl.view.language_server.hover import code, signature
from maskdsl.view.language_server.nodes_at import path_at

_Kind = types.CompletionItemKind

_USING = re.compile(r'^[ \t]*use[ \t]+"([^"\n]*)$')
_MEMBER = re.compile(r"([A-Za-z_]\w*)\s*\.\s*\w*$")
_NEW_NAME = re.compile(r"\b(?:def|pattern|stack|space|input|coord|let|route|branch)\s+\w*$")
_TYPED = re.compile(r":\s*\w*$")
_DIMENSION = re.compile(r"\binput\s+\w+\s*:\s*\w+\s*\[[^\]]*$")
_NORMALIZING = re.compile(r"\bnormalize\s+\w*$")
_BEGINNING = re.compile(r"\s*\w*$")
_CALL = re.compile(r"([A-Za-z_]\w*)\s*\($")
_MOST_LOOKED = 2000
"""The most characters that are searched backward for the call around an offset."""


def completion(document: Document, offset: int) -> list[types.CompletionItem]:
    """The completions at an offset; none in comments, in strings, and where a new name is declared."""
    line = document.lines.before(offset)
    using = _USING.match(line)
    if using is not None:
        return list(_files(document, using[1]))
    if _in_comment_or_string(line) or _NEW_NAME.search(line):
        return []
    program = document.understood
    declaration = document.declaration_at(offset)
    scope = NameScope(declaration, path_at(program.root, offset)) if declaration is not None else None
    member = _MEMBER.search(line)
    if member is not None:
        return list(_members(scope, member[1]))
    if _TYPED.search(line):
        return list(_known({**words.TYPES, **words.SPARSE_TYPE}, _Kind.TypeParameter))
    if _NORMALIZING.search(line):
        return list(_known(words.NORMALIZATIONS, _Kind.Constant))
    if _DIMENSION.search(line) and scope is not None:
        lists = {name: each for name, each in scope.inputs.items() if each.type.id == "sparse"}
        known = [*_known(words.DIMENSIONS, _Kind.Constant), *_declared(scope.spaces, _Kind.Struct)]
        return [*known, *_declared(scope.values, _Kind.Variable), *_declared(lists, _Kind.Interface)]
    inside = declaration is not None and offset <= declaration.span.end and not _is_closed(declaration, offset)
    if not inside and _BEGINNING.fullmatch(line):
        return list(_known(words.DECLARATIONS, _Kind.Keyword))
    if isinstance(declaration, tree.PatternDeclaration) and _BEGINNING.fullmatch(line) and not _call(document, offset):
        return list(_known(words.STATEMENTS, _Kind.Keyword))
    return list(_expression(document, offset, program, declaration, scope))


def _is_closed(declaration: tree.Declaration, offset: int) -> bool:
    return isinstance(declaration, tree.PatternDeclaration) and offset == declaration.span.end


def _in_comment_or_string(line: str) -> bool:
    plain = re.sub(r'"[^"]*"', "", line)
    return "#" in plain or '"' in plain


def _expression(
    document: Document, offset: int, program: Program, declaration: tree.Declaration | None, scope: NameScope | None
) -> Iterator[types.CompletionItem]:
    function = _call(document, offset)
    if function is not None:
        yield from _arguments(program, function)
    if scope is not None:
        yield from _names(scope)
    if isinstance(declaration, tree.StackDeclaration):
        yield from (_callable(each, _Kind.Class) for each in program.patterns.values())
        yield from (_callable(each, _Kind.Module) for each in program.stacks.values())
    else:
        macros = program.macros(program.root.span.source)
        yield from (_callable(each, _Kind.Function) for each in macros.values() if _is_public(each, program))
        yield from _known(words.CALLED, _Kind.Function)
        yield from _known(words.RESERVED, _Kind.Constant)
    yield from _known(words.OPERATORS, _Kind.Keyword)


def _is_public(macro: tree.MacroDeclaration, program: Program) -> bool:
    """Whether a macro is for users: the standard library documents only those."""
    return bool(macro.doc) or macro.span.source is not program.standard.span.source


def _names(scope: NameScope) -> Iterator[types.CompletionItem]:
    for declared, kind in (
        (scope.values, _Kind.Variable),
        (scope.routes, _Kind.Method),
        (scope.inputs, _Kind.Interface),
        (scope.spaces, _Kind.Struct),
        (scope.coordinates, _Kind.Property),
    ):
        yield from _declared(declared, kind)


def _declared(nodes: Mapping[str, tree.Node], kind: types.CompletionItemKind) -> Iterator[types.CompletionItem]:
    for name, node in nodes.items():
        detail = " ".join(node.span.text.split())[:80]
        yield types.CompletionItem(name, kind=kind, detail=detail, sort_text=f"0{name}")


def _members(scope: NameScope | None, base: str) -> Iterator[types.CompletionItem]:
    """The coordinates of `q` and `k`, and the axes of a space."""
    if scope is None:
        return
    names: dict[str, tree.Node] = {}
    space = scope.spaces.get(base)
    if base in SIDES:
        names = {**scope.coordinates}
        yield types.CompletionItem("i", kind=_Kind.Property, detail="the position in the sequence")
        if any(isinstance(each, tree.PooledSpaceStatement) for each in scope.spaces.values()):
            yield from _known(
                {each: text for each, text in words.OF_POOLS.items() if each not in names}, _Kind.Property
            )
    elif isinstance(space, tree.SpaceStatement):
        names = {each.name.id: each for each in space.axes if each.name is not None}
    for name, node in names.items():
        yield types.CompletionItem(name, kind=_Kind.Property, detail=" ".join(node.span.text.split())[:80])


def _arguments(program: Program, function: str) -> Iterator[types.CompletionItem]:
    """The names of the parameters of a call."""
    declared = called(program, tree.Name(function, span=program.root.span))
    if isinstance(declared, tree.MacroDeclaration | tree.PatternDeclaration | tree.StackDeclaration):
        for each in declared.parameters:
            name, detail = each.name.id, each.span.text
            yield _argument(name, detail)
    else:
        for name, help_text in words.ARGUMENTS.get(function, {}).items():
            yield _argument(name, help_text.partition("\n\n")[2], _markdown(code(help_text)))


def _argument(name: str, detail: str, documentation: types.MarkupContent | None = None) -> types.CompletionItem:
    return types.CompletionItem(
        f"{name} = ",
        kind=_Kind.Field,
        detail=detail,
        documentation=documentation,
        sort_text=f" {name}",
        filter_text=name,
    )


def _call(document: Document, offset: int) -> str | None:
    """The name before the innermost bracket that is open at an offset; None outside brackets."""
    text = document.text[max(0, offset - _MOST_LOOKED) : offset]
    depth = 0
    for at in range(len(text) - 1, -1, -1):
        match text[at]:
            case "{" | "}":
                return None
            case ")" | "]":
                depth += 1
            case "(" | "[" if depth:
                depth -= 1
            case "(" | "[":
                match = _CALL.search(text[: at + 1])
                return match[1] if match is not None else ""
    return None


def _known(known: dict[str, str], kind: types.CompletionItemKind) -> Iterator[types.CompletionItem]:
    for name, help_text in known.items():
        first, _, _ = help_text.partition("\n\n")
        yield types.CompletionItem(
            name, kind=kind, detail=first, documentation=_markdown(code(help_text)), sort_text=f"2{name}"
        )


def _callable(
    declared: tree.MacroDeclaration | tree.PatternDeclaration | tree.StackDeclaration, kind: types.CompletionItemKind
) -> types.CompletionItem:
    name = declared.name.id
    doc = _markdown(markdown(declared.doc)) if declared.doc else None
    return types.CompletionItem(name, kind=kind, detail=signature(declared), documentation=doc, sort_text=f"1{name}")


def _markdown(text: str) -> types.MarkupContent:
    return types.MarkupContent(types.MarkupKind.Markdown, text)


def _files(document: Document, begun: str) -> Iterator[types.CompletionItem]:
    """The files beside the document, and the folders below it."""
    if document.path is None:
        return
    folder = document.path.parent / begun.rpartition("/")[0]
    if not folder.resolve().is_relative_to(document.path.parent.resolve()):
        return
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        if entry.suffix == SUFFIX and entry != document.path:
            yield types.CompletionItem(entry.name, kind=_Kind.File)
        elif entry.is_dir() and not entry.name.startswith("."):
            yield types.CompletionItem(f"{entry.name}/", kind=_Kind.Folder)
