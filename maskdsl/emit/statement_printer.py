"""Expressions to the statements of a generated function, in any language with Python's operators.

A subexpression that occurs twice, or that would make a line too long, becomes a variable. `torch_printer.py` and
`triton_printer.py` print the operators.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import isfinite

from maskdsl.emit.plan import identifier, unused
from maskdsl.ir.expressions import Apply, Constant, Expression, Read, children
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.ops import OPERATORS, Op, Type

# Precedence in Python, loosest first: an operand that binds less tightly than its operator needs gets parentheses.
COMPARISON, OR, AND, SUM, PRODUCT, UNARY, _POWER, ATOM = range(8)

# The sign, the precedence of the result, and the least precedence of its left and of its right operands.
INFIX = {
    Op.ADD: ("+", SUM, SUM, PRODUCT),
    Op.SUBTRACT: ("-", SUM, SUM, PRODUCT),
    Op.MULTIPLY: ("*", PRODUCT, PRODUCT, UNARY),
    Op.DIVIDE: ("/", PRODUCT, PRODUCT, UNARY),
    Op.FLOOR_DIVIDE: ("//", PRODUCT, PRODUCT, UNARY),
    Op.FLOOR_MODULO: ("%", PRODUCT, PRODUCT, UNARY),
    Op.POWER: ("**", _POWER, ATOM, UNARY),
    Op.EQUAL: ("==", COMPARISON, OR, OR),
    Op.NOT_EQUAL: ("!=", COMPARISON, OR, OR),
    Op.LESS: ("<", COMPARISON, OR, OR),
    Op.LESS_EQUAL: ("<=", COMPARISON, OR, OR),
    Op.AND: ("&", AND, AND, SUM),
    Op.OR: ("|", OR, OR, AND),
}

_MOST_OPERANDS = 64
"""Operands of an `and` or `or` that are printed without grouping them."""


def literal(value: float) -> str:
    """A number as Python writes it: an infinity has no literal there."""
    return repr(value) if isfinite(value) else f'float("{value}")'


class Printer(ABC):
    """Collects statements. New variables begin with `prefix` and avoid the names in `taken`.

    Floats are float64 in a relation (`double`), and where they are rounded to integers; else of the type of `s`.
    """

    width = 96
    """The longest text of one expression, in characters; a statement adds its indentation and a name."""

    def __init__(self, taken: Iterable[str], double: bool, prefix: str = "") -> None:
        self.prefix = prefix
        self.double = double
        self.taken = set(taken)
        self.lines: list[str] = []
        self.known: dict[Expression, str] = {}
        self.known_elsewhere: dict[Expression, str] = {}  # with floats of the other type
        self.counts: Counter[Expression] = Counter()

    def assign(self, name: str, expression: Expression) -> None:
        """Adds the statement `name = expression`."""
        self.statement(f"{name} = ", expression)
        self.taken.add(name)

    def assign_score(self, expression: Expression) -> None:
        """Adds `s = expression`, in which `Score()` is the previous `s`."""
        if isinstance(expression, Constant):
            self.lines.append(f"s = {self.filled(expression)}")
        else:
            self.statement("s = ", expression)
        self.forget_scores()

    def forget_scores(self) -> None:
        """Drops variables computed from the previous `s`."""
        for known in (self.known, self.known_elsewhere):
            stale = [each for each in known if reads(each).score]
            for each in stale:
                del known[each]

    @contextmanager
    def in_float64(self) -> Iterator[None]:
        """Prints floats as float64 inside, with variables of their own."""
        if self.double:
            yield
            return
        self.double = True
        self.known, self.known_elsewhere = self.known_elsewhere, self.known
        yield
        self.double = False
        self.known, self.known_elsewhere = self.known_elsewhere, self.known

    def result(self, expression: Expression) -> None:
        """Adds `return expression`."""
        self.statement("return ", expression)

    def expect(self, *expressions: Expression) -> None:
        """Says what will be printed together: what occurs in it twice becomes a variable."""
        self.counts.update(_occurrences(expressions))

    def statement(self, start: str, expression: Expression) -> None:
        self.expect(expression)
        self.write(start, expression, self.print(expression)[0])

    def write(self, start: str, expression: Expression, text: str) -> None:
        """Adds a statement; a long `and` or `or` is broken into one operand a line."""
        match expression:
            case Apply(Op.AND | Op.OR as op, arguments) if len(text) > self.width and expression not in self.known:
                sign, _, left, right = INFIX[op]
                texts = [self.operand(each, right if n else left) for n, each in enumerate(arguments)]
                self.lines += in_parentheses(sign, [[each] for each in texts], start)
            case _:
                self.lines.append(start + text)

    def print(self, expression: Expression) -> tuple[str, int]:
        """The text of an expression and its precedence."""
        if expression in self.known:
            return self.known[expression], ATOM
        text, tightness = self.fresh(expression)
        while len(text) > self.width and self.name_longest_operand(expression):
            text, tightness = self.fresh(expression)
        if isinstance(expression, Apply) and self.counts[expression] > 1:
            return self.name(expression, text), ATOM
        return text, tightness

    def name_longest_operand(self, expression: Expression) -> bool:
        """Makes a variable of the longest operand, if any; not for `and` and `or`, which `write` breaks into lines."""
        if isinstance(expression, Apply) and expression.op in (Op.AND, Op.OR):
            return False
        operands = [each for each in children(expression) if isinstance(each, Apply | Read) and each not in self.known]
        if not operands:
            return False
        text, longest = max(((self.print(each)[0], each) for each in operands), key=lambda pair: len(pair[0]))
        if longest not in self.known:
            self.name(longest, text)
        return True

    def operand(self, expression: Expression, tightness: int) -> str:
        """The text as an operand of at least this precedence, in parentheses if need be."""
        text, precedence = self.print(expression)
        if len(text) > self.width and isinstance(expression, Apply | Read):
            return self.name(expression, text)
        return text if precedence >= tightness else f"({text})"

    def name(self, expression: Apply | Read, text: str) -> str:
        """Assigns a subexpression to a new variable; returns its name."""
        name = unused(self.prefix + _name_of(expression), self.taken)
        self.taken.add(name)
        self.write(f"{name} = ", expression, text)
        self.known[expression] = name
        return name

    @abstractmethod
    def filled(self, value: Constant) -> str:
        """The text of a score that is the same for all pairs."""

    @abstractmethod
    def fresh(self, expression: Expression) -> tuple[str, int]:
        """The text of an expression that has no variable yet, and its precedence."""


def in_parentheses(sign: str, operands: Sequence[Sequence[str]], start: str = "") -> list[str]:
    """Lines of one operand each, in parentheses. More than `_MOST_OPERANDS` are nested in groups.

    In a flat chain each operand is one level deeper in Python's syntax tree, and its parser stops at some hundreds.
    """
    while len(operands) > _MOST_OPERANDS:
        starts = range(0, len(operands), _MOST_OPERANDS)
        operands = [in_parentheses(sign, operands[at : at + _MOST_OPERANDS]) for at in starts]
    lines = [f"{start}("]
    for number, (first, *rest) in enumerate(operands):
        lines += [f"    {sign} {first}" if number else f"    {first}", *(f"    {each}" for each in rest)]
    return [*lines, ")"]


def _name_of(expression: Apply | Read) -> str:
    """The variable's name for a subexpression."""
    if isinstance(expression, Read):
        return f"{identifier(expression.input)}_value"
    return OPERATORS[expression.op].name or ("condition" if expression.type is Type.BOOL else "value")


def _occurrences(expressions: Iterable[Expression]) -> Counter[Expression]:
    """How often each distinct node is printed if a repeated node prints its operands once."""
    counts: Counter[Expression] = Counter()

    def visit(node: Expression) -> None:
        counts[node] += 1
        if counts[node] == 1:
            for child in children(node):
                visit(child)

    for expression in expressions:
        visit(expression)
    return counts
