"""The benchmark of GPUs, tried on the CPU: it goes through all patterns, and believes no wrong result."""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import gpu
import gpu_contest
import gpu_decode
import gpu_maps
import gpu_report
import numpy as np
import pytest
import torch
from gpu_contest import FLEX, OURS, Case, compile_ahead, measure
from gpu_patterns import ENTRIES, Entry, Size, named
from gpu_reference import Wrong, check_gradients, gradients, samples
from gpu_timing import Budget, Timer

from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.runtime.backends.triton_backend import interpreted

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
CPU = torch.device("cpu")
SMALL = Size(256, 2, CPU)
TIMER = Timer(CPU, 0)
NAMES = [entry.name for entry in ENTRIES]


def case(name: str = "ALiBi", dtype: torch.dtype = torch.float32) -> Case:
    return Case(named(name), SMALL, 2, 16, dtype)


@pytest.mark.long
def test_a_trial_on_the_cpu(tmp_path: Path) -> None:
    output = tmp_path / "trial.json"
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--output", str(output)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout
    results = json.loads(output.read_text())
    assert [each["pattern"] for each in results["cases"]] == NAMES
    for each in results["cases"]:
        own, flex = each["contenders"][OURS], each["contenders"][FLEX]
        assert own["errors"].keys() == {"output", "q", "k", "v"}
        assert own["forward"]["seconds"] > 0
        assert own["backward"]["tflops"] > 0
        assert flex["errors"]["output"] < 1e-4
        assert flex["backward"] == {"failed": "RuntimeError: no backward pass on this device"}
    assert {goal["verdict"] for goal in results["goals"] if "backward" in goal["text"]} >= {"not measured"}
    assert results["means"]["FlexAttention"]["forward"] > 0
    assert results["block_maps"]["ratio"] > 0
    assert results["decode"]["ratio"] > 0
    assert "T5 table, 256 x 16: FlexAttention, backward: failed: RuntimeError" in printed
    assert "no figure above means anything" in printed


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_nothing_is_measured() -> None:
    ended = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 1
    assert ended.stderr.startswith("There is no GPU here.")


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


def wrong_ways(out: torch.Tensor) -> list[torch.Tensor]:
    """Results that look right but are not: a row, a number, a head, and no number at all."""
    row, number, nan = out.clone(), out.clone(), out.clone()
    row[0, 0, -1] *= 1.05
    number[-1, -1, 0, 3] += 0.5
    nan[-1, -1, -1, -1] = torch.nan
    return [row, number, nan, out.flip(1)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_wrong_outputs_are_rejected(dtype: torch.dtype) -> None:
    tried = case(dtype=dtype)
    inputs = tried.entry.inputs(SMALL)
    tensors, _ = tried.tensors()
    mask = tried.entry.mask(SMALL)
    drawn = samples(mask.ir, *tensors, inputs)
    out = mask.compile("reference")(*(x.detach().double() for x in tensors), **inputs).to(dtype)
    for sample in drawn:
        sample.check(out)
    for wrong in wrong_ways(out):
        with pytest.raises(Wrong, match="the output is off"):
            [sample.check(wrong) for sample in drawn]


def test_wrong_gradients_are_rejected() -> None:
    tried = case()
    inputs = tried.entry.inputs(SMALL)
    tensors, toward = tried.tensors()
    expected = gradients(tried.entry, SMALL, *tensors, toward, inputs)
    out = tried.entry.mask(SMALL).compile("tiled")(*tensors, **inputs)
    right = torch.autograd.grad(out, tensors, toward)
    assert max(check_gradients(right, expected).values()) < 1e-5
    for at, name in enumerate("qkv"):
        wrong = list(right)
        wrong[at] = wrong[at] * 1.001
        with pytest.raises(Wrong, match=f"the gradient of {name} is off"):
            check_gradients(tuple(wrong), expected)


def test_who_is_wrong_or_fails_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(tried: Case, inputs: object) -> gpu_contest.Compute:
        return lambda q, k, v: v * 1.0

    def broken(tried: Case, inputs: object) -> gpu_contest.Compute:
        raise torch.OutOfMemoryError("no memory is left\nand more about it")

    monkeypatch.setattr(gpu_contest, "ours", careless)
    monkeypatch.setattr(gpu_contest, "flex", broken)
    record = measure(case("causal"), TIMER, Budget.of("one case", 60))
    assert record["contenders"][OURS].keys() == {"wrong"}
    assert record["contenders"][FLEX] == {"failed": "OutOfMemoryError: no memory is left"}
    assert "seconds" in record["contenders"]["SDPA flash"]["forward"]
    results = {"cases": [record], "block_maps": {"ratio": 21.0}, "decode": {"ratio": 9.0}}
    verdicts = {goal.text: goal.verdict for goal in gpu_report.goals(results)}
    assert list(verdicts.values()).count("missed") == 5
    assert [text for text, verdict in verdicts.items() if verdict == "met"] == [
        "block maps of documents: 20 times as fast as compiled `create_block_mask`"
    ]


def test_no_time_is_said() -> None:
    record = measure(case("dense"), TIMER, Budget.of("one case", 0))
    skipped = {"skipped": "the 0 s of one case are spent"}
    assert record["contenders"] == {OURS: skipped, FLEX: skipped, "SDPA flash": skipped}
    assert len(list(gpu_report.excuses({"cases": [record], "block_maps": {}, "decode": {}}))) == 3


def test_a_case_that_fails_as_a_whole_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*arguments: object) -> None:
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(gpu, "measure", lost)
    failed = gpu.within(Budget.of("the whole run", 60), 30, case("dense"), TIMER)
    skipped = gpu.within(Budget.of("the whole run", 0), 30, case("dense"), TIMER)
    cases = [failed, skipped]
    assert list(gpu_report.excuses({"cases": cases, "block_maps": {"failed": "no memory"}, "decode": {}})) == [
        "block_maps: failed: no memory",
        "dense, 256 x 16: all: failed: RuntimeError: the device is gone",
        "dense, 256 x 16: all: skipped: the 0 s of the whole run are spent",
    ]
    forward = gpu_report.goals({"cases": cases, "block_maps": {}, "decode": {}})[0]
    assert (forward.verdict, forward.measured) == ("missed", "0 of 2 compared, ours failed: dense, 256 x 16")


def test_useful_work_is_that_of_attending_pairs() -> None:
    record = measure(case("causal"), TIMER, Budget.of("one case", 60))
    pairs = 2 * 2 * 256 * 257 // 2
    assert record["pairs"] == pairs
    forward, backward = (record["contenders"][OURS][part] for part in gpu_report.PASSES)
    assert forward["tflops"] * forward["seconds"] * 1e12 == pytest.approx(4 * 16 * pairs)
    assert backward["tflops"] * backward["seconds"] * 1e12 == pytest.approx(10 * 16 * pairs)


def times(pattern: str, own: float, flex: float, flash: float | None = None) -> dict[str, object]:
    contenders = {OURS: own, FLEX: flex} | ({} if flash is None else {"SDPA flash": flash})
    parts = {name: {part: {"seconds": found} for part in gpu_report.PASSES} for name, found in contenders.items()}
    return {"pattern": pattern, "length": 4096, "head_dim": 64, "contenders": parts}


def test_goals() -> None:
    cases = [times("causal", 1.0, 1.5, 0.95), times("Swin", 2.0, 1.9)]
    found = gpu_report.goals({"cases": cases, "block_maps": {"failed": "no memory"}, "decode": {"ratio": 12.0}})
    assert [goal.verdict for goal in found] == ["missed", "met", "missed", "met", "met", "met", "not measured", "met"]
    assert found[0].measured == "2 of 2 compared, least 0.95, below 1: Swin, 4,096 x 64 (0.95)"
    assert gpu_report.means(cases)[FLEX]["forward"] == pytest.approx((1.5 * 0.95) ** 0.5)


def test_cases_are_compiled_elsewhere() -> None:
    again = pickle.loads(pickle.dumps(case("soft cap")))
    assert again == case("soft cap")
    assert gpu_contest.run_once(again) == {}
    compile_ahead(replace(again, dim=0))


def test_compiled_peers_can_go_back_twice() -> None:
    gpu_contest.compiled_flex()
    assert gpu_contest.functorch.donated_buffer is False


def test_block_maps_of_fresh_documents() -> None:
    record = gpu_maps.measure(SMALL, TIMER)
    assert "failed" not in record
    assert record["ratio"] == pytest.approx(record["flex_seconds"] / record["seconds"])


@pytest.mark.long
@pytest.mark.skipif(interpreted(), reason="runs itself")
def test_kernels_of_block_maps_and_decoding() -> None:
    """As they are on a GPU, in the interpreter here."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", __file__, "-k", "fresh_documents or decode_is"]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    ended = subprocess.run(command, env=environment, cwd=SCRIPT.parents[1], capture_output=True, text=True, timeout=300)
    assert "2 passed" in ended.stdout, ended.stdout[-3000:]


def test_decode_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = gpu_decode.Cache(256, 8, 2, 4, 2, 16, torch.float32, CPU)
    record = gpu_decode.measure(cache, TIMER)
    assert {each["error"] < 1e-5 for kind in ("window", "dense") for each in record[kind].values()} == {True}
    monkeypatch.setattr(gpu_decode, "flash", lambda q, k, v: v[:, :1, -1:].expand_as(q))
    assert gpu_decode.measure(cache, TIMER)["dense"]["SDPA flash"].keys() == {"wrong"}


def test_the_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from gpu_plot import draw

    cases = [times("causal", 1.0, 1.5, 0.95), times("Swin", 2.0, 1.9)]
    results = {"cases": cases, "machine": {"gpu": "none"}, "settings": {"dtype": "float32"}}
    draw(results, tmp_path / "trial.png")
    assert (tmp_path / "trial.png").read_bytes().startswith(b"\x89PNG")
