"""The functions that the selection kernels of a generated module share."""

import torch
import triton
import triton.language as tl

from maskdsl.codegen.routing import on_device, whole_heads
from maskdsl.codegen.triton_functions import strides_in_units, token_table

PRECISION = "tf32x3" if torch.version.hip is None else "ieee"  # of float32 products: AMD's matrix units have them
MOST_STORED = 2**24  # scores in memory at once
MOST_HELD = 2**13  # scores of a row in registers
LAUNCH_NUMBERS = ["first", "blocks"]  # numbers in which the launches of a kernel differ


class Runs:
    """`count` groups of `size` consecutive tokens, the last maybe smaller: `Groups` without tables of tokens."""

    exists = None

    def __init__(self, count, size):
        self.count, self.size = count, size


@triton.jit
def ordered(s):
    """Integers in the order of scores, the least integer for -inf, the highest for NaN. No score is -0.0."""
    BITS: tl.constexpr = s.dtype.primitive_bitwidth
    LEAST: tl.constexpr = -(2 ** (BITS - 1))
    bits = s.to(tl.int64 if BITS == 64 else tl.int32, bitcast=True)
    return tl.where(s == float("-inf"), LEAST, tl.where(bits < 0, bits ^ (-1 - LEAST), bits))


@triton.jit
def nothing(wanted, WIDE: tl.constexpr):
    """The least integer of `ordered`, and a weight of 0, for each query group."""
    return ordered(tl.full(wanted.shape, float("-inf"), dtype=WIDE)), tl.zeros(wanted.shape, dtype=wanted.dtype)


@triton.jit
def weigh(s, m_i, SHARE: tl.constexpr):
    """The weight of candidates: 1, or with SHARE exp(s - m_i), which is 1 at the maximum even if that is infinite."""
    share = tl.exp(tl.where(s == m_i[:, None], 0.0, s - m_i[:, None]))
    return share if SHARE else tl.full([1, 1], 1, dtype=tl.int32)


@triton.jit
def stored(scores, column, key_groups, KEY_BLOCK: tl.constexpr):
    """A tile of the rows of scores at pointers [rows, 1]; -inf behind the last."""
    keys = (column * KEY_BLOCK + tl.arange(0, KEY_BLOCK))[None, :]
    return tl.load(scores + keys, mask=keys < key_groups, other=float("-inf"))


@triton.jit
def products(s, queries, keys, DIM: tl.constexpr, STEP: tl.constexpr, PRECISION: tl.constexpr):
    """Adds to `s` the products of the vectors at pointers [queries, 1] and [1, keys], STEP dims at a time.

    On tensor cores, and exact enough: products of two numbers of 16 bits are exact in float32; of a product in float32,
    three in TF32 leave out 2**-22, less than the sum of all of them rounds off. Scores differ from those of torch as
    they do with the order of summation.
    """
    WIDE: tl.constexpr = s.dtype
    for start in range(0, DIM, STEP):
        dims = start + tl.arange(0, STEP)
        one = tl.load(queries + dims[None, :], mask=(dims < DIM)[None, :], other=0.0)
        other = tl.load(keys + dims[:, None], mask=(dims < DIM)[:, None], other=0.0)
        if one.dtype != other.dtype:
            one, other = one.to(WIDE), other.to(WIDE)
        s = tl.dot(one, other, s, input_precision=PRECISION, out_dtype=WIDE)
    return s


@triton.jit(do_not_specialize=["x_batch_stride", "x_head_stride", "x_token_stride"])
def pool_kernel(
    x,
    among,
    result,
    x_batch_stride,
    x_head_stride,
    x_token_stride,
    among_batch_stride,
    among_head_stride,
    heads,
    tokens,
    groups,
    size,
    KIND: tl.constexpr,
    DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    BLOCK: tl.constexpr,
    STRIDE_UNIT: tl.constexpr,
):
    """Pools one group of `size` consecutive tokens: see `pooled` of `routing.py`."""
    WIDE: tl.constexpr = result.dtype.element_ty
    group = tl.program_id(0) % groups
    head = (tl.program_id(0) // groups % heads).to(tl.int64)
    batch = (tl.program_id(0) // groups // heads).to(tl.int64)
    x += (batch * x_batch_stride + head * x_head_stride) * STRIDE_UNIT
    dims = tl.arange(0, PADDED_DIM)
    vector = tl.full([PADDED_DIM], float("-inf") if KIND == "max" else 0.0, dtype=WIDE)
    count = tl.zeros([BLOCK], dtype=tl.int32)
    for start in range(0, size, BLOCK):
        members = start + tl.arange(0, BLOCK)
        positions = group * size + members
        present = (members < size) & (positions < tokens)
        if among is not None:
            flags = among + batch * among_batch_stride + head * among_head_stride + positions
            present &= tl.load(flags, mask=present, other=0) != 0
        count += present.to(tl.int32)
        real = present[:, None] & (dims < DIM)[None, :]
        values = x + positions[:, None].to(tl.int64) * x_token_stride * STRIDE_UNIT + dims[None, :]
        values = tl.load(values, mask=real, other=0.0).to(WIDE)
        if KIND == "max":
            vector = tl.maximum(vector, tl.max(tl.where(real, values, float("-inf")), 0))
            vector += tl.sum(tl.where(values != values, values, 0.0), 0)  # tl.max ignores NaN
        else:
            vector += tl.sum(values, 0)
    number = tl.sum(count, 0).to(WIDE)
    if KIND == "mean":
        vector /= tl.maximum(number, 1.0)
    elif KIND == "root":
        vector /= tl.sqrt(tl.maximum(number, 1.0))
    vector = tl.where(number > 0, vector, 0.0)
    offsets = tl.program_id(0).to(tl.int64) * DIM + dims
    tl.store(result + offsets, vector, mask=dims < DIM)


def pooled_runs(x, groups, kind, among=None):
    """`pooled` for groups that are `Runs`, in one kernel; `among` is [batch or 1, heads or 1, tokens] or fewer axes."""
    x = x if x.stride(3) == 1 else x.contiguous()
    batch, heads, tokens, dim = x.shape
    result = x.new_empty(batch, heads, groups.count, dim, dtype=torch.promote_types(x.dtype, torch.float32))
    if among is not None:
        among = token_table(on_device(among, x.device), None, batch, heads, torch.int8)
    stride_unit, strides = strides_in_units(x)
    pool_kernel[(batch * heads * groups.count,)](
        x,
        among,
        result,
        *strides,
        *((0, 0) if among is None else among.stride()[:2]),
        heads,
        tokens,
        groups.count,
        groups.size,
        KIND=kind,
        DIM=dim,
        PADDED_DIM=1 << (dim - 1).bit_length(),
        BLOCK=min(64, 1 << (groups.size - 1).bit_length()),
        STRIDE_UNIT=stride_unit,
    )
    return result


def joined(heads, *pairs):
    """One pair of vectors whose product is the sum of the products of all pairs: concatenated along dims."""
    for side in zip(*pairs, strict=True):
        differ = len({x.shape[1] for x in side}) > 1
        x = side[0] if len(side) == 1 else torch.cat([whole_heads(x, heads) if differ else x for x in side], dim=-1)
        yield x if x.stride(3) == 1 else x.contiguous()


def torch_type(dtype):
    """The type of the scores of queries of a type."""
    return torch.promote_types(dtype, torch.float32)


def wide_type(dtype):
    """The same for kernels."""
    return tl.float64 if dtype == torch.float64 else tl.float32


def tile_options(query_groups, dim, dtype):
    """The constants, warps and stages of a kernel that scores tiles."""
    query_block = min(64, max(16, 1 << (query_groups - 1).bit_length()))
    return {
        "DIM": dim,
        "STEP": 32,
        "PRECISION": PRECISION,
        "WIDE": wide_type(dtype),
        "QUERY_BLOCK": query_block,
        "KEY_BLOCK": 64,
        "num_warps": 4,
        "num_stages": 1,
    }


def row_options(most_rows, key_groups, dtype):
    """Those of a kernel that selects from rows of scores, in blocks that divide `most_rows`.

    Up to MOST_HELD key groups a program holds all scores of its rows; with more it reads them for every DIGIT.
    """
    held = key_groups <= MOST_HELD
    key_block = min(MOST_HELD, max(16, 1 << (key_groups - 1).bit_length()))
    query_block = min(most_rows, max(1, 2**10 // key_block))
    return {
        "WIDE": wide_type(dtype),
        "QUERY_BLOCK": query_block,
        "KEY_BLOCK": key_block,
        "HELD": held,
        "DIGIT": 1 if held else 4,
        "num_warps": max(4, query_block * key_block // 2**9),
        "num_stages": 1,
    }
