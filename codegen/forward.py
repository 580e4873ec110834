# hole: header
"""Attention over tiles as a Triton kernel: the skeleton of the forward pass, in which every query attends every key."""
# end

import torch
import triton
import triton.language as tl

# Words used below.
#   tile     QUERY_BLOCK queries against KEY_BLOCK keys, in laid-out order; full if all its pairs attend
#   row      a block of queries; one program computes one row for one query head of one batch entry
#   run      neighbouring tiles of one row: blocks of keys `start` to `end` (exclusive)
#   variant  heads and batch entries with equal tiles share one list of runs
# `highest` and `total` are the online softmax's running maximum and sum, in powers of two.

LOG2E = tl.constexpr(1.4426950408889634)


# hole: pattern
# end
@triton.jit
def load_tokens(pointer, tokens, items, token_step, item_step, length, ITEMS: tl.constexpr, PADDED: tl.constexpr):
    """Vectors of tokens, which broadcasts against items; zeros beyond the last token and the last item."""
    inside = tokens < length
    if PADDED != ITEMS:
        inside = inside & (items < ITEMS)
    return tl.load(pointer + tokens.to(tl.int64) * token_step + items * item_step, mask=inside, other=0.0)


@triton.jit
def load_keys(pointer, tokens, items, token_step, item_step, ITEMS: tl.constexpr, PADDED: tl.constexpr):
    """The same where all tokens are known to be there."""
    places = pointer + tokens.to(tl.int64) * token_step + items * item_step
    if PADDED != ITEMS:
        return tl.load(places, mask=(items < ITEMS) & (tokens >= 0), other=0.0)
    return tl.load(places)


@triton.jit
def soften(s, highest, total):
    """Probabilities of new scores before normalisation, how much earlier ones shrink, and the new maximum and sum."""
    new = tl.maximum(highest, tl.max(s, axis=1))
    anchor = tl.where(new == float("-inf"), 0.0, new)  # nothing attended so far: no infinity minus infinity
    p = tl.exp2(s - anchor[:, None])
    shrink = tl.exp2(highest - anchor)
    return p, shrink, new, total * shrink + tl.sum(p, axis=1)


@triton.jit
def forward_kernel(
    q,
    k,
    v,
    out,
    lse,
    step_q_batch,
    step_q_head,
    step_q_token,
    step_q_item,
    step_k_batch,
    step_k_head,
    step_k_token,
    step_k_item,
    step_v_batch,
    step_v_head,
    step_v_token,
    step_v_item,
    step_out_batch,
    step_out_head,
    step_out_token,
    variants,
    variants_batch,
    variants_head,
    full_runs,
    full_start,
    full_end,
    partial_runs,
    partial_start,
    partial_end,
    query_length,
    key_length,
    heads,
    group,
    scale,
    # hole: arguments
    # end
    QUERY_BLOCK: tl.constexpr,
    KEY_BLOCK: tl.constexpr,
    DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    PADDED_VALUE_DIM: tl.constexpr,
    PRECISION: tl.constexpr,
):
    row = tl.program_id(0)
    batch = tl.program_id(1) // heads
    head = tl.program_id(1) % heads
    key_head = head // group

    rows = row * QUERY_BLOCK + tl.arange(0, QUERY_BLOCK)
    items = tl.arange(0, PADDED_DIM)
    value_items = tl.arange(0, PADDED_VALUE_DIM)
    q += batch.to(tl.int64) * step_q_batch + head.to(tl.int64) * step_q_head
    k += batch.to(tl.int64) * step_k_batch + key_head.to(tl.int64) * step_k_head
    v += batch.to(tl.int64) * step_v_batch + key_head.to(tl.int64) * step_v_head
    queries = load_tokens(q, rows[:, None], items[None, :], step_q_token, step_q_item, query_length, DIM, PADDED_DIM)
    # hole: query_coordinates
    # end

    highest = tl.full([QUERY_BLOCK], float("-inf"), tl.float32)
    total = tl.zeros([QUERY_BLOCK], tl.float32)
    result = tl.zeros([QUERY_BLOCK, PADDED_VALUE_DIM], tl.float32)
    own = tl.load(variants + batch * variants_batch + head * variants_head) * (tl.num_programs(0) + 1) + row

    # Full tiles: no mask, no bounds.
    for run in range(tl.load(full_runs + own), tl.load(full_runs + own + 1)):
        for block in range(tl.load(full_start + run), tl.load(full_end + run)):
            columns = block * KEY_BLOCK + tl.arange(0, KEY_BLOCK)
            keys = load_keys(k, columns[None, :], items[:, None], step_k_token, step_k_item, DIM, PADDED_DIM)
            s = tl.dot(queries, keys, input_precision=PRECISION) * scale
            # hole: full_score
            # end
            p, shrink, highest, total = soften(s * LOG2E, highest, total)
            # hole: full_weight
            # end
            values = load_keys(
                v, columns[:, None], value_items[None, :], step_v_token, step_v_item, VALUE_DIM, PADDED_VALUE_DIM
            )
            result = tl.dot(p.to(values.dtype), values, result * shrink[:, None], input_precision=PRECISION)

    # Partial tiles: pair by pair; the last, ragged block of keys is one of these.
    for run in range(tl.load(partial_runs + own), tl.load(partial_runs + own + 1)):
        for block in range(tl.load(partial_start + run), tl.load(partial_end + run)):
            columns = block * KEY_BLOCK + tl.arange(0, KEY_BLOCK)
            keys = load_tokens(
                k, columns[None, :], items[:, None], step_k_token, step_k_item, key_length, DIM, PADDED_DIM
            )
            s = tl.dot(queries, keys, input_precision=PRECISION) * scale
            # hole: partial_score
            # end
            attending = (columns < key_length)[None, :]
            # hole: predicate
            # end
            s = tl.where(attending, s * LOG2E, float("-inf"))
            p, shrink, highest, total = soften(s, highest, total)
            # hole: partial_weight
            # end
            values = load_tokens(
                v,
                columns[:, None],
                value_items[None, :],
                step_v_token,
                step_v_item,
                key_length,
                VALUE_DIM,
                PADDED_VALUE_DIM,
            )
            result = tl.dot(p.to(values.dtype), values, result * shrink[:, None], input_precision=PRECISION)

    empty = total == 0.0
    total = tl.where(empty, 1.0, total)
    result = result / total[:, None]
    log_sum = tl.where(empty, float("-inf"), (highest + tl.log2(total)) / LOG2E)
    inside = rows < query_length
    out += batch.to(tl.int64) * step_out_batch + head.to(tl.int64) * step_out_head
    places = out + rows.to(tl.int64)[:, None] * step_out_token + value_items[None, :]
    tl.store(places, result.to(out.dtype.element_ty), mask=inside[:, None] & (value_items < VALUE_DIM)[None, :])
    tl.store(lse + tl.program_id(1).to(tl.int64) * query_length + rows, log_sum, mask=inside)


# hole: coordinates
# end
def attention(q, k, v, inputs, tiles, layout, choice, precision, poison=False):
    """Output like q and natural log-sum-exp, float32 [batch, heads, queries]; all tensors in laid-out order.

    q is [batch, heads, queries, dim]; the heads of k and v divide those of q. `inputs` holds the pattern's inputs by
    name, those with one value a token as [batch or 1, heads or 1, tokens], in declared order; `layout` the declared
    positions in laid-out order, of queries and of keys, where they differ; `tiles` int32 tensors by the names of the
    kernel's arguments; `choice` the sizes of a tile, warps and stages. `poison` fills results with NaN beforehand.
    """
    batch, heads, query_length, dim = q.shape
    key_length, value_dim = v.shape[2:]
    out = q.new_empty(batch, heads, query_length, value_dim)
    lse = q.new_empty(batch, heads, query_length, dtype=torch.float32)
    if poison:
        out.fill_(torch.nan)
        lse.fill_(torch.nan)
    query_block, key_block, warps, stages = choice
    variants = tiles["variants"]
    # hole: values
    # end
    grid = (triton.cdiv(query_length, query_block), batch * heads)
    forward_kernel[grid](
        *(q, k, v, out, lse),
        *(step for x in (q, k, v) for step in x.stride()),
        *out.stride()[:3],
        variants,
        step(variants, 0),
        step(variants, 1),
        *(tiles[f"{kind}_{part}"] for kind in ("full", "partial") for part in ("runs", "start", "end")),
        query_length,
        key_length,
        heads,
        heads // k.shape[1],
        # hole: scale
        dim**-0.5,
        # end
        # hole: launch
        # end
        QUERY_BLOCK=query_block,
        KEY_BLOCK=key_block,
        DIM=dim,
        PADDED_DIM=max(16, triton.next_power_of_2(dim)),
        VALUE_DIM=value_dim,
        PADDED_VALUE_DIM=max(16, triton.next_power_of_2(value_dim)),
        PRECISION=precision,
        num_warps=warps,
        num_stages=stages,
    )
    return out, lse


def step(x, axis):
    """How far apart the entries of an axis are; 0 where one serves all."""
    return 0 if x.shape[axis] == 1 else x.stride(axis)
