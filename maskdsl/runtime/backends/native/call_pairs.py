"""What the pairs of a call read, for any panels of its keys: arguments of the functions of its generated module."""

from collections.abc import Mapping, Set
from typing import Any

import torch
from torch import Tensor

from maskdsl.runtime.backends.native.panel_lists import PanelTokens
from maskdsl.runtime.base.call import KernelCall


class CallPairs:
    """The coordinates of a call in laid-out order, `queries` and `keys` [batch or 1, heads or 1, tokens]."""

    def __init__(self, call: KernelCall, batch: int, heads: int) -> None:
        self.module, self.batch, self.heads = call.module, batch, heads
        q = torch.zeros(1).expand(batch, heads, call.plan.mask.queries.length, 1)
        k = torch.zeros(1).expand(batch, 1, call.plan.mask.keys.length, 1)
        problem = call.module.problem_of(q, k, k, call.values, [], None, heads, None, call.layout)
        self.queries: Mapping[str, Tensor] = problem.queries
        self.keys: Mapping[str, Tensor] = problem.keys

    def variation(self, read: Set[str]) -> tuple[bool, bool]:
        """Whether what these parameters stand for differs between batch entries, and between heads."""
        shapes = [x.shape for name, x in self.queries.items() if f"q_{name}" in read]
        shapes += [x.shape for name, x in self.keys.items() if f"k_{name}" in read]
        by_batch, by_head = (any(each[axis] > 1 for each in shapes) for axis in (0, 1))
        return "batch" in read or by_batch, "head" in read or by_head

    def values(self, tokens: PanelTokens, batch: int, heads: slice, inputs: Mapping[str, Tensor]) -> dict[str, Any]:
        """The arguments of pair functions for panels of rows, which broadcast to [panels, heads, queries, keys]."""
        queries, keys = map(torch.from_numpy, tokens)
        return {
            **inputs,
            **{f"q_{name}": _taken(x, batch, heads, queries).unsqueeze(-1) for name, x in self.queries.items()},
            **{f"k_{name}": _taken(x, batch, heads, keys).unsqueeze(-2) for name, x in self.keys.items()},
            "head": torch.arange(self.heads)[heads].view(1, -1, 1, 1),
            "batch": torch.tensor(batch).view(1, 1, 1, 1),
        }


def _taken(x: Tensor, batch: int, heads: slice, tokens: Tensor) -> Tensor:
    """Values [batch or 1, heads or 1, tokens] of tokens [panels, n]: [panels, heads or 1, n]."""
    of_entry = x[min(batch, x.shape[0] - 1)]
    return (of_entry[heads] if len(of_entry) > 1 else of_entry)[:, tokens].transpose(0, 1)
