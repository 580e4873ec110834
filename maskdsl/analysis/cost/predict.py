"""Predicted times of the kernels of a mask or stack on a GPU, each with the first tile choice of the tile table.

Most patterns use these tiles; patterns with much work per pair use smaller ones. `analysis/cost/model.py` has the model
and what it leaves out.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from maskdsl.analysis.cost.devices import Device
from maskdsl.analysis.cost.model import ELEMENT_SIZE, FORWARD, KEY_GRADIENT, QUERY_GRADIENT, Cost, predict
from maskdsl.analysis.cost.tile_table import Architecture, KernelName, TileChoice, ladder
from maskdsl.analysis.tiles.block_map import BlockMap, Runs, TileMap
from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.base.records import dataclass
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.inputs import branch_inputs
from maskdsl.ir.meaning.routed_inputs import find_in_layers
from maskdsl.ir.stack import StackIR

_KERNELS = (
    (FORWARD, KernelName.FORWARD),
    (QUERY_GRADIENT, KernelName.QUERY_GRADIENT),
    (KEY_GRADIENT, KernelName.KEY_GRADIENT),
)
_WIDEST = 256
"""The largest head dimension of the table; wider heads use its tiles."""


def _ratio(dense: float, seconds: float) -> float:
    """The speedup over dense attention; 1 of attention without tokens, which takes no time."""
    return dense / seconds if seconds else 1.0


@dataclass(frozen=True)
class Predicted:
    """One kernel: its tiles, its cost, and the cost of dense attention with the same tiles."""

    tile_choice: TileChoice
    cost: Cost
    dense: Cost

    @property
    def speedup(self) -> float:
        """Over dense attention."""
        return _ratio(self.dense.seconds, self.cost.seconds)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and dictionaries, for JSON."""
        return {
            **self.cost.as_dict(),
            "block": list(self.tile_choice.block),
            "dense_seconds": self.dense.seconds,
            "speedup": self.speedup,
        }


@dataclass(frozen=True)
class Prediction:
    """The predicted times of a mask on a GPU; from a datasheet, never measured."""

    device: Device
    forward: Predicted
    gradients: tuple[Predicted, Predicted]
    """The two backward kernels: dQ, and dK and dV."""
    branches: "tuple[Prediction, ...]" = ()
    """The predictions of the branches, one after the other; kernels are then of the one that takes longest."""

    @property
    def forward_seconds(self) -> float:
        """Seconds of the forward pass."""
        return sum(each.forward.cost.seconds for each in self._each)

    @property
    def backward_seconds(self) -> float:
        """Seconds of the backward pass."""
        return sum(each.cost.seconds for one in self._each for each in one.gradients)

    @property
    def dense_seconds(self) -> float:
        """Seconds of the forward pass of dense attention, in each branch."""
        return sum(each.forward.dense.seconds for each in self._each)

    @property
    def forward_speedup(self) -> float:
        """Over dense attention by the same model."""
        return _ratio(self.dense_seconds, self.forward_seconds)

    @property
    def backward_speedup(self) -> float:
        """Over dense attention by the same model."""
        dense = sum(each.dense.seconds for one in self._each for each in one.gradients)
        return _ratio(dense, self.backward_seconds)

    @property
    def _each(self) -> "tuple[Prediction, ...]":
        return self.branches or (self,)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and dictionaries, for JSON."""
        kernels = [each.as_dict() for each in (self.forward, *self.gradients)]
        names = ("forward_seconds", "backward_seconds", "forward_speedup", "backward_speedup")
        return {"gpu": self.device.name, **{name: getattr(self, name) for name in names}, "kernels": kernels}


@dataclass(frozen=True)
class StackPrediction:
    """The predicted times of all attention layers of a stack, one after the other."""

    device: Device
    different: tuple[Prediction, ...]
    """The prediction of each different layer."""
    index: tuple[int, ...]
    """For each layer, its number in `different`."""

    @property
    def layers(self) -> tuple[Prediction, ...]:
        """The prediction of each layer."""
        return tuple(self.different[number] for number in self.index)

    @property
    def forward_seconds(self) -> float:
        """Seconds of the forward pass."""
        return sum(each.forward_seconds for each in self.layers)

    @property
    def backward_seconds(self) -> float:
        """Seconds of the backward pass."""
        return sum(each.backward_seconds for each in self.layers)

    @property
    def forward_speedup(self) -> float:
        """Over as many layers of dense attention, by the same model."""
        return _ratio(sum(each.dense_seconds for each in self.layers), self.forward_seconds)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and dictionaries, for JSON."""
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
    """The prediction of a stack; `inputs` has those of all layers, and the rest is as for `predict_mask`."""
    layers = zip(stack.different, find_in_layers(stack, inputs or {}), strict=True)
    different = tuple(predict_mask(mask, device, each, head_dim=head_dim, batch=batch) for mask, each in layers)
    return StackPrediction(device, different, stack.index)


def predict_mask(
    mask: MaskIR,
    device: Device,
    inputs: Mapping[str, object] | None = None,
    *,
    head_dim: int = 64,
    batch: int = 1,
) -> Prediction:
    """The prediction for 16-bit tensors [batch, heads, tokens, head dim]; `inputs` are as for `tiles`.

    Raises `AttnError` as `tiles` does.
    """
    if mask.branches:
        given = [branch_inputs(each, inputs or {}) for each in mask.branches]
        pairs = zip(mask.branches, given, strict=True)
        branches = tuple(predict_mask(each, device, its, head_dim=head_dim, batch=batch) for each, its in pairs)
        longest = max(branches, key=lambda each: each.forward_seconds)
        return replace(longest, branches=branches)
    block_maps: dict[tuple[int, int], BlockMap] = {}

    def predicted(number: int) -> Predicted:
        kernel, name = _KERNELS[number]
        tile_choice = ladder(Architecture(device.architecture), name, min(head_dim, _WIDEST), ELEMENT_SIZE)[0]
        if tile_choice.block not in block_maps:
            block_maps[tile_choice.block] = tiles(mask, tile_choice.block, inputs)
        block_map = block_maps[tile_choice.block]
        sizes = {"head_dim": head_dim, "batch": batch, "warps": tile_choice.warps, "stages": tile_choice.stages}
        cost, dense = (predict(each, device, kernel, **sizes) for each in (block_map, _all_pairs(block_map)))
        return Predicted(tile_choice, cost, dense)

    return Prediction(device, predicted(0), (predicted(1), predicted(2)))


def _all_pairs(block_map: BlockMap) -> BlockMap:
    """The block map of dense attention, for the same tokens, heads and batch entries."""
    row = np.arange(block_map.query_blocks)
    full = Runs.of_sorted(len(row), row, np.zeros_like(row), np.full_like(row, block_map.key_blocks))
    none = Runs.of_sorted(len(row), row[:0], row[:0], row[:0])
    class_of_head = np.zeros_like(block_map.class_of_head)
    return BlockMap(
        block_map.block, block_map.query_length, block_map.key_length, (TileMap(full, none),), class_of_head
    )
