"""Formats a tree as text in one canonical layout, for `maskdsl fmt`.

`parse(format_file(tree)) == tree`, and formatting twice changes nothing. Comments stay beside their word. Between
statements and declarations at most one blank line is kept.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeVar, assert_never

from maskdsl.syntax import tree
from maskdsl.syntax.format_expression import INDENT, Expressions, comment_lines, format_expression
from maskdsl.syntax.layout import HARD, LINE, Document, Group, Nest, Suffix, lay_out

_WIDTH = 100
_BLANK_LINE = re.compile(r"(?>\r\n|\r|\n)[ \t]*[\r\n]")
_DOC_COMMENT = re.compile(r"##(?!#)")
_ENDS_IN_NAME = re.compile(r"(^|[^\w.])[A-Za-z_]\w*$")

_Printed = TypeVar("_Printed", bound=tree.Node)


def format_file(file: tree.File) -> str:
    """The canonical text of a file, with a line end after its last line."""
    printer = _Formatter(file.comments)
    items = printer.items(file.declarations, printer.declaration)
    text = lay_out(_stacked([*items, *_comments(printer.rest())]), _WIDTH)
    return f"{text}\n" if text else ""


class _Item(NamedTuple):
    """A declaration, a statement, or a comment on its own line."""

    node: tree.Node
    document: Document


class _Formatter(Expressions):
    """Documents of declarations and statements."""

    def items(self, nodes: Iterable[_Printed], show: Callable[[_Printed], Document]) -> list[_Item]:
        """Each node with the comments above and beside it. Comments inside it that nothing prints go above it."""
        items: list[_Item] = []
        for node in nodes:
            above = self.before(node.span.start)
            document = show(node)
            items += _comments([*above, *self.before(node.span.end)])
            beside = tuple(Suffix(comment.text) for comment in self.beside(node))
            items.append(_Item(node, (document, *beside)))
        return items

    def declaration(self, declaration: tree.Declaration) -> Document:
        """The document of a declaration, its documentation included."""
        match declaration:
            case tree.UseDeclaration(path):
                return ("use ", self.expression(path))
            case tree.MacroDeclaration(lets=()):
                return (_documentation(declaration.doc), self.defined(self.head("def", declaration), declaration.body))
            case tree.MacroDeclaration():
                return (_documentation(declaration.doc), self.head("def", declaration), " = ", self.block(declaration))
            case tree.PatternDeclaration():
                head = self.head("pattern", declaration)
                items = self.items(declaration.statements, self.statement)
                items += _comments(self.before(declaration.span.end))
                return (_documentation(declaration.doc), head, " ", _braced(items))
            case tree.StackDeclaration():
                head = self.head("stack", declaration)
                return (_documentation(declaration.doc), self.defined(head, declaration.layers))
            case _:
                assert_never(declaration)

    def head(
        self, word: str, declaration: tree.MacroDeclaration | tree.PatternDeclaration | tree.StackDeclaration
    ) -> Document:
        """The word of a declaration, its name and its parameters."""
        parameters = declaration.parameters
        end = parameters[-1].span.end if parameters else 0
        return self.listed(f"{word} {declaration.name.id}(", parameters, self.parameter, ")", end)

    def parameter(self, parameter: tree.Parameter) -> Document:
        type_text = "" if parameter.type is None else f": {parameter.type.id}"
        default = "" if parameter.default is None else (" = ", self.expression(parameter.default))
        return (parameter.name.id, type_text, default)

    def block(self, macro: tree.MacroDeclaration) -> Document:
        """The body of a macro with `let`s. No symbol ends the last `let`, so it or the result may need brackets."""
        opening = format_expression(macro.body)[0]
        last = macro.lets[-1]
        closed = opening in "(+-" and _ENDS_IN_NAME.search(format_expression(last.value)) is not None

        def show(let: tree.LetStatement) -> Document:
            if let is last and closed:
                return (f"let {let.name.id} = (", self.expression(let.value), ")")
            return self.statement(let)

        items = self.items(macro.lets, show)
        items += _comments(self.before(macro.body.span.start))
        result = self.expression(macro.body)
        items.append(_Item(macro.body, ("(", result, ")") if opening in "+-" else result))
        return _braced([*items, *_comments(self.before(macro.span.end))])

    def statement(self, statement: tree.Statement) -> Document:
        match statement:
            case tree.SpaceStatement(name, axes):
                return self.listed(f"space {name.id}[", axes, self.axis, "]", statement.span.end)
            case tree.PooledSpaceStatement(name, pooling, source, by, size):
                grouped = () if by is None else (" by ", self.expression(by))
                sized = () if size is None else (", ", self.expression(size))
                return (f"space {name.id} = {pooling.id}({source.id}", *grouped, *sized, ")")
            case tree.SequenceStatement(kind, spaces):
                rest = tuple((LINE, f"++ {space.id}") for space in spaces[1:])
                return Group((f"{kind} {spaces[0].id}", Nest(INDENT, rest)))
            case tree.InputStatement(name, type_text, ()):
                return f"input {name.id}: {type_text.id}"
            case tree.InputStatement(name, type_text, dimensions):
                head = f"input {name.id}: {type_text.id}["
                return self.listed(head, dimensions, self.expression, "]", statement.span.end)
            case tree.CoordinateStatement(space, name, value):
                owner = "" if space is None else f"{space.id}."
                return self.defined(f"coord {owner}{name.id}", value)
            case tree.LetStatement(name, value):
                return self.defined(f"let {name.id}", value)
            case tree.RouteStatement():
                return self.route(statement)
            case tree.AttendStatement(value):
                return self.with_word("attend", value)
            case tree.RequireStatement(value):
                return self.with_word("require", value)
            case tree.ScoreStatement(value):
                return self.with_word("score", value)
            case tree.ScaleStatement(value):
                return self.with_word("scale", value)
            case tree.WeightStatement(value):
                return self.with_word("weight", value)
            case tree.ValueStatement(value):
                return self.with_word("value", value)
            case tree.SinkStatement(value):
                return self.with_word("sink", value)
            case tree.NormalizeStatement():
                return f"normalize {statement.text}"
            case tree.OrderStatement(space, keys):
                head = "order by" if space is None else f"order {space.id} by"
                return self.listed(f"{head} ", keys, self.expression, "", statement.span.end)
            case tree.AutoOrderStatement(space):
                return "order auto" if space is None else f"order {space.id} auto"
            case tree.BranchStatement():
                return self.branch(statement)
            case tree.AssertStatement(condition, message):
                text = (LINE, comment_lines(self.before(message.span.start)), self.expression(message))
                return Group((self.with_word("assert", condition), ",", Nest(INDENT, text)))
            case _:
                assert_never(statement)

    def axis(self, axis: tree.AxisDeclaration) -> Document:
        return ("" if axis.name is None else f"{axis.name.id} = ", self.expression(axis.length))

    def route(self, route: tree.RouteStatement) -> Document:
        lines: list[Document] = [self.defined(f"route {route.name.id}", route.selector)]
        for word, relation in (("where", route.candidates), ("always", route.always)):
            if relation is not None:
                comments = comment_lines(self.before(relation.span.start))
                lines.append(Nest(INDENT, (LINE, comments, f"{word} ", self.expression(relation))))
        return Group(tuple(lines)) if len(lines) > 1 else lines[0]

    def branch(self, branch: tree.BranchStatement) -> Document:
        """`branch name for o in 0 .. 9 { ... }`."""
        head: Document = f"branch {branch.name.id}"
        if branch.variable is not None and branch.domain is not None:
            head = (head, f" for {branch.variable.id} in ", self.expression(branch.domain))
        items = self.items(branch.statements, self.statement)
        return (head, " ", _braced([*items, *_comments(self.before(branch.span.end))]))

    def with_word(self, word: str, value: tree.Expression) -> Document:
        """`attend causal`, the value on the same line."""
        comments = comment_lines(self.before(value.span.start))
        shown = self.expression(value)
        return (word, Nest(INDENT, (HARD, comments, shown))) if comments else (word, " ", shown)

    def defined(self, head: Document, value: tree.Expression) -> Document:
        """`head = value`, the value on a line of its own if it is long."""
        comments = comment_lines(self.before(value.span.start))
        return Group((head, " =", Nest(INDENT, (LINE, comments, self.expression(value, hang=0)))))


def _documentation(doc: str) -> Document:
    lines = doc.split("\n") if doc else []
    return tuple(document for line in lines for document in (f"## {line}".rstrip(), HARD))


def _comments(comments: Iterable[tree.Comment]) -> list[_Item]:
    return [_Item(comment, comment.text) for comment in comments]


def _braced(items: Sequence[_Item]) -> Document:
    return ("{", Nest(INDENT, (HARD, _stacked(items))), HARD, "}") if items else "{}"


def _stacked(items: Sequence[_Item]) -> Document:
    """Items below each other, with the blank lines that they had and those that they need."""
    documents: list[Document] = [items[0].document] if items else []
    for above, below in pairwise(items):
        documents += [HARD, HARD] if _apart(above.node, below.node) else [HARD]
        documents.append(below.document)
    return tuple(documents)


def _apart(above: tree.Node, below: tree.Node) -> bool:
    """Whether two items have a blank line between them."""
    if isinstance(above, tree.Comment):
        documents = isinstance(below, tree.MacroDeclaration | tree.PatternDeclaration | tree.StackDeclaration)
        if documents and _DOC_COMMENT.match(above.text):
            return True  # otherwise the comment would become its documentation
    elif _tall(above) or _tall(below):
        return True
    return _BLANK_LINE.search(above.span.source.text, above.span.end, below.span.start) is not None


def _tall(node: tree.Node) -> bool:
    """Whether a declaration has several lines, and therefore blank lines around it."""
    match node:
        case (
            tree.PatternDeclaration(statements=body)
            | tree.BranchStatement(statements=body)
            | tree.MacroDeclaration(lets=body)
        ):
            return bool(body)
        case _:
            return False
