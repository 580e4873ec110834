"""`BranchedState`: the routing state of a pattern with branches, one state for each branch that has routes."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from maskdsl.base.arguments import TensorLayout
from maskdsl.runtime.compiled.compiled_mask import Bound
from maskdsl.runtime.routing.routing_state import RoutingState


class BranchedState(RoutingState):
    """A `RoutingState` of the attentions that add up to that of a pattern with branches."""

    def __init__(self, compiled: Bound, batch: int, layout: TensorLayout = "bhnd") -> None:
        self._compiled, self._layout = compiled, layout
        bounds = [each.bound(0, 0) for each in compiled.summands.masks]
        states = (RoutingState(each, batch, layout) if each.signature.is_routed else None for each in bounds)
        self._summands = tuple(states)

    @property
    def lengths(self) -> Tensor:  # type: ignore[override]
        """int64 [batch] on the host: the number of keys of each entry that have been added to all summands."""
        return torch.stack([each.lengths for each in self._routed]).amin(0)

    @property
    def _routed(self) -> list[RoutingState]:
        return [each for each in self._summands if each is not None]

    def append(self, k: Tensor, lengths: object = None, **inputs: Any) -> None:
        for each in self._routed:
            each.append(k, lengths, **self._read_by(each, inputs))

    def update(self, k: Tensor, key_lengths: object = None, page_table: object = None, **inputs: Any) -> None:
        for each in self._routed:
            each.update(k, key_lengths, page_table, **self._read_by(each, inputs))

    def truncate(self, lengths: object) -> None:
        for each in self._routed:
            each.truncate(lengths)

    def reorder(self, entries: object) -> None:
        for each in self._routed:
            each.reorder(entries)

    def clone(self) -> "BranchedState":
        other = BranchedState(self._compiled, 0, self._layout)
        other._summands = tuple(each and each.clone() for each in self._summands)
        return other

    def __getstate__(self) -> tuple[object, ...]:
        return self._compiled, self._layout, self._summands

    def __setstate__(self, kept: Sequence[Any]) -> None:
        self._compiled, self._layout, self._summands = kept

    def _read_by(self, state: RoutingState, inputs: dict[str, Any]) -> dict[str, Any]:
        """Those that a summand reads, and those that no summand knows, which it reports."""
        others = self._compiled.signature.inputs.keys() - state._compiled.signature.inputs.keys()
        return {name: value for name, value in inputs.items() if name not in others}
