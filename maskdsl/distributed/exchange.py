"""What ranks exchange under given homes: keys and values, heads inside a team, and rows that travel.

Where tokens are pooled, a rank first receives each given token that it lacks of the tokens and pools of its blocks.

A rank receives each block of keys that any of its queries, heads and batch entries needs, once for each entry. What it
holds is not received.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from maskdsl.analysis.tiles.block_map import Array, Runs
from maskdsl.base.records import dataclass
from maskdsl.distributed.block_work import BlockWork, Travelling, united
from maskdsl.distributed.gathered_tokens import GatheredTokens
from maskdsl.distributed.given_tokens import GivenTokens
from maskdsl.distributed.pricing import Cluster, LayerShape, RankCosts

_LSE_BYTES = 4
"""The least bytes of a log-sum-exp that travels: a float32 has them, or a wider type of q."""


@dataclass(frozen=True, eq=False)
class Homes:
    """Where tokens are. Rank `team * groups + group` computes heads of its group for the tokens of its team."""

    teams: int
    groups: int
    queries: Array
    """int32 [query blocks]: the team that holds each."""
    keys: Array
    """int32 [key blocks]"""

    def of_given(self, given: GivenTokens) -> Array:
        """int32 [given]: the team that holds each given token."""
        return given.teams(self.queries, self.keys, self.teams)


def needed(work: BlockWork, homes: Homes, group: int) -> Runs:
    """For each team, the runs of key blocks that it needs for a group of heads, its own included."""
    heads = work.class_of_head.shape[1] // homes.groups
    numbers = np.unique(work.class_of_head[:, group * heads : (group + 1) * heads])
    some = [work.tiles[number] for number in numbers]
    team = np.concatenate([homes.queries[each.row] for each in some])
    start, end = (np.concatenate([getattr(each, name) for each in some]) for name in ("start", "end"))
    return Runs.of_sorted(homes.teams, *united(team, start, end, len(homes.keys)))


def tile_counts(work: BlockWork, homes: Homes) -> Array:
    """int64 [teams, groups]: the tiles that each rank computes, of all its heads and all batch entries."""
    heads = work.class_of_head.shape[1] // homes.groups
    by_class = np.stack([_by_team(each.counts, homes.queries, homes.teams) for each in work.tiles])
    if work.travelling is not None:
        by_class += np.stack([_by_team(each, homes.keys, homes.teams) for each in work.travelling.tiles])
    of_heads = work.class_of_head.reshape(-1, homes.groups, heads)
    multiplicity = np.stack(
        [np.bincount(of_heads[:, group].reshape(-1), minlength=len(by_class)) for group in range(homes.groups)], axis=1
    )
    return by_class.T @ multiplicity


def cost(work: BlockWork, homes: Homes, layer: LayerShape, cluster: Cluster) -> RankCosts:
    """The cost of a forward pass, for one batch entry of those that do not differ."""
    beside = max(cluster.per_node // homes.groups, 1)
    dim = layer.head_dim * layer.itemsize
    row, key = layer.heads // homes.groups * dim, 2 * max(layer.key_heads // homes.groups, 1) * dim
    inside, between, sent = (np.zeros((homes.teams, homes.groups), dtype=np.int64) for _ in range(3))

    def add(moves: Iterable[Array]) -> None:
        for total, moved in zip((inside, between, sent), moves, strict=True):
            total += moved

    if work.gathered != GatheredTokens():
        add(_of_gathered(work, homes, layer, cluster))
    if not work.gathered.values:
        known: dict[bytes, tuple[Array, Array, Array]] = {}
        for group, heads in enumerate(np.split(work.class_of_head, homes.groups, axis=1)):
            text = np.unique(heads).tobytes()
            if text not in known:
                known[text] = _received(needed(work, homes, group), homes, work.key_tokens, beside)
            for total, tokens in zip((inside, between, sent), known[text], strict=True):
                total[:, group] += tokens * key
        for given, team, size in zip(work.given, (homes.queries, homes.keys), (row, key), strict=True):
            if given is not None:
                received = given.moved(homes.of_given(given), team, homes.teams, beside)
                add(tokens[:, None] * size for tokens in received)
        add(_of_heads(work, homes, cluster, row, key))
        if work.travelling is not None:
            heads_here, lse = layer.heads // homes.groups, max(layer.itemsize, _LSE_BYTES)
            moves = _of_rows(work.travelling, homes, work.block, beside, heads_here, dim, lse)
            add(moved[:, None] for moved in moves)
    operations = tile_counts(work, homes) * (4 * work.block * work.block * layer.head_dim)
    moved = (each.reshape(-1) * len(work.class_of_head) for each in (inside, between, sent))
    return RankCosts(operations.reshape(-1), *moved)


def _of_gathered(work: BlockWork, homes: Homes, layer: LayerShape, cluster: Cluster) -> Iterator[Array]:
    """int64 [teams, groups] each: bytes inside and between nodes, and sent, of tokens that all ranks receive."""
    dim, shape = layer.head_dim * layer.itemsize, (homes.teams, homes.groups)
    gathered = work.gathered.in_groups(homes.groups)
    sizes = layer.heads * gathered.queries, layer.key_heads * (gathered.keys + gathered.values)
    queries, keys = (
        size * dim * tokens.reshape(-1) for size, tokens in zip(sizes, _given_counts(work, homes), strict=True)
    )
    held = queries + keys
    node = np.arange(cluster.ranks) // cluster.per_node
    of_node = np.bincount(node, weights=held).astype(np.int64)[node]
    yield (of_node - held).reshape(shape)
    yield (held.sum() - of_node).reshape(shape)
    yield (held * (cluster.ranks - 1)).reshape(shape)


def _given_counts(work: BlockWork, homes: Homes) -> tuple[Array, Array]:
    """int64 [teams, groups] each: the queries and the keys that each rank is given."""
    tokens = (work.query_tokens, homes.queries), (work.key_tokens, homes.keys)
    queries, keys = (
        shares(_by_team(*each, homes.teams), homes.groups)
        if given is None
        else shares(np.bincount(homes.of_given(given), minlength=homes.teams), homes.groups)
        for each, given in zip(tokens, work.given, strict=True)
    )
    return queries, keys


def _by_team(values: Array, team: Array, teams: int) -> Array:
    return np.bincount(team, weights=values, minlength=teams).astype(np.int64)


def _received(runs: Runs, homes: Homes, tokens: Array, beside: int) -> tuple[Array, Array, Array]:
    """int64 [teams] each: keys received from teams of the same node and from others, and keys sent."""
    before = np.concatenate([[0], np.cumsum(tokens)])
    total = _by_team(before[runs.end] - before[runs.start], runs.row, homes.teams)
    holder = homes.keys.astype(np.int64)
    every = np.arange(len(holder))
    near = np.zeros(homes.teams, dtype=np.int64)
    kept = np.zeros(homes.teams, dtype=np.int64)
    used_at_home = np.zeros(len(holder), dtype=np.int64)
    for neighbour in range(beside):
        team = holder // beside * beside + neighbour
        wanted = _has(runs, np.minimum(team, homes.teams - 1), every, len(holder)) & (team < homes.teams)
        amount = np.where(wanted, tokens, 0)
        at_home = team == holder
        near += _by_team(np.where(at_home, 0, amount), np.minimum(team, homes.teams - 1), homes.teams)
        kept += _by_team(np.where(at_home, amount, 0), holder, homes.teams)
        used_at_home += np.where(at_home, wanted, 0)
    steps = np.bincount(runs.start, minlength=len(holder) + 1) - np.bincount(runs.end, minlength=len(holder) + 1)
    copies = np.cumsum(steps)[:-1] - used_at_home
    return near, total - kept - near, _by_team(copies * tokens, holder, homes.teams)


def _has(runs: Runs, row: Array, column: Array, width: int) -> Array:
    """bool: whether rows have columns."""
    if not len(runs.start):
        return np.zeros(len(row), dtype=bool)
    line = runs.row.astype(np.int64) * (width + 1)
    wanted = row * (width + 1) + column
    at = np.searchsorted(line + runs.start, wanted, side="right") - 1
    return np.asarray((at >= 0) & (wanted < (line + runs.end)[at]))


def _of_heads(work: BlockWork, homes: Homes, cluster: Cluster, row: int, key: int) -> Iterator[Array]:
    """int64 [teams, groups] each: bytes inside and between nodes, and sent, that give each rank its heads and back."""
    results = shares(_by_team(work.query_tokens, homes.queries, homes.teams), homes.groups)
    queries, keys = _given_counts(work, homes)
    node = np.arange(homes.groups) // min(cluster.per_node, homes.groups)
    same = (node[:, None] == node) & ~np.eye(homes.groups, dtype=bool)
    other = node[:, None] != node
    taken = queries * row + keys * key
    for peers in (same, other):
        yield taken @ peers + results * row * peers.sum(axis=1)
    either = same | other
    yield taken * (homes.groups - 1) + results @ either * row


def shares(tokens: Array, groups: int) -> Array:
    """int64 [teams, groups]: the tokens of each rank of a team, of `tokens` [teams] in equal shares, in order."""
    edges = tokens[:, None] * np.arange(groups + 1) // groups
    return np.diff(edges, axis=1)


def _of_rows(
    rows: Travelling, homes: Homes, block: int, beside: int, heads: int, dim: int, lse: int
) -> tuple[Array, Array, Array]:
    """int64 [teams] each: bytes inside and between nodes, and sent, by which rows travel and are merged.

    Queries go to all teams. Each team merges an equal share of (row, head), of all other teams' partial outputs, and
    sends results home, as many a row as there are.
    """
    teams, pairs = homes.teams, len(rows.rows) * heads
    home = np.sort(homes.queries[rows.rows // block]).astype(np.int64)
    held = np.bincount(home, minlength=teams)
    node = np.arange(teams) // beside
    peers = np.bincount(node)[node] - 1
    in_node = np.bincount(node, weights=held).astype(np.int64)[node]
    result = (dim + lse) * rows.results
    edges = pairs * np.arange(teams + 1) // teams
    share = np.diff(edges)
    first = np.arange(len(home)) * heads
    merged_at_home = np.clip(np.minimum(first + heads, edges[home + 1]) - np.maximum(first, edges[home]), 0, heads)
    kept = _by_team(merged_at_home, home, teams)
    low, high = edges[node * beside], edges[np.minimum((node + 1) * beside, teams)]
    merged_near = np.clip(np.minimum(first + heads, high[home]) - np.maximum(first, low[home]), 0, heads)
    near = _by_team(merged_near, home, teams)
    inside = (in_node - held) * heads * dim + peers * share * result + (near - kept) * result
    between = (
        (len(home) - in_node) * heads * dim + (teams - 1 - peers) * share * result + (held * heads - near) * result
    )
    sent = held * heads * dim * (teams - 1) + (pairs - share) * result + (share - kept) * result
    return inside, between, sent
