"""Dropout at the call: which pairs are kept follows from a hash of their positions, which is written once more."""

import numpy as np
import pytest
import torch

import maskdsl
from tests.support.dropout import RATE, SEED, WAYS, check, kept, words


@pytest.mark.parametrize("backend", ["tiled", "reference"])
@pytest.mark.parametrize("way", WAYS)
def test_kept_pairs(way: str, backend: str) -> None:
    check(way, backend)


def test_the_share_of_kept_pairs() -> None:
    assert abs(kept(2, 8, 64).double().mean() - (1 - RATE)) < 0.01


def test_heads_of_a_larger_attention() -> None:
    """Heads count from the first of the whole attention."""
    pattern = maskdsl.parse("pattern p(n = 9) { space t[n] attend causal }")["p"]
    x = torch.randn(1, 4, 9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole = pattern.bind(heads=4).compile()(x, x, x, dropout_p=RATE, seed=SEED)
    part = pattern.bind(heads=4, first_head=2, local_heads=2).compile()
    here = x[:, 2:]
    torch.testing.assert_close(part(here, here, here, dropout_p=RATE, seed=SEED), whole[:, 2:])


def test_branches_and_layouts() -> None:
    text = "pattern p(n = 9) { space t[n] branch a { attend causal } branch b { attend k <= q + 2 weight -0.5 } }"
    x = torch.randn(1, 2, 9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = maskdsl.parse(text)["p"].bind(heads=2).compile()(x, x, x, dropout_p=RATE, seed=SEED)
    i, s = torch.arange(9), x @ x.mT / 2
    p = [s.masked_fill(i > i[:, None] + wide, -torch.inf).softmax(-1) for wide in (0, 2)]
    expected = ((p[0] - 0.5 * p[1]) * kept(1, 2, 9) / (1 - RATE)) @ x
    torch.testing.assert_close(found, expected)
    tokens_first = maskdsl.parse(text)["p"].bind(heads=2).compile(layout="bnhd")
    y = x.transpose(1, 2)
    torch.testing.assert_close(tokens_first(y, y, y, dropout_p=RATE, seed=SEED).transpose(1, 2), expected)


def test_graphs_and_seeds() -> None:
    """A seed may be a tensor, differ from call to call of a graph, and counts by its lowest 32 bits."""
    attention = maskdsl.parse("pattern p(n) { space t[n] attend causal }")["p"].compile(follow="n", heads=2)
    x = torch.randn(1, 2, 9, 4, generator=torch.Generator().manual_seed(0))

    @torch.compile(fullgraph=True, backend="aot_eager")
    def run(x: torch.Tensor, seed: torch.Tensor) -> torch.Tensor:
        return attention(x, x, x, dropout_p=RATE, seed=seed)

    for seed in (3, -1, 2**31 + 5, 2**40 + 5):
        expected = attention(x, x, x, dropout_p=RATE, seed=seed)
        torch.testing.assert_close(run(x, torch.tensor(seed)), expected)
        torch.testing.assert_close(attention(x, x, x, dropout_p=RATE, seed=seed % 2**32), expected)
    assert torch.equal(attention(x, x, x, dropout_p=0.0, seed=1), attention(x, x, x))


@pytest.mark.parametrize("backend", ["tiled", "reference"])
@pytest.mark.parametrize("follow", [(), ("n",)])
def test_inputs_that_change(follow: tuple[str, ...], backend: str) -> None:
    """Sides of size 1, inputs by key head and the head dimension, beside the same numbers in full."""
    random = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, heads, 9, 4, dtype=torch.float64, generator=random) for heads in (4, 2, 2))
    worth, rate = (torch.rand(shape, dtype=torch.float64, generator=random) for shape in ((1, 9), (2, 9)))
    inputs_of = "input worth: float[batch, t]  input rate: float[{0}, keys]"
    text = f"pattern p(n = 9) {{{{ space t[n]  {inputs_of}  attend causal  {{1}} }}}}"
    texts = (
        text.format("key_heads", "score s * k.worth / dim + k.rate"),
        text.format("heads", "score s * k.worth / 4 + k.rate"),
    )
    given = (
        {"worth": worth, "rate": rate},
        {"worth": worth.expand(2, 9), "rate": rate.repeat_interleave(2, dim=0)},
    )
    packed = [x.transpose(1, 2).flatten(0, 1) for x in (q, k, v)]
    results = []
    for each, inputs in zip(texts, given, strict=True):
        pattern = maskdsl.parse(each)["p"]
        attention = pattern.compile(backend, follow=follow, heads=4, key_heads=2) if follow else None
        attention = attention or pattern.bind(heads=4, key_heads=2).compile(backend)
        how = {**inputs, "dropout_p": RATE, "seed": SEED}
        whole = attention(q, k, v, **how)
        last = attention(q[:, :, 5:], k, v, query_start=5, **how)
        results.append((whole, last, attention.varlen(*packed, torch.tensor([0, 9, 18]), **how)))
    torch.testing.assert_close(*results)
    whole, last, parts = results[0]
    torch.testing.assert_close(last, whole[:, :, 5:])
    torch.testing.assert_close(parts.unflatten(0, (2, 9)).transpose(1, 2), whole)


WRONG = {
    "a rate of 1": {"dropout_p": 1.0, "seed": 0},
    "a rate below 0": {"dropout_p": -0.1, "seed": 0},
    "a text": {"dropout_p": "0.1", "seed": 0},
    "no seed": {"dropout_p": 0.1},
    "half a seed": {"dropout_p": 0.1, "seed": 0.5},
    "seeds": {"dropout_p": 0.1, "seed": torch.tensor([1, 2])},
}


@pytest.mark.parametrize("mistake", WRONG)
def test_mistakes(mistake: str) -> None:
    attention = maskdsl.parse("pattern p(n = 9) { space t[n] attend causal }")["p"].bind().compile()
    x = torch.randn(1, 1, 9, 4)
    with pytest.raises(maskdsl.AttnError, match="E499"):
        attention(x, x, x, **WRONG[mistake])
    with pytest.raises(maskdsl.AttnError, match="E499"):
        attention(x, x, x, dropout_p=0.1, seed=1, routing_state=attention.routing_state())


def test_the_hash_is_that_of_the_language() -> None:
    """Of `random(7, 3)`, by the steps of docs/language.md, against a pattern that reads it."""
    mask = maskdsl.parse("pattern p(n = 9) { space t[n] attend random(7, q, k) % 2 == 0 }")["p"].bind()
    i = np.arange(9)
    assert (mask.dense() == (words(7, i[:, None], i[None]) % 2 == 0)).all()
