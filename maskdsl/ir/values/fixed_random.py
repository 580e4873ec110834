"""Fixed pseudo-random integers: a pure function of 32-bit words, the same on every backend.

Uses only operations that every backend has: 64-bit multiplication, xor, shift and mask. A word times a constant below
2 ** 31 fits 63 bits.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

WORD = 0xFFFFFFFF
_STEP, _FIRST, _SECOND = 0x1E3779B9, 0x7FEB352D, 0x45D9F3B


def random_integers(*arguments: Array) -> Array:
    """Integers in [0, 2 ** 31), hashed from the low 32 bits of each argument; the first argument is the seed."""
    return np.asarray(random_state(*arguments) >> 1)


def random_state(*arguments: Array) -> Array:
    """The 32-bit hash state after mixing in all arguments in turn."""
    state = np.asarray(0, dtype=np.int64)
    for argument in arguments:
        state = _mix(((state ^ (np.asarray(argument, dtype=np.int64) & WORD)) + _STEP) & WORD)
    return state


def _mix(x: Array) -> Array:
    """Mixes the bits of a 32-bit word."""
    x = x ^ (x >> 16)
    x = (x * _FIRST) & WORD
    x = x ^ (x >> 15)
    x = (x * _SECOND) & WORD
    return np.asarray(x ^ (x >> 16))
