"""From one token: after how many layers each token is reached, in either direction, through a frontier of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from maskdsl.analysis.reach.hops import Hop, LayerHops, readers, sources
from maskdsl.analysis.tiles.block_map import Array

NEVER = -1


@dataclass(frozen=True, eq=False)
class Arrival:
    """After how many layers each token is reached: int32 [tokens], 0 for the token itself, -1 for never."""

    earliest: Array
    """By all hops that there may be."""
    latest: Array
    """By those that are certain; the same array where all are."""

    def count(self, layers: int) -> tuple[int, int]:
        """Tokens reached after so many layers, the token itself included: at least and at most."""
        least, most = (int(np.count_nonzero(reached(each, layers))) for each in (self.latest, self.earliest))
        return least, most

    def extent(self, layers: int) -> tuple[int, int]:
        """The first and the last of the tokens that may be reached."""
        found = np.flatnonzero(reached(self.earliest, layers))
        return int(found[0]), int(found[-1])

    def unbroken(self, layers: int) -> tuple[int, int]:
        """How many tokens right before and right behind the token are certainly reached, without a gap."""
        token = int(np.argmax(self.earliest == 0))
        missing = np.flatnonzero(~reached(self.latest, layers))
        at = int(np.searchsorted(missing, token))
        before = token - int(missing[at - 1]) - 1 if at else token
        behind = int(missing[at]) - token - 1 if at < len(missing) else len(self.latest) - token - 1
        return before, behind


def complete(arrival: Array) -> bool:
    """Whether every token is reached."""
    return bool((arrival >= 0).all())


def reached(arrival: Array, layers: int) -> Array:
    """bool [tokens]: those reached after so many layers."""
    return np.asarray((arrival >= 0) & (arrival <= layers))


def find_arrival(
    layers: Sequence[LayerHops], token: int, length: int, limit: int, drawing: bool
) -> tuple[Arrival, int]:
    """Of what the token draws from, or of those that read it; and the layers that were looked at, up to `limit`."""
    follow = _follow_sources if drawing else follow_readers
    earliest, seen = follow([layer.all for layer in layers], token, length, limit)
    if not any(layer.possible for layer in layers):
        return Arrival(earliest, earliest), seen
    latest, others = follow([layer.certain for layer in layers], token, length, limit)
    return Arrival(earliest, latest), max(seen, others)


def follow_readers(hops: Sequence[tuple[Hop, ...]], token: int, length: int, limit: int) -> tuple[Array, int]:
    """From the first layer on, until a whole pass adds nothing."""
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
    """The same backwards from the last layer, for each number of layers.

    What lies behind `number` layers is what lies behind the layers of an incomplete pass and then behind whole ones:
    with one pass more it goes on from where it stood one pass ago.
    """
    arrival, tokens = _beginning(token, length)
    behind: dict[int, Array] = {0: tokens}
    last = 0
    for number in range(1, limit + 1):
        passes, rest = divmod(number, len(hops))
        tokens = behind[rest] if passes else behind[0]
        for hop in reversed(hops if passes else hops[:rest]):
            tokens = sources(hop, tokens)
        behind[rest] = tokens
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
    """Notes tokens that are new; whether there are any."""
    new = tokens & (arrival == NEVER)
    arrival[new] = number
    return bool(new.any())


def islands(hops: tuple[Hop, ...], length: int, most: int, limit: int) -> list[int] | None:
    """The sizes of strongly connected parts with nothing between them, if all tokens are in `most` of these or fewer.

    None too where a part takes `limit` layers and more.
    """
    left = np.ones(length, dtype=bool)
    sizes: list[int] = []
    while left.any():
        token = int(np.argmax(left))
        ahead, seen = follow_readers([hops], token, length, limit)
        behind, others = _follow_sources([hops], token, length, limit)
        part = ahead >= 0
        if max(seen, others) == limit or len(sizes) == most or not np.array_equal(part, behind >= 0):
            return None
        sizes.append(int(np.count_nonzero(part)))
        left &= ~part
    return sizes
