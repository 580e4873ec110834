"""What a scheme costs: the tiles that each rank computes, the bytes that it receives, and the time that both take."""

import numpy as np

from maskdsl.analysis.tiles.block_map import Array
from maskdsl.base.records import dataclass

RATE = 600e12
"""Floating-point operations a second of one GPU, on tiles that are not empty."""


ITEMSIZES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
"""Bytes of a number of each type that q, k and v may have."""


@dataclass(frozen=True)
class LayerShape:
    """The shape of an attention layer. `itemsize` is the bytes of a number."""

    heads: int
    key_heads: int
    head_dim: int
    itemsize: int


@dataclass(frozen=True)
class Cluster:
    """Processes and what connects them: gigabytes a second that one receives from other nodes, and from its own."""

    ranks: int
    per_node: int
    between: float = 50.0
    inside: float = 400.0


@dataclass(frozen=True, eq=False)
class RankCosts:
    """What each rank does, int64 [ranks] each."""

    operations: Array
    """Floating-point operations on its tiles."""
    inside: Array
    """Bytes that it receives from its own node."""
    between: Array
    """Bytes that it receives from other nodes."""
    sent: Array
    """Bytes that it sends."""

    def seconds(self, cluster: Cluster) -> Array:
        """float64 [ranks]: the mean of overlapped time and of one after the other."""
        compute = self.operations / RATE
        moved = self.between / (cluster.between * 1e9) + self.inside / (cluster.inside * 1e9)
        return np.asarray((np.maximum(compute, moved) + compute + moved) / 2)
