"""Masks whose queries attend all keys from some way back to some way ahead, whatever their text: exact, by tiles."""

from collections.abc import Mapping
from dataclasses import replace

from maskdsl.analysis.counts.stats import stats
from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.base.records import dataclass
from maskdsl.ir.expressions import Constant, Coordinate, Side, apply
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.ops import Op

_POSITIONS = {side: Coordinate(side, "i") for side in (Side.QUERY, Side.KEY)}


@dataclass(frozen=True)
class KeyBand:
    """Keys from `before` behind a query to `after` ahead of it, as far as there are any."""

    length: int
    """The number of queries, and of keys."""
    before: int
    after: int

    @property
    def pairs(self) -> int:
        """How many pairs attend."""
        return self.length + sum(reach * (2 * self.length - 1 - reach) // 2 for reach in (self.before, self.after))

    @property
    def is_full(self) -> bool:
        """Whether every query attends every key."""
        return min(self.before, self.after) >= self.length - 1

    @property
    def is_causal(self) -> bool:
        """Whether every query attends its own position and all before it."""
        return self.before >= self.length - 1 and self.after == 0


def key_band(mask: MaskIR, inputs: Mapping[str, object]) -> KeyBand | None:
    """The band that all heads and batch entries attend, in declared order; None if there is none, or under 3 tokens.

    A band that reaches further than half of the keys is one only if it reaches all keys on that side.
    `inputs` has those that decide the tiles, as at the call. Raises `AttnError` if one is missing or does not fit.
    """
    mask, length = mask.declared, mask.queries.length
    if length != mask.keys.length or length < 3:
        return None
    band = _of_middle(mask, inputs)
    if band is None:
        return None
    too_far = apply(
        Op.OR,
        apply(Op.LESS, Constant(band.before), apply(Op.SUBTRACT, *_POSITIONS.values())),
        apply(Op.LESS, Constant(band.after), apply(Op.SUBTRACT, *reversed(_POSITIONS.values()))),
    )
    outside = tiles(replace(mask, relation=apply(Op.AND, mask.relation, too_far)), inputs=inputs)
    if any(each.full.count or each.partial.count for each in outside.head_classes):
        return None
    counted = stats(mask, inputs=inputs)
    return band if all(each.attended == counted.batch * band.pairs for each in counted.heads) else None


def _of_middle(mask: MaskIR, inputs: Mapping[str, object]) -> KeyBand | None:
    """The band that the query in the middle suggests: one that reaches the first or the last key reaches all."""
    length = mask.queries.length
    middle = length // 2
    row = tiles(mask, (1, 1), inputs, region=(slice(middle, middle + 1), slice(None)))
    keys = row.head_classes[0].full.dense(length)[0].nonzero()[0]
    if not keys.size or not keys[0] <= middle <= keys[-1]:
        return None
    before = length - 1 if keys[0] == 0 else middle - int(keys[0])
    after = length - 1 if keys[-1] == length - 1 else int(keys[-1]) - middle
    return KeyBand(length, before, after)
