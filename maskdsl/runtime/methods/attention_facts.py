"""A compiled pattern as a torch module: what is known of it. How it is called stands in `runtime/base_attention.py`."""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from maskdsl.base.arguments import TensorLayout
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.normalization import WrongDropout
from maskdsl.base.errors.calls.selection import OtherState
from maskdsl.base.source import Span
from maskdsl.ir.declared.inputs import Input
from maskdsl.ir.mask import Normalize
from maskdsl.runtime.base.tokens_first import TokensFirst
from maskdsl.runtime.calls.summand import CallOptions, Summand, sum_of
from maskdsl.runtime.compiled.compiled_mask import CompiledMask, register
from maskdsl.runtime.routing.branched_state import BranchedState
from maskdsl.runtime.routing.routing_state import RoutingState
from maskdsl.runtime.torch_ops.dropped_mask import dropout_inputs

_HELD = ("_handle", "_signature", "_single", "_signatures", "_summands", "_dropping", "_of_branch", "_branches")
"""The attributes that are made anew from the compiled mask."""


class AttentionModule(nn.Module):
    """A compiled pattern as a torch module without parameters: `attention(q, k, v, **inputs)`, on the device of `q`.

    It adds nothing to a `state_dict`; `to`, `half` and `train` do not change it. Copies and unpickled ones are the same
    attention, with one handle.
    """

    _dropping: "tuple[AttentionModule, ...]"
    """The attention that computes calls with dropout; none of one that does so itself."""

    def __init__(self, compiled: CompiledMask, tokens_first: TokensFirst | None = None) -> None:
        super().__init__()
        self._tokens_first = tokens_first
        self._hold(compiled)

    def _hold(self, compiled: CompiledMask) -> None:
        """Registers the mask, and copies what a call needs to attributes, which `torch.compile` can read."""
        self._compiled = register(compiled)
        self._handle = compiled.handle
        self._signature = compiled.signature
        self._single = Summand(compiled)
        branches, inputs = compiled.summands, tuple(compiled.signature.inputs)
        summands = [Summand(each) for each in branches.masks]
        self._summands = tuple((each, tuple(map(inputs.index, each.signature.inputs))) for each in summands)
        """What adds up, and the numbers of the inputs that each takes; none without branches."""
        self._signatures = tuple(each.signature for each in summands) or (self._signature,)
        """Of each of them, or of the only one."""
        self._of_branch = branches.of_branch
        self._branches = branches.names

    @property
    def name(self) -> str:
        """The pattern's name."""
        return self._signature.pattern

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the inputs that a call takes, in the order of declaration."""
        return tuple(self._signature.inputs)

    @property
    def declared_inputs(self) -> tuple[Input, ...]:
        """The declarations of `inputs`. Sizes of token dimensions are None where lengths follow each call's tensors."""
        return self._signature.declared

    @property
    def branches(self) -> tuple[str, ...]:
        """The names of the pattern's branches, in the order of their log-sum-exps; none without branches."""
        return self._branches

    @property
    def multiplies(self) -> bool:
        """Whether it multiplies queries or keys beside the products of the two that its scores begin with.

        As vectors in scores, values and routes do; true of every pattern with routes.
        """
        return any(each.multiplies or each.is_routed for each in self._signatures)

    @property
    def has_lse(self) -> bool:
        """Whether calls can return a log-sum-exp: each branch, or the pattern, has one softmax for each query."""
        return all(each.normalize is Normalize.BY_QUERY for each in self._signatures)

    @property
    def layout(self) -> TensorLayout:
        """ "bhnd" for tensors [batch, heads, tokens, dim], "bnhd" for [batch, tokens, heads, dim]."""
        return "bhnd" if self._tokens_first is None else "bnhd"

    @property
    def span(self) -> Span | None:
        """The pattern's declaration in its file, to which errors point."""
        return self._signature.span

    def _added(
        self, q: Tensor, k: Tensor, v: Tensor, inputs: list[Tensor], options: CallOptions
    ) -> tuple[Tensor, list[Tensor]]:
        """The output, the sum of those of all summands, and the log-sum-exp of each summand."""
        states = self._states(options.state)
        results = [
            summand.attended(q, k, v, [inputs[each] for each in wanted], options._replace(state=state))
            for (summand, wanted), state in zip(self._summands, states, strict=True)
        ]
        return sum_of([out for out, _ in results]), [lse for _, lse in results]

    def _dropped(
        self, method: str, tensors: Sequence[Any], dropout_p: float, seed: int | Tensor | None, named: dict[str, Any]
    ) -> Any:
        """A call with dropout, by the attention that drops pairs."""
        if named.get("routing_state") is not None:
            expected = "none beside `dropout_p`"
            raise AttnError(WrongDropout(what="routing_state", found="given", expected=expected))
        device = tensors[0].device if isinstance(tensors[0], Tensor) else torch.device("cpu")
        call = getattr(self._dropping[0], method)
        return call(*tensors, **named, **dropout_inputs(dropout_p, seed, device))

    def _states(self, state: RoutingState | None) -> Sequence[RoutingState | None]:
        """The routing state of each summand, if it has routes."""
        if state is None:
            return [None] * len(self._summands)
        if state._compiled.handle != self._handle:
            pattern, other = self.name, state._compiled.signature.pattern
            raise AttnError(OtherState(pattern=pattern, other=other, span=self.span))
        return state._summands if isinstance(state, BranchedState) else [None] * len(self._summands)

    def _of_branches(self, lses: list[Tensor], dim: int) -> Tensor:
        """The log-sum-exp: of the only summand; of a pattern with branches, of each branch along a dimension."""
        return torch.stack([lses[summand] for summand in self._of_branch], dim) if self._summands else lses[0]

    def _sum_of(self, results: list[tuple[Tensor, Tensor]], dim: int) -> tuple[Tensor, Tensor]:
        """The output and the log-sum-exp of the results of all summands."""
        return sum_of([out for out, _ in results]), self._of_branches([lse for _, lse in results], dim)

    def _pooled_axes(self, axes: tuple[int, ...], k: Tensor, out: Tensor) -> tuple[int, ...]:
        """The axes of the results where queries with these axes are pooled: those of a single pooled space."""
        spaces = self._compiled.bound(prod(axes), k.shape[2]).plan.mask.queries.spaces if len(axes) > 1 else ()
        return spaces[0].lengths if len(spaces) == 1 else (out.shape[2],)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in _HELD}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._hold(self._compiled)
