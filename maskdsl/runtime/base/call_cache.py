"""What calls with equal inputs share: tiles, layouts and what backends make of them. A small cache, safe to share."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskdsl.analysis.tiles.block_map import BlockMap
from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.emit.plan import KernelPlan
from maskdsl.ir.mask import DimensionKind, Sequence
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.runtime.base.kept import Kept
from maskdsl.runtime.base.permute import Move, moves

Array = NDArray[Any]
Curves = Callable[[torch.device], Mapping[str, Tensor]]
"""Values of the coordinates that generated modules take as tables, by the name of their argument."""


class CallState(Kept):
    """Everything that follows from a plan and those inputs that its tiles and its order read."""

    def __init__(self, plan: KernelPlan, arrays: Mapping[str, Array], batch: int) -> None:
        super().__init__()
        self.plan = plan
        self.arrays = arrays
        self.batch = batch

    def tiles(self, block: tuple[int, int]) -> BlockMap:
        return self.keep(("tiles", block), lambda: tiles(self.plan.mask, block, self.arrays, self.batch))

    def layout(self, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
        """Declared positions in laid-out order, of queries and of keys."""
        return self.keep(("layout", device), lambda: self.find_layout(device))

    def find_layout(self, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
        queries = self.positions(self.plan.mask.queries, device)
        if self.plan.mask.self_attention:
            return queries, queries
        return queries, self.positions(self.plan.mask.keys, device)

    def moves(self, device: torch.device) -> tuple[Move | None, Move | None]:
        """How queries and keys come to laid-out order."""
        return self.keep(("moves", device), lambda: moves(self.layout(device)))

    def positions(self, sequence: Sequence, device: torch.device) -> Tensor | None:
        """[batch or 1, heads or 1, tokens]."""
        if not any(sequence.order):
            return None
        batches = range(self.batch if DimensionKind.BATCH in self.plan.order_varies else 1)
        heads = range(self.plan.mask.heads if DimensionKind.HEADS in self.plan.order_varies else 1)
        rows = [
            [Coordinates(self.plan.mask, sequence, self.arrays, b, h).permutation() for h in heads] for b in batches
        ]
        return torch.as_tensor(np.array(rows), device=device)

    def curves(self, device: torch.device) -> dict[str, Tensor]:
        """Values of the coordinates that generated modules take as tables, by the name of their argument."""
        return self.keep(("curves", device), lambda: self.find_curves(device))

    def find_curves(self, device: torch.device) -> dict[str, Tensor]:
        found = {}
        for kind, sequence, names in self.plan.curve_names:
            coordinates = Coordinates(self.plan.mask, sequence, {}, 0, 0)
            for name in names:
                values = torch.as_tensor(coordinates.values(name), device=device)
                found[f"{kind}_{self.plan.identifiers[name]}"] = values
        return found


class CallStates:
    """The states of the last few different inputs. Patterns without such inputs have one for good."""

    LIMIT = 8

    def __init__(self) -> None:
        self.states: OrderedDict[object, CallState] = OrderedDict()
        self.lock = Lock()

    def find(self, plan: KernelPlan, inputs: Mapping[str, Tensor], batch: int) -> CallState:
        """Of a call whose tiles or order, as far as the host has to know them, follow from these inputs."""
        arrays = {name: as_array(tensor) for name, tensor in inputs.items()} if inputs else {}
        batch = batch if plan.varies_by_batch else 1
        key: tuple[object, ...] = (batch,)
        if arrays:
            key += tuple((name, array.shape, array.dtype.str, _digest(array)) for name, array in arrays.items())
        with self.lock:
            if key not in self.states:
                self.states[key] = CallState(plan, arrays, batch)
            self.states.move_to_end(key)
            while len(self.states) > self.LIMIT:
                self.states.popitem(last=False)
            return self.states[key]


def curves_of(plan: KernelPlan, states: CallStates) -> Curves:
    """What `CallState.curves` gives, of a plan and its states; no input has a say in it."""
    return lambda device: states.find(plan, {}, 1).curves(device)


def as_array(tensor: Tensor) -> Array:
    tensor = tensor.detach().cpu()
    return (tensor.double() if tensor.is_floating_point() else tensor).numpy()


def _digest(array: Array) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=16).digest()
