"""Calls with DTensors: the shards that this process computes, and its results as DTensors again.

Each dimension of the mesh shares the batch, the heads, or nothing, as the placements of `q` say; all else follows it.
"""

from collections.abc import Callable, Mapping
from enum import Enum, auto
from math import prod
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, Shard

from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.sharding import UnfitShards
from maskdsl.base.errors.calls.vectors import NotATensor
from maskdsl.ir.declared.inputs import DimensionKind
from maskdsl.runtime.compiled.compiled_mask import find
from maskdsl.runtime.compiled.mask_calls import remember
from maskdsl.runtime.methods.attention_facts import AttentionModule

_PLAN = (
    "tokens of several processes need a plan: cp = mask.shard(ranks).on(mesh), which is `plan.on`, and "
    "cp.attend(attention, q, k, v) with local tensors"
)
_TAKEN = "q may be sharded along its batch or its heads, or replicated"
_REFUSED = ("routing_state", "return_routes", "out")
_OF_BATCH = ("query_start", "key_lengths", "page_table")
_OF_KEY_HEADS = ("key_scale", "value_scale")
_AS_THEY_ARE = ("return_lse", "layout", "page_size", "debug")


class _Shares(Enum):
    """What the processes along a dimension of the mesh share."""

    NOTHING = auto()
    BATCH = auto()
    HEADS = auto()


def attend_shards(
    attention: AttentionModule,
    kind: Callable[..., AttentionModule],
    vectors: tuple[Any, Any, Any],
    named: Mapping[str, Any],
) -> DTensor | tuple[DTensor, DTensor]:
    """A call with q, k and v, of which q is a DTensor, with these options and inputs: see `BaseAttention.forward`.

    `kind` is the class of attentions for [batch, heads, tokens, dim]. Raises `AttnError` for other placements.
    """
    _check(vectors, named)
    axes = vectors[0].shape[1:-2]
    if attention._tokens_first is not None:
        vectors = attention._tokens_first.heads_first(*vectors, named["layout"])
    q, k, v = vectors
    mesh, table = _SharedMesh(q), named["page_table"]
    lengths = q.shape[2], k.shape[2] if table is None else table.shape[-1] * k.shape[2]
    here = mesh.attention_here(attention, kind, lengths if mesh.processes(_Shares.BATCH) > 1 else None)
    given: dict[str, Any] = {}
    for name, x in named.items():
        if name in _OF_BATCH:
            given[name] = mesh.local(x, 0) if isinstance(x, Tensor) else x
        elif name in _OF_KEY_HEADS:
            given[name] = mesh.of_keys(name, x, 0) if isinstance(x, Tensor) and x.dim() else x
        elif name in _AS_THEY_ARE:
            given[name] = x
        elif name not in _REFUSED:
            given[name] = mesh.of_input(attention, name, x)
    batch_at = 0 if table is None else None
    result = here(mesh.local(q, 0, 1), mesh.of_keys("k", k, 1, batch_at), mesh.of_keys("v", v, 1, batch_at), **given)
    out, *lse = result if named["return_lse"] else (result,)
    wholes = [mesh.whole(out, 1), *(mesh.whole(each, each.dim() - 2) for each in lse)]
    if attention._tokens_first is not None:
        axes = axes if len(axes) > 1 else (out.shape[2],)
        split: Callable[..., Any] = torch.unflatten
        wholes = [split(wholes[0].transpose(1, 2), 1, axes), *(split(x.mT, -2, axes) for x in wholes[1:])]
    return (wholes[0], wholes[1]) if lse else wholes[0]


def attend_packed_shards(
    attention: AttentionModule,
    kind: Callable[..., AttentionModule],
    vectors: tuple[Any, Any, Any],
    named: Mapping[str, Any],
) -> DTensor | tuple[DTensor, DTensor]:
    """The same for packed sequences, q [all queries, heads, head dim]: see `BaseAttention.varlen`."""
    _check(vectors, named)
    q, k, v = vectors
    mesh = _SharedMesh(q)
    here: Any = mesh.attention_here(attention, kind, None)
    given: dict[str, Any] = {}
    for name, x in named.items():
        if name in _OF_KEY_HEADS:
            given[name] = mesh.of_keys(name, x, 0) if isinstance(x, Tensor) and x.dim() else x
        elif name in attention.inputs:
            given[name] = mesh.of_input(attention, name, x)
        elif name not in _REFUSED:
            given[name] = x.full_tensor() if isinstance(x, DTensor) else x
    result = here.varlen(mesh.local(q, None, 1), mesh.of_keys("k", k, 1), mesh.of_keys("v", v, 1), **given)
    if not named["return_lse"]:
        return mesh.whole(result, 1)
    out, lse = result
    return mesh.whole(out, 1), mesh.whole(lse, 0)


def _check(vectors: tuple[Any, Any, Any], named: Mapping[str, Any]) -> None:
    absent = [name for name, x in zip("qkv", vectors, strict=True) if not isinstance(x, Tensor)]
    if absent:
        raise AttnError(*(NotATensor(name=name, found="not given") for name in absent))
    for name in _REFUSED:
        if named.get(name) is not None and named[name] is not False:
            _refuse("q", f"beside `{name}`", "give local shards: q.to_local()")


def _refuse(name: str, how: str, advice: str) -> NoReturn:
    """Raises `UnfitShards`; also while torch.compile traces, which cannot trace how an error is made."""
    raise AttnError(UnfitShards(name=name, how=how, advice=advice))


def _make_of_heads(
    kind: Callable[..., AttentionModule], handle: str, first: int, count: int, lengths: tuple[int, int] | None
) -> None:
    """Makes the attention of some heads. With lengths, of queries and keys, checked to read no number of entries."""
    key = kind, handle, first, count, lengths
    if key in _OF_HEADS:
        return
    compiled = find(handle).of_heads(first, count)
    signature = compiled.signature
    if lengths is not None and compiled.bound(*lengths).plan.reads_batch:
        how = f"whose batch is shared, but `{signature.pattern}` reads the numbers of entries, as dropout does"
        advice = "give local shards, q.to_local(), with a seed for each process"
        raise AttnError(UnfitShards(name="q", how=how, advice=advice, span=signature.span))
    remember(_OF_HEADS, key, kind(compiled))


# Called while torch.compile traces, as `assume_constant_result` does it. What is made, graphs read by its key.
_refuse._dynamo_marked_constant = True  # type: ignore[attr-defined]
_make_of_heads._dynamo_marked_constant = True  # type: ignore[attr-defined]
_OF_HEADS: dict[object, AttentionModule] = {}


class _SharedMesh:
    """A mesh whose processes share a call, by the placements of its q [batch, heads, tokens, dim].

    Of packed sequences q is [tokens, heads, dim].
    """

    def __init__(self, q: DTensor) -> None:
        self.mesh: DeviceMesh = q.device_mesh
        self.batch = q.shape[0]
        self.heads = q.shape[1]
        self.kinds = tuple([_shares("q", each, 1, q.dim()) for each in q.placements])
        for name, kind, count in (("batch", _Shares.BATCH, q.shape[0]), ("heads", _Shares.HEADS, q.shape[1])):
            if count % self.processes(kind):
                how = f"whose {name}, {count}, is shared by {self.processes(kind)} processes"
                _refuse("q", how, f"let the processes divide it; {_TAKEN}")

    def attention_here(
        self, attention: AttentionModule, kind: Callable[..., AttentionModule], lengths: tuple[int, int] | None
    ) -> AttentionModule:
        """The attention of this process's heads: see `_make_of_heads`."""
        count = self.heads // self.processes(_Shares.HEADS)
        first = self.number(_Shares.HEADS) * count
        _make_of_heads(kind, attention._handle, first, count, lengths)
        return _OF_HEADS[kind, attention._handle, first, count, lengths]

    def processes(self, kind: _Shares) -> int:
        """How many processes share the batch, or the heads."""
        return prod([self.mesh.size(at) for at, each in enumerate(self.kinds) if each is kind])

    def number(self, kind: _Shares) -> int:
        """The number of this process among them."""
        number = 0
        for at, each in enumerate(self.kinds):
            if each is kind:
                number = number * self.mesh.size(at) + self.mesh.get_local_rank(at)
        return number

    def local(self, x: Tensor, batch_at: int | None = None, heads_at: int | None = None) -> Tensor:
        """This process's entries and heads of x, or all of x where it has no such axis: then gradients add up."""
        axes = {_Shares.NOTHING: None, _Shares.BATCH: batch_at, _Shares.HEADS: heads_at}
        placements: list[Placement] = []
        grads: list[Placement] = []
        for kind in self.kinds:
            axis = axes[kind]
            placements.append(Replicate() if axis is None else Shard(axis))
            whole = Replicate() if kind is _Shares.NOTHING else Partial()
            grads.append(whole if axis is None else Shard(axis))
        if not isinstance(x, DTensor):  # whole on every process, and so is its gradient
            x = DTensor.from_local(x, self.mesh, [Replicate()] * self.mesh.ndim, run_check=False)
        local: Tensor = x.redistribute(self.mesh, placements).to_local(grad_placements=grads)
        return local

    def whole(self, x: Tensor, heads_at: int) -> DTensor:
        """A result of this process as one of all."""
        placements = {_Shares.BATCH: Shard(0), _Shares.HEADS: Shard(heads_at), _Shares.NOTHING: Replicate()}
        whole: DTensor = DTensor.from_local(x, self.mesh, [placements[each] for each in self.kinds], run_check=False)
        return whole

    def of_keys(self, name: str, x: Tensor, heads_at: int, batch_at: int | None = None) -> Tensor:
        """The key heads that this process's query heads read."""
        if isinstance(x, DTensor) and x.dim() > 2:
            for each in x.placements:
                _shares(name, each, heads_at, x.dim())
        processes, count = self.processes(_Shares.HEADS), x.shape[heads_at]
        if count % processes == 0:
            return self.local(x, batch_at, heads_at)
        if processes % count:
            how = f"whose heads, {count}, are shared by {processes} processes"
            _refuse(name, how, "let one of both numbers divide the other")
        return self.local(x, batch_at).narrow(heads_at, self.number(_Shares.HEADS) * count // processes, 1)

    def of_input(self, attention: AttentionModule, name: str, x: Any) -> Any:
        """This process's entries of an input; it has those of all heads."""
        declared = next((each for each in attention.declared_inputs if each.name == name), None)
        kinds = () if declared is None else tuple(each.kind for each in declared.dimensions)
        at = kinds.index(DimensionKind.BATCH) if DimensionKind.BATCH in kinds else None
        if declared is not None and declared.sparse:
            if at is not None and self.processes(_Shares.BATCH) > 1:
                how = f"whose batch is shared, but `{name}` is a list of the entries of all"
                _refuse("q", how, "give local shards and lists: q.to_local()")
            return x
        x = x if isinstance(x, Tensor) else torch.as_tensor(x, device=self.mesh.device_type)
        return self.local(x, None if at is None or x.shape[at] != self.batch else at)


def _shares(name: str, placement: Placement, heads_at: int, dims: int) -> _Shares:
    """What processes share by a placement: of [batch, heads, tokens, dim], or of packed [tokens, heads, dim].

    Sums that are open are added up.
    """
    match placement:
        case Shard(dim=dim) if dim == heads_at:
            return _Shares.HEADS
        case Shard(dim=0) if dims > 3:
            return _Shares.BATCH
        case Shard(dim=dim) if dim == (2 if dims > 3 else 0):
            _refuse(name, "that is sharded along its tokens", _PLAN)
        case Shard():
            _refuse(name, "that is sharded along its head dim", f"redistribute it: {_TAKEN}")
        case _:
            return _Shares.NOTHING
