"""The native backend: the compiled kernel of `codegen/native.c` on a CPU, whose rows and masks the host makes.

What the kernel does not compute, torch operations over tiles do: float64, weights of keys, calls without a softmax,
scores that are more than products with a soft cap and biases, and again what is not finite.
"""

from collections.abc import Sequence
from ctypes import byref
from functools import partial
from typing import Any

import torch
from torch import Tensor

from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.backends import NoNativeLibrary
from maskdsl.emit.plan import KernelPlan, clique_plan
from maskdsl.emit.torch.tiled_module import emit_tiled
from maskdsl.ir.mask import Normalize
from maskdsl.runtime.backends.native.library import library, native_library
from maskdsl.runtime.backends.native.pair_words import CallPairs, lists_of_call
from maskdsl.runtime.backends.native.panel_lists import PanelLists
from maskdsl.runtime.backends.native.structures import LANES, LARGEST_ROW, TYPES, CallStructure, with_dims_together
from maskdsl.runtime.backends.protocol import Backend
from maskdsl.runtime.backends.tiled_backend import Tiled
from maskdsl.runtime.base.call import Attend, Gradients, KernelCall, Saved
from maskdsl.runtime.base.permute import moved

_TILED = Tiled()


class Native(Backend):
    """The compiled kernel, on a CPU."""

    name = "native"
    in_layout = True
    permutes = True
    lists_routes = True

    def emit(self, plan: KernelPlan) -> str:
        """The module of the tiled backend: its functions of pairs make the masks, and it computes what is left."""
        return emit_tiled(plan)

    def planned(self, plan: KernelPlan) -> KernelPlan:
        return clique_plan(plan)

    def computes(self, plan: KernelPlan, q: Tensor, v: Tensor) -> bool:
        """Softmax attention of products, of the types that it takes."""
        mask = plan.mask
        plain = mask.normalize is Normalize.BY_QUERY and mask.weight is None and mask.scale is None and not mask.scores
        return plain and q.device.type == "cpu" and q.dtype in TYPES

    def serves(self, plan: KernelPlan, q: Tensor, v: Tensor) -> bool:
        """Where it computes, and a compiler works."""
        return self.computes(plan, q, v) and library() is not None

    def runs_on_cpu(self) -> bool:
        return library() is not None

    def prepared(self, call: KernelCall, q: Tensor, k: Tensor, v: Tensor) -> Attend:
        functions = _functions()
        made, kept = _structure(call, q, k, v)

        def attend(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor | None]:
            q, k, v = map(with_dims_together, (q, k, v))
            here = CallStructure.from_buffer_copy(made)
            out = q.new_empty(*q.shape[:3], v.shape[3])
            lse = q.new_empty(q.shape[:3], dtype=torch.float32) if call.wants_lse else None
            for name, x in (("q", q), ("k", k), ("v", v), ("out", out)):
                here.set_tensor(name, x)
            here.lse = None if lse is None else lse.data_ptr()
            here.threads = torch.get_num_threads()
            return (out, lse) if functions.maskdsl_forward(byref(here)) == 0 else _by_tiles(call, q, k, v)

        return _keeping(attend, kept)

    def backward(self, call: KernelCall, saved: Saved, wanted: Sequence[str]) -> Gradients:
        """Recomputes scores row by row."""
        if call.plan.mask.factor is not None:
            return _gradients_by_tiles(call, saved, wanted)
        made, kept = _structure(call, saved.q, saved.k, saved.v)
        tensors = dict(zip(("q", "k", "v", "out", "grad_out"), map(with_dims_together, _five(saved)), strict=True))
        grad_q, grad_k, grad_v = (torch.empty_like(tensors[name]) for name in ("q", "k", "v"))
        for name, x in {**tensors, "grad_q": grad_q, "grad_k": grad_k, "grad_v": grad_v}.items():
            made.set_tensor(name, x)
        lse, grad_lse = saved.lse.contiguous(), saved.grad_lse.contiguous()
        made.lse, made.grad_lse, made.threads = lse.data_ptr(), grad_lse.data_ptr(), torch.get_num_threads()
        if _functions().maskdsl_backward(byref(made)):
            return _gradients_by_tiles(call, saved, wanted)
        del kept
        named = _of_sinks(call, saved, wanted)
        zeros = {name: torch.zeros_like(call.values[name]) for name in wanted if name not in named}
        return Gradients(grad_q, grad_k, grad_v, named | zeros)


def _five(saved: Saved) -> tuple[Tensor, ...]:
    return saved.q, saved.k, saved.v, saved.out, saved.grad_out


def _keeping(attend: Attend, kept: object) -> Attend:
    """The function, which keeps alive what its structure points to."""
    attend.kept = kept  # type: ignore[attr-defined]
    return attend


def _functions() -> Any:
    functions = library()
    if functions is None:
        made = native_library()
        raise AttnError(NoNativeLibrary(why=made.why_not, advice=made.advice))
    return functions


def _structure(call: KernelCall, q: Tensor, k: Tensor, v: Tensor) -> tuple[CallStructure, object]:
    """The structure of a call without its tensors, and what it points to."""
    batch, heads = q.shape[:2]
    width = call.plan.key_block
    block = min(call.plan.query_block, LARGEST_ROW), LANES if width % LANES == 0 else width

    def make() -> PanelLists:
        return lists_of_call(CallPairs(call, block, batch, heads))

    lists = call.state.keep(("panels", block, batch, heads), make)
    made = CallStructure(type=TYPES[q.dtype], fold=1, batch=batch, heads=heads, key_heads=k.shape[1])
    made.queries, made.keys, made.dim, made.value_dim = q.shape[2], k.shape[2], q.shape[3], v.shape[3]
    made.key_block, made.packs, made.scale = block[1], lists.packs, q.shape[3] ** -0.5
    made.height = lists.words.shape[1]
    kept: list[object] = [lists, *_set_query_values(made, call, q)]
    for name in ("classes", "class_rows", "rows", "runs", "words"):
        setattr(made, name, getattr(lists, name).ctypes.data)
    for name, positions in zip(("query_at", "key_at"), call.layout, strict=True):
        if call.permutes and positions is not None:
            table = call.state.keep(("int32", name), partial(positions.to, torch.int32))
            setattr(made, name, table.data_ptr())
            setattr(made, f"{name}_batch", table.stride(0) if table.shape[0] > 1 else 0)
            setattr(made, f"{name}_head", table.stride(1) if table.shape[1] > 1 else 0)
            kept.append(table)
    return made, kept


def _set_query_values(made: CallStructure, call: KernelCall, q: Tensor) -> list[Tensor]:
    """Sets the sinks and the factors of outputs."""
    values, set_ones = _query_values(call, q), list[Tensor]()
    count = len(call.plan.mask.sinks)
    if count:
        sinks = torch.stack(values[:count]).logsumexp(dim=0).expand(q.shape[:3]).contiguous().float()
        made.sinks = sinks.data_ptr()
        set_ones.append(sinks)
    if call.plan.mask.factor is not None:
        factor = values[-1].expand(q.shape[:3]).contiguous().float()
        made.factor = factor.data_ptr()
        set_ones.append(factor)
    return set_ones


def _query_values(call: KernelCall, q: Tensor) -> list[Tensor]:
    """The scores of sinks, and the factor of the output, each [batch, heads, queries], in the order of q."""
    if not call.plan.mask.query_values:
        return []
    values: list[Tensor] = call.module.query_values(q, call.values, None if call.permutes else call.layout[0])
    return values


def _of_sinks(call: KernelCall, saved: Saved, wanted: Sequence[str]) -> dict[str, Tensor]:
    """The gradients of the wanted values through the scores of sinks."""
    count = len(call.plan.mask.sinks)
    if not count or not wanted:
        return {}
    empty = saved.lse == -torch.inf
    delta = (saved.grad_out.float() * saved.out).sum(dim=-1) - saved.grad_lse
    sinks = _query_values(call, saved.q)[:count]
    grads = [((each - saved.lse).exp() * -delta).masked_fill(empty, 0) for each in sinks]
    positions = None if call.permutes else call.layout[0]
    named: dict[str, Tensor] = call.module.query_gradients(saved.q, call.values, positions, wanted, grads)
    return named


def _by_tiles(call: KernelCall, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor | None]:
    """The results of the tiled backend."""
    queries, keys = call.state.moves(q.device) if call.permutes else (None, None)
    q, k, v = moved(q, queries), moved(k, keys), moved(v, keys)
    out, lse = _TILED.prepared(call, q, k, v)(q, k, v)
    back = queries and queries.reverse
    return moved(out, back), None if lse is None else moved(lse.unsqueeze(-1), back).squeeze(-1)


def _gradients_by_tiles(call: KernelCall, saved: Saved, wanted: Sequence[str]) -> Gradients:
    queries, keys = call.state.moves(saved.q.device) if call.permutes else (None, None)
    q, out, grad_out = (moved(x, queries) for x in (saved.q, saved.out, saved.grad_out))
    lse, grad_lse = (moved(x.unsqueeze(-1), queries).squeeze(-1) for x in (saved.lse, saved.grad_lse))
    tensors = Saved(q, moved(saved.k, keys), moved(saved.v, keys), out, lse, grad_out, grad_lse)
    grads = _TILED.backward(call, tensors, wanted)
    back = queries and queries.reverse, keys and keys.reverse
    return Gradients(moved(grads.q, back[0]), moved(grads.k, back[1]), moved(grads.v, back[1]), grads.values)
