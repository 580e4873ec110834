"""Patterns with pools: the tokens that calls give, which process holds each, and which tokens are pooled from it."""

from collections.abc import Iterator, Mapping
from functools import cached_property

import numpy as np

from maskdsl.analysis.tiles.block_map import Array
from maskdsl.base.records import dataclass
from maskdsl.distributed.homes import contiguous
from maskdsl.ir.declared.sequences import Space
from maskdsl.ir.expressions import PAIR, Side
from maskdsl.ir.facts.trace import pooling_trace
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.meaning.inputs import batch_entries
from maskdsl.ir.meaning.pooling import PoolMeaning

_ALL_TOKENS = 1 << 40
"""More than the tokens of any sequence."""


@dataclass(frozen=True, eq=False)
class GivenTokens:
    """The given tokens of one side, in declared order. Blocks are those of laid-out tokens.

    A given token lives with the block that it is in as a query or, if it is none, as a key. What is in no sequence
    itself lives in stretches.
    """

    holder: Array
    """int64 [given]: its block, among those of queries, then those of keys, then stretches of given tokens."""
    order: Array
    """int64 [given]: the given tokens in the order in which a process holds them."""
    needed: Array
    """int64 [given, columns]: blocks of this side that have the token or a pool of it; -1 for none."""

    @cached_property
    def _kinds(self) -> tuple[Array, Array]:
        """One given token of each kind, and how many there are: those of a kind live and are needed alike."""
        kind = self.holder
        for column in self.needed.T:
            _, kind = np.unique(kind * (column.max(initial=0) + 2) + column + 1, return_inverse=True)
        _, first, counts = np.unique(kind, return_index=True, return_counts=True)
        return first, counts

    def teams(self, queries: Array, keys: Array, teams: int) -> Array:
        """int32 [given]: the team that holds each, from those that hold each block."""
        stretches = int(self.holder.max(initial=0)) + 1 - len(queries) - len(keys)
        return np.concatenate([queries, keys, contiguous(max(stretches, 0), teams)])[self.holder]

    def key_homes(self, queries: Array, plain: Array, teams: int) -> Array:
        """int32 [key blocks]: the team that holds most of what each block is made of; `plain` where no query is."""
        first, counts = self._kinds
        holder, needed = self.holder[first], self.needed[first]
        at, column = np.nonzero((needed >= 0) & (holder < len(queries))[:, None])
        vote, which = np.unique(needed[at, column] * teams + queries[holder[at]], return_inverse=True)
        block, team = np.divmod(vote, teams)
        votes = np.bincount(which, weights=counts[at], minlength=len(vote))
        best = np.lexsort(((team - block) % teams, -votes, block))
        first_of_block = np.unique(block[best], return_index=True)[1]
        result = plain.copy()
        result[block[best][first_of_block]] = team[best][first_of_block]
        return result

    def moved(self, held: Array, team: Array, teams: int, beside: int) -> Iterator[Array]:
        """Yields int64 [teams] thrice: tokens received from teams of the same node and from others, and sent.

        `held` [given] is the team of each given token, and `team` that of each block of this side.
        """
        first, counts = self._kinds
        home, needed = held[first], self.needed[first]
        to = np.sort(np.where(needed < 0, home[:, None], team[needed]), axis=1)
        is_first = np.concatenate([np.ones((len(to), 1), dtype=bool), to[:, 1:] != to[:, :-1]], axis=1)
        at, column = np.nonzero(is_first & (to != home[:, None]))
        source, target, tokens = home[at], to[at, column], counts[at]
        near = source // beside == target // beside
        for where, amount in ((target, tokens * near), (target, tokens * ~near), (source, tokens)):
            yield np.bincount(where, weights=amount, minlength=teams).astype(np.int64)


def given_tokens(mask: MaskIR, inputs: Mapping[str, Array], block: int, side: Side) -> GivenTokens | None:
    """Those of a side; None if it has no pools, as then its tokens are the given ones. Raises `PoolNumber`."""
    sequence = mask.sequences[side]
    if not sequence.is_pooled:
        return None
    positions = {each: _laid_out(mask, each, inputs) for each in PAIR}
    first_block = {Side.QUERY: 0, Side.KEY: -(-mask.queries.length // block)}
    stretches = first_block[Side.KEY] - (-mask.keys.length // block)
    holder, order, start = [], [], 0
    for space in sequence.given:
        at, first, turn = np.arange(start, start + space.size), stretches, len(PAIR)
        for number, each in reversed([*enumerate(PAIR)]):
            if space in mask.sequences[each].spaces:
                at, first, turn = positions[each][space.name], first_block[each], number
        holder.append(first + at // block)
        order.append(turn * _ALL_TOKENS + at)
        start += space.size
    blocks = {name: at // block for name, at in positions[side].items()}
    needed = np.concatenate([_needed(mask, inputs, side, each, blocks) for each in sequence.given])
    return GivenTokens(np.concatenate(holder), np.argsort(np.concatenate(order), kind="stable"), needed)


def _pool_of_each(meaning: PoolMeaning, space: Space) -> Array:
    """int64 [tokens of the root]: the pool that each given token ends in; the number of pools for none."""
    numbers = np.arange(space.root.size)
    for each in space.chain[1:]:
        numbers = np.append(meaning.numbers(each), each.size)[numbers]
    return numbers


def _laid_out(mask: MaskIR, side: Side, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """For each space of a side, the laid-out positions of its tokens in the whole sequence."""
    sequence = mask.sequences[side]
    order = Coordinates(mask, sequence, inputs).permutation()
    positions = np.arange(sequence.length)
    if order is not None:
        positions[order] = np.arange(sequence.length)
    return dict(zip((each.name for each in sequence.spaces), np.split(positions, sequence.offsets[1:]), strict=True))


def _needed(mask: MaskIR, inputs: Mapping[str, Array], side: Side, root: Space, blocks: Mapping[str, Array]) -> Array:
    """int64 [tokens of the root, columns]: see `GivenTokens.needed`; as many columns for all roots of a side."""
    spaces = mask.sequences[side].spaces
    read = pooling_trace(mask.groupings)
    entries = batch_entries(mask, {name: inputs[name] for name in read.inputs & inputs.keys()})
    columns = [
        np.append(blocks[space.name], -1)[_pool_of_each(PoolMeaning(mask, inputs, entry), space)]
        if space.root == root
        else np.full(root.size, -1)
        for space in spaces
        for entry in range(entries if space.groupings else 1)
    ]
    return np.stack(columns, axis=1)
