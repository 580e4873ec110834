"""Partial calls whose keys and values are of other types than the queries, 8 bits too, with a scale for each head.

They are computed in float32 at least. A scale of keys multiplies the queries of its heads, one of values the output, so
that keys and values are read as they are; what else reads keys, such as routes, is given converted ones.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from math import isfinite
from typing import NamedTuple

import torch
from torch import Tensor

from maskdsl.base.diagnostics import AttnError, shown
from maskdsl.base.errors.calls.serving import CacheScale, ForwardOnly
from maskdsl.runtime.base.validate import EIGHT_BITS, check_tensors, type_name
from maskdsl.runtime.decode.paging import CallPositions, existing_pages
from maskdsl.runtime.torch_ops.attention_op import needs_recording


class Scales(NamedTuple):
    """What keys and values are multiplied by, floats [key heads] or []; None: by 1."""

    keys: Tensor | None
    values: Tensor | None


NO_SCALES = Scales(None, None)


def scales_of(key_scale: object, value_scale: object, k: Tensor, positions: CallPositions | None) -> Scales:
    """The scales that the arguments of a call give. Raises `AttnError`."""
    scales = Scales(_scale("key_scale", key_scale, k), _scale("value_scale", value_scale, k))
    for name, each in zip(("key_scale", "value_scale"), scales, strict=True):
        if each is not None and positions is None:
            hint = "give `query_start` or `page_table`; or multiply keys and values yourself"
            raise AttnError(CacheScale(name=name, found="given in a call without a cache", hint=hint))
    return scales


def _scale(name: str, value: object, k: Tensor) -> Tensor | None:
    """A scale as a tensor. k has its heads before tokens."""
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value):
        return torch.tensor(float(value), device=k.device)
    hint = f"give a number, or floats [key heads] on {k.device}"
    if not isinstance(value, Tensor):
        raise AttnError(CacheScale(name=name, found=shown(value), hint=hint))
    fits = value.is_floating_point() and value.shape in ((), k.shape[1:2]) and value.device == k.device
    if not fits:
        given = f"{type_name(value)} {list(value.shape)} on {value.device}, for {k.shape[1]} key heads"
        raise AttnError(CacheScale(name=name, found=given, hint=hint))
    if needs_recording(value):
        raise AttnError(ForwardOnly(what="a cache with scales", name=name, hint="call it under `torch.no_grad()`"))
    return value


def check_cache(q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], paged: bool) -> None:
    """Raises for tensors that do not fit each other, and where a gradient is asked."""
    check_tensors(q, k, v, "declared", paged=paged, mixed=True)
    for name, x in (("q", q), ("k", k), ("v", v), *(("an input", x) for x in inputs)):
        if needs_recording(x):
            hint = "convert the keys and values, or call it under `torch.no_grad()`"
            raise AttnError(ForwardOnly(what="a cache of another type than the queries", name=name, hint=hint))


def are_readable(*tensors: Tensor) -> bool:
    """Whether kernels read keys and values of these types: on NVIDIA GPUs before Ada they do not read float8_e4m3fn."""
    small = [x for x in tensors if x.dtype == torch.float8_e4m3fn and x.is_cuda and torch.version.hip is None]
    return all(torch.cuda.get_device_capability(x.device) >= (8, 9) for x in small)


def _wide(*tensors: Tensor) -> torch.dtype:
    """The type that a call of these tensors computes in."""
    kinds = [x.dtype for x in tensors if x.dtype not in EIGHT_BITS]
    return reduce(torch.promote_types, kinds, torch.float32)


def read_as_they_are(
    q: Tensor, k: Tensor, v: Tensor, scales: Scales
) -> tuple[Tensor, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]]:
    """The queries of a call with these keys and values as they are, and a function of its results to those wanted."""
    wide, group = _wide(q, k, v), q.shape[1] // k.shape[1]

    def multiplied(x: Tensor, scale: Tensor | None) -> Tensor:
        return x if scale is None else x * _by_head(scale, wide, group)

    def narrow(out: Tensor, lse: Tensor) -> tuple[Tensor, Tensor]:
        return multiplied(out, scales.values).to(q.dtype), lse

    return multiplied(q.to(wide), scales.keys), narrow


def _by_head(scale: Tensor, dtype: torch.dtype, group: int = 1) -> Tensor:
    """A scale of key heads that `group` query heads share, for tensors [batch, heads, tokens, dim]."""
    return scale.to(dtype).expand(scale.numel()).repeat_interleave(group if scale.dim() else 1)[:, None, None]


def converted(
    q: Tensor, k: Tensor, v: Tensor, scales: Scales, positions: CallPositions
) -> tuple[tuple[Tensor, Tensor, Tensor], CallPositions]:
    """The tensors of a call in one type, and its positions. Of pages only those that its table names are converted."""
    wide, table = _wide(q, k, v), positions.page_table
    if table is not None:
        table = existing_pages(table.long(), len(k))
        k, v = (x[table.flatten().clamp(min=0)] for x in (k, v))
        numbers = torch.arange(table.numel(), device=table.device).view_as(table)
        positions = positions._replace(page_table=numbers.masked_fill(table < 0, -1))
    k, v = (
        x.to(wide) if scale is None else x.to(wide) * _by_head(scale, wide)
        for x, scale in ((k, scales.keys), (v, scales.values))
    )
    return (q.to(wide), k, v), positions
