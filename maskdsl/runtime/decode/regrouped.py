"""Routed attention in two passes: pairs that no choice decides, then copies of the queries sorted by chosen group.

See `maskdsl/ir/rewrites/regroup.py`. Both passes call `maskdsl::attention`, so gradients flow through them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch._compile import _disable_dynamo

from maskdsl.emit.plan import make_plan
from maskdsl.ir.expressions import Coordinate, Side
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.ops import Type
from maskdsl.ir.rewrites.chunk import Leaf
from maskdsl.ir.rewrites.regroup import CHOSEN_GROUP, Copies, Regrouping, regrouping
from maskdsl.runtime.backends.protocol import Backend
from maskdsl.runtime.base.input_tensors import as_given
from maskdsl.runtime.base.kept import Kept
from maskdsl.runtime.base.token_values import token_values
from maskdsl.runtime.compiled.compiled_mask import Bound, DerivedMask, register
from maskdsl.runtime.decode.paging import is_on_host
from maskdsl.runtime.torch_ops.attention_op import ATTENTION

_LARGE = 1024
"""A log-sum-exp above which a float32 has lost too much precision to weigh partial results."""


class Regrouped:
    """The compiled masks of both passes of one mask."""

    def __init__(self, regrouping: Regrouping, compiled: Bound) -> None:
        self.regrouping, backend = regrouping, compiled.backend
        self.whole = compiled.default_kernel
        """The kernel of the mask in one pass."""
        fixed = regrouping.fixed
        self.fixed = None if fixed is None else Bound(make_plan(fixed), backend)
        added = regrouping.added
        copies = Copies(added, added.queries.length * regrouping.copies, added.keys.length)
        self.derived = DerivedMask(copies, Bound(make_plan(copies.mask), backend), Kept())
        changes = (each for each in (regrouping.mask.scale, *regrouping.mask.scores) if each is not None)
        read = reads(*changes)
        types = [each.type for each in read.coordinates]
        types += [each.type for each in regrouping.mask.named(read.inputs)]
        self.has_float_inputs = Type.FLOAT in types
        """Whether scores read float inputs, which may make them large."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, tensors: Sequence[Tensor]) -> tuple[Tensor, Tensor] | None:
        """The output and the log-sum-exp; `tensors` are all inputs of the mask, routed ones included.

        Returns None where log-sum-exps are too large to weigh the partial results exactly; the caller then computes one
        pass. On a GPU this is only checked, which waits for it, where scores read float inputs.
        """
        names = (each.name for each in self.regrouping.mask.inputs)
        inputs = dict(zip(names, tensors, strict=True))
        table = _of_every_head(inputs[self.regrouping.route.name], q.shape[1])
        copies = chosen_copies(table, self.regrouping.copies)
        partials = self.attend_copies(copies, q, k, v, inputs)
        if self.fixed is not None:
            register(self.fixed)
            given = [inputs[each.name] for each in self.fixed.plan.mask.inputs]
            partials.append(ATTENTION(q, k, v, given, self.fixed.handle, "declared", True))
        sums = torch.stack([lse.detach() for _, lse in partials])
        checks = is_on_host(sums) or (self.has_float_inputs and _can_be_waited_for(sums))
        if checks and _has_lost_sums(sums):
            return None
        return merge_partials(partials, self.factor(q, tensors))

    @_disable_dynamo  # as `torch.compiler.disable`, which takes a second to import, at the first call
    def factor(self, q: Tensor, tensors: Sequence[Tensor]) -> Tensor | None:
        """The factors of the output, [batch, heads, queries], if there are some."""
        if self.regrouping.mask.factor is None:
            return None
        values: list[Tensor] = self.whole.module.query_values(q, self.whole.values(tensors, q.device))
        return values[-1]

    def attend_copies(
        self, copies: "ChosenCopies", q: Tensor, k: Tensor, v: Tensor, inputs: Mapping[str, Tensor]
    ) -> list[tuple[Tensor, Tensor]]:
        """The partial results of the first copy of every query, of the second copy, and so on."""
        gathered, compiled, _ = self.derived
        register(compiled)
        values = {**inputs, **self.values(copies, inputs, q)}
        given = [values[each.name] for each in gathered.mask.inputs]
        out, lse = ATTENTION(_rows(q, copies.positions), k, v, given, compiled.handle, "declared", True)
        back = copies.back.view(*q.shape[:3], self.regrouping.copies).unbind(dim=-1)
        return [(_rows(out, positions), lse.gather(2, positions)) for positions in back]

    def values(self, copies: "ChosenCopies", inputs: Mapping[str, Tensor], q: Tensor) -> dict[str, Tensor]:
        """The inputs of the copies' mask that hold per-token values of copies and keys, by name."""
        gathered, _, kept = self.derived
        values = {}
        for value in gathered.values:
            node = value.leaf
            if node == Coordinate(Side.QUERY, CHOSEN_GROUP):
                taken = copies.choices
            else:
                whole = token_values(gathered, value, inputs, q.shape[0], q.device, kept)
                taken = whole
                if node.side is Side.QUERY:
                    taken = whole.expand(*q.shape[:2], -1).gather(2, copies.positions)
            values[value.declared.name] = as_given(value.declared, self.narrow(node, taken))
        return values

    def narrow(self, node: Leaf, values: Tensor) -> Tensor:
        """Values as int32 if they are known to fit: the check of int64 inputs would wait for the device."""
        is_short = node.type is Type.INT and self.derived.gathered.reach(node) is None
        return values.to(torch.int32) if is_short else values


class ChosenCopies(NamedTuple):
    """Copies of queries, sorted by chosen group; all int64 [batch, heads, queries * copies]."""

    choices: Tensor
    """The chosen group; -1 for copies beyond a query's choices."""
    positions: Tensor
    """The query that each copy is of."""
    back: Tensor
    """The index of each copy, in the order query by query."""


def _of_every_head(table: Tensor, heads: int) -> Tensor:
    """A table of selected groups [batch, heads, queries, groups], from one of key heads, or of all heads together."""
    table = table.unsqueeze(1) if table.dim() < 4 else table
    return table if table.shape[1] == heads else table.repeat_interleave(heads // table.shape[1], dim=1)


def chosen_copies(table: Tensor, copies: int) -> ChosenCopies:
    """Sorts the choices in a table, bool [batch, heads, queries, groups], with at most `copies` per query."""
    taken, groups = table.to(torch.int8).topk(copies, dim=-1)
    choices = torch.where(taken > 0, groups, -1).flatten(2)
    choices, order = choices.sort(dim=-1, stable=True)
    positions = torch.arange(order.shape[-1], device=order.device).expand_as(order)
    return ChosenCopies(choices, order // copies, torch.empty_like(order).scatter(-1, order, positions))


def _rows(x: Tensor, positions: Tensor) -> Tensor:
    """Gathers tokens of x [batch, heads, tokens, dim] at positions [batch, heads, n], by whole rows."""
    batch, heads, tokens, dim = x.shape
    starts = torch.arange(batch * heads, device=x.device).view(batch, heads, 1) * tokens
    taken = x.flatten(0, 2).index_select(0, (positions + starts).flatten())
    return taken.view(*positions.shape, dim)


def _has_lost_sums(lse: Tensor) -> bool:
    """Whether rounding beside large scores has changed some softmax sum by more than 2**-14 of it."""
    return bool(((lse.abs() > _LARGE) & lse.isfinite()).any())


def _can_be_waited_for(x: Tensor) -> bool:
    return x.is_cuda and not torch.compiler.is_compiling() and not torch.cuda.is_current_stream_capturing()


def merge_partials(partials: Sequence[tuple[Tensor, Tensor]], factor: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Merges partial results (out [batch, heads, queries, dim], lse [batch, heads, queries]) over disjoint keys.

    Any of them may be of no keys. A `factor` multiplies the output of queries with keys, [batch, heads, queries]. Sums
    and their gradients are computed in float32 at least, and rounded once.
    """
    lse = torch.stack([each for _, each in partials])
    m_i = lse.detach().amax(dim=0).clamp(min=torch.finfo(lse.dtype).min)
    weights = torch.exp(lse - m_i)
    l_i = weights.sum(dim=0)
    empty = l_i == 0
    l_i = l_i.masked_fill(empty, 1)
    scale = 1 / l_i if factor is None else torch.where(empty, 0, factor) / l_i
    first, shares = partials[0][0], (weights * scale).unsqueeze(-1)
    out = torch.zeros_like(first, dtype=torch.promote_types(first.dtype, torch.float32))
    for (each, _), share in zip(partials, shares.to(out.dtype), strict=True):
        out = torch.addcmul(out, each, share)
    return out.to(first.dtype), (l_i.log() + m_i).masked_fill(empty, -torch.inf)


_KEPT: WeakKeyDictionary[Bound, Regrouped | None] = WeakKeyDictionary()


def two_passes(compiled: Bound, backend: Backend | None = None) -> Regrouped | None:
    """The two passes of a compiled mask; None if `backend`, by default the usual one, computes it in one.

    Cached while the mask lives.
    """
    backend = backend or compiled.default_kernel.backend
    if not backend.regroups or backend.gathers_choices(compiled.plan):
        return None
    if compiled not in _KEPT:
        mask = compiled.plan.mask if not compiled.routes else replace(compiled.plan.mask, routed=compiled.routes)
        rewritten = regrouping(mask)
        _KEPT[compiled] = None if rewritten is None else Regrouped(rewritten, compiled)
    return _KEPT[compiled]
