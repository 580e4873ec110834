"""Run in a process of its own, with TRITON_INTERPRET=1: tensors of awkward shapes and strides, against the reference.

Results are NaN before kernels run. With `whole` all shapes, otherwise one of each kind. Prints `agreed` at the end; any
difference raises.
"""

import sys

import torch

import maskdsl
from maskdsl.runtime.backends.available import usable_backends
from tests.triton.interpreted import poisoned

TEXT = """
pattern band(n) { space tokens[n]  attend window(9) and causal }
pattern laid_out(h = 5, w = 7) { space image[y = h, x = w]  attend window((3, 3))  order by x // 2, y }
pattern by_cluster(n = 37) {
    space tokens[n]
    input cluster: int[batch, heads, tokens]
    attend same(cluster)
    order by cluster
}
pattern extreme(n = 5) {
    space tokens[n]
    input level: int[tokens]
    attend abs(q.level) >= abs(k.level) and gcd(q.level, k.level) != 2 ** 31 - 1
}
pattern together(n = 41) { space tokens[n]  input part: int[tokens]  attend same(part) }
pattern crossed(n = 33, m = 50) { space a[n]  space b[m]  queries a  keys b  attend abs(q * 3 // 2 - k) < 6 }
"""
MODULE = maskdsl.parse(TEXT)


def compare(mask: maskdsl.Mask, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **inputs: torch.Tensor) -> None:
    """Compares output and log-sum-exp with those of the reference, in declared and in laid-out order."""
    tolerance = 2e-3 if q.dtype == torch.float16 else 1e-5
    for layout in ("declared", "ordered"):
        found, expected = (
            mask.compile(backend)(q, k, v, return_lse=True, layout=layout, **inputs)
            for backend in ("triton", "reference")
        )
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other.to(one.dtype), rtol=tolerance, atol=tolerance)


def awkward(heads: int, length: int, dim: int) -> list[torch.Tensor]:
    """Tensors of one shape in memory as [batch, tokens, heads, dim], with gaps, dim first, and with batch stride 0."""
    return [
        torch.randn(2, length, heads, dim).transpose(1, 2),
        torch.randn(2, heads, 2 * length, dim + 3)[:, :, ::2, 1:-2],
        torch.randn(2, heads, dim, length).transpose(2, 3),
        torch.randn(1, heads, length, dim).expand(2, -1, -1, -1),
    ]


def views(heads: int, length: int, dim: int) -> list[torch.Tensor]:
    """Tensors of one shape whose strides 8 divides if it divides `dim`, and the same with strides that are odd."""
    return [
        torch.randn(2, length, 3, heads, dim)[:, :, 1].transpose(1, 2),
        torch.randn(2, 3 * heads, length, dim)[:, heads : 2 * heads],
        torch.randn(2, length, heads, dim + 1)[..., 1:].transpose(1, 2),
        torch.randn(1, 3, heads, length, dim)[:, 1].expand(2, -1, -1, -1),
    ]


def compare_views(mask: maskdsl.Mask, length: int, dim: int) -> None:
    """Each view as q, k, v and the gradient of the output, in full and partial calls, forward and backward."""
    queries, keys, grads = (views(heads, length, dim) for heads in (mask.heads, mask.heads // 2, mask.heads))
    for query, key, toward in zip(queries, reversed(keys), grads[2:] + grads[:2], strict=True):
        results = []
        for backend in ("triton", "reference"):
            attention = mask.compile(backend)
            tensors = [each.detach().requires_grad_() for each in (query, key, key.roll(1, 2))]
            out = attention(*tensors)
            last = attention(query[:, :, -3:], key, key, query_start=length - 3)
            results.append((out, last, *torch.autograd.grad(out, tensors, toward)))
        for found, expected in zip(*results, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def compare_gradients(mask: maskdsl.Mask, length: int, **inputs: torch.Tensor) -> None:
    """A full tile of a last query block that is cut: queries past the end contribute nothing."""
    tensors = [torch.randn(1, mask.heads, length, 16, dtype=torch.float64, requires_grad=True) for _ in "qkv"]
    toward = torch.randn(1, mask.heads, length, 16, dtype=torch.float64)
    outs = [mask.compile(backend)(*tensors, **inputs) for backend in ("triton", "reference")]
    found, expected = (torch.autograd.grad(out, tensors, toward) for out in outs)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def compare_tokens_first(mask: maskdsl.Mask, *axes: int) -> None:
    """Tensors in which tokens have the axes of a grid and stand before heads, with gradients, and a partial call."""
    tensors = [torch.randn(1, *axes, mask.heads, 16, dtype=torch.float64, requires_grad=True) for _ in "qkv"]
    toward = torch.randn(1, *axes, mask.heads, 16, dtype=torch.float64)
    attentions = [mask.compile(backend, layout="bnhd") for backend in ("triton", "reference")]
    results = [attention(*tensors, return_lse=True) for attention in attentions]
    grads = [torch.autograd.grad(out, tensors, toward) for out, _ in results]
    q, k, v = (x.detach().flatten(1, -3) for x in tensors)
    last = [attention(q[:, -2:], k, v, query_start=k.shape[1] - 2) for attention in attentions]
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    for found, expected in (*zip(*grads, strict=True), last):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def compare_packed(mask: maskdsl.Mask, lengths: list[int]) -> None:
    """Packed sequences of these lengths."""
    ends = torch.tensor([0, *lengths]).cumsum(0)
    q, k, v = (torch.randn(sum(lengths), heads, 24) for heads in (4, 2, 2))
    found, expected = (
        mask.compile(backend).varlen(q, k, v, ends, return_lse=True) for backend in ("triton", "reference")
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def main(whole: bool) -> None:
    assert "triton" in usable_backends()
    torch.Tensor.new_empty = poisoned  # type: ignore[method-assign]
    heads = 4 if whole else 2
    for length in (1, 2, 31, 33, 70) if whole else (1, 33):
        mask = MODULE["band"].bind(n=length, heads=heads)
        for query, key in zip(awkward(heads, length, 16), reversed(awkward(heads // 2, length, 16)), strict=True):
            compare(mask, query, key, key.flip(2))
    for dim, value_dim in ((1, 1), (16, 40), (72, 24), (256, 128)):
        q, k, v = (torch.randn(1, 2, 40, size) for size in (dim, dim, value_dim))
        compare(MODULE["band"].bind(n=40), q, k, v)
    for dim in (40, 72, 88, 104, 20, 17) if whole else (40, 17):
        compare_views(MODULE["band"].bind(n=33, heads=heads), 33, dim)
    compare(MODULE["laid_out"].bind(heads=2), *(torch.randn(2, heads, 35, 16) for heads in (2, 1, 1)))
    cluster = torch.randint(0, 3, (2, 4, 37))
    compare(MODULE["by_cluster"].bind(heads=4), *(torch.randn(2, n, 37, 16) for n in (4, 2, 2)), cluster=cluster)
    level = torch.tensor([-(2**31), 2**31 - 1, 0, -(2**31) + 1, 7])
    compare(MODULE["extreme"].bind(), *(torch.randn(1, 1, 5, 16) for _ in "qkv"), level=level)
    half = (torch.randn(3, n, length, 32).half() for n, length in ((4, 33), (4, 50), (4, 50)))
    compare(MODULE["crossed"].bind(heads=4), *half)
    compare_gradients(MODULE["together"].bind(), 41, part=torch.zeros(41, dtype=torch.int64))
    compare_tokens_first(MODULE["laid_out"].bind(heads=2), 5, 7)
    compare_packed(MODULE["band"].bind(n=90, heads=4), [40, 1, 0, 23, 90])
    print("agreed")


if __name__ == "__main__":
    main(sys.argv[1:] == ["whole"])
