"""The record of what kernels use covers every example, and is within what the targets have."""

import json
from pathlib import Path

import maskdsl

ROOT = Path(__file__).parents[2]
SHARED = {"sm80": 163 * 1024, "sm90": 227 * 1024, "sm100": 227 * 1024, "gfx942": 64 * 1024}


def test_record_of_every_example() -> None:
    results = json.loads((ROOT / "benchmarks" / "results" / "aot.json").read_text())["results"]
    examples = ROOT / "examples"
    files = sorted(examples.rglob("*.attn"))
    names = {f"{file.relative_to(examples).with_suffix('')}: {name}" for file in files for name in maskdsl.load(file)}
    assert set(results) == names
    for targets in results.values():
        assert set(targets) == set(SHARED)
        for target, dims in targets.items():
            assert set(dims) == {"64", "128"}
            for kernels in dims.values():
                assert len(kernels) == 3
                assert all(0 < each["shared"] <= SHARED[target] for each in kernels.values())
                assert all(each["matrix_instructions"] > 0 for each in kernels.values())
