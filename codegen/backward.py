# hole: forward
"""The backward pass over tiles in Triton: the skeleton that follows the forward pass in a generated module."""

import triton
import triton.language as tl

from maskdsl.codegen.forward import (
    NUMBERS,
    add_products,
    describe,
    first_tile,
    load_block,
    load_program,
    load_tokens,
    next_tile,
    padded,
    products,
    scaled,
    store_piece,
    store_tokens,
    zeros,
)
from maskdsl.codegen.key_gradient import key_gradient_kernel
from maskdsl.codegen.pieces import piece_room, start_sum_kernel
from maskdsl.codegen.triton_functions import strides_in_units

# end
# The backward pass recomputes s and p tile by tile, from the log-sum-exp of the forward pass:
#   lse, lse_i      log-sum-exp of base 2, padded to a multiple of 128 queries. +inf makes p = 0: for queries without
#                   keys, for an lse too large to hold the logarithm of the sum, and for padding
#   delta, delta_i  rowsum(out * grad_out) - grad_lse
#   ds              dS: first the gradient of p, grad_out @ v^T, then that of the scores, p * (dP - delta)
#   weighted        p times the pattern's `weight`
#   SCALE           the constant factor from q @ k^T to s
# Where a pattern changes scores these may be of any size. Then `lse` is natural, as s - lse has no rounding error for
# large s. But lse has itself lost low bits of the sum, so p sums to l_i != 1: the kernel of dQ divides by l_i and
# stores log2(l_i) as `correction`, which the kernel of dK and dV subtracts as `correction_i`.


DELTA_QUERIES = 16
"""Queries of a program of `delta_kernel`."""
DELTA_NUMBERS = [f"{tensor}_{axis}_stride" for tensor in ("grad", "lse") for axis in ("batch", "head", "token")]
DELTA_NUMBERS += ["heads", "query_length"]


@triton.jit(do_not_specialize=DELTA_NUMBERS)
def delta_kernel(
    out,
    lse,
    grad_out,
    grad_lse,
    kernel_grad,
    kernel_lse,
    delta,
    grad_batch_stride,
    grad_head_stride,
    grad_token_stride,
    grad_dim_stride,
    lse_batch_stride,
    lse_head_stride,
    lse_token_stride,
    heads,
    query_length,
    VALUE_DIM: tl.constexpr,
    PADDED_VALUE_DIM: tl.constexpr,
    QUERY_BLOCK: tl.constexpr,
    STRIDE_UNIT: tl.constexpr,
):
    """Delta of some queries, their lse and grad_out as the other kernels take them, from `out` and the gradients."""
    WIDE: tl.constexpr = lse.dtype.element_ty
    blocks = tl.cdiv(query_length, 128) * 128 // QUERY_BLOCK
    queries = tl.program_id(0) % blocks * QUERY_BLOCK + tl.arange(0, QUERY_BLOCK)
    batch_head = (tl.program_id(0) // blocks).to(tl.int64)
    batch, head = batch_head // heads, batch_head % heads
    real = queries < query_length
    first = batch_head * query_length
    lse_i = tl.load(lse + first + queries, mask=real, other=float("inf"))
    # hole: kernel_lse
    LARGE: tl.constexpr = 2.0**28 if lse_i.dtype == tl.float32 else 2.0**57
    lse_i *= 1.4426950408889634
    dropped = tl.abs(lse_i) >= LARGE
    # end
    tl.store(kernel_lse + batch_head * blocks * QUERY_BLOCK + queries, tl.where(dropped, float("inf"), lse_i))

    dims = tl.arange(0, PADDED_VALUE_DIM)[None, :]
    exists = real[:, None] & (dims < VALUE_DIM)
    elements = (first + queries)[:, None] * VALUE_DIM + dims
    out_tile = tl.load(out + elements, mask=exists, other=0.0)
    grad_out += (batch * grad_batch_stride + head * grad_head_stride) * STRIDE_UNIT
    wide_queries = queries.to(tl.int64)[:, None]
    grads = grad_out + wide_queries * grad_token_stride * STRIDE_UNIT + dims * grad_dim_stride
    grad_tile = tl.load(grads, mask=exists & ~dropped[:, None], other=0.0)  # may be NaN in rows that are dropped
    grad_tile = grad_tile.to(kernel_grad.dtype.element_ty)
    tl.store(kernel_grad + elements, grad_tile, mask=exists)
    grad_lse += batch * lse_batch_stride + head * lse_head_stride
    grad_lse_i = tl.load(grad_lse + queries.to(tl.int64) * lse_token_stride, mask=real, other=0.0)
    delta_i = tl.sum(grad_tile.to(WIDE) * out_tile.to(WIDE), 1) - grad_lse_i
    tl.store(delta + first + queries, tl.where(dropped, 0.0, delta_i), mask=real)


@triton.jit(do_not_specialize=NUMBERS)
def query_gradient_kernel(
    q,
    k,
    v,
    grad_out,
    lse,
    delta,
    grad_q,
    q_batch_stride,
    q_head_stride,
    q_token_stride,
    k_batch_stride,
    k_head_stride,
    k_token_stride,
    v_batch_stride,
    v_head_stride,
    v_token_stride,
    # hole: query_tile_parameters
    programs,
    full_rows,
    full_runs,
    partial_rows,
    partial_runs,
    heavy,
    entries,
    # end
    # hole: query_piece_parameters
    slots,
    piece_results,
    # end
    heads,
    heads_per_key_head,
    query_length,
    key_length,
    k_descriptor,
    v_descriptor,
    # hole: query_parameters
    # end
    DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    PADDED_VALUE_DIM: tl.constexpr,
    QUERY_BLOCK: tl.constexpr,
    KEY_BLOCK: tl.constexpr,
    STRIDE_UNIT: tl.constexpr,
    UNIT: tl.constexpr,
    SCALE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """dQ of one query block of one head, from the tiles of its row."""
    WIDE: tl.constexpr = lse.dtype.element_ty
    # hole: query_row
    batch, head, row, row_index, entry = load_program(programs, heavy, entries)
    # end

    wide_batch, wide_head = batch.to(tl.int64), head.to(tl.int64)
    key_head = (head // heads_per_key_head).to(tl.int64)
    query_offset = (wide_batch * heads + head) * query_length
    lse_offset = (wide_batch * heads + wide_head) * tl.cdiv(query_length, 128) * 128
    q += (wide_batch * q_batch_stride + wide_head * q_head_stride) * STRIDE_UNIT
    k += (wide_batch * k_batch_stride + key_head * k_head_stride) * STRIDE_UNIT
    v += (wide_batch * v_batch_stride + key_head * v_head_stride) * STRIDE_UNIT

    queries = row * QUERY_BLOCK + tl.arange(0, QUERY_BLOCK)
    query_positions = tl.minimum(queries, query_length - 1)
    query_tile = load_tokens(q, query_positions, q_token_stride, STRIDE_UNIT, DIM, PADDED_DIM)
    head_grad = grad_out + query_offset * VALUE_DIM
    grad_tile = load_tokens(head_grad, query_positions, VALUE_DIM, 1, VALUE_DIM, PADDED_VALUE_DIM)
    lse_i = tl.load(lse + lse_offset + queries)
    delta_i = tl.load(delta + query_offset + query_positions)
    # hole: query_coordinates
    # end
    # hole: query_limits
    # end
    result = zeros(QUERY_BLOCK, PADDED_DIM, WIDE)
    # hole: query_sum
    # end

    # hole: query_full_tiles
    tiles, run, next_block, end, step = first_tile(full_rows, full_runs, row_index)
    for _ in range(tiles):
        block = next_block  # the next one is read while this one is computed
        run, next_block, end, step = next_tile(run, block, end, step)
        # end
        key_positions = block * KEY_BLOCK + tl.arange(0, KEY_BLOCK)
        at = batch, key_head, block * KEY_BLOCK
        key_tile = load_block(k_descriptor, at, k, key_positions, k_token_stride, STRIDE_UNIT, DIM, PADDED_DIM)
        value_tile = load_block(
            v_descriptor, at, v, key_positions, v_token_stride, STRIDE_UNIT, VALUE_DIM, PADDED_VALUE_DIM
        )
        s = products(query_tile, key_tile, PRECISION, WIDE)
        # hole: query_full_score
        # end
        # hole: query_full_probability
        p = tl.exp2(s * UNIT - lse_i[:, None])
        # end
        ds = products(grad_tile, value_tile, PRECISION, WIDE)
        # hole: query_full_weight
        # end
        # hole: query_full_slope
        ds = p * (ds - delta_i[:, None])
        # end
        # hole: query_full_ds
        # end
        result = add_products(result, ds, key_tile, PRECISION, WIDE)

    # hole: query_partial_tiles
    tiles, run, next_block, end, step = first_tile(partial_rows, partial_runs, row_index)
    for _ in range(tiles):
        block = next_block  # the next one is read while this one is computed
        run, next_block, end, step = next_tile(run, block, end, step)
        # end
        keys = block * KEY_BLOCK + tl.arange(0, KEY_BLOCK)
        key_positions = tl.minimum(keys, key_length - 1)
        at = batch, key_head, block * KEY_BLOCK
        key_tile = load_block(k_descriptor, at, k, key_positions, k_token_stride, STRIDE_UNIT, DIM, PADDED_DIM)
        value_tile = load_block(
            v_descriptor, at, v, key_positions, v_token_stride, STRIDE_UNIT, VALUE_DIM, PADDED_VALUE_DIM
        )
        s = products(query_tile, key_tile, PRECISION, WIDE)
        # hole: query_partial_score
        # end
        # hole: query_bounds
        attends = (keys < key_length)[None, :]
        # end
        # hole: query_predicate
        # end
        # hole: query_partial_probability
        p = tl.exp2(tl.where(attends, s, float("-inf")) * UNIT - lse_i[:, None])
        # end
        ds = products(grad_tile, value_tile, PRECISION, WIDE)
        # hole: query_partial_weight
        # end
        # hole: query_partial_slope
        ds = p * (ds - delta_i[:, None])
        # end
        # hole: query_partial_ds
        # end
        result = add_products(result, ds, key_tile, PRECISION, WIDE)

    # hole: query_normalization
    # end
    real = queries < query_length
    # hole: query_pieces
    if slots is not None:
        slot = tl.load(slots + 2 * row_index + 1) * entries + entry
        if slot >= 0:
            store_piece(piece_results, slot, result, QUERY_BLOCK, PADDED_DIM)
        real &= slot < 0  # else the gradient is that of all pieces
    # end
    rows_of_grad = grad_q + (query_offset + queries)[:, None] * DIM
    store_tokens(rows_of_grad, scaled(result, SCALE), real, DIM)
    # hole: query_sums
    # end


def gradients(
    q,
    k,
    v,
    out,
    lse,
    grad_out,
    grad_lse,
    inputs,
    row_tiles,
    column_tiles,
    row_options,
    column_options,
    layout=(None, None),
    precision="ieee",
    wanted=(),
    descriptors=False,
    tables=None,
):
    """dQ, dK and dV, shaped as q, k and v in laid-out order, and a dict of the gradients of the `wanted` inputs.

    `out` and `lse` are the results of `attention`, `grad_out` and `grad_lse` their gradients. `row_tiles` is the block
    map by query block, `column_tiles` by key block; None if the kernels have the tiles in closed form. `row_options`
    and `column_options` are QUERY_BLOCK, KEY_BLOCK, num_warps and num_stages of the two kernels. `descriptors` says
    that the loops for dQ load by them where they can. The dict has only inputs that scores or weights depend on. The
    other arguments are those of `attention`.
    """
    q, k, v = (x if x.stride(3) == 1 else x.contiguous() for x in (q, k, v))
    batch, heads, query_length, dim = q.shape
    key_heads, key_length, value_dim = v.shape[1:]
    kernel_lse = lse.new_empty(batch, heads, -(-query_length // 128) * 128)
    kernel_grad, delta = grad_out.new_empty(grad_out.shape, dtype=q.dtype), lse.new_empty(lse.shape)
    grad_unit, grad_strides = strides_in_units(grad_out)
    delta_kernel[(kernel_lse.numel() // DELTA_QUERIES,)](
        *(out.contiguous(), lse.contiguous(), grad_out, grad_lse, kernel_grad, kernel_lse, delta),
        *(*grad_strides, grad_out.stride(3), *grad_lse.stride(), heads, query_length),
        VALUE_DIM=value_dim,
        PADDED_VALUE_DIM=1 << (value_dim - 1).bit_length(),
        QUERY_BLOCK=DELTA_QUERIES,
        STRIDE_UNIT=grad_unit,
    )
    grad_q, grad_k, grad_v = (x.new_empty(x.shape) for x in (q, k, v))
    # hole: tile_arguments
    row_arguments, rows = row_tiles[:7], len(row_tiles.programs) * row_tiles.entries
    column_arguments, columns = column_tiles[:7], len(column_tiles.programs) * column_tiles.entries
    # end
    # hole: prepare
    # end
    shared = (q, k, v, kernel_grad, kernel_lse, delta)
    stride_unit, strides = strides_in_units(q, k, v)
    numbers = (heads, heads // key_heads, query_length, key_length)
    # hole: arguments
    arguments = ()
    # end
    constants = {
        "DIM": dim,
        "PADDED_DIM": padded(dim),
        "VALUE_DIM": value_dim,
        "PADDED_VALUE_DIM": padded(value_dim),
        "STRIDE_UNIT": stride_unit,
        # hole: unit
        "UNIT": dim**-0.5 * 1.4426950408889634,
        # end
        # hole: scale
        "SCALE": dim**-0.5,
        # end
        "PRECISION": precision,
    }
    described = (describe(x, row_options["KEY_BLOCK"], descriptors) for x in (k, v))
    # hole: row_pieces
    piece_results = piece_room(row_tiles, lse, row_options["QUERY_BLOCK"], constants["PADDED_DIM"])
    row_arguments += (row_tiles.slots, piece_results)
    # end
    query_gradient_kernel[(rows,)](
        *(*shared, grad_q, *strides, *row_arguments, *numbers, *described, *arguments),
        # hole: query_arguments
        # end
        **constants,
        **row_options,
    )
    # hole: join_rows
    start_sum_kernel(row_tiles, piece_results, grad_q, constants["SCALE"])
    # end
    # hole: column_pieces
    piece_keys = piece_room(column_tiles, lse, column_options["KEY_BLOCK"], constants["PADDED_DIM"])
    piece_values = piece_room(column_tiles, lse, column_options["KEY_BLOCK"], padded(value_dim))
    column_arguments += (column_tiles.slots, piece_keys, piece_values)
    # end
    # hole: between
    # end
    key_gradient_kernel[(columns,)](
        *(*shared, grad_k, grad_v, *strides, *column_arguments, *numbers, *arguments),
        # hole: key_arguments
        # end
        **constants,
        **column_options,
    )
    # hole: join_columns
    start_sum_kernel(column_tiles, piece_keys, grad_k, constants["SCALE"])
    start_sum_kernel(column_tiles, piece_values, grad_v, 1.0)
    # end
    # hole: results
    return grad_q, grad_k, grad_v, {}
    # end
