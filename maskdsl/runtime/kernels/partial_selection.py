"""What is found for some queries of a pattern, from what is kept of the keys that are there.

Selected groups have a row for each query of the call; see `ir/rewrites/route_rows.py`. Keys that are not there do not
exist, and in self-attention neither do their tokens as queries.
"""

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any, NamedTuple, assert_never

import torch
from torch import Tensor
from torch.nn.functional import pad

from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.selection import AbsentQueries
from maskdsl.emit.torch.routing_module import pool_numbers
from maskdsl.ir.expressions import Side
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.routes import Balanced, Nearest, Pool, Route, TopMass
from maskdsl.runtime.kernels.grouped_tokens import Grouped, GroupedTokens, at
from maskdsl.runtime.kernels.key_summaries import Summaries


class Queries(NamedTuple):
    """Which queries of each batch entry a call has: int [batch]."""

    starts: Tensor
    """The position of the first."""
    counts: Tensor
    """How many; rows of q behind them are none."""
    totals: Tensor
    """How many queries there are, in the call or not: none has a position behind these."""


@dataclass(frozen=True)
class PartialCall:
    """One call: some queries, and what is known of the keys."""

    mask: MaskIR
    """By row."""
    module: ModuleType
    """That of its routes."""
    sides: Mapping[tuple[str, Side], Grouped]
    q: Tensor
    """[batch, heads, queries, dim], in the type of scores."""
    queries: Queries
    summaries: Summaries
    keys: Callable[[], Tensor]
    """All keys, [batch, key heads, keys, dim], zeros where there are none: asked only if they are needed."""
    values: Mapping[str, Tensor]
    """What generated functions read. What is found is added by who asks, before it is read."""
    identifiers: Mapping[str, str]
    """Of inputs."""

    @cached_property
    def positions(self) -> Tensor:
        """The positions of the queries [batch, queries], moved into the pattern."""
        positions = self.queries.starts.long()[:, None] + torch.arange(self.q.shape[2], device=self.q.device)
        return positions.clamp(0, self.mask.queries.length - 1)

    @cached_property
    def real(self) -> Tensor:
        """Bool [batch, queries]: the rows of q that are queries."""
        return torch.arange(self.q.shape[2], device=self.q.device) < self.queries.counts[:, None]

    @cached_property
    def absent(self) -> Tensor:
        """Bool [batch, all queries]: those that there are, but not in this call."""
        position = torch.arange(self.mask.queries.length, device=self.q.device)
        starts, counts, totals = (each[:, None] for each in self.queries)
        return ((position < starts) | (position >= starts + counts)) & (position < totals)

    def found(self, found: Route | Nearest | Balanced) -> Tensor:
        match found:
            case Route():
                return self.selected(found)
            case Nearest(side=Side.KEY, name=name):
                return self.summaries.rows(name)
            case Nearest(centroids=centroids):
                return self.spread(self.module.nearest(self.q, self.rows(centroids)))
            case Balanced(side=Side.KEY, centroids=centroids, size=size, first=first, last=last):
                k = self.all_keys()
                present = self.summaries.present[:, None, : k.shape[2]]
                members = self.module.members(k, self.rows(centroids)[:, first:last], size, present)
                return pad(members, (0, self.mask.keys.length - k.shape[2]))
            case Balanced(centroids=centroids, size=size, first=first, last=last):
                self.require(~self.absent.any(dim=1), found)
                rows = self.rows(centroids)[:, first:last]
                return self.spread(self.module.members(self.q, rows, size, self.real[:, None]))
            case _:
                assert_never(found)

    def rows(self, centroids: str) -> Tensor:
        """[heads, clusters, dim]."""
        return self.values[self.identifiers[centroids]][self.mask.here].to(self.q.dtype)

    def spread(self, own: Tensor) -> Tensor:
        """Values of the queries of the call, [batch, heads, queries], as values of all; zeros elsewhere."""
        length = self.mask.queries.length
        whole = own.new_zeros(*own.shape[:2], length + 1)
        positions = self.positions.masked_fill(~self.real, length)
        return whole.scatter_(2, positions[:, None].expand_as(own), own)[..., :-1]

    def all_keys(self) -> Tensor:
        """As each query head sees them, in the type of scores."""
        keys: Tensor = self.module.of_heads(self.keys().detach().to(self.q.dtype), self.q.shape[1])
        return keys

    def require(self, complete: Tensor, found: Route | Balanced) -> None:
        """Raises if queries are not in the call without which a route cannot be found. Waits for the device."""
        if complete.is_cuda and torch.cuda.is_current_stream_capturing():
            return
        if not bool(complete.all()):
            name = found.name if isinstance(found, Route) else found.name.removesuffix("_queries")
            raise AttnError(AbsentQueries(route=name, pattern=self.mask.name, span=found.span))

    def selected(self, route: Route) -> Tensor:
        """bool [batch, heads, queries or 1, key groups]."""
        queries, keys = (
            _RouteSide(self, route, each, each.tokens(self.values, self.q.device))
            for each in (self.sides[route.name, side] for side in (Side.QUERY, Side.KEY))
        )
        over_head = isinstance(route.selector, TopMass) and route.selector.over_head
        groups, coordinates = queries.rows()
        if over_head:
            self.require(~self.absent.any(dim=1), route)
            groups.exists = queries.is_first & self.real[:, None]
        products = {
            f"product_{number}": (queries.query_vectors(number, each.query), keys.key_vectors(number, each.key))
            for number, each in enumerate(route.products)
        }
        functions = (getattr(self.module, f"{keys.side.stem}_{part}") for part in ("score", "candidates", "choose"))
        table: Tensor = self.module.select(
            self.q.shape[:2], (groups, coordinates), keys.columns(), self.values, products, *functions, whole=over_head
        )
        if over_head:
            table = table.gather(2, queries.first.unsqueeze(-1).expand(table.shape))
        return pad(table, (0, route.keys.count - table.shape[3]))


@dataclass(frozen=True)
class _RouteSide:
    """The queries of a call as the rows of a route's table, or the keys that are there as its columns."""

    part: PartialCall
    route: Route
    side: Grouped
    tokens: GroupedTokens

    # Rows

    @cached_property
    def numbers(self) -> Tensor:
        """The group of each query of the call: [batch, heads or 1, queries]."""
        return at(self.tokens.groups.numbers, self.part.positions)

    def rows(self) -> tuple[Any, dict[str, Tensor]]:
        """A group for each query, with the coordinates of the first token of its own group."""
        own, positions = self.tokens.coordinates, self.part.positions[:, None]
        if self.route.queries.by is None:
            return self.tokens.groups, own
        first = at(self.tokens.groups.positions, self.numbers) if self.side.pools_tokens else positions
        return self.part.module.Groups(positions.shape[2]), {name: at(x, first) for name, x in own.items()} | {
            "i": positions
        }

    @cached_property
    def first(self) -> Tensor:
        """The first query of the call that is of the same group, [batch, heads or 1, queries]."""
        count = self.part.positions.shape[1]
        rows = torch.arange(count, device=self.part.q.device)
        if not self.side.pools_tokens:
            return rows.expand(1, 1, -1)
        groups = self.numbers.new_full((*self.numbers.shape[:2], self.route.queries.count + 1), count)
        return groups.scatter_reduce_(2, self.numbers, rows.expand_as(self.numbers), "amin").gather(2, self.numbers)

    @property
    def is_first(self) -> Tensor:
        return self.first == torch.arange(self.first.shape[2], device=self.first.device)

    def query_vectors(self, number: int, pool: Pool) -> Tensor:
        """[batch, heads, queries, dim]: what is pooled from the group of each."""
        part, module = self.part, self.part.module
        if pool.kind is None:
            return part.q
        among = self.tokens.among.get(number)
        own = part.real[:, None] if among is None else at(among, part.positions) & part.real[:, None]
        options = {"among": own, "heads": self.pool_heads(pool)}
        if not self.side.pools_tokens:
            vectors: Tensor = module.pooled(part.q, module.Groups(part.q.shape[2]), pool.kind, **options)
            return vectors
        self.require_whole_groups(among)
        groups = copy(self.tokens.groups)
        groups.numbers = self.numbers
        vectors = module.pooled(part.q, groups, pool.kind, **options)
        index = self.numbers.clamp(max=groups.count - 1).unsqueeze(-1)
        return vectors.gather(2, index.expand(*vectors.shape[:2], -1, vectors.shape[3]))

    def require_whole_groups(self, among: Tensor | None) -> None:
        """Raises if a query's group has others, which are pooled, that are not in the call."""
        numbers, absent = self.tokens.groups.numbers, self.part.absent[:, None]
        missing = (absent if among is None else absent & among).to(self.part.q.dtype) + torch.zeros_like(numbers)
        flags = missing.new_zeros(*missing.shape[:2], self.route.queries.count + 1)
        flags.scatter_add_(2, numbers.expand_as(missing), missing)
        self.part.require((at(flags, self.numbers) == 0) | ~self.part.real[:, None], self.route)

    # Columns

    def columns(self) -> tuple[Any, dict[str, Tensor]]:
        """The groups of keys that there are, with the coordinates of their tokens."""
        summaries, own = self.part.summaries, self.tokens.coordinates
        if self.route.keys.by is None:
            return self.tokens.groups, own
        if self.side.pools_tokens:
            return self.tokens.existing(summaries.members(self.route.name) > 0), own
        count = self.part.keys().shape[2] if self.route.products else self.route.keys.count
        groups = self.part.module.Groups(count)
        groups.exists = summaries.present[:, None, :count]
        return groups, {name: x[..., :count] for name, x in own.items()}

    def key_vectors(self, number: int, pool: Pool) -> Tensor:
        """[batch, heads, key groups, dim]."""
        part, module, heads = self.part, self.part.module, self.part.q.shape[1]
        vectors: Tensor
        if self.side.pools_tokens:
            kept = (module.of_heads(each, heads) for each in part.summaries.pool(self.route.name, number))
            vectors = module.finished(*kept, pool.kind, self.pool_heads(pool))
            return vectors
        k = part.all_keys()
        if pool.kind is None:
            return k
        among = self.tokens.among.get(number)
        among = None if among is None else among[..., : k.shape[2]]
        vectors = module.pooled(k, module.Groups(k.shape[2]), pool.kind, among=among, heads=self.pool_heads(pool))
        return vectors

    def pool_heads(self, pool: Pool) -> list[int] | None:
        """The number of each head's pool; None if each head has its own."""
        heads = self.part.q.shape[1]
        if pool.by_key_head:
            shared: list[int] = self.part.module.shared_by(heads, self.part.summaries.key_heads)
            return shared
        return None if pool.heads is None else pool_numbers(pool.heads, heads)
