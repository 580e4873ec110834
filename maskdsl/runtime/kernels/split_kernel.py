"""The split-KV Triton kernel for partial calls: decoding, chunked prefill, paged keys. No gradients."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from types import ModuleType

import torch
from torch import Tensor

from maskdsl.analysis.closed.closed_form import Limits
from maskdsl.analysis.closed.live_range import longest_range
from maskdsl.analysis.cost.tile_table import Architecture
from maskdsl.emit.plan import KernelPlan, decode_plan
from maskdsl.emit.triton.decoding.decode_module import LoopWork, emit_decode, loop_work
from maskdsl.ir.mask import MaskIR
from maskdsl.runtime.backends.tile_choice import architecture, no_configuration
from maskdsl.runtime.backends.triton_backend import check, computable, on, precision
from maskdsl.runtime.backends.tuning import failures
from maskdsl.runtime.base.call_cache import CallState
from maskdsl.runtime.base.input_tensors import as_value
from maskdsl.runtime.base.module_cache import load_module

Block = tuple[int, int]
"""Rows (queries of all heads that share keys) and keys of a tile."""
Result = tuple[Tensor, Tensor]
_MOST_ROWS, _MOST_SPLITS = 64, 64
_MOST_OPERATIONS = 32
"""With more operations per pair, tiles of more than 16 keys would spill registers."""
_PROGRAMS_PER_PROCESSOR = 2
"""Programs per multiprocessor that the number of splits aims at, to hide memory latency."""


@dataclass(frozen=True, eq=False)
class SplitKernel:
    """Computes partial calls. Lengths, starts and pages are arguments: no value of them compiles a new kernel."""

    mask: MaskIR
    names: Mapping[str, str]
    """The module's identifiers of the inputs, by declared name."""
    works: tuple[LoopWork, LoopWork]
    """The work for a pair where calls have several queries, and one."""
    limits: Limits | None
    """The limits of a query's keys in closed form, for all heads."""
    state: CallState
    """The cache of tables that depend on no input."""
    reads_inputs: bool
    """Whether the coordinates that pairs read depend on inputs."""
    emit: Callable[[], str]
    """Emits the module."""
    first_working: dict[object, int] = field(default_factory=dict)
    """The index of the first block of the ladder that works, by shape kind and device."""

    @staticmethod
    def of(plan: KernelPlan) -> "SplitKernel":
        """For the plan of a mask, by `decode_plan`."""
        plan = decode_plan(plan)
        return SplitKernel(
            plan.mask,
            plan.input_identifiers,
            (loop_work(plan, False), loop_work(plan, True)),
            plan.limits_of_all_heads,
            CallState(plan, {}, 1),
            plan.coordinates_read_inputs,
            partial(emit_decode, plan),
        )

    @cached_property
    def source(self) -> str:
        """The text of the generated module."""
        return self.emit()

    @property
    def module(self) -> ModuleType:
        """The generated module, loaded."""
        return load_module(self.source, f"{self.mask.name}_decode")

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        inputs: Sequence[Tensor],
        query_starts: Tensor,
        key_lengths: Tensor,
        page_table: Tensor | None,
        target: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The output [batch, heads, queries, dim] and the log-sum-exp [batch, heads, queries].

        `inputs` are in declared order, for all tokens. `query_starts` and `key_lengths` are int32 [batch], `page_table`
        int32 [batch, pages]: see `codegen/decode.py`. The output is in `target`, shaped as it and of the type of q, if
        that is contiguous. Raises `NoConfiguration` if no tile of the ladder runs.
        """
        check(q, v)
        mask, names = self.mask, self.names
        values = {names[each.name]: as_value(each, x) for each, x in zip(mask.inputs, inputs, strict=True)}
        values |= self.state.curves(q.device)
        rows = q.shape[2] * q.shape[1] // k.shape[1]
        dim, gpu = max(q.shape[3], v.shape[3]), architecture(q.device)
        blocks = block_ladder(decode_block(rows, dim, q.element_size(), gpu, self.works[q.shape[2] == 1]))
        with on(q.device):
            tables = self.tables(q, values)

            def start(block: tuple[int, int]) -> tuple[Tensor, Tensor]:
                results: tuple[Tensor, Tensor] = self.module.decode(
                    *map(computable, (q, k, v)),
                    inputs=values,
                    query_starts=query_starts,
                    key_lengths=key_lengths,
                    lengths=(mask.queries.length, mask.keys.length),
                    page_table=page_table,
                    splits=self.splits(q, k, block),
                    block=block,
                    precision=precision(gpu),
                    tables=tables,
                    out=target if computable(q) is q else None,
                )
                return results

            out, lse = self.start_first(blocks, (blocks[0], q.shape[3], v.shape[3], q.dtype), q.device, start)
        return out.to(q.dtype), lse

    def start_first(
        self, blocks: Sequence[Block], kind: object, device: torch.device, start: Callable[[Block], Result]
    ) -> Result:
        """Starts the kernel with the first block that can be compiled and started. Raises `NoConfiguration` if none."""
        key = kind, device
        for number in range(self.first_working.get(key, 0), len(blocks)):
            try:
                results = start(blocks[number])
            except torch.OutOfMemoryError:
                raise
            except failures() as error:
                failure = error
            else:
                self.first_working[key] = number
                return results
        raise no_configuration("decode_kernel", self.mask.name, device, failure) from failure

    def tables(self, q: Tensor, values: Mapping[str, Tensor]) -> tuple[Tensor, ...] | None:
        """Per-token tables that depend on no input, cached; None where the kernel computes coordinates."""
        batch, heads = q.shape[:2]
        if self.reads_inputs or not hasattr(self.module, "token_tables"):
            return None
        arguments = q.device, batch, heads, values

        def make() -> tuple[Tensor, ...]:
            tables: tuple[Tensor, ...] = self.module.token_tables(*arguments)
            return tables

        return self.state.keep(("tables", *arguments[:3]), make)

    def splits(self, q: Tensor, k: Tensor, block: tuple[int, int]) -> int:
        """The number of programs that split the keys of a tile of rows: enough to keep all multiprocessors busy.

        No more than the blocks of keys that some tile may attend, wherever its queries are.
        """
        group = q.shape[1] // k.shape[1]
        tiles = -(-q.shape[2] * group // block[0]) * k.shape[1] * q.shape[0]
        wanted = _PROGRAMS_PER_PROCESSOR * _processors(q.device) // tiles
        queries_of_tile = min(q.shape[2], -(-(block[0] - 1) // group) + 1)
        return max(1, min(wanted, self.most_blocks(queries_of_tile, block[1]), _MOST_SPLITS))

    def most_blocks(self, queries: int, size: int) -> int:
        """The most blocks of `size` keys that consecutive queries may attend."""
        mask, limits = self.mask, self.limits
        blocks = -(-mask.keys.length // size)
        if limits is None:
            return blocks
        longest = self.state.keep(("longest range", queries), lambda: longest_range(mask, limits, queries))
        return min(blocks, -(-(longest - 1) // size) + 1)


def decode_block(rows: int, dim: int, size: int, architecture: Architecture, work: LoopWork) -> tuple[int, int]:
    """Rows and keys of a tile: no more rows than a call has, and keys that fit registers and shared memory.

    `size` is bytes per element, `dim` the larger head dim, `work` that for a pair.
    """
    rows = min(max(16, _power_of_two(rows)), _MOST_ROWS)
    if architecture is Architecture.INTERPRETER or size == 8:
        return min(rows, 32), 16
    large = dim > 128 or size > 2 or work.reads_pair_tables
    if work.operations > _MOST_OPERATIONS:
        return min(rows, 32), 16
    return min(rows, 32) if large else rows, 32 if large else 64


def _processors(device: torch.device) -> int:
    """Multiprocessors of a GPU; 6 in the interpreter, so that tests split keys."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 6


def block_ladder(block: Block) -> tuple[Block, ...]:
    """A block and smaller ones to fall back to, for kernels that the GPU or its compiler cannot run."""
    rows, keys = block
    return tuple(dict.fromkeys([block, (rows, max(16, keys // 2)), (16, max(16, keys // 2)), (16, 16)]))


def _power_of_two(number: int) -> int:
    """The least power of two that is not less than `number`."""
    return 1 << max(number - 1, 0).bit_length()
