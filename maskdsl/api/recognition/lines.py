"""Guesses relations of tokens on a line, as text of the language. Callers verify them.

Parameters are read off the pairs, never searched for.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from maskdsl.api.recognition.bands import BandAxis, Pairs, band_relation


def line_relations(pairs: Pairs, axis: BandAxis = BandAxis()) -> Iterator[str]:  # noqa: B008  # frozen
    """Guesses of the relation of these pairs, [length, length], without inputs; the simplest first."""
    band = band_relation(pairs, axis)
    if band is not None:
        yield band
        return
    if pairs.shape[0] != pairs.shape[1] or not pairs.diagonal().all():
        return
    yield from _neighborhoods(pairs, axis)
    yield from _in_blocks(pairs, axis)
    if axis.name == "i":
        yield from _with_first_tokens(pairs)


def _neighborhoods(pairs: Pairs, axis: BandAxis) -> Iterator[str]:
    middle = np.flatnonzero(pairs[len(pairs) // 2])
    dilation = int(np.diff(middle).min(initial=len(pairs)))
    if len(middle) > 1 and dilation < len(pairs):
        yield axis.call("neighborhood", len(middle), *([f"dilation = {dilation}"] if dilation > 1 else []))


def _in_blocks(pairs: Pairs, axis: BandAxis) -> Iterator[str]:
    first = run_length(pairs[0])
    second = run_length(pairs[first, first:] if first < len(pairs) else pairs[:, 0])
    for size in dict.fromkeys((second, first)):
        shift = first % size
        blocks = axis.call("blocks", size, *([f"shift = {shift}"] if shift else []))
        yield blocks
        if axis.name == "i":
            yield f"k // {size} <= q // {size}"
    column = run_length(pairs[:, 0])
    yield f"{axis.call('causal')} and {axis.call('blocks', column)}"
    yield from _fixed(pairs, axis)


def _fixed(pairs: Pairs, axis: BandAxis) -> Iterator[str]:
    """The macro `fixed` of Sparse Transformer: the query's block, and the last positions of each earlier block."""
    seen = np.flatnonzero(np.tril(pairs).sum(0) == np.arange(len(pairs), 0, -1))
    if len(seen):
        summary = int(np.append(np.diff(seen) > 1, True).argmax()) + 1
        yield axis.call("fixed", int(seen[0]) + summary, f"summary = {summary}")


def _with_first_tokens(pairs: Pairs) -> Iterator[str]:
    """First tokens that attend all, are attended by all, or by all after them; the other pairs by distance."""
    columns, rows = (run_length(np.asarray(pairs.all(axis))) for axis in (0, 1))
    behind = run_length(np.tril(pairs).sum(0) == np.arange(len(pairs), 0, -1))
    choices = (
        (min(rows, columns), "{rest} or globals_first({count})"),
        (columns, "{rest} or prefix({count})"),
        (rows, "{rest} or q < {count}"),
        (behind, "causal and ({rest} or sinks({count}))"),
    )
    for count, text in choices:
        rest = band_relation(pairs[count:, count:]) if 0 < count < len(pairs) else None
        if rest is not None:
            yield text.format(rest=rest, count=count)


def run_length(row: Pairs) -> int:
    """The number of True values before the first False."""
    return len(row) if row.all() else int(row.argmin())
