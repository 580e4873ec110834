"""The biases of a call's panels: equal ones once. What they read of positions is compared once, values come anew."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskdsl.runtime.backends.native.call_pairs import CallPairs
from maskdsl.runtime.backends.native.panel_lists import PanelLists, hashes, in_batches
from maskdsl.runtime.backends.native.structures import LANES

Array = NDArray[Any]

_MOST = 2**26
"""The most biases that are held, of all heads."""


class BiasPanels(NamedTuple):
    """Which bias each panel has."""

    lists: PanelLists
    """With a run for each panel, which names its bias."""
    row: Array
    panel: Array
    """The row and the panel that stand for each bias."""


def bias_panels(pairs: CallPairs, lists: PanelLists) -> BiasPanels | None:
    """The biases of all panels; None where entries or heads differ in positions, or too many biases differ."""
    parameters = {f"{side}_{name}" for side, x in (("q", pairs.queries), ("k", pairs.keys)) for name in x}
    if any(pairs.variation(parameters)):
        return None
    lists, row = lists.by_panel(pairs.grid)
    panel = lists.runs["panel"]
    of_panels = [_hashes(pairs, *some) for some in in_batches(row, panel)]
    _, first, number = np.unique(np.concatenate([np.zeros(0, np.uint64), *of_panels]), True, True)
    if len(first) * pairs.grid.tallest * LANES * pairs.heads > _MOST:
        return None
    lists.runs["bias"] = number
    return BiasPanels(lists, row[first], panel[first])


def _hashes(pairs: CallPairs, row: Array, panel: Array) -> Array:
    """uint64 [panels]: equal where all that the biases of panels read of positions is."""
    arguments = pairs.values(row, panel, 0, slice(0, 1), {})
    size = len(row), 1, pairs.grid.tallest, LANES
    values = [each(torch.zeros((), dtype=torch.float64), **arguments).expand(size) for each in _functions(pairs)]
    if not values:
        return np.zeros(len(row), np.uint64)
    as_integers = [x.contiguous().view(torch.int64) if x.is_floating_point() else x.long() for x in values]
    return hashes(torch.stack(as_integers, dim=1).flatten(1).numpy())


def _functions(pairs: CallPairs) -> Sequence[Callable[..., Tensor]]:
    functions: Sequence[Callable[..., Tensor]] = pairs.module.POSITION_FUNCTIONS
    return functions


def bias_values(pairs: CallPairs, panels: BiasPanels, inputs: Mapping[str, Tensor]) -> Tensor:
    """The biases: float32 [batch or 1, heads or 1, biases, queries of a row, LANES]."""
    by_batch, by_head = pairs.variation(pairs.module.SCORE_READS)
    heads = slice(0, pairs.heads if by_head else 1)
    zero = torch.zeros(())
    size = len(panels.row), heads.stop, pairs.grid.tallest, LANES
    arguments = [
        pairs.values(panels.row, panels.panel, batch, heads, inputs) for batch in range(pairs.batch if by_batch else 1)
    ]
    made = [pairs.module.score(zero, **each).expand(size).transpose(0, 1) for each in arguments]
    return torch.stack(made).float().contiguous()
