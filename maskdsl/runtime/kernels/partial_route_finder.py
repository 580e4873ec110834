"""Computes routed inputs for partial calls: decoding, chunked prefill, packed sequences."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType

import torch
from torch import Tensor

from maskdsl.base.diagnostics import AttnError
from maskdsl.emit.plan import KernelPlan
from maskdsl.ir.declared.inputs import DimensionKind, Input
from maskdsl.ir.expressions import Side
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.routes import Draw, OfInputs, Scored
from maskdsl.runtime.base.call_cache import CallStates
from maskdsl.runtime.base.input_tensors import as_given, as_value
from maskdsl.runtime.kernels.call_queries import Queries
from maskdsl.runtime.kernels.grouped_tokens import Grouped
from maskdsl.runtime.kernels.key_summaries import Summaries, sum_type
from maskdsl.runtime.kernels.partial_selection import PartialCall
from maskdsl.runtime.kernels.route_finder import RouteFinder, dtype_of


@dataclass(frozen=True, eq=False)
class PartialRouteFinder:
    """Computes the routed inputs of partial calls, for a mask made by `by_row`."""

    finder: RouteFinder
    coordinates: Mapping[str, str]
    """The module's identifiers of coordinates, by declared name."""

    @staticmethod
    def of(plan: KernelPlan) -> "PartialRouteFinder":
        """For a plan whose mask was made by `by_row`."""
        return PartialRouteFinder(RouteFinder.of(plan, CallStates()), plan.identifiers)

    @property
    def mask(self) -> MaskIR:
        return self.finder.mask

    @property
    def names(self) -> Mapping[str, str]:
        """The module's identifiers of the inputs, by declared name."""
        return self.finder.names

    @property
    def module(self) -> ModuleType:
        return self.finder.module

    @cached_property
    def sides(self) -> dict[tuple[str, Side], Grouped]:
        """Both sides of every route, by the route's name."""
        routes = [each for each in self.mask.routed if isinstance(each, Scored)]
        return {
            (each.name, side): Grouped(self.mask, self.names, self.coordinates, self.module, each, side)
            for each in routes
            for side in (Side.QUERY, Side.KEY)
        }

    def summaries(self) -> Summaries:
        """Empty summaries."""
        keys = {name: each for (name, side), each in self.sides.items() if side is Side.KEY}
        return Summaries(self.mask, self.names, self.module, keys)

    @property
    def given(self) -> tuple[Input, ...]:
        """The inputs that callers give: all given ones but the last, the position of the first query."""
        return self.mask.passed[:-1]

    def values(self, batch: int, device: torch.device, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        """The values that generated functions read, from the given inputs in declared order. Computes ranks."""
        names, heads = self.names, self.mask.heads
        values = {names[each.name]: as_value(each, x) for each, x in zip(self.given, inputs, strict=True)}
        values |= self.finder.curves(device)
        values["batch"] = torch.arange(batch, device=device)[:, None, None]
        values["head"] = torch.arange(heads, device=device)[:, None]
        nothing = torch.empty(batch, heads, 0, 0, device=device)
        values |= {names[name]: x for name, x in self.finder.draws(device).items()}
        for each in self.mask.routed:
            if isinstance(each, OfInputs) and not isinstance(each, Draw):
                try:
                    values[names[each.name]] = getattr(self.module, f"find_{names[each.name]}")(
                        nothing, nothing, values
                    )
                except self.module.OutsideGroups as error:
                    raise AttnError(self.finder.out_of_range(*error.args)) from None
        return values

    def find(
        self,
        q: Tensor,
        queries: Queries,
        summaries: Summaries,
        room: int,
        keys: Callable[[], Tensor],
        inputs: Sequence[Tensor],
    ) -> list[Tensor]:
        """All inputs that callers do not give, in the order of the mask. See `PartialCall` for the arguments."""
        if not q.shape[0] or not q.shape[2]:
            return [each.zero_() for each in self.blank(q)]
        names, start = self.names, self.mask.inputs[-1]
        values = self.values(len(q), q.device, inputs)
        values[names[start.name]] = queries.starts
        wide = q.detach().to(sum_type(q))
        call = PartialCall(self.mask, self.module, self.sides, wide, queries, summaries, room, keys, values, names)
        for each in self.mask.routed:
            if not isinstance(each, OfInputs):
                values[names[each.name]] = call.routed(each)
        return [as_given(each, values[names[each.name]]).contiguous() for each in self.wanted]

    @property
    def wanted(self) -> list[Input]:
        """The inputs that callers do not give, in the order of the mask."""
        return [each for each in self.mask.inputs if each not in self.given]

    def blank(self, q: Tensor) -> list[Tensor]:
        """Uninitialized tensors with the shapes and dtypes of the results of `find`."""
        sizes, lists = {DimensionKind.BATCH: q.shape[0], DimensionKind.FREE: q.shape[2]}, self.finder.lists
        shapes = [
            lists[each.name].shape
            if each.name in lists
            else [sizes.get(axis.kind, axis.size or 0) for axis in each.dimensions]
            for each in self.wanted
        ]
        pairs = zip(self.wanted, shapes, strict=True)
        return [q.new_empty(shape, dtype=dtype_of(each, q)) for each, shape in pairs]
