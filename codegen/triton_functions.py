"""Helpers of generated Triton modules. A generated module holds only those that its pattern calls."""

import torch
import triton
import triton.language as tl


@triton.jit
def floor_divide(a, b):
    """The quotient rounded toward minus infinity, as Python has it; Triton's own rounds toward zero."""
    return (a - floor_modulo(a, b)) // b


@triton.jit
def floor_modulo(a, b):
    """The remainder with the sign of b, as Python has it; Triton's own has the sign of a."""
    remainder = a % b
    return remainder + tl.where((remainder != 0) & ((remainder < 0) != (b < 0)), b, 0)


@triton.jit
def power(x, EXPONENT: tl.constexpr):
    """x to a whole power that is not negative."""
    result = x * 0 + 1
    for _ in tl.static_range(EXPONENT):
        result = result * x
    return result


@triton.jit
def integer_log2(x):
    """The floor of the logarithm of 64-bit integers, exactly; -1 for x < 1."""
    result = tl.where(x < 1, -1, 0)
    for place in tl.static_range(6):
        large = x >= (x * 0 + 1) << (32 >> place)
        result = result + large.to(tl.int32) * (32 >> place)
        x = tl.where(large, x >> (32 >> place), x)
    return result


@triton.jit
def is_power_of_two(x):
    """Whether integers are 1, 2, 4, ...: one bit alone."""
    return (x > 0) & ((x & (x - 1)) == 0)


@triton.jit
def random_word(state, number):
    """A word scrambled together with the low 32 bits of a number; both are 64-bit integers."""
    state = ((state ^ (number & 0xFFFFFFFF)) + 0x1E3779B9) & 0xFFFFFFFF
    state = state ^ (state >> 16)
    state = (state * 0x7FEB352D) & 0xFFFFFFFF
    state = state ^ (state >> 15)
    state = (state * 0x45D9F3B) & 0xFFFFFFFF
    return state ^ (state >> 16)


@triton.jit
def tanh(x):
    return 2 * tl.sigmoid(2 * x) - 1


@triton.jit
def inside(index, size):
    """A 64-bit index moved into bounds: pairs that do not attend may ask for anything."""
    return tl.minimum(tl.maximum(index, 0), size - 1)


@triton.jit
def token_values(table, tokens, length):
    """One value a token; zeros beyond the last."""
    return tl.load(table + tokens, mask=tokens < length, other=0)


def token_table(values, positions, dtype):
    """Values of tokens, [batch or 1, heads or 1, tokens] or fewer axes, in laid-out order; floats keep their type."""
    values = values.view(*(1,) * (3 - values.dim()), *values.shape)
    values = values if positions is None else torch.take_along_dim(values, positions, dim=-1)
    return values.to(dtype or values.dtype).contiguous()
