"""Pictures of few colours as PNG files, with equal bytes for equal pictures. PNG specification, third edition (W3C)."""

import struct
import zlib
from collections.abc import Sequence

import numpy as np

from maskdsl.analysis.tiles.block_map import Array

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_INDEXED = 3
"""Colour type: pixels are numbers of colours."""


def png(numbers: Array, colours: Sequence[tuple[int, int, int]]) -> bytes:
    """The file of a picture: numbers [rows, columns], each below 256, of colours in red, green and blue."""
    rows, columns = numbers.shape
    lines = np.zeros((rows, columns + 1), dtype=np.uint8)  # each line begins with its filter, which is none
    lines[:, 1:] = numbers
    header = struct.pack(">IIBBBBB", columns, rows, 8, _INDEXED, 0, 0, 0)
    parts = [
        (b"IHDR", header),
        (b"PLTE", bytes(value for colour in colours for value in colour)),
        (b"IDAT", zlib.compress(lines.tobytes(), 9)),
        (b"IEND", b""),
    ]
    return _SIGNATURE + b"".join(_chunk(*part) for part in parts)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
