"""Sequences of different lengths one behind the other, against each sequence alone."""

from typing import Any

import pytest
import torch
from torch import Tensor

import maskdsl
from maskdsl.base.diagnostics import AttnError
from maskdsl.runtime.backends.available import usable_backends

TEXT = """
pattern layer(n = 60, size = 9) { space t[n]  attend window(size) and causal or k < 2 }
pattern everything(n = 40) {
    space t[n]
    input document: int[batch, tokens]
    input slope: float[batch, heads]
    input gate: float[batch, heads, tokens]
    input bias: float[heads, 2 * n - 1]
    coord row = i // 4
    attend causal or q.row == k.row + head
    require same(document)
    score s - slope[batch, head] * float(abs(q - k)) + bias[head, q - k + n - 1]
    weight sigmoid(q.gate - k.gate)
    order by t % 5
}
pattern crossed(n = 20, m = 33) { space a[n]  space b[m]  queries a  keys b  attend abs(q * 3 // 2 - k) < 6 }
"""
MODULE = maskdsl.parse(TEXT)
LENGTHS = [7, 1, 0, 19, 12]
HEADS = 4


def inputs(name: str, count: int) -> dict[str, Tensor]:
    if name != "everything":
        return {}
    document = torch.randint(0, 2, (count, 40)).sort(dim=1).values
    floats = {"slope": (count, HEADS), "gate": (count, HEADS, 40), "bias": (HEADS, 79)}
    return {"document": document, **{name: torch.randn(shape).double() for name, shape in floats.items()}}


def packed(lengths: list[int], heads: int, extra: int = 0) -> tuple[Tensor, Tensor]:
    """[tokens, heads, dim], and where sequences begin; the rest is nonsense."""
    tokens = torch.randn(sum(lengths) + extra, heads, 16).double()
    tokens[sum(lengths) :] = torch.nan
    return tokens, torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)


def alone(mask: maskdsl.Mask, q: Tensor, k: Tensor, v: Tensor, start: int, **given: Tensor) -> Any:
    """One sequence [tokens, heads, dim] as the first tokens of the whole pattern."""
    long = [torch.zeros(1, x.shape[1], size, 16).double() for x, size in ((q, mask.query_length), (k, 1), (v, 1))]
    long[1], long[2] = (x.transpose(0, 1)[None] for x in (k, v))
    return mask.compile("reference")(
        q.transpose(0, 1)[None], long[1], long[2], query_start=start, return_lse=True, **given
    )


@pytest.mark.parametrize("backend", usable_backends())
@pytest.mark.parametrize("name", list(MODULE))
def test_each_sequence_alone(name: str, backend: str) -> None:
    mask = MODULE[name].bind(heads=HEADS)
    cross = name == "crossed"
    keys = [9, 4, 3, 33, 12] if cross else [n + 3 * (n % 2) for n in LENGTHS]  # some have had tokens before
    q, ends_q = packed(LENGTHS, HEADS)
    (k, ends_k), (v, _) = packed(keys, 2), packed(keys, 2)
    given = inputs(name, len(LENGTHS))
    leaves = [q, k, v, *(x for x in given.values() if x.is_floating_point())]
    for x in leaves:
        x.requires_grad_()
    out, lse = mask.compile(backend).varlen(q, k, v, ends_q, ends_k, return_lse=True, **given)
    expected, expected_lse = [], []
    for entry, (length, cached) in enumerate(zip(LENGTHS, keys, strict=True)):
        first, second = int(ends_q[entry]), int(ends_k[entry])
        own = {each: x if each == "bias" else x[entry : entry + 1] for each, x in given.items()}
        parts = q[first : first + length], k[second : second + cached], v[second : second + cached]
        if length:
            found, found_lse = alone(mask, *parts, 0 if cross else cached - length, **own)
            expected.append(found[0].transpose(0, 1))
            expected_lse.append(found_lse[0])
    whole = torch.cat(expected)
    torch.testing.assert_close(out, whole)
    torch.testing.assert_close(lse, torch.cat(expected_lse, dim=1))
    slopes = torch.randn_like(whole)
    for one, other in zip(
        torch.autograd.grad(out, leaves, slopes), torch.autograd.grad(whole, leaves, slopes), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_tokens_of_no_sequence_attend_nothing() -> None:
    mask = MODULE["layer"].bind(heads=HEADS)
    (q, ends), (k, _), (v, _) = packed(LENGTHS, HEADS, 5), packed(LENGTHS, 2, 5), packed(LENGTHS, 2, 5)
    out, lse = mask.compile("tiled").varlen(q, k, v, ends, return_lse=True)
    total = sum(LENGTHS)
    torch.testing.assert_close(out[:total], mask.compile("reference").varlen(q[:total], k[:total], v[:total], ends))
    assert (out[total:] == 0).all() and (lse[:, total:] == -torch.inf).all()


def test_lengths_may_follow_the_longest_sequence() -> None:
    pattern = maskdsl.parse("pattern p(n) { space t[n]  attend causal and k >= n - 19 }")["p"]
    (q, ends), (k, _), (v, _) = packed(LENGTHS, HEADS), packed(LENGTHS, 2), packed(LENGTHS, 2)
    found = pattern.compile(follow="n", heads=HEADS).varlen(q, k, v, ends)
    torch.testing.assert_close(found, pattern.bind(n=max(LENGTHS), heads=HEADS).compile().varlen(q, k, v, ends))


def test_mistakes_of_queries() -> None:
    attention = MODULE["layer"].bind(heads=HEADS).compile()
    (q, ends), (k, few), (v, _) = packed([5, 4], HEADS), packed([3, 4], 2), packed([3, 4], 2)
    with pytest.raises(AttnError, match=r"E436.*5 queries from position -2 on"):
        attention.varlen(q, k, v, ends, few)
    for start, says in ((torch.tensor([0, 57]), "E436.*4 queries from position 57"), (torch.tensor([0]), "E432")):
        with pytest.raises(AttnError, match=says):
            attention.varlen(q, k, v, ends, few, query_start=start)
    with pytest.raises(AttnError, match="E442"):
        attention.varlen(q[None], k, v, ends, few)


@pytest.mark.parametrize(
    ("ends", "says"),
    [
        (torch.tensor([0, 70]), "E441.*sequence of 70 tokens.*bound for 60"),
        (torch.tensor([0, 9, 5]), "E440"),
        (torch.tensor([0, 9, 5], dtype=torch.uint8), "E440"),
        (torch.tensor([1, 9]), "E440"),
        (torch.tensor([0, 90]), "E440.*end at 80 at most"),
        (torch.tensor([0]), "E439"),
        (torch.tensor([[0, 1]]), "E439"),
        (torch.tensor([0.0, 1.0]), "E431"),
    ],
)
def test_mistakes(ends: Tensor, says: str) -> None:
    mask = MODULE["layer"].bind(heads=HEADS)
    (q, _), (k, _), (v, _) = packed([80], HEADS), packed([80], 2), packed([80], 2)
    with pytest.raises(AttnError, match=says):
        mask.compile().varlen(q, k, v, ends)
