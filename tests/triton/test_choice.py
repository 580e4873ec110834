"""Tile choices: none is launched that exceeds shared memory, and one that spills only if all others do not fit.

Measured ones are cached on disk.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from ahead import compile_ahead
from triton.backends.compiler import GPUTarget
from triton.compiler import CompiledKernel
from triton.compiler.errors import CompilationError
from triton.runtime import driver
from triton.runtime.errors import OutOfResources, PTXASError

import maskdsl
from maskdsl.analysis.cost.tile_table import LAST, Architecture, KernelName, TileChoice, ladder
from maskdsl.base.cache import CACHE_VARIABLE
from maskdsl.base.diagnostics import AttnError
from maskdsl.emit.plan import KernelPlan, make_plan
from maskdsl.runtime.backends import tile_choice as choice
from maskdsl.runtime.backends import tuning
from maskdsl.runtime.backends.tile_choice import Chooser
from maskdsl.runtime.backends.tuning import TuningKey
from maskdsl.runtime.base.module_cache import load_module
from maskdsl.runtime.kernels.split_kernel import SplitKernel, block_ladder

CPU = torch.device("cpu")
MASK = maskdsl.parse("pattern window_layer(n = 4096, size = 513) { space tokens[n] attend window(size) }")
MASK = MASK["window_layer"].bind()
TEXT = """
import triton


@triton.jit
def forward_kernel(q):
    '''Version {version}.'''


def attention(choice):
    forward_kernel[(1,)](choice)
    query_gradient_kernel[(1,)](choice)
    key_gradient_kernel[(1,)](choice)
"""
QUESTION = TuningKey(KernelName.FORWARD, torch.device("cuda:0"), (64, 64), torch.bfloat16, 12)
LADDER = ladder(Architecture.SM80, KernelName.FORWARD, 64, 2)
AMPLE = 227 * 1024


class Compiler:
    """Stands in for a Triton kernel: compiles tile choices to given resources, and records launches."""

    def __init__(self, shared: Callable[[TileChoice], int], spills: Callable[[TileChoice], int]) -> None:
        self.shared = shared
        self.spills = spills
        self.started: list[TileChoice] = []

    def warmup(self, tiles: TileChoice, grid: tuple[int, ...]) -> object:
        needed = SimpleNamespace(shared=self.shared(tiles))
        return SimpleNamespace(metadata=needed, run=None, n_spills=self.spills(tiles))

    def __getitem__(self, grid: object) -> Callable[[TileChoice], None]:
        return self.started.append


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Queries about the GPU are answered as by an A100."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    monkeypatch.setattr(choice, "largest_shared_memory", lambda device: AMPLE)


def none(tiles: TileChoice) -> int:
    return 0


def module(
    shared: Callable[[TileChoice], int] = none, version: int = 1, spills: Callable[[TileChoice], int] = none
) -> ModuleType:
    found = load_module.__wrapped__(TEXT.format(version=version), "choices")
    found.__dict__.update({kernel: Compiler(shared, spills) for kernel in KernelName})
    return found


def chosen(
    module: ModuleType, tune: bool = False, question: TuningKey = QUESTION, chooser: Chooser | None = None
) -> TileChoice:
    plan = make_plan(MASK.ir, tune=tune)
    start = lambda attention, tiles: attention(tiles)  # noqa: E731
    return (chooser or Chooser()).choose(plan, question, module.attention, start)


def test_what_fits_is_as_the_table_says_and_nothing_is_started() -> None:
    found = module()
    assert chosen(found) == LADDER[0]
    assert found.forward_kernel.started == found.key_gradient_kernel.started == []


class Refused(Compiler):
    """On a GPU whose driver encodes no tensor descriptors for launches."""

    def __getitem__(self, grid: object) -> Callable[[TileChoice], None]:
        assert grid == (0, 1, 1)  # no program runs

        def launch(tiles: TileChoice) -> None:
            super(Refused, self).__getitem__(grid)(tiles)
            if tiles.descriptors:
                raise RuntimeError("Triton Error [CUDA]: invalid argument")

        return launch


def test_without_descriptors_where_a_driver_refuses_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are encoded before a choice is taken; others start nothing."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    question = replace(QUESTION, dims=(128, 128), descriptors=True)
    accepting = module()
    best = chosen(accepting, question=question)
    assert best.descriptors and accepting.forward_kernel.started == [best]
    refusing = module()
    refusing.forward_kernel = Refused(none, none)
    assert chosen(refusing, question=question) == best._replace(descriptors=False)
    assert refusing.forward_kernel.started == [best]


@pytest.mark.parametrize("rung", range(len(LADDER)))
def test_first_that_fits(rung: int) -> None:
    assert chosen(module(lambda tiles: AMPLE + (tiles != LADDER[rung]))) == LADDER[rung]


FAILURES = [
    RuntimeError("PassManager::run failed"),
    PTXASError("Internal Triton PTX codegen error"),
    OutOfResources(300000, AMPLE, "shared memory"),
    CompilationError(None, None, "no such operation"),
]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_what_the_compiler_fails_on_is_not_taken(failure: Exception) -> None:
    def shared(tiles: TileChoice) -> int:
        if tiles == LADDER[0]:
            raise failure
        return 0

    assert chosen(module(shared)) == LADDER[1]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_what_cannot_be_loaded_is_not_taken(failure: Exception) -> None:
    def spills(tiles: TileChoice) -> int:
        if tiles == LADDER[0]:
            raise failure
        return 0

    assert chosen(module(spills=spills)) == LADDER[1]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_where_all_fail_the_last_failure_is_told(failure: Exception) -> None:
    def shared(tiles: TileChoice) -> int:
        raise failure

    with pytest.raises(maskdsl.AttnError, match="E470") as raised:
        chosen(module(shared))
    assert raised.value.__cause__ is failure
    for part in ("window_layer", "forward_kernel", type(failure).__name__, " ".join(str(failure).split())):
        assert part in str(raised.value)


def test_another_error_is_not_of_the_compiler() -> None:
    def shared(tiles: TileChoice) -> int:
        raise AssertionError

    with pytest.raises(AssertionError):
        chosen(module(shared))


def test_where_nothing_fits_it_is_said_what_is_missing() -> None:
    with pytest.raises(
        maskdsl.AttnError, match=f"needs {AMPLE + 1} bytes of shared memory, of which there are {AMPLE}"
    ):
        chosen(module(lambda tiles: AMPLE + 1))


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_what_fails_when_it_is_measured_is_not_taken(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    def seconds(start: Callable[[], object]) -> float:
        start()
        tiles = found.forward_kernel.started[-1]
        if tiles == LADDER[1]:
            return 1.0
        if tiles == LADDER[0]:
            raise failure
        return 2.0

    found = module()
    monkeypatch.setattr(tuning, "timer_of", lambda device: seconds)
    assert chosen(found, tune=True) == LADDER[1]


OF_TABLE = [each for each in LADDER if each not in LAST]


@pytest.mark.parametrize("rung", range(len(OF_TABLE)))
def test_first_that_keeps_its_registers(rung: int) -> None:
    found = module(spills=lambda tiles: int(tiles != OF_TABLE[rung]))
    assert chosen(found) == OF_TABLE[rung]
    assert found.forward_kernel.started == []


def test_where_all_spill_the_first_is_taken_that_fits() -> None:
    """The last choices, with which every ladder ends, are not preferred although they would not spill."""
    assert (
        chosen(module(lambda tiles: AMPLE + (tiles == LADDER[0]), spills=lambda tiles: tiles not in LAST)) == LADDER[1]
    )


def test_where_nothing_else_fits_the_last_are_taken() -> None:
    found = module(lambda tiles: AMPLE + (tiles not in LAST), spills=lambda tiles: 4)
    assert chosen(found) == LAST[0]


@pytest.mark.parametrize("dim", [64, 128, 256])
@pytest.mark.parametrize("kernel", KernelName)
def test_ladders_reach_what_small_gpus_have(monkeypatch: pytest.MonkeyPatch, kernel: KernelName, dim: int) -> None:
    """8.6, 8.9 and 12.x have 99 KiB of shared memory; here by the figures of compilers for a GPU that has more."""
    limit = 99 * 1024
    monkeypatch.setattr(choice, "largest_shared_memory", lambda device: limit)
    needs: dict[TileChoice, int] = {}

    def shared(tiles: TileChoice) -> int:
        needs[tiles] = compile_ahead(MASK.ir, "sm80", dim, "bf16", kernel, tiles).usage.shared
        return needs[tiles]

    found = module()
    found.__dict__[kernel] = Compiler(shared, none)
    best = chosen(found, question=replace(QUESTION, kernel=kernel, dims=(dim, dim)))
    assert needs.pop(best) <= limit
    assert all(each > limit for each in needs.values())


# Measured choices


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[TileChoice]:
    """What was timed: the second choice is the fastest."""
    found: list[TileChoice] = []

    def seconds(start: Callable[[], object]) -> float:
        start()
        found.append(start.args[-1])  # type: ignore[attr-defined]
        return 1.0 if found[-1] == LADDER[1] else 2.0

    monkeypatch.setattr(tuning, "timer_of", lambda device: seconds)
    return found


def test_the_fastest_is_taken_and_measured_once(measured: list[TileChoice]) -> None:
    found, chooser = module(), Chooser()
    assert [chosen(found, tune=True, chooser=chooser) for _ in range(2)] == [LADDER[1]] * 2
    assert measured == found.forward_kernel.started == list(LADDER)
    assert found.query_gradient_kernel.started == []


def test_what_is_not_tuned_does_not_answer_for_what_is(measured: list[TileChoice]) -> None:
    """Tuned and untuned attention share one generated module."""
    found, chooser = module(), Chooser()
    chosen(found, chooser=chooser)
    assert not measured and chosen(found, tune=True, chooser=chooser) == LADDER[1]
    assert measured == list(LADDER)


def test_another_process_need_not_measure(measured: list[TileChoice]) -> None:
    assert chosen(module(), tune=True) == chosen(module(), tune=True) == LADDER[1]
    assert len(measured) == len(LADDER)


def test_only_what_fits_is_measured(measured: list[TileChoice]) -> None:
    assert chosen(module(lambda tiles: AMPLE + (tiles in LADDER[:2])), tune=True) == LADDER[2]
    assert measured == list(LADDER[2:])
    assert chosen(module(lambda tiles: AMPLE + (tiles in LADDER[:3])), tune=True) == LADDER[3]


@pytest.mark.parametrize(
    "change", [{"length": 13}, {"dims": (64, 32)}, {"dtype": torch.float16}, {"device": torch.device("cuda:1")}]
)
def test_what_measurements_depend_on(
    measured: list[TileChoice], monkeypatch: pytest.MonkeyPatch, change: dict[str, object]
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    chosen(module(), tune=True)
    chosen(module(), tune=True, question=replace(QUESTION, **change))  # type: ignore[arg-type]
    assert len(measured) == 2 * len(LADDER)


def test_other_kernels_are_measured_anew(measured: list[TileChoice]) -> None:
    chosen(module(), tune=True)
    chosen(module(version=2), tune=True)
    assert len(measured) == 2 * len(LADDER)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"{", b"[]", b"1", b'{"choice": 1}', b'{"choice": [[], 1, 2, 3]}', b'{"choice": [9, 9, 9, 9]}'],
)
def test_a_broken_file_is_no_error(measured: list[TileChoice], tmp_path: Path, content: bytes) -> None:
    chosen(module(), tune=True)
    (file,) = (tmp_path / "tiles").iterdir()
    assert json.loads(file.read_text())["choice"] == list(LADDER[1])
    file.write_bytes(content)
    assert chosen(module(), tune=True) == LADDER[1]
    assert len(measured) == 2 * len(LADDER)
    assert json.loads(file.read_text())["choice"] == list(LADDER[1])


def test_nothing_is_measured_on_the_cpu(tmp_path: Path) -> None:
    question = replace(QUESTION, device=torch.device("cpu"))
    assert (
        chosen(module(), tune=True, question=question) == ladder(Architecture.INTERPRETER, KernelName.FORWARD, 64, 2)[0]
    )
    assert not (tmp_path / "tiles").exists()


def test_the_users_word_reaches_the_plan() -> None:
    plans: list[KernelPlan] = [MASK.compile("triton", tune=tune)._compiled.plan for tune in (False, True)]
    assert [plan.tune for plan in plans] == [False, True]


class Driver:
    """Triton's word for a GPU: one with the instructions of 8.6, which cannot be started."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 86, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def test_generated_kernels_are_compiled_with_the_arguments_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """End to end, with Triton's compiler and the shared memory of compute capability 8.6, but no GPU."""
    monkeypatch.setattr(choice, "largest_shared_memory", lambda device: 99 * 1024)
    attention = MASK.compile("triton")
    q = torch.empty(1, 2, 4096, 64, dtype=torch.bfloat16, device="meta")
    tried: list[TileChoice] = []

    def start(attention: Callable[..., object], tiles: TileChoice) -> None:
        tried.append(tiles)
        attention(q, q, q, {}, None, tiles.block, (None, None), "tf32x3", tiles.warps, tiles.stages)

    monkeypatch.setattr(driver, "_active", Driver())
    monkeypatch.setattr(CompiledKernel, "_init_handles", lambda kernel: setattr(kernel, "n_spills", 0))
    best = Chooser().choose(make_plan(MASK.ir), QUESTION, attention._compiled.default_kernel.module.attention, start)
    assert tried == [*LADDER[: LADDER.index(best) + 1]]
    used = [compile_ahead(MASK.ir, "sm80", 64, "bf16", KernelName.FORWARD, each).usage.shared for each in tried]
    assert [shared <= 99 * 1024 for shared in used] == [each == best for each in tried]


def test_decoding_goes_down_its_rungs() -> None:
    decoder = SplitKernel.of(make_plan(maskdsl.parse("pattern c(n = 64) { space t[n] attend causal }")["c"].bind().ir))
    blocks = block_ladder((64, 64))
    assert blocks == ((64, 64), (64, 32), (16, 32), (16, 16)) and block_ladder((16, 16)) == ((16, 16),)
    tried: list[tuple[int, int]] = []
    result = torch.zeros(1), torch.zeros(1)

    def start(block: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        tried.append(block)
        if block[0] > 16:
            raise OutOfResources(300_000, 232_448, "shared memory")
        return result

    for _ in range(2):
        assert decoder.start_first(blocks, "kind", CPU, start) is result
    assert tried == [*blocks[:3], blocks[2]]
    with pytest.raises(AttnError, match=r"E470.*decode_kernel.*OutOfResources: out of resource: shared memory"):
        decoder.start_first(blocks[:2], "another", CPU, start)


@pytest.mark.parametrize(
    ("relation", "of_one", "of_five"),
    [
        ("causal", 2048, 2048),
        ("window(2047) and causal", 17, 18),
        ("same(block)", 2, 3),
        ("k < 8 or q == k", 2048, 2048),
    ],
)
def test_splits_by_the_longest_range(relation: str, of_one: int, of_five: int) -> None:
    """Of keys that a tile attends, wherever its queries are; by the length where limits have no closed form."""
    text = f"pattern c(n = 131072) {{ space t[n]  coord block = i // 64  attend {relation} }}"
    decoder = SplitKernel.of(make_plan(maskdsl.parse(text)["c"].bind(heads=8).ir))
    assert decoder.most_blocks(1, 64) == of_one
    assert decoder.most_blocks(5, 64) == of_five
    q, k = torch.empty(1, 8, 1, 64), torch.empty(1, 1, 1, 64)
    assert decoder.splits(q, k, (16, 64)) == min(of_one, 12)  # of two programs for each of six processors


def test_kernels_of_one_size_fail_by_a_declared_error() -> None:
    with (
        pytest.raises(AttnError, match=r"E470.*tiles_kernel.*of `c`"),
        choice.without_choice("tiles_kernel", "c", CPU),
    ):
        raise OutOfResources(300_000, 232_448, "shared memory")
    with pytest.raises(torch.OutOfMemoryError), choice.without_choice("tiles_kernel", "c", CPU):
        raise torch.OutOfMemoryError
