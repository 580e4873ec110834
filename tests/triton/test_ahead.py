"""Kernels compiled ahead of time for three NVIDIA generations and one of AMD stay within budgets of their resources.

Every fifth example compiles one kind of kernel here, for one GPU, both in rotation; `make test-long` the others.
`tests/benchmarks/test_aot.py` holds the record of all examples to the same budgets.
"""

import re
from itertools import product
from pathlib import Path

import pytest
import torch
from ahead import (
    DECODE_KERNELS,
    KERNELS,
    TARGETS,
    TILE_KERNELS,
    Compiled,
    Started,
    compile_ahead,
    compile_started,
    decode_kernel_names,
    is_decoded,
    is_serialized,
    kernel_masks,
    kernel_names,
    machine_code,
)
from assembly import Loop, loop_texts, tile_loops

import maskdsl
from maskdsl.analysis.cost.tile_table import KernelName, TileChoice
from maskdsl.codegen import pieces
from maskdsl.emit.plan import make_plan
from maskdsl.runtime.backends.tuning import device_code

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"
FILES = sorted(EXAMPLES.rglob("*.attn"))
EVERYTHING = HERE / "everything.attn"
PATTERNS = [(file, name) for file in [*FILES, EVERYTHING] for name in maskdsl.load(file)]
IDS = [f"{file.stem}-{name}" for file, name in PATTERNS]
WINDOW = "pattern window_layer(n = 4096, size = 513) { space tokens[n] attend window(size) }"
CAUSAL = "pattern causal_layer(n = 4096) { space tokens[n] attend causal }"
DENSE = "pattern dense(n = 4096) { space tokens[n] attend tokens -> tokens }"
SMALL = TileChoice(32, 32, 4, 1)
"""Tiles that compile fast."""
HEAVY = {"uplift-star"}
"""Patterns whose kernels take minutes to compile: long."""
SHARED = {"sm80": 163 * 1024, "sm90": 227 * 1024, "sm100": 227 * 1024, "gfx942": 64 * 1024}
"""Bytes of shared memory that a program may use."""


def in_turn(kind: int) -> pytest.MarkDecorator:
    """Parametrizes over all patterns: every 20th group of four, shifted by five times the kind; the others are long."""
    numbers = range(len(PATTERNS))
    now = {n for n in numbers if n // 4 % 20 == 5 * kind and IDS[n] not in HEAVY}
    params = [pytest.param(n, marks=() if n in now else pytest.mark.long, id=IDS[n]) for n in numbers]
    return pytest.mark.parametrize("number", params)


def mask_of(file: Path, name: str) -> maskdsl.Mask:
    return maskdsl.load(file)[name].bind(heads=4)


def compile_text(
    text: str, target: str, dim: int, dtype: str, kernel: str, choice: TileChoice | None = None
) -> Compiled:
    (pattern,) = maskdsl.parse(text).values()
    return compile_ahead(pattern.bind().ir, target, dim, dtype, kernel, choice)


@in_turn(0)
def test_every_pattern_compiles_within_budget(number: int) -> None:
    file, name = PATTERNS[number]
    target, dim = list(TARGETS)[number % 4], (64, 128)[number // 16 % 2]
    compiled = compile_ahead(mask_of(file, name).ir, target, dim)
    assert "forward_kernel" in compiled.assembly
    assert compiled.usage.registers > 16
    assert compiled.usage.shared <= SHARED[target]
    if file is not EVERYTHING:
        assert compiled.usage.spills == 0


@in_turn(1)
def test_every_pattern_has_a_backward_pass_within_budget(number: int) -> None:
    file, name = PATTERNS[number]
    kernel, target = KERNELS[1 + number // 16 % 2], list(TARGETS)[number % 4]
    compiled = compile_ahead(mask_of(file, name).ir, target, kernel_name=kernel)
    assert kernel in compiled.assembly
    assert compiled.usage.shared <= SHARED[target]
    if file is not EVERYTHING:
        assert compiled.usage.spills == 0


@in_turn(2)
def test_every_kernel_that_finds_tiles_compiles(number: int) -> None:
    mask = mask_of(*PATTERNS[number]).ir
    own = list(TARGETS)[number % 4]
    everywhere = ("tiles_kernel", "order_kernel")
    wanted = [(kernel, target) for kernel in TILE_KERNELS for target in (TARGETS if kernel in everywhere else [own])]
    names = kernel_names(make_plan(mask))
    for kernel, target in [each for each in wanted if each[0] in names]:
        usage = compile_ahead(mask, target, kernel_name=kernel).usage
        assert usage.spills == 0
        assert usage.shared <= SHARED[target]


@in_turn(3)
def test_every_decoding_kernel_compiles(number: int) -> None:
    """One query, and two query heads that share the keys in pages; of a family of branches the first."""
    target = list(TARGETS)[number % 4]
    masks = kernel_masks(mask_of(*PATTERNS[number]).ir)
    for mask in (mask for name, mask in masks.items() if is_decoded(name) and not re.search(r"\[[1-9]", name)):
        usage = compile_ahead(mask, target, 128, kernel_name="decode_kernel").usage
        assert not usage.spills or PATTERNS[number][0] is EVERYTHING
        assert usage.shared <= SHARED[target]


@pytest.mark.parametrize("target", TARGETS)
def test_kernels_that_join_pieces_compile(target: str) -> None:
    merges, wide = torch.zeros(1, 5, dtype=torch.int32), torch.zeros(1)
    tensors = {"merges": merges, "piece_results": wide, "heads": 8, "entries": 2, "JOINED": 16, "ROOM": 128}
    join = {"piece_sums": wide, "out": wide.bfloat16(), "lse": wide, "query_length": 4096}
    join |= {"VALUE_DIM": 128, "PADDED_VALUE_DIM": 128, "QUERY_BLOCK": 128, "UNIT": 0.125}
    total = {"grad": wide.bfloat16(), "length": 4096, "DIM": 128, "PADDED_DIM": 128, "BLOCK": 64, "SCALE": 0.125}
    for kernel, values in ((pieces.join_kernel, join), (pieces.sum_kernel, total)):
        assert compile_started(Started(kernel, {**tensors, **values}), target).usage.spills == 0


WORDS = maskdsl.load(HERE.parents[1] / "benchmarks" / "words.attn")
MASKS = {
    f"{name} {what}".strip(): mask
    for name, pattern in WORDS.items()
    for what, mask in kernel_masks(pattern.bind(heads=4).ir).items()
}


@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=() if n % 4 == 1 else pytest.mark.long) for n in range(len(MASKS))], ids=MASKS
)
def test_kernels_of_new_words_compile(number: int) -> None:
    """Of sinks, other normalizations, branches, values of pairs, vectors, lists, pools and draws, in small tiles."""
    name, target = list(MASKS)[number], list(TARGETS)[number % 3]
    kernels = KERNELS[1:] if "masses" in name else KERNELS
    usage = compile_ahead(MASKS[name], target, kernel_name=kernels[number % len(kernels)], choice=SMALL).usage
    assert usage.shared <= SHARED[target]


def test_decoding_without_a_softmax_compiles() -> None:
    """There is no kernel that merges: partial results are added."""
    mask = MASKS["sigmoid"]
    assert decode_kernel_names(make_plan(mask)) == DECODE_KERNELS[:1]
    assert compile_ahead(mask, "sm90", 64, "bf16", "decode_kernel").usage.spills == 0


@pytest.mark.parametrize(
    ("dim", "dtype", "target"), [(256, "bf16", "sm90"), (128, "fp32", "gfx942"), (64, "fp64", "sm80")]
)
def test_decoding_of_a_window(dim: int, dtype: str, target: str) -> None:
    for kernel in DECODE_KERNELS:
        assert compile_text(WINDOW, target, dim, dtype, kernel).usage.shared <= SHARED[target]


@pytest.mark.thinned(2, "target", "kernel", "dim")
@pytest.mark.parametrize(("target", "kernel", "dim"), [*product(TARGETS, KernelName, (64, 128))])
def test_budgets_of_a_window(target: str, kernel: KernelName, dim: int) -> None:
    compiled = compile_text(WINDOW, target, dim, "bf16", kernel)
    assert compiled.usage.shared <= SHARED[target]
    assert target != "sm90" or not is_serialized(compiled)
    if dim == 64 or kernel is KernelName.FORWARD:
        assert compiled.usage.spills == 0
    kinds = {"sm80": "mma.sync", "sm90": "wgmma.mma_async", "sm100": "tcgen05.mma", "gfx942": "v_mfma"}
    assert all(loop.kinds == (kinds[target],) for loop in tile_loops(compiled.assembly))


@pytest.mark.parametrize("text", [CAUSAL, WINDOW])
def test_key_gradients_multiply_wide_tiles_on_hopper(text: str) -> None:
    """Products of 16 queries would wait for shared memory."""
    compiled = compile_text(text, "sm90", 128, "bf16", KernelName.KEY_GRADIENT)
    assert compiled.usage.spills == 0
    widths = {int(width) for width in re.findall(r"wgmma\.mma_async\S*\.m64n(\d+)k", compiled.assembly)}
    assert min(widths) >= 32


DECODED = ("longformer", "sliding_window", "packed", "neighborhood", "streaming", "bigbird", "moba")
DECODED += ("quest", "doge", "knn", "nsa selected")


@pytest.mark.parametrize(
    ("name", "target"),
    [
        pytest.param(*each, marks=() if number in (1, 4, 11, 13, 17) else pytest.mark.long)
        for number, each in enumerate(product(DECODED, ("sm80", "sm90")))
    ],
)
def test_decoding_loads_ahead(name: str, target: str) -> None:
    """All keys and values asynchronously, with few barriers; no loop of a block waits for a condition."""
    file_name, *branch = name.split()
    (file,) = EXAMPLES.rglob(f"{file_name}.attn")
    pattern = next(iter(maskdsl.load(file).values()))
    mask = kernel_masks(pattern.bind(heads=4).ir)["".join(branch)]
    compiled = compile_ahead(mask, target, 128, kernel_name="decode_kernel")
    assert compiled.usage.spills == 0
    text = machine_code(compiled)
    (body,) = loop_texts(text)
    # 64 keys and values of 256 bytes each, in loads of 16 bytes of 128 threads
    assert len(re.findall(r"LDGSTS[.\w]*\.128", body)) == 16
    assert not re.search(r"LDG\.", body)
    assert len(re.findall(r"BAR\.SYNC", body)) <= 8


OTHER_TYPES = [(dim, dtype, "sm90") for dim in (16, 80, 256) for dtype in ("bf16", "fp16", "fp32", "fp64")]
OTHER_TYPES += [(256, "fp32", target) for target in ("sm80", "sm100", "gfx942")]


NOW = {each for each in range(len(OTHER_TYPES)) if (each // 4 + each) % 2 == 0}


@pytest.mark.parametrize(
    "number",
    [pytest.param(each, marks=() if each in NOW else pytest.mark.long) for each in range(len(OTHER_TYPES))],
    ids=["-".join(map(str, each)) for each in OTHER_TYPES],
)
def test_other_head_dims_and_types(number: int) -> None:
    dim, dtype, target = OTHER_TYPES[number]
    usage = compile_text(WINDOW, target, dim, dtype, KERNELS[number % 3]).usage
    assert usage.shared <= SHARED[target]


def full_loop(text: str, target: str, kernel: KernelName) -> Loop:
    """The first loop of a kernel: that over full tiles."""
    return tile_loops(compile_text(text, target, 64, "bf16", kernel, TileChoice(64, 64, 4, 2)).assembly)[0]


@pytest.mark.parametrize(
    ("target", "kernel"),
    [
        pytest.param(*each, marks=() if "sm90" in each or KernelName.FORWARD in each else pytest.mark.long)
        for each in product(("sm80", "sm90", "sm100"), KernelName)
    ],
)
def test_full_tiles_are_free_of_conditions(target: str, kernel: KernelName) -> None:
    """Full tiles have the compares and selects of full attention: those of the softmax and the loop."""
    window, dense = (full_loop(text, target, kernel) for text in (WINDOW, DENSE))
    assert (window.compares, window.selects) == (dense.compares, dense.selects)
    assert window.compares < 16 and window.selects < 16


CAPPED = "pattern capped(n = 8192) { space tokens[n] attend backward(4096) score 50 * tanh(s / 50) }"
APPROXIMATION = "tanh.approx.f32"


def test_a_soft_cap_is_one_instruction_and_little_around_it() -> None:
    """For inputs of 16 bits on NVIDIA GPUs, in all kernels."""
    compiled = compile_text(CAPPED, "sm90", 64, "bf16", "forward_kernel", TileChoice(128, 64, 8, 3))
    assert APPROXIMATION in compiled.assembly
    assert tile_loops(machine_code(compiled))[0].instructions <= 450
    for kernel in (*KERNELS[1:], "decode_kernel"):
        assert APPROXIMATION in compile_text(CAPPED, "sm80", 64, "fp16", kernel, SMALL).assembly


@pytest.mark.parametrize(("target", "dtype"), [("sm90", "fp32"), ("gfx942", "bf16")])
def test_a_soft_cap_is_exact_elsewhere(target: str, dtype: str) -> None:
    assert APPROXIMATION not in compile_text(CAPPED, target, 64, dtype, "forward_kernel", SMALL).assembly


BUCKETS = """pattern buckets(n = 2048) {
    space tokens[n]
    input table: float[heads, 32]
    attend all -> all
    score s + table[head, t5_bucket(k - q, 32, 128)]
}"""


def test_buckets_of_distances_are_loaded() -> None:
    compiled = compile_text(BUCKETS, "sm90", 64, "bf16", "forward_kernel", TileChoice(128, 64, 8, 3))
    assert compiled.usage.spills == 0
    assert tile_loops(machine_code(compiled))[0].instructions <= 540


def kernel(pattern: maskdsl.Pattern, **lengths: int) -> str:
    """The device code of a pattern: all functions that Triton compiles."""
    return device_code(pattern.bind(**lengths).compile("triton").source)


def test_lengths_are_no_part_of_the_kernel() -> None:
    """Another length or image size has the same device code, so nothing is recompiled."""
    packed = maskdsl.load(EXAMPLES / "language" / "packed.attn")["packed"]
    assert kernel(packed, n=100) == kernel(packed, n=8192)
    blocks = maskdsl.load(EXAMPLES / "vision" / "maxvit.attn")["block"]
    assert kernel(blocks, h=14, w=14) == kernel(blocks, h=56, w=28)
    assert "attends &= " in kernel(blocks, h=14, w=14)


INPUTS = maskdsl.load(HERE / "inputs.attn")
ATOMIC = re.compile(r"\b(atom|red)\.global|\bglobal_atomic")


WITH_GRADIENTS = ("relative", "gates", "chained", "spaces", "graph")


@pytest.mark.parametrize(
    ("name", "target"),
    [
        pytest.param(name, target, marks=() if number in (0, 15) else pytest.mark.long)
        for number, (name, target) in enumerate(product(WITH_GRADIENTS, TARGETS))
    ],
)
def test_gradients_of_inputs_compile(name: str, target: str) -> None:
    """Atomics only for gradients of tables, and none where these are not wanted."""
    mask = INPUTS[name].bind(heads=4).ir
    for kernel in KERNELS[1:]:
        compiled = compile_ahead(mask, target, kernel_name=kernel, choice=SMALL, input_gradients=True)
        assert compiled.usage.shared <= SHARED[target]
        adds = kernel == "key_gradient_kernel" and name in ("relative", "chained", "graph")
        assert bool(ATOMIC.search(compiled.assembly)) == adds
    plain = compile_ahead(mask, target, kernel_name="key_gradient_kernel", choice=SMALL)
    assert not ATOMIC.search(plain.assembly)
