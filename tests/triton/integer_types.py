"""Run in a process of its own, with TRITON_INTERPRET=1: integers of every type, which kernels read as they are given.

Outputs and gradients are compared with those of the dense reference, which takes the same numbers in 64 bits. Prints
"agreed", or raises.
"""

import torch
from torch import Tensor

import maskdsl
from maskdsl.runtime.attention import Attention
from maskdsl.runtime.base.validate import INTEGER_TYPES

N = 70
PATTERNS = {
    # kernels read them as they are
    "packed": "input document: int[t]  attend causal and same(document)",
    "batched": "input document: int[batch, heads, t]  attend k.document <= q.document",
    "ordered": "input document: int[t]  attend same(document)  order t by document",
    "looked up": "input document: int[t]  attend causal and q - k < document[k] * 5",
    "scored": "input document: int[t]  attend causal  score s + float(q.document * 30 - k.document) / 64.0",
    "renamed": "input document: int[t]  coord group = document  attend same(group)",
    # functions of torch compute with them, in 64 bits
    "computed": "input document: int[t]  coord group = document * 100000 // 7  attend k.group <= q.group",
    "backwards": "input document: int[t]  attend same(document)  order t by document * -100000",
    "sunk": "input document: int[t]  attend same(document)  sink float(q.document * 100000) / 1000000.0",
    "by number": "input document: int[t]  coord group = document[i // 2] * 100000  attend k.group <= q.group",
}
"""Of 70 tokens."""
COMPUTED = ("computed", "backwards", "sunk", "by number")
torch.manual_seed(0)
VECTORS = [torch.randn(1, 2, N, 16, requires_grad=True) for _ in range(3)]


def numbers(name: str, dtype: torch.dtype) -> list[Tensor]:
    """Documents of a type, negative ones too: dense, every second one of twice as many, and one for all tokens."""
    shape = (1, 2, N) if name == "batched" else (N,)
    low, high = (0, 6) if dtype == torch.uint8 else (-3, 3)
    dense = torch.randint(low, high, shape).sort().values.to(dtype)
    limits = torch.iinfo(torch.int32 if dtype == torch.int64 else dtype)
    extreme = dense.clone()
    extreme[..., :9], extreme[..., -9:] = limits.min, limits.max
    spaced = torch.randint(low, high, (*shape[:-1], 2 * N), dtype=dtype)[..., ::2]
    several = [dense, spaced, dense[..., :1].expand(shape)]
    return [*several, extreme] if name in ("packed", "batched", "ordered", "renamed") else several


def agree(name: str, attention: Attention, reference: Attention, document: Tensor, differentiated: bool) -> None:
    """Whether a call, which reads these integers, and its gradients if wanted, are those of the reference."""
    results = []
    for each, given in ((attention, document), (reference, document.long())):
        out = each(*VECTORS, document=given)
        grads = torch.autograd.grad(out, VECTORS, torch.ones_like(out)) if differentiated else ()
        results.append((out, *grads))
    torch.testing.assert_close(*results, atol=1e-4, rtol=1e-4, msg=lambda text: f"{name}, {document.dtype}: {text}")


def main() -> None:
    for name, text in PATTERNS.items():
        mask = maskdsl.parse(f"pattern p(n = {N}) {{ space t[n]  {text} }}")["p"].bind(heads=2)
        attention, reference = mask.compile("triton"), mask.compile("reference")
        kernel = attention._compiled.default_kernel
        computed = {each.name for each in kernel.plan.mask.inputs} - kernel.backend.uncomputed_integers(kernel.plan)
        assert bool(computed) is (name in COMPUTED), name
        for dtype in INTEGER_TYPES if name == "packed" else (torch.int16,):
            for number, document in enumerate(numbers(name, dtype)):
                agree(name, attention, reference, document, name == "packed" and number in (0, 3))
    print("agreed")


if __name__ == "__main__":
    main()
