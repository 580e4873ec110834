"""Drops the routes that a mask does not read, so that no call computes them: a branch reads some of its pattern's."""

from dataclasses import replace

from maskdsl.ir.declared.sequences import Sequence
from maskdsl.ir.expressions import Coordinate, Side
from maskdsl.ir.facts.trace import pair_trace, trace
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.inputs import inputs_of_route


def without_idle_routes(mask: MaskIR) -> MaskIR:
    """The mask without the routes that neither its pairs, its orders nor its other routes read."""
    lines = (each.relation for each in (*mask.attend, *mask.require))
    rows = (each.read for each in mask.rows)
    names = set(pair_trace(mask, [*lines, *mask.pair_expressions, *mask.query_values, *rows], ordered=True).inputs)
    for routed in reversed(mask.routed):
        if routed.name in names:
            names |= inputs_of_route(mask, routed)
    idle = {each.name for each in mask.routed} - names
    if not idle:
        return mask
    return replace(
        mask,
        inputs=tuple(each for each in mask.inputs if each.name not in idle),
        routed=tuple(each for each in mask.routed if each.name not in idle),
        queries=_without(mask.queries, idle),
        keys=_without(mask.keys, idle),
    )


def _without(sequence: Sequence, inputs: set[str]) -> Sequence:
    """The sequence without the coordinates that depend on these inputs."""

    def depends(name: str) -> bool:
        return not inputs.isdisjoint(trace(sequence, [Coordinate(Side.TOKEN, name)]).inputs)

    return replace(sequence, coordinates=tuple(each for each in sequence.coordinates if not depends(each.name)))
