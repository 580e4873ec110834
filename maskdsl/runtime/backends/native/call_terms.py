"""What the scores of a call read beside products, as arrays of the kernel in C, and back from gradients to inputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from maskdsl.ir.expressions import PAIR, Read, Side, walk
from maskdsl.ir.rewrites.branches import BOUNDED, derivatives_are_finite
from maskdsl.runtime.backends.native.bias_panels import BiasPanels, bias_values
from maskdsl.runtime.backends.native.call_pairs import CallPairs
from maskdsl.runtime.backends.native.native_calls import set_biases
from maskdsl.runtime.backends.native.structures import LANES, CallStructure
from maskdsl.runtime.base.call import KernelCall


class TermArrays(NamedTuple):
    """Numbers of queries, of keys and of panels, or their gradients, in the order of computation; None: there are none.

    `codegen/native.c` says how they lie.
    """

    queries: Tensor | None
    keys: Tensor | None
    pairs: Tensor | None


NOTHING = TermArrays(None, None, None)


@dataclass(frozen=True, eq=False)
class CallTerms:
    """The terms of a call."""

    call: KernelCall
    pairs: CallPairs
    panels: BiasPanels | None
    """The panels of pairs; None if scores read nothing of them."""
    wanted: tuple[str, ...]
    """The values, by identifier, whose gradients are wanted."""

    @cached_property
    def values(self) -> Mapping[str, Tensor]:
        """Those of the call, of which the wanted ones are leaves."""
        values = wide(self.call.values)
        return {**values, **{name: values[name].detach().requires_grad_() for name in self.wanted}}

    @cached_property
    def _records(self) -> bool:
        """Whether biases are recorded when they are made: where no probability of 0 meets an infinite derivative."""
        plan = self.call.plan
        is_open = any(isinstance(node, Read) and node.open for each in plan.mask.scores for node in walk(each))
        is_finite = not is_open and derivatives_are_finite(plan.mask, BOUNDED)
        return bool(self.wanted) and plan.score_terms is None and is_finite

    def arrays(self) -> TermArrays:
        """The numbers of this call."""
        with torch.no_grad():
            queries, keys = (self._of_tokens(side, self.values) for side in PAIR)
        with torch.set_grad_enabled(self._records):
            pairs = None if self.panels is None else bias_values(self.pairs, self.panels.tokens, self.values)
        return TermArrays(
            torch.stack(queries, dim=-1).contiguous() if queries else None,
            torch.nn.functional.pad(torch.stack(keys, dim=2), (0, LANES)).contiguous() if keys else None,
            pairs,
        )

    def _of_tokens(
        self, side: Side, values: Mapping[str, Tensor], counted: Sequence[Tensor] | None = None
    ) -> list[Tensor]:
        """The numbers of the tokens of a side for each term: float32 [batch, heads, tokens].

        `counted` says for each term which of them have a gradient: others send none to what they read.
        """
        mask, batch, heads = self.call.plan.mask, self.pairs.batch, self.pairs.heads
        fresh = CallPairs(replace(self.call, values=values), batch, heads)
        tokens = fresh.queries if side is Side.QUERY else fresh.keys
        size = batch, heads, mask.sequences[side].length
        return _numbers(self.call, side, tokens, values, size, counted)

    def blank_gradients(self, arrays: TermArrays) -> TermArrays:
        """Zeros, to which the kernel adds."""
        shape = self.pairs.batch, self.pairs.heads
        queries, keys, pairs = arrays
        return TermArrays(
            None if queries is None else queries.new_zeros(*queries.shape, LANES),
            None if keys is None else torch.zeros_like(keys),
            None if pairs is None else pairs.new_zeros(*shape, *pairs.shape[2:]),
        )

    def gradients(self, arrays: TermArrays, grads: TermArrays) -> dict[str, Tensor]:
        """The gradients of the wanted values, by identifier."""
        values, leaves = self.values, [self.values[name] for name in self.wanted]
        ends, toward = list[Tensor](), list[Tensor]()
        with torch.enable_grad():
            if grads.queries is not None:
                toward += grads.queries.sum(dim=-1).unbind(dim=-1)
                ends += self._of_tokens(Side.QUERY, values, [x != 0 for x in toward])
            if grads.keys is not None:
                of_keys = grads.keys[..., :-LANES].unbind(dim=2)
                ends += self._of_tokens(Side.KEY, values, [x != 0 for x in of_keys])
                toward += of_keys
            if grads.pairs is not None and self.panels is not None and arrays.pairs is not None:
                of_pairs = grads.pairs.sum_to_size(arrays.pairs.shape)
                again = None if self._records else bias_values(self.pairs, self.panels.tokens, values, of_pairs != 0)
                ends.append(arrays.pairs if again is None else again)
                toward.append(of_pairs)
        counted = [(end, grad) for end, grad in zip(ends, toward, strict=True) if end.requires_grad]
        if not counted:
            return {}
        ends, toward = map(list, zip(*counted, strict=True))
        made = torch.autograd.grad(ends, leaves, toward, materialize_grads=True)
        return {name: x.to(self.call.values[name].dtype) for name, x in zip(self.wanted, made, strict=True)}


def wide(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Values in float32 instead of half of it: sums of gradients in halves would lose most of them."""
    halves = torch.float16, torch.bfloat16
    return {name: x.float() if x.dtype in halves else x for name, x in values.items()}


def some_terms(call: KernelCall, heads: int, positions: Tensor, keys: slice) -> TermArrays:
    """The numbers of queries at positions [batch, queries], and of some keys; others have any. None of pairs."""
    batch, count = positions.shape
    values, at = wide(call.values), positions[:, None]
    tokens = CallPairs(replace(call, values=values), batch, heads)
    of_queries = {name: torch.take_along_dim(x, at, dim=-1) for name, x in tokens.queries.items()}
    of_keys = {name: x[..., keys] for name, x in tokens.keys.items()}
    queries = _numbers(call, Side.QUERY, of_queries, values, (batch, heads, count))
    some = _numbers(call, Side.KEY, of_keys, values, (batch, heads, keys.stop - keys.start))
    made = torch.empty(batch, heads, len(some), call.plan.mask.keys.length + LANES) if some else None
    for number, each in enumerate(some):
        made[:, :, number, keys] = each  # type: ignore[index]
    return TermArrays(torch.stack(queries, dim=-1).contiguous() if queries else None, made, None)


def _numbers(
    call: KernelCall,
    side: Side,
    tokens: Mapping[str, Tensor],
    values: Mapping[str, Tensor],
    size: tuple[int, int, int],
    counted: Sequence[Tensor] | None = None,
) -> list[Tensor]:
    """The numbers of tokens of a side for each term: float32 of this size, [batch, heads, tokens]."""
    batch, heads, _ = size
    known: dict[str, Any] = {**values, **{f"{side.letter}_{name}": x for name, x in tokens.items()}}
    known |= {"head": torch.arange(heads)[:, None], "batch": torch.arange(batch)[:, None, None]}
    made = []
    for number, function in enumerate(getattr(call.module, f"{side.upper()}_TERMS", ())):
        read = known if counted is None else call.module.guarded(known, values, counted[number])
        made.append(function(torch.zeros(()), **read).float().expand(size))
    return made


def set_terms(made: CallStructure, arrays: TermArrays) -> None:
    """Points a structure to the terms of its call."""
    made.query_terms, made.key_terms = (None if x is None else x.data_ptr() for x in arrays[:2])
    if arrays.pairs is not None:
        set_biases(made, arrays.pairs)


def set_gradients(made: CallStructure, grads: TermArrays) -> None:
    """Points a structure to the gradients of the terms of its call."""
    made.grad_query_terms, made.grad_key_terms, made.grad_bias = (None if x is None else x.data_ptr() for x in grads)
