"""Relations that factor over the axes of the keys, counted axis by axis instead of tile by tile.

A neighbourhood on a grid is one condition on the key's row and one on its column. The number of keys of a query is then
the product of its numbers of rows and columns.
"""

from dataclasses import replace

from maskdsl.ir.declared.sequences import Sequence, Space
from maskdsl.ir.expressions import TRUE, Apply, Expression, Side, apply
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.ops import Op


def axis_masks(mask: MaskIR, relation: Expression) -> tuple[MaskIR, ...] | None:
    """One mask per axis of the keys, from all queries to the indices of that axis, whose conjunction is the relation.

    In declared order, for one head and batch entry. None if the relation does not factor, or keys have one axis.
    """
    (space, *others) = mask.keys.spaces
    if others or len(space.axes) == 1:
        return None
    factors: dict[str, list[Expression]] = {axis.name: [] for axis in space.axes}
    for condition in conjuncts(relation):
        read = {each.name for each in reads(condition).of(Side.KEY)}
        match tuple(read or {space.axes[0].name}):
            case (name,) if name in factors:
                factors[name].append(condition)
            case _:
                return None
    queries = replace(mask.queries, order=())
    return tuple(
        replace(
            mask,
            queries=queries,
            keys=Sequence((Space(space.name, (axis,)),)),
            self_attention=False,
            relation=apply(Op.AND, TRUE, *factors[axis.name]) if factors[axis.name] else TRUE,
        )
        for axis in space.axes
    )


def conjuncts(relation: Expression) -> tuple[Expression, ...]:
    """The operands of nested `and`; the relation itself if it is none."""
    match relation:
        case Apply(op=Op.AND, arguments=arguments):
            return tuple(inner for argument in arguments for inner in conjuncts(argument))
        case _:
            return (relation,)
