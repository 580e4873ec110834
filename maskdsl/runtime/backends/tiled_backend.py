"""The tiled backend: torch operations over tiles. Turns the block map of a call into cached work for its module."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskdsl.analysis.tiles.block_map import BlockMap, TileMap
from maskdsl.analysis.tiles.listed_pairs import ListedPairs
from maskdsl.emit.plan import KernelPlan, clique_plan
from maskdsl.emit.torch.tiled_module import emit_tiled
from maskdsl.runtime.backends.protocol import Backend
from maskdsl.runtime.backends.schedule import GatheredRows, RowGroup, gathered_rows, schedule
from maskdsl.runtime.backends.whole_calls import attend_whole, gradients_of_whole, is_whole
from maskdsl.runtime.backends.workers import for_each, one_by_one
from maskdsl.runtime.base.call import Attend, Gradients, KernelCall, Saved
from maskdsl.runtime.base.kept import in_no_mode

Units = tuple[range, range]
"""Units and their key units. A unit is a key head of one batch entry with its query heads: see `codegen/tiled.py`."""


class Tiled(Backend):
    """Torch operations over tiles, on any device."""

    name = "tiled"
    in_layout = True
    lists_routes = True

    def planned(self, plan: KernelPlan) -> KernelPlan:
        return clique_plan(plan)

    def emit(self, plan: KernelPlan) -> str:
        return emit_tiled(plan)

    def prepared(self, call: KernelCall, q: Tensor, k: Tensor, v: Tensor) -> Attend:
        attention, wants_lse = call.module.attention, call.wants_lse
        if call.plan.is_plain and is_whole(call.plan, q, k, v):

            def attend(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor | None]:
                results = attend_whole(call.plan, q, k, v)
                return results or attention(q, k, v, **_work_of(call, q, k), wants_lse=wants_lse)

            return attend
        work = _work_of(call, q, k)
        return lambda q, k, v: attention(q, k, v, **work, wants_lse=wants_lse)

    def backward(self, call: KernelCall, saved: Saved, wanted: Sequence[str]) -> Gradients:
        if call.plan.is_plain and is_whole(call.plan, saved.q, saved.k, saved.v):
            gradients = gradients_of_whole(call.plan, saved)
            if gradients is not None:
                return gradients
        return Gradients(*call.module.gradients(**saved._asdict(), **_work_of(call, saved.q, saved.k), wanted=wanted))


def _work_of(call: KernelCall, q: Tensor, k: Tensor) -> dict[str, Any]:
    """The arguments of the generated module besides tensors. What tiles decide is cached by call state and shape."""
    state, shape = call.state, (q.shape[0], q.shape[1], k.shape[1])

    def group(each: RowGroup | GatheredRows) -> object:
        """As the generated module takes it."""
        if isinstance(each, RowGroup):
            return each
        return call.module.GatheredRows(*(None if x is None else torch.as_tensor(x, device=q.device) for x in each))

    def make() -> dict[str, Any]:
        tiles = state.tiles_with_pairs((call.plan.query_block, call.plan.key_block))
        work, heads = state.keep("schedules", lambda: Schedules(*tiles)).work(*shape)
        work = [([*map(group, groups)], units) for groups, units in work]
        return {"work": work, "masks": state.keep("masks", lambda: call.module.Masks(in_no_mode)), "heads": heads}

    return {
        "inputs": call.values,
        "layout": call.layout,
        **state.keep(("work", shape, q.device), make),
        "for_each": for_each if q.device.type == "cpu" else one_by_one,
    }


@dataclass(frozen=True, eq=False)
class Schedules:
    """The row groups of every head class of a block map; of those whose pairs are listed, rows that gather keys too."""

    block_map: BlockMap
    pairs: tuple[ListedPairs | None, ...]

    @cached_property
    def groups(self) -> tuple[tuple[RowGroup | GatheredRows, ...], ...]:
        return tuple(map(self.of_class, self.block_map.head_classes, self.pairs))

    def of_class(self, tiles: TileMap, pairs: ListedPairs | None) -> tuple[RowGroup | GatheredRows, ...]:
        """The groups of one head class."""
        if pairs is None:
            return schedule(tiles, self.block_map)
        blocks, rows = gathered_rows(pairs, tiles, self.block_map)
        return *schedule(tiles, self.block_map, {*np.flatnonzero(blocks).tolist()}), *rows

    def work(self, batch: int, heads: int, key_heads: int) -> tuple[list[tuple[Any, list[Units]]], int]:
        """Pairs (row groups of a head class, units that it computes), and the number of query heads in a unit."""
        class_of_head = self.block_map.class_of_head
        head_classes = np.broadcast_to(class_of_head, (batch, heads)).reshape(batch * key_heads, -1)
        if (head_classes == head_classes[:, :1]).all():
            per_class = [
                _progressions(np.flatnonzero(head_classes[:, 0] == n).tolist()) for n in range(len(self.groups))
            ]
            units = [[(numbers, numbers) for numbers in ranges] for ranges in per_class]
            return list(zip(self.groups, units, strict=True)), heads // key_heads
        # Heads that share keys differ in their tiles: every query head is its own unit.
        flat, group = head_classes.reshape(-1), heads // key_heads
        units = [
            [(range(n, n + 1), range(n // group, n // group + 1)) for n in np.flatnonzero(flat == head_class).tolist()]
            for head_class in range(len(self.groups))
        ]
        return list(zip(self.groups, units, strict=True)), 1


def _progressions(numbers: Sequence[int]) -> list[range]:
    """Ascending numbers as ranges with steps, merged greedily."""
    ranges: list[range] = []
    for number in numbers:
        last = ranges[-1] if ranges else None
        if last is not None and len(last) == 1:
            ranges[-1] = range(last.start, number + 1, number - last.start)
        elif last is not None and number == last[-1] + last.step:
            ranges[-1] = range(last.start, number + 1, last.step)
        else:
            ranges.append(range(number, number + 1))
    return ranges
