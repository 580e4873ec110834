"""What the two calls do, the most important first: each ends when its time is spent."""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from contact.runner import Step

CHECK_SECONDS, MEASURE_SECONDS, LONG_SECONDS = 230.0, 350.0, 3600.0
TESTS = "gpu.checks:tests"
SANITIZER = "compute-sanitizer"
PROFILER = ("ncu", "--clock-control", "none", "--set", "full", "--launch-count", "1", "--kernel-name")
"""Its pages are in contact.log: how busy the tensor cores are, what warps wait for, what caches hold."""
API_ERRORS = ("--report-api-errors", "no")
"""torch asks the driver what it may not do, and goes on."""
ALONE = {"TORCHINDUCTOR_COMPILE_THREADS": "1"}
"""So that Inductor compiles in the process of the step: its workers would run beside what is measured."""
UNCACHED = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
"""So that reads behind a tensor are reads behind an allocation."""
BY_THREADS = {"MASKDSL_DESCRIPTORS": "0"}
"""Each thread loads its share of a tile, also where kernels load by tensor descriptors otherwise."""

FEW = "lengths or test_head_dims or heads or bits or another_dim"

Row = dict[str, Any]


def check() -> list[Step]:
    """Whether kernels are right on this GPU. Under sanitizers kernels run that the steps before have compiled."""
    quick = "lengths or test_head_dims or heads or orders or test_decoding or test_pages or compile"
    return [
        *start(),
        Step("smoke", "gpu.checks:smoke", {"length": 1741, "dim": 64}, limit=40),
        Step("smoke, descriptors", "gpu.checks:smoke", {"length": 1741, "dim": 128}, limit=40),
        Step("smoke, by threads", "gpu.checks:smoke", {"length": 1741, "dim": 128}, limit=40, environment=BY_THREADS),
        Step("small calls", "gpu.checks:small_calls", limit=60),
        sanitizer("memcheck", "memcheck", 60),
        sanitizer("memcheck", "descriptors", 45),
        sanitizer("racecheck", "racecheck", 35),
        Step("tests", TESTS, {"files": ["test_kernels", "test_launches"], "expression": quick}, limit=100),
        Step("tests, by threads", TESTS, {"files": ["test_kernels"], "expression": FEW}, 80, environment=BY_THREADS),
        Step("offsets past 2**31", TESTS, {"files": ["test_large"], "workers": 1}, limit=45),
        Step("every launch configuration", TESTS, {"files": ["test_configurations"]}, limit=90),
        Step("the same bits under load", TESTS, {"files": ["test_repeats"], "workers": 2}, limit=45),
    ]


def start() -> list[Step]:
    return [
        Step("versions", "gpu.machine:versions", limit=60, least=0),
        Step("rates", "gpu.checks:rates", limit=30),
    ]


def sanitizer(tool: str, calls: str, limit: float) -> Step:
    """The step that watches the calls of that name."""
    name = tool if calls == tool else f"{tool}, {calls}"
    command = (SANITIZER, "--tool", tool, "--error-exitcode", "9", *(API_ERRORS if tool == "memcheck" else ()))
    return Step(name, "gpu.checks:sanitized", {"calls": calls}, limit, 20, command, UNCACHED)


def measure(long: bool) -> list[Step]:
    """Rows against peers. In the long form measurements take longer, tile choices of ours are measured as well, and
    all patterns are measured at more lengths and head dims.
    """
    rows = [*ROWS, *(LONG_ROWS if long else ())]
    seconds = 0.5 if long else 0.2
    limit = 240.0 if long else 50.0
    return [
        *start(),
        Step("compile", "gpu.checks:compile_rows", {"rows": rows}, 900 if long else 100, 60, environment=ALONE),
        *in_order(
            [row_step(row, seconds, long, limit) for row in rows],
            [*(row_step(row, seconds, long, limit, by_threads=True) for row in BOTH_WAYS), *others(seconds, limit)],
        ),
    ]


def in_order(rows: list[Step], rest: list[Step]) -> Iterator[Step]:
    """The first rows, and then what is no row, each behind two more of them."""
    yield from rows[:FIRST]
    for number, step in enumerate(rest):
        yield step
        yield from rows[FIRST + 2 * number : FIRST + 2 * number + 2]
    yield from rows[FIRST + 2 * len(rest) :]


def row_step(row: Row, seconds: float, tunes: bool, limit: float, by_threads: bool = False) -> Step:
    given = {"seconds": seconds, "tunes": tunes, **row}
    if by_threads:
        given["by_threads"] = True
        return peers(f"{title(row)}, by threads", "gpu.contest", given, limit, {**ALONE, **BY_THREADS})
    return peers(title(row), "gpu.contest", given, limit)


def peers(name: str, module: str, arguments: Row, limit: float, environment: Mapping[str, str] = ALONE) -> Step:
    """The step of a module that measures ours against others."""
    return Step(name, f"{module}:step", arguments, limit, environment=environment)


def title(row: Row) -> str:
    heads = f"{row['heads']}/{row['key_heads']} heads"
    return f"{row['pattern']}, {row['length']:,} x {row['head_dim']}, {heads}, {row['dtype']}"


def row(
    pattern: str,
    length: int = 16384,
    dim: int = 128,
    heads: int = 8,
    key_heads: int = 8,
    batch: int | None = None,
    dtype: str = "bfloat16",
) -> Row:
    """A batch has 32,768 tokens, where sequences are shorter."""
    sizes = {"length": length, "head_dim": dim, "heads": heads, "key_heads": key_heads}
    return {"pattern": pattern, **sizes, "batch": batch or max(1, 32768 // length), "dtype": dtype}


ROWS = (
    row("causal"),
    row("window 1,024"),
    row("dense"),
    row("Longformer"),
    row("packed documents"),
    row("causal", 4096, 64),
    row("causal", heads=32, key_heads=4, batch=1),
    row("neighbourhood 13 x 13"),
    row("causal", 4096, 72),
    row("causal", 4096, 256),
    row("causal", 4096, 192),
    row("causal", 4096, 96),
    row("causal", 10007, batch=2),
    row("causal", 4096, dtype="float16"),
    row("window and sinks"),
    row("soft cap"),
    row("T5 table"),
    row("ALiBi"),
    row("window 1,024", 10007, 64, batch=2),
    row("Swin"),
    row("dilated window"),
    row("Hilbert window"),
)
FIRST = 5
"""Rows before anything else."""
BOTH_WAYS = tuple(each for each in ROWS[:FIRST] if each["pattern"] in ("causal", "Longformer"))
"""Those that are measured without tensor descriptors too. They count for no goal."""
PATTERNS = (
    *("dense", "causal", "window 1,024", "window and sinks", "packed documents", "Longformer", "dilated window"),
    *("neighbourhood 13 x 13", "Swin", "Hilbert window", "ALiBi", "soft cap", "T5 table"),
)
LENGTHS = ((4096, 64), (131072, 128), (4096, 128), (16384, 64), (131072, 64))
LONG_ROWS = tuple(
    each for (length, dim), name in product(LENGTHS, PATTERNS) if (each := row(name, length, dim)) not in ROWS
)


def others(seconds: float, limit: float) -> list[Step]:
    """What is no row: decoding, training steps, packed sequences, maps, and a profile of two kernels."""
    decode = {"seconds": seconds, "length": 131072, "window": 4096, "batch": 4}
    train = {"seconds": seconds, "length": 8192, "heads": 8, "dim": 128}
    lengths = [4001, 1027, 3072, 517, 2048, 129, 4096, 1494]
    return [
        peers("decode", "gpu.decoding", decode, limit),
        training({**train, "pattern": "packed documents", "layers": 16}, limit),
        training({**train, "pattern": "packed documents", "layers": 1}, limit),
        peers("varlen", "gpu.packed", {"seconds": seconds, "lengths": lengths, "heads": 8, "dim": 128}, limit),
        training({**train, "pattern": "causal", "layers": 16}, limit),
        training({**train, "pattern": "causal", "layers": 1}, limit),
        peers("block maps", "gpu.maps", {"length": 131072, "heads": 8}, limit),
        *(profile(kernel) for kernel in ("forward_kernel", "key_gradient_kernel")),
    ]


def profile(kernel: str) -> Step:
    given = {"length": 16384, "dim": 128}
    return Step(f"profile, {kernel}", "gpu.checks:profiled", given, 40, 30, (*PROFILER, kernel))


def training(given: Row, limit: float) -> Step:
    return peers(f"training, {given['pattern']}, {given['layers']} layers", "gpu.training", given, limit)
