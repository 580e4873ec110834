"""Routes on the kernel in C, whose queries are gathered by the blocks that they chose, against the dense reference."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import maskdsl
from maskdsl.emit.plan import make_plan
from maskdsl.runtime.backends.native import native_backend
from maskdsl.runtime.backends.native.choice_tiles import choice_tiles
from maskdsl.runtime.backends.native.chosen_rows import chosen_lists, takes_whole
from maskdsl.runtime.backends.native.library import library
from maskdsl.runtime.backends.native.partial_calls import chooses
from maskdsl.runtime.decode import decode_call
from tests.support.drawn import examples

needs_compiler = pytest.mark.skipif(library() is None, reason="no C compiler works here")

TOLERANCES = {torch.float32: 2e-5, torch.bfloat16: 4e-2}
IN_CHUNK = decode_call._in_chunk
PAST = "where k.chunk < q.chunk"
ROUTES = {
    "topk": f"topk(2, dot(q, mean(k by chunk))) {PAST}",
    "topp": f"topp(0.5, dot(q, mean(k by chunk))) {PAST}",
    "above": f"above(0.0, dot(q, mean(k by chunk))) {PAST}",
    "always": "topk(3, dot(q, max(k by chunk))) where k.chunk <= q.chunk always k.chunk == 0 or k.chunk == q.chunk",
    "blocks": f"topk(2, dot(mean(q by chunk), mean(k by chunk))) {PAST}",
    "key heads": f"topk(2, sum(dot(q, mean(k by chunk)), heads = key_head)) {PAST}",
    "nothing": "above(1000.0, dot(q, mean(k by chunk)))",
    "everything": "above(-1000.0, dot(q, mean(k by chunk)))",
}
RELATIONS = (
    "attend causal and (past or same(chunk))",
    "attend past\n attend causal and same(chunk)",
    "attend causal and past",
    "attend past and k % 3 != 1 or abs(q - k) < 3",
    "attend past and (q - k) % 2 == 0 or q == k",
)
EXTRAS = ("", "input s: float[heads]\n sink s[head]", "score 3.0 * tanh(s / 3.0)", "weight 0.5")


def mask_of(route: str, relation: str, n: int, block: int, heads: int, key_heads: int, extra: str = "") -> Any:
    text = f"space t[n]\n coord chunk = i // {block}\n route past = {route}\n {relation}\n {extra}"
    return maskdsl.parse(f"pattern p(n) {{ {text} }}")["p"].bind(n=n, heads=heads, key_heads=key_heads)


def results(mask: Any, backend: Any, tensors: list[Tensor], inputs: dict[str, Tensor]) -> list[Tensor]:
    out, lse = mask.compile(backend)(*tensors, return_lse=True, **inputs)
    ends = out.double().sin().sum() + lse.double()[lse.isfinite()].cos().sum()
    return [out, lse, *torch.autograd.grad(ends, tensors)]


def check(mask: Any, n: int, batch: int, heads: int, key_heads: int, dim: int, dtype: torch.dtype) -> None:
    """Against the reference, in float64 if the choice is certain to be the same."""
    torch.manual_seed(0)
    shapes = (batch, heads, n, dim), (batch, key_heads, n, dim), (batch, key_heads, n, dim)
    tensors = [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]
    inputs = {each.name: torch.randn(heads) for each in mask.inputs}
    found, expected = (results(mask, backend, tensors, inputs) for backend in ("native", "reference"))
    for one, other in zip(found, expected, strict=True):
        finite = other.isfinite()
        assert (one.isfinite() == finite).all()
        error = (one.double() - other.double())[finite].abs().max() if finite.any() else torch.tensor(0.0)
        assert error <= TOLERANCES[dtype] * max(1, other[finite].abs().max() if finite.any() else 1)


def forbid_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise AssertionError("computed by tiles")

    monkeypatch.setattr(native_backend, "_by_tiles", fail)
    monkeypatch.setattr(native_backend, "_gradients_by_tiles", fail)


@needs_compiler
@pytest.mark.thinned(2, "route", "relation", "heads")
@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (4, 1)])
@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("route", ROUTES)
def test_against_the_reference(route: str, relation: str, heads: tuple[int, int], monkeypatch: Any) -> None:
    forbid_tiles(monkeypatch)
    mask = mask_of(ROUTES[route], relation, 150, 20, *heads)
    assert chooses(make_plan(mask.ir))
    check(mask, 150, 2, *heads, 16, torch.float32)


@needs_compiler
@settings(deadline=None, max_examples=examples(25))
@given(
    st.sampled_from([*ROUTES]),
    st.sampled_from(RELATIONS),
    st.sampled_from(EXTRAS),
    st.sampled_from([(1, 1), (6, 3), (6, 2), (3, 1)]),
    st.integers(1, 300),
    st.integers(1, 70),
    st.integers(1, 2),
    st.sampled_from([8, 33]),
    st.sampled_from([*TOLERANCES]),
)
def test_any_sizes(
    route: str,
    relation: str,
    extra: str,
    heads: tuple[int, int],
    n: int,
    block: int,
    batch: int,
    dim: int,
    dtype: torch.dtype,
) -> None:
    check(mask_of(ROUTES[route], relation, n, block, *heads, extra), n, batch, *heads, dim, dtype)


@needs_compiler
@pytest.mark.thinned(2, "route", "relation", "heads", "paged")
@pytest.mark.parametrize("paged", [False, True])
@pytest.mark.parametrize("heads", [(4, 4), (4, 2)])
@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("route", [name for name in ROUTES if name != "blocks"])
def test_few_queries(route: str, relation: str, heads: tuple[int, int], paged: bool, monkeypatch: Any) -> None:
    """With a state and without, at other positions in each entry, and across blocks of queries."""
    monkeypatch.setattr(decode_call, "_in_chunk", None)
    torch.manual_seed(0)
    n, page = 160, 16
    mask = mask_of(ROUTES[route], relation, n, 24, *heads)
    k, v = torch.randn(2, 2, heads[1], n, 16)
    options: dict[str, Any] = {}
    if paged:
        table = torch.randperm(2 * n // page).view(2, -1)
        options["page_table"] = table
        k, v = (x.unflatten(2, (-1, page)).transpose(1, 2).flatten(0, 1)[table.flatten().argsort()] for x in (k, v))
    for starts, count, lengths in (
        (159, 1, 160),
        ((20, 100), 3, (23, 103)),
        ((62, 0), 5, (70, 5)),
        ((100, 1), 50, (150, 51)),
    ):
        q = torch.randn(2, heads[0], count, 16)
        options |= {"query_start": torch.tensor(starts), "key_lengths": torch.tensor(lengths)}
        compiled = mask.compile("native")
        found = [
            compiled(q, k, v, return_lse=True, **options, **state)
            for state in ({}, {"routing_state": compiled.routing_state(2)})
        ]
        with monkeypatch.context() as patch:
            patch.setattr(decode_call, "_in_chunk", IN_CHUNK)
            expected = mask.compile("reference")(q, k, v, return_lse=True, **options)
        for results_of in found:
            torch.testing.assert_close(results_of, expected, rtol=2e-5, atol=2e-5)


@needs_compiler
def test_results_that_are_not_finite_are_those_of_tiles() -> None:
    mask = mask_of(ROUTES["topp"], RELATIONS[0], 100, 16, 2, 2)
    q, k, v = torch.randn(3, 1, 2, 100, 8)
    v[0, 0, 90] = torch.nan
    found, expected = (mask.compile(backend)(q, k, v) for backend in ("native", "tiled"))
    assert found.isnan().any()
    torch.testing.assert_close(found, expected, equal_nan=True)


@needs_compiler
def test_threads_change_nothing() -> None:
    mask = mask_of(ROUTES["above"], RELATIONS[0], 300, 20, 4, 2)
    tensors = [torch.randn(1, heads, 300, 16).requires_grad_() for heads in (4, 2, 2)]
    before = torch.get_num_threads()
    found = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        found.append(results(mask, "native", tensors, {}))
    torch.set_num_threads(before)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert torch.equal(found[0][0], found[1][0])


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ("attend past", True),
        ("attend causal and (past or same(chunk))", True),
        ("attend not past", False),
        ("attend past if head == 0 else causal", False),
        ("attend past and head == 0", False),
        ("input g: int[t] attend past and same(g)", False),
        ("attend past order by -i", False),
        ("attend past score s + 0.1 * (q - k)", False),
    ],
)
def test_where_it_serves(lines: str, found: bool) -> None:
    plan = make_plan(mask_of(ROUTES["topk"], lines, 64, 16, 2, 2).ir)
    assert chooses(plan) is found
    assert native_backend.Native().host_inputs(plan) == (() if found else plan.tile_inputs)


@pytest.mark.parametrize("panels", [1, 4, 16])
def test_where_a_tile_as_a_whole_costs_less(panels: int) -> None:
    """Below the crossing the chosen queries are gathered; above it all of them are computed."""
    cheap = np.array([takes_whole(np.array(chosen), np.array(64), panels) for chosen in range(65)])
    crossing = 64 * panels / (panels + 1)
    assert not cheap[: int(np.ceil(crossing))].any() and cheap[int(np.ceil(crossing)) :].all()


@pytest.mark.parametrize("share", [0.0, 0.2, 0.6, 0.97, 1.0])
@pytest.mark.parametrize("table_heads", [1, 2, 4])
def test_rows_hold_the_chosen_pairs_once(share: float, table_heads: int) -> None:
    """Read as the kernel reads them, and compared with the relation."""
    n, heads, key_heads, block = 300, 4, 2, 40
    mask = mask_of(ROUTES["topk"], RELATIONS[1], n, block, heads, key_heads)
    pairs = make_plan(mask.ir).chosen_pairs
    assert pairs is not None
    tiles = choice_tiles(pairs)
    table = np.random.default_rng(0).random((2, table_heads, n, -(-n // block))) < share
    made = chosen_lists(tiles, table, heads, key_heads)
    counts = np.zeros((2, heads, n, n), int)
    lists, fold = made.lists, heads // key_heads
    for batch in range(2):
        for head in range(0, heads, fold):
            first, last = lists.class_rows[lists.classes[batch, head] :][:2]
            for segment in made.segments[first:last]:
                for row in lists.rows[segment["row"] : segment["row"] + segment["rows"]]:
                    members = made.members[row["first"] : row["first"] + row["count"]]
                    of_head, query = np.divmod(members, segment["count"])
                    for run in lists.runs[row["run"] : row["run"] + row["runs"]]:
                        for panel in range(run["panels"]):
                            number = run["panel"] + panel
                            keys = tiles.grid.panel_tokens(np.array([number]))[0]
                            lanes = int(tiles.grid.lanes(np.array([0]), np.array([number]))[0, 0])
                            mask_number = -2 - run["mask"] if run["mask"] < -1 else run["mask"] + panel
                            words = lanes if run["mask"] == -1 else lists.words[mask_number][: len(members)] & lanes
                            attends = (np.broadcast_to(words, len(members))[:, None] >> np.arange(16)) & 1
                            for lane, key in enumerate(keys):
                                at = batch, head + of_head, segment["first"] + query, key
                                np.add.at(counts, at, attends[:, lane])
    chunk = np.arange(n) // block
    past = np.repeat(table, heads // table_heads, axis=1)[..., chunk]
    own = (np.arange(n)[:, None] >= np.arange(n)) & (chunk[:, None] == chunk)
    assert np.array_equal(counts, (past | own).astype(int))
