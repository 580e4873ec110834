"""Homes of tokens: which processes hold which blocks, and the rules that choose them.

Ranks stand in teams of `groups` neighbours: a team holds blocks of tokens, and each of its ranks computes one group of
heads for all of them. Every rule gives each team the same number of chunks, or one less.
"""

from collections.abc import Iterator
from heapq import heapify, heappop, heapreplace
from math import comb, factorial, prod
from typing import Literal

import numpy as np

from maskdsl.analysis.tiles.block_map import Array
from maskdsl.base.records import dataclass

Rule = Literal["contiguous", "zigzag", "dealt", "least loaded", "searched"]
"""One stretch a team; one from each end; chunks dealt in turn, heaviest first; each to the team with the least work;
the best of all homes, where they are few."""
_SEARCHED = 1 << 8
"""The most homes that are all tried."""


@dataclass(frozen=True)
class ShardScheme:
    """How homes are chosen."""

    rule: Rule
    chunk: int = 1
    """Tokens that stay together, where chunks are dealt; a block at least."""
    groups: int = 1
    """Groups of heads."""
    travelling: bool = False
    """Whether rows that attend most keys travel to them."""

    def __str__(self) -> str:
        chunks = f" by {self.chunk:,}" * (self.rule in ("dealt", "least loaded"))
        groups = f" x {self.groups} head groups" if self.groups > 1 else ""
        return f"{self.rule}{chunks}{groups}{' + travelling rows' * self.travelling}"


def homes(scheme: ShardScheme, work: Array, teams: int, block: int) -> Iterator[Array]:
    """Yields int32 [blocks], the team that holds each block of `block` tokens: one, or all if the rule is to search.

    `work` [blocks] is what rules balance.
    """
    blocks, chunk = len(work), max(scheme.chunk // block, 1)
    every = np.arange(blocks)
    match scheme.rule:
        case "contiguous":
            yield contiguous(blocks, teams)
        case "zigzag":
            piece = every * (2 * teams) // blocks
            yield np.minimum(piece, 2 * teams - 1 - piece).astype(np.int32)
        case "dealt":
            yield _dealt(_chunked(work, chunk), teams)[every // chunk]
        case "least loaded":
            yield _least_loaded(_chunked(work, chunk), teams)[every // chunk]
        case "searched":
            yield from _every_home(blocks, teams)


def contiguous(blocks: int, teams: int) -> Array:
    """int32 [blocks]: one stretch of blocks a team."""
    return (np.arange(blocks) * teams // blocks).astype(np.int32)


def schemes(blocks: int, block: int, ranks: int, per_node: int, heads: int, key_heads: int) -> Iterator[ShardScheme]:
    """All schemes for so many blocks and ranks: every rule, size of chunks and number of head groups."""
    for groups in range(1, ranks + 1):
        together = per_node % groups == 0 or groups % per_node == 0
        if not together or not fits(groups, ranks, heads, key_heads):
            continue
        teams = ranks // groups
        yield ShardScheme("contiguous", groups=groups)
        yield ShardScheme("zigzag", groups=groups)
        chunk = 1
        while chunk == 1 or chunk * teams <= blocks:
            yield ShardScheme("dealt", chunk * block, groups)
            yield ShardScheme("least loaded", chunk * block, groups)
            chunk *= 2
        if 1 < teams <= blocks and _ways(blocks, teams) <= _SEARCHED:
            yield ShardScheme("searched", groups=groups)


def fits(groups: int, ranks: int, heads: int, key_heads: int) -> bool:
    """Whether groups of heads are equal shares of ranks and heads, and have equal shares of key heads or one each."""
    shares_keys = key_heads % groups == 0 or groups % key_heads == 0
    return groups > 0 and ranks % groups == 0 and heads % groups == 0 and shares_keys


def _ways(blocks: int, teams: int) -> int:
    """In how many ways teams can hold the same number of blocks, or one less."""
    least, more = divmod(blocks, teams)
    together = prod(factorial(least + (team < more)) for team in range(teams))
    return comb(teams, more) * factorial(blocks) // together


def _every_home(blocks: int, teams: int) -> Iterator[Array]:
    least, more = divmod(blocks, teams)
    team = np.empty(blocks, dtype=np.int32)

    def placed(block: int, held: list[int], spare: int) -> Iterator[Array]:
        """Homes of the blocks from `block` on, if teams hold so many and `spare` of them may hold one more."""
        if block == blocks:
            yield team.copy()
            return
        for number in range(teams):
            over = held[number] == least
            if held[number] < least or (over and spare):
                team[block] = number
                held[number] += 1
                yield from placed(block + 1, held, spare - over)
                held[number] -= 1

    yield from placed(0, [0] * teams, more)


def _chunked(work: Array, chunk: int) -> Array:
    return np.add.reduceat(work, np.arange(0, len(work), chunk))


def _dealt(work: Array, teams: int) -> Array:
    """Heaviest first, in turn: forth and back."""
    order = np.argsort(-work, kind="stable")
    turn, column = np.divmod(np.arange(len(work)), teams)
    team = np.empty(len(work), dtype=np.int32)
    team[order] = np.where(turn % 2 == 0, column, teams - 1 - column)
    return team


def _least_loaded(work: Array, teams: int) -> Array:
    """Heaviest first, each to the team with the least work that has room."""
    room = -(-len(work) // teams)
    heap = [(0, number, 0) for number in range(teams)]
    heapify(heap)
    team = np.empty(len(work), dtype=np.int32)
    weights = work.tolist()
    for chunk in np.argsort(-work, kind="stable").tolist():
        load, number, held = heap[0]
        team[chunk] = number
        if held + 1 < room:
            heapreplace(heap, (load + weights[chunk], number, held + 1))
        else:
            heappop(heap)
    return team
