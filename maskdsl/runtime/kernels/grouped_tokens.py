"""The coordinates and groups of the tokens on one side of a route, computed by the routes' generated module."""

import inspect
from collections.abc import Mapping
from copy import copy
from functools import cached_property
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.inputs import GroupRange
from maskdsl.emit.plan import identifier
from maskdsl.ir.expressions import Side
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.routes import Route
from maskdsl.runtime.base.kept import Kept

Values = Mapping[str, Tensor]
"""What generated modules take, by identifier: inputs, and the indices "batch" [batch, 1, 1] and "head" [heads, 1]."""


class GroupedTokens(NamedTuple):
    """The tokens of one side of a route; tensors are [batch or 1, heads or 1, tokens]."""

    coordinates: dict[str, Tensor]
    """By identifier."""
    groups: Any
    """`Groups` of the generated module."""
    among: dict[int, Tensor]
    """Bool: the tokens that are pooled, by the number of the dot product; no entry where all are pooled."""

    def existing(self, exists: Tensor) -> Any:
        """The groups with `exists`, bool [batch, heads or 1, groups], replaced."""
        groups = copy(self.groups)
        groups.exists = exists
        return groups


class Grouped:
    """One side of a route. Tokens that depend on no input are cached per device."""

    def __init__(
        self,
        mask: MaskIR,
        inputs: Mapping[str, str],
        coordinates: Mapping[str, str],
        module: ModuleType,
        route: Route,
        side: Side,
    ) -> None:
        """`inputs` and `coordinates` map declared names to the module's identifiers."""
        self.inputs = frozenset(inputs.values())
        self.coordinates = coordinates
        self.module = module
        self.route = route
        self.side = side
        self.sequence = mask.sequences[side]
        self.grouping = route.grouping(side)
        self.stem = identifier(route.name)
        self.kept = Kept()

    @property
    def pools_tokens(self) -> bool:
        """Whether several tokens may be in one group."""
        return self.grouping.by not in (None, "i")

    @cached_property
    def is_fixed(self) -> bool:
        """Whether the tokens are the same in every call, entry and head."""
        names = [f"{self.stem}_{self.side.plural}", *self.among_names.values()]
        parameters = {each for name in names for each in inspect.signature(getattr(self.module, name)).parameters}
        return parameters.isdisjoint({*self.inputs, "head", "batch"})

    @cached_property
    def among_names(self) -> dict[int, str]:
        """The module's functions that compute `GroupedTokens.among`, by the number of the dot product."""
        pools = [each.pool(self.side) for each in self.route.products]
        return {
            number: f"{self.stem}_{self.side.letter}_among_{number}"
            for number, pool in enumerate(pools)
            if pool.among is not None
        }

    def tokens(self, values: Values, device: torch.device) -> GroupedTokens:
        """The tokens of a call. Raises `GroupRange` if an input puts a token into a group that does not exist."""
        if self.is_fixed:
            return self.kept.keep(device, lambda: self._make_tokens(values, device))
        return self._make_tokens(values, device)

    def _make_tokens(self, values: Values, device: torch.device) -> GroupedTokens:
        computed = getattr(self.module, f"{self.stem}_{self.side.plural}")(device=device, **values)
        coordinates = {name: _leading(value) for name, value in computed.items()}
        among = {
            number: _leading(getattr(self.module, name)(**{**values, **computed}).to(device))
            for number, name in self.among_names.items()
        }
        return GroupedTokens(coordinates, self._groups(coordinates, device), among)

    def _groups(self, coordinates: Mapping[str, Tensor], device: torch.device) -> Any:
        by, count = self.grouping.by, self.grouping.count
        if by in (None, "i"):
            return self.module.Groups(count)
        having = zip(self.sequence.spaces, self.sequence.having(by), strict=True)
        has = torch.cat([torch.full((space.size,), has_group, device=device) for space, has_group in having])
        try:
            return self.module.Groups(count, by, coordinates[self.coordinates[by]], has)
        except self.module.OutsideGroups as error:
            name, value, count = error.args
            raise AttnError(GroupRange(name=name, value=value, count=count)) from None


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
