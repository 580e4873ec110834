"""What every picture says in numbers, whatever the size of its cells: the tiles of one head, and its density."""

from collections.abc import Mapping, Sequence

from maskdsl.analysis.counts.stats import stats
from maskdsl.analysis.tiles.block_map import Array, BlockMap
from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.base.records import dataclass
from maskdsl.ir.mask import MaskIR
from maskdsl.view import units

BLOCK = (128, 128)
"""The size of the tiles that are counted, in tokens (queries, keys), unless users give another."""
_MOST_TOKENS = 1 << 17
"""The most tokens of a side at which tiles are counted for a picture alone."""
_MOST_PAIRS = 1 << 28
"""The most pairs in partial tiles that are counted for a density."""


@dataclass(frozen=True)
class HeadFigures:
    """The tiles of one head in the first batch entry, and the share of its pairs that attend."""

    tiles: int
    full: int
    partial: int
    density: float | None
    """None if it takes too long to count."""

    @property
    def words(self) -> tuple[str, ...]:
        """`0 full, 329 partial` and `density 2.1 %`."""
        counts = f"{units.count(self.full)} full, {units.count(self.partial)} partial"
        return (counts,) if self.density is None else (counts, f"density {units.percent(self.density)}")


@dataclass(frozen=True)
class Counted:
    """The figures of every head, with tiles of `block`; of none if that takes too long."""

    block: tuple[int, int]
    entries: int
    """The number of batch entries that differ; the figures are of the first."""
    heads: tuple[HeadFigures, ...]

    @staticmethod
    def of(mask: MaskIR, block: tuple[int, int], inputs: Mapping[str, Array]) -> "Counted":
        """The figures of a mask, however long they take. Raises `AttnError` as `tiles` does."""
        block_map = tiles(mask, block, inputs)
        partial = sum(each.partial.count for each in block_map.head_classes)
        if partial * block[0] * block[1] > _MOST_PAIRS:
            return Counted.of_tiles(block_map)
        return Counted.of_tiles(block_map, [each.density for each in stats(mask, block, inputs).first_entry])

    @staticmethod
    def of_tiles(block_map: BlockMap, densities: Sequence[float | None] = ()) -> "Counted":
        """The figures of a block map, and the densities of its heads if they are known."""
        entries, heads = block_map.class_of_head.shape
        number = block_map.query_blocks * block_map.key_blocks
        figures = (
            HeadFigures(number, block_map.full_count(head), block_map.partial_count(head), density)
            for head, density in enumerate(densities or [None] * heads)
        )
        return Counted(block_map.block, entries, tuple(figures))

    @staticmethod
    def beside(mask: MaskIR, block: tuple[int, int] | None, inputs: Mapping[str, Array]) -> "Counted":
        """The figures beside a picture; `block` is None unless users give it."""
        if block is None and max(mask.queries.length, mask.keys.length) > _MOST_TOKENS:
            return Counted(BLOCK, 1, ())
        return Counted.of(mask, block or BLOCK, inputs)

    def words(self, head: int) -> tuple[str, ...]:
        """The figures of a head in words."""
        return self.heads[head].words if self.heads else ()

    def note(self, whole: bool = True) -> str:
        """What is counted: `counts: tiles of 128 x 128, a head`. A picture may show less than the `whole` map."""
        if not self.heads:
            return "its tiles are counted by maskdsl stats"
        return f"counts{'' if whole else ' of the whole map'}: tiles of {by(self.block)}, a head"


def one_name(members: Sequence[int], heads: int) -> str:
    """The name of figures of one of the heads that are alike: `a head`, `head 2`, `each of heads 0-1`."""
    if len(members) == heads:
        return "a head"
    return f"{'each of heads' if len(members) > 1 else 'head'} {units.numbers(list(members))}"


def total_name(heads: int, entries: int) -> str:
    """The name of figures of all heads and batch entries: `all 4 heads`, `a head, all 3 batch entries`."""
    batch = f", all {entries} batch entries" if entries > 1 else ""
    return (f"all {heads} heads" if heads > 1 else "a head") + batch


def by(size: tuple[int, int]) -> str:
    """`128 x 64`."""
    return f"{units.count(size[0])} x {units.count(size[1])}"
