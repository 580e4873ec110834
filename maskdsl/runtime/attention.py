"""The callable: checks, layout and dispatch. Everything that computes is in the generated module of its backend."""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from maskdsl.diagnostics import AttnError
from maskdsl.errors import call as errors
from maskdsl.ir.mask import DimensionKind, Input, MaskIR
from maskdsl.ir.ops import Type
from maskdsl.plan import KernelPlan
from maskdsl.runtime.backends import BACKENDS, Backend, Call
from maskdsl.runtime.checks import check_inputs, check_tensors
from maskdsl.runtime.modules import load_module


class Attention:
    """A compiled pattern: `attention(q, k, v, **inputs)`. Holds no parameters; computes where `q` is."""

    def __init__(self, plan: KernelPlan, backend: str) -> None:
        self.plan = plan
        self.backend = backend
        self.source = BACKENDS[backend].emit(plan)

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
        check_tensors(self.plan, q, k, v)
        given = check_inputs(self.mask, inputs, q)
        if layout not in ("declared", "ordered"):
            raise AttnError(errors.UnknownLayout(name=layout))
        self.check_backward({"q": q, "k": k, "v": v, **given})
        call = Call(self, self.module, given, self.values(given), return_lse)
        out, lse = self.implementation.run(call, q, k, v)
        if not return_lse:
            return out
        assert lse is not None
        return out, lse

    def check_backward(self, tensors: dict[str, Tensor]) -> None:
        if self.implementation.has_backward or not torch.is_grad_enabled():
            return
        for name, tensor in tensors.items():
            if tensor.requires_grad:
                raise AttnError(errors.NoBackward(backend=self.backend, name=name))

    def values(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        """What generated torch modules take by name."""
        names = self.plan.input_identifiers
        return {names[each.name]: normal(each, given[each.name]) for each in self.mask.inputs}

    def __repr__(self) -> str:
        return f"Attention({self.mask.name}, backend={self.backend!r})"


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
