"""The ways in which others cut a sequence, and what each costs, counted pair of ranks by pair of ranks.

Nothing here is shared with `maskdsl.distributed`: prices follow the definition alone. Parts hold blocks; part p with g
groups of heads is ranks p * g to p * g + g - 1.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from maskdsl import Mask

BLOCK = 128
Array = NDArray[np.int64]


def contiguous(blocks: int, parts: int) -> Array:
    """Ring attention: one stretch a part, the longer ones where rounding down leaves room."""
    return np.array([block * parts // blocks for block in range(blocks)])


def zigzag(blocks: int, parts: int) -> Array:
    """Head and tail: the sequence in 2 * parts pieces; part p has piece p and the p-th from the end."""
    pieces = [block * 2 * parts // blocks for block in range(blocks)]
    return np.array([min(piece, 2 * parts - 1 - piece) for piece in pieces])


def dealt(work: Array, parts: int) -> Array:
    """torch's PTRR: chunks sorted by work, dealt forth and back."""
    part = np.zeros(len(work), dtype=np.int64)
    for turn, chunk in enumerate(sorted(range(len(work)), key=lambda each: -work[each])):
        at, round_ = turn % parts, turn // parts
        part[chunk] = at if round_ % 2 == 0 else parts - 1 - at
    return part


def min_heap(work: Array, parts: int) -> Array:
    """MagiAttention and MARCO: heaviest chunk first, to the part with the least work that has room for one more."""
    load, held = [0] * parts, [0] * parts
    room = -(-len(work) // parts)
    part = np.zeros(len(work), dtype=np.int64)
    for chunk in sorted(range(len(work)), key=lambda each: -work[each]):
        best = min((each for each in range(parts) if held[each] < room), key=lambda each: (load[each], each))
        part[chunk], load[best], held[best] = best, load[best] + work[chunk], held[best] + 1
    return part


def every_scheme(classes: NDArray[np.bool_], ranks: int, groups: list[int]) -> Iterator[tuple[str, Array, int]]:
    """Yields a name, the part of each block, and the groups of heads. `classes` [heads, blocks, blocks]."""
    blocks = classes.shape[1]
    work = classes.sum(axis=(0, 2))
    for number in groups:
        parts = ranks // number
        yield "contiguous", contiguous(blocks, parts), number
        yield "zigzag", zigzag(blocks, parts), number
        chunk = 1
        while chunk == 1 or chunk * parts <= blocks:
            chunks = np.add.reduceat(work, np.arange(0, blocks, chunk))
            for name, rule in (("PTRR", dealt), ("min-heap", min_heap)):
                yield f"{name} {chunk}", np.repeat(rule(chunks, parts), chunk)[:blocks], number
            chunk *= 2


def head_groups(ranks: int, per_node: int, heads: int, key_heads: int) -> list[int]:
    """The numbers of groups that ranks, heads and nodes allow."""
    return [
        each
        for each in range(1, ranks + 1)
        if ranks % each == 0 and heads % each == 0
        if key_heads % each == 0 or each % key_heads == 0
        if per_node % each == 0 or each % per_node == 0
    ]


def dense_classes(mask: Mask, **inputs: object) -> NDArray[np.bool_]:
    """bool [heads, query blocks, key blocks]: the tiles that are not empty."""
    found = mask.tiles((BLOCK, BLOCK), **inputs)
    return np.stack([found.classes(head) > 0 for head in range(mask.heads)])


def price(
    classes: NDArray[np.bool_],
    part: Array,
    key_part: Array,
    groups: int,
    tokens: tuple[Array, Array],
    ranks: int,
    per_node: int,
    key_heads: int,
    head_dim: int,
    size: int = 2,
    selects_by: tuple[bool, bool, bool] = (False, False, False),
) -> tuple[float, Array]:
    """The score by the fixed formula, and the bytes that each rank receives.

    Schemes of others know no routes. To select as one process does, each rank would receive the queries, keys and
    values of all others that it `selects_by`, and with groups of heads all queries.
    """
    heads = len(classes)
    here, keys_here = heads // groups, max(key_heads // groups, 1)
    row = head_dim * size
    operations, near, far = np.zeros(ranks), np.zeros(ranks), np.zeros(ranks)

    def receive(rank: int, source: int, amount: float) -> None:
        (near if rank // per_node == source // per_node else far)[rank] += amount * (rank != source)

    queries_of = [int(tokens[0][part == each].sum()) for each in range(ranks // groups)]
    keys_of = [int(tokens[1][key_part == each].sum()) for each in range(ranks // groups)]
    for rank in range(ranks):
        mine, group = divmod(rank, groups)
        own = classes[group * here : (group + 1) * here][:, part == mine]
        operations[rank] = own.sum() * 4 * BLOCK * BLOCK * head_dim
        wanted = own.any(axis=(0, 1))
        for other in np.unique(key_part[wanted]):
            amount = tokens[1][wanted & (key_part == other)].sum() * 2 * keys_here * row
            receive(rank, int(other) * groups + group, amount)
        for peer in range(groups):
            source = mine * groups + peer
            receive(rank, source, _share(queries_of[mine], groups, peer) * here * row)
            receive(rank, source, _share(keys_of[mine], groups, peer) * 2 * keys_here * row)
            receive(rank, source, _share(queries_of[mine], groups, group) * here * row)
    queries, keys, values = selects_by
    rows = np.array([(queries or (keys and groups > 1 and not values)) * heads, (keys + values) * key_heads]) * row
    shares = [divmod(source, groups) for source in range(ranks)]
    given = [rows @ [_share(each[team], groups, peer) for each in (queries_of, keys_of)] for team, peer in shares]
    node = np.arange(ranks) // per_node
    of_node = np.bincount(node, weights=given)[node]
    near, far = near + of_node - given, far + sum(given) - of_node
    compute = operations / 600e12
    moved = far / 50e9 + near / 400e9
    slowest = float(((np.maximum(compute, moved) + compute + moved) / 2).max())
    return slowest / compute.mean() if compute.any() else 1.0, (near + far).astype(np.int64)


def _share(tokens: int, groups: int, group: int) -> int:
    """The tokens of one rank of a part that holds so many, in equal stretches."""
    return tokens * (group + 1) // groups - tokens * group // groups
