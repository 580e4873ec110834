"""The callable: checks, layout and dispatch. Everything that computes is in the generated module of its backend."""

import sys
from collections.abc import Callable
from functools import cached_property
from types import ModuleType
from typing import Any, TypeVar

import torch
from torch import Tensor

from maskdsl.analysis.blockmap import BlockMap
from maskdsl.diagnostics import AttnError
from maskdsl.errors import call as errors
from maskdsl.ir.mask import DimensionKind, Input, MaskIR
from maskdsl.ir.ops import Type
from maskdsl.plan import KernelPlan
from maskdsl.runtime.backends import BACKENDS, Backend
from maskdsl.runtime.call import Call
from maskdsl.runtime.checks import check_inputs, check_tensors
from maskdsl.runtime.layout import moved
from maskdsl.runtime.modules import load_module
from maskdsl.runtime.state import States
from maskdsl.runtime.triton import LARGEST_DIM, triton_version

F = TypeVar("F", bound=Callable[..., Any])


class Attention:
    """A compiled pattern: `attention(q, k, v, **inputs)`. Holds no parameters; computes where `q` is."""

    def __init__(self, plan: KernelPlan, backend: str) -> None:
        self.plan = plan
        self.backend = backend
        self.states = States()

    @cached_property
    def source(self) -> str:
        """The text of the generated module."""
        return self.implementation.emit(self.plan)

    @property
    def mask(self) -> MaskIR:
        return self.plan.mask

    @property
    def implementation(self) -> Backend:
        return BACKENDS[self.backend]

    @property
    def module(self) -> ModuleType:
        """The generated module, loaded."""
        return load_module(self.source, f"{self.mask.name}_{self.backend}")

    def __call__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        return_lse: bool = False,
        layout: str = "declared",
        **inputs: Any,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attention over [batch, heads, tokens, head dim]; heads of k and v may divide those of q.

        `return_lse` adds the natural log-sum-exp of each query's final scores, [batch, heads, tokens]. With
        `layout="ordered"` q, k, v and the results are in the order that the pattern lays tokens out in; inputs are
        always in declared order.
        """
        return outside_compiler(Attention.run)(self, q, k, v, inputs, return_lse, layout)

    def run(
        self, q: Tensor, k: Tensor, v: Tensor, inputs: dict[str, Any], return_lse: bool, layout: str
    ) -> Tensor | tuple[Tensor, Tensor]:
        """A call, its inputs by name."""
        check_tensors(self.plan, q, k, v)
        given = check_inputs(self.mask, inputs, q)
        if layout not in ("declared", "ordered"):
            raise AttnError(errors.UnknownLayout(name=layout))
        if not q.shape[0]:
            return nothing(q, v, return_lse)
        call = self.call(given, q, return_lse)
        own = "ordered" if self.implementation.in_layout else "declared"
        queries, keys = (None, None) if layout == own else call.state.moves(q.device, own)
        if keys is not None and keys.places.shape[1] > k.shape[1]:
            k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
        with torch.autocast(q.device.type, enabled=False):
            out, lse = self.implementation.run(call, moved(q, queries), moved(k, keys), moved(v, keys))
        back = None if queries is None else queries.reverse
        out = moved(out, back)
        if not return_lse:
            return out
        assert lse is not None
        return out, moved(lse.unsqueeze(-1), back).squeeze(-1)

    def call(self, given: dict[str, Tensor], q: Tensor, wants_lse: bool) -> Call:
        state = self.states.find(self.plan, given, q.shape[0])
        values = {**self.values(given), **state.curves(q.device)}
        return Call(self.plan, self.module, given, values, wants_lse, state, state.layout(q.device))

    def tiles(self, **inputs: Any) -> BlockMap:
        """The block map that a call with these inputs works on."""
        tensors = {name: torch.as_tensor(value) for name, value in inputs.items()}
        kinds = {each.name: [dimension.kind for dimension in each.dimensions] for each in self.mask.inputs}
        sizes = [
            tensors[name].shape[kinds[name].index(DimensionKind.BATCH)]
            for name in self.plan.tile_inputs
            if DimensionKind.BATCH in kinds[name]
        ]
        state = self.states.find(self.plan, tensors, max(sizes, default=1))
        return state.tiles((self.plan.query_block, self.plan.key_block))

    def values(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        """What generated torch modules take by name."""
        names = self.plan.input_identifiers
        return {names[each.name]: normal(each, given[each.name]) for each in self.mask.inputs}

    def __getstate__(self) -> dict[str, Any]:
        return {"plan": self.plan, "backend": self.backend}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, states=States())

    def __repr__(self) -> str:
        return f"Attention({self.mask.name}, backend={self.backend!r})"


class Automatic(Attention):
    """Triton kernels for calls on a GPU that they can serve, the tiled backend for all others."""

    def __init__(self, plan: KernelPlan) -> None:
        super().__init__(plan, "tiled")

    @cached_property
    def kernels(self) -> Attention:
        return Attention(self.plan, "triton")

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor | tuple[Tensor, Tensor]:
        """See `Attention`."""
        if kernels_serve(q, k, v):
            return self.kernels(q, k, v, **options)
        return super().__call__(q, k, v, **options)


def kernels_serve(q: object, *others: object) -> bool:
    """Whether q is on a GPU, and all are of a type and head dim that kernels compute well."""
    if not isinstance(q, Tensor) or q.device.type != "cuda" or q.dtype == torch.float64 or not triton_version():
        return False
    tensors = [each for each in (q, *others) if isinstance(each, Tensor)]
    return not any(each.shape[-1] > LARGEST_DIM for each in tensors if each.dim())


def outside_compiler(function: F) -> F:
    """The function, left alone by `torch.compile`: a break in its graph. Whoever compiles has imported its module."""
    dynamo = sys.modules.get("torch._dynamo")
    return function if dynamo is None else dynamo.disable(function)


def normal(declared: Input, tensor: Tensor) -> Tensor:
    """Integers as int64; one value a token as [batch or 1, heads or 1, tokens]."""
    if declared.type is Type.INT:
        tensor = tensor.long()
    if not declared.is_coordinate:
        return tensor
    kinds = [dimension.kind for dimension in declared.dimensions]
    wanted = (DimensionKind.BATCH, DimensionKind.HEADS, DimensionKind.TOKENS)
    tensor = tensor.permute([kinds.index(kind) for kind in wanted if kind in kinds])
    for axis, kind in enumerate(wanted):
        if kind not in kinds:
            tensor = tensor.unsqueeze(axis)
    return tensor


def nothing(q: Tensor, v: Tensor, return_lse: bool) -> Tensor | tuple[Tensor, Tensor]:
    """The results for a batch without entries; gradients may be asked for."""
    lse = q.sum(dim=-1, dtype=torch.promote_types(q.dtype, torch.float32))
    out = (lse.unsqueeze(-1) + v.sum(dim=(1, 2), keepdim=True)).to(q.dtype)
    return (out, lse) if return_lse else out
