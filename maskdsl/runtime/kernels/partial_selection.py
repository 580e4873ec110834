"""Computes the routed inputs of one partial call, from its queries and the summaries of the present keys.

Tables of selected groups have a row for each query of the call: see `ir/rewrites/route_rows.py`. Absent keys do not
exist for a route; in self-attention, nor do their tokens as queries.
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
from maskdsl.emit.torch.scored_functions import pool_numbers
from maskdsl.ir.declared.inputs import KEY_HEADS, DimensionKind
from maskdsl.ir.expressions import Side
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.routes import Balanced, Extent, Nearest, Route, Scored
from maskdsl.ir.values.token_vectors import Pool
from maskdsl.runtime.kernels.grouped_tokens import Grouped, GroupedTokens, at
from maskdsl.runtime.kernels.key_summaries import Summaries


class Queries(NamedTuple):
    """The queries of each batch entry in a partial call; all fields are integers [batch]."""

    starts: Tensor
    """The position of the first query."""
    counts: Tensor
    """The number of queries in the call; later rows of q are padding."""
    totals: Tensor
    """The number of queries that exist, in the call or not."""


@dataclass(frozen=True)
class PartialCall:
    """One partial call."""

    mask: MaskIR
    """A mask made by `by_row`."""
    module: ModuleType
    """The generated torch module of its routes."""
    sides: Mapping[tuple[str, Side], Grouped]
    q: Tensor
    """[batch, heads, queries, dim], in the dtype of scores."""
    queries: Queries
    summaries: Summaries
    keys: Callable[[], Tensor]
    """Returns all keys, [batch, key heads, keys, dim], zeros where absent. Called only by routes that read keys."""
    values: Mapping[str, Tensor]
    """The values that generated functions read. The caller adds each routed input before a later one reads it."""
    identifiers: Mapping[str, str]
    """The module's identifiers of inputs, by declared name."""

    @cached_property
    def positions(self) -> Tensor:
        """The positions of the queries, int64 [batch, queries], clamped to the pattern."""
        positions = self.queries.starts.long()[:, None] + torch.arange(self.q.shape[2], device=self.q.device)
        return positions.clamp(0, self.mask.queries.length - 1)

    @cached_property
    def real(self) -> Tensor:
        """Bool [batch, queries]: the rows of q that are queries, not padding."""
        return torch.arange(self.q.shape[2], device=self.q.device) < self.queries.counts[:, None]

    @cached_property
    def absent(self) -> Tensor:
        """Bool [batch, all queries]: queries that exist and are not in this call."""
        position = torch.arange(self.mask.queries.length, device=self.q.device)
        starts, counts, totals = (each[:, None] for each in self.queries)
        return ((position < starts) | (position >= starts + counts)) & (position < totals)

    def routed(self, statement: Route | Nearest | Balanced) -> Tensor:
        """The routed input of a statement. Raises `AbsentQueries` if it needs queries that are not in the call."""
        match statement:
            case Route():
                return self.selected(statement)
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
                self.require(~self.absent.any(dim=1), statement)
                rows = self.rows(centroids)[:, first:last]
                return self.spread(self.module.members(self.q, rows, size, self.real[:, None]))
            case _:
                assert_never(statement)

    def for_heads(self, table: Tensor, route: Scored) -> Tensor:
        """A table [batch, heads, ...] with the heads that its input declares."""
        declared = self.mask.input(route.name)
        assert declared is not None
        if DimensionKind.HEADS in declared.kinds:
            return table
        key_heads = next((each.size for each in declared.dimensions if each.text == KEY_HEADS), None)
        return table[:, 0] if key_heads is None else table[:, :: table.shape[1] // key_heads]

    def rows(self, centroids: str) -> Tensor:
        """The centroids in this input, [heads, clusters, dim]."""
        return self.values[self.identifiers[centroids]][self.mask.here].to(self.q.dtype)

    def spread(self, values: Tensor) -> Tensor:
        """Scatters values of the call's queries, [batch, heads, queries], to all queries; zeros elsewhere."""
        length = self.mask.queries.length
        whole = values.new_zeros(*values.shape[:2], length + 1)
        positions = self.positions.masked_fill(~self.real, length)
        return whole.scatter_(2, positions[:, None].expand_as(values), values)[..., :-1]

    def all_keys(self) -> Tensor:
        """All keys, [batch, heads, keys, dim], in the dtype of scores."""
        keys: Tensor = self.module.of_heads(self.keys().detach().to(self.q.dtype), self.q.shape[1])
        return keys

    def require(self, complete: Tensor, statement: Route | Balanced) -> None:
        """Raises `AbsentQueries` unless `complete`, bool, is true everywhere.

        Waits for the device; does nothing while a CUDA graph is captured.
        """
        if complete.is_cuda and torch.cuda.is_current_stream_capturing():
            return
        if not bool(complete.all()):
            name = statement.name if isinstance(statement, Route) else statement.name.removesuffix("_queries")
            raise AttnError(AbsentQueries(route=name, pattern=self.mask.name, span=statement.span))

    def selected(self, route: Route) -> Tensor:
        """The table of selected groups, bool [batch, heads, queries or 1, key groups]."""
        queries, keys = (
            _RouteSide(self, route, each, each.tokens(self.values, self.q.device))
            for each in (self.sides[route.name, side] for side in (Side.QUERY, Side.KEY))
        )
        over_head = route.selector.per is Extent.HEAD
        groups, coordinates = queries.rows()
        if over_head:
            self.require(~self.absent.any(dim=1), route)
            groups.exists = queries.is_first & self.real[:, None]
        products = {
            f"product_{number}": (
                queries.query_vectors(number, each.pool(Side.QUERY)),
                keys.key_vectors(number, each.pool(Side.KEY)),
            )
            for number, each in enumerate(route.products)
        }
        score, candidates, choose = (
            getattr(self.module, f"{keys.side.stem}_{role}") for role in ("score", "candidates", "choose")
        )
        scored = self.module.Scored((groups, coordinates), keys.columns(), self.values, products, score, candidates)
        heads = self.q.shape[1]
        table: Tensor = self.module.select(scored, heads, None, choose, route.selector.per)
        table = self.module.whole_heads(table, heads)
        if over_head:
            table = table.gather(2, queries.first.unsqueeze(-1).expand(table.shape))
        return self.for_heads(pad(table, (0, route.keys.count - table.shape[3])), route)


@dataclass(frozen=True)
class _RouteSide:
    """The rows of a route's table, which are the queries of the call, or its columns, which are groups of keys."""

    call: PartialCall
    route: Route
    side: Grouped
    tokens: GroupedTokens

    # Rows

    @cached_property
    def numbers(self) -> Tensor:
        """The group of each query of the call, int64 [batch, heads or 1, queries]."""
        return at(self.tokens.groups.numbers, self.call.positions)

    def rows(self) -> tuple[Any, dict[str, Tensor]]:
        """A group for each query of the call, with the coordinates of the first token of the query's group."""
        coordinates, positions = self.tokens.coordinates, self.call.positions[:, None]
        if self.route.queries.by is None:
            return self.tokens.groups, coordinates
        first = at(self.tokens.groups.positions, self.numbers) if self.side.pools_tokens else positions
        of_groups = {name: at(x, first) for name, x in coordinates.items()}
        return self.call.module.Groups(positions.shape[2]), of_groups | {"i": positions}

    @cached_property
    def first(self) -> Tensor:
        """The row of the first query of the same group, int64 [batch, heads or 1, queries]."""
        count = self.call.positions.shape[1]
        rows = torch.arange(count, device=self.call.q.device)
        if not self.side.pools_tokens:
            return rows.expand(1, 1, -1)
        groups = self.numbers.new_full((*self.numbers.shape[:2], self.route.queries.count + 1), count)
        return groups.scatter_reduce_(2, self.numbers, rows.expand_as(self.numbers), "amin").gather(2, self.numbers)

    @property
    def is_first(self) -> Tensor:
        """Whether each query is the first of its group in the call, bool [batch, heads or 1, queries]."""
        return self.first == torch.arange(self.first.shape[2], device=self.first.device)

    def query_vectors(self, number: int, pool: Pool) -> Tensor:
        """The pooled vector of each query's group, [batch, heads, queries, dim]."""
        call, module = self.call, self.call.module
        if pool.kind is None:
            return call.q
        among = self.tokens.among.get(number)
        pooled = call.real[:, None] if among is None else at(among, call.positions) & call.real[:, None]
        options = {"among": pooled, "heads": self.pool_heads(pool)}
        if not self.side.pools_tokens:
            vectors: Tensor = module.pooled(call.q, module.Groups(call.q.shape[2]), pool.kind, **options)
            return vectors
        self.require_whole_groups(among)
        groups = copy(self.tokens.groups)
        groups.numbers = self.numbers
        vectors = module.pooled(call.q, groups, pool.kind, **options)
        index = self.numbers.clamp(max=groups.count - 1).unsqueeze(-1)
        return vectors.gather(2, index.expand(*vectors.shape[:2], -1, vectors.shape[3]))

    def require_whole_groups(self, among: Tensor | None) -> None:
        """Raises `AbsentQueries` if a pooled query of the groups in the call is not in the call."""
        numbers, absent = self.tokens.groups.numbers, self.call.absent[:, None]
        missing = (absent if among is None else absent & among).to(self.call.q.dtype) + torch.zeros_like(numbers)
        flags = missing.new_zeros(*missing.shape[:2], self.route.queries.count + 1)
        flags.scatter_add_(2, numbers.expand_as(missing), missing)
        self.call.require((at(flags, self.numbers) == 0) | ~self.call.real[:, None], self.route)

    # Columns

    def columns(self) -> tuple[Any, dict[str, Tensor]]:
        """The groups of present keys, with the coordinates of their tokens."""
        summaries, coordinates = self.call.summaries, self.tokens.coordinates
        if self.route.keys.by is None:
            return self.tokens.groups, coordinates
        if self.side.pools_tokens:
            return self.tokens.existing(summaries.members(self.route.name) > 0), coordinates
        count = self.call.keys().shape[2] if self.route.products else self.route.keys.count
        groups = self.call.module.Groups(count)
        groups.exists = summaries.present[:, None, :count]
        return groups, {name: x[..., :count] for name, x in coordinates.items()}

    def key_vectors(self, number: int, pool: Pool) -> Tensor:
        """The pooled vector of each group of keys, [batch, heads, key groups, dim]."""
        call, module, heads = self.call, self.call.module, self.call.q.shape[1]
        vectors: Tensor
        if self.side.pools_tokens:
            pooled = (module.of_heads(each, heads) for each in call.summaries.pool(self.route.name, number))
            vectors = module.finished(*pooled, pool.kind, self.pool_heads(pool))
            return vectors
        k = call.all_keys()
        if pool.kind is None:
            return k
        among = self.tokens.among.get(number)
        among = None if among is None else among[..., : k.shape[2]]
        vectors = module.pooled(k, module.Groups(k.shape[2]), pool.kind, among=among, heads=self.pool_heads(pool))
        return vectors

    def pool_heads(self, pool: Pool) -> list[int] | None:
        """The index of each head's pool; None if each head has its own."""
        heads = self.call.q.shape[1]
        if pool.by_key_head:
            shared: list[int] = self.call.module.shared_by(heads, self.call.summaries.key_heads)
            return shared
        return None if pool.heads is None else pool_numbers(pool.heads, heads)
