"""Fixed pseudo-random integers: a pure function of 32-bit words, the same on every backend. Imports nothing.

Written with operations that all of them have: 64-bit multiplication, xor, shift and mask. A word times a constant
below 2 ** 31 never leaves 63 bits.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

WORD = 0xFFFFFFFF
_STEP, _FIRST, _SECOND = 0x1E3779B9, 0x7FEB352D, 0x45D9F3B


def random_integers(*arguments: Array) -> Array:
    """0 <= r < 2 ** 31, from the low 32 bits of each argument, the seed first."""
    return np.asarray(random_state(*arguments) >> 1)


def random_state(*arguments: Array) -> Array:
    """The word that these arguments, one after the other, are scrambled to."""
    state = np.asarray(0, dtype=np.int64)
    for argument in arguments:
        state = _mix(((state ^ (np.asarray(argument, dtype=np.int64) & WORD)) + _STEP) & WORD)
    return state


def _mix(x: Array) -> Array:
    """Scrambles a word."""
    x = x ^ (x >> 16)
    x = (x * _FIRST) & WORD
    x = x ^ (x >> 15)
    x = (x * _SECOND) & WORD
    return np.asarray(x ^ (x >> 16))
