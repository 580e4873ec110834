"""Summaries of cached keys that routes select by: pooled vectors, group sizes, nearest centroids. Updated per key."""

from collections.abc import Callable, Iterable, Mapping
from copy import copy
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from maskdsl.ir.expressions import Side
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.routes import Nearest, Route
from maskdsl.ir.values.token_vectors import PoolKind
from maskdsl.runtime.base.kept import in_no_mode
from maskdsl.runtime.kernels.grouped_tokens import Grouped, GroupedTokens, Values, at

Name = tuple[str, ...]


class Summaries:
    """Summaries of the keys added so far. The last index of each tensor collects what absent keys scatter."""

    def __init__(
        self, mask: MaskIR, names: Mapping[str, str], module: ModuleType, sides: Mapping[str, Grouped]
    ) -> None:
        self.mask = mask
        self.names = names
        """The module's identifiers of the inputs, by declared name."""
        self.module = module
        self.sides = sides
        """The key side of every route, by the route's name."""
        self.tensors: dict[Name, Tensor] = {}
        self.key_heads = 0

    @property
    def present(self) -> Tensor:
        """Bool [batch, keys]: which keys have been added."""
        return self.tensors["present",][:, :-1]

    def rows(self, name: str) -> Tensor:
        """int64 [batch, heads, keys]: the nearest centroid of every key; zero for absent keys."""
        return self.tensors[name,][..., :-1]

    def members(self, route: str) -> Tensor:
        """The number of keys in each group, [batch, heads or 1, groups]."""
        return self.tensors[route, "members"][..., :-1]

    def pool(self, route: str, number: int) -> tuple[Tensor, Tensor]:
        """Sums or maxima of the keys pooled for a dot product, [batch, heads or key heads, groups, dim], and counts.

        Counts are [batch, heads or key heads, groups].
        """
        sums, sizes = self.tensors[route, str(number), "sums"], self.tensors[route, str(number), "sizes"]
        return sums[:, :, :-1], sizes[..., :-1].expand(sums.shape[0], sums.shape[1], -1)

    @in_no_mode()
    def add(self, k: Tensor, positions: Tensor, present: Tensor, values: Values) -> None:
        """Adds keys k [batch, key heads, new, dim], of `sum_type`, at `positions`, int64 [batch, new].

        Keys that are not `present`, bool [batch, new], must be zeros and add nothing.
        """
        mask, names = self.mask, self.names
        batch, self.key_heads = k.shape[:2]
        length = mask.keys.length
        positions = positions.masked_fill(~present, length)
        shape = batch, length + 1
        self.tensor(("present",), lambda: k.new_zeros(shape, dtype=torch.bool)).scatter_(1, positions, present)
        known_values = {**values}
        heads = values["head"].shape[0]
        for each in mask.routed:
            match each:
                case Nearest(name=name, side=Side.KEY, centroids=centroids):
                    local_centroids = values[names[centroids]][mask.here].to(k.dtype)
                    rows = self.module.nearest(self.module.of_heads(k, heads), local_centroids)
                    all_rows = self.tensor(
                        (name,), lambda: k.new_zeros((batch, heads, length + 1), dtype=torch.int64)
                    ).scatter_(2, positions[:, None].expand_as(rows), rows)
                    known_values[names[name]] = all_rows[..., :-1]
                case Route() if self.sides[each.name].pools_tokens:
                    tokens = self.sides[each.name].tokens(known_values, k.device)
                    self.add_route(each, tokens, k, positions, present)

    def add_route(self, route: Route, tokens: GroupedTokens, k: Tensor, positions: Tensor, present: Tensor) -> None:
        """Adds keys to the groups of one route."""
        groups, batch = tokens.groups, len(k)
        numbers = at(groups.numbers, positions).masked_fill(~present[:, None], groups.count)
        self.count((route.name, "members"), numbers, k)
        for number, product in enumerate(route.products):
            pooled = numbers
            if number in tokens.among:
                pooled = torch.where(at(tokens.among[number], positions), numbers, groups.count)
            self.count((route.name, str(number), "sizes"), pooled, k)
            x = k if pooled.shape[1] == 1 else self.module.of_heads(k, pooled.shape[1])
            name, shape = (route.name, str(number), "sums"), (batch, x.shape[1], groups.count + 1, x.shape[3])
            sums = self.tensor(name, partial(x.new_full, shape, self.nothing(name)))
            _add_vectors(sums, pooled, x, product.pool(Side.KEY).kind is PoolKind.MAX)

    def count(self, name: Name, numbers: Tensor, like: Tensor) -> None:
        """Adds one to the count of each of these group numbers, [batch, heads or 1, new]."""
        shape = *numbers.shape[:2], self.sides[name[0]].grouping.count + 1
        self.tensor(name, lambda: like.new_zeros(shape)).scatter_add_(2, numbers, like.new_ones(()).expand_as(numbers))

    @in_no_mode()
    def entries(self, chosen: Tensor) -> "Summaries":
        """A copy with the batch entries `chosen`, int64 [entries], in this order."""
        other = copy(self)
        other.tensors = {name: x.index_select(0, chosen.to(x.device)) for name, x in self.tensors.items()}
        return other

    @in_no_mode()
    def forget(self, entry: int, start: int, end: int) -> int:
        """Forgets the keys `start` to `end` of a batch entry, and whole groups that lose a key.

        Returns the first key that has to be added again.
        """
        pooling = {name: side for name, side in self.sides.items() if side.pools_tokens}
        touched: dict[str, Tensor | slice] = dict.fromkeys(pooling, slice(None))
        if all(side.is_fixed for side in pooling.values()):
            groups = {name: side.tokens({}, self.present.device).groups for name, side in pooling.items()}
            start = _first_of_groups(groups.values(), start, end)
            touched = {name: each.numbers[0, 0, start:end].unique() for name, each in groups.items()}
        elif pooling:
            start = 0
        for name, x in self.tensors.items():
            if len(name) == 1:  # of keys, not of groups
                x[entry, ..., start:] = 0
            elif name[0] in pooling:
                x[entry][:, touched[name[0]]] = self.nothing(name)
        return start

    def nothing(self, name: Name) -> float:
        """The value of an empty group in a tensor of a route: the neutral element of its sum or maximum."""
        match name:
            case (route, number, "sums"):
                largest = self.sides[route].route.products[int(number)].pool(Side.KEY).kind is PoolKind.MAX
                return -torch.inf if largest else 0
            case _:
                return 0

    def tensor(self, name: Name, make: Callable[[], Tensor]) -> Tensor:
        """The tensor of this name, made if it is new."""
        if name not in self.tensors:
            self.tensors[name] = make()
        return self.tensors[name]


def _first_of_groups(groupings: Iterable[Any], start: int, end: int) -> int:
    """The least `first` for which no group has tokens both before `first` and in `first` to `end`."""
    groupings, before = tuple(groupings), -1
    while before != start:
        before = start
        for groups in groupings:
            numbers = groups.numbers[0, 0, start:end]
            positions = groups.positions[0, 0, numbers[numbers < groups.count]]
            start = min(start, int(positions.min())) if positions.numel() else start
    return start


def _add_vectors(sums: Tensor, numbers: Tensor, x: Tensor, largest: bool) -> None:
    """Scatters x [batch, heads, new, dim] into sums, or maxima, [batch, heads, groups, dim]."""
    index = numbers.unsqueeze(-1).expand_as(x)
    if largest:
        sums.scatter_reduce_(2, index, x, "amax")
    elif numbers.shape[1] > 1 or x.device.type != "cpu":
        sums.scatter_add_(2, index, x)
    else:  # on a CPU `index_add_` of whole rows is several times as fast
        for entry, groups in enumerate(numbers[:, 0]):
            sums[entry].index_add_(1, groups, x[entry])


def sum_type(x: Tensor) -> torch.dtype:
    """The dtype in which sums and scores of x are computed: at least float32."""
    return torch.promote_types(x.dtype, torch.float32)
