# hole: forward
"""The backward pass over tiles in Triton: a skeleton that stands behind that of the forward pass."""

import torch
import triton
import triton.language as tl

from maskdsl.codegen.forward import NUMBERS, load_tokens

# end
# The backward pass computes scores again. `base` is the log-sum-exp of each query to base 2, plus infinity where
# nothing is to flow: where nothing is attended, where it is so large that nothing of the sum is left in it, and behind
# the last query, up to a multiple of 128, which every block divides. Where a pattern changes scores they may be of any
# size, and `base` is the natural log-sum-exp, from which even a large score is subtracted exactly. A float beside a
# large score has lost some of the sum: the kernel of queries sums up again, and `rest` gets the logarithm to base 2 of
# what is left, `own_rest` in the kernel of keys. `delta` is what is taken from all dS of a query: the sum of out *
# grad_out, less the gradient of lse. Slopes are those of scores; SCALE turns them into dS of products of queries
# and keys.


@triton.jit(do_not_specialize=NUMBERS)
def query_gradient_kernel(
    q,
    k,
    v,
    grad_out,
    base,
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
    # hole: query_parameters
    # end
    DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    PADDED_VALUE_DIM: tl.constexpr,
    QUERY_BLOCK: tl.constexpr,
    KEY_BLOCK: tl.constexpr,
    UNIT: tl.constexpr,
    SCALE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The gradient of one block of queries of one head, from the tiles of its row."""
    WIDE: tl.constexpr = base.dtype.element_ty
    rows = tl.cdiv(query_length, QUERY_BLOCK)
    row = rows - 1 - tl.program_id(0) % rows
    head = tl.program_id(0) // rows % heads
    batch = tl.program_id(0) // rows // heads
    # hole: query_row
    head_class = tl.load(class_of_head + batch * class_batch_stride + head * class_head_stride)
    number = head_class * rows + row
    # end

    wide_batch, wide_head = batch.to(tl.int64), head.to(tl.int64)
    key_head = (head // heads_per_key_head).to(tl.int64)
    first = (wide_batch * heads + head) * query_length
    base_first = (wide_batch * heads + wide_head) * tl.cdiv(query_length, 128) * 128
    q += wide_batch * q_batch_stride + wide_head * q_head_stride
    k += wide_batch * k_batch_stride + key_head * k_head_stride
    v += wide_batch * v_batch_stride + key_head * v_head_stride

    queries = row * QUERY_BLOCK + tl.arange(0, QUERY_BLOCK)
    query_positions = tl.minimum(queries, query_length - 1)
    query_tile = load_tokens(q, query_positions, q_token_stride, DIM, PADDED_DIM)
    grad_tile = load_tokens(grad_out + first * VALUE_DIM, query_positions, VALUE_DIM, VALUE_DIM, PADDED_VALUE_DIM)
    own_base = tl.load(base + base_first + queries)
    own_delta = tl.load(delta + first + query_positions)
    # hole: query_coordinates
    # end
    result = tl.zeros([QUERY_BLOCK, PADDED_DIM], dtype=WIDE)
    # hole: query_total
    # end

    # hole: query_full_runs
    first_run, end_run = tl.load(full_rows + 2 * number), tl.load(full_rows + 2 * number + 1)
    # end
    for run in range(first_run, end_run):
        # hole: query_full_run
        start, end = tl.load(full_starts + run), tl.load(full_ends + run)
        # end
        for block in range(start, end):
            key_positions = block * KEY_BLOCK + tl.arange(0, KEY_BLOCK)
            key_tile = load_tokens(k, key_positions, k_token_stride, DIM, PADDED_DIM)
            value_tile = load_tokens(v, key_positions, v_token_stride, VALUE_DIM, PADDED_VALUE_DIM)
            s = tl.dot(query_tile, tl.trans(key_tile), input_precision=PRECISION, out_dtype=WIDE)
            # hole: query_full_score
            # end
            # hole: query_full_probability
            p = tl.exp2(s * UNIT - own_base[:, None])
            # end
            ds = tl.dot(grad_tile, tl.trans(value_tile), input_precision=PRECISION, out_dtype=WIDE)
            # hole: query_full_weight
            # end
            ds = p * (ds - own_delta[:, None])
            # hole: query_full_slope
            # end
            result = tl.dot(ds.to(k.dtype.element_ty), key_tile, result, input_precision=PRECISION, out_dtype=WIDE)

    # hole: query_partial_runs
    first_run, end_run = tl.load(partial_rows + 2 * number), tl.load(partial_rows + 2 * number + 1)
    # end
    for run in range(first_run, end_run):
        # hole: query_partial_run
        start, end = tl.load(partial_starts + run), tl.load(partial_ends + run)
        # end
        for block in range(start, end):
            keys = block * KEY_BLOCK + tl.arange(0, KEY_BLOCK)
            key_positions = tl.minimum(keys, key_length - 1)
            key_tile = load_tokens(k, key_positions, k_token_stride, DIM, PADDED_DIM)
            value_tile = load_tokens(v, key_positions, v_token_stride, VALUE_DIM, PADDED_VALUE_DIM)
            s = tl.dot(query_tile, tl.trans(key_tile), input_precision=PRECISION, out_dtype=WIDE)
            # hole: query_partial_score
            # end
            attends = (keys < key_length)[None, :]
            # hole: query_predicate
            # end
            # hole: query_partial_probability
            p = tl.exp2(tl.where(attends, s, float("-inf")) * UNIT - own_base[:, None])
            # end
            ds = tl.dot(grad_tile, tl.trans(value_tile), input_precision=PRECISION, out_dtype=WIDE)
            # hole: query_partial_weight
            # end
            ds = p * (ds - own_delta[:, None])
            # hole: query_partial_slope
            # end
            result = tl.dot(ds.to(k.dtype.element_ty), key_tile, result, input_precision=PRECISION, out_dtype=WIDE)

    # hole: query_shares
    # end
    dims = tl.arange(0, PADDED_DIM)[None, :]
    elements = grad_q + (first + queries)[:, None] * DIM + dims
    result = (result * SCALE).to(grad_q.dtype.element_ty)
    tl.store(elements, result, mask=(queries < query_length)[:, None] & (dims < DIM))
    # hole: query_sums
    # end


@triton.jit(do_not_specialize=NUMBERS)
def key_gradient_kernel(
    q,
    k,
    v,
    grad_out,
    base,
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
    # hole: key_parameters
    # end
    DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    PADDED_VALUE_DIM: tl.constexpr,
    QUERY_BLOCK: tl.constexpr,
    KEY_BLOCK: tl.constexpr,
    UNIT: tl.constexpr,
    SCALE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The gradients of one block of keys and values of one key head, from the tiles of its column in every head.

    The lists of tiles are by blocks of keys, and their runs blocks of queries. Queries behind the last one have no
    probability, keys behind the last one are not stored: neither needs a mask. Scores are [keys, queries] here, so that
    what both results are products of stays in registers.
    """
    WIDE: tl.constexpr = base.dtype.element_ty
    columns = tl.cdiv(key_length, KEY_BLOCK)
    key_heads = heads // heads_per_key_head
    column = tl.program_id(0) % columns
    key_head = tl.program_id(0) // columns % key_heads
    batch = tl.program_id(0) // columns // key_heads
    wide_batch, wide_key_head = batch.to(tl.int64), key_head.to(tl.int64)
    k += wide_batch * k_batch_stride + wide_key_head * k_head_stride
    v += wide_batch * v_batch_stride + wide_key_head * v_head_stride

    keys = column * KEY_BLOCK + tl.arange(0, KEY_BLOCK)
    key_positions = tl.minimum(keys, key_length - 1)
    key_tile = load_tokens(k, key_positions, k_token_stride, DIM, PADDED_DIM)
    value_tile = load_tokens(v, key_positions, v_token_stride, VALUE_DIM, PADDED_VALUE_DIM)
    key_result = tl.zeros([KEY_BLOCK, PADDED_DIM], dtype=WIDE)
    value_result = tl.zeros([KEY_BLOCK, PADDED_VALUE_DIM], dtype=WIDE)

    for member in range(heads_per_key_head):
        head = key_head * heads_per_key_head + member
        wide_head = head.to(tl.int64)
        first = (wide_batch * heads + wide_head) * query_length
        base_first = (wide_batch * heads + wide_head) * tl.cdiv(query_length, 128) * 128
        own_q = q + wide_batch * q_batch_stride + wide_head * q_head_stride
        own_grad = grad_out + first * VALUE_DIM
        # hole: key_row
        head_class = tl.load(class_of_head + batch * class_batch_stride + head * class_head_stride)
        number = head_class * columns + column
        # end
        # hole: key_coordinates
        # end

        # hole: key_full_runs
        first_run, end_run = tl.load(full_rows + 2 * number), tl.load(full_rows + 2 * number + 1)
        # end
        for run in range(first_run, end_run):
            # hole: key_full_run
            start, end = tl.load(full_starts + run), tl.load(full_ends + run)
            # end
            for block in range(start, end):
                queries = block * QUERY_BLOCK + tl.arange(0, QUERY_BLOCK)
                query_positions = tl.minimum(queries, query_length - 1)
                query_tile = load_tokens(own_q, query_positions, q_token_stride, DIM, PADDED_DIM)
                grad_tile = load_tokens(own_grad, query_positions, VALUE_DIM, VALUE_DIM, PADDED_VALUE_DIM)
                own_base = tl.load(base + base_first + queries)
                own_delta = tl.load(delta + first + query_positions)
                s = tl.dot(key_tile, tl.trans(query_tile), input_precision=PRECISION, out_dtype=WIDE)
                # hole: key_full_score
                # end
                # hole: key_full_probability
                p = tl.exp2(s * UNIT - own_base[None, :])
                # end
                ds = tl.dot(value_tile, tl.trans(grad_tile), input_precision=PRECISION, out_dtype=WIDE)
                weighted = p
                # hole: key_full_weight
                # end
                weighted = weighted.to(v.dtype.element_ty)
                value_result = tl.dot(weighted, grad_tile, value_result, input_precision=PRECISION, out_dtype=WIDE)
                ds = p * (ds - own_delta[None, :])
                # hole: key_full_slope
                # end
                ds = ds.to(q.dtype.element_ty)
                key_result = tl.dot(ds, query_tile, key_result, input_precision=PRECISION, out_dtype=WIDE)

        # hole: key_partial_runs
        first_run, end_run = tl.load(partial_rows + 2 * number), tl.load(partial_rows + 2 * number + 1)
        # end
        for run in range(first_run, end_run):
            # hole: key_partial_run
            start, end = tl.load(partial_starts + run), tl.load(partial_ends + run)
            # end
            for block in range(start, end):
                queries = block * QUERY_BLOCK + tl.arange(0, QUERY_BLOCK)
                query_positions = tl.minimum(queries, query_length - 1)
                query_tile = load_tokens(own_q, query_positions, q_token_stride, DIM, PADDED_DIM)
                grad_tile = load_tokens(own_grad, query_positions, VALUE_DIM, VALUE_DIM, PADDED_VALUE_DIM)
                own_base = tl.load(base + base_first + queries)
                own_delta = tl.load(delta + first + query_positions)
                s = tl.dot(key_tile, tl.trans(query_tile), input_precision=PRECISION, out_dtype=WIDE)
                # hole: key_partial_score
                # end
                attends = (queries < query_length)[None, :]
                # hole: key_predicate
                # end
                # hole: key_partial_probability
                p = tl.exp2(tl.where(attends, s, float("-inf")) * UNIT - own_base[None, :])
                # end
                ds = tl.dot(value_tile, tl.trans(grad_tile), input_precision=PRECISION, out_dtype=WIDE)
                weighted = p
                # hole: key_partial_weight
                # end
                weighted = weighted.to(v.dtype.element_ty)
                value_result = tl.dot(weighted, grad_tile, value_result, input_precision=PRECISION, out_dtype=WIDE)
                ds = p * (ds - own_delta[None, :])
                # hole: key_partial_slope
                # end
                ds = ds.to(q.dtype.element_ty)
                key_result = tl.dot(ds, query_tile, key_result, input_precision=PRECISION, out_dtype=WIDE)
        # hole: key_sums
        # end

    real = (keys < key_length)[:, None]
    own_first = (wide_batch * key_heads + wide_key_head) * key_length
    dims = tl.arange(0, PADDED_DIM)[None, :]
    elements = grad_k + (own_first + keys)[:, None] * DIM + dims
    tl.store(elements, (key_result * SCALE).to(grad_k.dtype.element_ty), mask=real & (dims < DIM))
    dims = tl.arange(0, PADDED_VALUE_DIM)[None, :]
    elements = grad_v + (own_first + keys)[:, None] * VALUE_DIM + dims
    tl.store(elements, value_result.to(grad_v.dtype.element_ty), mask=real & (dims < VALUE_DIM))


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
    tables=None,
):
    """The gradients of q, k and v, in laid-out order, from those of the results of `attention`, and those of inputs.

    `row_tiles` are tiles by blocks of queries, `column_tiles` by blocks of keys; None stands for tiles that kernels
    find themselves. The options of either kernel are its QUERY_BLOCK, KEY_BLOCK, num_warps and num_stages. The
    last result has the gradients of those inputs, by name, that are `wanted` and that scores or weights depend on.
    """
    q, k, v = (x if x.stride(3) == 1 else x.contiguous() for x in (q, k, v))
    batch, heads, query_length, dim = q.shape
    key_heads, key_length, value_dim = v.shape[1:]
    # hole: base
    base = lse * 1.4426950408889634
    still = base.abs() >= (2.0**28 if lse.dtype == torch.float32 else 2.0**57)
    # end
    base = base.masked_fill(still, torch.inf)
    grad_out = grad_out.to(q.dtype).masked_fill(still.unsqueeze(-1), 0).contiguous()  # it may be NaN there
    delta = ((grad_out.to(lse.dtype) * out).sum(dim=-1) - grad_lse).masked_fill(still, 0).contiguous()
    base = torch.nn.functional.pad(base, (0, -query_length % 128), value=torch.inf).contiguous()
    grad_q, grad_k, grad_v = (x.new_empty(x.shape) for x in (q, k, v))
    # hole: tile_arguments
    row_variants = row_tiles.class_of_head.expand(batch, heads)
    row_arguments = (row_variants, *row_tiles[1:], *row_variants.stride())
    column_variants = column_tiles.class_of_head.expand(batch, heads)
    column_arguments = (column_variants, *column_tiles[1:], *column_variants.stride())
    # end
    # hole: prepare
    # end
    shared = (q, k, v, grad_out, base, delta)
    strides = (*q.stride()[:3], *k.stride()[:3], *v.stride()[:3])
    numbers = (heads, heads // key_heads, query_length, key_length)
    # hole: arguments
    arguments = ()
    # end
    constants = {
        "DIM": dim,
        "PADDED_DIM": max(16, 1 << (dim - 1).bit_length()),
        "VALUE_DIM": value_dim,
        "PADDED_VALUE_DIM": max(16, 1 << (value_dim - 1).bit_length()),
        # hole: unit
        "UNIT": dim**-0.5 * 1.4426950408889634,
        # end
        # hole: scale
        "SCALE": dim**-0.5,
        # end
        "PRECISION": precision,
    }
    rows = -(-query_length // row_options["QUERY_BLOCK"])
    columns = -(-key_length // column_options["KEY_BLOCK"])
    query_gradient_kernel[(rows * heads * batch,)](
        *(*shared, grad_q, *strides, *row_arguments, *numbers, *arguments),
        # hole: query_arguments
        # end
        **constants,
        **row_options,
    )
    # hole: between
    # end
    key_gradient_kernel[(columns * key_heads * batch,)](
        *(*shared, grad_k, grad_v, *strides, *column_arguments, *numbers, *arguments),
        # hole: key_arguments
        # end
        **constants,
        **column_options,
    )
    # hole: results
    return grad_q, grad_k, grad_v, {}
    # end
