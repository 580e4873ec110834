"""What the kernels of a mask are predicted to take on a GPU, each in the blocks that the table of tiles gives it there.

Most patterns have these blocks; those that ask for much at every pair have smaller ones. See `analysis/cost/model.py`
for the model, and for what it leaves out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from maskdsl.analysis.cost.devices import Device
from maskdsl.analysis.cost.model import ELEMENT_SIZE, FORWARD, KEY_GRADIENT, QUERY_GRADIENT, Cost, predict
from maskdsl.analysis.cost.tile_table import Architecture, KernelName, TileChoice, ladder
from maskdsl.analysis.tiles.block_map import BlockMap, Runs, TileMap
from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.routed_inputs import find_in_layers
from maskdsl.ir.stack import StackIR

_KERNELS = (
    (FORWARD, KernelName.FORWARD),
    (QUERY_GRADIENT, KernelName.QUERY_GRADIENT),
    (KEY_GRADIENT, KernelName.KEY_GRADIENT),
)
_WIDEST = 256
"""The largest head dimension of the table; the blocks of wider heads are those of this one."""


@dataclass(frozen=True)
class Predicted:
    """One kernel: its blocks, its cost, and that of dense attention in the same blocks."""

    choice: TileChoice
    cost: Cost
    dense: Cost

    @property
    def speedup(self) -> float:
        return self.dense.seconds / self.cost.seconds

    def as_dict(self) -> dict[str, Any]:
        return {
            **self.cost.as_dict(),
            "block": list(self.choice.block),
            "dense_seconds": self.dense.seconds,
            "speedup": self.speedup,
        }


@dataclass(frozen=True)
class Prediction:
    """Seconds are predicted from a datasheet, never measured."""

    device: Device
    forward: Predicted
    gradients: tuple[Predicted, Predicted]
    """Of queries, and of keys and values: the two kernels of backward."""

    @property
    def forward_seconds(self) -> float:
        return self.forward.cost.seconds

    @property
    def backward_seconds(self) -> float:
        return sum(each.cost.seconds for each in self.gradients)

    @property
    def forward_speedup(self) -> float:
        """Over dense attention by the same model."""
        return self.forward.speedup

    @property
    def backward_speedup(self) -> float:
        return sum(each.dense.seconds for each in self.gradients) / self.backward_seconds

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, as JSON has them."""
        kernels = [each.as_dict() for each in (self.forward, *self.gradients)]
        names = ("forward_seconds", "backward_seconds", "forward_speedup", "backward_speedup")
        return {"gpu": self.device.name, **{name: getattr(self, name) for name in names}, "kernels": kernels}


@dataclass(frozen=True)
class StackPrediction:
    """Of all layers, one after the other; attention alone."""

    device: Device
    different: tuple[Prediction, ...]
    """Of one layer of each kind."""
    index: tuple[int, ...]
    """For every layer, which of these it is."""

    @property
    def layers(self) -> tuple[Prediction, ...]:
        return tuple(self.different[number] for number in self.index)

    @property
    def forward_seconds(self) -> float:
        return sum(each.forward_seconds for each in self.layers)

    @property
    def backward_seconds(self) -> float:
        return sum(each.backward_seconds for each in self.layers)

    @property
    def forward_speedup(self) -> float:
        """Over as many layers of dense attention by the same model."""
        return sum(each.forward.dense.seconds for each in self.layers) / self.forward_seconds

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, as JSON has them."""
        names = ("forward_seconds", "backward_seconds", "forward_speedup")
        figures = {name: getattr(self, name) for name in names}
        different = [each.as_dict() for each in self.different]
        return {"gpu": self.device.name, **figures, "different": different, "index": list(self.index)}


def predict_stack(
    stack: StackIR,
    device: Device,
    inputs: Mapping[str, object] | None = None,
    *,
    head_dim: int = 64,
    batch: int = 1,
) -> StackPrediction:
    """`inputs` are those of all layers; see `predict_mask`."""
    own = zip(stack.different, find_in_layers(stack, inputs or {}), strict=True)
    different = tuple(predict_mask(mask, device, each, head_dim=head_dim, batch=batch) for mask, each in own)
    return StackPrediction(device, different, stack.index)


def predict_mask(
    mask: MaskIR,
    device: Device,
    inputs: Mapping[str, object] | None = None,
    *,
    head_dim: int = 64,
    batch: int = 1,
) -> Prediction:
    """For tensors of bfloat16 or float16, [batch, heads, tokens, head dim]; `inputs` as for tiles."""
    found: dict[tuple[int, int], BlockMap] = {}

    def predicted(number: int) -> Predicted:
        kernel, name = _KERNELS[number]
        choice = ladder(Architecture(device.architecture), name, min(head_dim, _WIDEST), ELEMENT_SIZE)[0]
        if choice.block not in found:
            found[choice.block] = tiles(mask, choice.block, inputs)
        block_map = found[choice.block]
        sizes = {"head_dim": head_dim, "batch": batch, "warps": choice.warps, "stages": choice.stages}
        return Predicted(
            choice, predict(block_map, device, kernel, **sizes), predict(_all_pairs(block_map), device, kernel, **sizes)
        )

    return Prediction(device, predicted(0), (predicted(1), predicted(2)))


def _all_pairs(block_map: BlockMap) -> BlockMap:
    """The tiles of dense attention, for as many tokens, heads and batch entries."""
    row = np.arange(block_map.query_blocks)
    full = Runs.of_sorted(len(row), row, np.zeros_like(row), np.full_like(row, block_map.key_blocks))
    none = Runs.of_sorted(len(row), row[:0], row[:0], row[:0])
    of_heads = np.zeros_like(block_map.class_of_head)
    return BlockMap(block_map.block, block_map.query_length, block_map.key_length, (TileMap(full, none),), of_heads)
