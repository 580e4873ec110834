# hole: header
"""Attention over tiles in Triton: the skeleton of the Triton backend, in which every query attends every key."""
# end

# hole: tiles_import
from typing import NamedTuple

# end
import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

# hole: piece_functions
from maskdsl.codegen.pieces import piece_room, start_join_kernel

# end
# hole: functions
from maskdsl.codegen.triton_functions import online_softmax_step, online_softmax_step_exactly, strides_in_units

# end
# q, k, v and out are [batch, heads, tokens, dim]; lse is [batch, heads, queries], natural.
#   tile            QUERY_BLOCK queries against KEY_BLOCK keys, in laid-out order
#   row             the tiles of one query block; one program computes one row
#   run             tiles of a row: the key blocks start, start + step, ... below end
#   s, p            scores of one tile, and exp2(s * UNIT - m_i * UNIT)
#   m_i, l_i        per query, the running maximum of s and the running sum of p
#   rescale         what l_i and the accumulated output are multiplied by when m_i grows
#   UNIT            the factor from s to logarithms of base 2: scale * log2(e)
#   positions       token indices, clamped to the last token
#   strides         of batch entries, heads and tokens, in STRIDE_UNIT elements: the unit tells how wide loads may be
#   PADDED_DIM      the dims that are computed, of which those beyond DIM are masked: `padded` says how many
#   chunks          tiles of q, k, v and out are tuples of tensors: all dims, or two thirds and one third of them


# hole: tiles
class Tiles(NamedTuple):
    """The block map as int32 tensors: the row that each program computes, heavy rows first, and its lists of runs.

    By columns, a program computes one of a key head, and has a list for each of the query heads that share its keys.
    """

    programs: torch.Tensor
    """[programs, 3]: batch entry, head and row; of the first of the batch entries that share the list."""
    full_rows: torch.Tensor
    """[lists, 3]: the runs [first, end) of full tiles in `full_runs`, and how many tiles, of each program's rows."""
    full_runs: torch.Tensor
    """[runs + 1, 3]: start, end and step of each run. Behind them is one that is read, and never used."""
    partial_rows: torch.Tensor
    """The same of partial tiles. A last key block that is shorter than KEY_BLOCK is always partial."""
    partial_runs: torch.Tensor
    heavy: int = 0
    """How many of the programs are heavy: each is started for all entries that share it, before the next one is."""
    entries: int = 1
    """How many batch entries share each program of the list."""
    slots: torch.Tensor | None = None
    """[programs, 2]: where rows are split, the number of the piece that a program computes, and its slot or -1."""
    merges: torch.Tensor | None = None
    """[rows that are split, 5]: batch entry, head, row, and their slots [first, end)."""
    pieces: int = 0
    """How many slots there are for each of the entries that share them."""


# end
# hole: pattern
# end
def padded(dim):
    """The dims that kernels compute for a head dim: the next power of two, or three quarters of it; at least 16.

    Triton's tensors have powers of two of elements. 192 dims are two chunks, of 128 and of 64: with one of 256, a
    quarter of all products would be of zeros.
    """
    power = max(16, 1 << (dim - 1).bit_length())
    return power * 3 // 4 if 64 < dim <= power * 3 // 4 else power


def describe(x, block, wanted):
    """A descriptor of x, [batch, heads, tokens, dim], by which GPUs copy blocks of `block` tokens, if it is wanted.

    None where they cannot: strides are more than 0 and, as the address is, multiples of 16 bytes. Only tiles of one
    chunk are copied. Strides of axes of size 1 lead nowhere.
    """
    if not wanted:
        return None
    dims, axes = padded(x.shape[3]), zip(x.shape[:3], x.stride()[:3], strict=True)
    strides = [stride if size > 1 else 16 for size, stride in axes]
    steps = [stride * x.element_size() for stride in strides]
    if dims & (dims - 1) or x.data_ptr() % 16 or not all(0 < step < 2**40 and step % 16 == 0 for step in steps):
        return None
    return TensorDescriptor(x, [*x.shape], [*strides, 1], [1, 1, block, dims])


@triton.jit
def load_block(
    descriptor, at, tensor, positions, stride, STRIDE_UNIT: tl.constexpr, DIM: tl.constexpr, PADDED: tl.constexpr
):
    """`load_tokens` of a block; by a descriptor, if there is one, `at` its batch entry, head and first token.

    A descriptor gives zeros past the last token, where positions are clamped.
    """
    if descriptor is None:
        tile = load_tokens(tensor, positions, stride, STRIDE_UNIT, DIM, PADDED)
    else:
        batch, head, start = at
        tile = descriptor.load([batch.to(tl.int32), head.to(tl.int32), start, 0])
        tile = (tl.reshape(tile, [positions.shape[0], PADDED]),)
    return tile


@triton.jit
def load_tokens(tensor, positions, stride, STRIDE_UNIT: tl.constexpr, DIM: tl.constexpr, PADDED: tl.constexpr):
    """Loads [positions, PADDED] from [tokens, DIM], in chunks; padded dims are zero."""
    rows = tensor + positions[:, None] * (tl.cast(stride, tl.int64) * STRIDE_UNIT)
    LAST: tl.constexpr = PADDED & -PADDED
    last = load_dims(rows, PADDED - LAST, LAST, DIM)
    return (last,) if LAST == PADDED else (load_dims(rows, 0, PADDED - LAST, DIM), last)


@triton.jit
def load_dims(rows, START: tl.constexpr, SIZE: tl.constexpr, DIM: tl.constexpr):
    """Loads one chunk of rows, pointers [positions, 1]."""
    dims = START + tl.arange(0, SIZE)[None, :]
    return tl.load(rows + dims) if START + SIZE <= DIM else tl.load(rows + dims, mask=dims < DIM, other=0.0)


@triton.jit
def store_tokens(rows, tile, real, DIM: tl.constexpr):
    """Stores the chunks of a tile to rows, pointers [positions, 1], where these are `real`, [positions]."""
    FIRST: tl.constexpr = tile[0].shape[1]
    dims = tl.arange(0, FIRST)[None, :]
    tl.store(rows + dims, tile[0].to(rows.dtype.element_ty), mask=real[:, None] & (dims < DIM))
    if len(tile) == 2:
        dims = FIRST + tl.arange(0, tile[1].shape[1])[None, :]
        tl.store(rows + dims, tile[1].to(rows.dtype.element_ty), mask=real[:, None] & (dims < DIM))


# hole: store_piece
@triton.jit
def store_piece(slots, slot, tile, BLOCK: tl.constexpr, ROOM: tl.constexpr):
    """Stores the chunks of a tile, which a piece of a row keeps, in its slot: [slots, BLOCK, ROOM]."""
    tokens = tl.arange(0, BLOCK)
    store_tokens(slots + (slot.to(tl.int64) * BLOCK + tokens)[:, None] * ROOM, tile, tokens >= 0, ROOM)


# end
@triton.jit
def zeros(ROWS: tl.constexpr, PADDED: tl.constexpr, WIDE: tl.constexpr):
    """Zeros [ROWS, PADDED], in chunks."""
    LAST: tl.constexpr = PADDED & -PADDED
    last = tl.zeros([ROWS, LAST], dtype=WIDE)
    return (last,) if LAST == PADDED else (tl.zeros([ROWS, PADDED - LAST], dtype=WIDE), last)


@triton.jit
def products(x, y, PRECISION: tl.constexpr, WIDE: tl.constexpr):
    """x @ y^T of two tiles, [rows of x, rows of y]: the sum over their chunks."""
    s = tl.dot(x[0], tl.trans(y[0]), input_precision=PRECISION, out_dtype=WIDE)
    if len(x) == 2:
        s = tl.dot(x[1], tl.trans(y[1]), s, input_precision=PRECISION, out_dtype=WIDE)
    return s


@triton.jit
def add_products(result, p, tile, PRECISION: tl.constexpr, WIDE: tl.constexpr):
    """result + p @ tile, in the chunks of the tile; p is rounded to its type."""
    p = p.to(tile[0].dtype)
    first = tl.dot(p, tile[0], result[0], input_precision=PRECISION, out_dtype=WIDE)
    if len(tile) == 2:
        last = tl.dot(p, tile[1], result[1], input_precision=PRECISION, out_dtype=WIDE)
    return (first,) if len(tile) == 1 else (first, last)


@triton.jit
def scaled(tile, factor):
    """The chunks of a tile times a factor, a number or [rows, 1]."""
    return (tile[0] * factor,) if len(tile) == 1 else (tile[0] * factor, tile[1] * factor)


# hole: tile_functions
@triton.jit
def load_row(programs, number):
    """Batch entry, head and row of a program of the list."""
    program = programs + 3 * number
    return tl.load(program), tl.load(program + 1), tl.load(program + 2)


@triton.jit
def load_program(programs, heavy, entries):
    """Batch entry, head and row of this program, its number in the list, and that of the entries that share the list.

    Heavy programs are started entry by entry, the others list by list: neighbours share keys, which are in the cache.
    """
    behind = tl.program_id(0) - heavy * entries
    is_heavy = behind < 0
    divisor = tl.where(is_heavy, entries, tl.num_programs(0) // entries - heavy)
    at = tl.where(is_heavy, tl.program_id(0), behind)
    whole, rest = at // divisor, at % divisor
    number = tl.where(is_heavy, whole, heavy + rest)
    entry = tl.where(is_heavy, rest, whole)
    batch, head, row = load_row(programs, number)
    return batch + entry, head, row, number, entry


@triton.jit
def load_run(runs, run):
    """Start, end and step of a run."""
    runs += 3 * tl.cast(run, tl.int64)
    return tl.load(runs), tl.load(runs + 1), tl.load(runs + 2)


@triton.jit
def first_tile(rows, runs, row_index):
    """How many tiles a row has, its first run as a pointer, and the start, end and step of that run."""
    row = rows + 3 * row_index
    first_run = tl.load(row)
    start, end, step = load_run(runs, first_run)
    return tl.load(row + 2), runs + 3 * first_run.to(tl.int64), start, end, step


@triton.jit
def next_tile(run, block, end, step):
    """The tile behind `block`, of its run or the first of the next one: the run, the block, and the run's end and step.

    Behind the last tile of a row they are of no use.
    """
    behind = block + step
    ends = behind >= end
    run += tl.where(ends, 3, 0)
    behind = tl.load(run, mask=ends, other=behind)
    return run, behind, tl.load(run + 1, mask=ends, other=end), tl.load(run + 2, mask=ends, other=step)


# end
# Triton specializes integers on divisibility by 16 and on 1. What kernels know of strides is their unit.
NUMBERS = ["heads", "heads_per_key_head", "query_length", "key_length", "heavy", "entries"]
NUMBERS += [f"{tensor}_{axis}_stride" for tensor in "qkv" for axis in ("batch", "head", "token")]
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
    programs,
    full_rows,
    full_runs,
    partial_rows,
    partial_runs,
    heavy,
    entries,
    # end
    # hole: piece_parameters
    slots,
    piece_results,
    piece_sums,
    # end
    heads,
    heads_per_key_head,
    query_length,
    key_length,
    k_descriptor,
    v_descriptor,
    # hole: parameters
    # end
    DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    PADDED_VALUE_DIM: tl.constexpr,
    QUERY_BLOCK: tl.constexpr,
    KEY_BLOCK: tl.constexpr,
    STRIDE_UNIT: tl.constexpr,
    UNIT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The output and the log-sum-exp of one query block of one head, by online softmax over the tiles of its row."""
    WIDE: tl.constexpr = lse.dtype.element_ty
    # hole: lowest
    LOWEST: tl.constexpr = -1.7976931348623157e308 if WIDE.primitive_bitwidth == 64 else -3.4028234663852886e38
    # end
    # hole: row
    batch, head, row, row_index, entry = load_program(programs, heavy, entries)
    # end

    wide_batch, wide_head = batch.to(tl.int64), head.to(tl.int64)
    key_head = wide_head // heads_per_key_head
    q += (wide_batch * q_batch_stride + wide_head * q_head_stride) * STRIDE_UNIT
    k += (wide_batch * k_batch_stride + key_head * k_head_stride) * STRIDE_UNIT
    v += (wide_batch * v_batch_stride + key_head * v_head_stride) * STRIDE_UNIT

    queries = row * QUERY_BLOCK + tl.arange(0, QUERY_BLOCK)
    query_positions = tl.minimum(queries, query_length - 1)
    query_tile = load_tokens(q, query_positions, q_token_stride, STRIDE_UNIT, DIM, PADDED_DIM)
    # hole: query_coordinates
    # end
    # hole: limits
    # end

    result = zeros(QUERY_BLOCK, PADDED_VALUE_DIM, WIDE)
    # hole: softmax_start
    l_i = tl.zeros([QUERY_BLOCK], dtype=WIDE)
    m_i = tl.full([QUERY_BLOCK], LOWEST, dtype=WIDE)
    # end

    # Full tiles: every pair attends, no mask.
    # hole: full_tiles
    tiles, run, next_block, end, step = first_tile(full_rows, full_runs, row_index)
    for _ in range(tiles):
        block = next_block  # the next one is read while this one is computed
        run, next_block, end, step = next_tile(run, block, end, step)
        # end
        key_positions = block * KEY_BLOCK + tl.arange(0, KEY_BLOCK)
        at = batch, key_head, block * KEY_BLOCK
        key_tile = load_block(k_descriptor, at, k, key_positions, k_token_stride, STRIDE_UNIT, DIM, PADDED_DIM)
        s = products(query_tile, key_tile, PRECISION, WIDE)
        # hole: full_score
        # end
        # hole: full_softmax
        p, rescale, m_i = online_softmax_step(s, m_i, UNIT)
        l_i = l_i * rescale + tl.sum(p, 1)
        # end
        # hole: full_weight
        # end
        value_tile = load_block(
            v_descriptor, at, v, key_positions, v_token_stride, STRIDE_UNIT, VALUE_DIM, PADDED_VALUE_DIM
        )
        # hole: full_rescale
        result = scaled(result, rescale[:, None])
        # end
        result = add_products(result, p, value_tile, PRECISION, WIDE)

    # Partial tiles: each pair is asked whether it attends. Keys past the end load the last key, and are masked.
    # hole: partial_tiles
    tiles, run, next_block, end, step = first_tile(partial_rows, partial_runs, row_index)
    for _ in range(tiles):
        block = next_block  # the next one is read while this one is computed
        run, next_block, end, step = next_tile(run, block, end, step)
        # end
        keys = block * KEY_BLOCK + tl.arange(0, KEY_BLOCK)
        key_positions = tl.minimum(keys, key_length - 1)
        at = batch, key_head, block * KEY_BLOCK
        key_tile = load_block(k_descriptor, at, k, key_positions, k_token_stride, STRIDE_UNIT, DIM, PADDED_DIM)
        s = products(query_tile, key_tile, PRECISION, WIDE)
        # hole: partial_score
        # end
        # hole: bounds
        attends = tl.arange(0, KEY_BLOCK)[None, :] < key_length - block * KEY_BLOCK
        # end
        # hole: predicate
        # end
        # hole: partial_softmax
        s = tl.where(attends, s, float("-inf"))
        p, rescale, m_i = online_softmax_step_exactly(s, m_i, UNIT)
        l_i = l_i * rescale + tl.sum(p, 1)
        # end
        # hole: partial_weight
        # end
        value_tile = load_block(
            v_descriptor, at, v, key_positions, v_token_stride, STRIDE_UNIT, VALUE_DIM, PADDED_VALUE_DIM
        )
        # hole: partial_rescale
        result = scaled(result, rescale[:, None])
        # end
        result = add_products(result, p, value_tile, PRECISION, WIDE)

    # hole: query_values
    # end
    # hole: pieces
    real = queries < query_length
    if slots is not None:
        slot = tl.load(slots + 2 * row_index + 1) * entries + entry
        if slot >= 0:
            store_piece(piece_results, slot, result, QUERY_BLOCK, PADDED_VALUE_DIM)
            store_piece(piece_sums, slot, (tl.join(l_i, m_i),), QUERY_BLOCK, 2)
        real &= slot < 0  # else the output is that of all pieces
    # end
    # hole: softmax_end
    # A query without keys, or with scores of -inf only, gets out = 0 and lse = -inf.
    empty = l_i == 0
    result = scaled(result, 1.0 / tl.where(empty, 1.0, l_i)[:, None])
    lse_i = m_i * (UNIT * 0.6931471805599453) + tl.log2(l_i) * 0.6931471805599453
    lse_i = tl.where(empty, float("-inf"), lse_i)
    # end
    query_offset = (wide_batch * heads + head) * query_length
    tl.store(lse + query_offset + queries, lse_i, mask=real)
    store_tokens(out + (query_offset + queries)[:, None] * VALUE_DIM, result, real, VALUE_DIM)


def attention(
    q,
    k,
    v,
    inputs,
    tiles,
    block,
    layout=(None, None),
    precision="ieee",
    warps=8,
    stages=2,
    descriptors=False,
    tables=None,
    out=None,
):
    """Output [batch, heads, queries, value dim] and natural log-sum-exp [batch, heads, queries], in laid-out order.

    q, k and v are [batch, heads, tokens, dim] in laid-out order. `inputs` are the pattern's inputs by name, in declared
    order; per-token inputs are [batch or 1, heads or 1, tokens]. `tiles` is the block map for `block`, a pair of powers
    of two (queries, keys); None if the kernel has the tiles in closed form. `layout` is a pair, of queries and of keys:
    their declared positions in laid-out order, [batch or 1, heads or 1, tokens], or None if both orders are the same.
    `precision`, of float32 products, is "ieee", "tf32x3" or "tf32". `descriptors` says that the loops load by tensor
    descriptors where they can. `tables` is a result of `token_tables` for the same inputs; None computes it. The output
    is in `out`, if that is given and contiguous.
    """
    q, k, v = (x if x.stride(3) == 1 else x.contiguous() for x in (q, k, v))
    batch, heads, query_length, dim = q.shape
    key_heads, key_length, value_dim = v.shape[1:]
    if out is None or not out.is_contiguous():
        out = q.new_empty(batch, heads, query_length, value_dim)
    lse = q.new_empty(batch, heads, query_length, dtype=torch.promote_types(q.dtype, torch.float32))
    # hole: prepare
    # end
    stride_unit, strides = strides_in_units(q, k, v)
    # hole: count
    count = len(tiles.programs) * tiles.entries
    # end
    # hole: piece_results
    piece_results = piece_room(tiles, lse, block[0], padded(value_dim))
    piece_sums = piece_room(tiles, lse, block[0], 2)
    # end
    forward_kernel[(count,)](
        q,
        k,
        v,
        out,
        lse,
        *strides,
        # hole: tile_arguments
        *tiles[:7],
        # end
        # hole: piece_arguments
        tiles.slots,
        piece_results,
        piece_sums,
        # end
        heads,
        heads // key_heads,
        query_length,
        key_length,
        describe(k, block[1], descriptors),
        describe(v, block[1], descriptors),
        # hole: arguments
        # end
        DIM=dim,
        PADDED_DIM=padded(dim),
        VALUE_DIM=value_dim,
        PADDED_VALUE_DIM=padded(value_dim),
        QUERY_BLOCK=block[0],
        KEY_BLOCK=block[1],
        STRIDE_UNIT=stride_unit,
        # hole: unit
        UNIT=dim**-0.5 * 1.4426950408889634,
        # end
        PRECISION=precision,
        num_warps=warps,
        num_stages=stages,
    )
    # hole: join_pieces
    start_join_kernel(tiles, piece_results, piece_sums, out, lse, dim**-0.5 * 1.4426950408889634)
    # end
    return out, lse
