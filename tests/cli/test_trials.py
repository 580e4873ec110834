"""`verify`, `run` and `bench`, at small sizes."""

import json
import re
import sys
from dataclasses import replace
from itertools import takewhile

import pytest
import torch

from maskdsl.api import verify
from maskdsl.cli.commands import run_and_bench
from maskdsl.cli.timing import bench_advice, contenders
from maskdsl.cli.timing.measurements import TimedCall, Timing, measure
from maskdsl.runtime.backends.native.library import NativeLibrary, library


def test_verify(maskdsl, local):
    ended = maskdsl("verify", local, "size=5", "--cases", 4)
    assert ended.code == 0
    assert ended.out.startswith("passed local: 4 cases, ") and "tiled, reference" in ended.out


def test_verify_one_backend(maskdsl, local):
    assert "passed local: 2 cases, reference, " in maskdsl("verify", local, "--cases", 2, "--backend", "reference").out


def test_verify_tells_the_smallest_failure(maskdsl, local, monkeypatch):
    monkeypatch.setattr(verify, "problem", lambda pattern, case, backends: "the output is wrong")
    ended = maskdsl("verify", local, "--cases", 2)
    assert ended.code == 1
    assert ended.out.startswith("failed local n=1 size=1 heads=1/1 batch=1") and "the output is wrong" in ended.out


def test_run(maskdsl, local):
    ended = maskdsl("run", local, "n=128", "--heads", 2, "--head-dim", 16, "--seconds", 0, "--dtype", "float64")
    assert (ended.code, ended.err) == (0, "")
    assert "forward, batch 1, head dimension 16, float64, cpu" in ended.out
    assert any(line.split()[:1] == ["tiled"] for line in ended.out.splitlines())


def bench(maskdsl, *words, columns=120):
    ended = maskdsl("bench", *words, "--seconds", 0, *([] if "--flex" in words else ["--no-flex"]), columns=columns)
    assert ended.code == 0
    return ended.out


def names_of(out):
    """The first cells of the rows of the table."""
    below = out.splitlines()[[line.strip(" ─") == "" and "─" in line for line in out.splitlines()].index(True) + 1 :]
    return {line.strip().split("  ")[0] for line in takewhile(str.strip, below)}


@pytest.mark.parametrize("backward", [[], ["--backward"]])
@pytest.mark.parametrize("columns", [80, 200])
def test_bench(maskdsl, local, backward, columns):
    out = bench(maskdsl, local, "n=128", "--heads", 2, "--head-dim", 16, *backward, columns=columns)
    assert names_of(out) >= {"tiled", "reference", "SDPA, blocks", "SDPA, mask"}
    assert "left out: FlexAttention, compiled: --no-flex" in out
    assert out.count("fastest: ") == 1 and '"auto" takes' in out
    assert max(map(len, out.partition("fastest")[0].splitlines())) <= columns


@pytest.mark.parametrize(
    ("attends", "others"),
    [
        ("causal", {"SDPA, is_causal", "SDPA, mask"}),
        ("k < q + 1", {"SDPA, is_causal", "SDPA, mask"}),
        ("all -> all", {"SDPA", "SDPA, mask"}),
        ("backward(9)", {"SDPA, blocks", "SDPA, mask"}),
        ("causal and dilated(2)", {"SDPA, mask"}),
        ("backward(100)", {"SDPA, mask"}),
    ],
)
@pytest.mark.parametrize("key_heads", [1, 2])
def test_sdpa_in_the_form_that_fits(maskdsl, pattern_file, attends, others, key_heads):
    file = pattern_file(f"pattern some(n = 150) {{ space tokens[n] attend {attends} }}")
    sizes = ("--heads", 2, "--key-heads", key_heads, "--batch", 2, "--head-dim", 8)
    assert {each for each in names_of(bench(maskdsl, file, *sizes)) if each.startswith("SDPA")} == others


def test_bench_of_pooled_keys(maskdsl):
    sizes = ("h=7", "w=9", "--heads", 2, "--head-dim", 16)
    assert "SDPA, mask" in names_of(bench(maskdsl, "examples/vision/hilo.attn", *sizes, "--backward"))


def test_bench_of_routes(maskdsl):
    """Which pairs attend, only a call knows: SDPA attends all candidates."""
    out = bench(maskdsl, "examples/routing/moba.attn", "n=128", "block=32", "--heads", 2)
    assert "SDPA, all candidates" in names_of(out)
    assert "left out: SDPA, mask: routes select in each call" in out


@pytest.mark.parametrize("pattern", ["language/bigbird", "routing/clustered"])
def test_bench_of_what_inputs_decide(maskdsl, pattern):
    """Draws, and groups that a call gives: the mask of SDPA has them."""
    assert "SDPA, mask" in names_of(bench(maskdsl, f"examples/{pattern}.attn", "n=320", "--heads", 2))


def test_bench_leaves_out_what_is_not_the_same(maskdsl):
    out = bench(maskdsl, "examples/language/alibi.attn", "n=64")
    assert "left out: SDPA, mask: the pattern changes scores" in out and "fastest: " not in out


def test_bench_leaves_out_what_is_too_large(maskdsl, local, monkeypatch):
    monkeypatch.setattr("maskdsl.cli.timing.contenders._LARGEST_DENSE", 200)
    out = bench(maskdsl, local)
    assert "left out: reference: its scores would take 16 KiB" in out
    assert "left out: SDPA, mask: its scores would take 16 KiB" in out


def test_bench_leaves_out_what_differs_or_fails(maskdsl, local, monkeypatch):
    """A contender with other results is not timed, and none but ours ends the command."""
    monkeypatch.setattr(contenders, "in_blocks", lambda band, q, k, v: lambda: v + 1)
    monkeypatch.setattr(contenders, "with_mask", lambda *_: lambda: 1 / 0)
    out = bench(maskdsl, local)
    assert "left out: SDPA, blocks: its results differ by up to " in out
    assert "left out: SDPA, mask: ZeroDivisionError: division by zero" in out
    monkeypatch.setattr(contenders, "compiled_call", lambda *_: lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        bench(maskdsl, local)


def test_bench_with_flex(maskdsl, local, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    assert "FlexAttention, compiled" in names_of(bench(maskdsl, local, "--flex"))
    out = bench(maskdsl, local, "--flex", "--backward")
    assert "left out: FlexAttention, compiled: it has no gradients on a CPU" in out
    out = bench(maskdsl, "examples/routing/moba.attn", "n=128", "block=32", "--flex")
    assert "left out: FlexAttention, compiled: AttnError: " in out


def test_bench_tells_numbers_to_programs(maskdsl, local):
    result = json.loads(bench(maskdsl, local, "--json"))
    assert {"name", "first", "typical", "best", "repeats", "memory", "tokens_per_second"} == result["seconds"][0].keys()
    assert result["auto"] in {each["name"] for each in result["seconds"]}
    assert result["comparison"].startswith("fastest: ")
    assert result["left_out"] == ["FlexAttention, compiled: --no-flex"]
    if sys.platform == "linux":
        assert all(each["memory"] >= 0 for each in result["seconds"])


@pytest.fixture
def without_compiler(monkeypatch):
    built = NativeLibrary(None, "", False, "no compiler was found", "install gcc")
    monkeypatch.setattr(bench_advice, "native_library", lambda: built)
    monkeypatch.setattr("maskdsl.runtime.backends.native.native_backend.library", lambda: None)


def test_advice_on_the_compiler(maskdsl, local, without_compiler):
    out = bench(maskdsl, local)
    assert "faster: no kernels in C: no compiler was found; install gcc" in out
    assert "native" not in names_of(out)


def test_advice_on_types(maskdsl, local):
    if library() is None:
        # A compiler is optional: without one the advice is to install it, which the test above has.
        pytest.skip("no C compiler works here, so there is other advice")
    out = bench(maskdsl, local, "--dtype", "float64")
    assert "faster: `native` computes this for float32, not for float64" in out
    assert "left out: native: it does not compute this pattern for float64" in out
    assert "computes this for" not in bench(maskdsl, local)


def test_advice_on_threads(maskdsl, local, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(6), raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert "faster: torch uses 3 of 6 processors: torch.set_num_threads(6), or OMP_NUM_THREADS=6" in bench(
        maskdsl, local, columns=200
    )
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(3), raising=False)
    assert "processors" not in bench(maskdsl, local)


def test_advice_on_tiles(maskdsl, pattern_file):
    out = bench(maskdsl, "examples/vision/neighborhood.attn", "na2", "h=32", "w=32", columns=200)
    (line,) = (line for line in out.splitlines() if line.startswith("faster: tiles of"))
    wasted, better = (float(each) for each in re.findall(r"[\d.]+(?= pairs| with)", line))
    assert better < 0.8 * wasted and "with `order by " in line
    causal = pattern_file("pattern some(n = 512) { space tokens[n] attend causal }")
    assert "tiles of" not in bench(maskdsl, causal)


def test_advice_on_backends(maskdsl, local, monkeypatch):
    """Where another backend is faster than the one that "auto" takes."""
    original = timing_of(maskdsl, local)
    slow = {name: replace(each, typical=1.0) for name, each in original.items()} | {
        "reference": replace(original["reference"], typical=0.5)
    }
    monkeypatch.setattr(run_and_bench, "measure", lambda steps, seconds: [*slow.values()])
    assert 'faster: `compile("reference")` is 2 x as fast as' in bench(maskdsl, local)


def timing_of(maskdsl, file):
    """What is measured of each contender."""
    measured = json.loads(bench(maskdsl, file, "--json"))["seconds"]
    return {each["name"]: Timing(*list(each.values())[:6]) for each in measured}


def test_calls_are_timed_in_turn():
    """The shortest most often; the noise of a moment meets all."""
    calls = []
    steps = [TimedCall(name, lambda name=name: calls.append(name) or torch.zeros(1), [], False) for name in "abc"]
    calls.clear()
    timings = measure(steps, 0)
    assert "".join(calls[: 3 * 3]) == "abc" * 3
    assert [each.repeats for each in timings] == [3, 3, 3]
