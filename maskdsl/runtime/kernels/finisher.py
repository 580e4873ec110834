"""What follows attention in each query, in torch: the generated module of sinks and factors, on a call's tensors."""

from collections.abc import Sequence
from functools import cached_property
from types import ModuleType
from typing import NamedTuple

from torch import Tensor

from maskdsl.emit.plan import KernelPlan, declared_plan
from maskdsl.emit.torch.finish_module import emit_finish
from maskdsl.runtime.base.call_cache import CallState
from maskdsl.runtime.base.input_tensors import as_value
from maskdsl.runtime.base.module_cache import load_module


class QueryRows(NamedTuple):
    """Where the queries of a call are: integers that broadcast to [batch, heads, queries]."""

    entries: Tensor
    """The batch entry of the inputs."""
    positions: Tensor
    """The declared position."""


class Finisher:
    """Applies the sinks and the factor of a mask. Torch differentiates what it does."""

    def __init__(self, plan: KernelPlan) -> None:
        self.plan = declared_plan(plan)
        self.state = CallState(self.plan, {}, 1)

    @cached_property
    def source(self) -> str:
        """The text of the generated module."""
        return emit_finish(self.plan)

    @property
    def module(self) -> ModuleType:
        """The generated module, loaded."""
        return load_module(self.source, f"{self.plan.mask.name}_finish")

    def finished(
        self, out: Tensor, lse: Tensor, inputs: Sequence[Tensor], rows: QueryRows | None
    ) -> tuple[Tensor, Tensor]:
        """The results with sinks and factor, of results over keys alone; `inputs` are those that callers give.

        Without `rows` all queries come in declared order.
        """
        names = self.plan.input_identifiers
        values = {names[each.name]: as_value(each, x) for each, x in zip(self.plan.mask.passed, inputs, strict=True)}
        results: tuple[Tensor, Tensor] = self.module.finished(
            out, lse, {**values, **self.state.curves(out.device)}, rows
        )
        return results
