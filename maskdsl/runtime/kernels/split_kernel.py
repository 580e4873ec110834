"""The kernel for queries that stand anywhere in a pattern: decoding, chunked prefill, keys in pages."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from types import ModuleType

import torch
from torch import Tensor

from maskdsl.analysis.cost.tile_table import Architecture
from maskdsl.emit.plan import KernelPlan, decode_plan
from maskdsl.emit.triton.decode_module import emit_decode
from maskdsl.ir.mask import MaskIR
from maskdsl.runtime.backends.tile_choice import architecture, no_configuration
from maskdsl.runtime.backends.triton_backend import check, computable, on, precision
from maskdsl.runtime.backends.tuning import failures
from maskdsl.runtime.base.call_cache import CallState
from maskdsl.runtime.base.input_tensors import as_value
from maskdsl.runtime.base.module_cache import load_module

Block = tuple[int, int]
"""Rows and keys of a tile."""
Result = tuple[Tensor, Tensor]
_MOST_ROWS, _MOST_SPLITS = 64, 64
_MOST_OPERATIONS = 32
"""With more of them on a pair tiles of more than 16 keys would not keep their registers."""
_PROGRAMS_PER_PROCESSOR = 2
"""What splits are chosen for: enough programs to hide that each waits for memory."""


@dataclass(frozen=True, eq=False)
class SplitKernel:
    """Computes calls without gradients. All lengths, starts and pages are numbers of the call, not of the kernel."""

    mask: MaskIR
    names: Mapping[str, str]
    """How the module calls the inputs."""
    operations: int
    """How many different ones a pair asks for."""
    state: CallState
    """What no input has a say in."""
    reads_inputs: bool
    """Whether what pairs read of tokens depends on inputs."""
    emit: Callable[[], str]
    """The text of the generated module."""
    rungs: dict[object, int] = field(default_factory=dict)
    """The first of the rungs that has worked, by what it depends on."""

    @staticmethod
    def of(plan: KernelPlan) -> "SplitKernel":
        plan = decode_plan(plan)
        return SplitKernel(
            plan.mask,
            plan.input_identifiers,
            plan.operations,
            CallState(plan, {}, 1),
            plan.coordinates_read_inputs,
            partial(emit_decode, plan),
        )

    @cached_property
    def source(self) -> str:
        return self.emit()

    @property
    def module(self) -> ModuleType:
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
    ) -> tuple[Tensor, Tensor]:
        """The output, and the log-sum-exp [batch, heads, queries]. `inputs` are in declared order, for all tokens.

        `query_starts` and `key_lengths` are int32 [batch], `page_table` int32 [batch, pages]; see `codegen/decode.py`.
        """
        check(q, v)
        mask, names = self.mask, self.names
        values = {names[each.name]: as_value(each, x) for each, x in zip(mask.inputs, inputs, strict=True)}
        values |= self.state.curves(q.device)
        rows = q.shape[2] * q.shape[1] // k.shape[1]
        dim, gpu = max(q.shape[3], v.shape[3]), architecture(q.device)
        blocks = rungs(decode_block(rows, dim, q.element_size(), gpu, self.operations))
        with on(q.device):
            tables = self.tables(q, values)

            def start(block: tuple[int, int]) -> tuple[Tensor, Tensor]:
                found: tuple[Tensor, Tensor] = self.module.decode(
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
                )
                return found

            out, lse = self.started(blocks, (blocks[0], q.shape[3], v.shape[3], q.dtype), q.device, start)
        return out.to(q.dtype), lse

    def started(
        self, blocks: Sequence[Block], kind: object, device: torch.device, start: Callable[[Block], Result]
    ) -> Result:
        """With the first of the blocks whose kernel can be compiled and started. Raises if there is none."""
        key = kind, device
        for number in range(self.rungs.get(key, 0), len(blocks)):
            try:
                found = start(blocks[number])
            except torch.OutOfMemoryError:
                raise
            except failures() as error:
                failure = error
            else:
                self.rungs[key] = number
                return found
        raise no_configuration("decode_kernel", self.mask.name, device, failure) from failure

    def tables(self, q: Tensor, values: Mapping[str, Tensor]) -> tuple[Tensor, ...] | None:
        """What kernels read of tokens, kept where no input has a say in it."""
        batch, heads = q.shape[:2]
        if self.reads_inputs or not hasattr(self.module, "token_tables"):
            return None
        given = q.device, batch, heads, values

        def make() -> tuple[Tensor, ...]:
            made: tuple[Tensor, ...] = self.module.token_tables(*given)
            return made

        return self.state.keep(("tables", *given[:3]), make)

    def splits(self, q: Tensor, k: Tensor, block: tuple[int, int]) -> int:
        """How many programs share the keys of a tile of rows: as many as keep all processors busy."""
        tiles = -(-q.shape[2] * q.shape[1] // k.shape[1] // block[0]) * k.shape[1] * q.shape[0]
        keys = self.mask.keys.length
        wanted = _PROGRAMS_PER_PROCESSOR * _processors(q.device) // tiles
        return max(1, min(wanted, -(-keys // block[1]), _MOST_SPLITS))


def decode_block(rows: int, dim: int, size: int, architecture: Architecture, operations: int) -> tuple[int, int]:
    """Rows and keys of a tile: no more rows than there are, as many keys as registers and shared memory hold."""
    rows = min(max(16, _power_of_two(rows)), _MOST_ROWS)
    if architecture is Architecture.INTERPRETER or size == 8:
        return min(rows, 32), 16
    large = dim > 128 or size > 2
    if operations > _MOST_OPERATIONS:
        return min(rows, 32), 16
    return min(rows, 32) if large else rows, 32 if large else 64


def _processors(device: torch.device) -> int:
    """Of a GPU; in the interpreter, a few."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 6


def rungs(block: Block) -> tuple[Block, ...]:
    """A tile and smaller ones, for kernels that need more than the GPU has, or that its compiler refuses."""
    rows, keys = block
    return tuple(dict.fromkeys([block, (rows, max(16, keys // 2)), (16, max(16, keys // 2)), (16, 16)]))


def _power_of_two(number: int) -> int:
    """The least that is not smaller."""
    return 1 << max(number - 1, 0).bit_length()
