"""Computes the routed inputs of one partial call, from its queries and the summaries of the present keys.

Tables of selected groups have a row for each query of the call: see `ir/rewrites/route_rows.py`. Absent keys do not
exist for a route; in self-attention, nor do their tokens as queries.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from types import ModuleType
from typing import assert_never

import torch
from torch import Tensor
from torch.nn.functional import pad

from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.selection import AbsentQueries
from maskdsl.ir.expressions import PAIR, Side
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.routes import Balanced, Nearest, Route, Scored
from maskdsl.ir.values.group_scores import Extent, Extreme, GroupScores, Softmax, route_of
from maskdsl.runtime.kernels.call_queries import CallQueries, Queries
from maskdsl.runtime.kernels.grouped_tokens import Grouped
from maskdsl.runtime.kernels.key_summaries import Summaries
from maskdsl.runtime.kernels.present_keys import PresentKeys


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
    room: int
    """The number of keys that there is room for."""
    keys: Callable[[], Tensor]
    """Returns these keys, [batch, key heads, keys, dim], zeros where absent. Called only by routes that read keys."""
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

    def routed(self, statement: Scored | Nearest | Balanced) -> Tensor:
        """The routed input of a statement. Raises `AbsentQueries` if it needs queries that are not in the call."""
        match statement:
            case Route() | GroupScores():
                return self.scored(statement)
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
        keys: Tensor = self.module.whole_heads(self.keys().detach().to(self.q.dtype), self.q.shape[1])
        return keys

    def require(self, complete: Tensor, statement: Scored | Balanced) -> None:
        """Raises `AbsentQueries` unless `complete`, bool, is true everywhere.

        Waits for the device; does nothing while a CUDA graph is captured.
        """
        if complete.is_cuda and torch.cuda.is_current_stream_capturing():
            return
        if not bool(complete.all()):
            name = statement.name.removesuffix("_queries") if isinstance(statement, Balanced) else statement.name
            raise AttnError(AbsentQueries(route=route_of(name), pattern=self.mask.name, span=statement.span))

    def scored(self, route: Scored) -> Tensor:
        """The table of a route that scores groups, [batch, heads, queries or 1, key groups], with its input's heads."""
        queries, keys = self.of_route(route)
        grouping, columns = route.result if isinstance(route, GroupScores) else (route.queries, route.keys)
        if grouping.by is not None and any(each is not Extent.QUERY for each in _extents(route)):
            queries.require(~self.absent)
        table: Tensor = getattr(self.module, f"find_{queries.side.stem}")(queries, keys, self.values)
        table = pad(table, (0, columns.count - table.shape[-1]))
        if grouping.by in (None, "i") and grouping.span == 1:
            return table
        rows = queries.by(grouping)
        return queries.spread(table, rows) if table.dim() == 4 else queries.spread(table[:, None], rows)[:, 0]

    def of_route(self, route: Scored) -> tuple[CallQueries, PresentKeys]:
        """The tokens of the call on both sides of a route."""
        sides = [self.sides[route.name, side] for side in PAIR]
        given = [(each, each.tokens(self.values, self.q.device), self.values, self.q.dtype) for each in sides]
        require = partial(self.require, statement=route)
        queries = CallQueries(*given[0], self.q, self.positions, self.real, self.absent, require)
        return queries, PresentKeys(*given[1], self.summaries, self.room, self.keys)


def _extents(route: Scored) -> Iterator[Extent]:
    """The pairs that are compared with each other."""
    if isinstance(route, Route):
        yield route.selector.per
    else:
        yield from (each.per for each in route.steps if isinstance(each, Softmax | Extreme))
