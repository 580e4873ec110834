"""Expressions as the statements of a generated function, in any language with Python's operators.

Subexpressions that occur twice, and those that would make a line too long, get names of their own. What an operator
looks like is up to the printers of `torch_printer.py` and `triton_printer.py`.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence

from maskdsl.emit.plan import identifier, unused
from maskdsl.ir.expressions import Apply, Constant, Expression, Read, children
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.ops import OPERATORS, Op, Type

# How tightly a text binds, as Python has it: a part that binds less than its place asks for goes into parentheses.
COMPARISON, OR, AND, SUM, PRODUCT, UNARY, _POWER, ATOM = range(8)

# Operator, how tightly the result binds, and what it asks of its left and right operand.
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
"""Of `and` or `or`, one behind the other."""


class Printer(ABC):
    """Collects statements. `taken` are names that stand for something else; `prefix` is in front of new ones."""

    width = 96
    """Longest text of one expression; statements add an indentation and a name."""

    def __init__(self, taken: Iterable[str], prefix: str = "") -> None:
        self.prefix = prefix
        self.taken = set(taken)
        self.lines: list[str] = []
        self.known: dict[Expression, str] = {}
        self.counts: Counter[Expression] = Counter()

    def assign(self, name: str, expression: Expression) -> None:
        """Adds the statement `name = expression`."""
        self.statement(f"{name} = ", expression)
        self.taken.add(name)

    def assign_score(self, expression: Expression) -> None:
        """Adds `s = expression`, in which `Score()` is the `s` so far."""
        if isinstance(expression, Constant):
            self.lines.append(f"s = {self.filled(expression)}")
        else:
            self.statement("s = ", expression)
        self.forget_scores()

    def forget_scores(self) -> None:
        """The names of what has read the `s` so far, which another one has replaced."""
        scored = [each for each in self.known if reads(each).score]
        for each in scored:
            del self.known[each]

    def result(self, expression: Expression) -> None:
        """Adds `return expression`."""
        self.statement("return ", expression)

    def statement(self, start: str, expression: Expression) -> None:
        self.counts.update(_occurrences(expression))
        self.write(start, expression, self.print(expression)[0])

    def write(self, start: str, expression: Expression, text: str) -> None:
        """Adds a statement; a long `and` or `or` has one operand a line."""
        match expression:
            case Apply(Op.AND | Op.OR as op, parts) if len(text) > self.width and expression not in self.known:
                sign, _, left, right = INFIX[op]
                texts = [self.position(part, right if n else left) for n, part in enumerate(parts)]
                self.lines += in_parentheses(sign, [[each] for each in texts], start)
            case _:
                self.lines.append(start + text)

    def print(self, expression: Expression) -> tuple[str, int]:
        """The text of an expression and how tightly it binds."""
        if expression in self.known:
            return self.known[expression], ATOM
        text, tightness = self.fresh(expression)
        while len(text) > self.width and self.name_longest_part(expression):
            text, tightness = self.fresh(expression)
        if isinstance(expression, Apply) and self.counts[expression] > 1:
            return self.name(expression, text), ATOM
        return text, tightness

    def name_longest_part(self, expression: Expression) -> bool:
        """Shortens a text that is too long; `and` and `or` are broken into lines instead."""
        if isinstance(expression, Apply) and expression.op in (Op.AND, Op.OR):
            return False
        parts = [part for part in children(expression) if isinstance(part, Apply | Read) and part not in self.known]
        if not parts:
            return False
        text, part = max(((self.print(part)[0], part) for part in parts), key=lambda pair: len(pair[0]))
        if part not in self.known:
            self.name(part, text)
        return True

    def position(self, expression: Expression, tightness: int) -> str:
        """The text where something that binds so tightly is asked for."""
        text, own = self.print(expression)
        if len(text) > self.width and isinstance(expression, Apply | Read):
            return self.name(expression, text)
        return text if own >= tightness else f"({text})"

    def name(self, expression: Apply | Read, text: str) -> str:
        """Adds a statement for a subexpression."""
        name = unused(self.prefix + _name_of(expression), self.taken)
        self.taken.add(name)
        self.write(f"{name} = ", expression, text)
        self.known[expression] = name
        return name

    @abstractmethod
    def filled(self, value: Constant) -> str:
        """A score that is the same for all pairs."""

    @abstractmethod
    def fresh(self, expression: Expression) -> tuple[str, int]:
        """The text of an expression without a name, and how tightly it binds."""


def in_parentheses(sign: str, operands: Sequence[Sequence[str]], start: str = "") -> list[str]:
    """Operands of one operator on lines of their own; many are first joined to groups, and these to groups.

    Otherwise each would stand one level deeper than the one before it, and Python reads no more than some hundreds.
    """
    while len(operands) > _MOST_OPERANDS:
        starts = range(0, len(operands), _MOST_OPERANDS)
        operands = [in_parentheses(sign, operands[at : at + _MOST_OPERANDS]) for at in starts]
    lines = [f"{start}("]
    for number, (first, *rest) in enumerate(operands):
        lines += [f"    {sign} {first}" if number else f"    {first}", *(f"    {each}" for each in rest)]
    return [*lines, ")"]


def _name_of(expression: Apply | Read) -> str:
    """What a subexpression is called if it needs a name."""
    if isinstance(expression, Read):
        return f"{identifier(expression.input)}_value"
    return OPERATORS[expression.op].name or ("condition" if expression.type is Type.BOOL else "value")


def _occurrences(expression: Expression) -> Counter[Expression]:
    """How often each distinct node is written when parts of repeated nodes are written once."""
    counts: Counter[Expression] = Counter()

    def visit(node: Expression) -> None:
        counts[node] += 1
        if counts[node] == 1:
            for child in children(node):
                visit(child)

    visit(expression)
    return counts
