"""The pieces that generated routing modules share, with ties, with what is no candidate, with NaN."""

from importlib import import_module

import numpy as np
import pytest
import torch

import maskdsl
from maskdsl.base.diagnostics import AttnError
from maskdsl.runtime.backends.available import usable_backends

routing = import_module("maskdsl.codegen.routing")
selectors = import_module("maskdsl.codegen.selectors")
INFINITY = float("inf")


def scores(seed: int, columns: int) -> torch.Tensor:
    """[2, 3, 50, columns] with many ties and many minus infinities."""
    random = np.random.default_rng(seed)
    values = random.integers(-3, 4, (2, 3, 50, columns)).astype(float)
    values[random.random(values.shape) < 0.3] = -INFINITY
    return torch.as_tensor(values)


def first_best(row: torch.Tensor, count: int) -> list[bool]:
    chosen = sorted((-value, position) for position, value in enumerate(row.tolist()) if value > -INFINITY)[
        : max(count, 0)
    ]
    return [position in {each for _, each in chosen} for position in range(len(row))]


@pytest.mark.parametrize("columns", [1, 2, 7, 40])
@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 9, 100])
def test_best(columns: int, count: int) -> None:
    score = scores(count, columns)
    expected = torch.tensor([first_best(row, count) for row in score.flatten(0, 2)]).view(score.shape)
    assert torch.equal(selectors.best(score, count), expected)
    assert torch.equal(selectors.best(score, torch.tensor(count)), expected)


def test_another_count_in_every_head() -> None:
    score, counts = scores(0, 9), [0, 2, 7]
    found = selectors.best(score, torch.tensor(counts)[:, None, None])
    for batch, head, row in np.ndindex(2, 3, 50):
        assert found[batch, head, row].tolist() == first_best(score[batch, head, row], counts[head])


@pytest.mark.parametrize("mass", [0.0, 0.3, 0.9, 1.0])
def test_heaviest(mass: float) -> None:
    score = scores(1, 12)
    found = selectors.heaviest(score, mass)
    for row, chosen in zip(score.flatten(0, 2), found.flatten(0, 2), strict=True):
        order = sorted((-value, position) for position, value in enumerate(row.tolist()) if value > -INFINITY)
        weights = [float(np.exp(-value)) for value, _ in order]
        expected, reached = [False] * 12, 0.0
        for (_, position), weight in zip(order, weights, strict=True):
            if reached >= mass * sum(weights) - 1e-9 * (mass == 1.0):
                break
            expected[position] = True
            reached += weight
        if mass < 1.0:
            assert chosen.tolist() == expected
        else:  # rounding may leave out what weighs nothing
            assert sum(chosen.tolist()) >= 1 or not order


def test_groups_without_tokens_and_empty_pools() -> None:
    numbers = torch.tensor([0, 0, 3, 3, 3, 1])
    groups = routing.Groups(5, "c", numbers)
    assert groups.exists.flatten().tolist() == [True, True, False, True, False]
    x = torch.randn(2, 4, 6, 8, dtype=torch.float64)
    among = torch.tensor([True, True, False, False, False, True])
    for kind, pool in (("mean", lambda v: v.mean(2)), ("max", lambda v: v.amax(2)), ("sum", lambda v: v.sum(2))):
        found = routing.pooled(x, groups, kind, among=among)
        torch.testing.assert_close(found[:, :, 0], pool(x[:, :, :2]))
        torch.testing.assert_close(found[:, :, 1], x[:, :, 5])
        assert not found[:, :, 2:].any()
    shared = routing.pooled(x, groups, "root", heads=[0, 0, 1, 1])
    torch.testing.assert_close(shared[:, 0, 3], x[:, :2, 2:5].sum((1, 2)) / 6**0.5)
    assert shared.shape[1] == 2  # one for each pool of heads


TEXT = """pattern p(n = 24) {
    space tokens[n]
    input worth: float[heads, 3]
    input chunk: int[tokens]
    coord third = i // 8
    route kept = topk(2, worth[head, k.third])
    route near = topk(1, dot(mean(q by chunk), mean(k by chunk))) where k.chunk != q.chunk
    attend kept or near
}"""


@pytest.mark.parametrize("backend", usable_backends())
def test_what_is_no_number_is_never_selected(backend: str) -> None:
    attention = maskdsl.parse(TEXT)["p"].bind(heads=1).compile(backend)
    q, k, v = torch.randn(3, 1, 1, 24, 16, dtype=torch.float64)
    chunk = torch.arange(24) // 24
    v[:, :, 8:16] = torch.nan  # of the third that must not be attended
    for worth in ([1.0, float("nan"), 0.0], [1.0, -INFINITY, INFINITY]):
        out = attention(q, k, v, worth=torch.tensor([worth]), chunk=chunk)
        assert bool(out.isfinite().all())


def test_groups_outside_their_number_are_an_error() -> None:
    mask = maskdsl.parse(TEXT)["p"].bind(heads=1)
    q, k, v = torch.randn(3, 1, 1, 24, 16)
    for wrong in (-1, 24):
        given = {"worth": torch.randn(1, 3), "chunk": torch.full((24,), wrong)}
        with pytest.raises(AttnError, match=rf"E450.*\n?.*`chunk` of a token is {wrong}"):
            mask.compile("tiled")(q, k, v, **given)
        with pytest.raises(AttnError, match="E450"):
            mask.tiles(q=q.numpy(), k=k.numpy(), **{name: x.numpy() for name, x in given.items()})


def test_vectors_must_be_given_to_find_pairs() -> None:
    mask = maskdsl.parse(TEXT)["p"].bind(heads=1)
    with pytest.raises(AttnError, match="E451"):
        mask.tiles(worth=np.zeros((1, 3)), chunk=np.zeros(24, dtype=int))


def test_laid_out_tensors_are_refused() -> None:
    mask = maskdsl.parse(TEXT)["p"].bind(heads=1)
    q, k, v = torch.randn(3, 1, 1, 24, 16)
    given = {"worth": torch.randn(1, 3), "chunk": torch.zeros(24, dtype=torch.long)}
    with pytest.raises(AttnError, match="E452"):
        mask.with_order("by shuffle(i, 3)").compile()(q, k, v, layout="ordered", **given)
    attention = mask.compile()  # without an order, both layouts are one
    torch.testing.assert_close(attention(q, k, v, layout="ordered", **given), attention(q, k, v, **given))
