"""Curves that fill a box of cells: the position of every cell along them. Any lengths, any rank."""

from math import prod

import numpy as np
from numpy.typing import NDArray

from maskdsl.ir.mask import CurveKind

Array = NDArray[np.int64]


def curve_positions(kind: CurveKind, lengths: tuple[int, ...]) -> Array:
    """int64 [cells]: where along the curve each cell comes, for cells in row-major order.

    Hilbert and Morton curves run through the smallest power-of-two cube around the box, and skip what lies outside.
    """
    cells = np.indices(lengths, dtype=np.int64).reshape(len(lengths), -1)
    if kind is CurveKind.SNAKE:
        return snake(cells, lengths)
    bits = max((length - 1).bit_length() for length in lengths)
    code = interleave(transposed_hilbert(cells, bits) if kind is CurveKind.HILBERT else cells, bits)
    positions = np.empty(prod(lengths), dtype=np.int64)
    positions[np.argsort(code, kind="stable")] = np.arange(len(positions))
    return positions


def snake(cells: Array, lengths: tuple[int, ...]) -> Array:
    """Row by row, every other one backwards."""
    position = np.zeros(cells.shape[1], dtype=np.int64)
    for place, length in zip(cells, lengths, strict=True):
        position = position * length + np.where(position % 2 == 0, place, length - 1 - place)
    return position


def interleave(cells: Array, bits: int) -> Array:
    """One number from the bits of all axes, the first axis's before the second's."""
    code = np.zeros(cells.shape[1], dtype=np.int64)
    for bit in reversed(range(bits)):
        for place in cells:
            code = (code << 1) | ((place >> bit) & 1)
    return code


def transposed_hilbert(cells: Array, bits: int) -> Array:
    """Skilling's transform (2004): cells to the bits of their Hilbert index, spread over the axes."""
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
    return np.stack([place ^ flips for place in x])
