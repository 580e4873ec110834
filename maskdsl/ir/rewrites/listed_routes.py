"""Routes that select few keys for each query give lists in place of tables: memory follows what is selected.

The list is the tensor of a sparse input with a row for each query, and has room for as many keys as may be selected.
"""

from dataclasses import replace

from maskdsl.ir.expressions import FALSE, Constant, Expression, Read, apply, rebuild
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.ops import Op, Type
from maskdsl.ir.routes import Route, TopCount, pair_expressions
from maskdsl.ir.values.group_scores import Extent, Grouping

_KEYS_EACH = 32
"""With so many keys for each that is selected, a list is smaller than the table, and queries gather their keys."""


def with_lists(mask: MaskIR) -> MaskIR:
    """The mask whose routes give lists where these are the better choice."""
    read = {name for each in mask.routed for name in reads(*pair_expressions(each)).inputs}
    read |= {each.name for each in mask.inputs if each.sparse}
    names = {each.name for each in mask.routed if isinstance(each, Route) and _is_short(each)} - read
    if not names:
        return mask

    def stored(node: Expression) -> Expression | None:
        """Whether an entry is stored, in place of a read of the table."""
        if isinstance(node, Read) and node.input in names:
            return apply(Op.LESS_EQUAL, Constant(0), replace(node, type=Type.INT, sparse=True))
        return None

    listed = (replace(each, type=Type.INT, sparse=True) if each.name in names else each for each in mask.inputs)
    return replace(mask.mapped(lambda each: rebuild(each, stored)), inputs=tuple(listed))


def _is_short(route: Route) -> bool:
    """Whether each query selects few single keys, a constant number of them."""
    match route:
        case Route(
            queries=Grouping(by="i", span=1),
            keys=Grouping(by="i", span=1),
            selector=TopCount(count=Constant(value=int()), per=Extent.QUERY),
        ) if route.always == FALSE:
            return 1 <= route.most < route.keys.count // _KEYS_EACH
        case _:
            return False
