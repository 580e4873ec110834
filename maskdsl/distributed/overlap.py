"""Whether a rank computes attention in two stages: to the keys that it holds while others arrive, then to those."""

import numpy as np

from maskdsl.distributed.moves import Moves
from maskdsl.distributed.pricing import RATE, Cluster, LayerShape

_MEMORY_RATE = 3e12
"""Bytes a second that one GPU reads and writes."""
_PASSES = 4
"""Outputs that two stages read and write more than one: another is written, both are read, and one is written."""


def computes_in_stages(moves: Moves, team: int, group: int, cluster: Cluster, layer: LayerShape) -> bool:
    """Whether a rank hides more time behind the work on its own keys than it takes to merge both results."""
    hidden = min(_work_at_home(moves, team, group, layer), _fetch(moves, team, group, cluster, layer))
    work, heads = moves.work, layer.heads // moves.homes.groups
    outputs = len(work.class_of_head) * len(moves.queries_of[team]) * heads * layer.head_dim * layer.itemsize
    return hidden > _PASSES * outputs / _MEMORY_RATE


def _work_at_home(moves: Moves, team: int, group: int, layer: LayerShape) -> float:
    """Seconds of a rank's work on keys that its team holds."""
    work, homes = moves.work, moves.homes
    before = np.concatenate([[0], np.cumsum(homes.keys == team)])
    of_heads = np.split(work.class_of_head, homes.groups, axis=1)[group]
    tiles = 0
    for runs, times in zip(work.tiles, np.bincount(of_heads.reshape(-1), minlength=len(work.tiles)), strict=True):
        here = homes.queries[runs.row] == team
        tiles += int(times) * int((before[runs.end] - before[runs.start])[here].sum())
    return tiles * 4 * work.block**2 * layer.head_dim / RATE


def _fetch(moves: Moves, team: int, group: int, cluster: Cluster, layer: LayerShape) -> float:
    """Seconds in which the keys that a rank needs of other teams arrive."""
    groups, beside = moves.homes.groups, max(cluster.per_node // moves.homes.groups, 1)
    key = 2 * max(layer.key_heads // groups, 1) * layer.head_dim * layer.itemsize * len(moves.work.class_of_head)
    seconds = 0.0
    for source in range(moves.homes.teams):
        speed = cluster.inside if source // beside == team // beside else cluster.between
        seconds += len(moves.keys_for(source, team, group)) * key / (speed * 1e9)
    return seconds
