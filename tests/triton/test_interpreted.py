"""Generated kernels in Triton's interpreter: every example, and patterns that use everything the language has."""

import json
from itertools import product
from pathlib import Path

import pytest

import maskdsl
from tests.support.drawn import examples
from tests.support.empty_rows import RELATIONS
from tests.support.interpreting import last_line

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"
FILES = sorted(EXAMPLES.rglob("*.attn"))


def interpret(cases: int, seed: int, *files: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads(last_line("triton.interpreted", cases, seed, *files))
    return found


def in_turn(parts: int, step: int) -> pytest.MarkDecorator:
    """Parts of one work: every `step`th here, the others in `make test-long`."""
    params = [pytest.param(part, marks=pytest.mark.long if part % step else ()) for part in range(parts)]
    return pytest.mark.parametrize("part", params)


@pytest.mark.parametrize("extent", ["short", pytest.param("whole", marks=pytest.mark.long)])
def test_shapes_and_strides(extent: str) -> None:
    assert last_line("triton.shapes", extent) == "agreed"


@pytest.mark.parametrize("extent", [(), pytest.param(("whole",), marks=pytest.mark.long)])
def test_head_dims_in_two_chunks(extent: tuple[str, ...]) -> None:
    assert last_line("triton.head_dims", *extent) == "agreed"


LONGER = [pytest.param(name, marks=pytest.mark.long) for name in ("sloped", "ordered")]


@pytest.mark.parametrize("name", ["static", *LONGER])
def test_operators(name: str) -> None:
    assert last_line("triton.citizenship", name) == "agreed"


@in_turn(24, 24)
def test_gradients_of_inputs(part: int) -> None:
    assert last_line("triton.input_gradients", part, 24) == "agreed"


@pytest.mark.long
@pytest.mark.parametrize("part", range(4))
def test_gradients_of_all_inputs_in_all_types(part: int) -> None:
    assert last_line("triton.input_gradients", part, 4, "whole") == "agreed"


def test_sinks_and_normalizations() -> None:
    assert last_line("triton.normalized") == "agreed"


@pytest.mark.long
def test_all_sinks_and_normalizations() -> None:
    assert last_line("triton.normalized", "whole") == "agreed"


@pytest.mark.parametrize("extent", ["short", pytest.param("whole", marks=pytest.mark.long)])
def test_products_of_vectors(extent: str) -> None:
    assert last_line("triton.dots", extent) == "agreed"


@pytest.mark.parametrize("names", [("adapter", "gpsa"), pytest.param((), marks=pytest.mark.long)])
def test_sums_of_softmaxes(names: tuple[str, ...]) -> None:
    assert last_line("triton.branched", *names) == "agreed"


def test_reads_that_inputs_decide() -> None:
    assert last_line("triton.open_reads") == "agreed"


PADDED = [*product(RELATIONS, ("float32", "bfloat16"), (256, 1024))]
SHORT = {("causal", "float32", 256)}


@pytest.mark.parametrize(
    ("relation", "dtype", "length"),
    [pytest.param(*each, marks=() if each in SHORT else pytest.mark.long) for each in PADDED],
)
def test_padding_by_the_lowest_numbers(relation: str, dtype: str, length: int) -> None:
    assert last_line("triton.empty_rows", relation, dtype, length) == "agreed"


def test_tiles_that_calls_share() -> None:
    assert last_line("triton.kept_tiles") == "agreed"


def test_integers_of_every_type() -> None:
    assert last_line("triton.integer_types") == "agreed"


def test_gradients_through_routes() -> None:
    assert last_line("triton.route_gradients") == "agreed"


@in_turn(24, 24)
def test_examples(part: int) -> None:
    found = interpret(3, 17 + part, *FILES[part::24])
    assert found
    assert not {name: wrong for name, wrong in found.items() if wrong}


@pytest.mark.hypothesis
def test_everything() -> None:
    found = interpret(examples(4), 5, HERE / "everything.attn")
    assert len(found) == 14
    assert not {name: wrong for name, wrong in found.items() if wrong}


def test_closed_forms_on_grids_and_in_orders() -> None:
    found = interpret(2, 3, HERE / "closed.attn")
    assert len(found) == 10
    assert not {name: wrong for name, wrong in found.items() if wrong}


def test_terms_by_distance() -> None:
    found = interpret(2, 3, HERE / "distances.attn")
    assert found == dict.fromkeys(maskdsl.load(HERE / "distances.attn"), "")
    assert len(json.loads(last_line("triton.decoding", HERE / "distances.attn"))) == len(found)


@pytest.mark.hypothesis
def test_pooled_keys() -> None:
    found = interpret(examples(8), 3, HERE / "pooled.attn")
    assert len(found) == 2
    assert not {name: wrong for name, wrong in found.items() if wrong}


@pytest.mark.parametrize("cases", [1, pytest.param(6, marks=pytest.mark.long)])
def test_pools_and_draws(cases: int) -> None:
    found = interpret(cases, 3, HERE / "pools.attn")
    assert len(found) == 3
    assert not {name: wrong for name, wrong in found.items() if wrong}


@in_turn(24, 24)
def test_decoding(part: int) -> None:
    files = [*FILES, *(HERE / f"{name}.attn" for name in ("closed", "everything", "inputs", "limits"))]
    found: list[str] = json.loads(last_line("triton.decoding", *files[part::24]))
    assert len(found) > 3


@pytest.mark.parametrize(("extent", "calls"), [("short", 16), pytest.param("whole", 32, marks=pytest.mark.long)])
def test_decoding_of_long_sequences(extent: str, calls: int) -> None:
    """More blocks than one list has bits, in one program and in several; merged rows."""
    assert last_line("triton.long_decoding", extent) == str(calls)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if number % 4 == 0 else pytest.mark.long)
        for number, name in enumerate(maskdsl.load(HERE / "block_conditions.attn"))
    ],
)
def test_conditions_of_blocks_of_keys(name: str) -> None:
    assert last_line("triton.block_conditions", name) == "agreed"


def test_decoding_of_routes() -> None:
    assert last_line("triton.routed") == "agreed"


def test_kernels_write_into_the_output_that_is_given() -> None:
    assert last_line("triton.given_out") == "agreed"


@pytest.mark.parametrize("cases", [2, pytest.param(6, marks=pytest.mark.long)])
def test_tiles_found_by_arithmetic(cases: int) -> None:
    found = interpret(cases, 11, HERE / "limits.attn")
    assert len(found) == 12
    assert not {name: wrong for name, wrong in found.items() if wrong}
    sources = {
        name: pattern.bind(heads=2).compile("triton").source
        for name, pattern in maskdsl.load(HERE / "limits.attn").items()
    }
    assert {name for name, source in sources.items() if "class Tiles" in source} == {"clipped", "some_queries"}


@pytest.mark.parametrize("count", [2, pytest.param(25, marks=pytest.mark.long)])
def test_tiles_found_by_kernels(count: int) -> None:
    """None is missed, full ones are full; where lists hold all runs of a row, few are partial without need."""
    found: dict[str, list[int]] = json.loads(last_line("triton.tiles", count))
    share = {name: needless / compared for name, (compared, needless) in found.items() if name != "drawn"}
    assert share["packed"] == share["few"] == share["all"] == 0
    assert 0 < share["every second"] < 0.2  # more runs than that
    assert all(each < 0.2 for each in share.values())
    assert found["drawn"][0] > 200 * count


def test_programs_are_ordered_as_on_the_host() -> None:
    assert int(last_line("triton.ordered_programs")) > 500


def test_caches_of_other_types() -> None:
    assert last_line("triton.cache_types") == "agreed"


def test_runs_with_a_step() -> None:
    assert last_line("triton.combs") == "agreed"


def test_rows_in_pieces() -> None:
    assert last_line("triton.pieces") == "agreed"


def test_orders_that_inputs_decide() -> None:
    found = interpret(3, 3, HERE / "ordered.attn")
    assert found == {"two_keys": "", "by_head": "", "of_tables": ""}


def test_tiles_of_selections_found_by_kernels() -> None:
    found: dict[str, list[int]] = json.loads(last_line("triton.routes"))
    assert all(needless <= 0.05 * compared for compared, needless in found.values())
    assert found["scattered"] == [640, 0]


def test_orders_that_are_found() -> None:
    assert last_line("triton.orders") == "agreed"
