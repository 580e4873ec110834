"""Writes pictures of few colours as PNG (W3C, third edition). Equal pictures give equal bytes."""

import struct
import zlib
from collections.abc import Sequence

import numpy as np

from maskdsl.analysis.tiles.block_map import Array

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_INDEXED = 3
"""The colour type in which pixels are indices of colours."""


def png(numbers: Array, colours: Sequence[tuple[int, int, int]]) -> bytes:
    """The bytes of a PNG file. `numbers` [rows, columns], below 256, are indices of `colours` (red, green, blue)."""
    rows, columns = numbers.shape
    lines = np.zeros((rows, columns + 1), dtype=np.uint8)  # each line begins with its filter type, 0 for none
    lines[:, 1:] = numbers
    header = struct.pack(">IIBBBBB", columns, rows, 8, _INDEXED, 0, 0, 0)
    chunks = [
        (b"IHDR", header),
        (b"PLTE", bytes(value for colour in colours for value in colour)),
        (b"IDAT", zlib.compress(lines.tobytes(), 9)),
        (b"IEND", b""),
    ]
    return _SIGNATURE + b"".join(_chunk(*each) for each in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
