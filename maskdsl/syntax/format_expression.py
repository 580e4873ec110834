"""Formats expressions as documents: as few parentheses as possible, line breaks before operators, comments kept."""

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from typing import NamedTuple, TypeVar

from maskdsl.syntax import tree
from maskdsl.syntax.build import ESCAPES
from maskdsl.syntax.layout import HARD, LINE, SOFT, Document, Group, Nest, Suffix, lay_out
from maskdsl.syntax.restrictions import last_not

INDENT = 4
_ESCAPED = {character: "\\" + letter for letter, character in ESCAPES.items()}
_NUMBER = re.compile(r"[0-9]\w*(\.[0-9]\w*([eE][+-]?[0-9]+)?|[eE][+-]?[0-9]+)?")
_BLANKS = re.compile(r"[ \t]*")
_COMMAS = re.compile(r"(\s*,)*[ \t]*")
_CLOSED = re.compile(r"(\s*\))*[ \t]*")

Listed = TypeVar("Listed", bound=tree.Node)


class Precedence(IntEnum):
    """The precedence of expressions, from the loosest: the rules of the grammar from the top."""

    CONDITIONAL = 0
    DISJUNCTION = 1
    RESTRICTION = 2
    CONJUNCTION = 3
    NEGATION = 4
    COMPARISON = 5
    ARROW = 6
    SUM = 7
    PRODUCT = 8
    SIGNED = 9
    POWER = 10
    ATOM = 11


_LEFT_TO_RIGHT = {
    "or": Precedence.DISJUNCTION,
    "and": Precedence.CONJUNCTION,
    "+": Precedence.SUM,
    "-": Precedence.SUM,
    "*": Precedence.PRODUCT,
    "/": Precedence.PRODUCT,
    "//": Precedence.PRODUCT,
    "%": Precedence.PRODUCT,
}


class Operand(NamedTuple):
    """One operand of a chain, the operator before it, and the precedence from which it needs no parentheses."""

    operator: str
    operand: tree.Expression
    level: Precedence


def format_expression(expression: tree.Expression) -> str:
    """An expression on one line."""
    return lay_out(Group(Expressions(()).expression(expression)), 10**9)


def comment_lines(comments: Iterable[tree.Comment]) -> Document:
    """Comments on lines of their own, before something else."""
    return tuple(document for comment in comments for document in (comment.text, HARD))


class Expressions:
    """Makes documents of expressions. Comments are consumed in order, so nodes must be printed in text order."""

    def __init__(self, comments: Iterable[tree.Comment]) -> None:
        self._comments = deque(comments)
        self._after_where = False
        """Whether the node being printed is in the condition of a `where`, outside brackets."""

    def before(self, offset: int) -> list[tree.Comment]:
        """The comments before an offset that were not consumed yet."""
        comments = []
        while self._comments and self._comments[0].span.start < offset:
            comments.append(self._comments.popleft())
        return comments

    def beside(self, node: tree.Node, gap: re.Pattern[str] = _BLANKS) -> list[tree.Comment]:
        """The comment after a node on its line, if there is one, with no more than `gap` between them."""
        if self._comments:
            span, before = self._comments[0].span, node.span
            between = gap.match(span.source.text, before.end, span.start) if span.source is before.source else None
            if between is not None and between.end() == span.start:
                return [self._comments.popleft()]
        return []

    def rest(self) -> list[tree.Comment]:
        """All comments that were not consumed yet."""
        return self.before(self._comments[-1].span.end) if self._comments else []

    def expression(
        self, node: tree.Expression, level: Precedence = Precedence.CONDITIONAL, hang: int = INDENT
    ) -> Document:
        """A node, in parentheses if its precedence is below `level`. `hang` is the indent of the lines of a chain."""
        precedence, show = self._form(node)
        if precedence >= level:
            return show(hang)
        comments = comment_lines(self.before(node.span.start))
        with self._condition(False):
            return Group(("(", Nest(INDENT, (SOFT, comments, show(0))), SOFT, ")"))

    @contextmanager
    def _condition(self, after_where: bool) -> Iterator[None]:
        before, self._after_where = self._after_where, after_where
        yield
        self._after_where = before

    def listed(
        self, opening: str, nodes: Sequence[Listed], show: Callable[[Listed], Document], closing: str, end: int
    ) -> Document:
        """Nodes between brackets, separated by commas. Comments before `end` go before the closing bracket."""
        items: list[Document] = []
        separator = SOFT
        for number, node in enumerate(nodes):
            last = number == len(nodes) - 1
            above = self.before(node.span.start)
            document = show(node)
            above += self.before(node.span.end)
            items += [separator, comment_lines(above), document, "" if last else ","]
            beside = self.beside(node, _COMMAS)
            after = self.before(end) if last else []
            items += [*(Suffix(comment.text) for comment in beside), *((HARD, comment.text) for comment in after)]
            separator = HARD if beside or after else SOFT if last else LINE
        if not nodes or not closing:
            return Group((opening, Nest(INDENT, tuple(items)), closing))
        return Group((opening, Nest(INDENT, tuple(items)), separator, closing))

    def chain(self, first: Document, operands: Sequence[Operand], hang: int, before: tree.Expression) -> Document:
        """Operands joined by operators, which begin the lines if the chain is broken."""
        rest: list[Document] = []
        for each in operands:
            beside = self.beside(before, _CLOSED)
            rest += [Suffix(comment.text) for comment in beside]
            comments = comment_lines(self.before(each.operand.span.start))
            operand = self.expression(each.operand, each.level)
            rest.append((HARD if beside else LINE, comments, f"{each.operator} ", operand))
            before = each.operand
        return Group((first, Nest(hang, tuple(rest))))

    def _form(self, node: tree.Expression) -> tuple[Precedence, Callable[[int], Document]]:
        """The precedence of a node, and a function that makes its document for a hanging indent."""
        match node:
            case tree.Conditional():
                return Precedence.CONDITIONAL, lambda hang: self._conditional(node, hang)
            case tree.Where():
                return Precedence.RESTRICTION, lambda hang: self._where(node, hang)
            case tree.Comparison(operands, operators):
                rest = [
                    Operand(operator, operand, Precedence.ARROW)
                    for operator, operand in zip(operators, operands[1:], strict=True)
                ]
                return Precedence.COMPARISON, lambda hang: self._joined(operands[0], Precedence.ARROW, rest, hang)
            case tree.Binary("**", left, right):
                return Precedence.POWER, lambda _: (
                    self.expression(left, Precedence.ATOM),
                    " ** ",
                    self.expression(right, Precedence.SIGNED),
                )
            case tree.Binary(operator):
                level = _LEFT_TO_RIGHT[operator]
                return level, lambda hang: self._left_to_right(node, level, hang)
            case tree.Unary("not", operand):
                return Precedence.NEGATION, lambda _: ("not ", self.expression(operand, Precedence.NEGATION))
            case tree.Unary(operator, operand):
                return Precedence.SIGNED, lambda _: self._signed(operator, operand)
            case tree.Arrow(query, key):
                return (
                    Precedence.CONDITIONAL if self._after_where else Precedence.ARROW,
                    lambda _: f"{query.id} -> {key.id}",
                )
            case _:
                return Precedence.ATOM, lambda _: self._atom(node)

    def _joined(self, first: tree.Expression, level: Precedence, rest: Sequence[Operand], hang: int) -> Document:
        return self.chain(self.expression(first, level), rest, hang, first)

    def _left_to_right(self, node: tree.Binary, level: Precedence, hang: int) -> Document:
        operands: list[Operand] = []
        first: tree.Expression = node
        while isinstance(first, tree.Binary) and _LEFT_TO_RIGHT.get(first.operator) == level:
            last = not operands  # only the last operand may end in a `where` without brackets
            wanted = Precedence.CONJUNCTION if level == Precedence.DISJUNCTION and not last else Precedence(level + 1)
            operands.append(Operand(first.operator, first.right, wanted))
            first = first.left
        return self._joined(
            first, Precedence.CONJUNCTION if level == Precedence.DISJUNCTION else level, operands[::-1], hang
        )

    def _where(self, node: tree.Where, hang: int) -> Document:
        negated = last_not(node.relation) is not None
        relation = self.expression(node.relation, Precedence.COMPARISON if negated else Precedence.CONJUNCTION)
        with self._condition(True):
            return self.chain(relation, [Operand("where", node.condition, Precedence.CONJUNCTION)], hang, node.relation)

    def _conditional(self, node: tree.Conditional, hang: int) -> Document:
        operands: list[Operand] = []
        inner = node
        while isinstance(inner.otherwise, tree.Conditional):
            operands.append(Operand("if", inner.condition, Precedence.DISJUNCTION))
            operands.append(Operand("else", inner.otherwise.then, _before_if(inner.otherwise.then)))
            inner = inner.otherwise
        operands.append(Operand("if", inner.condition, Precedence.DISJUNCTION))
        operands.append(Operand("else", inner.otherwise, Precedence.CONDITIONAL))
        return self._joined(node.then, _before_if(node.then), operands, hang)

    def _signed(self, operator: str, operand: tree.Expression) -> Document:
        same = isinstance(operand, tree.Unary) and operand.operator == operator  # `++` would be another word
        return (f"{operator} " if same else operator, self.expression(operand, Precedence.SIGNED))

    def _atom(self, node: tree.Expression) -> Document:
        with self._condition(False):
            return self._closed(node)

    def _closed(self, node: tree.Expression) -> Document:
        end = node.span.end
        match node:
            case tree.Integer(value) | tree.Float(value):
                return _number(node.span.text, value)
            case tree.Boolean(value):
                return str(value)
            case tree.String(text):
                return _quoted(text)
            case tree.Name(name):
                return name
            case tree.Attribute(base, name):
                return f"{base.id}.{name.id}"
            case tree.Tuple((item,)):
                return ("(", self.expression(item), ",)")
            case tree.Tuple(items):
                return self.listed("(", items, self.expression, ")", end)
            case tree.Call(function, arguments):
                return self.listed(f"{function.id}(", arguments, self.argument, ")", end)
            case tree.Index(base, indices):
                return self.listed(f"{base.id}[", indices, self.expression, "]", end)
            case tree.Quantifier(kind, body, variable, domain):
                shown = self.expression(body)
                each = (LINE, f"for {variable.id} in ", self.expression(domain))
                return Group((f"{kind}(", Nest(INDENT, (SOFT, shown, each)), SOFT, ")"))
            case tree.HalfOpenRange(low, high):
                return (self.expression(low), " .. ", self.expression(high))
            case _:
                raise AssertionError(f"not an atom: {node}")

    def argument(self, argument: tree.Argument) -> Document:
        value = self.expression(argument.value)
        if argument.by is not None:
            return (value, " by ", self.expression(argument.by))
        return value if argument.name is None else (f"{argument.name.id} = ", value)


def _before_if(node: tree.Expression) -> Precedence:
    """The precedence required before an `if`: an expression that ends in a `where` needs parentheses."""
    last = node
    while isinstance(last, tree.Binary) and last.operator == "or":
        last = last.right
    return Precedence.CONJUNCTION if isinstance(last, tree.Where) else Precedence.DISJUNCTION


def _quoted(text: str) -> str:
    return '"' + "".join(_ESCAPED.get(character, character) for character in text) + '"'


def _number(written: str, value: float) -> str:
    """A number in the spelling of its source, such as `1_000_000` or `1e-6`, if it has one."""
    if _NUMBER.fullmatch(written) and type(value)(written) == value:
        return written
    return repr(value)
