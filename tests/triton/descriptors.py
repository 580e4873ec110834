"""Run in a process of its own, with TRITON_INTERPRET=1: loads by tensor descriptors, against the definition.

Results are NaN before kernels run, and so is what lies around keys and values. Prints `agreed` at the end; any
difference raises.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from triton.tools.tensor_descriptor import TensorDescriptor

import maskdsl
from tests.triton.interpreted import poisoned

TEXT = """
pattern band(n) { space tokens[n]  attend window(21) and causal }
pattern listed(n) { space tokens[n]  attend (q - k) % 7 < 3 or abs(q - k) < 4 }
pattern together(n) { space tokens[n]  input part: int[tokens]  attend same(part) }
"""
LENGTHS = (1, 16, 45)
made: list[TensorDescriptor] = []


@contextmanager
def counted(described: bool) -> Iterator[None]:
    """Whether any descriptor is made, as it has to be."""
    made.clear()
    yield
    assert bool(made) == described, made


def surrounded(heads: int, length: int, dim: int) -> torch.Tensor:
    """[2, heads, length, dim] inside of a tensor that is NaN elsewhere, whose strides 4 divides if it divides `dim`."""
    around = torch.full((2, length + 9, heads + 2, dim + 8), torch.nan)
    inside = around[:, 4 : 4 + length, 1 : 1 + heads, 4 : 4 + dim].transpose(1, 2)
    return inside.copy_(torch.randn(inside.shape))


def shifted(heads: int, length: int, dim: int) -> torch.Tensor:
    """The same at addresses that 16 does not divide."""
    around = torch.full((2, heads, length + 1, dim + 4), torch.nan)
    inside = around[:, :, :length, 1 : 1 + dim]
    return inside.copy_(torch.randn(inside.shape))


def odd(heads: int, length: int, dim: int) -> torch.Tensor:
    """The same with strides that are odd."""
    around = torch.full((2, heads, length, dim + 1), torch.nan)
    inside = around[..., :dim]
    return inside.copy_(torch.randn(inside.shape))


def expanded(heads: int, length: int, dim: int) -> torch.Tensor:
    """The same with one head for all."""
    return torch.randn(2, 1, length, dim).expand(-1, heads, -1, -1)


def attends(name: str, length: int, part: torch.Tensor) -> torch.Tensor:
    away = torch.arange(length)[:, None] - torch.arange(length)
    match name:
        case "band":
            return (away >= 0) & (away <= 10)
        case "listed":
            return (away % 7 < 3) | (away.abs() < 4)
    return part[:, None] == part


def compare(name: str, length: int, key: torch.Tensor, value: torch.Tensor, heads: int) -> None:
    """Output and gradients of `heads` query heads; those of keys are of the copy that the definition takes too."""
    part = torch.arange(length) // 5 % 3
    inputs = {"part": part} if name == "together" else {}
    attention = maskdsl.parse(TEXT)[name].bind(n=length, heads=heads).compile("triton")
    q = torch.randn(2, heads, length, key.shape[3])
    toward = torch.randn(2, heads, length, value.shape[3])
    tensors = [each.detach().requires_grad_() for each in (q, key, value)]
    out = attention(*tensors, **inputs)
    wide = [each.detach().double().requires_grad_() for each in (q, key, value)]
    k, v = (each.repeat_interleave(heads // each.shape[1], dim=1) for each in wide[1:])
    s = wide[0] @ k.transpose(2, 3) * q.shape[3] ** -0.5
    expected = s.masked_fill(~attends(name, length, part), -torch.inf).softmax(dim=-1) @ v
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5)
    found, right = torch.autograd.grad(out, tensors, toward), torch.autograd.grad(expected, wide, toward.double())
    for one, other in zip(found, right, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4)


def main() -> None:
    for name in ("band", "listed", "together"):
        for length in LENGTHS:
            with counted(described=True):
                compare(name, length, surrounded(2, length, 20), surrounded(2, length, 36), heads=4)
    with counted(described=False):
        for make in (shifted, odd, expanded):
            compare("band", 45, make(2, 45, 20), make(2, 45, 20), heads=2)
        compare("listed", 45, surrounded(1, 45, 192), surrounded(1, 45, 128), heads=2)  # keys of two chunks
    del os.environ["MASKDSL_DESCRIPTORS"]
    with counted(described=False):
        compare("band", 45, surrounded(2, 45, 20), surrounded(2, 45, 36), heads=4)


def noted(self: TensorDescriptor) -> None:
    check(self)
    made.append(self)


if __name__ == "__main__":
    torch.manual_seed(7)
    os.environ["MASKDSL_DESCRIPTORS"] = "1"
    torch.Tensor.new_empty = poisoned  # type: ignore[method-assign]
    check = TensorDescriptor.__post_init__
    TensorDescriptor.__post_init__ = noted
    main()
    print("agreed")
