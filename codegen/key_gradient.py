# hole: key_imports
"""The gradients of keys and values over tiles in Triton: the skeleton of that kernel, behind `backward.py`."""

import triton
import triton.language as tl

from maskdsl.codegen.forward import (
    NUMBERS,
    add_products,
    load_program,
    load_run,
    load_tokens,
    products,
    scaled,
    store_piece,
    store_tokens,
    zeros,
)


# end
@triton.jit(do_not_specialize=NUMBERS)
def key_gradient_kernel(
    q,
    k,
    v,
    grad_out,
    lse,
    delta,
    grad_k,
    grad_v,
    q_batch_stride,
    q_head_stride,
    q_token_stride,
    k_batch_stride,
    k_head_stride,
    k_token_stride,
    v_batch_stride,
    v_head_stride,
    v_token_stride,
    # hole: key_tile_parameters
    programs,
    full_rows,
    full_runs,
    partial_rows,
    partial_runs,
    heavy,
    entries,
    # end
    # hole: key_piece_parameters
    slots,
    piece_keys,
    piece_values,
    # end
    heads,
    heads_per_key_head,
    query_length,
    key_length,
    # hole: key_parameters
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
    """dK and dV of one key block of one key head, from the tiles of its column in every query head that shares it.

    Lists of tiles are by key block here, and runs are of query blocks. Queries past the end have lse = +inf and so
    p = 0; keys past the end are not stored: neither needs a mask. Scores are transposed, [keys, queries], so that p and
    dS are left operands of both products and stay in registers. The product for dV comes before that for dP, so that
    p, its copy for the product and dP are not in registers together.
    """
    WIDE: tl.constexpr = lse.dtype.element_ty
    key_heads = heads // heads_per_key_head
    # hole: key_column
    batch, key_head, column, number, entry = load_program(programs, heavy, entries)
    # end
    wide_batch, wide_key_head = batch.to(tl.int64), key_head.to(tl.int64)
    k += (wide_batch * k_batch_stride + wide_key_head * k_head_stride) * STRIDE_UNIT
    v += (wide_batch * v_batch_stride + wide_key_head * v_head_stride) * STRIDE_UNIT

    keys = column * KEY_BLOCK + tl.arange(0, KEY_BLOCK)
    key_positions = tl.minimum(keys, key_length - 1)
    key_tile = load_tokens(k, key_positions, k_token_stride, STRIDE_UNIT, DIM, PADDED_DIM)
    value_tile = load_tokens(v, key_positions, v_token_stride, STRIDE_UNIT, VALUE_DIM, PADDED_VALUE_DIM)
    key_result = zeros(KEY_BLOCK, PADDED_DIM, WIDE)
    value_result = zeros(KEY_BLOCK, PADDED_VALUE_DIM, WIDE)

    for member in range(heads_per_key_head):
        head = key_head * heads_per_key_head + member
        wide_head = head.to(tl.int64)
        query_offset = (wide_batch * heads + wide_head) * query_length
        lse_offset = (wide_batch * heads + wide_head) * tl.cdiv(query_length, 128) * 128
        head_q = q + (wide_batch * q_batch_stride + wide_head * q_head_stride) * STRIDE_UNIT
        head_grad = grad_out + query_offset * VALUE_DIM
        # hole: key_row
        column_index = number * heads_per_key_head + member
        # end
        # hole: key_coordinates
        # end
        # hole: key_limits
        # end

        # hole: key_full_runs
        first_run, end_run = tl.load(full_rows + 3 * column_index), tl.load(full_rows + 3 * column_index + 1)
        # end
        for run in range(first_run, end_run):
            # hole: key_full_run
            start, end, step = load_run(full_runs, run)
            for block in range(start, end, step):
                # end
                queries = block * QUERY_BLOCK + tl.arange(0, QUERY_BLOCK)
                query_positions = tl.minimum(queries, query_length - 1)
                query_tile = load_tokens(head_q, query_positions, q_token_stride, STRIDE_UNIT, DIM, PADDED_DIM)
                grad_tile = load_tokens(head_grad, query_positions, VALUE_DIM, 1, VALUE_DIM, PADDED_VALUE_DIM)
                lse_i = tl.load(lse + lse_offset + queries)
                delta_i = tl.load(delta + query_offset + query_positions)
                s = products(key_tile, query_tile, PRECISION, WIDE)
                # hole: key_full_score
                # end
                # hole: key_full_probability
                p = tl.exp2(s * UNIT - lse_i[None, :])
                # end
                weighted = p
                # hole: key_full_weight
                # end
                value_result = add_products(value_result, weighted, grad_tile, PRECISION, WIDE)
                ds = products(value_tile, grad_tile, PRECISION, WIDE)
                # hole: key_full_weight_gradient
                # end
                # hole: key_full_slope
                ds = p * (ds - delta_i[None, :])
                # end
                # hole: key_full_ds
                # end
                key_result = add_products(key_result, ds, query_tile, PRECISION, WIDE)

        # hole: key_partial_runs
        first_run, end_run = tl.load(partial_rows + 3 * column_index), tl.load(partial_rows + 3 * column_index + 1)
        # end
        for run in range(first_run, end_run):
            # hole: key_partial_run
            start, end, step = load_run(partial_runs, run)
            for block in range(start, end, step):
                # end
                queries = block * QUERY_BLOCK + tl.arange(0, QUERY_BLOCK)
                query_positions = tl.minimum(queries, query_length - 1)
                query_tile = load_tokens(head_q, query_positions, q_token_stride, STRIDE_UNIT, DIM, PADDED_DIM)
                grad_tile = load_tokens(head_grad, query_positions, VALUE_DIM, 1, VALUE_DIM, PADDED_VALUE_DIM)
                lse_i = tl.load(lse + lse_offset + queries)
                delta_i = tl.load(delta + query_offset + query_positions)
                s = products(key_tile, query_tile, PRECISION, WIDE)
                # hole: key_partial_score
                # end
                # hole: key_bounds
                attends = (queries < query_length)[None, :]
                # end
                # hole: key_predicate
                # end
                # hole: key_partial_probability
                p = tl.exp2(tl.where(attends, s, float("-inf")) * UNIT - lse_i[None, :])
                # end
                weighted = p
                # hole: key_partial_weight
                # end
                value_result = add_products(value_result, weighted, grad_tile, PRECISION, WIDE)
                ds = products(value_tile, grad_tile, PRECISION, WIDE)
                # hole: key_partial_weight_gradient
                # end
                # hole: key_partial_slope
                ds = p * (ds - delta_i[None, :])
                # end
                # hole: key_partial_ds
                # end
                key_result = add_products(key_result, ds, query_tile, PRECISION, WIDE)
        # hole: key_sums
        # end

    real = keys < key_length
    # hole: key_pieces
    if slots is not None:
        slot = tl.load(slots + 2 * number + 1) * entries + entry
        if slot >= 0:
            store_piece(piece_keys, slot, key_result, KEY_BLOCK, PADDED_DIM)
            store_piece(piece_values, slot, value_result, KEY_BLOCK, PADDED_VALUE_DIM)
        real &= slot < 0  # else the gradients are those of all pieces
    # end
    key_offsets = ((wide_batch * key_heads + wide_key_head) * key_length + keys)[:, None]
    store_tokens(grad_k + key_offsets * DIM, scaled(key_result, SCALE), real, DIM)
    store_tokens(grad_v + key_offsets * VALUE_DIM, value_result, real, VALUE_DIM)
