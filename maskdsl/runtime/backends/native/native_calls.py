"""Calls of the kernel in C: their structures, filled from what is known without q, k and v, and their forward pass."""

from contextlib import suppress
from ctypes import CDLL, byref
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from maskdsl.base.diagnostics import AttnError, warn
from maskdsl.base.errors.calls.backends import FilledTextRefused, NoNativeLibrary
from maskdsl.ir.expressions import Constant
from maskdsl.runtime.backends.native.chosen_rows import ChosenLists
from maskdsl.runtime.backends.native.library import library, library_of, native_library
from maskdsl.runtime.backends.native.panel_lists import PanelGrid, PanelLists
from maskdsl.runtime.backends.native.structures import CallStructure, with_dims_together
from maskdsl.runtime.base.call import KernelCall


@cache
def native_functions() -> Any:
    """The functions of the library, whose threads are torch's. Raises `NoNativeLibrary` if there is none."""
    functions = library()
    if functions is None:
        made = native_library()
        raise AttnError(NoNativeLibrary(why=made.why_not, advice=made.advice))
    return _on_pool(functions)


@cache
def filled_functions(text: str) -> Any:
    """Those of a text whose holes are filled. None where only the plain text can be compiled, with a warning (W041)."""
    made = library_of(text)
    if made.functions is None:
        warn([FilledTextRefused(why=made.why_not)])
        return None
    return _on_pool(made.functions)


def _on_pool(functions: CDLL) -> CDLL:
    with suppress(AttributeError):  # another OpenMP, or none
        functions.maskdsl_use_pool(CDLL(torch._C.__file__).GOMP_parallel)
    return functions


def structure_of(
    call: KernelCall, lists: PanelLists, grid: PanelGrid, q: Tensor, k: Tensor, v: Tensor
) -> CallStructure:
    """The structure of a call with these lists, without its tensors."""
    batch, heads, queries, dim = q.shape
    bias, scale = call.plan.score_bias, call.plan.mask.scale
    made = CallStructure(
        fold=1,
        batch=batch,
        heads=heads,
        key_heads=k.shape[1],
        queries=queries,
        keys=grid.keys,
        dim=dim,
        value_dim=v.shape[3],
        key_block=grid.width,
        packs=lists.packs,
        scale=dim**-0.5 if scale is None else scale.value if isinstance(scale, Constant) else 1,
        cap=0 if bias is None else bias.cap,
        height=lists.words.shape[1],
        threads=torch.get_num_threads(),
    )
    for name in ("classes", "class_rows", "rows", "runs", "words"):
        setattr(made, name, getattr(lists, name).ctypes.data)
    return made


def structure_of_choices(
    call: KernelCall, chosen: ChosenLists, grid: PanelGrid, q: Tensor, k: Tensor, v: Tensor
) -> CallStructure:
    """The structure of a call with a table of choices."""
    made = structure_of(call, chosen.lists, grid, q, k, v)
    made.fold = q.shape[1] // k.shape[1]
    made.segments, made.members = chosen.segments.ctypes.data, chosen.members.ctypes.data
    return made


def has_biases(call: KernelCall) -> bool:
    """Whether scores read numbers of pairs beside products."""
    if call.plan.score_terms is not None:
        return bool(call.module.PAIR_TERMS)
    return bool(call.plan.mask.scores) and not _is_zero(call.module)


def _is_zero(module: ModuleType) -> bool:
    """Whether all biases of a module are 0."""
    return not module.PAIR_READS and module.score(torch.zeros(())) == 0


def set_biases(made: CallStructure, bias: Tensor) -> None:
    """Sets biases, as `bias_values` gives them."""
    made.bias, made.biases = bias.data_ptr(), bias.shape[2]
    made.bias_batch, made.bias_head = (bias.stride(n) if bias.shape[n] > 1 else 0 for n in (0, 1))


def query_values(call: KernelCall, q: Tensor, positions: Tensor | None) -> list[Tensor]:
    """The scores of sinks, and the factor of the output, each [batch, heads, queries], in the order of q.

    `positions` are those of its queries, [batch or 1, heads or 1, queries]; None for all in declared order.
    """
    if not call.plan.mask.query_values:
        return []
    values: list[Tensor] = call.module.query_values(q, call.values, positions)
    return values


def set_query_values(made: CallStructure, call: KernelCall, q: Tensor, positions: Tensor | None) -> list[Tensor]:
    """Sets the sinks and the factors of outputs."""
    values, set_ones = query_values(call, q, positions), list[Tensor]()
    count = len(call.plan.mask.sinks)
    if count:
        sinks = values[0] if count == 1 else torch.stack(values[:count]).logsumexp(dim=0)
        set_ones.append(sinks.expand(q.shape[:3]).float().contiguous())
        made.sinks = set_ones[-1].data_ptr()
    if call.plan.mask.factor is not None:
        set_ones.append(values[-1].expand(q.shape[:3]).float().contiguous())
        made.factor = set_ones[-1].data_ptr()
    return set_ones


def blank_like(x: Tensor) -> Tensor:
    """Uninitialized, of this shape, and contiguous."""
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def blank_lse(q: Tensor) -> Tensor:
    """Memory for the log-sum-exp."""
    return q.new_empty(q.shape[:3], dtype=torch.float32)


def forward(
    functions: Any,
    made: CallStructure,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lse: Tensor | None,
    target: Tensor | None = None,
) -> Tensor | None:
    """The output of a call without its tensors, None if results are not finite; writes the log-sum-exp.

    The output is in `target`, shaped as it, if that has dims next to each other.
    """
    if not q.stride(3) == k.stride(3) == v.stride(3) == 1:
        q, k, v = map(with_dims_together, (q, k, v))
    if target is not None and target.stride(3) == 1:
        out = target
    else:
        out = blank_like(q) if q.shape[3] == v.shape[3] else q.new_empty(*q.shape[:3], v.shape[3])
    made.set_tensors(q, k, v, out)
    made.lse, made.threads = None if lse is None else lse.data_ptr(), torch.get_num_threads()
    return None if functions.maskdsl_forward(byref(made)) else out
