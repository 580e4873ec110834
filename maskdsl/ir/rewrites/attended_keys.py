"""Drops key spaces that nothing attends: a branch attends some of its pattern's keys, and pools none for the others."""

from collections.abc import Sequence
from dataclasses import replace

from maskdsl.ir.declared.sequences import Given, Space
from maskdsl.ir.declared.sequences import Sequence as Tokens
from maskdsl.ir.expressions import FALSE, TRUE, Constant, Coordinate, Expression, InSpace, Side, apply, substitute
from maskdsl.ir.facts.trace import pair_trace
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.ops import Op
from maskdsl.ir.routes import Route
from maskdsl.ir.simplify import simplify

_POSITION = Coordinate(Side.KEY, "i")


def with_attended_keys(mask: MaskIR) -> MaskIR:
    """The mask of the key spaces that some pair attends, if calls give the same keys for them.

    Unchanged where something counts all keys: inputs of keys, routes that pool them, products of vectors.
    """
    spaces = mask.keys.spaces
    kept = [number for number, space in enumerate(spaces) if _is_attended(mask, space)]
    if len(kept) == len(spaces) or not kept or mask.self_attention or _counts_keys(mask):
        return mask
    keys = _of_spaces(mask.keys, kept)
    offset = mask.keys.offsets[kept[0]]
    moved = offset > 0
    together = kept == list(range(kept[0], kept[-1] + 1))
    if keys.given != mask.keys.given or (moved and (not together or mask.routed or _reads_position(mask))):
        return mask
    alone = len(kept) == 1
    replaced: dict[Expression, Expression] = {
        InSpace(Side.KEY, space.name): TRUE if alone and number in kept else FALSE
        for number, space in enumerate(spaces)
        if alone or number not in kept
    }
    if moved:
        replaced[_POSITION] = apply(Op.ADD, _POSITION, Constant(offset))
    return replace(mask.mapped(lambda each: simplify(substitute(each, replaced))), keys=keys)


def _is_attended(mask: MaskIR, space: Space) -> bool:
    """Whether a pair with a key of this space may attend."""
    here: dict[Expression, Expression] = {
        InSpace(Side.KEY, each.name): TRUE if each is space else FALSE for each in mask.keys.spaces
    }
    return simplify(substitute(mask.relation, here)) != FALSE


def _counts_keys(mask: MaskIR) -> bool:
    """Whether something is computed from all keys, or given for each of them."""
    given = any(isinstance(source, Given) for each in mask.keys.coordinates for _, source in each.sources)
    pools = any(not isinstance(each, Route) or each.reads_tokens or bool(each.products) for each in mask.routed)
    return given or pools or mask.multiplies


def _reads_position(mask: MaskIR) -> bool:
    """Whether a computed coordinate or a sort key of a key reads its position."""
    expressions = (*mask.keys.computed, *mask.keys.sort_keys)
    read = pair_trace(mask, expressions).reads.coordinates
    return any(each.name == "i" for each in read) or any(mask.keys.is_permutation(each.name) for each in read)


def _of_spaces(tokens: Tokens, kept: Sequence[int]) -> Tokens:
    """Some spaces of a sequence, with the coordinates that their tokens have."""
    names = {tokens.spaces[number].name for number in kept}
    coordinates = [
        replace(each, sources=tuple(source for source in each.sources if source[0] in names))
        for each in tokens.coordinates
    ]
    order = tuple(tokens.order[number] for number in kept) if tokens.order else ()
    return Tokens(
        tuple(tokens.spaces[number] for number in kept),
        tuple(each for each in coordinates if each.sources),
        order if any(order) else (),
    )
