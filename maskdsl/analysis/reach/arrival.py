"""Breadth-first search from one token: after how many layers each token is reached, in either direction."""

from collections.abc import Sequence

import numpy as np

from maskdsl.analysis.reach.hops import Hop, LayerHops, readers, sources
from maskdsl.analysis.tiles.block_map import Array
from maskdsl.base.records import dataclass

NEVER = -1


@dataclass(frozen=True, eq=False)
class Arrival:
    """After how many layers each token is reached: int32 [tokens], 0 for the start token, -1 for never."""

    earliest: Array
    """Through all possible hops: a lower bound."""
    latest: Array
    """Through certain hops: an upper bound. The same array as `earliest` if all hops are certain."""

    def count(self, layers: int) -> tuple[int, int]:
        """Bounds (least, most) on the tokens reached after `layers` layers, the start token included."""
        least, most = (int(np.count_nonzero(reached(each, layers))) for each in (self.latest, self.earliest))
        return least, most

    def extent(self, layers: int) -> tuple[int, int]:
        """The first and the last token that may be reached after `layers` layers."""
        tokens = np.flatnonzero(reached(self.earliest, layers))
        return int(tokens[0]), int(tokens[-1])

    def unbroken(self, layers: int) -> tuple[int, int]:
        """The numbers of consecutive tokens just before and just after the start token that are certainly reached."""
        token = int(np.argmax(self.earliest == 0))
        missing = np.flatnonzero(~reached(self.latest, layers))
        index = int(np.searchsorted(missing, token))
        before = token - int(missing[index - 1]) - 1 if index else token
        after = int(missing[index]) - token - 1 if index < len(missing) else len(self.latest) - token - 1
        return before, after


def complete(arrival: Array) -> bool:
    """Whether every token is reached."""
    return bool((arrival >= 0).all())


def reached(arrival: Array, layers: int) -> Array:
    """bool [tokens]: which tokens are reached after at most `layers` layers."""
    return np.asarray((arrival >= 0) & (arrival <= layers))


def find_arrival(
    layers: Sequence[LayerHops], token: int, length: int, limit: int, drawing: bool
) -> tuple[Arrival, int]:
    """The arrival of all tokens that the token draws from (`drawing`), or that read it, and the layers followed.

    Follows at most `limit` layers.
    """
    follow = _follow_sources if drawing else follow_readers
    earliest, seen = follow([layer.all for layer in layers], token, length, limit)
    if not any(layer.possible for layer in layers):
        return Arrival(earliest, earliest), seen
    latest, others = follow([layer.certain for layer in layers], token, length, limit)
    return Arrival(earliest, latest), max(seen, others)


def follow_readers(hops: Sequence[tuple[Hop, ...]], token: int, length: int, limit: int) -> tuple[Array, int]:
    """The arrival of tokens that read the token, and the layers followed: until a whole pass adds nothing."""
    arrival, tokens = _beginning(token, length)
    last = 0
    for number in range(1, limit + 1):
        grown = readers(hops[(number - 1) % len(hops)], tokens)
        if _mark(arrival, grown, number):
            last = number
        elif number - last >= len(hops):
            return arrival, number
        tokens = grown
    return arrival, limit


def _follow_sources(hops: Sequence[tuple[Hop, ...]], token: int, length: int, limit: int) -> tuple[Array, int]:
    """The arrival of tokens that the token draws from, for stacks of 1, 2, ... layers; and the layers followed.

    The last layer is followed first, so the stack of `number` layers continues the search of the stack with one pass
    less: `sources_after` has the tokens of the last stack with each number of layers modulo the period.
    """
    arrival, tokens = _beginning(token, length)
    sources_after: dict[int, Array] = {0: tokens}
    last = 0
    for number in range(1, limit + 1):
        passes, rest = divmod(number, len(hops))
        tokens = sources_after[rest] if passes else sources_after[0]
        for hop in reversed(hops if passes else hops[:rest]):
            tokens = sources(hop, tokens)
        sources_after[rest] = tokens
        if _mark(arrival, tokens, number):
            last = number
        elif number - last >= len(hops):
            return arrival, number
    return arrival, limit


def _beginning(token: int, length: int) -> tuple[Array, Array]:
    arrival = np.full(length, NEVER, dtype=np.int32)
    arrival[token] = 0
    return arrival, arrival == 0


def _mark(arrival: Array, tokens: Array, number: int) -> bool:
    """Sets the arrival of newly reached tokens; returns whether there are any."""
    new = tokens & (arrival == NEVER)
    arrival[new] = number
    return bool(new.any())


def islands(hops: tuple[Hop, ...], length: int, most: int, limit: int) -> list[int] | None:
    """The sizes of the strongly connected components, if there are at most `most` and no hops between them; else None.

    None too if a component takes `limit` layers or more.
    """
    left = np.ones(length, dtype=bool)
    sizes: list[int] = []
    while left.any():
        token = int(np.argmax(left))
        ahead, seen = follow_readers([hops], token, length, limit)
        back, others = _follow_sources([hops], token, length, limit)
        component = ahead >= 0
        if max(seen, others) == limit or len(sizes) == most or not np.array_equal(component, back >= 0):
            return None
        sizes.append(int(np.count_nonzero(component)))
        left &= ~component
    return sizes
