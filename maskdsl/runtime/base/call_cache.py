"""Caches of tiles, layouts and backends' tables, shared by calls whose deciding inputs are equal. Thread-safe."""

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
from maskdsl.analysis.tiles.listed_pairs import ListedPairs
from maskdsl.analysis.tiles.mask_tiles import tiles_with_pairs
from maskdsl.emit.plan import KernelPlan
from maskdsl.ir.declared.inputs import DimensionKind
from maskdsl.ir.declared.sequences import Sequence
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.runtime.base.kept import Kept
from maskdsl.runtime.base.permute import Move, moves

Array = NDArray[Any]
Curves = Callable[[torch.device], Mapping[str, Tensor]]
"""Maps a device to the coordinates that generated modules take as tables, by the name of their argument."""


class CallState(Kept):
    """Cached results that follow from a plan and from the inputs that its tiles and its order read."""

    def __init__(self, plan: KernelPlan, arrays: Mapping[str, Array], batch: int) -> None:
        super().__init__()
        self.plan = plan
        self.arrays = {name: array.copy() for name, array in arrays.items()}
        """Copies: callers may write into their inputs."""
        self.batch = batch

    def tiles(self, block: tuple[int, int]) -> BlockMap:
        """The block map for tiles of `block` (queries, keys) tokens."""
        return self.tiles_with_pairs(block)[0]

    def tiles_with_pairs(self, block: tuple[int, int]) -> tuple[BlockMap, tuple[ListedPairs | None, ...]]:
        """The block map, and the attending pairs of each head class that lists of entries bound."""
        return self.keep(("tiles", block), lambda: tiles_with_pairs(self.plan.mask, block, self.arrays, self.batch))

    def layout(self, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
        """Declared positions of queries and keys in laid-out order: see `KernelCall.layout`."""
        return self.keep(("layout", device), lambda: self._make_layout(device))

    def _make_layout(self, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
        queries = self.positions(self.plan.mask.queries, device)
        if self.plan.mask.self_attention:
            return queries, queries
        return queries, self.positions(self.plan.mask.keys, device)

    def moves(self, device: torch.device) -> tuple[Move | None, Move | None]:
        """The permutations of queries and keys to laid-out order; None where they stay in declared order."""
        return self.keep(("moves", device), lambda: moves(self.layout(device)))

    def positions(self, sequence: Sequence, device: torch.device) -> Tensor | None:
        """Declared positions of a sequence in laid-out order, int64 [batch or 1, heads or 1, tokens]."""
        if not any(sequence.order):
            return None
        batches = range(self.batch if DimensionKind.BATCH in self.plan.order_varies else 1)
        heads = range(self.plan.mask.heads if DimensionKind.HEADS in self.plan.order_varies else 1)
        rows = [
            [Coordinates(self.plan.mask, sequence, self.arrays, b, h).permutation() for h in heads] for b in batches
        ]
        return torch.as_tensor(np.array(rows), device=device)

    def curves(self, device: torch.device) -> dict[str, Tensor]:
        """The coordinates that generated modules take as tables, by the name of their argument."""
        return self.keep(("curves", device), lambda: self._make_curves(device))

    def _make_curves(self, device: torch.device) -> dict[str, Tensor]:
        tables = {}
        for kind, sequence, names in self.plan.curve_names:
            coordinates = Coordinates(self.plan.mask, sequence, {}, 0, 0)
            for name in names:
                values = torch.as_tensor(coordinates.values(name), device=device)
                tables[f"{kind}_{self.plan.identifiers[name]}"] = values
        return tables


class CallStates:
    """An LRU cache of states by the values of the deciding inputs. A pattern without such inputs has one state."""

    LIMIT = 8

    def __init__(self) -> None:
        self.states: OrderedDict[object, CallState] = OrderedDict()
        self.lock = Lock()

    def find(self, plan: KernelPlan, inputs: Mapping[str, Tensor], batch: int) -> CallState:
        """The state of a call, made if it is new. `inputs` are those that the host reads for tiles or the order."""
        arrays = {name: as_array(tensor) for name, tensor in inputs.items()} if inputs else {}
        batch = batch if plan.varies_by_batch else 1
        with self.lock:
            last = next(reversed(self.states.values()), None)
        if last is not None and last.batch == batch and _are_equal(last.arrays, arrays):
            return last
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
    """`CallState.curves` of a plan. Curves depend on no input."""
    return lambda device: states.find(plan, {}, 1).curves(device)


def as_array(tensor: Tensor) -> Array:
    """A tensor as a NumPy array on the host, floats as float64. Waits for the device."""
    tensor = tensor.detach().cpu()
    return (tensor.double() if tensor.is_floating_point() else tensor).numpy()


def _are_equal(ones: Mapping[str, Array], others: Mapping[str, Array]) -> bool:
    """Whether these arrays have the same types, shapes and bits, which is known sooner than their digests."""
    if len(ones) != len(others):
        return False
    for name, one in ones.items():  # a loop: every call pays for the frame of a generator
        other = others.get(name)
        if other is None or (one.dtype, one.shape) != (other.dtype, other.shape) or one.tobytes() != other.tobytes():
            return False
    return True


def _digest(array: Array) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=16).digest()
