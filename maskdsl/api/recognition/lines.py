"""Guesses relations of tokens on a line, as text of the language. Callers verify them.

Parameters are read off the pairs, never searched for. A size is guessed only where the pairs show it more than once:
a single border could lie anywhere in other data.
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
    if pairs.shape[0] != pairs.shape[1]:
        return
    if not pairs.diagonal().all():
        yield from _earlier_blocks(pairs, axis)
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


def _repeats(size: int, first: int, length: int, axis: BandAxis) -> bool:
    """Whether borders at `first`, and then every `size` tokens, show the size twice.

    On the axis of a grid one border does: it is seen in every row.
    """
    if size == 1:
        return False  # that is a band
    if axis.is_of_grid:
        return first < length
    return first + (1 if first == size else 2) * size < length


def _in_blocks(pairs: Pairs, axis: BandAxis) -> Iterator[str]:
    length = len(pairs)
    first = run_length(pairs[0])
    second = run_length(pairs[first, first:] if first < length else pairs[:, 0])
    for size in dict.fromkeys((second, first)):
        shift = first % size
        if not _repeats(size, shift or size, length, axis):
            continue
        yield axis.call("blocks", size, *([f"shift = {shift}"] if shift else []))
        yield f"{axis.of('k')} // {size} <= {axis.of('q')} // {size}"
    column = run_length(pairs[:, 0])
    if _repeats(column, column, length, axis):
        yield f"{axis.call('causal')} and {axis.call('blocks', column)}"
    yield from _fixed(pairs, axis)


def _earlier_blocks(pairs: Pairs, axis: BandAxis) -> Iterator[str]:
    """Blocks that attend all earlier blocks, and not themselves."""
    size = run_length(np.asarray(~pairs.any(1)))
    if 0 < size < len(pairs) and _repeats(size, size, len(pairs), axis):
        yield f"{axis.of('k')} // {size} < {axis.of('q')} // {size}"


def _fixed(pairs: Pairs, axis: BandAxis) -> Iterator[str]:
    """The macro `fixed` of Sparse Transformer: the query's block, and the last positions of each earlier block."""
    seen = np.flatnonzero(np.tril(pairs).sum(0) == np.arange(len(pairs), 0, -1))
    if len(seen):
        summary = int(np.append(np.diff(seen) > 1, True).argmax()) + 1
        size = int(seen[0]) + summary
        if _repeats(size, size, len(pairs), axis):
            yield axis.call("fixed", size, f"summary = {summary}")


def _with_first_tokens(pairs: Pairs) -> Iterator[str]:
    """First tokens that attend all, are attended by all, or by all after them; the other pairs by distance."""
    columns, rows = (run_length(np.asarray(pairs.all(axis))) for axis in (0, 1))
    behind = run_length(np.tril(pairs).sum(0) == np.arange(len(pairs), 0, -1))
    both = min(rows, columns)
    choices = (
        (both, "{rest} or globals_first({count})"),
        (columns, "{rest} or prefix({count})"),
        (rows, "{rest} or q < {count}"),
        (behind, "causal and ({rest} or sinks({count}))"),
        (max(rows, columns) if both else 0, f"{{rest}} or q < {rows} or prefix({columns})"),
    )
    for count, text in choices:
        rest = band_relation(pairs[count:, count:]) if 0 < count < len(pairs) else None
        if rest is not None:
            yield text.format(rest=rest, count=count)


def run_length(row: Pairs) -> int:
    """The number of True values before the first False."""
    return len(row) if row.all() else int(row.argmin())
