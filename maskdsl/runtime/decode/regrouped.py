"""Attention in which queries choose groups of keys one by one: a pass without choices, and one over copies of queries.

See `maskdsl/ir/rewrites/regroup.py`. Both are calls of the operator, and lead gradients back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from maskdsl.emit.plan import make_plan
from maskdsl.ir.expressions import Coordinate, Side
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.ops import Type
from maskdsl.ir.rewrites.chunk import Leaf
from maskdsl.ir.rewrites.regroup import CHOSEN_GROUP, Copies, Regrouping, regrouping
from maskdsl.runtime.base.input_tensors import as_given
from maskdsl.runtime.base.kept import Kept
from maskdsl.runtime.base.token_values import token_values
from maskdsl.runtime.compiled_mask import Bound, DerivedMask, register
from maskdsl.runtime.decode.paging import is_seen
from maskdsl.runtime.torch_ops.attention_op import ATTENTION

_LARGE = 1024
"""As the tiled backend has it."""


class Regrouped:
    """The compiled masks of both passes."""

    def __init__(self, regrouping: Regrouping, backend: str) -> None:
        self.regrouping = regrouping
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
        """In scores, which may be as large as these."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, tensors: Sequence[Tensor]) -> tuple[Tensor, Tensor] | None:
        """The output and the log-sum-exp, from all inputs of the mask, those found among them.

        None where log-sum-exps are seen to be too large to say what each pass weighs: one pass is right then. It is
        where scores read inputs that they are, and there a GPU is waited for.
        """
        names = (each.name for each in self.regrouping.mask.inputs)
        inputs = dict(zip(names, tensors, strict=True))
        copies = chosen_copies(inputs[self.regrouping.route.name], self.regrouping.copies)
        parts = self.attend_copies(copies, q, k, v, inputs)
        if self.fixed is not None:
            register(self.fixed)
            given = [inputs[each.name] for each in self.fixed.plan.mask.inputs]
            parts.append(ATTENTION(q, k, v, given, self.fixed.handle, "declared", True))
        sums = torch.stack([lse.detach() for _, lse in parts])
        looks = is_seen(sums) or (self.has_float_inputs and _can_be_waited_for(sums))
        return None if looks and _has_lost_sums(sums) else merged(parts)

    def attend_copies(
        self, copies: "ChosenCopies", q: Tensor, k: Tensor, v: Tensor, inputs: Mapping[str, Tensor]
    ) -> list[tuple[Tensor, Tensor]]:
        """The results of the first copies of all queries, of the second ones, and so on."""
        gathered, compiled, _ = self.derived
        register(compiled)
        values = {**inputs, **self.values(copies, inputs, q)}
        given = [values[each.name] for each in gathered.mask.inputs]
        out, lse = ATTENTION(_rows(q, copies.positions), k, v, given, compiled.handle, "declared", True)
        back = copies.back.view(*q.shape[:3], self.regrouping.copies).unbind(dim=-1)
        return [(_rows(out, positions), lse.gather(2, positions)) for positions in back]

    def values(self, copies: "ChosenCopies", inputs: Mapping[str, Tensor], q: Tensor) -> dict[str, Tensor]:
        """What pairs read of copies and of keys, as inputs."""
        gathered, _, kept = self.derived
        values = {}
        for value in gathered.values:
            node = value.leaf
            if node == Coordinate(Side.QUERY, CHOSEN_GROUP):
                own = copies.choices
            else:
                whole = token_values(gathered, value, inputs, q.shape[0], q.device, kept)
                own = whole
                if node.side is Side.QUERY:
                    own = whole.expand(*q.shape[:2], -1).gather(2, copies.positions)
            values[value.declared.name] = as_given(value.declared, self.narrow(node, own))
        return values

    def narrow(self, node: Leaf, values: Tensor) -> Tensor:
        """Integers known to have 32 bits, with 32: those with more are checked, for which the host waits."""
        is_short = node.type is Type.INT and self.derived.gathered.reach(node) is None
        return values.to(torch.int32) if is_short else values


class ChosenCopies(NamedTuple):
    """Copies of queries, sorted by what they have chosen, all [batch, heads, queries * copies]."""

    choices: Tensor
    """-1 where a query has no more choices."""
    positions: Tensor
    """Of which query each is a copy."""
    back: Tensor
    """Where the copies of each query are, one query behind the other."""


def chosen_copies(table: Tensor, copies: int) -> ChosenCopies:
    """From which groups were selected, bool [batch, heads, queries, groups], at most `copies` by each query."""
    taken, groups = table.to(torch.int8).topk(copies, dim=-1)
    choices = torch.where(taken > 0, groups, -1).flatten(2)
    choices, order = choices.sort(dim=-1, stable=True)
    positions = torch.arange(order.shape[-1], device=order.device).expand_as(order)
    return ChosenCopies(choices, order // copies, torch.empty_like(order).scatter(-1, order, positions))


def _rows(x: Tensor, positions: Tensor) -> Tensor:
    """x [batch, heads, tokens, dim] at these tokens, [batch, heads, any number]: whole rows, which are fast to copy."""
    batch, heads, tokens, dim = x.shape
    starts = torch.arange(batch * heads, device=x.device).view(batch, heads, 1) * tokens
    taken = x.flatten(0, 2).index_select(0, (positions + starts).flatten())
    return taken.view(*positions.shape, dim)


def _has_lost_sums(lse: Tensor) -> bool:
    """Whether some log-sum-exps have lost more than 2**-14 of their sums beside large scores."""
    return bool(((lse.abs() > _LARGE) & lse.isfinite()).any())


def _can_be_waited_for(x: Tensor) -> bool:
    return x.is_cuda and not torch.compiler.is_compiling() and not torch.cuda.is_current_stream_capturing()


def merged(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Results for parts of the keys, [batch, heads, queries, dim] and without dim, as one; parts may be empty."""
    lse = torch.stack([each for _, each in parts])
    m_i = lse.detach().amax(dim=0).clamp(min=torch.finfo(lse.dtype).min)
    weights = torch.exp(lse - m_i)
    l_i = weights.sum(dim=0)
    empty = l_i == 0
    l_i = l_i.masked_fill(empty, 1)
    out, shares = torch.zeros_like(parts[0][0]), (weights / l_i).unsqueeze(-1)
    for (each, _), share in zip(parts, shares.to(out.dtype), strict=True):
        out = torch.addcmul(out, each, share)
    return out, (l_i.log() + m_i).masked_fill(empty, -torch.inf)


_KEPT: WeakKeyDictionary[Bound, Regrouped | None] = WeakKeyDictionary()


def two_passes(compiled: Bound) -> Regrouped | None:
    """How a compiled mask is computed in two passes, if it is."""
    if compiled not in _KEPT:
        mask = compiled.plan.mask if not compiled.routes else replace(compiled.plan.mask, routed=compiled.routes)
        found = regrouping(mask) if compiled.default_kernel.backend.regroups else None
        _KEPT[compiled] = None if found is None else Regrouped(found, compiled.backend)
    return _KEPT[compiled]
