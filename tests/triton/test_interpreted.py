"""Generated kernels in Triton's interpreter: every example, and patterns that use everything the language has."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import maskdsl
from tests.runtime.empty_rows import RELATIONS

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
EXAMPLES = ROOT / "examples"
FILES = sorted(EXAMPLES.rglob("*.attn"))


def last_line(module: str, *arguments: object) -> str:
    """Of what a module prints, run in a process in which kernels are interpreted."""
    command = [sys.executable, "-m", f"tests.triton.{module}", *map(str, arguments)]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    result = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout.splitlines()[-1]


def interpret(cases: int, seed: int, *files: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads(last_line("interpreted", cases, seed, *files))
    return found


def test_shapes_and_strides() -> None:
    assert last_line("shapes") == "agreed"


@pytest.mark.parametrize("name", ["static", "sloped", pytest.param("ordered", marks=pytest.mark.long)])
def test_operators(name: str) -> None:
    assert last_line("citizenship", name) == "agreed"


@pytest.mark.parametrize("part", range(4))
def test_gradients_of_inputs(part: int) -> None:
    assert last_line("input_gradients", part, 4) == "agreed"


@pytest.mark.long
@pytest.mark.parametrize("part", range(4))
def test_gradients_of_all_inputs_in_all_types(part: int) -> None:
    assert last_line("input_gradients", part, 4, "whole") == "agreed"


def test_reads_that_inputs_decide() -> None:
    assert last_line("open_reads") == "agreed"


@pytest.mark.parametrize("length", [256, pytest.param(1024, marks=pytest.mark.long)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("relation", RELATIONS)
def test_padding_by_the_lowest_numbers(relation: str, dtype: str, length: int) -> None:
    assert last_line("empty_rows", relation, dtype, length) == "agreed"


def test_gradients_through_routes() -> None:
    assert last_line("route_gradients") == "agreed"


@pytest.mark.parametrize("part", range(4))
def test_examples(part: int) -> None:
    found = interpret(3, 17 + part, *FILES[part::4])
    assert found
    assert not {name: wrong for name, wrong in found.items() if wrong}


def test_everything() -> None:
    found = interpret(10, 5, HERE / "everything.attn")
    assert len(found) == 11
    assert not {name: wrong for name, wrong in found.items() if wrong}


def test_pooled_keys() -> None:
    found = interpret(8, 3, HERE / "pooled.attn")
    assert len(found) == 2
    assert not {name: wrong for name, wrong in found.items() if wrong}


@pytest.mark.parametrize("part", range(2))
def test_decoding(part: int) -> None:
    files = [*FILES, *(HERE / f"{name}.attn" for name in ("everything", "inputs", "limits"))]
    found: list[str] = json.loads(last_line("decoding", *files[part::2]))
    assert len(found) > 20


def test_decoding_of_routes() -> None:
    assert last_line("routed") == "agreed"


def test_tiles_found_by_arithmetic() -> None:
    found = interpret(6, 11, HERE / "limits.attn")
    assert len(found) == 8
    assert not {name: wrong for name, wrong in found.items() if wrong}
    sources = {
        name: pattern.bind(heads=2).compile("triton").source
        for name, pattern in maskdsl.load(HERE / "limits.attn").items()
    }
    assert {name for name, source in sources.items() if "class Tiles" in source} == {"clipped", "some_queries"}


def test_tiles_found_by_kernels() -> None:
    """None is missed, full ones are full; where lists hold all runs of a row, few are partial without need."""
    found: dict[str, list[int]] = json.loads(last_line("tiles"))
    share = {name: needless / compared for name, (compared, needless) in found.items() if name != "drawn"}
    assert share["packed"] == share["few"] == share["all"] == 0
    assert 0 < share["every second"] < 0.2  # more runs than that
    assert all(each < 0.2 for each in share.values())
    assert found["drawn"][0] > 1000


def test_orders_that_inputs_decide() -> None:
    found = interpret(3, 3, HERE / "ordered.attn")
    assert found == {"two_keys": "", "by_head": "", "of_tables": ""}


def test_tiles_of_selections_found_by_kernels() -> None:
    found: dict[str, list[int]] = json.loads(last_line("routes"))
    assert all(needless <= 0.05 * compared for compared, needless in found.values())
    assert found["scattered"] == [640, 0]


def test_orders_that_are_found() -> None:
    assert last_line("orders") == "agreed"
