"""Packed sequences of unequal lengths, causal in each: `varlen` against FlexAttention's documents and torch's own."""

from collections.abc import Callable
from functools import partial

import torch
from contact.child import Keep
from contact.names import FLEX, OURS
from torch import Tensor

import maskdsl
from gpu.contest import Record, outcome
from gpu.exact import checked
from gpu.patterns import EXAMPLES, Size
from gpu.peers import block_mask_of, flex_with, our_backend
from gpu.timing import Step, Timer, device

TORCH = "torch varlen_attn"

Packed = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of q, k and v, [tokens, heads, dim]."""


def step(keep: Keep, seconds: float, lengths: list[int], heads: int, dim: int) -> Record:
    """The step on the GPU, in bfloat16."""
    return measure(lengths, heads, dim, torch.bfloat16, Timer(device(), seconds))


def measure(lengths: list[int], heads: int, dim: int, dtype: torch.dtype, timer: Timer) -> Record:
    """Errors of outputs and gradients against float64, and seconds of forward and backward passes together."""
    generator = torch.Generator(timer.device).manual_seed(0)
    shape = sum(lengths), heads, dim
    drawn = [torch.randn(shape, dtype=dtype, device=timer.device, generator=generator) for _ in range(4)]
    leaves, toward = [x.requires_grad_() for x in drawn[:3]], drawn[3]
    right = exactly(leaves, toward, lengths)
    record: Record = {"lengths": lengths, "contenders": {}}
    steps: dict[str, Step] = {}
    for name, prepare in {OURS: ours, FLEX: flex, TORCH: varlen}.items():
        entering = partial(enter, name, prepare, lengths, leaves, toward, right, steps)
        record["contenders"][name] = outcome(entering)
    for name, seconds in timer.in_turn(steps).items():
        record["contenders"][name]["seconds"] = seconds
    return record


def enter(
    name: str,
    prepare: Callable[[list[int], Tensor], Packed],
    lengths: list[int],
    leaves: list[Tensor],
    toward: Tensor,
    right: list[Tensor],
    steps: dict[str, Step],
) -> Record:
    compute = prepare(lengths, leaves[0])

    def both() -> list[Tensor]:
        out = compute(*leaves)
        return [out.detach(), *torch.autograd.grad(out, leaves, toward)]

    errors = {
        what: checked(what, each[:, -1], expected, expected.norm(dim=-1).max())
        for what, each, expected in zip(("output", "q", "k", "v"), both(), right, strict=True)
    }
    steps[name] = both
    return {"errors": errors}


def exactly(leaves: list[Tensor], toward: Tensor, lengths: list[int]) -> list[Tensor]:
    """The output and the gradients of the last head, [tokens, dim] in float64, sequence by sequence."""
    results: list[list[Tensor]] = []
    for q, k, v, grad in zip(*(x.detach()[:, -1].double().split(lengths) for x in (*leaves, toward)), strict=True):
        wide = [x.clone().requires_grad_() for x in (q, k, v)]
        hidden = torch.ones(len(q), len(q), dtype=torch.bool, device=q.device).triu(1)
        scores = (wide[0] @ wide[1].mT * q.shape[-1] ** -0.5).masked_fill(hidden, -torch.inf)
        out = scores.softmax(-1) @ wide[2]
        results.append([out.detach(), *torch.autograd.grad(out, wide, grad)])
    return [torch.cat(each) for each in zip(*results, strict=True)]


def ends(lengths: list[int], device: torch.device) -> Tensor:
    return torch.tensor([0, *lengths], device=device).cumsum(0).int()


def ours(lengths: list[int], q: Tensor) -> Packed:
    pattern = maskdsl.load(EXAMPLES / "language/causal.attn")["causal_dense"]
    attention = pattern.bind(n=max(lengths), heads=q.shape[1]).compile(our_backend(q.device))
    return partial(attention.varlen, cu_seqlens_q=ends(lengths, q.device))  # type: ignore[return-value]


def flex(lengths: list[int], q: Tensor) -> Packed:
    """With the block mask made once, which ours has no need of."""
    document = torch.arange(len(lengths), device=q.device).repeat_interleave(torch.tensor(lengths, device=q.device))
    size = Size(len(document), q.shape[1], q.device)
    block_mask = block_mask_of(lambda b, h, q, k: (k <= q) & (document[q] == document[k]), size)
    compute = flex_with(block_mask, None, None, q.device)

    def attend(*tensors: Tensor) -> Tensor:
        out = compute(*(x.transpose(0, 1)[None] for x in tensors))
        return out[0].transpose(0, 1)

    return attend


def varlen(lengths: list[int], q: Tensor) -> Packed:
    from torch.nn.attention.varlen import varlen_attn  # late: older versions of torch do not have it

    positions = {"cu_seq_q": ends(lengths, q.device), "cu_seq_k": ends(lengths, q.device)}
    return partial(varlen_attn, **positions, max_q=max(lengths), max_k=max(lengths), window_size=(-1, 0))
