"""What people have, imported: the same pairs, and the pattern that they are, by its parameters."""

import numpy as np
import pytest
import torch

import maskdsl

LINES = [
    "all -> all",
    "causal",
    "backward(7)",
    "window(9)",
    "-3 <= q - k <= 8",
    "q - k <= 8",
    "dilated(4)",
    "dilated(4) and backward(21)",
    "dilated(3) and window(13)",
    "powers",
    "causal and powers",
    "causal and (powers or q == k)",
    "strided(6)",
    "fixed(8, summary = 2)",
    "blocks(8)",
    "blocks(8, shift = 3)",
    "causal and blocks(8)",
    "k // 8 <= q // 8",
    "window(5) or globals_first(2)",
    "window(5) or prefix(2)",
    "causal and (backward(6) or sinks(3))",
    "causal or prefix(9)",
    "neighborhood(7)",
    "neighborhood(5, dilation = 3)",
    "(q - k == 0 or 3 <= q - k <= 5)",
]
GRIDS = [
    ((10, 12), "neighborhood((5, 3))"),
    ((12, 10), "neighborhood((3, 3), dilation = (2, 2))"),
    ((8, 12), "blocks((4, 4))"),
    ((8, 12), "blocks((4, 4), shift = (2, 2))"),
    ((8, 12), "window((3, 5))"),
    ((4, 6, 5), "neighborhood((3, 3, 3))"),
    ((4, 6, 5), "causal(axis = t) and neighborhood(3, axis = y)"),
]


def line(relation, length=60):
    return maskdsl.parse(f"pattern p(n) {{ space tokens[n] attend {relation} }}")["p"].bind(n=length)


def check(imported, pairs):
    """That all heads and entries are the same; `pairs` may have fewer axes."""
    wanted = np.asarray(pairs)
    wanted = wanted.reshape(*(1,) * (4 - wanted.ndim), *wanted.shape)
    for entry, head in np.ndindex(wanted.shape[:2]):
        found = imported.mask.dense(head if imported.mask.heads > 1 else 0, entry, **imported.inputs)
        np.testing.assert_array_equal(found, wanted[entry, head])


@pytest.mark.parametrize("relation", LINES)
def test_lines(relation):
    pairs = line(relation).dense()
    imported = maskdsl.from_dense(pairs)
    assert (imported.pattern, imported.inputs) == (relation, {})
    check(imported, pairs)
    check(maskdsl.Imported(maskdsl.parse(imported.text)["imported"].bind(), None, ""), pairs)


@pytest.mark.parametrize(("shape", "relation"), GRIDS)
def test_grids(shape, relation):
    axes = ", ".join(f"{name} = {length}" for name, length in zip("tyx"[-len(shape) :], shape, strict=True))
    pairs = maskdsl.parse(f"pattern p() {{ space g[{axes}] attend {relation} }}")["p"].bind().dense()
    imported = maskdsl.from_dense(pairs, grid=shape)
    assert imported.pattern == relation
    check(imported, pairs)
    imported = maskdsl.from_dense(pairs)
    found = {"causal(axis = t) and neighborhood(3, axis = y)": "causal(axis = y) and neighborhood(3, axis = x)"}
    assert imported.pattern == found.get(relation, relation)
    check(imported, pairs)


def test_a_text_in_front_of_a_grid():
    text = "space a[3] space b[y = 6, x = 8] tokens a ++ b attend a -> all attend all -> a"
    pairs = maskdsl.parse(f"pattern p() {{ {text} attend b -> b where neighborhood((3, 5)) }}")["p"].bind().dense()
    imported = maskdsl.from_dense(pairs)
    assert imported.pattern == "text -> all or all -> text or grid -> grid where neighborhood((3, 5))"
    check(imported, pairs)


def test_heads_of_their_own():
    parts = [line(each).dense() for each in ("backward(4)", "backward(4)", "causal", "window(5) or prefix(2)")]
    imported = maskdsl.from_dense(np.stack(parts))
    assert imported.mask.heads == 4
    assert imported.pattern == ("(backward(4)) if head < 2 else (causal) if head < 3 else (window(5) or prefix(2))")
    check(imported, np.stack(parts))


@pytest.mark.parametrize(
    ("relation", "inside"), [("causal and ", "causal"), ("", "all -> all"), ("window(5) and ", "window(5)")]
)
def test_documents(relation, inside):
    document = np.repeat(np.arange(4), [9, 20, 1, 14])
    pairs = line(inside, 44).dense() & (document[:, None] == document)
    imported = maskdsl.from_dense(pairs)
    assert imported.pattern == f"{relation}same(document)"
    assert imported.inputs["document"].tolist() == document.tolist()
    two = np.stack([pairs, line(inside, 44).dense()])[:, None]
    imported = maskdsl.from_dense(two)
    assert imported.inputs["document"].shape == (2, 44)
    check(imported, two)


@pytest.mark.parametrize("shape", [(20, 20), (20, 30), (3, 20, 20), (2, 1, 20, 20), (2, 3, 20, 30)])
def test_what_is_no_pattern(shape):
    """Is read from the pairs, and attends the same with tensors."""
    pairs = np.random.default_rng(0).random(shape) < 0.4
    with pytest.warns(maskdsl.AttnWarning, match="W040") as warned:
        imported = maskdsl.from_dense(pairs)
    assert len(warned) == 1 and imported.cost in str(warned[0].message)
    assert f"{' x '.join(map(str, imported.inputs['pairs'].shape))} pairs" in imported.cost
    assert imported.pattern is None
    check(imported, pairs)
    q = torch.randn(2, 3, shape[-2], 8)
    k, v = torch.randn(2, 2, 3, shape[-1], 8)
    out = imported.mask.compile()(q, k, v, **imported.inputs)
    seen = torch.from_numpy(pairs)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)
    torch.testing.assert_close(out, expected)


def test_nothing_attends():
    with pytest.warns(maskdsl.AttnWarning, match="W040"):
        imported = maskdsl.from_dense(np.zeros((8, 8), bool))
    assert imported.pattern is None and not imported.mask.dense(**imported.inputs).any()


def test_more_keys_than_queries():
    pairs = np.tril(np.ones((10, 25), bool), 15)
    imported = maskdsl.from_dense(pairs)
    assert imported.pattern == "q - k >= -15" and imported.mask.key_length == 25
    check(imported, pairs)


def test_what_people_have():
    """Masks that are added to scores, of torch and of half precision; integers; lists."""
    causal = torch.ones(12, 12, dtype=torch.bool).tril()
    added = torch.zeros(12, 12).masked_fill(~causal, -torch.inf)
    lowest = torch.finfo(torch.float16).min
    for array in (causal, causal.int(), causal.tolist(), added, added.half().clamp(min=lowest), causal[None, None]):
        assert maskdsl.from_dense(array).pattern == "causal"


def test_padding():
    """On either side, and in the middle; queries that are padding attend as others do."""
    causal = line("causal", 30).dense()
    real = np.ones((3, 30), bool)
    real[0, :9], real[1, 22:], real[2, 4:7] = False, False, False
    imported = maskdsl.from_dense((causal & real[:, None])[:, None])
    assert imported.pattern == "causal and k.real"
    assert imported.inputs["real"].tolist() == real.tolist()
    assert maskdsl.from_dense(np.broadcast_to(real[0], (30, 30))).pattern == "k.real"


NO_MASKS = [np.ones(4, bool), np.ones((2, 2)) * 0.5, np.full((2, 2), 3), np.array([["a"]]), [], [[True], [True, False]]]


@pytest.mark.parametrize("array", NO_MASKS)
def test_what_is_no_mask(array):
    with pytest.raises(maskdsl.AttnError, match="E620"):
        maskdsl.from_dense(array)


def test_a_grid_that_does_not_fit():
    with pytest.raises(maskdsl.AttnError, match="E621"):
        maskdsl.from_dense(np.ones((12, 12), bool), grid=(5, 4))


def test_predicates_of_tensors_and_of_numbers():
    document = torch.arange(40) ** 2 // 500

    def packed(b, h, q, k):
        return (q >= k) & (document[q] == document[k])

    assert maskdsl.from_mask_mod(packed, 40).pattern == "causal and same(document)"
    assert maskdsl.from_mask_mod(lambda b, h, q, k: q >= k and q - k < 5, 40).pattern == "backward(5)"
    imported = maskdsl.from_mask_mod(lambda b, h, q, k: (q - k).abs() <= 2 + h, 40, heads=2)
    assert imported.pattern == "(window(5)) if head < 1 else (window(7))"
    assert maskdsl.from_mask_mod(lambda b, h, q, k: True, 5, keys=7).pattern == "all -> all"
    with pytest.raises(maskdsl.AttnError, match="E460"):
        maskdsl.from_mask_mod(packed, 0)
    with pytest.raises(maskdsl.AttnError, match=r"E622[\s\S]*IndexError"):
        maskdsl.from_mask_mod(lambda b, h, q, k: document[q + 1] == 0, 40)


def test_chunks_of_rows(monkeypatch):
    monkeypatch.setattr("maskdsl.api.recognition.predicates.CHUNK", 100)
    assert maskdsl.from_mask_mod(lambda b, h, q, k: (q - k).abs() <= 4, 40).pattern == "window(9)"
