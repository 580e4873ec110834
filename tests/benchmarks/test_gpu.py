"""What is measured on a GPU, tried on the CPU: it goes through all patterns, and believes no wrong result."""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from contact.names import BACKWARD, CUDNN, FLASH, FLEX, FLEX_TUNED, FORWARD, MAP, OURS, OURS_TUNED, WITH_MAPS
from gpu import checks, contest, decoding, maps, packed, peers, training
from gpu.contest import measure
from gpu.exact import Exact, Wrong, exact
from gpu.loaded import loaded
from gpu.patterns import ENTRIES, Entry, Size, named
from gpu.peers import Case
from gpu.timing import Timer

from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.runtime.backends.triton_backend import interpreted
from tests.support.contact_steps import divides

CPU = torch.device("cpu")
SMALL = Size(256, 2, CPU)
TIMER = Timer(CPU, 0)
NAMES = [entry.name for entry in ENTRIES]
LONG = [pytest.param(name, marks=pytest.mark.long) for name in NAMES if name not in ("packed documents", "soft cap")]


def case(name: str = "ALiBi", dtype: torch.dtype = torch.float32, **more: object) -> Case:
    return replace(Case(named(name), SMALL, 2, 16, dtype), **more)


def of(tried: Case) -> tuple[list[torch.Tensor], torch.Tensor, Exact]:
    tensors, toward = tried.tensors()
    return tensors, toward, exact(tried.entry, tried.size, tensors, toward, tried.entry.inputs(tried.size))


@pytest.mark.parametrize("name", ["packed documents", "soft cap", *LONG])
def test_rows(name: str) -> None:
    kept: list[str] = []
    record = measure(case(name), TIMER, tunes=True, keep=lambda so_far: kept.append(json.dumps(so_far)))
    assert len(kept) >= 6
    json.dumps(record)
    ours, flex = record["contenders"][OURS], record["contenders"][FLEX]
    assert ours["errors"].keys() == {"output", "q", "k", "v"}
    assert max(ours["errors"].values()) < 1e-4
    assert ours[FORWARD]["seconds"] > 0
    assert ours[BACKWARD]["tflops"] > 0
    assert ours[FORWARD]["drift"] > -1
    assert record["contenders"][OURS_TUNED][FORWARD]["seconds"] > 0
    assert flex["errors"]["output"] < 1e-4
    assert flex[BACKWARD] == {"failed": "RuntimeError: no backward pass on this device"}
    assert (WITH_MAPS in record) == (name == "packed documents")
    if name not in ("dense", "T5 table"):  # which have no map
        assert record[WITH_MAPS if name == "packed documents" else MAP].keys() == {OURS, FLEX}


@pytest.mark.parametrize("length", [256, 4096])
@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_both_masks_are_one(entry: Entry, length: int) -> None:
    size = Size(length, 2, CPU)
    inputs = entry.inputs(size)
    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    mask = entry.mask(size)
    positions = Coordinates(mask.ir, mask.ir.queries, arrays).permutation()
    laid_out = np.arange(length) if positions is None else positions
    expected = mask.dense(**arrays)[np.ix_(laid_out, laid_out)]
    mask_mod = entry.mask_mod(size, inputs)
    position, head = torch.arange(length), torch.tensor(0)
    found = torch.ones(length, length, dtype=torch.bool)
    if mask_mod is not None:
        found = mask_mod(head, head, position[:, None], position[None, :])
    np.testing.assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_exact_is_the_reference(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though it was written from FlexAttention's side, some rows at a time; in float64 both are the same."""
    monkeypatch.setattr("gpu.exact.PAIRS", 100 * 256)
    tried = case(name, torch.float64, key_heads=None if name in ("ALiBi", "T5 table") else 1)
    tensors, toward, right = of(tried)
    inputs = {key: x.double() if x.is_floating_point() else x for key, x in tried.entry.inputs(SMALL).items()}
    out = tried.entry.mask(SMALL).compile("reference")(*tensors, layout="ordered", **inputs)
    q, k, v = torch.autograd.grad(out, tensors, toward)
    group = len(right.out)
    tight = {"rtol": 1e-6, "atol": 1e-6}
    torch.testing.assert_close(right.out, out[-1, -group:], **tight)
    torch.testing.assert_close(right.gradients, (q[-1, -group:], k[-1, -1], v[-1, -1]), **tight)


def wrong_ways(out: torch.Tensor) -> list[torch.Tensor]:
    """Results that look right but are not: a row, a number, a head, and no number at all."""
    row, number, nan = out.clone(), out.clone(), out.clone()
    row[-1, -1, -1] *= 1.05
    number[-1, -1, 0, 3] += 0.5
    nan[-1, -1, -1, -1] = torch.nan
    return [row, number, nan, out.flip(1)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_wrong_outputs_are_rejected(dtype: torch.dtype) -> None:
    tried = case(dtype=dtype)
    tensors, _, right = of(tried)
    inputs = tried.entry.inputs(SMALL)
    out = tried.entry.mask(SMALL).compile("reference")(*(x.detach().double() for x in tensors), **inputs).to(dtype)
    right.check_output(out)
    for wrong in wrong_ways(out):
        with pytest.raises(Wrong, match="the output is off"):
            right.check_output(wrong)


def test_wrong_gradients_are_rejected() -> None:
    tried = case()
    tensors, toward, expected = of(tried)
    out = tried.entry.mask(SMALL).compile("tiled")(*tensors, **tried.entry.inputs(SMALL))
    right = torch.autograd.grad(out, tensors, toward)
    assert max(expected.check_gradients(right).values()) < 1e-5
    for at, name in enumerate("qkv"):
        wrong = list(right)
        wrong[at] = wrong[at] * 1.001
        with pytest.raises(Wrong, match=f"the gradient of {name} is off"):
            expected.check_gradients(tuple(wrong))


def test_who_is_wrong_or_fails_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> peers.Compute:
        raise torch.OutOfMemoryError("no memory is left\nand more about it")

    monkeypatch.setattr(peers, "ours", lambda *arguments, **options: lambda q, k, v: v * 1.0)
    monkeypatch.setattr(peers, "flex", broken)
    contenders = measure(case("causal"), TIMER)["contenders"]
    assert contenders[OURS].keys() == {"wrong"}
    assert contenders[FLEX] == contenders[FLEX_TUNED] == {"failed": "OutOfMemoryError: no memory is left"}
    assert "seconds" in contenders[FLASH][FORWARD]
    assert contenders[CUDNN].keys() == {"failed"}  # not on a CPU


def test_of_alternatives_the_fastest_that_can_be_started_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large() -> contest.Step:
        raise RuntimeError("out of resources")

    def wrong() -> contest.Step:
        raise Wrong("the output is off")

    taken = {"slow": 2.0, "fast": 1.0}
    timer = SimpleNamespace(by_event=lambda step: taken[step()])
    slow, fast = (lambda: lambda: "slow"), (lambda: lambda: "fast")
    assert contest.fastest([too_large, slow, fast], timer)() == "fast"
    assert contest.fastest([too_large, slow], timer)() == "slow"
    with pytest.raises(RuntimeError, match="out of resources"):
        contest.fastest([too_large, too_large], timer)
    with pytest.raises(Wrong):
        contest.fastest([fast, wrong], timer)
    monkeypatch.setattr(contest, "is_lost", lambda: True)
    with pytest.raises(RuntimeError, match="out of resources"):
        contest.fastest([too_large, fast], timer)


def test_a_lost_gpu_ends_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **options: object) -> peers.Compute:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(peers, "flex", broken)
    monkeypatch.setattr(contest, "is_lost", lambda: True)
    kept: list[object] = []
    with pytest.raises(RuntimeError, match="illegal memory access"):
        measure(case("causal"), TIMER, keep=lambda record: kept.append(json.dumps(record)))
    assert len(kept) == 1  # ours, which was before


def test_useful_work_is_that_of_attending_pairs() -> None:
    record = measure(case("causal"), TIMER)
    pairs = 2 * 2 * 256 * 257 // 2
    assert record["pairs"] == pairs
    forward, backward = (record["contenders"][OURS][part] for part in (FORWARD, BACKWARD))
    assert forward["tflops"] * forward["seconds"] * 1e12 == pytest.approx(4 * 16 * pairs)
    assert backward["tflops"] * backward["seconds"] * 1e12 == pytest.approx(10 * 16 * pairs)


def test_steps_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []
    found = TIMER.in_turn({name: lambda name=name: turns.append(name) for name in "ab"})
    assert found.keys() == {*"ab"}
    assert turns == [*"aabb", *"ab" * 4]  # warm, once to count the rounds by, and three rounds


def test_grouped_heads_are_few_heads_of_keys() -> None:
    tried = case("causal", key_heads=1)
    tensors, toward = tried.tensors()
    assert [tensor.shape[1] for tensor in (*tensors, toward)] == [2, 1, 1, 2]
    contenders = measure(tried, TIMER)["contenders"]
    assert all("errors" in contenders[name] for name in (OURS, FLEX, FLASH))


def test_cases_are_compiled_elsewhere() -> None:
    again = pickle.loads(pickle.dumps(case("soft cap")))
    assert again == case("soft cap")
    assert contest.run_once(again) == {}
    assert contest.run_once(replace(again, dim=0)) == {}


def test_compiled_peers_go_back_twice_and_never_fall_back() -> None:
    peers.compiled(lambda x: x)
    assert peers.functorch.donated_buffer is False
    assert peers.dynamo.fail_on_recompile_limit_hit is True


def test_block_maps_of_fresh_documents() -> None:
    record = maps.measure(SMALL, TIMER)
    assert record["ratio"] == pytest.approx(record["flex_seconds"] / record["our_seconds"])


@pytest.mark.long
@pytest.mark.skipif(interpreted(), reason="runs itself")
def test_kernels_of_block_maps_and_decoding() -> None:
    """As they are on a GPU, in the interpreter here."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", __file__, "-k", "fresh_documents or decode_is"]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    root = Path(__file__).parents[2]
    ended = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, timeout=300)
    assert "2 passed" in ended.stdout, ended.stdout[-3000:]


def test_decode_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = decoding.Cache(256, 8, 2, 4, 2, 16, torch.float32, CPU)
    record = decoding.measure(cache, TIMER)
    timed = [record[kind][name] for kind in decoding.KINDS for name in (OURS, FLEX)] + [record["dense"][FLASH]]
    assert all(each["error"] < 1e-5 and each["seconds"] > 0 for each in timed)
    assert record["ratio"] > 0
    monkeypatch.setattr(decoding, "sdpa", lambda *options: lambda q, k, v: v[:, :1, -1:].expand_as(q))
    assert decoding.measure(cache, TIMER)["dense"][FLASH].keys() == {"wrong"}


def test_packed_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    record = packed.measure([5, 64, 1, 30], 2, 16, torch.float32, TIMER)
    ours, flex, torch_own = (record["contenders"][name] for name in (OURS, FLEX, packed.TORCH))
    assert max(ours["errors"].values()) < 1e-5
    assert ours["seconds"] > 0
    assert flex.keys() == torch_own.keys() == {"failed"}  # no backward pass, and no kernel, on a CPU
    monkeypatch.setattr(packed, "ours", lambda lengths, q: lambda q, k, v: q + k + v)
    assert packed.measure([5, 64, 1, 30], 2, 16, torch.float32, TIMER)["contenders"][OURS].keys() == {"wrong"}


@pytest.mark.parametrize("pattern", ["causal", "packed documents"])
def test_training_steps(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def trained() -> dict[str, dict[str, float]]:
        return training.measure(named(pattern), SMALL, 2, 16, torch.float32, TIMER)["contenders"]

    contenders = trained()
    assert contenders[OURS]["seconds"] > 0
    assert contenders[FLEX].keys() == {"failed"}  # no backward pass on a CPU
    if pattern == "causal":
        assert contenders[FLASH]["error"] < 1e-4
        monkeypatch.setattr(training, "sdpa", lambda *options: lambda q, k, v: q + k + v)
        assert trained()[FLASH].keys() == {"wrong"}


def never(record: object) -> None:
    """Keeps nothing."""


SIZES = {"length": 256, "heads": 2, "head_dim": 16, "key_heads": 1, "batch": 1, "dtype": "bfloat16"}
STEPS = {
    "row": lambda: contest.step(never, 0.0, False, pattern="causal", **SIZES),
    "decode": lambda: decoding.step(never, 0.0, 256, 8, 1),
    "varlen": lambda: packed.step(never, 0.0, [5, 17], 2, 16),
    "training": lambda: training.step(never, 0.0, "packed documents", 1, 256, 2, 16),
    "maps": lambda: maps.step(never, 256, 2),
    "smoke": lambda: checks.smoke(never, 100, 16),
    "racecheck": lambda: checks.sanitized(never, "racecheck"),
    "profile": lambda: checks.profiled(never, 100, 16),
}


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is for the steps themselves")
@pytest.mark.parametrize("name", STEPS)
def test_steps_of_plans(name: str) -> None:
    """As a plan calls them, in bfloat16, on the CPU."""
    record = json.loads(json.dumps(STEPS[name]()))
    ours = [record, *(record.get(key, {}).get(OURS, {}) for key in ("contenders", "window", "dense"))]
    assert not any({"failed", "wrong"} & each.keys() for each in ours), record


def test_kernels_are_noted_once_as_they_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = pytest.importorskip("triton.compiler")

    def initialize(kernel: SimpleNamespace) -> None:
        kernel.module, kernel.n_regs, kernel.n_spills = "on the GPU", 168, 0

    monkeypatch.setattr(compiler.CompiledKernel, "_init_handles", initialize)
    metadata = SimpleNamespace(shared=65536, num_warps=8, num_stages=3)
    kernel = SimpleNamespace(name="forward_kernel", module=None, metadata=metadata)
    with loaded() as kernels:
        for _ in range(2):
            compiler.CompiledKernel._init_handles(kernel)
    compiler.CompiledKernel._init_handles(SimpleNamespace(name="later", module=None, metadata=metadata))
    sizes = {"registers": 168, "spills": 0, "shared": 65536, "warps": 8, "stages": 3}
    assert kernels == [{"kernel": "forward_kernel", **sizes}]


@pytest.mark.long
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is for the steps themselves")
def test_calls_and_rows_side_by_side() -> None:
    kept: list[dict[str, int]] = []
    checks.small_calls(kept.append)
    assert kept[-1] == {"ended": sum(map(len, checks.CALLS.values())), "errors": []}
    rows = [{"pattern": name, **SIZES} for name in ("causal", "dense")]
    checks.compile_rows(kept.append, rows)
    assert kept[-1] == {"ended": 2, "errors": []}


def test_of_calls_side_by_side_one_may_fail() -> None:
    kept: list[dict[str, object]] = []
    result = checks.side_by_side(kept.append, divides, [{"number": 1}, {"number": 0}, {"number": 2}])
    assert result == {"outcome": "failed", "why": "ZeroDivisionError: division by zero"}
    assert kept[-1] == {"ended": 3, "errors": ["ZeroDivisionError: division by zero"]}


def test_small_calls_for_sanitizers_are_of_many_kinds() -> None:
    calls = [call for calls in checks.CALLS.values() for call in calls]
    assert {call["name"] for call in calls} >= {"causal_dense", "longformer", "packed", "moba", "na2"}
    assert {call["dim"] for call in calls} >= {40, 64, 128, 192}
    assert {call.get("n") for call in calls} >= {1, 129, 1741}


def test_tests_are_counted_while_they_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "tests/gpu"
    folder.mkdir(parents=True)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -q\n")
    (folder / "test_some.py").write_text(
        "import pytest\ndef test_good(): pass\n@pytest.mark.parametrize('x', ['a b'])\ndef test_bad(x): assert 0\n"
    )
    monkeypatch.setattr(checks, "ROOT", tmp_path)
    kept: list[dict[str, object]] = []
    result = checks.tests(kept.append, ["test_some"], workers=1)
    assert result == {"outcome": "failed", "why": "pytest ended with 1"}
    expected = {"passed": 1, "failed": 1, "skipped": 0, "not passed": ["tests/gpu/test_some.py::test_bad[a b]"]}
    assert kept[-1] == expected
    assert checks.tests(kept.append, ["test_some"], "good", workers=1) == {"passed": 1, "failed": 0, "skipped": 0}
