"""Run in a process of its own, with TRITON_INTERPRET=1: head dims that kernels compute in chunks, and mixtures.

Results are NaN before kernels run. Prints `agreed` at the end; any difference raises.
"""

import sys

import torch

import maskdsl
from tests.triton.interpreted import poisoned

TEXT = """
pattern band(n = 45) { space tokens[n]  attend window(9) and causal }
pattern listed(n = 37) { space tokens[n]  attend (q - k) % 7 < 3 or abs(q - k) < 4 }
pattern valued(n = 33) {
    space tokens[n]
    input gate: float[heads]
    attend causal
    score s * 0.5 + 0.0078125 * (q - k)
    sink gate[head]
    weight exp(gate[head])
}
"""
DIMS = ((96, 96), (192, 192), (256, 256), (192, 128), (65, 190))


def dense(mask: maskdsl.Mask, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
    """The output, by the definition."""
    name, heads = mask.ir.name, q.shape[1]
    k, v = (x.repeat_interleave(heads // x.shape[1], dim=1) for x in (k, v))
    s = q @ k.transpose(2, 3) * q.shape[3] ** -0.5
    rows, columns = torch.arange(q.shape[2])[:, None], torch.arange(k.shape[2])
    away = rows - columns
    attends = {
        "band": (away >= 0) & (away <= 4),
        "listed": (away % 7 < 3) | (away.abs() < 4),
        "valued": away >= 0,
    }[name]
    if name != "valued":
        return s.masked_fill(~attends, -torch.inf).softmax(dim=-1) @ v
    s = (s * 0.5 + away * 2**-7).masked_fill(~attends, -torch.inf)
    sink = gate[:, None, None].expand(*s.shape[:3], 1)
    return torch.cat([s, sink], dim=-1).softmax(dim=-1)[..., :-1] @ v * gate.exp()[:, None, None]


def compare(mask: maskdsl.Mask, dim: int, value_dim: int) -> None:
    """Output and all gradients, with two query heads for each key head."""
    heads, length = 4, mask.ir.queries.length
    shapes = (1, heads, length, dim), (1, heads // 2, length, dim), (1, heads // 2, length, value_dim), (heads,)
    tensors = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    toward = torch.randn(1, heads, length, value_dim, dtype=torch.float64)
    inputs = {"gate": tensors[3]} if mask.ir.name == "valued" else {}
    wanted = tensors if inputs else tensors[:3]
    out, expected = mask.compile("triton")(*tensors[:3], **inputs), dense(mask, *tensors)
    torch.testing.assert_close(out, expected, rtol=1e-9, atol=1e-9)
    for grad, other in zip(*(torch.autograd.grad(each, wanted, toward) for each in (out, expected)), strict=True):
        torch.testing.assert_close(grad, other, rtol=1e-8, atol=1e-8)


if __name__ == "__main__":
    torch.manual_seed(7)
    torch.Tensor.new_empty = poisoned  # type: ignore[method-assign]
    for name, pattern in maskdsl.parse(TEXT).items():
        for dims in DIMS if sys.argv[1:] else DIMS[name == "valued" :: 2]:
            compare(pattern.bind(heads=4), *dims)
    print("agreed")
