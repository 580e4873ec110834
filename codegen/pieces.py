# hole: above
"""Rows of tiles in pieces, of one program each, and the kernels that join them: the skeleton behind the two passes."""

import triton
import triton.language as tl

# end
# A row with more tiles than a processor's share is split, else its program would run on alone at the end.
#   piece           some of the tiles of a row, which one program computes
#   slot            where a piece keeps its result until it is joined
#   merges          batch entry, head and row of each row that is split, and its slots [first, end)
#   ROOM            dims that a slot has for each token
#   JOINED          tokens of a program that joins pieces
#   entries         batch entries that share the list: a slot is one for each of them, next to each other
# Pieces are joined in the order of their tiles, whichever is done first.

JOINED = 16


@triton.jit
def load_merge(merges, entries, BLOCK: tl.constexpr, JOINED: tl.constexpr):
    """Of this program: batch entry, head, its tokens in the row and in the sequence, and every `entries`th slot of
    [first, end)."""
    number = tl.program_id(0) // (BLOCK // JOINED)
    merge, entry = merges + 5 * (number // entries), number % entries
    tokens = tl.program_id(0) % (BLOCK // JOINED) * JOINED + tl.arange(0, JOINED)
    batch, head, row = tl.load(merge), tl.load(merge + 1), tl.load(merge + 2)
    first, end = tl.load(merge + 3) * entries + entry, tl.load(merge + 4) * entries
    return batch.to(tl.int64) + entry, head, tokens, row * BLOCK + tokens, first, end


def piece_room(tiles, lse, block, dims):
    """Where the pieces of rows keep their results, [slots, block, dims]; None where no row is split."""
    return lse.new_empty(tiles.pieces * tiles.entries, block, dims) if tiles.pieces else None


# hole: join_kernel
@triton.jit(do_not_specialize=["heads", "query_length", "entries"])
def join_kernel(
    merges,
    piece_results,
    piece_sums,
    out,
    lse,
    heads,
    query_length,
    entries,
    VALUE_DIM: tl.constexpr,
    PADDED_VALUE_DIM: tl.constexpr,
    ROOM: tl.constexpr,
    QUERY_BLOCK: tl.constexpr,
    UNIT: tl.constexpr,
    JOINED: tl.constexpr,
):
    """The output and the log-sum-exp of some queries, by online softmax over the pieces of their row."""
    WIDE: tl.constexpr = lse.dtype.element_ty
    LOWEST: tl.constexpr = -1.7976931348623157e308 if WIDE.primitive_bitwidth == 64 else -3.4028234663852886e38
    batch, head, tokens, queries, first, end = load_merge(merges, entries, QUERY_BLOCK, JOINED)
    dims = tl.arange(0, PADDED_VALUE_DIM)[None, :]
    result = tl.zeros([JOINED, PADDED_VALUE_DIM], dtype=WIDE)
    l_i = tl.zeros([JOINED], dtype=WIDE)
    m_i = tl.full([JOINED], LOWEST, dtype=WIDE)
    for slot in range(first, end, entries):
        element = tl.cast(slot, tl.int64) * QUERY_BLOCK + tokens
        piece_result = tl.load(piece_results + element[:, None] * ROOM + dims, mask=dims < ROOM, other=0.0)
        piece_l = tl.load(piece_sums + 2 * element)
        piece_m = tl.load(piece_sums + 2 * element + 1)
        new = tl.maximum(m_i, piece_m)
        rescale, piece_rescale = tl.exp2((m_i - new) * UNIT), tl.exp2((piece_m - new) * UNIT)
        l_i = l_i * rescale + piece_l * piece_rescale
        result = result * rescale[:, None] + piece_result * piece_rescale[:, None]
        m_i = new
    empty = l_i == 0
    result = result / tl.where(empty, 1.0, l_i)[:, None]
    lse_i = m_i * (UNIT * 0.6931471805599453) + tl.log2(l_i) * 0.6931471805599453
    lse_i = tl.where(empty, float("-inf"), lse_i)
    real = queries < query_length
    offset = (batch * heads + head) * query_length + queries
    tl.store(lse + offset, lse_i, mask=real)
    elements = out + offset[:, None] * VALUE_DIM + dims
    tl.store(elements, result.to(out.dtype.element_ty), mask=real[:, None] & (dims < VALUE_DIM))


def start_join_kernel(tiles, piece_results, piece_sums, out, lse, unit):
    """Writes `out` and `lse` of the rows that are split, from what their pieces keep: [slots, block, ...]."""
    if tiles.pieces:
        _, block, room = piece_results.shape
        join_kernel[(len(tiles.merges) * tiles.entries * block // JOINED,)](
            *(tiles.merges, piece_results, piece_sums, out, lse, *out.shape[1:3], tiles.entries),
            VALUE_DIM=out.shape[3],
            PADDED_VALUE_DIM=1 << (room - 1).bit_length(),
            ROOM=room,
            QUERY_BLOCK=block,
            UNIT=unit,
            JOINED=JOINED,
        )


# end
# hole: sum_kernel
@triton.jit(do_not_specialize=["heads", "length", "entries"])
def sum_kernel(
    merges,
    piece_results,
    grad,
    heads,
    length,
    entries,
    DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    ROOM: tl.constexpr,
    BLOCK: tl.constexpr,
    SCALE: tl.constexpr,
    JOINED: tl.constexpr,
):
    """The gradient of some tokens of q, k or v: the sum over the pieces of their row, in float32 until the end."""
    batch, head, tokens, row_tokens, first, end = load_merge(merges, entries, BLOCK, JOINED)
    dims = tl.arange(0, PADDED_DIM)[None, :]
    result = tl.zeros([JOINED, PADDED_DIM], dtype=piece_results.dtype.element_ty)
    for slot in range(first, end, entries):
        element = tl.cast(slot, tl.int64) * BLOCK + tokens
        result += tl.load(piece_results + element[:, None] * ROOM + dims, mask=dims < ROOM, other=0.0)
    real = (row_tokens < length)[:, None] & (dims < DIM)
    elements = grad + ((batch * heads + head) * length + row_tokens)[:, None] * DIM + dims
    tl.store(elements, (result * SCALE).to(grad.dtype.element_ty), mask=real)


def start_sum_kernel(tiles, piece_results, grad, scale):
    """Writes the sums of the pieces, [slots, block, padded dim], of rows that are split to `grad`, times `scale`."""
    if tiles.pieces:
        _, block, room = piece_results.shape
        sum_kernel[(len(tiles.merges) * tiles.entries * block // JOINED,)](
            *(tiles.merges, piece_results, grad, *grad.shape[1:3], tiles.entries),
            DIM=grad.shape[3],
            PADDED_DIM=1 << (room - 1).bit_length(),
            ROOM=room,
            BLOCK=block,
            SCALE=scale,
            JOINED=JOINED,
        )


# end
