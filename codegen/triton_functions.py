"""Helpers of generated Triton modules. A generated module holds only those that its pattern calls."""

import torch
import triton
import triton.language as tl


def token_table(values, positions, batch, heads, dtype):
    """Values of tokens, [batch or 1, heads or 1, tokens] or fewer axes, as the kernel reads them: in laid-out order."""
    values = values.view(*(1,) * (3 - values.dim()), *values.shape)
    if positions is not None:
        values = torch.take_along_dim(values, positions, dim=-1)
    return values.to(dtype).contiguous().expand(batch, heads, -1)


def width_of(table):
    """A number that kernels get in as many bits as offsets into a tensor need, which may be a view of a larger one."""
    last = sum((size - 1) * stride for size, stride in zip(table.shape, table.stride(), strict=True))
    return 2**31 if last >= 2**31 else 2  # 1 would be no number but a constant


def token_sums(ds, positions, shape, start):
    """Slopes [batch, heads, tokens] in laid-out order, as sums for values of a shape, those of tokens from `start`."""
    if positions is not None:
        ds = torch.empty_like(ds).scatter_(-1, positions.expand_as(ds), ds)
    return ds[..., start : start + shape[-1]].sum_to_size(shape)


def fixed_point(tensor, bounds):
    """Integers for sums of dS of a table's elements, and what one is multiplied by: a power of two.

    No sum is larger than that of `bounds`, which gets 58 bits; the others are room for rounding.
    """
    if bounds is None:
        return None, None
    largest = bounds.sum(dtype=torch.float64)
    exponent = (58 - torch.frexp(largest).exponent).clamp(max=126)
    scale = torch.ldexp(torch.ones_like(largest), exponent)
    scale = torch.where(largest.isfinite(), scale, torch.nan).to(bounds.dtype)
    return torch.zeros(tensor.shape, dtype=torch.int64, device=tensor.device), scale


@triton.jit
def add_to_table(sums, positions, ds, scale):
    """Adds dS in fixed point, with `scale` to their unit: the sums are equal in whatever order they are added."""
    amounts = tl.floor(ds * tl.load(scale) + 0.5).to(tl.int64)
    positions += tl.zeros(ds.shape, tl.int32)
    lowest = tl.min(tl.min(positions, 1), 0)
    # Tables of distances have one element for all that are far: thousands of pairs would wait for each other.
    if lowest == tl.max(tl.max(positions, 1), 0):
        tl.atomic_add(sums + lowest, tl.sum(tl.sum(amounts, 1), 0), sem="relaxed")
    else:
        tl.atomic_add(sums + positions, amounts, mask=amounts != 0, sem="relaxed")


@triton.jit
def online_softmax_step(s, m_i, UNIT: tl.constexpr):
    """Probabilities but for their common divisor, what the sums so far shrink by, and the highest scores by now.

    `m_i` begins with the lowest number that is finite, from which minus infinity can be subtracted. Numbers as
    large as LARGE are whole, and UNIT would round them by more than one; the lowest would overflow. Two such scores are
    equal, or so far apart that the lower one counts for nothing: to any base. Sums shrink by a difference times the
    unit: one of products, of which a GPU rounds but one, would shrink them a little where the highest score stays.
    """
    LARGE: tl.constexpr = 2.0**28 if s.dtype == tl.float32 else 2.0**57
    new = tl.maximum(m_i, tl.max(s, 1))
    unit = tl.where(tl.abs(new) * UNIT < LARGE, tl.full([], UNIT, s.dtype), tl.full([], 1.0, s.dtype))
    shift = new * unit
    return tl.exp2(s * unit[:, None] - shift[:, None]), tl.exp2((m_i - new) * unit), new


@triton.jit
def online_softmax_step_exactly(s, m_i, UNIT: tl.constexpr):
    """What `online_softmax_step` gives, by one more operation a pair, for scores of any size.

    It leaves to conditions the registers of a unit a row, too.
    """
    new = tl.maximum(m_i, tl.max(s, 1))
    return tl.exp2((s - new[:, None]) * UNIT), tl.exp2((m_i - new) * UNIT), new


@triton.jit
def floor_divide(x, y):
    """Rounds toward minus infinity, where Triton's own division of integers rounds toward zero."""
    quotient = x // y
    rest = x - quotient * y
    return tl.where((rest != 0) & ((rest ^ y) < 0), quotient - 1, quotient)


@triton.jit
def floor_modulo(x, y):
    """With the sign of the divisor, where Triton's own remainder has the sign of the dividend."""
    rest = x % y
    return tl.where((rest != 0) & ((rest ^ y) < 0), rest + y, rest)


@triton.jit
def inside(index, size):
    """An index moved into bounds: pairs that do not attend may ask for anything."""
    return tl.minimum(tl.maximum(index, 0), size - 1)


@triton.jit
def power(x, EXPONENT: tl.constexpr):
    """A product of equal factors."""
    result = x
    for _ in tl.static_range(EXPONENT - 1):
        result *= x
    return result


@triton.jit
def floor_log2(x):
    """The floor of the logarithm of integers, exactly; -1 for x < 1."""
    x = x.to(tl.int64)
    result = tl.where(x < 1, -1, 0)
    for step in tl.static_range(6):
        large = (x >> (32 >> step)) > 0
        result += tl.where(large, 32 >> step, 0)
        x = tl.where(large, x >> (32 >> step), x)
    return result


@triton.jit
def has_one_bit(x):
    """Whether integers are 1, 2, 4, ...: one bit alone."""
    return (x > 0) & ((x & (x - 1)) == 0)


@triton.jit
def gcd(x, y):
    """The greatest integer that divides both, by Euclid's algorithm; 0 of two zeros."""
    x, y = tl.abs(x + y * 0), tl.abs(y + x * 0)
    STEPS: tl.constexpr = 92 if x.dtype == tl.int64 else 46  # as many as Fibonacci numbers take
    for _ in range(STEPS):
        x, y = tl.where(y == 0, x, y), tl.where(y == 0, 0, x % tl.where(y == 0, 1, y))
    return x


@triton.jit
def mix(state, number):
    """Scrambles a 32-bit word with another one: a step of pseudo-random integers."""
    state = (state ^ number) + 0x1E3779B9
    state = (state ^ (state >> 16)) * 0x7FEB352D
    state = (state ^ (state >> 15)) * 0x45D9F3B
    return state ^ (state >> 16)


@triton.jit
def tanh(x):
    """The hyperbolic tangent, which Triton lacks."""
    return 2 * tl.sigmoid(2 * x) - 1


def extremes(values, positions, batch, heads, dtype, block):
    """The least and the greatest value of every block of tokens, [batch, heads, blocks]; a NaN may be anything."""
    values = token_table(values, positions, batch, heads, dtype)
    blocks = -(-values.shape[-1] // block)
    tokens = torch.arange(blocks * block, device=values.device).clamp(max=values.shape[-1] - 1)
    values = values[..., tokens].unflatten(-1, (blocks, block))
    least = values.masked_fill(values.isnan(), -torch.inf) if values.is_floating_point() else values
    greatest = values.masked_fill(values.isnan(), torch.inf) if values.is_floating_point() else values
    return least.amin(-1), greatest.amax(-1)


def counts_before(table, axes):
    """At every place, how many entries of a boolean table before it on these axes are true; longer by one there."""
    shape = [size + (axis in axes) for axis, size in enumerate(table.shape)]
    counts = torch.zeros(shape, dtype=torch.int32, device=table.device)
    inner = counts[tuple(slice(int(axis in axes), None) for axis in range(table.dim()))]
    inner.copy_(table)
    for axis in axes:
        inner.cumsum_(axis)
    return counts


def sorted_positions(keys, rows, first, end, device):
    """Positions from `first` to `end`, [*rows, end - first], sorted by keys, of which the first counts most."""
    positions = torch.arange(first, end, device=device).expand(*rows, -1)
    for key in reversed(keys):
        key = key.to(torch.int8) if key.dtype == torch.bool else key
        order = key.expand(*rows, -1).gather(-1, positions).sort(dim=-1, stable=True).indices
        positions = positions.gather(-1, order)
    return positions
