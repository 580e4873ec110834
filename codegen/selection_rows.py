# hole: above
"""The kernel that selects from stored scores, row by row: the skeleton, where one key group is selected."""

import triton
import triton.language as tl

from maskdsl.codegen.selection_functions import LAUNCH_NUMBERS, nothing, ordered, stored, weigh

# end
# A radix select over scores as integers of the same order:
#   ordered(s)   the integer of a score: the highest of NaN, for pairs that are selected always
#   weigh(s)     its weight: 1 for a count, exp(s - m_i) for a share of the softmax
#   wanted       the weight to reach: the count, or the mass times l_i
#   least        the lowest integer that is selected, from its highest digit down: the largest threshold such that the
#                scores from it up weigh `wanted`
#   beyond       the weight of the scores above `least`; ties at `least` are selected in order until `wanted` is reached
#   HELD         whether all scores of a row fit one tile; otherwise they are read for each DIGIT bits of `least`


@triton.jit(do_not_specialize=LAUNCH_NUMBERS)
def route_kernel(
    table,
    scores,
    first,
    blocks,
    entries,
    sharing,
    query_groups,
    key_groups,
    # hole: parameters
    # end
    WIDE: tl.constexpr,
    QUERY_BLOCK: tl.constexpr,
    KEY_BLOCK: tl.constexpr,
    HELD: tl.constexpr,
    DIGIT: tl.constexpr,
):
    """Writes rows of `table`, int8 [batch, entries, query groups, key groups], from their scores.

    `scores` are [rows of the blocks from `first` on, key groups].
    """
    row = (first + tl.program_id(0)) % blocks
    entry = (first + tl.program_id(0)) // blocks % entries
    batch = (first + tl.program_id(0)) // blocks // entries
    if row * QUERY_BLOCK >= query_groups:  # behind the last row
        return
    columns = 1 if HELD else tl.cdiv(key_groups, KEY_BLOCK)
    BITS: tl.constexpr = WIDE.primitive_bitwidth
    queries = tl.arange(0, QUERY_BLOCK)
    scores += (tl.program_id(0).to(tl.int64) * QUERY_BLOCK + queries)[:, None] * key_groups
    if HELD:
        s = stored(scores, 0, key_groups, KEY_BLOCK)
    # hole: wanted
    SHARE: tl.constexpr = False
    m_i = tl.zeros([QUERY_BLOCK], dtype=WIDE)
    wanted = tl.full([QUERY_BLOCK], 1, dtype=tl.int32)
    # end
    lowest, beyond = nothing(wanted, WIDE)
    least = lowest
    if HELD:
        number, weight = ordered(s), weigh(s, m_i, SHARE)
    steps = tl.arange(0, 2**DIGIT)[None, :]
    for bit in range(0, BITS, DIGIT):
        shift = BITS - DIGIT - bit
        weights = tl.zeros([QUERY_BLOCK, 2**DIGIT], dtype=wanted.dtype)
        for column in range(columns):
            if not HELD:
                s = stored(scores, column, key_groups, KEY_BLOCK)
                number, weight = ordered(s), weigh(s, m_i, SHARE)
            for step in range(1, 2**DIGIT):
                bound = least ^ (tl.full([], step, least.dtype) << shift)
                above = tl.sum(tl.where(number >= bound[:, None], weight, 0), 1).to(wanted.dtype)
                weights += tl.where(steps == step, above[:, None], 0)
        digit = tl.sum(((steps > 0) & ~(weights < wanted[:, None])).to(tl.int32), 1)
        following = tl.sum(tl.where(steps == digit[:, None] + 1, weights, 0), 1)
        beyond = tl.where(digit < 2**DIGIT - 1, following, beyond)
        least ^= digit.to(least.dtype) << shift
    before = tl.zeros([QUERY_BLOCK], dtype=tl.int32)
    table += ((batch.to(tl.int64) * entries + entry) * query_groups + row * QUERY_BLOCK + queries)[:, None] * key_groups
    for column in range(columns):
        if not HELD:
            s = stored(scores, column, key_groups, KEY_BLOCK)
            number, weight = ordered(s), weigh(s, m_i, SHARE)
        # Ties at the threshold: the first ones, until `wanted` is reached.
        equal = (number == least[:, None]) & (number > lowest[:, None])
        rank = before[:, None] + tl.cumsum(equal.to(tl.int32), 1) - 1
        chosen = (number > least[:, None]) | (equal & (beyond[:, None] + rank * weight < wanted[:, None]))
        before += tl.sum(equal.to(tl.int32), 1)
        # hole: chosen
        # end
        keys = column * KEY_BLOCK + tl.arange(0, KEY_BLOCK)
        real = (row * QUERY_BLOCK + queries < query_groups)[:, None] & (keys < key_groups)[None, :]
        tl.store(table + keys[None, :], chosen.to(tl.int8), mask=real)
