"""Masks that encodings are tried on: short examples, and others by head, by batch entry and of odd lengths."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pytest

import maskdsl
from maskdsl.ir.meaning.inputs import batch_entries
from maskdsl.ir.meaning.synthetic_inputs import synthetic_inputs

EXAMPLES = Path(__file__).parents[2] / "examples"
MOST = 600
"""Longer examples are left out."""
WITHOUT = ("bigbird", "duoformer", "tnt")
"""Examples that select keys, or are always longer."""

TEXT = """
pattern windowed(n = 333, size = 40) { space t[n] attend causal and backward(size) }
pattern symmetric(n = 300, size = 21) { space t[n] attend window(size) }
pattern prefix(n = 333, length = 50) { space t[n] attend causal or k < length }
pattern packed(n = 333) { space t[n] input document: int[t] attend causal and same(document) }
pattern packed_batch(n = 150) { space t[n] input document: int[batch, t] attend same(document) }
pattern by_head(n = 129) { space t[n] attend causal and backward(8 * 2 ** head) }
pattern strided(n = 333) { space t[n] attend causal and (q - k) % 7 == 0 }
pattern sinks(n = 333, size = 30) { space t[n] attend causal and (k < 4 or backward(size)) }
pattern random(n = 70) { space t[n] input keep: bool[t, t] attend keep[q, k] }
pattern random_heads(n = 70) { space t[n] input keep: bool[batch, heads, t, t] attend keep[batch, head, q, k] }
pattern edges(n = 90) { space t[n] input edge: sparse[t, t] attend edge[q, k] }
pattern near(n = 1500) { space t[n] input near: int[t] attend k == near[q] or q == k }
pattern cross(n = 57, m = 131) {
    space a[n]
    space b[m]
    queries a
    keys b
    attend k <= 2 * q + 9
}
pattern frames(t = 12, h = 13, w = 11) {
    space video[f = t, y = h, x = w]
    attend abs(q.f - k.f) <= 1 and abs(q.y - k.y) <= 3 and abs(q.x - k.x) <= 3
}
pattern tiled(h = 33, w = 30) {
    space image[y = h, x = w]
    order by y // 8, x // 8
    attend abs(q.y - k.y) <= 4 and abs(q.x - k.x) <= 4
}
pattern nothing(n = 33) { space t[n] attend q > n and k > q }
pattern everything(n = 33) { space t[n] attend all -> all }
pattern long(n = 2100, size = 700) { space t[n] attend causal and (backward(size) or k < 9 or k % 512 == 5) }
pattern alternating(n = 2100) { space t[n] attend q // 100 == k // 100 and (q + k) % 3 > 0 or k == 2099 }
"""


SMALLER = ({"n": 333}, {"n": 512}, {"h": 20, "w": 20}, {"h": 16, "w": 16}, {"t": 4, "h": 12, "w": 12})
"""Parameters that are tried for long examples."""


@dataclass(frozen=True, eq=False)
class Case:
    name: str
    mask: maskdsl.Mask
    inputs: dict[str, np.ndarray]
    entries: int

    @cached_property
    def dense(self) -> list[list[np.ndarray]]:
        """Which pairs attend, of every batch entry and head."""
        heads, entries = range(self.mask.heads), range(self.entries)
        return [[self.mask.dense(head, batch, **self.inputs) for head in heads] for batch in entries]


FILES = {file.stem: file for file in sorted(EXAMPLES.rglob("*.attn"))}
OF_EVERY_FILE = pytest.mark.parametrize("file", ["", *FILES])
"""The file of a test's `cases_of`: masks are bound where a test asks for them."""


@cache
def cases_of(file: str) -> list[Case]:
    """Of an example, or "" of `TEXT`: all that select no keys by content; those with branches branch by branch."""
    some = []
    for pattern, whole in _examples(file) if file else _own():
        for mask in whole.branches or (whole,):
            if not mask.ir.routed:
                inputs = synthetic_inputs(mask.ir, batch=2)
                name = f"{pattern}.{mask.branch}" if mask.branch else pattern
                some.append(Case(name, mask, inputs, batch_entries(mask.ir, inputs)))
    assert some or file in WITHOUT or FILES[file].parent.name == "routing"
    return some


def _own() -> Iterator[tuple[str, maskdsl.Mask]]:
    module = maskdsl.parse(TEXT)
    for name in module:
        yield name, module[name].bind(heads=3 if "head" in name else 1)


def _examples(file: str) -> Iterator[tuple[str, maskdsl.Mask]]:
    module = maskdsl.load(FILES[file])
    for name in module:
        if (mask := _short(module[name])) is not None:
            yield f"{file}.{name}", mask


def _short(pattern: maskdsl.Pattern) -> maskdsl.Mask | None:
    """The pattern at the first parameters at which it is short."""
    whole = {name: value for name, value in pattern.bind().ir.parameters if type(value) is int and value >= 16}
    divided = ({name: value // divisor for name, value in whole.items()} for divisor in (2, 4, 8, 16))
    for parameters in ({}, *SMALLER, *divided):
        with suppress(maskdsl.AttnError):
            mask = pattern.bind(heads=2, **parameters)
            if max(mask.query_length, mask.key_length) <= MOST:
                return mask
    return None


def bound(text: str, **parameters: int) -> maskdsl.Mask:
    """The only pattern of a text, at these parameters."""
    (pattern,) = maskdsl.parse(text).values()
    return pattern.bind(**parameters)
