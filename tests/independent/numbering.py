"""Curves through boxes and fixed random integers, from the algorithms that `docs/language.md` gives."""

from collections.abc import Iterator
from functools import cache
from itertools import product
from math import prod

WORD = 2**32 - 1


def random(*arguments: int) -> int:
    state = 0
    for argument in arguments:
        x = ((state ^ (argument & WORD)) + 0x1E3779B9) & WORD
        x ^= x >> 16
        x = (x * 0x7FEB352D) & WORD
        x ^= x >> 15
        x = (x * 0x45D9F3B) & WORD
        state = x ^ (x >> 16)
    return state >> 1


@cache
def shuffled(length: int, seed: int) -> list[int]:
    """The place of each number."""
    sorted_numbers = sorted(range(length), key=lambda number: random(seed, number))
    return [sorted_numbers.index(number) for number in range(length)]


def snake(position: tuple[int, ...], lengths: tuple[int, ...]) -> int:
    found = 0
    for x, length in zip(position, lengths, strict=True):
        found = found * length + (x if found % 2 == 0 else length - 1 - x)
    return found


@cache
def along(kind: str, lengths: tuple[int, ...]) -> dict[tuple[int, ...], int]:
    """The position of every cell of a box."""
    cells: list[tuple[int, ...]] = list(product(*map(range, lengths)))
    match kind:
        case "snake":
            return {cell: snake(cell, lengths) for cell in cells}
        case "morton":
            cells.sort(key=lambda cell: interleaved(cell, bits_of(lengths)))
        case "hilbert" if len(lengths) == 2:
            height, width = lengths
            walk = (
                rectangle((0, 0), (0, width), (height, 0))
                if width >= height
                else rectangle((0, 0), (height, 0), (0, width))
            )
            cells = list(walk)
        case "hilbert":
            bits = bits_of(lengths)
            cells.sort(key=lambda cell: interleaved(skilling(cell, bits), bits))
        case _:
            raise AssertionError(kind)
    assert len(set(cells)) == len(cells) == prod(lengths)
    return {cell: number for number, cell in enumerate(cells)}


def bits_of(lengths: tuple[int, ...]) -> int:
    """Of the smallest cube of a power of two that holds the box."""
    return max((length - 1).bit_length() for length in lengths)


def interleaved(cell: tuple[int, ...], bits: int) -> int:
    found = 0
    for bit in reversed(range(bits)):
        for x in cell:
            found = 2 * found + (x >> bit & 1)
    return found


Vector = tuple[int, int]


def rectangle(corner: Vector, a: Vector, b: Vector) -> Iterator[Vector]:
    """Along `a`, and across along `b`: Cerveny's `gilbert2d`."""
    width, height = abs(sum(a)), abs(sum(b))
    if height == 1 or width == 1:
        count, step = (width, sign(a)) if height == 1 else (height, sign(b))
        for n in range(count):
            yield corner[0] + n * step[0], corner[1] + n * step[1]
        return
    half_a, half_b = half(a), half(b)
    if 2 * width > 3 * height:
        if sum(half_a) % 2 and width > 2:
            half_a = plus(half_a, sign(a))
        yield from rectangle(corner, half_a, b)
        yield from rectangle(plus(corner, half_a), minus(a, half_a), b)
        return
    if sum(half_b) % 2 and height > 2:
        half_b = plus(half_b, sign(b))
    yield from rectangle(corner, half_b, half_a)
    yield from rectangle(plus(corner, half_b), a, minus(b, half_b))
    last = plus(plus(corner, minus(a, sign(a))), minus(half_b, sign(b)))
    yield from rectangle(last, minus((0, 0), half_b), minus(half_a, a))


def half(a: Vector) -> Vector:
    return a[0] // 2, a[1] // 2


def plus(a: Vector, b: Vector) -> Vector:
    return a[0] + b[0], a[1] + b[1]


def minus(a: Vector, b: Vector) -> Vector:
    return a[0] - b[0], a[1] - b[1]


def sign(a: Vector) -> Vector:
    return (a[0] > 0) - (a[0] < 0), (a[1] > 0) - (a[1] < 0)


def skilling(cell: tuple[int, ...], bits: int) -> tuple[int, ...]:
    """Skilling 2004, `AxestoTranspose`."""
    x = list(cell)
    q = 1 << max(bits - 1, 0)
    while q > 1:
        for axis in range(len(x)):
            if x[axis] & q:
                x[0] ^= q - 1
            else:
                swapped = (x[0] ^ x[axis]) & (q - 1)
                x[0] ^= swapped
                x[axis] ^= swapped
        q >>= 1
    for axis in range(1, len(x)):
        x[axis] ^= x[axis - 1]
    flips, q = 0, 1 << max(bits - 1, 0)
    while q > 1:
        if x[-1] & q:
            flips ^= q - 1
        q >>= 1
    return tuple(each ^ flips for each in x)
