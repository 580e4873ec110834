# hole: above
"""The kernel that selects key groups for each query group of a route: the skeleton, where all scores are 0."""

import torch
import triton
import triton.language as tl

from maskdsl.codegen.selection_functions import nothing, ordered, selection_options, weigh

# end
# A radix select over scores as integers of the same order:
#   ordered(s)   the integer of a score
#   weigh(s)     its weight: 1 for a count, exp(s - m_i) for a share of the softmax
#   wanted       the weight to reach: the count, or the mass times l_i
#   least        the lowest integer that is selected, from its highest bit down: the largest threshold such that the
#                scores from it up weigh `wanted`
#   beyond       the weight of the scores above `least`; ties at `least` are selected in order until `wanted` is reached
#   HELD         whether all key groups fit one tile; otherwise scores are recomputed for each DIGIT bits of `least`


@triton.jit
def route_scores(
    row,
    column,
    batch,
    head,
    query_groups,
    key_groups,
    # hole: parameters
    # end
    DIM: tl.constexpr,
    STEP: tl.constexpr,
    WIDE: tl.constexpr,
    QUERY_BLOCK: tl.constexpr,
    KEY_BLOCK: tl.constexpr,
):
    """The scores of a tile, [query groups, key groups]; -inf for pairs that are no candidates."""
    keys = column * KEY_BLOCK + tl.arange(0, KEY_BLOCK)
    s = tl.zeros([QUERY_BLOCK, KEY_BLOCK], dtype=WIDE)
    # hole: score
    # end
    eligible = (keys < key_groups)[None, :] & (s > float("-inf"))
    # hole: candidates
    # end
    return tl.where(eligible, s, float("-inf"))


@triton.jit
def route_kernel(
    table,
    heads,
    query_groups,
    key_groups,
    # hole: parameters
    # end
    DIM: tl.constexpr,
    STEP: tl.constexpr,
    WIDE: tl.constexpr,
    QUERY_BLOCK: tl.constexpr,
    KEY_BLOCK: tl.constexpr,
    HELD: tl.constexpr,
    DIGIT: tl.constexpr,
):
    """Writes the rows of `table`, int8 [batch, heads, query groups, key groups], of one block of query groups."""
    rows = tl.cdiv(query_groups, QUERY_BLOCK)
    row = tl.program_id(0) % rows
    head = tl.program_id(0) // rows % heads
    batch = tl.program_id(0) // rows // heads
    # hole: shared
    shared = (batch, head, query_groups, key_groups)
    # end
    columns = tl.cdiv(key_groups, KEY_BLOCK)
    BITS: tl.constexpr = WIDE.primitive_bitwidth
    if HELD:
        s = route_scores(row, 0, *shared, DIM, STEP, WIDE, QUERY_BLOCK, KEY_BLOCK)
    # hole: wanted
    SHARE: tl.constexpr = False
    m_i = tl.zeros([QUERY_BLOCK], dtype=WIDE)
    wanted = tl.full([QUERY_BLOCK], 1, dtype=tl.int32)
    # end
    # hole: least
    lowest, beyond = nothing(wanted, WIDE)
    least = lowest
    if HELD:
        number, weight = ordered(s), weigh(s, m_i, SHARE)
        for bit in range(BITS):
            bound = least ^ (tl.full([], 1, least.dtype) << (BITS - 1 - bit))
            above = tl.sum(tl.where(number >= bound[:, None], weight, 0), 1).to(wanted.dtype)
            enough = ~(above < wanted)
            least = tl.where(enough, bound, least)
            beyond = tl.where(enough, beyond, above)
    else:
        # Every digit takes a pass over all tiles, so a digit has more than one bit.
        steps = tl.arange(0, 2**DIGIT)[None, :]
        for bit in range(0, BITS, DIGIT):
            shift = BITS - DIGIT - bit
            weights = tl.zeros([QUERY_BLOCK, 2**DIGIT], dtype=wanted.dtype)
            for column in range(columns):
                s = route_scores(row, column, *shared, DIM, STEP, WIDE, QUERY_BLOCK, KEY_BLOCK)
                number, weight = ordered(s), weigh(s, m_i, SHARE)
                for step in range(1, 2**DIGIT):
                    bound = least ^ (tl.full([], step, least.dtype) << shift)
                    above = tl.sum(tl.where(number >= bound[:, None], weight, 0), 1).to(wanted.dtype)
                    weights += tl.where(steps == step, above[:, None], 0)
            digit = tl.sum(((steps > 0) & ~(weights < wanted[:, None])).to(tl.int32), 1)
            following = tl.sum(tl.where(steps == digit[:, None] + 1, weights, 0), 1)
            beyond = tl.where(digit < 2**DIGIT - 1, following, beyond)
            least ^= digit.to(least.dtype) << shift
    # end
    # hole: before
    before = tl.zeros([QUERY_BLOCK], dtype=tl.int32)
    # end
    first = table + ((batch.to(tl.int64) * heads + head) * query_groups + row * QUERY_BLOCK) * key_groups
    for column in range(columns):
        if not HELD:
            s = route_scores(row, column, *shared, DIM, STEP, WIDE, QUERY_BLOCK, KEY_BLOCK)
        # hole: chosen
        # Ties at the threshold: the first ones, until `wanted` is reached.
        if not HELD:
            number, weight = ordered(s), weigh(s, m_i, SHARE)
        equal = (number == least[:, None]) & (number > lowest[:, None])
        rank = before[:, None] + tl.cumsum(equal.to(tl.int32), 1) - 1
        chosen = (number > least[:, None]) | (equal & (beyond[:, None] + rank * weight < wanted[:, None]))
        before += tl.sum(equal.to(tl.int32), 1)
        # end
        queries = tl.arange(0, QUERY_BLOCK)
        keys = column * KEY_BLOCK + tl.arange(0, KEY_BLOCK)
        real = (row * QUERY_BLOCK + queries < query_groups)[:, None] & (keys < key_groups)[None, :]
        tl.store(first + queries[:, None] * key_groups + keys[None, :], chosen.to(tl.int8), mask=real)


def route_select(q, query_groups, key_groups, queries, keys, inputs, pairs):
    """The key groups that each query group selects: bool [batch, heads, query groups, key groups].

    `query_groups` and `key_groups` are `Groups` or `Runs`, `queries` and `keys` coordinates of tokens by name, `pairs`
    the vectors of query and key groups whose products the score reads.
    """
    batch, heads, _, dim = q.shape
    table = torch.empty(batch, heads, query_groups.count, key_groups.count, dtype=torch.int8, device=q.device)
    # hole: held
    most_held = 1024
    # end
    options = selection_options(key_groups.count, dim, q.dtype, most_held)
    # hole: prepare
    # end
    route_kernel[(-(-query_groups.count // options["QUERY_BLOCK"]) * heads * batch,)](
        table,
        heads,
        query_groups.count,
        key_groups.count,
        # hole: arguments
        # end
        **options,
    )
    return table.view(torch.bool)
