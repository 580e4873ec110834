"""GPUs by name: figures of their datasheets, and the published fraction of peak that attention kernels reach.

Rates are those of dense products of bfloat16 or float16 with float32 sums. Sources of the datasheet figures:
- A100 (SXM, 80 GB): NVIDIA A100 datasheet (312 TFLOP/s, 2,039 GB/s); A100 whitepaper (108 multiprocessors at 1,410 MHz,
  164 KiB of shared memory each, 40 MB of L2 cache).
- H100 (SXM): H100 datasheet and whitepaper (1,979 TFLOP/s with sparsity, half of it dense; 3.35 TB/s; 132
  multiprocessors, 228 KiB, 50 MB). The clock is that at which the rate of the products is stated, 1,830 MHz.
- H200 (SXM): H200 datasheet: the chip of the H100 with 4.8 TB/s.
- B200: Blackwell datasheet (HGX, 1,000 W: 4.5 PFLOP/s with sparsity, half of it dense; 8 TB/s); 148 multiprocessors,
  228 KiB, 126 MB: CUDA's device query and tuning guide. 1,856 MHz is what the rate means at 8,192 operations a cycle.
- MI300X: AMD's datasheet (1,307.4 TFLOP/s, 5.3 TB/s, 304 compute units at 2,100 MHz, 64 KiB of LDS each, 256 MB of
  Infinity Cache); CDNA 3 ISA guide (four register files of 128 KiB a compute unit).
Lanes are integer units: 64 of a multiprocessor of the A100 and H100 (whitepapers), 128 of the B200 (Cornell Virtual
Workshop, "Horizon GPUs: Blackwell B200"), four times 16 of a compute unit (ISA guide).
Registers per thread are medians of forward kernels in `benchmarks/results/aot.json`; a test holds them to it.

Fractions are published rates of attention kernels *in Triton* over the datasheet's, as ours are in Triton too:
- A100: FlashAttention-2 (arXiv 2307.08691, 4.1) reaches 73 % of the peak forward and 63 % backward, and is 1.3 to 1.5
  times as fast as Triton forward and about 2 times backward: 0.73 / 1.4 and 0.63 / 2.
- H100, H200: FlashAttention-3 (arXiv 2407.08608, figure 5) has 395 TFLOP/s at 128 dims and 403 at 64 for Triton, of
  16,384 tokens: 0.40. It gives no backward rate of Triton: see `_BACKWARD`.
- B200: FlashAttention-4 (arXiv 2603.05451) reaches 71 % and is 2.1 to 2.7 times as fast as Triton: 0.71 / 2.4. Backward
  is assumed in the proportion of the H100.
- MI300X: no reliable figure is known. Assumed to be those of the B200, forward and backward.
"""

from dataclasses import replace

from maskdsl.base.diagnostics import AttnError, nearest_name
from maskdsl.base.errors.calls import analysis as errors
from maskdsl.base.records import dataclass

_BACKWARD = 322 / 370
"""Backward rate over forward rate of FlashAttention-2 on the H100 at 128 dims; that of Triton is not known."""


@dataclass(frozen=True)
class Device:
    """One GPU, with the figures that the cost model uses."""

    name: str
    architecture: str
    """As `tile_table` names it: `sm90`."""
    multiprocessors: int
    matrix_flops: float
    """Floating-point operations per second of all multiprocessors: dense 16-bit matrix products."""
    bandwidth: float
    """Memory bandwidth in bytes per second."""
    clock: float
    """Cycles per second at which `matrix_flops` is stated."""
    lanes: int
    """32-bit comparisons and integer operations per cycle of one multiprocessor."""
    cache: int
    """Bytes of the last-level cache."""
    shared_memory: int
    """Bytes of shared memory of one multiprocessor."""
    registers: int
    """32-bit registers of one multiprocessor."""
    thread_registers: int
    """Registers of one thread of a forward kernel."""
    warp: int
    """Threads of a warp (wavefront)."""
    forward_fraction: float
    """The share of `matrix_flops` that forward kernels reach on full tiles."""
    backward_fraction: float
    """The same of backward kernels."""

    def resident(self, warps: int, shared_memory: int) -> int:
        """Programs of `warps` warps and `shared_memory` bytes that one multiprocessor holds at once; at least one."""
        by_registers = self.registers // (warps * self.warp * self.thread_registers)
        return max(1, min(by_registers, self.shared_memory // shared_memory))


_A100 = Device(
    name="A100",
    architecture="sm80",
    multiprocessors=108,
    matrix_flops=312e12,
    bandwidth=2.039e12,
    clock=1.41e9,
    lanes=64,
    cache=40_000_000,
    shared_memory=164 << 10,
    registers=65536,
    thread_registers=192,
    warp=32,
    forward_fraction=0.73 / 1.4,
    backward_fraction=0.63 / 2,
)
H100 = Device(
    name="H100",
    architecture="sm90",
    multiprocessors=132,
    matrix_flops=989.4e12,
    bandwidth=3.35e12,
    clock=1.83e9,
    lanes=64,
    cache=50_000_000,
    shared_memory=228 << 10,
    registers=65536,
    thread_registers=168,
    warp=32,
    forward_fraction=0.40,
    backward_fraction=0.40 * _BACKWARD,
)
B200 = Device(
    name="B200",
    architecture="sm100",
    multiprocessors=148,
    matrix_flops=2250e12,
    bandwidth=8e12,
    clock=1.856e9,
    lanes=128,
    cache=126_000_000,
    shared_memory=228 << 10,
    registers=65536,
    thread_registers=192,
    warp=32,
    forward_fraction=0.71 / 2.4,
    backward_fraction=0.71 / 2.4 * _BACKWARD,
)
_MI300X = Device(
    name="MI300X",
    architecture="gfx942",
    multiprocessors=304,
    matrix_flops=1307.4e12,
    bandwidth=5.3e12,
    clock=2.1e9,
    lanes=64,
    cache=256_000_000,
    shared_memory=64 << 10,
    registers=131072,
    thread_registers=268,
    warp=64,
    forward_fraction=0.71 / 2.4,
    backward_fraction=0.71 / 2.4 * _BACKWARD,
)
DEVICES = (_A100, H100, replace(H100, name="H200", bandwidth=4.8e12), B200, _MI300X)


def find_device(name: str) -> Device:
    """The GPU of this name, upper or lower case. Raises `UnknownGpu`."""
    for device in DEVICES:
        if device.name.casefold() == name.casefold():
            return device
    names = [device.name for device in DEVICES]
    nearest = nearest_name(name.upper(), names)
    raise AttnError(errors.UnknownGpu(name=name, known=", ".join(f"`{each}`" for each in names), nearest=nearest))
