"""The outline of a text: its declarations, and the declarations inside patterns."""

from collections.abc import Iterator

from lsprotocol import types

from maskdsl.syntax import tree
from maskdsl.view.language_server.documents import Document, Lines
from maskdsl.view.language_server.text_diagnostics import range_of

_Outlined = (
    tree.MacroDeclaration
    | tree.PatternDeclaration
    | tree.StackDeclaration
    | tree.SpaceStatement
    | tree.PooledSpaceStatement
    | tree.CoordinateStatement
    | tree.InputStatement
    | tree.LetStatement
    | tree.RouteStatement
    | tree.BranchStatement
)
_KINDS = {
    tree.MacroDeclaration: types.SymbolKind.Function,
    tree.PatternDeclaration: types.SymbolKind.Class,
    tree.StackDeclaration: types.SymbolKind.Module,
    tree.SpaceStatement: types.SymbolKind.Array,
    tree.PooledSpaceStatement: types.SymbolKind.Array,
    tree.CoordinateStatement: types.SymbolKind.Property,
    tree.InputStatement: types.SymbolKind.Interface,
    tree.LetStatement: types.SymbolKind.Variable,
    tree.RouteStatement: types.SymbolKind.Method,
    tree.BranchStatement: types.SymbolKind.Namespace,
}


def symbols(document: Document) -> list[types.DocumentSymbol]:
    """The symbols of a text, in its order."""
    return list(_symbols(document.understood.root.declarations, document.lines))


def _symbols(
    nodes: tuple[tree.Declaration, ...] | tuple[tree.Statement, ...], lines: Lines
) -> Iterator[types.DocumentSymbol]:
    for node in nodes:
        if isinstance(node, _Outlined):
            inner = node.statements if isinstance(node, tree.PatternDeclaration | tree.BranchStatement) else ()
            yield types.DocumentSymbol(
                name=node.name.id,
                detail=_detail(node),
                kind=_KINDS[type(node)],
                range=range_of(node.span, lines),
                selection_range=range_of(node.name.span, lines),
                children=list(_symbols(inner, lines)),
            )


def _detail(node: tree.Node) -> str:
    """The text after the name of a symbol."""
    match node:
        case tree.MacroDeclaration() | tree.PatternDeclaration() | tree.StackDeclaration():
            return f"({', '.join(each.name.id for each in node.parameters)})"
        case tree.SpaceStatement(axes=axes):
            return f"[{', '.join(each.span.text for each in axes)}]"
        case _:
            return ""
