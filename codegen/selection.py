# hole: above
"""The kernel that scores the key groups of each query group of a route: the skeleton, where all scores are 0."""

import torch
import triton
import triton.language as tl

from maskdsl.codegen.selection_functions import LAUNCH_NUMBERS, MOST_STORED, row_options, tile_options, torch_type
from maskdsl.codegen.selection_rows import route_kernel

# end
NUMBERS = [*LAUNCH_NUMBERS]
# hole: numbers
# end


@triton.jit(do_not_specialize=NUMBERS)
def route_scores_kernel(
    result,
    first,
    blocks,
    entries,
    sharing,
    query_groups,
    key_groups,
    # hole: parameters
    # end
    DIM: tl.constexpr,
    STEP: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDE: tl.constexpr,
    QUERY_BLOCK: tl.constexpr,
    KEY_BLOCK: tl.constexpr,
):
    """Scores a tile; `result` is [rows of the blocks from `first` on, key groups].

    With -inf for pairs that are no candidates, and NaN for those that are selected always.
    """
    columns = tl.cdiv(key_groups, KEY_BLOCK)
    block, column = tl.program_id(0) // columns, tl.program_id(0) % columns
    # hole: position
    # end
    queries = tl.arange(0, QUERY_BLOCK)
    keys = column * KEY_BLOCK + tl.arange(0, KEY_BLOCK)
    s = tl.zeros([QUERY_BLOCK, KEY_BLOCK], dtype=WIDE)
    # hole: score
    # end
    eligible = (keys < key_groups)[None, :] & (s > float("-inf"))
    # hole: candidates
    # end
    s = tl.where(eligible, s, float("-inf"))
    # hole: forced
    # end
    # hole: result
    result += (block.to(tl.int64) * QUERY_BLOCK + queries)[:, None] * key_groups
    tl.store(result + keys[None, :], s, mask=(keys < key_groups)[None, :])
    # end


def route_select(q, query_groups, key_groups, entries, queries, keys, inputs, pairs):
    """The key groups that each query group selects: bool [batch, entries, query groups, key groups].

    As many heads as follow one another share an entry, and select as the first of them. `query_groups` and `key_groups`
    are `Groups` or `Runs`, `queries` and `keys` coordinates of tokens by name, `pairs` the vectors of query and key
    groups whose products the score reads.
    """
    batch, heads, _, dim = q.shape
    table = torch.empty(batch, entries, query_groups.count, key_groups.count, dtype=torch.int8, device=q.device)
    # hole: prepare
    # end
    sizes = {"entries": entries, "sharing": heads // entries}
    sizes |= {"query_groups": query_groups.count, "key_groups": key_groups.count}
    tile = tile_options(query_groups.count, dim, q.dtype)
    # hole: arguments
    # end
    blocks, columns = -(-query_groups.count // tile["QUERY_BLOCK"]), -(-key_groups.count // tile["KEY_BLOCK"])
    whole = batch * entries * blocks
    # hole: rows
    row = row_options(tile["QUERY_BLOCK"], key_groups.count, q.dtype)
    # end
    # hole: row_arguments
    # end
    # hole: launches
    # Of some blocks at a time: the scores, then the selections in their rows.
    row_blocks = tile["QUERY_BLOCK"] // row["QUERY_BLOCK"]
    step = max(1, min(whole, MOST_STORED // (tile["QUERY_BLOCK"] * key_groups.count)))
    scores = torch.empty(step * tile["QUERY_BLOCK"], key_groups.count, dtype=torch_type(q.dtype), device=q.device)
    for first in range(0, whole, step):
        count = min(step, whole - first)
        route_scores_kernel[(count * columns,)](scores, first, blocks, **sizes, **tile)
        route_kernel[(count * row_blocks,)](table, scores, first * row_blocks, blocks * row_blocks, **sizes, **row)
    # end
    return table.view(torch.bool)
