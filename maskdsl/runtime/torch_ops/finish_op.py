"""The operator `maskdsl::finish`: sinks and factors, which follow attention over the keys, as one node of a graph.

Its backward pass computes them again: they cost little beside attention.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import _SingleLevelFunction
from torch.compiler import is_compiling

from maskdsl.runtime.base.packed_tokens import packed_queries
from maskdsl.runtime.base.recording import recording
from maskdsl.runtime.compiled_mask import Bound, CompiledMask, find
from maskdsl.runtime.kernels.finisher import QueryRows
from maskdsl.runtime.torch_ops.attention_op import (
    LIBRARY,
    BackwardFunction,
    below_autograd,
    needs_recording,
    single_level,
)
from maskdsl.runtime.torch_ops.gather_ops import entry_by_entry

Results = tuple[Tensor, Tensor]


def finished(
    compiled: CompiledMask,
    results: Results,
    inputs: Sequence[Tensor],
    lengths: Sequence[int],
    layout: str = "declared",
    starts: Sequence[Tensor | None] = (),
) -> Results:
    """The output and log-sum-exp with sinks and factor, of those over keys alone.

    `inputs` are those that callers give, `lengths` the numbers of queries and keys of the call. `starts` say which
    queries it has: nothing for all of them; `query_start`; or `cu_seqlens_q`, `cu_seqlens_k` and `query_start` of
    packed sequences.
    """
    if not compiled.signature.may_finish:
        return results
    out, lse = results
    if not is_compiling() and not starts and not compiled.bound(*lengths).plan.mask.query_values:
        return results
    out, lse = _FINISH(out, lse, inputs, starts, lengths, compiled.handle, layout)
    return out, lse


def _finish(
    out: Tensor,
    lse: Tensor,
    inputs: Sequence[Tensor] | None,
    starts: Sequence[Tensor | None],
    lengths: Sequence[int],
    handle: str,
    layout: str,
) -> Results:
    """The kernel of `maskdsl::finish`."""
    inputs = inputs or ()
    compiled = find(handle)
    if len(starts) > 1:
        ends, key_ends, _ = starts
        assert ends is not None and key_ends is not None
        bound = compiled.bound_to_longest(ends, key_ends)
    else:
        bound = compiled.bound(*lengths)
    if not bound.plan.mask.query_values or not out.numel():
        return out.clone(), lse.clone()
    given, rows = lse, _rows(bound, out, inputs, starts, layout)
    out, lse = bound.finisher.finished(out, given, inputs, rows)
    return out, lse.clone() if lse is given else lse  # operators return none of their arguments


def _rows(
    bound: Bound, out: Tensor, inputs: Sequence[Tensor], starts: Sequence[Tensor | None], layout: str
) -> QueryRows | None:
    """The declared positions of the queries of a call; None for all of them in declared order."""
    entries = torch.arange(len(out), device=out.device)[:, None, None]
    if not starts:
        positions = None if layout == "declared" else _laid_out_queries(bound, out, inputs)
        return None if positions is None else QueryRows(entries, positions)
    if len(starts) == 1:
        (first,) = starts
        assert first is not None
        positions = first.long().expand(len(out))[:, None, None] + torch.arange(out.shape[2], device=out.device)
        return QueryRows(entries, positions.clamp(0, bound.plan.mask.queries.length - 1))
    entry, position = packed_queries(bound.plan.mask, starts, out.shape[2])
    return QueryRows(entry[None, None], position[None, None])


def _laid_out_queries(bound: Bound, out: Tensor, inputs: Sequence[Tensor]) -> Tensor | None:
    """Declared positions of queries in laid-out order; None if they lie as declared. Inputs that decide it are read."""
    plan = bound.plan
    given = dict(zip((each.name for each in plan.mask.passed), inputs, strict=True))
    on_host = {name: given[name] for name in plan.tile_inputs}
    return bound.states.find(plan, on_host, len(out)).layout(out.device)[0]


def _finish_backward(*arguments: Any) -> list[Tensor]:
    """The kernel of `maskdsl::finish_backward`."""
    out, lse, grad_out, grad_lse, inputs, starts, lengths, handle, layout, needs = arguments
    leaves = [x.detach().requires_grad_(need) for x, need in zip((out, lse, *(inputs or ())), needs, strict=True)]
    with torch.enable_grad(), recording():
        results = _finish(leaves[0], leaves[1], leaves[2:], starts, lengths, handle, layout)
        wanted = [x for x in leaves if x.requires_grad]
        ends = [(x, grad) for x, grad in zip(results, (grad_out, grad_lse), strict=True) if x.requires_grad]
        values, grads = zip(*ends, strict=True)
        grads = torch.autograd.grad(values, wanted, grads, materialize_grads=True)
    return [each.contiguous() for each in grads]


def _fake(out: Tensor, lse: Tensor, *others: Any) -> Results:
    return torch.empty_like(out), torch.empty_like(lse)


def _fake_backward(*arguments: Any) -> list[Tensor]:
    out, lse, _, _, inputs, *_, needs = arguments
    return [x.new_empty(x.shape) for x, need in zip((out, lse, *inputs), needs, strict=True) if need]


class _FinishFunction(_SingleLevelFunction):
    """The autograd function of `maskdsl::finish`."""

    @staticmethod
    def forward(
        starts: Sequence[Tensor | None], options: tuple[Any, ...], out: Tensor, lse: Tensor, *inputs: Tensor
    ) -> Results:
        out, lse = below_autograd(_FINISH, out, lse, inputs, starts, *options)
        return out, lse

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Results) -> None:
        starts, ctx.options, *tensors = inputs
        ctx.given = [each is not None for each in starts]
        ctx.save_for_backward(*tensors, *(each for each in starts if each is not None))

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor, grad_lse: Tensor) -> tuple[Tensor | None, ...]:
        needs = [*ctx.needs_input_grad[2:]]
        saved = ctx.saved_tensors
        (out, lse, *inputs), given = saved[: len(needs)], iter(saved[len(needs) :])
        starts = [next(given) if each else None for each in ctx.given]
        computed = iter(_FINISH_BACKWARD(out, lse, grad_out, grad_lse, inputs, starts, *ctx.options, needs))
        return None, None, *(next(computed) if need else None for need in needs)


def _recorded(
    out: Tensor, lse: Tensor, inputs: Sequence[Tensor] | None, starts: Sequence[Tensor | None], *options: Any
) -> Any:
    """The autograd kernel of `maskdsl::finish`."""
    inputs = inputs or ()
    if not needs_recording(out, lse, *inputs):
        return below_autograd(_FINISH, out, lse, inputs, starts, *options)
    with single_level():
        return _FinishFunction.apply(starts, options, out, lse, *inputs)  # type: ignore[attr-defined]


def _recorded_backward(*arguments: Any) -> Any:
    """The autograd kernel of `maskdsl::finish_backward`."""
    *tensors, inputs, starts, lengths, handle, layout, needs = arguments
    inputs = inputs or ()

    def compute(*tensors: Tensor) -> list[Tensor]:
        options = starts, lengths, handle, layout, needs
        grads: list[Tensor] = below_autograd(_FINISH_BACKWARD, *tensors[:4], tensors[4:], *options)
        return grads

    if not needs_recording(*tensors, *inputs):
        return compute(*tensors, *inputs)
    with single_level():
        return list(BackwardFunction.apply(compute, *tensors, *inputs))  # type: ignore[attr-defined]


_OPTIONS = "Tensor[] inputs, Tensor?[] starts, SymInt[] lengths, str handle, str layout"
_TAGS = (torch.Tag.pt2_compliant_tag,)
LIBRARY.define(f"finish(Tensor out, Tensor lse, {_OPTIONS}) -> (Tensor out, Tensor lse)", tags=_TAGS)
LIBRARY.define(
    f"finish_backward(Tensor out, Tensor lse, Tensor grad_out, Tensor grad_lse, {_OPTIONS}, bool[] needs) -> Tensor[]",
    tags=_TAGS,
)
_FINISH = torch.ops.maskdsl.finish.default
_FINISH_BACKWARD = torch.ops.maskdsl.finish_backward.default
LIBRARY.impl("finish", _finish, "CompositeExplicitAutograd")
LIBRARY.impl("finish", _recorded, "Autograd")
LIBRARY.impl("finish_backward", _finish_backward, "CompositeExplicitAutograd")
LIBRARY.impl("finish_backward", _recorded_backward, "Autograd")
torch.library.register_fake("maskdsl::finish", _fake, lib=LIBRARY)
torch.library.register_fake("maskdsl::finish_backward", _fake_backward, lib=LIBRARY)
torch.library.register_vmap("maskdsl::finish", entry_by_entry(_FINISH))
torch.library.register_vmap("maskdsl::finish_backward", entry_by_entry(_FINISH_BACKWARD))
