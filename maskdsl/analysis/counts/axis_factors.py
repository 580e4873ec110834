"""Relations that fall apart into one for each axis of the keys: counted axis by axis instead of tile by tile.

A neighbourhood over a grid asks one thing of a key's row and another of its column. The keys that a query attends are
then the product of the rows and the columns it attends.
"""

from dataclasses import replace

from maskdsl.ir.expressions import TRUE, Apply, Expression, Side, apply
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.mask import MaskIR, Sequence, Space
from maskdsl.ir.ops import Op


def axis_masks(mask: MaskIR, relation: Expression) -> tuple[MaskIR, ...] | None:
    """The mask from all queries to the places of each axis of the keys, if the relation is their conjunction.

    All in declared order, for one head and batch entry. None for a relation that doesn't fall apart, and for a single
    axis, where nothing is gained.
    """
    (space, *others) = mask.keys.spaces
    if others or len(space.axes) == 1:
        return None
    parts: dict[str, list[Expression]] = {axis.name: [] for axis in space.axes}
    for part in conjuncts(relation):
        read = {each.name for each in reads(part).of(Side.KEY)}
        match tuple(read or {space.axes[0].name}):
            case (name,) if name in parts:
                parts[name].append(part)
            case _:
                return None
    queries = replace(mask.queries, order=())
    return tuple(
        replace(
            mask,
            queries=queries,
            keys=Sequence((Space(space.name, (axis,)),)),
            self_attention=False,
            relation=apply(Op.AND, TRUE, *parts[axis.name]) if parts[axis.name] else TRUE,
        )
        for axis in space.axes
    )


def conjuncts(relation: Expression) -> tuple[Expression, ...]:
    match relation:
        case Apply(op=Op.AND, arguments=arguments):
            return tuple(inner for argument in arguments for inner in conjuncts(argument))
        case _:
            return (relation,)
