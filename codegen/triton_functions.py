"""Helpers of generated Triton modules, on the host and in kernels. A module holds only those that it calls."""

import torch
import triton
import triton.language as tl


def token_table(values, positions, batch, heads, dtype):
    """A per-token table as kernels read it: [batch, heads, tokens] of `dtype`, contiguous in tokens.

    `values` are [batch or 1, heads or 1, tokens] or fewer axes; `positions`, if any, gather them into laid-out order.
    """
    values = values.view(*(1,) * (3 - values.dim()), *values.shape)
    if positions is not None:
        values = torch.take_along_dim(values, positions, dim=-1)
    return values.to(dtype).contiguous().expand(batch, heads, -1)


def strides_in_units(*tensors):
    """The largest power of two up to 8 that divides all strides but those of dims, and these strides in that unit.

    Eight elements of 16 bits are the widest load. The tensors are [batch, heads, tokens, dim]. Strides of axes of size
    1 lead nowhere, and are taken for 0.
    """
    axes = (axis for x in tensors for axis in zip(x.shape[:3], x.stride()[:3], strict=True))
    strides = [stride if size > 1 else 0 for size, stride in axes]
    bits = 8
    for stride in strides:
        bits |= stride
    unit = bits & -bits  # the lowest bit of any
    return unit, [stride // unit for stride in strides]


def width_of(table):
    """An integer whose argument type in a kernel, int32 or int64, holds every element offset of a (strided) table."""
    last = sum((size - 1) * stride for size, stride in zip(table.shape, table.stride(), strict=True))
    return 2**31 if last >= 2**31 else 2  # Triton makes a constant of 1


def token_sums(ds, positions, shape, start):
    """The gradient of a per-token input of `shape`, from dS summed per token, [batch, heads, tokens] in laid-out order.

    `positions` scatter them back to declared order; `start` is the first token that has the input.
    """
    if positions is not None:
        ds = torch.empty_like(ds).scatter_(-1, positions.expand_as(ds), ds)
    return ds[..., start : start + shape[-1]].sum_to_size(shape)


def sink_share(sink, lse):
    """The probabilities of a sink, which are 0 where its score is minus infinity."""
    return torch.exp(sink - lse).masked_fill_(sink == -torch.inf, 0)


def fixed_point(tensor, bounds):
    """Zeroed int64 accumulators for the gradient of a table, and the power of two that contributions are scaled by.

    `bounds` are what each query contributes at most, [batch, heads, queries]; their sum bounds every element and gets
    58 bits, which leaves room for rounding. None, None where `bounds` is None.
    """
    if bounds is None:
        return None, None
    largest = bounds.sum(dtype=torch.float64)
    exponent = (58 - torch.frexp(largest).exponent).clamp(max=126)
    scale = torch.ldexp(torch.ones_like(largest), exponent)
    scale = torch.where(largest.isfinite(), scale, torch.nan).to(bounds.dtype)
    return torch.zeros(tensor.shape, dtype=torch.int64, device=tensor.device), scale


@triton.jit
def add_to_table(sums, offsets, contribution, scale):
    """Adds contributions [rows, columns] to `sums` at `offsets`, in fixed point: integer sums depend on no order."""
    amounts = tl.floor(contribution * tl.load(scale) + 0.5).to(tl.int64)
    offsets += tl.zeros(contribution.shape, tl.int32)
    first = tl.min(tl.min(offsets, 1), 0)
    # A table of clamped distances has one element for all far pairs: their atomics would serialize.
    if first == tl.max(tl.max(offsets, 1), 0):
        tl.atomic_add(sums + first, tl.sum(tl.sum(amounts, 1), 0), sem="relaxed")
    else:
        tl.atomic_add(sums + offsets, amounts, mask=amounts != 0, sem="relaxed")


@triton.jit
def online_softmax_step(s, m_i, UNIT: tl.constexpr):
    """One online-softmax step over a tile [queries, keys]: p = exp2((s - new m_i) * UNIT), the rescale factor, new m_i.

    `m_i` starts at the lowest finite number, as -inf - -inf is NaN. Computing s * UNIT - m * UNIT costs one FMA a pair,
    but rounds scores beyond LARGE by more than one, and overflows at the lowest number: such rows use a unit of 1,
    since floats of that size are integers and differ by 0 or by so much that the smaller p is 0 to any base. The
    rescale factor multiplies the difference: with a contracted FMA it would not be exactly 1 where m_i stays.
    """
    LARGE: tl.constexpr = 2.0**28 if s.dtype == tl.float32 else 2.0**57
    new = tl.maximum(m_i, tl.max(s, 1))
    unit = tl.where(tl.abs(new) * UNIT < LARGE, tl.full([], UNIT, s.dtype), tl.full([], 1.0, s.dtype))
    shift = new * unit
    return tl.exp2(s * unit[:, None] - shift[:, None]), tl.exp2((m_i - new) * unit), new


@triton.jit
def online_softmax_step_exactly(s, m_i, UNIT: tl.constexpr):
    """`online_softmax_step` for scores of any size: one more operation a pair, but no unit per row in registers."""
    new = tl.maximum(m_i, tl.max(s, 1))
    return tl.exp2((s - new[:, None]) * UNIT), tl.exp2((m_i - new) * UNIT), new


@triton.jit
def join_sink(sink, m_i, l_i, UNIT):
    """l_i of keys and a sink, a key of value zero whose score is in units of s; the rescale factor; and new m_i."""
    new = tl.maximum(m_i, sink)
    rescale = tl.exp2((m_i - new) * UNIT)
    return l_i * rescale + tl.exp2((sink - new) * UNIT), rescale, new


@triton.jit
def as_bits(flags):
    """The bits of up to 64 flags [1, flags], the first one lowest, and how many are set."""
    numbers = tl.arange(0, flags.shape[1])[None, :].to(tl.int64)
    return tl.sum(tl.sum(flags.to(tl.int64) << numbers, 1), 0), tl.sum(tl.sum(flags.to(tl.int32), 1), 0)


@triton.jit
def bits_of_rows(flags):
    """The bits of up to 64 flags of each row [rows, flags], as [rows, 1], and those that some row has, as [1, 1]."""
    numbers = tl.arange(0, flags.shape[1])[None, :].to(tl.int64)
    some = tl.max(flags.to(tl.int32), 0).to(tl.int64)[None, :]
    return tl.sum(flags.to(tl.int64) << numbers, 1)[:, None], tl.sum(some << numbers, 1)[:, None]


@triton.jit
def take_lowest(bits):
    """The number of the lowest bit that is set, by the exponent of its power of two, and the bits without it."""
    lowest = bits & -bits
    return ((lowest.to(tl.float32).to(tl.int32, bitcast=True) >> 23) & 255) - 127, bits ^ lowest


@triton.jit
def has_bit(bits, number):
    """Whether a bit of 64 is set, by its number: shifts of 32 bits take fewer registers."""
    half = tl.where(number < 32, bits.to(tl.int32), (bits >> 32).to(tl.int32))
    return ((half >> (number & 31)) & 1) != 0


@triton.jit
def scaled_but_zeros(tile, factor):
    """The chunks of a tile times a factor [rows, 1], which may be infinite; zeros stay zeros."""
    first = tl.where(tile[0] == 0, 0.0, tile[0] * factor)
    return (first,) if len(tile) == 1 else (first, tl.where(tile[1] == 0, 0.0, tile[1] * factor))


@triton.jit
def floor_divide(x, y):
    """Floor division of integers, as in Python. Triton's `//` rounds toward zero."""
    quotient = x // y
    rest = x - quotient * y
    return tl.where((rest != 0) & ((rest ^ y) < 0), quotient - 1, quotient)


@triton.jit
def floor_modulo(x, y):
    """The remainder with the sign of the divisor, as in Python. Triton's has the sign of the dividend."""
    rest = x % y
    return tl.where((rest != 0) & ((rest ^ y) < 0), rest + y, rest)


@triton.jit
def inside(index, size):
    """The index clamped to the table: pairs that do not attend may have any index."""
    return tl.minimum(tl.maximum(index, 0), size - 1)


@triton.jit
def find_entry(lists, offset, row, column):
    """The number of the entry at a row and a column, by a binary search in the row; -1 if none.

    The list at `lists + offset` is the number of rows and the steps of a search, which all lists share, where the
    columns of each row start, and the columns.
    """
    rows = tl.load(lists)
    steps = tl.load(lists + 1)
    entries = lists + offset
    starts = entries + 2 + tl.minimum(tl.maximum(row, 0), rows - 1)
    shape = (row + column + offset).to(tl.int32) * 0
    low = tl.load(starts) + shape
    end = tl.load(starts + 1) + shape
    high = end
    columns = entries + 3 + rows
    for _ in range(steps):
        middle = (low + high) // 2
        here = low < high
        below = tl.load(columns + middle, mask=here, other=0) < column
        low = tl.where(here & below, middle + 1, low)
        high = tl.where(here & ~below, middle, high)
    stored = (low < end) & (row >= 0) & (row < rows)
    stored &= tl.load(columns + low, mask=stored, other=-1) == column
    return tl.where(stored, low, -1)


@triton.jit
def power(x, EXPONENT: tl.constexpr):
    """x ** EXPONENT for EXPONENT >= 1."""
    result = x
    for _ in tl.static_range(EXPONENT - 1):
        result *= x
    return result


@triton.jit
def floor_log2(x):
    """floor(log2(x)) of integers, exact; -1 for x < 1."""
    x = x.to(tl.int64)
    result = tl.where(x < 1, -1, 0)
    for step in tl.static_range(6):
        large = (x >> (32 >> step)) > 0
        result += tl.where(large, 32 >> step, 0)
        x = tl.where(large, x >> (32 >> step), x)
    return result


@triton.jit
def has_one_bit(x):
    """Whether integers are powers of two."""
    return (x > 0) & ((x & (x - 1)) == 0)


@triton.jit
def common_divisor(x, y):
    """The greatest integer that divides both, by Euclid's algorithm; 0 of two zeros."""
    x, y = tl.abs(x + y * 0), tl.abs(y + x * 0)
    STEPS: tl.constexpr = 92 if x.dtype == tl.int64 else 46  # the worst case: consecutive Fibonacci numbers
    for _ in range(STEPS):
        x, y = tl.where(y == 0, x, y), tl.where(y == 0, 0, x % tl.where(y == 0, 1, y))
    return x


@triton.jit
def round_to_even(x):
    """The nearest number without fraction; of two, the even one."""
    floor = tl.floor(x)
    rest = x - floor
    is_odd = tl.floor(floor * 0.5) * 2 != floor
    return tl.where((rest > 0.5) | ((rest == 0.5) & is_odd), floor + 1, floor)


@triton.jit
def truncate(x):
    """The number without its fraction."""
    return tl.where(x < 0, -tl.floor(-x), tl.floor(x))


@triton.jit
def as_integers(whole):
    """The 64-bit integers nearest to float64 numbers without fraction; 0 of NaN."""
    inside = tl.abs(whole) < 9223372036854775808.0
    limits = tl.where(whole > 0, 9223372036854775807, tl.where(whole < 0, -9223372036854775808, 0))
    return tl.where(inside, tl.where(inside, whole, 0.0).to(tl.int64), limits)


@triton.jit
def mix(state, number):
    """One step of the pseudo-random hash of 32-bit words: docs/language.md specifies it."""
    state = (state ^ number) + 0x1E3779B9
    state = (state ^ (state >> 16)) * 0x7FEB352D
    state = (state ^ (state >> 15)) * 0x45D9F3B
    return state ^ (state >> 16)


@triton.jit
def tanh(x):
    """tanh, which Triton lacks."""
    return 1 - 2 / (tl.exp2(x * 2.8853900817779268) + 1)


@triton.jit
def score_tanh(x, APPROXIMATE: tl.constexpr):
    """tanh of scores; one instruction if APPROXIMATE, off by up to 2**-11, which is below the precision of 16 bits."""
    if APPROXIMATE:
        result = tl.inline_asm_elementwise("tanh.approx.f32 $0, $1;", "=f,f", [x], tl.float32, is_pure=True, pack=1)
    else:
        result = tanh(x)
    return result


def approximates(q):
    """Whether kernels approximate functions of scores: where q has 16 bits, on NVIDIA GPUs that have instructions."""
    if q.element_size() > 2 or q.device.type != "cuda" or torch.version.hip is not None:
        return False
    return torch.cuda.get_device_capability(q.device) >= (7, 5)


def counts_before(table, axes):
    """Exclusive prefix counts of a boolean table along these axes, each of which becomes longer by one."""
    shape = [size + (axis in axes) for axis, size in enumerate(table.shape)]
    counts = torch.zeros(shape, dtype=torch.int32, device=table.device)
    inner = counts[tuple(slice(int(axis in axes), None) for axis in range(table.dim()))]
    inner.copy_(table)
    for axis in axes:
        inner.cumsum_(axis)
    return counts


def sorted_positions(keys, rows, first, end, device):
    """The positions first .. end - 1, stably sorted by `keys`, the first key foremost: [*rows, end - first]."""
    positions = torch.arange(first, end, device=device).expand(*rows, -1)
    for key in reversed(keys):
        key = key.to(torch.int8) if key.dtype == torch.bool else key
        order = key.expand(*rows, -1).gather(-1, positions).sort(dim=-1, stable=True).indices
        positions = positions.gather(-1, order)
    return positions
