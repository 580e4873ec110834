"""Functions that the selection kernels of all routes of a generated module share."""

import torch
import triton
import triton.language as tl

from maskdsl.codegen.routing import placed
from maskdsl.codegen.triton_functions import token_table


class Runs:
    """Groups of `size` tokens side by side, of which the last may be smaller: `Groups` without a look at tokens."""

    exists = None

    def __init__(self, count, size):
        self.count, self.size = count, size


@triton.jit
def ordered(s):
    """Integers in the order of scores, which are neither NaN nor a negative zero; the least one of minus infinity."""
    BITS: tl.constexpr = s.dtype.primitive_bitwidth
    LEAST: tl.constexpr = -(2 ** (BITS - 1))
    bits = s.to(tl.int64 if BITS == 64 else tl.int32, bitcast=True)
    return tl.where(s > float("-inf"), tl.where(bits < 0, bits ^ (-1 - LEAST), bits), LEAST)


@triton.jit
def nothing(wanted, WIDE: tl.constexpr):
    """For each query group the least integer that `ordered` gives, and a weight of zero."""
    return ordered(tl.full(wanted.shape, float("-inf"), dtype=WIDE)), tl.zeros(wanted.shape, dtype=wanted.dtype)


@triton.jit
def weigh(s, highest, SHARE: tl.constexpr):
    """What candidates count: 1, or their share of a softmax where the highest one has 1, even if it is infinite."""
    share = tl.exp(tl.where(s == highest[:, None], 0.0, s - highest[:, None]))
    return share if SHARE else tl.full([1, 1], 1, dtype=tl.int32)


@triton.jit
def products(s, queries, keys, DIM: tl.constexpr, STEP: tl.constexpr):
    """Adds to `s` the products of the vectors that begin at [queries, 1] and [1, keys], some dims at a time."""
    WIDE: tl.constexpr = s.dtype
    for start in range(0, DIM, STEP):
        dims = start + tl.arange(0, STEP)
        one = tl.load(queries + dims[None, :], mask=(dims < DIM)[None, :], other=0.0)
        other = tl.load(keys + dims[:, None], mask=(dims < DIM)[:, None], other=0.0)
        if one.dtype != other.dtype:  # those of two short numbers are exact as they are
            one, other = one.to(WIDE), other.to(WIDE)
        s = tl.dot(one, other, s, input_precision="ieee", out_dtype=WIDE)
    return s


@triton.jit
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
):
    """The vector of one group of `size` tokens side by side."""
    WIDE: tl.constexpr = result.dtype.element_ty
    group = tl.program_id(0) % groups
    head = (tl.program_id(0) // groups % heads).to(tl.int64)
    batch = (tl.program_id(0) // groups // heads).to(tl.int64)
    x += batch * x_batch_stride + head * x_head_stride
    dims = tl.arange(0, PADDED_DIM)
    total = tl.full([PADDED_DIM], float("-inf") if KIND == "max" else 0.0, dtype=WIDE)
    count = tl.zeros([BLOCK], dtype=tl.int32)
    for start in range(0, size, BLOCK):
        rest = start + tl.arange(0, BLOCK)
        positions = group * size + rest
        pooled = (rest < size) & (positions < tokens)
        if among is not None:
            own = among + batch * among_batch_stride + head * among_head_stride + positions
            pooled &= tl.load(own, mask=pooled, other=0) != 0
        count += pooled.to(tl.int32)
        real = pooled[:, None] & (dims < DIM)[None, :]
        values = x + positions[:, None].to(tl.int64) * x_token_stride + dims[None, :]
        values = tl.load(values, mask=real, other=0.0).to(WIDE)
        if KIND == "max":
            total = tl.maximum(total, tl.max(tl.where(real, values, float("-inf")), 0))
            total += tl.sum(tl.where(values != values, values, 0.0), 0)  # a maximum passes over NaN
        else:
            total += tl.sum(values, 0)
    number = tl.sum(count, 0).to(WIDE)
    if KIND == "mean":
        total /= tl.maximum(number, 1.0)
    elif KIND == "root":
        total /= tl.sqrt(tl.maximum(number, 1.0))
    total = tl.where(number > 0, total, 0.0)
    position = tl.program_id(0).to(tl.int64) * DIM + dims
    tl.store(result + position, total, mask=dims < DIM)


def pooled_runs(x, groups, kind, among=None):
    """`pooled` of groups that are `Runs`, each read once; `among` has up to three axes [batch, heads, tokens]."""
    x = x if x.stride(3) == 1 else x.contiguous()
    batch, heads, tokens, dim = x.shape
    result = x.new_empty(batch, heads, groups.count, dim, dtype=torch.promote_types(x.dtype, torch.float32))
    if among is not None:
        among = token_table(placed(among, x.device), None, batch, heads, torch.int8)
    pool_kernel[(batch * heads * groups.count,)](
        x,
        among,
        result,
        *x.stride()[:3],
        *((0, 0) if among is None else among.stride()[:2]),
        heads,
        tokens,
        groups.count,
        groups.size,
        KIND=kind,
        DIM=dim,
        PADDED_DIM=1 << (dim - 1).bit_length(),
        BLOCK=min(64, 1 << (groups.size - 1).bit_length()),
    )
    return result


def joined(*pairs):
    """Vectors of groups, each with its numbers side by side, whose products are the sums of those of all pairs."""
    queries, keys = zip(*pairs, strict=True)
    heads = max(x.shape[1] for x in keys)
    sides = queries, [x.repeat_interleave(heads // x.shape[1], dim=1) if x.shape[1] < heads else x for x in keys]
    one, other = (side[0] if len(pairs) == 1 else torch.cat(side, dim=-1) for side in sides)
    return (x if x.stride(3) == 1 else x.contiguous() for x in (one, other))


def selection_options(key_groups, dim, dtype, most_held):
    """How a kernel is started: blocks of groups, and how many bits of the least score selected it finds at once.

    A program holds the scores of up to `most_held` key groups. Those of more it computes again for each few bits.
    """
    held = key_groups <= most_held
    key_block = max(16, 1 << (key_groups - 1).bit_length()) if held else 128
    query_block = min(64, max(16, 2**13 // key_block))
    return {
        "DIM": dim,
        "STEP": 16,
        "WIDE": tl.float64 if dtype == torch.float64 else tl.float32,
        "QUERY_BLOCK": query_block,
        "KEY_BLOCK": key_block,
        "HELD": held,
        "DIGIT": 1 if held else 4,
        "num_warps": max(4, query_block * key_block // 2**10),
        "num_stages": 1,
    }
