# hole: header
"""Attention over tiles in Triton: the skeleton of the Triton backend, in which every query attends every key."""
# end

# hole: tiles_import
from typing import NamedTuple

# end
import torch
import triton
import triton.language as tl

# hole: softmax
from maskdsl.codegen.triton_functions import online_softmax_step, online_softmax_step_exactly

# end
# Words used below.
#   tile      QUERY_BLOCK queries against KEY_BLOCK keys, in the order in which tokens are laid out
#   row       the tiles of one block of queries
#   run       tiles side by side in one row: blocks of keys [start, end)
#   head class   the runs of all rows; heads and batch entries whose tiles agree share one
#   places    positions of tokens in memory, those behind the last token moved onto it
#   UNIT      what turns the scores `s` into logarithms of base 2
# q, k, v and out are [batch, heads, tokens, dim]. PADDED dims are powers of two, of which the first DIM are real.


# hole: tiles
class Tiles(NamedTuple):
    """Where tiles are: int32 tensors. Those of one list follow each other, head class by head class and row by row."""

    class_of_head: torch.Tensor
    """[batch or 1, heads or 1]"""
    full_rows: torch.Tensor
    """[head classes * rows, 2]: the first run of every row of tiles whose pairs all attend, and the end of its last."""
    full_starts: torch.Tensor
    full_ends: torch.Tensor
    partial_rows: torch.Tensor
    """The same for all other tiles; a last block of keys that is not whole is among them."""
    partial_starts: torch.Tensor
    partial_ends: torch.Tensor


# end
# hole: pattern
# end
@triton.jit
def load_tokens(tensor, positions, stride, DIM: tl.constexpr, PADDED: tl.constexpr):
    """The rows of a matrix at these places; zeros where dims are padded."""
    dims = tl.arange(0, PADDED)[None, :]
    elements = tensor + positions[:, None].to(tl.int64) * stride + dims
    return tl.load(elements) if DIM == PADDED else tl.load(elements, mask=dims < DIM, other=0.0)


# Triton would compile anew for a number that 16 divides, and for 1: worth it for strides of q, k and v alone.
NUMBERS = ["heads", "heads_per_key_head", "query_length", "key_length"]
# hole: tile_numbers
NUMBERS += ["class_batch_stride", "class_head_stride"]
# end
# hole: numbers
# end


@triton.jit(do_not_specialize=NUMBERS)
def forward_kernel(
    q,
    k,
    v,
    out,
    lse,
    q_batch_stride,
    q_head_stride,
    q_token_stride,
    k_batch_stride,
    k_head_stride,
    k_token_stride,
    v_batch_stride,
    v_head_stride,
    v_token_stride,
    # hole: tile_parameters
    class_of_head,
    full_rows,
    full_starts,
    full_ends,
    partial_rows,
    partial_starts,
    partial_ends,
    class_batch_stride,
    class_head_stride,
    # end
    heads,
    heads_per_key_head,
    query_length,
    key_length,
    # hole: parameters
    # end
    DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    PADDED_VALUE_DIM: tl.constexpr,
    QUERY_BLOCK: tl.constexpr,
    KEY_BLOCK: tl.constexpr,
    UNIT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One row of tiles of one head: a softmax that is corrected tile by tile as higher scores come."""
    WIDE: tl.constexpr = lse.dtype.element_ty
    LOWEST: tl.constexpr = -1.7976931348623157e308 if WIDE.primitive_bitwidth == 64 else -3.4028234663852886e38
    rows = tl.cdiv(query_length, QUERY_BLOCK)
    # The last rows begin first: where they are longest, as in causal patterns, nobody waits for them at the end.
    row = rows - 1 - tl.program_id(0) % rows
    head = tl.program_id(0) // rows % heads
    batch = tl.program_id(0) // rows // heads
    # hole: row
    head_class = tl.load(class_of_head + batch * class_batch_stride + head * class_head_stride)
    number = head_class * rows + row
    # end

    wide_batch, wide_head = batch.to(tl.int64), head.to(tl.int64)
    key_head = wide_head // heads_per_key_head
    q += wide_batch * q_batch_stride + wide_head * q_head_stride
    k += wide_batch * k_batch_stride + key_head * k_head_stride
    v += wide_batch * v_batch_stride + key_head * v_head_stride

    queries = row * QUERY_BLOCK + tl.arange(0, QUERY_BLOCK)
    query_positions = tl.minimum(queries, query_length - 1)
    query_tile = load_tokens(q, query_positions, q_token_stride, DIM, PADDED_DIM)
    # hole: query_coordinates
    # end

    result = tl.zeros([QUERY_BLOCK, PADDED_VALUE_DIM], dtype=WIDE)
    l_i = tl.zeros([QUERY_BLOCK], dtype=WIDE)
    m_i = tl.full([QUERY_BLOCK], LOWEST, dtype=WIDE)

    # Tiles whose pairs all attend need no mask.
    # hole: full_runs
    first_run, end_run = tl.load(full_rows + 2 * number), tl.load(full_rows + 2 * number + 1)
    # end
    for run in range(first_run, end_run):
        # hole: full_run
        start, end = tl.load(full_starts + run), tl.load(full_ends + run)
        # end
        for block in range(start, end):
            key_positions = block * KEY_BLOCK + tl.arange(0, KEY_BLOCK)
            key_tile = load_tokens(k, key_positions, k_token_stride, DIM, PADDED_DIM)
            s = tl.dot(query_tile, tl.trans(key_tile), input_precision=PRECISION, out_dtype=WIDE)
            # hole: full_score
            # end
            # hole: full_softmax
            p, rescale, m_i = online_softmax_step(s, m_i, UNIT)
            # end
            l_i = l_i * rescale + tl.sum(p, 1)
            # hole: full_weight
            # end
            value_tile = load_tokens(v, key_positions, v_token_stride, VALUE_DIM, PADDED_VALUE_DIM)
            result *= rescale[:, None]
            result = tl.dot(p.to(v.dtype.element_ty), value_tile, result, input_precision=PRECISION, out_dtype=WIDE)

    # In all others pairs are looked at one by one. Keys behind the last are the last one again, and attended by nobody.
    # hole: partial_runs
    first_run, end_run = tl.load(partial_rows + 2 * number), tl.load(partial_rows + 2 * number + 1)
    # end
    for run in range(first_run, end_run):
        # hole: partial_run
        start, end = tl.load(partial_starts + run), tl.load(partial_ends + run)
        # end
        for block in range(start, end):
            keys = block * KEY_BLOCK + tl.arange(0, KEY_BLOCK)
            key_positions = tl.minimum(keys, key_length - 1)
            key_tile = load_tokens(k, key_positions, k_token_stride, DIM, PADDED_DIM)
            s = tl.dot(query_tile, tl.trans(key_tile), input_precision=PRECISION, out_dtype=WIDE)
            # hole: partial_score
            # end
            attends = (keys < key_length)[None, :]
            # hole: predicate
            # end
            s = tl.where(attends, s, float("-inf"))
            p, rescale, m_i = online_softmax_step_exactly(s, m_i, UNIT)
            l_i = l_i * rescale + tl.sum(p, 1)
            # hole: partial_weight
            # end
            value_tile = load_tokens(v, key_positions, v_token_stride, VALUE_DIM, PADDED_VALUE_DIM)
            result *= rescale[:, None]
            result = tl.dot(p.to(v.dtype.element_ty), value_tile, result, input_precision=PRECISION, out_dtype=WIDE)

    # Queries that attend nothing, or scores of minus infinity alone, give zeros and minus infinity.
    empty = l_i == 0
    result = result / tl.where(empty, 1.0, l_i)[:, None]
    natural = m_i * (UNIT * 0.6931471805599453) + tl.log2(l_i) * 0.6931471805599453
    natural = tl.where(empty, float("-inf"), natural)
    real = queries < query_length
    first = (wide_batch * heads + head) * query_length
    tl.store(lse + first + queries, natural, mask=real)
    dims = tl.arange(0, PADDED_VALUE_DIM)[None, :]
    elements = out + (first + queries)[:, None] * VALUE_DIM + dims
    tl.store(elements, result.to(out.dtype.element_ty), mask=real[:, None] & (dims < VALUE_DIM))


def attention(q, k, v, inputs, tiles, block, layout=(None, None), precision="ieee", warps=8, stages=2, tables=None):
    """Output and log-sum-exp of every query, all tensors [batch, heads, tokens, head dim] in laid-out order.

    `inputs` holds the pattern's inputs by name, those with one value a token as [batch or 1, heads or 1, tokens], in
    declared order. `tiles` are those of blocks of `block` queries and keys, both powers of two; None where the kernel
    finds them itself. `layout` holds the declared positions of queries and keys in laid-out order, [batch or 1, heads
    or 1, tokens]; None stands for equal orders. `precision` is that of products of float32: "ieee", "tf32x3" or "tf32".
    `tables` are what `token_tables` has given for equal inputs, where a pattern needs tables; None makes them anew.
    """
    q, k, v = (x if x.stride(3) == 1 else x.contiguous() for x in (q, k, v))
    batch, heads, query_length, dim = q.shape
    key_heads, key_length, value_dim = v.shape[1:]
    out = q.new_empty(batch, heads, query_length, value_dim)
    lse = q.new_empty(batch, heads, query_length, dtype=torch.promote_types(q.dtype, torch.float32))
    # hole: head_classes
    class_of_head = tiles.class_of_head.expand(batch, heads)
    # end
    # hole: prepare
    # end
    forward_kernel[(-(-query_length // block[0]) * heads * batch,)](
        q,
        k,
        v,
        out,
        lse,
        *q.stride()[:3],
        *k.stride()[:3],
        *v.stride()[:3],
        # hole: tile_arguments
        class_of_head,
        *tiles[1:],
        *class_of_head.stride(),
        # end
        heads,
        heads // key_heads,
        query_length,
        key_length,
        # hole: arguments
        # end
        DIM=dim,
        PADDED_DIM=max(16, 1 << (dim - 1).bit_length()),
        VALUE_DIM=value_dim,
        PADDED_VALUE_DIM=max(16, 1 << (value_dim - 1).bit_length()),
        QUERY_BLOCK=block[0],
        KEY_BLOCK=block[1],
        # hole: unit
        UNIT=dim**-0.5 * 1.4426950408889634,
        # end
        PRECISION=precision,
        num_warps=warps,
        num_stages=stages,
    )
    return out, lse
