"""`verify`, `run` and `bench`, at small sizes."""

import pytest

from maskdsl.api import verify


def test_verify(maskdsl, local):
    ended = maskdsl("verify", local, "size=5", "--cases", 4)
    assert ended.code == 0
    assert ended.out.startswith("passed local: 4 cases, tiled, reference")


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


@pytest.mark.parametrize("backward", [[], ["--backward"]])
def test_bench(maskdsl, local, backward):
    ended = maskdsl("bench", local, "n=128", "--heads", 2, "--head-dim", 16, "--seconds", 0, *backward)
    assert ended.code == 0
    names = [line.strip() for line in ended.out.splitlines()]
    for name in ("tiled", "reference", "torch, dense"):
        assert any(line.startswith(name) for line in names)


def test_bench_of_pooled_keys(maskdsl):
    sizes = ("h=7", "w=9", "--heads", 2, "--head-dim", 16, "--seconds", 0)
    ended = maskdsl("bench", "examples/vision/hilo.attn", *sizes, "--backward")
    assert ended.code == 0
    assert any(line.strip().startswith("torch, dense") for line in ended.out.splitlines())


def test_bench_leaves_out_what_is_not_the_same(maskdsl):
    out = maskdsl("bench", "examples/language/alibi.attn", "n=64", "--seconds", 0).out
    assert "left out: torch, dense: the pattern changes scores" in out


def test_bench_leaves_out_what_is_too_large(maskdsl, local, monkeypatch):
    monkeypatch.setattr("maskdsl.cli.commands.run_and_bench.LARGEST_DENSE", 200)
    out = maskdsl("bench", local, "--seconds", 0).out
    assert "left out: reference: its scores would take 16 KiB" in out
