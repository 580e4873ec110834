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
