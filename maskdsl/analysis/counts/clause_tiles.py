"""Why tiles are partial: for each line of a pattern, the tiles in which the line holds for some pairs only."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from maskdsl.analysis.tiles.block_map import Array, BlockMap, Runs, difference
from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.base.records import dataclass
from maskdsl.ir.mask import Clause, MaskIR
from maskdsl.ir.simplify import simplify


@dataclass(frozen=True)
class ClauseTiles:
    """The tiles of one `attend` or `require` line taken alone, over all heads of one batch entry."""

    clause: Clause
    full: int
    """Tiles in which the line holds for all pairs."""
    partial: int
    """Tiles in which it holds for some pairs only."""
    cuts: int
    """Of these, the tiles that are partial in the whole pattern too."""


def clause_tiles(
    mask: MaskIR, block_map: BlockMap, inputs: Mapping[str, object] | None = None
) -> tuple[ClauseTiles, ...]:
    """The tiles of each line, `attend` before `require`; `block_map` is that of the whole pattern."""
    return tuple(_alone(mask, clause, block_map, inputs or {}) for clause in (*mask.attend, *mask.require))


def _alone(mask: MaskIR, clause: Clause, block_map: BlockMap, inputs: Mapping[str, object]) -> ClauseTiles:
    alone = tiles(replace(mask, relation=simplify(clause.relation)), block_map.block, inputs)
    heads = range(mask.heads)
    return ClauseTiles(
        clause,
        full=sum(alone.full_count(head) for head in heads),
        partial=sum(alone.partial_count(head) for head in heads),
        cuts=sum(
            common(alone.tile_map(head).partial, block_map.tile_map(head).partial, block_map.key_blocks)
            for head in heads
        ),
    )


def common(a: Runs, b: Runs, columns: int) -> int:
    """The number of tiles in the runs of both."""
    begin, end = difference(_on_line(a, columns), _on_line(b, columns))
    return a.count - int(np.sum(end - begin))


def _on_line(runs: Runs, columns: int) -> tuple[Array, Array]:
    """The runs of all rows as ranges on one line, rows concatenated with a gap after each."""
    offset = runs.row.astype(np.int64) * (columns + 1)
    return offset + runs.start, offset + runs.end
