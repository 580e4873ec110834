"""How far back a query attends, before there are queries and keys."""

from dataclasses import replace

from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.ir.expressions import Constant, Coordinate, Side, apply
from maskdsl.ir.facts.route_candidates import most
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.inputs import relation_inputs
from maskdsl.ir.ops import Op


def reaches(mask: MaskIR, distance: int) -> bool | None:
    """Whether some query may attend a key `distance` or more positions back, by exact tiles; None if inputs decide.

    Routes are taken to select all of their candidates.
    """
    mask = most(mask).declared
    if relation_inputs(mask, {each.name for each in mask.routed}):
        return True if mask.routed else None
    back = apply(Op.SUBTRACT, Coordinate(Side.QUERY, "i"), Coordinate(Side.KEY, "i"))
    far = apply(Op.AND, mask.relation, apply(Op.LESS_EQUAL, Constant(distance), back))
    block_map = tiles(replace(mask, relation=far))
    return any(head_class.full.count or head_class.partial.count for head_class in block_map.head_classes)
