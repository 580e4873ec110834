"""The Triton backend: tiles of a call as tensors for its generated kernel, which is started here.

Runs on GPUs, and on the CPU in Triton's interpreter, which the environment variable TRITON_INTERPRET=1 turns on before
Triton is imported.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskdsl.analysis.cost.tile_table import Architecture, KernelName, TileChoice
from maskdsl.analysis.tiles.block_map import BlockMap, Runs, TileMap
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.backends import LargeHeadDim, NeedsDevice, TritonVersion
from maskdsl.emit.plan import KernelPlan
from maskdsl.emit.triton.attention_module import emit_triton
from maskdsl.runtime.backends.protocol import Backend
from maskdsl.runtime.backends.tile_choice import CHOOSER, Start, architecture, without_choice
from maskdsl.runtime.backends.tuning import TuningKey
from maskdsl.runtime.base.call import Attend, Gradients, KernelCall, Saved
from maskdsl.runtime.base.precision import short_products

_LARGEST_DIM = 256


class Triton(Backend):
    """Kernels over tiles."""

    name = "triton"
    in_layout = True
    decodes = True
    finds_routes = True

    def emit(self, plan: KernelPlan) -> str:
        return emit_triton(plan)

    def host_inputs(self, plan: KernelPlan) -> tuple[str, ...]:
        return () if plan.finds_device_tiles else plan.tile_inputs

    def finds_order(self, plan: KernelPlan) -> bool:
        return plan.finds_device_order

    def serves(self, q: Tensor, v: Tensor) -> bool:
        """Where q is on a GPU, and of a type and head dims that kernels compute well."""
        sized = q.shape[3] <= _LARGEST_DIM and v.shape[3] <= _LARGEST_DIM
        return q.is_cuda and q.dtype != torch.float64 and sized and bool(triton_version())

    def runs_on_cpu(self) -> bool:
        return interpreted()

    def prepared(self, call: KernelCall, q: Tensor, k: Tensor, v: Tensor) -> Attend:
        check(q, v)
        attend, dtype = Launch(call).prepared(*map(computable, (q, k, v))), q.dtype
        if computable(q) is q:
            return attend

        def widened(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor | None]:
            out, lse = attend(*map(computable, (q, k, v)))
            return out.to(dtype), lse

        return widened

    def backward(self, call: KernelCall, saved: Saved, wanted: Sequence[str]) -> Gradients:
        """Computes the scores again, tile by tile; nothing of the size of the scores is kept."""
        q, k, v, values = Launch(call).backward(Saved(*map(computable, saved)), tuple(wanted))
        dtype = saved.q.dtype
        return Gradients(q.to(dtype), k.to(dtype), v.to(dtype), values)


def computable(x: Tensor) -> Tensor:
    """The interpreter would multiply the bit patterns of bfloat16."""
    return x.float() if x.dtype == torch.bfloat16 and x.device.type == "cpu" else x


@dataclass(frozen=True, eq=False)
class Launch:
    """One call on its way to kernels."""

    call: KernelCall

    def tables(self, q: Tensor) -> tuple[Tensor, ...] | None:
        """What kernels read of tokens, kept where no input has a say in it."""
        call, (batch, heads) = self.call, q.shape[:2]
        by_inputs = call.plan.coordinates_read_inputs or call.plan.finds_device_order
        if by_inputs or not hasattr(call.module, "token_tables"):
            return None
        key, given = ("tables", q.device, batch, heads), (q.device, batch, heads, call.values, call.layout)

        def make() -> tuple[Tensor, ...]:
            made: tuple[Tensor, ...] = call.module.token_tables(*given)
            return made

        return call.state.keep(key, make)

    def prepared(self, q: Tensor, k: Tensor, v: Tensor) -> Attend:
        """What gives the output and the log-sum-exp of queries."""
        call, device = self.call, q.device

        def settled(choice: TileChoice) -> dict[str, Any]:
            return {
                "inputs": call.values,
                "tiles": self.tiles(choice, q, k, "row"),
                "block": choice.block,
                "layout": call.layout,
                "precision": precision(architecture(device)),
                "warps": choice.warps,
                "stages": choice.stages,
                "tables": self.tables(q),
            }

        with on(device):
            choice = self.choose(KernelName.FORWARD, q, v, lambda attention, each: attention(q, k, v, **settled(each)))
            attend: Attend = partial(call.module.attention, **settled(choice))

        def attend_there(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor | None]:
            with on(device):
                return attend(q, k, v)

        return attend if device.type == "cpu" else attend_there

    def backward(self, saved: Saved, wanted: tuple[str, ...]) -> Gradients:
        """The gradients of q, k, v, and of the wanted values."""
        call, q, k, v = self.call, saved.q, saved.k, saved.v

        def start(gradients: Callable[..., Any], query: TileChoice, key: TileChoice) -> tuple[Any, ...]:
            found: tuple[Any, ...] = gradients(
                **saved._asdict(),
                inputs=call.values,
                row_tiles=self.tiles(query, q, k, "row"),
                column_tiles=self.tiles(key, q, k, "column"),
                row_options=query.options,
                column_options=key.options,
                layout=call.layout,
                precision=precision(architecture(q.device)),
                wanted=wanted,
                tables=self.tables(q),
            )
            return found

        with on(q.device):
            # A kernel is tried with any choice for the other, which then stands idle.
            query = self.choose(
                KernelName.QUERY_GRADIENT, q, v, lambda gradients, each: start(gradients, each, each), wanted
            )
            key = self.choose(
                KernelName.KEY_GRADIENT, q, v, lambda gradients, each: start(gradients, query, each), wanted
            )
            query_grad, key_grad, value_grad, named = start(call.module.gradients, query, key)
        # Inputs that decide nothing but which pairs attend, or their order, have gradients of zero.
        values = {name: named[name] if name in named else torch.zeros_like(call.values[name]) for name in wanted}
        return Gradients(query_grad, key_grad, value_grad, values)

    def choose(self, kernel: KernelName, q: Tensor, v: Tensor, start: Start, asked: tuple[str, ...] = ()) -> TileChoice:
        plan, module = self.call.plan, self.call.module
        function = module.attention if kernel is KernelName.FORWARD else module.gradients
        length = (q.shape[2] - 1).bit_length() if plan.tune else 0
        question = TuningKey(kernel, q.device, (q.shape[3], v.shape[3]), q.dtype, length, asked)
        return CHOOSER.choose(plan, question, function, start)

    def tiles(self, choice: TileChoice, q: Tensor, k: Tensor, by: str) -> Any:
        """The tiles as the generated module takes them, `by` "row" or "column"; None where it finds them itself."""
        call, device = self.call, q.device
        if (call.plan.row_limits if by == "row" else call.plan.column_limits) is not None:
            return None
        if call.plan.finds_device_tiles:
            shape = *q.shape[:3], k.shape[2]
            with without_choice("tiles_kernel", call.plan.mask.name, device):
                return call.module.find_tiles(device, shape, call.values, choice.block, call.layout, by == "row")
        state = call.state

        def make() -> list[Tensor]:
            found = state.tiles(choice.block)
            return (runs if by == "row" else column_runs)(found, device)

        return call.module.Tiles(*state.keep((by, choice.block, device), make))


def on(device: torch.device) -> AbstractContextManager[Any]:
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def check(q: Tensor, v: Tensor) -> None:
    """Raises where the kernel cannot run."""
    for name, tensor in (("q", q), ("v", v)):
        if tensor.shape[3] > _LARGEST_DIM:
            raise AttnError(LargeHeadDim(name=name, found=tensor.shape[3], limit=_LARGEST_DIM))
    if q.device.type != "cuda" and not (q.device.type == "cpu" and interpreted()):
        raise AttnError(NeedsDevice(device=str(q.device)))
    what, needed = ("float64", (3, 5)) if q.dtype == torch.float64 else ("the backend `triton`", (3, 4))
    found = triton_version()
    if found < needed:
        text = ".".join(map(str, found)) or "none"
        raise AttnError(TritonVersion(what=what, needed=".".join(map(str, needed)), found=text))


def interpreted() -> bool:
    """Whether Triton runs kernels in its interpreter, which its environment variable decides."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "yes", "on")


@lru_cache(maxsize=1)
def triton_version() -> tuple[int, ...]:
    """The first two numbers of Triton's version; none where it is not installed."""
    try:
        import triton  # late: an optional dependency, and slow
    except ImportError:
        return ()
    return tuple(int(part) for part in triton.__version__.split(".")[:2])


def precision(architecture: Architecture) -> str:
    """Of products of float32, as torch is told to compute them; three products of short numbers are as good as one."""
    if short_products():
        return "tf32"
    return "ieee" if architecture in (Architecture.GFX942, Architecture.INTERPRETER) else "tf32x3"


# Tiles


def runs(tiles: BlockMap, device: torch.device) -> list[Tensor]:
    """The fields of the generated `Tiles`: the head class of each head, and the runs of all head classes."""
    whole = tiles.key_length // tiles.block[1]
    head_classes = [_whole_tiles(head_class, whole) for head_class in tiles.head_classes]
    lists = [
        tiles.class_of_head,
        *_joined([each.full for each in head_classes]),
        *_joined([each.partial for each in head_classes]),
    ]
    return [torch.as_tensor(np.ascontiguousarray(each, dtype=np.int32), device=device) for each in lists]


def column_runs(tiles: BlockMap, device: torch.device) -> list[Tensor]:
    """The same by blocks of keys, whose runs are blocks of queries. No block needs to be whole."""
    head_classes = [head_class.transpose(tiles.key_blocks) for head_class in tiles.head_classes]
    lists = [
        tiles.class_of_head,
        *_joined([each.full for each in head_classes]),
        *_joined([each.partial for each in head_classes]),
    ]
    return [torch.as_tensor(np.ascontiguousarray(each, dtype=np.int32), device=device) for each in lists]


def _whole_tiles(tiles: TileMap, whole: int) -> TileMap:
    """The same tiles, but full ones among the first `whole` blocks of keys alone: the last may not be a whole block."""
    full, partial = tiles.full, tiles.partial
    ragged = full.end > whole
    if not ragged.any():
        return tiles
    end = np.minimum(full.end, whole)
    kept = full.start < end
    return TileMap(
        Runs.of_sorted(full.rows, full.row[kept], full.start[kept], end[kept]),
        Runs.of_segments(
            full.rows,
            np.concatenate([partial.row, full.row[ragged]]),
            np.concatenate([partial.start, np.full(ragged.sum(), whole)]),
            np.concatenate([partial.end, full.end[ragged]]),
        ),
    )


def _joined(head_classes: list[Runs]) -> list[NDArray[np.int32]]:
    """Lists of runs one behind the other, and of each row the first of its runs and the end of the last."""
    offsets = np.cumsum([0, *(len(each.start) for each in head_classes[:-1])])
    firsts = [each.row_start + offset for each, offset in zip(head_classes, offsets, strict=True)]
    rows = [np.stack([first[:-1], first[1:]], axis=1).ravel() for first in firsts]
    parts = rows, [each.start for each in head_classes], [each.end for each in head_classes]
    return [np.concatenate(part).astype(np.int32) for part in parts]
