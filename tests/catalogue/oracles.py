"""The rules of the examples, written a second time: plain Python over one pair of tokens, from the papers' words.

Every rule is a function of the parameters that returns `allowed(head, q, k) -> bool`.
"""

from collections.abc import Callable
from itertools import product

Rule = Callable[[int, int, int], bool]


def cells(*lengths: int) -> list[tuple[int, ...]]:
    """The coordinates of every token of a row-major grid."""
    return list(product(*(range(length) for length in lengths)))


def windows(size: int, length: int, shift: int = 0) -> list[list[int]]:
    """The positions of an axis in windows of `size`, after the first `shift` have moved to the end."""
    rolled = [*range(shift, length), *range(shift)]
    return [rolled[start : start + size] for start in range(0, length, size)]


def core_context(n: int, group: int, size: int) -> Rule:
    def allowed(head: int, q: int, k: int) -> bool:
        near = range(q - size + 1, q + 1)
        if k < n:
            return k in near
        pooled = range((k - n) * group, (k - n + 1) * group)
        return all(token < near[0] for token in pooled)

    return allowed
