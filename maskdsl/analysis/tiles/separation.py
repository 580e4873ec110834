"""Separates a relation into columns, which read one side only and are computed per token, and a program over pairs.

The bounds of a column over a block are exact for any expression, so the relation is first rewritten to have more of
them.
"""

from collections.abc import Mapping
from dataclasses import field

from maskdsl.analysis.tiles.interval_program import Column, IntervalProgram, compile_program
from maskdsl.analysis.tiles.list_bounds import Bounded
from maskdsl.analysis.tiles.listed_pairs import Cover, find_cover
from maskdsl.analysis.tiles.matches import MatchTerm, find_terms
from maskdsl.base.records import dataclass
from maskdsl.ir.expressions import Apply, Constant, Coordinate, Expression, InSpace, Side, apply, children, rebuild
from maskdsl.ir.ops import Op

_ZERO = Constant(0)


@dataclass(frozen=True)
class Separation:
    """A program over pairs, and the expressions over one token whose values are its columns."""

    program: IntervalProgram
    query: tuple[Expression, ...]
    key: tuple[Expression, ...]
    cover: Cover | None = None
    """Of a relation whose attending pairs can be listed."""
    terms: tuple[MatchTerm, ...] | None = None
    """Of a relation whose pairs are those that match."""


def separate(relation: Expression, tables: Mapping[str, Bounded]) -> Separation:
    """The program of a relation, and its columns of each side. `tables` holds the inputs read by index."""
    sides = SideTable()
    relation = rewrite(relation, sides)
    columns: dict[Side, dict[Expression, int]] = {Side.QUERY: {}, Side.KEY: {}}

    def column(node: Expression) -> Column | None:
        match tuple(sides.of(node)):
            case (side,):
                known = columns[side]
                return Column(side, known.setdefault(node, len(known)))
            case _:
                return None

    program = compile_program(relation, tables, column)
    cover, terms = find_cover(relation, tables, column), find_terms(relation, column)
    return Separation(program, tuple(columns[Side.QUERY]), tuple(columns[Side.KEY]), cover, terms)


@dataclass(frozen=True)
class SideTable:
    """The sides that each expression reads, for expressions that were entered."""

    known: dict[Expression, frozenset[Side]] = field(default_factory=dict)

    def of(self, expression: Expression) -> frozenset[Side]:
        """The sides that an entered expression reads."""
        return self.known[expression]

    def enter(self, expression: Expression) -> Expression:
        """Enters an expression whose operands have been entered, and returns it."""
        match expression:
            case Coordinate(side=side) | InSpace(side=side):
                sides = frozenset({side})
            case _:
                sides = frozenset[Side]().union(*map(self.of, children(expression)))
        self.known[expression] = sides
        return expression


def rewrite(expression: Expression, sides: SideTable) -> Expression:
    """Applies both laws below bottom-up."""

    def rewritten(node: Expression) -> Expression | None:
        sides.enter(node)
        return (split_congruence(node, sides) or group_by_side(node, sides)) if isinstance(node, Apply) else None

    return rebuild(expression, rewritten)


def split_congruence(expression: Apply, sides: SideTable) -> Expression | None:
    """`(a - b) % m == 0` is `a % m == b % m`, if a and b read one side each."""
    match expression:
        case Apply(
            op=Op.EQUAL | Op.NOT_EQUAL as op,
            arguments=(
                Apply(op=Op.FLOOR_MODULO, arguments=(Apply(op=Op.SUBTRACT, arguments=(a, b)), Constant() as m)),
                zero,
            ),
        ) if zero == _ZERO and len(sides.of(a)) == len(sides.of(b)) == 1:
            remainders = [sides.enter(apply(Op.FLOOR_MODULO, each, m)) for each in (a, b)]
            return sides.enter(apply(op, *remainders))
    return None


def group_by_side(expression: Apply, sides: SideTable) -> Expression | None:
    """`a and c and b and d` is `(a and b) and c and d`, if a and b read one side, the same."""
    if expression.op not in (Op.AND, Op.OR):
        return None
    groups: dict[object, list[Expression]] = {}
    for number, operand in enumerate(expression.arguments):
        read = sides.of(operand)
        groups.setdefault(read if len(read) == 1 else number, []).append(operand)
    if len(groups) in (1, len(expression.arguments)):
        return None
    grouped = [group[0] if len(group) == 1 else sides.enter(apply(expression.op, *group)) for group in groups.values()]
    return sides.enter(apply(expression.op, *grouped))
