"""Keyed pseudo-random permutations of the numbers below any bound: each place and its inverse in constant time.

A Feistel network of four rounds permutes the numbers below a power of four; one that leaves the bound goes through it
again. docs/language.md defines it.
"""

import numpy as np

from maskdsl.ir.ops import Array
from maskdsl.ir.values.fixed_random import random_integers

_ROUNDS = 4


def permuted(positions: Array, words: Array, count: int) -> Array:
    """int64: the numbers, below `count`, at these positions of the permutations of `words`. Both broadcast."""
    return _walked(positions, words, count, forward=True)


def positions_of(numbers: Array, words: Array, count: int) -> Array:
    """int64: the inverse of `permuted`."""
    return _walked(numbers, words, count, forward=False)


def _walked(numbers: Array, words: Array, count: int, forward: bool) -> Array:
    half = ((count - 1).bit_length() + 1) // 2
    numbers, words = (np.array(each, dtype=np.int64) for each in np.broadcast_arrays(numbers, words))
    if not numbers.size:
        return numbers
    numbers = _network(numbers, words, half, forward)
    while (outside := numbers >= count).any():
        numbers[outside] = _network(numbers[outside], words[outside], half, forward)
    return numbers


def _network(numbers: Array, words: Array, half: int, forward: bool) -> Array:
    """A permutation of the numbers below 4 ** half."""
    mask = (1 << half) - 1
    left, right = numbers >> half, numbers & mask
    for turn in range(_ROUNDS):
        if forward:
            left, right = right, left ^ (random_integers(words, np.asarray(turn), right) & mask)
        else:
            back = np.asarray(_ROUNDS - 1 - turn)
            left, right = right ^ (random_integers(words, back, left) & mask), left
    return np.asarray((left << half) | right)
