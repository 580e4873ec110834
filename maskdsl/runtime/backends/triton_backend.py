"""The Triton backend: turns the block map of a call into tensors of runs, and starts the generated kernels.

Runs on GPUs, and on the CPU in Triton's interpreter if TRITON_INTERPRET=1 is set before Triton is imported.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskdsl.analysis.cost.descriptors import DESCRIBED_KERNELS, HAVE_DESCRIPTORS
from maskdsl.analysis.cost.tile_table import Architecture, KernelName, TileChoice
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.backends import LargeHeadDim, NeedsDevice, TritonVersion
from maskdsl.emit.plan import KernelPlan
from maskdsl.emit.triton.attention_module import emit_triton
from maskdsl.emit.triton.tile_loops import splits
from maskdsl.runtime.backends.programs import Array, Calls, column_programs, row_programs
from maskdsl.runtime.backends.protocol import Backend
from maskdsl.runtime.backends.tile_choice import CHOOSER, Start, architecture, without_choice
from maskdsl.runtime.backends.tuning import TuningKey
from maskdsl.runtime.base.call import Attend, Gradients, KernelCall, Saved
from maskdsl.runtime.base.kept import Kept
from maskdsl.runtime.base.precision import allows_tf32

_LARGEST_DIM = 256
_DESCRIPTORS = "MASKDSL_DESCRIPTORS"


class Triton(Backend):
    """Generated Triton kernels over tiles."""

    name = "triton"
    in_layout = True
    decodes = True
    finds_routes = True
    writes_output = True

    def emit(self, plan: KernelPlan) -> str:
        return emit_triton(plan)

    def host_inputs(self, plan: KernelPlan) -> tuple[str, ...]:
        return () if plan.finds_device_tiles else plan.tile_inputs

    def uncomputed_integers(self, plan: KernelPlan) -> frozenset[str]:
        return plan.uncomputed_integers

    def finds_order(self, plan: KernelPlan) -> bool:
        return plan.finds_device_order

    def serves(self, plan: KernelPlan, q: Tensor, v: Tensor) -> bool:
        """Where q is on a GPU, is not float64, and head dims are at most 256."""
        fits = q.shape[3] <= _LARGEST_DIM and v.shape[3] <= _LARGEST_DIM
        return q.is_cuda and q.dtype != torch.float64 and fits and bool(triton_version())

    def runs_on_cpu(self) -> bool:
        return interpreted()

    def prepared(self, call: KernelCall, q: Tensor, k: Tensor, v: Tensor) -> Attend:
        check(q, v)
        attend, dtype = Launch(call).prepared(*map(computable, (q, k, v))), q.dtype
        if computable(q) is q:
            return attend

        def widened(q: Tensor, k: Tensor, v: Tensor, out: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
            wide, lse = attend(*map(computable, (q, k, v)))
            return wide.to(dtype), lse

        return widened

    def backward(self, call: KernelCall, saved: Saved, wanted: Sequence[str]) -> Gradients:
        """Recomputes scores tile by tile; no memory for the score matrix is taken."""
        q, k, v, values = Launch(call).backward(Saved(*map(computable, saved)), tuple(wanted))
        dtype = saved.q.dtype
        return Gradients(q.to(dtype), k.to(dtype), v.to(dtype), values)


def computable(x: Tensor) -> Tensor:
    """x, as float32 if it is bfloat16 on a CPU: Triton's interpreter would multiply its bit patterns."""
    return x.float() if x.dtype == torch.bfloat16 and x.device.type == "cpu" else x


@dataclass(frozen=True, eq=False)
class Launch:
    """Starts the kernels of one call."""

    call: KernelCall

    def tables(self, q: Tensor) -> tuple[Tensor, ...] | None:
        """The per-token tables of the kernels, cached; None if they read none."""
        call, (batch, heads) = self.call, q.shape[:2]
        if not hasattr(call.module, "token_tables"):
            return None
        reads_inputs = call.plan.coordinates_read_inputs or call.plan.finds_device_order
        cache: Kept = call.kept if reads_inputs else call.state
        key, arguments = ("tables", q.device, batch, heads), (q.device, batch, heads, call.values, call.layout)

        def make() -> tuple[Tensor, ...]:
            tables: tuple[Tensor, ...] = call.module.token_tables(*arguments)
            return tables

        return cache.keep(key, make)

    def prepared(self, q: Tensor, k: Tensor, v: Tensor) -> Attend:
        """The forward pass of this call, with its tile choice made and its tiles on the device."""
        call, device = self.call, q.device

        def bound(choice: TileChoice) -> dict[str, Any]:
            return {
                "inputs": call.values,
                "tiles": self.tiles(choice, q, k, KernelName.FORWARD),
                "block": choice.block,
                "layout": call.layout,
                "precision": precision(architecture(device)),
                "warps": choice.warps,
                "stages": choice.stages,
                "descriptors": choice.descriptors,
                "tables": self.tables(q),
            }

        with on(device):
            choice = self.choose(KernelName.FORWARD, q, k, v, lambda attention, each: attention(q, k, v, **bound(each)))
            attend: Attend = partial(call.module.attention, **bound(choice))

        def attend_on_device(
            q: Tensor, k: Tensor, v: Tensor, out: Tensor | None = None
        ) -> tuple[Tensor, Tensor | None]:
            with on(device):
                return attend(q, k, v, out=out)

        return attend if device.type == "cpu" else attend_on_device

    def backward(self, saved: Saved, wanted: tuple[str, ...]) -> Gradients:
        """The gradients of q, k, v and the wanted values: two kernels, each with its own tile choice."""
        call, q, k, v = self.call, saved.q, saved.k, saved.v

        def start(gradients: Callable[..., Any], query: TileChoice, key: TileChoice) -> tuple[Any, ...]:
            results: tuple[Any, ...] = gradients(
                **saved._asdict(),
                inputs=call.values,
                row_tiles=self.tiles(query, q, k, KernelName.QUERY_GRADIENT),
                column_tiles=self.tiles(key, q, k, KernelName.KEY_GRADIENT),
                row_options=query.options,
                column_options=key.options,
                layout=call.layout,
                precision=precision(architecture(q.device)),
                wanted=wanted,
                descriptors=query.descriptors,
                tables=self.tables(q),
            )
            return results

        with on(q.device):
            # While one kernel's choices are tried, the other is idle, so its own choice does not matter.
            query = self.choose(
                KernelName.QUERY_GRADIENT, q, k, v, lambda gradients, each: start(gradients, each, each), wanted
            )
            key = self.choose(
                KernelName.KEY_GRADIENT, q, k, v, lambda gradients, each: start(gradients, query, each), wanted
            )
            query_grad, key_grad, value_grad, named = start(call.module.gradients, query, key)
        # Inputs that only decide which pairs attend, or the order of tokens, have zero gradients.
        values = {name: named[name] if name in named else torch.zeros_like(call.values[name]) for name in wanted}
        return Gradients(query_grad, key_grad, value_grad, values)

    def choose(
        self, kernel: KernelName, q: Tensor, k: Tensor, v: Tensor, start: Start, wanted: tuple[str, ...] = ()
    ) -> TileChoice:
        """The tile choice of a kernel; `wanted` are the values whose gradients it computes."""
        plan, module = self.call.plan, self.call.module
        function = module.attention if kernel is KernelName.FORWARD else module.gradients
        length = (q.shape[2] - 1).bit_length() if plan.tune else 0
        may_describe = kernel in DESCRIBED_KERNELS and uses_descriptors(architecture(q.device))
        described = may_describe and all(module.describe(x, 16, True) is not None for x in (k, v))
        question = TuningKey(kernel, q.device, (q.shape[3], v.shape[3]), q.dtype, length, wanted, described)
        return CHOOSER.choose(plan, question, function, start)

    def tiles(self, choice: TileChoice, q: Tensor, k: Tensor, kernel: KernelName) -> Any:
        """The tiles for a kernel, as the generated module takes them; None where it has them in closed form."""
        call, device, by_row = self.call, q.device, kernel is not KernelName.KEY_GRADIENT
        if (call.plan.row_limits if by_row else call.plan.column_limits) is not None:
            return None
        if call.plan.finds_device_tiles:
            shape = *q.shape[:2], k.shape[1], q.shape[2], k.shape[2]

            def bounds() -> Any:
                return call.module.block_bounds(device, shape, call.values, call.layout)

            def find() -> Any:
                with without_choice("tiles_kernel", call.plan.mask.name, device):
                    kept = call.kept.keep(("bounds", shape), bounds)
                    return call.module.find_tiles(device, shape, kept, choice.block, by_row, processors(device))

            return call.kept.keep((by_row, choice.block, shape), find)
        sizes = Calls(q.shape[0], q.shape[1], k.shape[1], processors(device), splits(call.plan, kernel))

        def make() -> Any:
            tiles = call.state.tiles(choice.block)
            of_list = sizes.of_list(tiles)

            def listed() -> Any:
                programs = (row_programs if by_row else column_programs)(tiles, of_list)
                return call.module.Tiles(*(_on_device(each, device) for each in programs))

            lists = call.state.keep(("list", by_row, choice.block, device, of_list), listed)
            return lists._replace(entries=sizes.batch // len(tiles.class_of_head))

        return call.state.keep((by_row, choice.block, device, sizes), make)


def _on_device(x: Array | int | None, device: torch.device) -> Tensor | int | None:
    """An array as an int32 tensor of the device; anything else as it is."""
    return torch.as_tensor(np.ascontiguousarray(x, dtype=np.int32), device=device) if isinstance(x, np.ndarray) else x


def on(device: torch.device) -> AbstractContextManager[Any]:
    """A context in which this GPU is the current one; does nothing for a CPU."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def check(q: Tensor, v: Tensor) -> None:
    """Raises `LargeHeadDim`, `NeedsDevice` or `TritonVersion` where kernels cannot run."""
    for name, tensor in (("q", q), ("v", v)):
        if tensor.shape[3] > _LARGEST_DIM:
            raise AttnError(LargeHeadDim(name=name, found=tensor.shape[3], limit=_LARGEST_DIM))
    if q.device.type != "cuda" and not (q.device.type == "cpu" and interpreted()):
        raise AttnError(NeedsDevice(device=str(q.device)))
    what, needed = ("float64", (3, 5)) if q.dtype == torch.float64 else ("the backend `triton`", (3, 4))
    version = triton_version()
    if version < needed:
        text = ".".join(map(str, version)) or "none"
        raise AttnError(TritonVersion(what=what, needed=".".join(map(str, needed)), found=text))


@lru_cache(maxsize=64)
def processors(device: torch.device) -> int:
    """The multiprocessors of a GPU; for the interpreter, those of an H100."""
    return 132 if device.type == "cpu" else int(torch.cuda.get_device_properties(device).multi_processor_count)


def interpreted() -> bool:
    """Whether Triton runs kernels in its interpreter, by TRITON_INTERPRET."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "yes", "on")


def uses_descriptors(architecture: Architecture) -> bool:
    """Whether kernels may load by tensor descriptors: where GPUs have them, unless MASKDSL_DESCRIPTORS is 0.

    In the interpreter if it is 1: there they show that results are right, and nothing of time.
    """
    asked = os.environ.get(_DESCRIPTORS, "").strip()
    if architecture is Architecture.INTERPRETER:
        return asked == "1"
    return architecture in HAVE_DESCRIPTORS and asked != "0"


@lru_cache(maxsize=1)
def triton_version() -> tuple[int, ...]:
    """The first two numbers of Triton's version; empty where it is not installed."""
    try:
        import triton  # late: an optional dependency, and slow
    except ImportError:
        return ()
    return tuple(int(number) for number in triton.__version__.split(".")[:2])


def precision(architecture: Architecture) -> str:
    """Triton's `input_precision` for float32 products, by torch's setting. Three TF32 products are as exact as IEEE."""
    if allows_tf32():
        return "tf32"
    return "ieee" if architecture in (Architecture.GFX942, Architecture.INTERPRETER) else "tf32x3"
