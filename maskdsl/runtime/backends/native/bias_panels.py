"""What scores read of pairs, the biases of panels: equal ones once. Positions are compared once, values come anew."""

from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskdsl.runtime.backends.native.call_pairs import CallPairs
from maskdsl.runtime.backends.native.panel_lists import PanelGrid, PanelLists, PanelTokens, hashes, in_batches
from maskdsl.runtime.backends.native.structures import LANES
from maskdsl.runtime.base.kept import in_no_mode

Array = NDArray[Any]

MOST_BIASES = 2**26
"""The most biases that are held, of all heads."""


class BiasPanels(NamedTuple):
    """Which bias each panel has."""

    lists: PanelLists
    """With a run for each panel, which names its bias."""
    tokens: PanelTokens
    """Those that stand for each bias."""


def bias_panels(pairs: CallPairs, grid: PanelGrid, lists: PanelLists) -> BiasPanels | None:
    """The biases of all panels; None where entries or heads differ in positions, or too many biases differ."""
    if not has_common_positions(pairs):
        return None
    lists, row = lists.by_panel(grid)
    panel = lists.runs["panel"]
    of_panels = [_hashes(pairs, grid.tokens(*some)) for some in in_batches(row, panel)]
    _, first, number = np.unique(np.concatenate([np.zeros(0, np.uint64), *of_panels]), True, True)
    if len(first) * grid.tallest * LANES * pairs.heads * len(pairs.module.PAIR_TERMS) > MOST_BIASES:
        return None
    lists.runs["bias"] = number
    return BiasPanels(lists, grid.tokens(row[first], panel[first]))


def has_common_positions(pairs: CallPairs) -> bool:
    """Whether the positions that scores read are the same in all entries and heads."""
    return not any(pairs.variation(pairs.module.PAIR_READS - {"batch", "head"}))


def _hashes(pairs: CallPairs, tokens: PanelTokens) -> Array:
    """uint64 [panels]: equal where all that the biases of panels read of positions is."""
    count, height = tokens.queries.shape
    arguments = pairs.values(tokens, 0, slice(0, 1), {})
    values = [
        each(torch.zeros((), dtype=torch.float64), **arguments).expand(count, 1, height, LANES)
        for each in _functions(pairs)
    ]
    if not values:
        return np.zeros(count, np.uint64)
    as_integers = [x.contiguous().view(torch.int64) if x.is_floating_point() else x.long() for x in values]
    return hashes(torch.stack(as_integers, dim=1).flatten(1).numpy())


def _functions(pairs: CallPairs) -> Sequence[Callable[..., Tensor]]:
    functions: Sequence[Callable[..., Tensor]] = pairs.module.POSITION_FUNCTIONS
    return functions


def bias_values(
    pairs: CallPairs, tokens: PanelTokens, inputs: Mapping[str, Tensor], counted: Tensor | None = None
) -> Tensor:
    """The biases: float32 [batch or 1, heads or 1, biases, terms of a pair, queries of a row, LANES].

    `counted` says which of them have a gradient: others send none to what they read.
    """
    module = pairs.module
    by_batch, by_head = pairs.variation(module.PAIR_READS)
    heads = slice(0, pairs.heads if by_head else 1)
    zero = torch.zeros(())
    count, height = tokens.queries.shape
    entries = []
    for batch in range(pairs.batch if by_batch else 1):
        known, made = pairs.values(tokens, batch, heads, inputs), []
        for number, function in enumerate(module.PAIR_TERMS):
            attends = None if counted is None else counted[batch, :, :, number].transpose(0, 1)
            read = known if attends is None else module.guarded(known, inputs, attends)
            made.append(function(zero, **read).float().expand(count, heads.stop, height, LANES).transpose(0, 1))
        entries.append(torch.stack(made, dim=2))
    return torch.stack(entries).contiguous()


class GrowingBiases:
    """The biases of panels that are asked for one after the other, in rows of so many queries. Thread-safe."""

    def __init__(self, pairs: CallPairs, height: int) -> None:
        self.pairs, self.height = pairs, height
        self.numbers: dict[int, int] = {}
        """The number of the bias of each hash."""
        self.tokens = PanelTokens(np.zeros((0, height), np.int64), np.zeros((0, LANES), np.int64))
        """Those that stand for each bias."""
        self.inputs: Mapping[str, Tensor] = {}
        """Copies of what biases were made of."""
        self.made = torch.zeros(1, 1, 0, 1, height, LANES)
        """Biases, with room for more: see `bias_values`."""
        self.count = 0
        self.lock = Lock()

    @property
    def size(self) -> int:
        """The numbers that all biases take."""
        return len(self.numbers) * self.height * LANES * self.pairs.heads * len(self.pairs.module.PAIR_TERMS)

    def number(self, tokens: PanelTokens) -> Array:
        """The number of the bias of each panel."""
        of_panels = [_hashes(self.pairs, PanelTokens(*some)) for some in in_batches(*tokens)]
        different, first, number = np.unique(np.concatenate([np.zeros(0, np.uint64), *of_panels]), True, True)
        with self.lock:
            new = [at for at, each in zip(first.tolist(), different.tolist(), strict=True) if each not in self.numbers]
            self.tokens = PanelTokens(*(np.concatenate([x, y[new]]) for x, y in zip(self.tokens, tokens, strict=True)))
            numbers = [self.numbers.setdefault(each, len(self.numbers)) for each in different.tolist()]
            return np.array(numbers, np.int64)[number]

    def values(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """All biases that have numbers; made anew where what they read has changed."""
        read = {name: inputs[name] for name in self.pairs.module.PAIR_READS if name in inputs}
        with self.lock:
            changed = not all(_are_same(x, self.inputs.get(name)) for name, x in read.items())
            if changed or self.count < len(self.numbers):
                with in_no_mode():
                    self._make(0 if changed else self.count, {name: x.clone() for name, x in read.items()})
            return self.made

    def _make(self, kept: int, inputs: Mapping[str, Tensor]) -> None:
        """Makes all but the first ones. What was given out before is not changed."""
        new = bias_values(self.pairs, PanelTokens(*(x[kept:] for x in self.tokens)), inputs)
        self.inputs, self.count = inputs, len(self.numbers)
        if not kept or self.made.shape[2] < self.count:
            room = self.count if not kept else 2 * self.count
            made = new.new_empty(*new.shape[:2], room, *new.shape[3:])
            if kept:
                made[:, :, :kept] = self.made[:, :, :kept]
            self.made = made
        self.made[:, :, kept : self.count] = new


def _are_same(x: Tensor, before: Tensor | None) -> bool:
    return before is not None and x.dtype == before.dtype and torch.equal(x, before)
