"""The coordinates and groups of all tokens on one side of a route, computed by the routes' generated module."""

import inspect
from collections.abc import Callable, Mapping
from functools import cached_property
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.inputs import GroupRange
from maskdsl.emit.plan import identifier
from maskdsl.emit.route_text import pools
from maskdsl.ir.expressions import Side
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.routes import Scored
from maskdsl.ir.values.group_scores import Grouping
from maskdsl.ir.values.token_vectors import OfGroup, reads_tokens
from maskdsl.runtime.base.kept import Kept

Values = Mapping[str, Tensor]
"""What generated modules take, by identifier: inputs, and the indices "batch" [batch, 1, 1] and "head" [heads, 1]."""


class GroupedTokens:
    """The tokens of one side of a route; tensors are [batch or 1, heads or 1, tokens]."""

    def __init__(self, side: "Grouped", values: Values, device: torch.device) -> None:
        computed = getattr(side.module, f"{side.stem}_{side.side.plural}")(device=device, **values)
        self.side, self.device = side, device
        self.coordinates = {name: _leading(value) for name, value in computed.items()}
        """By identifier."""
        self._kept = Kept()

    def groups(self, grouping: Grouping) -> Any:
        """`Groups` of the generated module, by a coordinate.

        Raises `GroupRange` if an input puts a token into a group that does not exist.
        """
        kept = self.side.kept if self.side.is_fixed else self._kept
        return kept.keep((self.device, grouping), lambda: self._made(grouping))

    def _made(self, grouping: Grouping) -> Any:
        assert grouping.by is not None
        sequence, module = self.side.sequence, self.side.module
        having = zip(sequence.spaces, sequence.having(grouping.by), strict=True)
        has = torch.cat([torch.full((space.size,), has_group, device=self.device) for space, has_group in having])
        if sequence.counts is not None:
            has = has & (self._coordinate(sequence.counts) > 0)
        numbers = self._coordinate(grouping.by)
        try:
            return module.Groups(grouping.count, grouping.by, numbers, has, grouping.span)
        except module.OutsideGroups as error:
            name, value, count = error.args
            raise AttnError(GroupRange(name=name, value=value, count=count)) from None

    def _coordinate(self, name: str) -> Tensor:
        return self.coordinates[self.side.coordinates.get(name, name)]


class Grouped:
    """One side of a route. Tokens that depend on no input are cached per device."""

    def __init__(
        self,
        mask: MaskIR,
        inputs: Mapping[str, str],
        coordinates: Mapping[str, str],
        module: ModuleType,
        route: Scored,
        side: Side,
    ) -> None:
        """`inputs` and `coordinates` map declared names to the module's identifiers."""
        self.inputs = frozenset(inputs.values())
        self.coordinates = coordinates
        self.module = module
        self.route = route
        self.side = side
        self.sequence = mask.sequences[side]
        self.stem = identifier(route.name)
        self.kept = Kept()

    @cached_property
    def summed(self) -> dict[int, OfGroup]:
        """The pools of queries or keys by a coordinate, by the number of the pool."""
        numbered = ((number, each) for number, each in enumerate(pools(self.route)) if each.side is self.side)
        return {n: x for n, x in numbered if x.by != "i" and (x.pool.of is None or reads_tokens(x.pool.of))}

    @cached_property
    def groupings(self) -> tuple[Grouping, ...]:
        """The groups by a coordinate that the route has, each without overlaps."""
        levels = (each[self.side is Side.KEY] for each in self.route.levels)
        levelled = [Grouping(each.by, each.count) for each in levels if each.by not in (None, "i")]
        return tuple(dict.fromkeys([*levelled, *(Grouping(each.by, each.count) for each in self.summed.values())]))

    @cached_property
    def is_fixed(self) -> bool:
        """Whether the tokens are the same in every call, entry and head."""
        parameters = inspect.signature(getattr(self.module, f"{self.stem}_{self.side.plural}")).parameters
        return self.inputs.isdisjoint(parameters) and not {"head", "batch"} & parameters.keys()

    def tokens(self, values: Values, device: torch.device) -> GroupedTokens:
        """The tokens of a call."""
        if self.is_fixed:
            return self.kept.keep(device, lambda: GroupedTokens(self, values, device))
        return GroupedTokens(self, values, device)

    @cached_property
    def numbers(self) -> dict[Callable[[Any], Tensor], int]:
        """The number of each pool of `summed`, by the function of its vectors."""
        return {self.vectors(number): number for number in self.summed}

    def vectors(self, number: int) -> Callable[[Any], Tensor]:
        """The function of the vectors that the pool of this number pools."""
        function: Callable[[Any], Tensor] = getattr(self.module, f"{self.stem}_pooled_{number}")
        return function

    def among(self, number: int) -> Callable[..., Tensor] | None:
        """The function that says which tokens are in the pool of this number; None if all are."""
        function: Callable[..., Tensor] | None = getattr(self.module, f"{self.stem}_among_{number}", None)
        return function


def _leading(value: Tensor) -> Tensor:
    """`value` with leading axes: [batch or 1, heads or 1, tokens]."""
    return value if value.dim() == 3 else value.expand(1, 1, -1)


def at(values: Tensor, positions: Tensor) -> Tensor:
    """Gathers values [batch or 1, heads or 1, tokens] at positions [batch, n] or [batch, heads or 1, n].

    Returns [batch, heads, n], with 1 head where both have 1. Positions after the last token read the last token.
    """
    positions = positions if positions.dim() == 3 else positions[:, None]
    heads = max(values.shape[1], positions.shape[1])
    index = positions.clamp(max=values.shape[2] - 1).expand(-1, heads, -1)
    return values.expand(len(positions), heads, -1).gather(2, index)
