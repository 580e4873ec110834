"""Summaries of cached keys that routes select by: pooled vectors, group sizes, nearest centroids. Updated per key."""

from collections.abc import Callable, Iterable, Mapping
from copy import copy
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from maskdsl.ir.expressions import Side
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.routes import Balanced, Nearest, Route
from maskdsl.ir.values.group_scores import Grouping, GroupScores
from maskdsl.ir.values.token_vectors import PoolKind
from maskdsl.runtime.base.kept import in_no_mode
from maskdsl.runtime.kernels.grouped_tokens import Grouped, Values, at

Name = tuple[str, ...]

_NOTHING = {str(PoolKind.MAX): -torch.inf, str(PoolKind.MIN): torch.inf}
"""The neutral elements of pools that are no sums."""


class _NewKeys(NamedTuple):
    """Keys that are added, as functions of tokens take them."""

    x: Tensor
    """[batch, key heads, new, dim]."""
    values: Values
    """Their coordinates, by identifier."""
    inputs: Values

    @property
    def read(self) -> Values:
        """What functions of tokens read."""
        return {**self.inputs, **self.values}

    @property
    def dtype(self) -> torch.dtype:
        return self.x.dtype

    @property
    def device(self) -> torch.device:
        return self.x.device


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

    def members(self, route: str, grouping: Grouping) -> Tensor:
        """The number of keys in each group without overlaps, [batch, heads or 1, groups]."""
        return self.tensors[route, str(grouping.by), "members"][..., :-1]

    def pool(self, route: str, number: int) -> tuple[Tensor, Tensor]:
        """Sums, maxima or minima of the vectors of a pool, [batch, heads or key heads, groups, dim], and their counts.

        Groups are without overlaps. Counts are [batch, heads or key heads, groups].
        """
        by = self.sides[route].summed[number].by
        sums, sizes = (self.tensors[route, by, str(number), each] for each in ("sums", "sizes"))
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
                    rows = self.module.nearest(self.module.whole_heads(k, heads), local_centroids)
                    all_rows = self.tensor(
                        (name,), lambda: k.new_zeros((batch, heads, length + 1), dtype=torch.int64)
                    ).scatter_(2, positions[:, None].expand_as(rows), rows)
                    known_values[names[name]] = all_rows[..., :-1]
                case Balanced(name=name, side=Side.KEY):  # found of all keys: no group and no vector reads it
                    known_values[names[name]] = k.new_zeros((batch, heads, length), dtype=torch.int64)
                case Route() | GroupScores() if self.sides[each.name].groupings:
                    self.add_route(self.sides[each.name], k, positions, present, known_values)

    def add_route(self, side: Grouped, k: Tensor, positions: Tensor, present: Tensor, values: Values) -> None:
        """Adds keys to the groups of one route."""
        route, whole = side.route.name, side.tokens(values, k.device)
        numbers = {
            each.by: at(whole.groups(each).numbers, positions).masked_fill(~present[:, None], each.count)
            for each in side.groupings
        }
        for each in side.groupings:
            self.count((route, str(each.by), "members"), numbers[each.by], each.count, k)
        new = _NewKeys(k, {name: at(each, positions) for name, each in whole.coordinates.items()}, values)
        for number, group in side.summed.items():
            pooled, among = numbers[group.by], side.among(number)
            if among is not None:
                pooled = torch.where(among(**new.read).to(k.device), pooled, group.count)
            self.count((route, group.by, str(number), "sizes"), pooled, group.count, k)
            x = side.vectors(number)(new).expand(len(k), -1, k.shape[2], -1)
            x = x if pooled.shape[1] == 1 else self.module.whole_heads(x, pooled.shape[1])
            name, shape = (route, group.by, str(number), "sums"), (len(k), x.shape[1], group.count + 1, x.shape[3])
            sums = self.tensor(name, partial(x.new_full, shape, self.nothing(name)))
            _add_vectors(sums, pooled, x, group.pool.kind)

    def count(self, name: Name, numbers: Tensor, groups: int, like: Tensor) -> None:
        """Adds one to the count of each of these group numbers, [batch, heads or 1, new]."""
        shape = *numbers.shape[:2], groups + 1
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
        grouped = [(name, side) for name, side in self.sides.items() if side.groupings]
        touched: dict[tuple[str, ...], Tensor | slice] = {}
        if all(side.is_fixed for _, side in grouped):
            groups = {
                (name, str(each.by)): side.tokens({}, self.present.device).groups(each)
                for name, side in grouped
                for each in side.groupings
            }
            start = _first_of_groups(groups.values(), start, end)
            touched |= {name: each.numbers[0, 0, start:end].unique() for name, each in groups.items()}
        else:
            start = 0
        for name, x in self.tensors.items():
            if len(name) == 1:  # of keys, not of groups
                x[entry, ..., start:] = 0
            else:
                x[entry][:, touched.get(name[:2], slice(None))] = self.nothing(name)
        return start

    def nothing(self, name: Name) -> float:
        """The value of an empty group in a tensor of a route: the neutral element of its sum or extreme."""
        match name:
            case (route, _, number, "sums"):
                return _NOTHING.get(str(self.sides[route].summed[int(number)].pool.kind), 0)
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


def _add_vectors(sums: Tensor, numbers: Tensor, x: Tensor, kind: PoolKind | None) -> None:
    """Scatters x [batch, heads, new, dim] into sums or extremes, [batch, heads, groups, dim]."""
    index = numbers.unsqueeze(-1).expand_as(x)
    if kind in (PoolKind.MAX, PoolKind.MIN):
        sums.scatter_reduce_(2, index, x, f"a{kind}")
    elif numbers.shape[1] > 1 or x.device.type != "cpu":
        sums.scatter_add_(2, index, x)
    else:  # on a CPU `index_add_` of whole rows is several times as fast
        for entry, groups in enumerate(numbers[:, 0]):
            sums[entry].index_add_(1, groups, x[entry])


def sum_type(x: Tensor) -> torch.dtype:
    """The dtype in which sums and scores of x are computed: at least float32."""
    return torch.promote_types(x.dtype, torch.float32)
