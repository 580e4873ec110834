"""Space-filling curves: the position of every cell of a grid along a curve. Any lengths, any rank."""

from functools import lru_cache
from math import prod

import numpy as np
from numpy.typing import NDArray

from maskdsl.ir.declared.sequences import CurveKind

Array = NDArray[np.int64]


def curve_positions(kind: CurveKind, lengths: tuple[int, ...]) -> Array:
    """int64 [cells]: the position along the curve of each cell, cells in row-major order.

    A Hilbert curve on two axes fills the grid exactly. A Hilbert curve on other numbers of axes and every Morton curve
    run through the smallest power-of-two cube around the grid and skip the cells outside.
    """
    if kind is CurveKind.HILBERT and len(lengths) == 2:
        return _rectangle_hilbert(*lengths)
    cells = np.indices(lengths, dtype=np.int64).reshape(len(lengths), -1)
    if kind is CurveKind.SNAKE:
        return _snake(cells, lengths)
    bits = max((length - 1).bit_length() for length in lengths)
    code = _interleave(_transposed_hilbert(cells, bits) if kind is CurveKind.HILBERT else cells, bits)
    positions = np.empty(prod(lengths), dtype=np.int64)
    positions[np.argsort(code, kind="stable")] = np.arange(len(positions))
    return positions


@lru_cache(maxsize=2)
def _rectangle_hilbert(height: int, width: int) -> Array:
    """The generalised Hilbert curve of a rectangle (Cerveny 2018, `gilbert`), all pieces of a level at once.

    A piece is a rectangle with a start corner, the vector `a` of its main direction and the vector `b` across. Long
    pieces are cut in two along the main direction, others in three, of which the first and the last are traversed in
    the other direction. Each step goes to a neighbour, but for one diagonal step where a length is odd.
    """
    positions = np.empty((height, width), dtype=np.int64)
    main, across = ([0, width], [height, 0]) if width >= height else ([height, 0], [0, width])
    start, corner = np.zeros(1, dtype=np.int64), np.zeros((1, 2), dtype=np.int64)
    a, b = np.array([main]), np.array([across])
    while len(start):
        w, h = np.abs(a).sum(axis=1), np.abs(b).sum(axis=1)
        line = (w == 1) | (h == 1)
        _draw_lines(positions, start[line], corner[line], np.where((h == 1)[line, None], a[line], b[line]))
        long = ~line & (2 * w > 3 * h)
        square = ~line & ~long
        pieces = [_halves(start[long], corner[long], a[long], b[long])]
        pieces.append(_thirds(start[square], corner[square], a[square], b[square]))
        start, corner, a, b = (np.concatenate(columns) for columns in zip(*pieces, strict=True))
    positions.setflags(write=False)
    return positions.reshape(-1)


_Pieces = tuple[Array, Array, Array, Array]
"""Positions of the first cells [n]; corners, main directions and directions across [n, 2]."""


def _draw_lines(positions: Array, start: Array, corner: Array, direction: Array) -> None:
    """Numbers the cells of pieces that are one cell wide."""
    length = np.abs(direction).sum(axis=1)
    piece = np.repeat(np.arange(len(start)), length)
    step = np.arange(len(piece)) - np.repeat(np.cumsum(length) - length, length)
    cell = corner[piece] + np.sign(direction)[piece] * step[:, None]
    positions[cell[:, 0], cell[:, 1]] = start[piece] + step


def _even_half(direction: Array) -> Array:
    """Half of each vector, rounded to an even length if the vector is longer than two."""
    half = direction // 2
    odd = (np.abs(half).sum(axis=1) % 2 == 1) & (np.abs(direction).sum(axis=1) > 2)
    return np.asarray(half + np.sign(direction) * odd[:, None])


def _area(a: Array, b: Array) -> Array:
    """[n]: the number of cells of each piece."""
    return np.asarray(np.abs(a).sum(axis=1) * np.abs(b).sum(axis=1))


def _halves(start: Array, corner: Array, a: Array, b: Array) -> _Pieces:
    half = _even_half(a)
    starts = [start, start + _area(half, b)]
    return _joined(starts, [corner, corner + half], [half, a - half], [b, b])


def _thirds(start: Array, corner: Array, a: Array, b: Array) -> _Pieces:
    along, over = a // 2, _even_half(b)
    last = corner + (a - np.sign(a)) + (over - np.sign(b))
    second = start + _area(over, along)
    starts = [start, second, second + _area(a, b - over)]
    return _joined(starts, [corner, corner + over, last], [over, a, -over], [along, b - over, along - a])


def _joined(*lists: list[Array]) -> _Pieces:
    start, corner, a, b = (np.concatenate(columns) for columns in lists)
    return start, corner, a, b


def _snake(cells: Array, lengths: tuple[int, ...]) -> Array:
    """Row by row, every other row backwards."""
    position = np.zeros(cells.shape[1], dtype=np.int64)
    for cell, length in zip(cells, lengths, strict=True):
        position = position * length + np.where(position % 2 == 0, cell, length - 1 - cell)
    return position


def _interleave(cells: Array, bits: int) -> Array:
    """Interleaves the bits of all axes; of equal weight, bits of earlier axes are higher."""
    code = np.zeros(cells.shape[1], dtype=np.int64)
    for bit in reversed(range(bits)):
        for cell in cells:
            code = (code << 1) | ((cell >> bit) & 1)
    return code


def _transposed_hilbert(cells: Array, bits: int) -> Array:
    """Skilling's transform (2004): maps cells to the bits of their Hilbert index, distributed over the axes."""
    x = list(cells)
    for bit in reversed(range(1, bits)):
        low = (1 << bit) - 1
        for axis in range(len(x)):
            turned = (x[axis] >> bit) & 1 == 1
            swapped = np.where(turned, 0, (x[0] ^ x[axis]) & low)
            x[axis] = x[axis] ^ swapped
            x[0] = x[0] ^ np.where(turned, low, swapped)
    for axis in range(1, len(x)):
        x[axis] = x[axis] ^ x[axis - 1]
    flips = np.zeros_like(x[0])
    for bit in range(1, bits):
        flips ^= np.where((x[-1] >> bit) & 1 == 1, (1 << bit) - 1, 0)
    return np.stack([position ^ flips for position in x])
