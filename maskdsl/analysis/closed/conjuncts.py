"""A relation as conditions that hold together, as far as closed forms go: comparisons of integers, and of one token."""

from collections.abc import Iterable, Mapping

from maskdsl.ir.declared.sequences import Computed, Sequence
from maskdsl.ir.expressions import PAIR, Apply, Constant, Coordinate, Expression, Side, apply, of_side, rebuild, size
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.facts.trace import dependencies
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.ops import Op, Type

_MOST_NODES = 200
"""Larger relations use lists: sympy's time for them has no bound."""


class NoClosedForm(Exception):
    """The relation has no closed form."""


def conjuncts_of(mask: MaskIR) -> tuple[Expression, ...]:
    """Conditions that hold together where the relation does: comparisons of integers, and what one token says.

    Coordinates of tokens on a line are written over their index. Raises `NoClosedForm`.
    """
    has_spaces = any(len(each.spaces) > 1 for each in mask.sequences.values())
    if has_spaces or size(mask.relation) > _MOST_NODES:
        raise NoClosedForm
    read = reads(mask.relation)
    lines = {side: each for side, each in mask.sequences.items() if is_line(each)}
    forms = {side: _over_index(each, side, read.of(side)) for side, each in lines.items()}

    def index(node: Expression) -> Expression | None:
        return forms[node.side][node.name] if isinstance(node, Coordinate) and node.side in forms else None

    relation = rebuild(mask.relation, index)
    conjuncts = relation.arguments if isinstance(relation, Apply) and relation.op is Op.AND else (relation,)
    if size(relation) > _MOST_NODES or read.inputs or not all(map(_is_simple, conjuncts)):
        raise NoClosedForm
    return tuple(map(_without_difference, conjuncts))


def is_line(sequence: Sequence) -> bool:
    """Whether its tokens are in one row, as declared."""
    return len(sequence.spaces[0].axes) == 1 and not any(sequence.order)


def _over_index(sequence: Sequence, side: Side, read: Iterable[Coordinate]) -> dict[str, Expression]:
    """Coordinates on a line and their dependencies, as expressions over the index. Raises `NoClosedForm`."""
    forms: dict[str, Expression] = {}
    for name in dependencies(sequence, [each.name for each in read]):
        forms[name] = _of_index(sequence, side, name, forms)
        if size(forms[name]) > _MOST_NODES:
            raise NoClosedForm
    return forms


def _of_index(sequence: Sequence, side: Side, name: str, known: Mapping[str, Expression]) -> Expression:
    """A coordinate on a line over the index, given the forms of those it reads. Raises `NoClosedForm`."""
    definition = sequence.definition(name)
    if definition is None:
        return Coordinate(side, "i")
    ((_, source),) = definition.sources
    if not isinstance(source, Computed) or definition.type is not Type.INT:
        raise NoClosedForm
    return rebuild(source.value, lambda node: known[node.name] if isinstance(node, Coordinate) else None)


def _is_simple(conjunct: Expression) -> bool:
    """Whether it is known to compare integers, or is about one token alone."""
    if not reads(conjunct).is_of_pair:
        return True
    match conjunct:
        case Apply(Op.LESS | Op.LESS_EQUAL | Op.EQUAL, (a, _)):
            return a.type is not Type.FLOAT
        case _:
            return False


def _without_difference(conjunct: Expression) -> Expression:
    """`(a - b) % c == 0` is `a % c == b % c`."""
    match conjunct:
        case Apply(Op.EQUAL, (Apply(Op.FLOOR_MODULO, (Apply(Op.SUBTRACT, (a, b)), c)), Constant(value=0))):
            return apply(Op.EQUAL, apply(Op.FLOOR_MODULO, a, c), apply(Op.FLOOR_MODULO, b, c))
        case _:
            return conjunct


def equal_expression(conjunct: Expression) -> Expression | None:
    """The expression over one token that is equal for both tokens where the conjunct holds; None of other conjuncts."""
    match conjunct:
        case Apply(Op.EQUAL, (a, b)) if sides_of(a) != sides_of(b) and len(sides_of(a)) == len(sides_of(b)) == 1:
            alone = of_side(a, Side.TOKEN)
            return alone if alone == of_side(b, Side.TOKEN) else None
        case _:
            return None


def sides_of(expression: Expression) -> tuple[Side, ...]:
    """The sides of the tokens that it reads."""
    return tuple(side for side in PAIR if reads(expression).names(side))
