"""The rules of the examples, written a second time: plain Python over one pair of tokens, from the papers' words.

Every rule is a function of the parameters that returns `allowed(head, q, k) -> bool`.
"""

from collections.abc import Callable
from itertools import product

Rule = Callable[[int, int, int], bool]


def cells(*lengths: int) -> list[tuple[int, ...]]:
    """The coordinates of every token of a row-major grid."""
    return list(product(*(range(length) for length in lengths)))


def square_window(h: int, w: int, kernel: int) -> Rule:
    positions = cells(h, w)
    return lambda head, q, k: all(abs(a - b) <= kernel // 2 for a, b in zip(positions[q], positions[k], strict=True))


def windows(size: int, length: int, shift: int = 0) -> list[list[int]]:
    """The positions of an axis in windows of `size`, after the first `shift` have moved to the end."""
    rolled = [*range(shift, length), *range(shift)]
    return [rolled[start : start + size] for start in range(0, length, size)]


def together(q: int, k: int, parts: list[list[int]]) -> bool:
    return any(q in part and k in part for part in parts)


# Pooled keys stand behind all others


def boxes_of(position: tuple[int, ...], size: int) -> tuple[int, ...]:
    return tuple(at // size for at in position)


def boxes(size: int, *lengths: int) -> list[tuple[int, ...]]:
    """The places of all boxes of `size` on a grid, row-major."""
    return sorted({boxes_of(position, size) for position in cells(*lengths)})


def core_context(n: int, group: int, size: int) -> Rule:
    def allowed(head: int, q: int, k: int) -> bool:
        near = range(q - size + 1, q + 1)
        if k < n:
            return k in near
        pooled = range((k - n) * group, (k - n + 1) * group)
        return all(token < near[0] for token in pooled)

    return allowed


def ultragen(heads: int, h: int, w: int, size: int, ratio: int) -> Rule:
    def window(head: int, token: int) -> tuple[int, int]:
        shift = size // 2 if head % 2 else 0
        return (token // w - shift) // size, (token % w - shift) // size

    return lambda head, q, k: k >= h * w or window(head, q) == window(head, k)


def near_boxes(box: tuple[int, ...], position: tuple[int, ...], size: int) -> bool:
    own = boxes_of(position, size)
    return box in [(own[0] + y, own[1] + x) for y in (-1, 0, 1) for x in (-1, 0, 1)]


def super_gather(h: int, w: int, size: int) -> Rule:
    return lambda head, q, k: near_boxes(boxes(size, h, w)[q], cells(h, w)[k], size)


def super_broadcast(h: int, w: int, size: int) -> Rule:
    return lambda head, q, k: near_boxes(boxes(size, h, w)[k], cells(h, w)[q], size)


def everything(**sizes: int) -> Rule:
    return lambda head, q, k: True
