"""Inputs without dimensions, with dimensions of size 1, by key head, and read by all of their dimensions."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import maskdsl

N, HEADS, BATCH, DIM = 23, 4, 3, 8
BACKENDS = ("reference", "tiled")


def softmax(q: Tensor, k: Tensor, v: Tensor, attends: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Attention written out, in float64."""
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    s = change(q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~attends, -torch.inf)
    return torch.softmax(s, -1).nan_to_num(0.0) @ v


def vectors(key_heads: int = HEADS) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(BATCH, heads, N, DIM) for heads in (HEADS, key_heads, key_heads)]
    return [torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_() for shape in shapes]


def bound(body: str, **options: int) -> maskdsl.Mask:
    return maskdsl.parse(f"pattern p(n = {N}) {{ space tokens[n]  {body} }}")["p"].bind(heads=HEADS, **options)


def agree(
    mask: maskdsl.Mask, tensors: list[Tensor], inputs: dict[str, Tensor], attends: Tensor, change: Callable[..., Tensor]
) -> None:
    """Output and all gradients of both backends, against softmax written out."""
    leaves = [*tensors, *(x for x in inputs.values() if x.requires_grad)]
    expected = softmax(*tensors, attends, change)
    weights = torch.linspace(-1, 1, expected.numel(), dtype=torch.float64).view_as(expected)
    wanted = torch.autograd.grad((expected * weights).sum(), leaves)
    for backend in BACKENDS:
        out = mask.compile(backend)(*tensors, **inputs)
        torch.testing.assert_close(out, expected)
        for found, gradient in zip(torch.autograd.grad((out * weights).sum(), leaves), wanted, strict=True):
            torch.testing.assert_close(found, gradient)


TOKENS = torch.arange(N)
BACK = TOKENS[:, None] - TOKENS


def leaf(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()


SCALARS = """
    input gain: float  input reach: int  input joined: bool
    coord part = i // clamp(reach, 1, 9)
    attend causal and q - k < reach or joined and same(part)
    score s * gain + gain"""


@pytest.mark.parametrize("joined", [False, True])
def test_inputs_without_dimensions(joined: bool) -> None:
    inputs = {"gain": leaf(), "reach": torch.tensor(5), "joined": torch.tensor(joined)}
    attends = (BACK >= 0) & (BACK < 5) | torch.tensor(joined) & (TOKENS[:, None] // 5 == TOKENS // 5)
    mask = bound(SCALARS)
    assert mask.dense(reach=5, joined=joined).tolist() == attends.tolist()
    agree(mask, vectors(), inputs, attends, lambda s: s * inputs["gain"] + inputs["gain"])
    plain = mask.compile()(*vectors(), gain=0.5, reach=5, joined=joined)
    torch.testing.assert_close(plain, softmax(*vectors(), attends, lambda s: s * 0.5 + 0.5))


def test_inputs_without_dimensions_decide_tiles() -> None:
    counted = bound("input reach: int  attend causal and q - k < reach").stats((8, 8), reach=3)
    assert counted.total.attended == HEADS * int(((BACK >= 0) & (BACK < 3)).sum())


def test_parts_of_a_call_take_inputs_without_dimensions() -> None:
    pattern = maskdsl.parse(f"pattern p(n = {N}) {{ space tokens[n] {SCALARS} }}")["p"].compile(heads=HEADS)
    q, k, v = vectors()
    inputs = {"gain": torch.tensor(0.7), "reach": torch.tensor(6), "joined": torch.tensor(True)}
    whole = pattern(q, k, v, **inputs)
    torch.testing.assert_close(pattern(q[:, :, 9:], k, v, query_start=9, **inputs), whole[:, :, 9:])
    ends = torch.tensor([0, 11, N])
    packed = pattern.varlen(*(x[0].transpose(0, 1) for x in (q, k, v)), ends, **inputs).transpose(0, 1)
    apart = [pattern(*(x[:1, :, a:b] for x in (q, k, v)), **inputs)[0] for a, b in ((0, 11), (11, N))]
    torch.testing.assert_close(packed, torch.cat(apart, dim=1))


def test_sides_of_size_1_stand_for_lengths_that_follow_tensors() -> None:
    """Of a space and of all tokens, in whole calls, parts, pages and packed sequences."""
    text = """pattern p(n) { space t[n]
    input bias: float[batch, t]  input gate: float[heads, tokens]  input document: int[heads, t]
    attend causal and same(document)  score s + k.bias  weight q.gate }"""
    pattern = maskdsl.parse(text)["p"]
    following, fixed = (pattern.compile(heads=HEADS), pattern.bind(heads=HEADS, n=N).compile())
    q, k, v = vectors()
    small = {"bias": leaf(BATCH, 1), "gate": leaf(HEADS, 1), "document": torch.zeros(HEADS, 1, dtype=torch.int64)}
    whole = {name: x.expand(-1, N) for name, x in small.items()}
    expected = fixed(q, k, v, **whole)
    torch.testing.assert_close(following(q, k, v, **small), expected)
    learned = small["bias"], small["gate"]
    found, known = (
        torch.autograd.grad(attention(q, k, v, **given).square().sum(), learned)
        for attention, given in ((following, small), (fixed, whole))
    )
    torch.testing.assert_close(found, known)
    torch.testing.assert_close(following(q[:, :, 9:], k, v, query_start=9, **small), expected[:, :, 9:])
    one = following(q[:, :, 4:5], k[:, :, :5], v[:, :, :5], query_start=4, **small)
    torch.testing.assert_close(one, expected[:, :, 4:5])
    paged = [x[:, :, :20].unflatten(2, (5, 4)).transpose(1, 2).flatten(0, 1) for x in (k, v)]
    table = torch.arange(BATCH * 5).view(BATCH, 5)
    out = following(q[:, :, 9:20], *paged, query_start=9, page_table=table, **small)
    torch.testing.assert_close(out, expected[:, :, 9:20])
    ends = torch.tensor([0, 11, N])
    packed = [x[0].transpose(0, 1) for x in (q, k, v)]
    small, whole = (given | {"bias": given["bias"][:1]} for given in (small, whole))
    torch.testing.assert_close(following.varlen(*packed, ends, **small), fixed.varlen(*packed, ends, **whole))


WIDE = """
    input worth: float[batch, key_heads, tokens]  input document: int[batch, tokens]
    input gate: float[batch, heads, tokens]  input slope: float[key_heads]
    attend causal and same(document) and document[batch, q // 2] >= document[batch, 0]
    score s / sqrt(dim) + q.worth * worth[batch, key_head, k // 2] + gate[batch, head, q] + slope[key_head]
    weight 0.25 * dim"""


def wide_inputs() -> dict[str, Tensor]:
    """One document a token for all entries, one gate for all tokens, and what key heads have."""
    document = torch.tensor([[0] * 9 + [1] * (N - 9)])
    return {
        "worth": leaf(BATCH, 2, N),
        "document": document,
        "gate": leaf(1, HEADS, 1),
        "slope": leaf(2),
    }


def wide_attends() -> Tensor:
    document = wide_inputs()["document"][0]
    return (BACK >= 0) & (document[:, None] == document)


def changed(inputs: dict[str, Tensor], s: Tensor) -> Tensor:
    worth = inputs["worth"].repeat_interleave(2, 1)
    added = worth[..., None] * worth[:, :, None, TOKENS // 2] + inputs["gate"][..., None]
    return s / DIM**0.5 + added + inputs["slope"].repeat_interleave(2)[:, None, None]


@pytest.mark.parametrize("follows", [False, True])
def test_sides_of_size_one_key_heads_and_all_indices(follows: bool) -> None:
    """And the head dimension. Gradients have the shapes of what was given, and are summed over what it stands for."""
    pattern = maskdsl.parse(f"pattern p(n = {N}) {{ space tokens[n] {WIDE} }}")["p"]
    tensors, inputs = vectors(2), wide_inputs()
    leaves = [*tensors, *(x for x in inputs.values() if x.requires_grad)]
    out = softmax(*tensors, wide_attends(), lambda s: changed(inputs, s)) * (DIM / 4)
    wanted = torch.autograd.grad(out.square().sum(), leaves)
    for backend in BACKENDS:
        options = {"heads": HEADS, "key_heads": 2}
        attention = pattern.compile(backend, **options) if follows else pattern.bind(**options).compile(backend)
        found = attention(*tensors, **inputs)
        torch.testing.assert_close(found, out)
        for one, other in zip(torch.autograd.grad(found.square().sum(), leaves), wanted, strict=True):
            torch.testing.assert_close(one, other)


def test_parts_of_a_call_take_sides_of_size_one() -> None:
    mask = maskdsl.parse(f"pattern p(n = {N}) {{ space tokens[n] {WIDE} }}")["p"].bind(heads=HEADS, key_heads=2)
    attention, inputs = mask.compile(), wide_inputs()
    q, k, v = vectors(2)
    whole = attention(q, k, v, **inputs)
    torch.testing.assert_close(attention(q[:, :, 9:], k, v, query_start=9, **inputs), whole[:, :, 9:])
    ends = torch.tensor([0, 11, N])
    inputs["worth"] = inputs["worth"][:1]
    packed = attention.varlen(*(x[0].transpose(0, 1) for x in (q, k, v)), ends, **inputs)
    assert packed.shape == (N, HEADS, DIM)
    assert mask.dense(batch=2, document=inputs["document"]).tolist() == wide_attends().tolist()


def test_shards_take_the_key_heads_of_the_whole() -> None:
    """Of eight heads over four key heads, the last four."""
    text = f"""pattern p(n = {N}) {{ space tokens[n]
        input worth: float[key_heads, tokens]  input slope: float[key_heads]
        attend causal  score s + k.worth * slope[key_head] + worth[key_head, 0] }}"""
    bind = maskdsl.parse(text)["p"].bind
    q, (k, v) = torch.randn(1, 8, N, DIM), torch.randn(2, 1, 4, N, DIM)
    inputs = {"worth": torch.randn(4, N), "slope": torch.randn(4)}
    whole = bind(heads=8, key_heads=4).compile()(q, k, v, **inputs)
    shard = bind(heads=8, key_heads=4, first_head=4, local_heads=4).compile()
    torch.testing.assert_close(shard(q[:, 4:], k[:, 2:], v[:, 2:], **inputs), whole[:, 4:])


def test_inputs_by_key_head_decide_tiles() -> None:
    mask = bound("input worth: float[key_heads, tokens]  attend causal and k.worth > 0.0", key_heads=2)
    worth = torch.randn(2, N)
    attends = (BACK >= 0) & (worth.repeat_interleave(2, 0)[:, None] > 0)
    q, k, v = vectors(2)
    for backend in BACKENDS:
        found = mask.compile(backend)(q, k, v, worth=worth)
        torch.testing.assert_close(found, softmax(q, k, v, attends, lambda s: s))
    assert mask.stats(worth=worth).total.attended == int(attends.sum())


def test_a_wrong_number_of_key_heads_is_told() -> None:
    mask = bound("input worth: float[key_heads, tokens]  attend causal  score s + k.worth", key_heads=2)
    with pytest.raises(maskdsl.AttnError, match=r"E412.*\(4, 23\).*key_heads = 2"):
        mask.compile()(*vectors(2), worth=torch.zeros(4, N))


def test_a_token_of_its_own_is_no_table() -> None:
    """Indices that are the token itself read its coordinate, which orders and head classes know."""
    same, other = bound("input d: int[tokens]  attend d[q] == d[k]"), bound("input d: int[tokens]  attend same(d)")
    assert same.ir.relation == other.ir.relation


def test_flex_takes_the_head_dimension() -> None:
    mask = bound("attend causal  score s * sqrt(dim)")
    with pytest.raises(maskdsl.AttnError, match="E312"):
        mask.compile().to_flex()
    assert mask.compile().to_flex(head_dim=16).score_mod is not None
