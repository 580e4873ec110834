"""Evaluates the relation of a call for tiles, as words of bits: by the functions of its generated module, in torch."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskdsl.runtime.backends.native.panel_lists import PanelLists, Relation, panel_lists, panels_of_block
from maskdsl.runtime.backends.native.structures import LANES
from maskdsl.runtime.base.call import KernelCall

Array = NDArray[Any]


class CallPairs:
    """What pairs of one call read, in laid-out order: `queries` and `keys` are [batch or 1, heads or 1, tokens]."""

    def __init__(self, call: KernelCall, block: tuple[int, int], batch: int, heads: int) -> None:
        self.call, self.block, self.batch, self.heads = call, block, batch, heads
        mask = call.plan.mask
        self.lengths = mask.queries.length, mask.keys.length
        q = torch.zeros(1).expand(batch, heads, self.lengths[0], 1)
        k = torch.zeros(1).expand(batch, 1, self.lengths[1], 1)
        problem = call.module.problem_of(q, k, k, call.values, [], None, heads, None, call.layout)
        self.queries: Mapping[str, Tensor] = problem.queries
        self.keys: Mapping[str, Tensor] = problem.keys
        self.inputs: Mapping[str, Tensor] = problem.inputs

    def variation(self, read: set[str]) -> tuple[bool, bool]:
        """Whether what these names stand for differs between batch entries, and between heads."""
        shapes = [x.shape for name, x in self.queries.items() if f"q_{name}" in read]
        shapes += [x.shape for name, x in self.keys.items() if f"k_{name}" in read]
        return (
            "batch" in read or any(each[0] > 1 for each in shapes),
            "head" in read or any(each[1] > 1 for each in shapes),
        )

    def values(self, row: Array, column: Array, batch: int, head: int) -> dict[str, Any]:
        """The arguments of pair functions for tiles of one head: they broadcast to [tiles, 1, queries, keys].

        Keys come in whole panels; tokens beyond an end or a block are others, whose results are not used.
        """
        height, width = self.block
        lanes = panels_of_block(width) * LANES
        queries = _tokens(row, height, min(height, self.lengths[0]), self.lengths[0])[:, None, :, None]
        keys = _tokens(column, width, lanes, self.lengths[1])[:, None, None, :]
        return {
            **self.inputs,
            **{f"q_{name}": _of_head(x, batch, head)[queries] for name, x in self.queries.items()},
            **{f"k_{name}": _of_head(x, batch, head)[keys] for name, x in self.keys.items()},
            "head": torch.tensor(head).view(1, 1, 1, 1),
            "batch": torch.tensor(batch).view(1, 1, 1, 1),
        }


def _tokens(block: Array, size: int, count: int, length: int) -> Tensor:
    """The tokens of blocks, int64 [blocks, count]."""
    first = torch.from_numpy(block.astype(np.int64)) * size
    return (first[:, None] + torch.arange(count)).clamp_(max=length - 1)


def _of_head(x: Tensor, batch: int, head: int) -> Tensor:
    return x[min(batch, x.shape[0] - 1), min(head, x.shape[1] - 1)]


def lists_of_call(pairs: CallPairs) -> PanelLists:
    """The rows and panels of a call."""
    call, block = pairs.call, pairs.block
    block_map = call.state.tiles(block)
    shape = pairs.batch, pairs.heads
    of_head = np.broadcast_to(block_map.class_of_head, shape)
    by_batch, by_head = pairs.variation(call.module.MASK_READS)
    batch, head = np.indices(shape)
    keys = np.stack([of_head, batch * by_batch, head * by_head], axis=-1).reshape(-1, 3)
    different, classes = np.unique(keys, axis=0, return_inverse=True)
    relations = [(int(number), _relation(pairs, int(b), int(h))) for number, b, h in different]
    return panel_lists(block_map, classes.reshape(shape), relations)


def _relation(pairs: CallPairs, batch: int, head: int) -> Relation:
    """The relation of one head."""
    height, width = min(pairs.block[0], pairs.lengths[0]), pairs.block[1]
    per_block = panels_of_block(width)

    def words(row: Array, column: Array) -> Array:
        attends = pairs.call.module.allowed(**pairs.values(row, column, batch, head))
        attends = attends.expand(len(row), 1, height, per_block * LANES)[:, 0].numpy()
        bits = np.packbits(attends.reshape(len(row), height, per_block, 2, 8), axis=-1, bitorder="little")
        of_panels = bits[..., 0].view("<u2")[..., 0].astype(np.uint16)  # [tiles, queries, panels]
        lane = np.arange(per_block * LANES).reshape(per_block, LANES)
        key = column[:, None, None].astype(np.int64) * width + lane
        real = (lane < width) & (key < pairs.lengths[1])
        of_panels &= (real << np.arange(LANES)).sum(axis=-1).astype(np.uint16)[:, None]
        query = row[:, None].astype(np.int64) * pairs.block[0] + np.arange(height)
        of_panels *= (query < pairs.lengths[0])[..., None]
        return np.ascontiguousarray(of_panels.transpose(0, 2, 1))

    return words
