# hole: header
"""Decoding and chunked prefill in Triton, by split-KV: the skeleton, in which every query attends every key."""
# end

import torch
import triton
import triton.language as tl

# hole: functions
from maskdsl.codegen.triton_functions import online_softmax_step_exactly, strides_in_units

# end
# q and out are [batch, heads, queries, dim]; k and v are [batch or pages, key heads, tokens, dim].
#   row             one query of one head: row = query * heads_per_key_head + head within its group, so that a tile
#                   holds all query heads that share a key head
#   split           one of `splits` programs that share the keys of a tile: of the blocks from live_start on it has
#                   every `splits`th, from the block number `split`
#   positions       token indices in the pattern
#   page            PAGE_SIZE consecutive keys of one batch entry, anywhere in memory; PAGE_SIZE is 0 without pages
#   s, p            scores of one tile, and exp2((s - m_i) * UNIT)
#   m_i, l_i        per row, the running maximum of s and the sum of p
#   sum_tile        running sums of p, one for each key of a block: rows are summed once, behind the loop
#   rescale         what sums and the accumulated output are multiplied by when m_i grows
#   strides         of batch entries or pages, heads and tokens, in STRIDE_UNIT elements: it tells how wide loads may be
#   UNIT            the factor from s to logarithms of base 2: scale * log2(e)

# hole: pattern
# end
NUMBERS = ["heads", "heads_per_key_head", "queries", "query_length", "key_length", "splits", "page_table_stride"]
NUMBERS += [f"{tensor}_{axis}_stride" for tensor in "qkv" for axis in ("batch", "head", "token")]
# hole: numbers
# end


@triton.jit
def load_rows(tensor, offsets, present, DIM: tl.constexpr, PADDED: tl.constexpr):
    """Loads rows [offsets, PADDED] that begin at element offsets; zeros where not `present`, and in padded dims."""
    dims = tl.arange(0, PADDED)[None, :]
    return tl.load(tensor + offsets[:, None] + dims, mask=present[:, None] & (dims < DIM), other=0.0)


@triton.jit(do_not_specialize=NUMBERS)
def decode_kernel(
    q,
    k,
    v,
    out,
    lse,
    sums,
    query_starts,
    key_lengths,
    page_table,
    q_batch_stride,
    q_head_stride,
    q_token_stride,
    k_batch_stride,
    k_head_stride,
    k_token_stride,
    v_batch_stride,
    v_head_stride,
    v_token_stride,
    page_table_stride,
    heads,
    heads_per_key_head,
    queries,
    query_length,
    key_length,
    splits,
    # hole: parameters
    # end
    DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    PADDED_VALUE_DIM: tl.constexpr,
    ROW_BLOCK: tl.constexpr,
    KEY_BLOCK: tl.constexpr,
    PAGE_SIZE: tl.constexpr,
    ONE_QUERY: tl.constexpr,
    STRIDE_UNIT: tl.constexpr,
    UNIT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The partial result of one tile of rows over the keys of one split. Keys that no row attends are not loaded.

    With one query, what is known of queries has one row for all heads: which keys it attends takes no reduction.
    Conditions around loads would keep Triton from pipelining them: they are masked.
    """
    WIDE: tl.constexpr = lse.dtype.element_ty
    # hole: lowest
    LOWEST: tl.constexpr = -1.7976931348623157e308 if WIDE.primitive_bitwidth == 64 else -3.4028234663852886e38
    # end
    key_heads = heads // heads_per_key_head
    rows = queries * heads_per_key_head
    tiles = tl.cdiv(rows, ROW_BLOCK)
    split = tl.program_id(0) % splits
    tile = tl.program_id(0) // splits % tiles
    key_head = tl.program_id(0) // splits // tiles % key_heads
    batch = tl.program_id(0) // splits // tiles // key_heads
    wide_batch = batch.to(tl.int64)

    row = tile * ROW_BLOCK + tl.arange(0, ROW_BLOCK)
    real_row = tl.minimum(row, rows - 1)  # rows past the end are copies of the last one
    query = tl.zeros([1], tl.int32) if ONE_QUERY else real_row // heads_per_key_head
    row_head = key_head * heads_per_key_head + (real_row if ONE_QUERY else real_row % heads_per_key_head)
    start = tl.load(query_starts + batch)
    real = (start + query >= 0) & (start + query < query_length)
    wide_head = row_head.to(tl.int64)
    query_offsets = wide_batch * q_batch_stride + wide_head * q_head_stride + query.to(tl.int64) * q_token_stride
    query_tile = load_rows(q, query_offsets * STRIDE_UNIT, real, DIM, PADDED_DIM)
    # hole: query_coordinates
    # end

    result = tl.zeros([ROW_BLOCK, PADDED_VALUE_DIM], dtype=WIDE)
    # hole: softmax_start
    sum_tile = tl.zeros([ROW_BLOCK, KEY_BLOCK], dtype=WIDE)
    m_i = tl.full([ROW_BLOCK], LOWEST, dtype=WIDE)
    # end
    cached = tl.minimum(tl.load(key_lengths + batch), key_length)
    # hole: live
    live_start, live_end = 0, tl.cdiv(cached, KEY_BLOCK)
    # end
    # hole: lists
    if live_start + split < live_end:
        # end
        # hole: blocks
        for block in range(live_start + split, live_end, splits):
            # end
            keys = block * KEY_BLOCK + tl.arange(0, KEY_BLOCK)
            # hole: key_coordinates
            # end
            present = keys < cached
            if PAGE_SIZE:
                pages = page_table + wide_batch * page_table_stride + keys // PAGE_SIZE
                page = tl.load(pages, mask=present, other=-1).to(tl.int64)
                present &= page >= 0
                token = (keys % PAGE_SIZE).to(tl.int64)
            else:
                page = wide_batch + tl.zeros_like(keys)
                token = keys.to(tl.int64)
            attends = real[:, None] & present[None, :]
            # hole: predicate
            # end
            # hole: presence
            present = tl.max(attends.to(tl.int32), 0) > 0
            # end
            # hole: row_predicate
            # end
            key_offsets = page * k_batch_stride + key_head.to(tl.int64) * k_head_stride + token * k_token_stride
            key_tile = load_rows(k, key_offsets * STRIDE_UNIT, present, DIM, PADDED_DIM)
            s = tl.dot(query_tile, tl.trans(key_tile.to(query_tile.dtype)), input_precision=PRECISION, out_dtype=WIDE)
            # hole: score
            # end
            # hole: partial_softmax
            s = tl.where(attends, s, float("-inf"))
            p, rescale, m_i = online_softmax_step_exactly(s, m_i, UNIT)
            sum_tile = sum_tile * rescale[:, None] + p
            # end
            # hole: weight
            # end
            value_offsets = page * v_batch_stride + key_head.to(tl.int64) * v_head_stride + token * v_token_stride
            value_tile = load_rows(v, value_offsets * STRIDE_UNIT, present, VALUE_DIM, PADDED_VALUE_DIM)
            # hole: partial_rescale
            result *= rescale[:, None]
            # end
            result = tl.dot(
                p.to(query_tile.dtype),
                value_tile.to(query_tile.dtype),
                result,
                input_precision=PRECISION,
                out_dtype=WIDE,
            )

    # hole: sums
    l_i = tl.sum(sum_tile, 1)
    # end
    # hole: query_values
    # end
    # hole: softmax_end
    empty = l_i == 0
    result = result / tl.where(empty, 1.0, l_i)[:, None]
    # end
    # Partial results are [splits, batch, heads, queries].
    batches = tl.num_programs(0) // splits // tiles // key_heads
    index = ((split.to(tl.int64) * batches + batch) * heads + row_head) * queries + query
    has_result = row < rows
    # hole: lse
    lse_i = m_i * (UNIT * 0.6931471805599453)
    if sums is None:
        lse_i = tl.where(empty, float("-inf"), lse_i + tl.log2(l_i) * 0.6931471805599453)
    else:  # maximum and sum apart: added to a large maximum, the logarithm of the sum would be rounded away
        tl.store(sums + index, l_i, mask=row < rows)
        has_result &= ~empty
    tl.store(lse + index, lse_i, mask=row < rows)
    # end
    dims = tl.arange(0, PADDED_VALUE_DIM)[None, :]
    elements = out + index[:, None] * VALUE_DIM + dims
    tl.store(elements, result.to(out.dtype.element_ty), mask=has_result[:, None] & (dims < VALUE_DIM))


# hole: merge_kernel
@triton.jit(do_not_specialize=["rows", "splits"])
def merge_kernel(
    partial_out,
    partial_m,
    partial_l,
    out,
    lse,
    rows,
    splits,
    VALUE_DIM: tl.constexpr,
    PADDED_VALUE_DIM: tl.constexpr,
    SPLITS: tl.constexpr,
):
    """Merges the partial results of a row, each weighted by exp(its m - m_i) * its l: all splits are loaded at once."""
    WIDE: tl.constexpr = lse.dtype.element_ty
    LOWEST: tl.constexpr = -1.7976931348623157e308 if WIDE.primitive_bitwidth == 64 else -3.4028234663852886e38
    row = tl.program_id(0).to(tl.int64)
    split = tl.arange(0, SPLITS)
    index = split * rows.to(tl.int64) + row
    split_m = tl.load(partial_m + index, mask=split < splits, other=LOWEST)
    split_l = tl.load(partial_l + index, mask=split < splits, other=0.0)
    has_keys = split_l != 0
    dims = tl.arange(0, PADDED_VALUE_DIM)
    elements = partial_out + index[:, None] * VALUE_DIM + dims[None, :]
    split_out = tl.load(elements, mask=has_keys[:, None] & (dims < VALUE_DIM)[None, :], other=0.0)
    m_i = tl.max(split_m, 0)
    weight = tl.where(has_keys, tl.exp(split_m - m_i) * split_l, 0.0)
    l_i = tl.sum(weight, 0)
    result = tl.sum(split_out * weight[:, None], 0) / tl.where(l_i == 0, 1.0, l_i)
    tl.store(lse + row, tl.where(l_i == 0, float("-inf"), m_i + tl.log(l_i)))
    tl.store(out + row * VALUE_DIM + dims, result.to(out.dtype.element_ty), mask=dims < VALUE_DIM)


# end
def decode(
    q,
    k,
    v,
    inputs,
    query_starts,
    key_lengths,
    lengths,
    page_table=None,
    splits=1,
    block=(16, 64),
    precision="ieee",
    tables=None,
    out=None,
):
    """Output [batch, heads, queries, value dim] and natural log-sum-exp [batch, heads, queries] of some of the queries.

    q is [batch, heads, queries, dim], k and v [batch, key heads, keys, dim], in declared order. `query_starts` and
    `key_lengths`, int32 [batch], are the position of each entry's first query and the keys it has so far; `lengths` is
    the pattern's (queries, keys). With a `page_table`, int32 [batch, pages], k and v are [pages, key heads, page size,
    dim] and key n of an entry is in page `page_table[entry, n // page size]`; a negative entry is a missing page.
    `splits` programs share the keys of one tile; `block` is (rows, keys) of a tile, powers of two. `tables` is a result
    of `token_tables` for the same inputs; None computes it. The output is in `out`, if contiguous.
    """
    q, k, v = (x if x.stride(3) == 1 else x.contiguous() for x in (q, k, v))
    batch, heads, queries, dim = q.shape
    key_heads, value_dim = k.shape[1], v.shape[3]
    query_length, key_length = lengths
    if out is None or not out.is_contiguous():
        out = q.new_empty(batch, heads, queries, value_dim)
    lse = q.new_empty(batch, heads, queries, dtype=torch.promote_types(q.dtype, torch.float32))
    partial_out, partial_m, partial_l = out, lse, None
    if splits > 1:
        partial_out = lse.new_empty(splits, *out.shape)
        partial_m, partial_l = lse.new_empty(2, splits, *lse.shape)
    # hole: prepare
    # end
    padded_value_dim = max(16, 1 << (value_dim - 1).bit_length())
    stride_unit, strides = strides_in_units(q, k, v)
    tiles = -(-queries * (heads // key_heads) // block[0])
    decode_kernel[(splits * tiles * key_heads * batch,)](
        q,
        k,
        v,
        partial_out,
        partial_m,
        partial_l,
        query_starts,
        key_lengths,
        key_lengths if page_table is None else page_table,
        *strides,
        0 if page_table is None else page_table.stride(0),
        heads,
        heads // key_heads,
        queries,
        query_length,
        key_length,
        splits,
        # hole: arguments
        # end
        DIM=dim,
        PADDED_DIM=max(16, 1 << (dim - 1).bit_length()),
        VALUE_DIM=value_dim,
        PADDED_VALUE_DIM=padded_value_dim,
        ROW_BLOCK=block[0],
        KEY_BLOCK=block[1],
        PAGE_SIZE=0 if page_table is None else k.shape[2],
        ONE_QUERY=queries == 1,
        STRIDE_UNIT=stride_unit,
        # hole: unit
        UNIT=dim**-0.5 * 1.4426950408889634,
        # end
        PRECISION=precision,
        num_warps=4,
    )
    # hole: merge
    if splits > 1:
        rows = batch * heads * queries
        merge_kernel[(rows,)](
            partial_out,
            partial_m,
            partial_l,
            out,
            lse,
            rows,
            splits,
            VALUE_DIM=value_dim,
            PADDED_VALUE_DIM=padded_value_dim,
            SPLITS=max(64, 1 << (splits - 1).bit_length()),  # one kernel for all numbers of splits
            num_warps=8 if padded_value_dim > 128 else 4,
        )
    # end
    return out, lse
