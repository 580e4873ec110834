"""`ShardedTokens`: a plan on the processes of a group: tokens to their homes and back, and attention between them."""

from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any
from weakref import ref

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.compiler import is_dynamo_compiling
from torch.distributed.device_mesh import DeviceMesh

from maskdsl.analysis.tiles.block_map import Array
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.arguments import WrongArgument
from maskdsl.base.errors.calls.serving import ForwardOnly
from maskdsl.base.errors.calls.sharding import NotDecoded, NotOfPlan, OtherProcesses
from maskdsl.distributed.moves import Moves
from maskdsl.distributed.overlap import computes_in_stages
from maskdsl.distributed.shard_plan import RankPlan
from maskdsl.ir.declared.inputs import DimensionKind, Input
from maskdsl.ir.expressions import PAIR
from maskdsl.ir.facts.route_candidates import most, selects
from maskdsl.runtime.base.passed_inputs import passed
from maskdsl.runtime.base.validate import arguments, check_sums, check_tensors
from maskdsl.runtime.base_attention import BaseAttention
from maskdsl.runtime.calls.summand import Summand
from maskdsl.runtime.compiled.compiled_mask import Bound
from maskdsl.runtime.decode.paging import call_positions, integers
from maskdsl.runtime.routing.find_op import with_routed
from maskdsl.runtime.torch_ops.attention_op import needs_recording
from maskdsl.runtime.torch_ops.dropped_mask import dropout_inputs, drops
from maskdsl.runtime.torch_ops.hold_op import held_inputs
from maskdsl.sharding.agreement import check_alike, described, group_of, is_computed
from maskdsl.sharding.gathered_call import GatheredCall
from maskdsl.sharding.layer_exchange import LayerExchange
from maskdsl.sharding.moved_rows import gathered, summed, taken
from maskdsl.sharding.pooled_tokens import PooledTokens
from maskdsl.sharding.selecting_tokens import SelectingTokens
from maskdsl.sharding.sharded_call import ShardedCall
from maskdsl.sharding.shared_cache import SharedCache, reads_all_keys
from maskdsl.sharding.token_ops import ATTENDED, GATHERED, SCATTERED, as_planned, key_of


class ShardedTokens:
    """The tokens of a plan's rank in a group of processes. All processes call its methods alike.

    Gradients are those of one process, where all processes compute the same from what `gather` gives.
    """

    def __init__(self, plan: RankPlan, group: dist.ProcessGroup | DeviceMesh) -> None:
        if isinstance(group, DeviceMesh) and group.ndim != 1:
            dimensions = f"the mesh has {group.ndim} dimensions"
            raise AttnError(OtherProcesses(ranks=plan.ranks, found=dimensions, size=plan.ranks))
        group = group_of(group)
        size = dist.get_world_size(group)
        if size != plan.ranks:
            raise AttnError(OtherProcesses(ranks=plan.ranks, found=f"the group has {size}", size=size))
        self.plan, self.group = plan, group
        self._is_alike = False
        self._stages: dict[int, bool] = {}
        self._deciding: dict[tuple[int, str], tuple[Input, bool]] = {}
        self._compared: dict[tuple[int, str], tuple[ref[Tensor], int]] = {}
        self.rank, self._key = dist.get_rank(group), key_of(self)
        self._layers = [
            LayerExchange(Moves(work, homes), group, partial(self._pooled, number))
            for number, (work, homes) in enumerate(zip(plan.best.works, plan.best.homes, strict=True))
        ]

    @cached_property
    def positions(self) -> Tensor:
        """int64 [tokens of this rank]: their declared positions; in cross-attention, of its queries."""
        return torch.from_numpy(self._positions[False][self.rank])

    @cached_property
    def _positions(self) -> tuple[list[Array], list[Array]]:
        """The positions of each rank's queries, and of its keys."""
        queries, keys = (
            [self.plan.positions(rank, of_keys) for rank in range(self.plan.ranks)] for of_keys in (False, True)
        )
        return queries, keys

    @cached_property
    def _outputs(self) -> list[Array]:
        """The positions of the rows of each rank's output."""
        return [self.plan.outputs(rank) for rank in range(self.plan.ranks)]

    @cached_property
    def lengths(self) -> tuple[int, int]:
        """The queries and the keys of the whole sequence that a call gives."""
        queries, keys = (sum(map(len, positions)) for positions in self._positions)
        return queries, keys

    def scatter(self, x: Tensor, dim: int, *, keys: bool = False, outputs: bool = False) -> Tensor:
        """This rank's tokens of x, which all ranks have whole, in declared order along `dim`.

        In cross-attention its queries, or its `keys`. Where queries are pooled, x with `outputs` has a row for each row
        of the output.
        """
        if not is_dynamo_compiling():
            return self.scattered(x, keys, dim, outputs)
        rows: Tensor = SCATTERED(x, dim, keys, outputs, self._key)
        return rows

    def scattered(self, x: Tensor, keys: bool, dim: int, outputs: bool) -> Tensor:
        """What `scatter` returns; in graphs, an operator calls it."""
        positions = self._outputs if outputs else self._positions[keys]
        self._check_length("the tensor", x.shape[dim], sum(map(len, positions)))
        rows = taken(x.movedim(dim, 0), [torch.tensor(each, device=x.device) for each in positions], self.group)
        return rows.movedim(0, dim)

    def gather(self, x: Tensor, dim: int, *, keys: bool = False, outputs: bool = False) -> Tensor:
        """All tokens, in declared order along `dim`, of the tokens of each rank: the inverse of `scatter`."""
        if not is_dynamo_compiling():
            return self.gathered(x, keys, dim, outputs)
        whole: Tensor = GATHERED(x, dim, keys, outputs, self._key)
        return whole

    def gathered(self, x: Tensor, keys: bool, dim: int, outputs: bool) -> Tensor:
        """What `gather` returns; in graphs, an operator calls it."""
        positions = self._outputs if outputs else self._positions[keys]
        self._check_length("the tensor of this rank", x.shape[dim], len(positions[self.rank]))
        rows = gathered(x.movedim(dim, 0), [len(each) for each in positions], self.group)
        back = torch.tensor(np.argsort(np.concatenate(positions)), device=x.device)
        return rows[back].movedim(0, dim)

    def roll(self, x: Tensor, shifts: int, dim: int) -> Tensor:
        """This rank's tokens of the whole sequence rolled by `shifts` along `dim`, as by `torch.roll`."""
        return self.scatter(self.gather(x, dim).roll(shifts, dim), dim)

    def attend(
        self,
        attention: BaseAttention,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        /,
        *,
        return_lse: bool = False,
        dropout_p: float = 0.0,
        seed: int | Tensor | None = None,
        **inputs: Any,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """The attention's output for this rank's queries, as one process computes it.

        q, k and v have the tokens of this rank, in the attention's layout; `inputs` are whole on all ranks, and so are
        their gradients. `return_lse`, `dropout_p` and `seed` are those of a call. Raises `AttnError` for an attention
        that is not of the plan. The first call outside of graphs raises on all ranks where it does on one, or where
        these do not make the same call.
        """
        if not is_dynamo_compiling() and not self._is_alike and is_computed():
            call = attention, q, k, v, return_lse, dropout_p, seed, inputs
            check_alike(lambda: {**self._described(*self._given(*call)), "`return_lse`": f"{return_lse}"}, self.group)
            self._is_alike = True
        attention, q, k, v, tensors = self._given(attention, q, k, v, return_lse, dropout_p, seed, inputs)
        if is_dynamo_compiling():
            out, lses = ATTENDED(q, k, v, tensors, return_lse, attention._handle, self._key)
        else:
            out, lses = self.attended(attention, q, k, v, tensors, return_lse)
        if attention.layout == "bnhd":
            out, lses = out.transpose(1, 2), [lse.transpose(1, 2) for lse in lses]
        return (out, attention._of_branches(lses, dim=1)) if return_lse else out

    def _given(
        self,
        attention: BaseAttention,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        return_lse: bool,
        dropout_p: float,
        seed: int | Tensor | None,
        inputs: dict[str, Any],
    ) -> tuple[BaseAttention, Tensor, Tensor, Tensor, list[Tensor]]:
        """The attention, with dropout where some is asked for, q, k and v with heads before tokens, and its inputs."""
        if not isinstance(attention, BaseAttention):
            expected = "what `mask.compile()` makes, and the inputs by name"
            raise AttnError(WrongArgument(name="attention", found=type(attention).__name__, expected=expected))
        if return_lse:
            check_sums(attention._signatures)
        if drops(dropout_p, seed):
            inputs = inputs | dropout_inputs(dropout_p, seed, q.device)
            (attention,) = attention._dropping
        q, k, v, tensors = arguments(attention._signature, q, k, v, inputs)
        if not q.dim() == k.dim() == v.dim() == 4:
            check_tensors(q, k, v, "declared")
        if attention.layout == "bnhd":
            q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        if attention._signature.sparse:
            tensors = held_inputs(attention._single.handle.name, attention._signature, tensors, self.lengths, q.device)
        return attention, q, k, v, tensors

    def _described(
        self, attention: BaseAttention, q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor]
    ) -> dict[str, str]:
        """What is the same on all ranks of a call. Raises `AttnError` for one that is not of the plan."""
        self._check_tokens(q, k, v)
        named = dict(zip(attention.inputs, inputs, strict=True))
        return described(self.plan, self._layer_of(attention), {"q": q, "k": k, "v": v}, named)

    def attended(
        self, attention: BaseAttention, q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], wants_lse: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """The output and each summand's log-sum-exp, with heads before tokens; in graphs, an operator calls it."""
        number = self._layer_of(attention)
        tensors = [summed(each, self.group) if each.requires_grad else each for each in inputs]
        self._check_tokens(q, k, v)
        q, k, v = (x.movedim(2, 0) for x in (q, k, v))
        summands = [
            (each, [tensors[at] for at in wanted])
            for each, wanted in attention._summands or [(attention._single, range(len(tensors)))]
        ]
        whole = self._layers[number].moves.work.gathered
        if whole.values:
            gathering = GatheredCall(self._positions, self._outputs, self.group)
            return (gathering.of_all_queries if whole.queries else gathering.by_stretches)(summands, q, k, v)
        is_routed = any(each.signature.is_routed for each, _ in summands)
        selecting = self._selecting(number, q, k) if is_routed else None
        read = [(each, self._read(number, each, q, given, selecting)) for each, given in summands]
        mask, in_stages = self.plan.masks[number], self._in_stages(number)
        call = ShardedCall(self._layers[number], self.plan.orders, read, mask, in_stages)
        out, lses = call.attended(q, k, v, wants_lse)
        return out.movedim(0, 2), [lse.movedim(0, 2) for lse in lses]

    def decode(
        self,
        attention: BaseAttention,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        /,
        *,
        key_lengths: int | Tensor,
        query_start: int | Tensor | None = None,
        return_lse: bool = False,
        **inputs: Any,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """The attention of the same queries on every rank to a cache that ranks share, as one process computes it.

        q is [batch, heads, queries, head dim] and whole, as are `inputs`, and so is the output. k and v are the caches
        of this rank, [batch, key heads, tokens of this rank, head dim], as `scatter(x, dim, keys=True)` gives them and
        `store` fills them. `key_lengths` counts the keys so far, on all ranks: a number, or integers [batch]. The first
        query is at `query_start`, by default such that queries are the last tokens. There are no gradients. Raises
        `AttnError` for an attention that is not of the plan, for positions that do not exist, and for patterns of which
        a step reads keys of several ranks: routes, pooled keys, products of vectors, one softmax for each key.
        """
        self._layer_of(attention)
        if return_lse:
            check_sums(attention._signatures)
        q, k, v, tensors = arguments(attention._signature, q, k, v, inputs)
        if not q.dim() == k.dim() == v.dim() == 4:
            check_tensors(q, k, v, "declared")
        if attention.layout == "bnhd":
            q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        for name, x in (("q", q), ("k", k), ("v", v), *zip(attention.inputs, tensors, strict=True)):
            if needs_recording(x):
                hint = "call it under `torch.no_grad()`"
                raise AttnError(ForwardOnly(what="decoding over several processes", name=name, hint=hint))
        for name, x in (("k", k), ("v", v)):
            self._check_length(f"`{name}`", x.shape[2], len(self._cache.positions))
        _, lengths, *_ = call_positions(q, None, key_lengths, None, None)
        assert lengths is not None
        start = lengths - q.shape[2] if query_start is None else integers("query_start", query_start, q.device)
        summands = [
            (self._decodable(each), [tensors[at] for at in wanted])
            for each, wanted in attention._summands or [(attention._single, range(len(tensors)))]
        ]
        out, lses = self._cache.attended(summands, q, k, v, start, lengths)
        if attention.layout == "bnhd":
            out, lses = out.transpose(1, 2), [lse.transpose(1, 2) for lse in lses]
        return (out, attention._of_branches(lses, dim=1)) if return_lse else out

    def store(self, x: Tensor, cache: Tensor, start: int | Tensor, dim: int) -> None:
        """Writes the tokens of x, which all ranks have, that this rank holds into its cache of keys or values.

        Tokens stand along `dim`, behind the batch. `start` is the position of the first one: a number, or integers
        [batch]. Raises `AttnError` for positions that do not exist.
        """
        self._check_length("the cache", cache.shape[dim], len(self._cache.positions))
        starts, tokens, length = integers("start", start, x.device).expand(len(x)), x.shape[dim], self._cache.length
        if starts.numel() and not 0 <= int(starts.min()) <= int(starts.max()) <= length - tokens:
            what = f"{tokens} tokens begin at {int(starts.min())} to {int(starts.max())}"
            advice = "bind the mask with the length of the longest sequence"
            raise AttnError(NotOfPlan(what=what, planned=f"{length} keys", advice=advice))
        self._cache.store(x, cache, starts, dim)

    @cached_property
    def _cache(self) -> SharedCache:
        return SharedCache(self._positions[True][self.rank], self.lengths[1], self.group)

    def _decodable(self, summand: Summand) -> Bound:
        """The summand's mask at the plan's lengths."""
        compiled = summand.compiled.bound(*self.lengths)
        reason = reads_all_keys(compiled.plan.mask)
        if reason is not None:
            raise AttnError(NotDecoded(pattern=compiled.plan.mask.name, reason=reason, span=compiled.plan.mask.span))
        return compiled

    def _in_stages(self, layer: int) -> bool:
        """Whether this rank computes a layer in two stages. Cached."""
        exchange, plan = self._layers[layer], self.plan
        if layer not in self._stages:
            at = exchange.team, exchange.head_group
            self._stages[layer] = computes_in_stages(exchange.moves, *at, plan.cluster, plan.layer)
        return self._stages[layer]

    def _selecting(self, layer: int, q: Tensor, k: Tensor) -> SelectingTokens:
        """The tokens by which routes select, from those of the rank."""
        moves = self._layers[layer].moves
        whole, (q, k) = moves.work.gathered.in_groups(moves.homes.groups), (x.movedim(0, 2) for x in (q, k))
        gather, at = partial(self.gathered, dim=2, outputs=False), self._positions[False][self.rank]
        return SelectingTokens(whole, q, k, gather, at, self.lengths)

    def _read(
        self, layer: int, summand: Summand, q: Tensor, inputs: list[Tensor], selecting: SelectingTokens | None
    ) -> list[Tensor]:
        """All inputs that the mask reads, what routes select among them: as in one process."""
        bound = summand.compiled.bound(*self.lengths)
        sides = (side for each in bound.signature.declared for side in each.dimensions)
        lengths = {side.text: side.size for side in sides if side.kind is DimensionKind.TOKENS and side.size}
        inputs = passed(summand.signature, inputs, q.shape[1], q.shape[3], q.device, lengths)
        if selecting is not None and summand.signature.is_routed:
            inputs = with_routed(summand.handle.name, selecting.q, selecting.k, inputs)
        return [
            self._checked(layer, each, x, is_given=each.name in summand.signature.inputs)
            for each, x in zip(bound.for_given_routes.plan.mask.inputs, inputs, strict=True)
        ]

    def _pooled(self, layer: int, given: Array, laid_out: Array, keys: bool) -> PooledTokens:
        """What makes tokens of a layer of their given ones, which are sorted."""
        order = self.plan.orders[keys]
        tokens = laid_out if order is None else order[laid_out]
        return PooledTokens(self.plan.masks[layer], PAIR[keys], self.plan.inputs[layer], given, tokens)

    def _layer_of(self, attention: BaseAttention) -> int:
        """The number of the attention's layer among the plan's different ones."""
        mask = attention._compiled.bound(*self.lengths).plan.mask
        planned_for = mask.heads, mask.queries.length, mask.keys.length
        relations = mask.relation, most(mask).relation if selects(mask) else mask.relation
        number = next(
            (
                at
                for at, each in enumerate(self.plan.masks)
                if (each.heads, each.queries.length, each.keys.length) == planned_for and each.relation in relations
            ),
            None,
        )
        if number is None:
            planned = ", ".join(f"`{each.name}`" for each in self.plan.masks)
            advice = "plan for the mask of the attention, with the same values of its parameters: mask.shard(ranks)"
            raise AttnError(NotOfPlan(what=f"the attention is of `{mask.name}`", planned=planned, advice=advice))
        return number

    def _checked(self, layer: int, declared: Input, x: Tensor, is_given: bool) -> Tensor:
        """The input. If it decides tiles, it is the one that was planned for, or the call raises."""
        if declared.name not in self.plan.inputs[layer]:
            return x
        self._deciding[layer, declared.name] = declared, is_given
        return as_planned(x, layer, declared.name, self, self._key)

    def check_planned(self, layer: int, name: str, x: Tensor) -> None:
        """Raises if an input that decides tiles is not the one that was planned for.

        A tensor on a GPU is compared once, unless it has no version: one of the host costs little, and NumPy may have
        written into it.
        """
        declared, is_given = self._deciding[layer, name]
        is_counted = x.device.type != "cpu" and not x.is_inference()
        known, version = self._compared.get((layer, name), (None, 0))
        if is_counted and known is not None and known() is x and version == x._version:
            return
        if not _is_planned(declared, x, torch.tensor(self.plan.inputs[layer][name], device=x.device)):
            anew = f"plan anew where inputs change: mask.shard({self.plan.ranks}, scheme=plan.scheme, {name}=...)"
            advice = anew if is_given else "plan without `q` and `k`: then for all pairs that routes may select"
            what = f"the input `{name}` decides which keys are needed"
            raise AttnError(NotOfPlan(what=what, planned="other values of it", advice=advice))
        if is_counted:
            self._compared[layer, name] = ref(x), x._version

    def _check_tokens(self, q: Tensor, k: Tensor, v: Tensor) -> None:
        """Checks that this rank's tokens are given, with heads before tokens."""
        for name, x, of_keys in (("q", q, False), ("k", k, True), ("v", v, True)):
            self._check_length(f"`{name}`", x.shape[2], len(self._positions[of_keys][self.rank]))

    def _check_length(self, what: str, length: int, planned: int) -> None:
        if length != planned:
            advice = "give whole tensors to `scatter`, and what it returns to `gather` and `attend`"
            raise AttnError(NotOfPlan(what=f"{what} has {length} tokens", planned=f"{planned}", advice=advice))


def _is_planned(declared: Input, x: Tensor, planned: Tensor) -> bool:
    """Whether the values are equal. Where a batch has one entry, it stands for all."""
    if not x.dim() == planned.dim() == len(declared.held):
        return False
    sides = zip(declared.held, x.shape, planned.shape, strict=True)
    if any(a != b and (each.kind is not DimensionKind.BATCH or 1 not in (a, b)) for each, a, b in sides):
        return False
    return bool(((x == planned) | (x.isnan() & planned.isnan())).all())
