"""Guesses relations that read a value of each token: documents, padding, globals, prefixes, intervals. Callers verify.

What other data would change is an input, and no number of the text.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskdsl.api.recognition.bands import Pairs, band_relation
from maskdsl.api.recognition.guesses import Guess, Values, line_tokens

_Numbers = NDArray[np.int64]


def documents(pairs: Pairs) -> Iterator[Guess]:
    """Packed documents, with a relation of distances within each."""
    batch, heads, queries, keys = pairs.shape
    if heads > 1 or queries != keys:
        return
    attends = pairs[:, 0]
    if attends.diagonal(axis1=1, axis2=2).all():
        beside = attends[:, np.arange(1, queries), np.arange(queries - 1)]
        document = np.concatenate([np.zeros((batch, 1), int), np.cumsum(~beside, axis=1)], axis=1)
        band = band_relation(_widest(attends, document[:, :, None] == document[:, None, :]))
        size = _regular(document[0]) if batch == 1 else None
        if band is not None and size is not None:
            yield _guess(pairs, _joined(band, f"blocks({size})"))
        elif band is not None:
            yield _guess(pairs, _joined(band, "same(document)"), document=document)


def _regular(document: _Numbers) -> int | None:
    """The length of the documents, if three or more begin at multiples of it."""
    starts = np.flatnonzero(np.diff(document)) + 1
    is_regular = len(starts) > 1 and (starts == starts[0] * np.arange(1, len(starts) + 1)).all()
    return int(starts[0]) if is_regular and len(document) - starts[-1] <= starts[0] else None


def groups(pairs: Pairs) -> Iterator[Guess]:
    """Each query attends all keys of its group, whose tokens may stand anywhere."""
    if pairs.shape[0] * pairs.shape[1] > 1:
        return
    attends = pairs[0, 0]
    some_query, some_key = attends.argmax(0), attends.argmax(1)
    of_key = np.where(attends.any(0), some_key[some_query], -1)
    of_query = np.where(attends.any(1), of_key[some_key], -2)
    if len(np.unique(of_key)) < 2:
        return
    if attends.shape[0] == attends.shape[1] and np.array_equal(of_query, of_key):
        yield _guess(pairs, "same(document)", document=np.unique(of_key, return_inverse=True)[1][None])
    elif attends.shape[0] != attends.shape[1]:
        media = np.unique(np.concatenate([of_query, of_key]), return_inverse=True)[1]
        values = media[: len(of_query)][None], media[len(of_query) :][None]
        yield _guess(pairs, "q.query_media == k.key_media", query_media=values[0], key_media=values[1])


def padding(pairs: Pairs) -> Iterator[Guess]:
    """Keys that nobody attends, in a relation of distances."""
    _, heads, queries, keys = pairs.shape
    real = np.asarray(pairs[:, 0].any(1))
    if heads == 1 and queries == keys and real.any():
        band = band_relation(_widest(pairs[:, 0], np.broadcast_to(real[:, None], pairs[:, 0].shape)))
        if band is not None:
            yield _guess(pairs, _joined(band, "k.real"), real=real)


def global_tokens(pairs: Pairs) -> Iterator[Guess]:
    """Tokens anywhere that attend all and are attended by all; the others by distance. All of it may be causal."""
    _, heads, queries, keys = pairs.shape
    if heads > 1 or queries != keys or not pairs.any():
        return
    attends = pairs[:, 0]
    is_causal = not np.triu(attends, 1).any()
    base = np.tri(queries, dtype=bool) if is_causal else np.ones((queries, queries), bool)
    rows, columns = ((attends | ~base).all(axis) for axis in (2, 1))
    for g, reading in ((rows & columns, "q.g or k.g"), (columns, "k.g"), (rows, "q.g")):
        if not g.any() or g.all():
            continue
        covered = np.zeros_like(attends)
        covered |= g[:, :, None] if "q.g" in reading else False
        covered |= g[:, None, :] if "k.g" in reading else False
        if not (base & ~covered).any():
            continue
        widest = _widest(attends, base & ~covered) & base
        band = band_relation(widest)
        if band is not None:
            needed = attends & ~widest
            used = g & (needed.any(1) if reading == "k.g" else needed.any(2) if reading == "q.g" else True)
            relation = f"causal and ({reading} or {band})" if is_causal else f"{reading} or {band}"
            yield _guess(pairs, relation, g=used)


def shared_prefixes(pairs: Pairs) -> Iterator[Guess]:
    """Causal documents, each of which may also attend all of one other document, its prefix."""
    batch, heads, queries, keys = pairs.shape
    attends = pairs[0, 0]
    if batch * heads > 1 or queries != keys or not attends.diagonal().all():
        return
    # Neighbours in a document attend alike and are attended alike, but for each other.
    alike = ((attends[1:] != attends[:-1]).sum(1) == 1) & ((attends[:, 1:] != attends[:, :-1]).sum(0) == 1)
    alike &= attends.diagonal(-1) & ~attends.diagonal(1)
    if not alike.any():
        return
    document = np.concatenate([[0], np.cumsum(~alike)])
    starts = np.flatnonzero(np.diff(document, prepend=-1))
    others = attends[np.ix_(starts, starts)] & ~np.eye(len(starts), dtype=bool)
    if (others.sum(1) <= 1).all():
        prefix = np.where(others.any(1), others.argmax(1), -1)[document]
        relation = "causal and same(document) or k.document == q.prefix"
        yield _guess(pairs, relation, document=document[None], prefix=prefix[None])


def intervals(pairs: Pairs) -> Iterator[Guess]:
    """Each query attends an interval of keys, or each key is attended by an interval of queries."""
    _, heads, queries, keys = pairs.shape
    if heads > 1 or not pairs.any():
        return
    attends = pairs[:, 0]
    positions = np.arange(queries)
    for side, other, table in (("q", "k", attends), ("k", "q", attends.swapaxes(1, 2))):
        first, end = _interval(table)
        if (table.sum(2) != end - first).any():
            continue
        if side == "q" and queries == keys and (end == positions + 1).all():
            yield _guess(pairs, "causal and q.first <= k", first=first)
        elif not first.any():
            yield _guess(pairs, f"{other} < {side}.end", end=end)
        else:
            yield _guess(pairs, f"{side}.first <= {other} and {other} < {side}.end", first=first, end=end)


def _interval(table: Pairs) -> tuple[_Numbers, _Numbers]:
    """The first True of each last axis, and the end of its last one; 0 and 0 where there is none."""
    some = table.any(2)
    return np.where(some, table.argmax(2), 0), np.where(some, table.shape[2] - table[:, :, ::-1].argmax(2), 0)


def _guess(pairs: Pairs, relation: str, **values: NDArray[Any]) -> Guess:
    """The guess of a relation that reads values [batch, tokens], on a line."""
    batch, _, queries, keys = pairs.shape

    def declared(name: str, array: NDArray[Any]) -> Values:
        tokens = "tokens" if queries == keys else "queries" if f"q.{name}" in relation else "keys"
        kind = "bool" if array.dtype == bool else "int"
        return Values(
            f"{kind}[batch, {tokens}]" if batch > 1 else f"{kind}[{tokens}]", array if batch > 1 else array[0]
        )

    return Guess(relation, line_tokens(queries, keys), {name: declared(name, each) for name, each in values.items()})


def _joined(band: str, relation: str) -> str:
    return relation if band == "all -> all" else f"{band} and {relation}"


def _widest(pairs: Pairs, inside: Pairs) -> Pairs:
    """Pairs [length, length] by distance alone: attending where no pair of `inside`, [batch, ...], forbids it.

    Distances that do not occur in `inside` are as the nearest one that does.
    """
    length = pairs.shape[-1]
    seen, refused = np.zeros((2, 2 * length - 1), dtype=bool)
    for attends, some in zip(pairs, inside, strict=True):
        seen |= _by_distance(some)
        refused |= _by_distance(some & ~attends)
    known = np.flatnonzero(seen)
    nearest = np.clip(np.arange(2 * length - 1), known[0], known[-1])
    by_distance = ~refused[nearest][::-1]
    return np.lib.stride_tricks.sliding_window_view(by_distance, length)[::-1]


def _by_distance(pairs: Pairs) -> NDArray[np.bool_]:
    """Whether some pair [length, length] of each distance q - k, from -length + 1 on, is True."""
    length = len(pairs)
    shifted = np.zeros((length, 2 * length), dtype=bool)
    shifted[:, :length] = pairs[:, ::-1]
    # Read with rows one shorter, each row stands one further to the right than the one above it.
    return np.asarray(shifted.ravel()[: length * (2 * length - 1)].reshape(length, -1).any(0))
