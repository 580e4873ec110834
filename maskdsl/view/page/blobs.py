"""Packs arrays as text: compressed, in base64, equal arrays once. `decode.js` reads them."""

import base64
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskdsl.ir.facts.ranges import INT32

Array = NDArray[Any]


class Blobs:
    """The arrays of one page. A blob has a kind, a length and a text.

    Kinds: `i32`, stored as differences, which compress well as most arrays have long regular ranges; `i64`, `f64`, and
    `u8` (booleans). All are little-endian.
    """

    def __init__(self) -> None:
        self.list: list[tuple[str, int, str]] = []
        self.known: dict[tuple[str, bytes], int] = {}

    def add(self, array: Array) -> int:
        """The number of the blob that holds this array, row-major."""
        kind, content = _packed(array.reshape(-1))
        if (kind, content) not in self.known:
            self.known[kind, content] = len(self.list)
            self.list.append((kind, array.size, base64.b64encode(content).decode()))
        return self.known[kind, content]

    @property
    def size(self) -> int:
        """The bytes of all texts."""
        return sum(len(text) for _, _, text in self.list)


def _packed(array: Array) -> tuple[str, bytes]:
    match array.dtype.kind:
        case "b":
            kind, plain = "u8", array.astype("u1")
        case "f":
            kind, plain = "f64", array.astype("<f8")
        case _ if not array.size or (int(array.min()) in INT32 and int(array.max()) in INT32):
            kind, plain = "i32", np.diff(array.astype("<i4"), prepend=np.zeros(1, dtype="<i4"))
        case _:
            kind, plain = "i64", array.astype("<i8")
    return kind, zlib.compress(plain.tobytes())
