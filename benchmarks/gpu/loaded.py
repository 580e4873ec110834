"""What kernels use of a GPU: a line for each one that Triton loads, ours and FlexAttention's."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

Record = dict[str, Any]


@contextmanager
def loaded() -> Iterator[list[Record]]:
    """A list that kernels are added to as they are loaded, those too that are only tried."""
    from triton.compiler import CompiledKernel  # late: machines without a GPU may lack it

    kernels: list[Record] = []
    initialize = CompiledKernel._init_handles

    def noted(self: Any) -> None:
        is_new = self.module is None
        initialize(self)
        if is_new:
            kernels.append(usage(self))

    CompiledKernel._init_handles = noted
    try:
        yield kernels
    finally:
        CompiledKernel._init_handles = initialize


def usage(kernel: Any) -> Record:
    """Registers of a thread, bytes that spill of each, bytes of shared memory, warps and stages of one kernel."""
    metadata = kernel.metadata
    return {
        "kernel": kernel.name,
        "registers": kernel.n_regs,
        "spills": kernel.n_spills,
        "shared": metadata.shared,
        "warps": metadata.num_warps,
        "stages": getattr(metadata, "num_stages", None),
    }
