"""Trains Native Sparse Attention with a learned compression of blocks, and with their means, on associative recall.

Each query attends one compressed key for each past block, the tokens of the blocks whose compressed keys it gives the
largest shares, and a window; the three are added by gates (Yuan et al. 2025, "Native Sparse Attention: Hardware-Aligned
and Natively Trainable Sparse Attention", arXiv 2502.11089). A small network makes the compressed keys and values of all
keys and values of a block and of their places in it. No gradient flows through a selection: it learns from the first
branch, through the pattern. Tasks and model are those of train_routed.py.

    python examples/train_compression.py            # two CPU minutes
    python examples/train_compression.py --quick    # seconds, to see it run
"""

import argparse

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional
from train_routed import PATTERNS, Attention, Task, Transformer, fit

import maskdsl

PATTERN = """
pattern nsa(n, block, top, size) {
    space tokens[n]
    space blocks[n // block]
    queries tokens
    keys tokens ++ blocks
    input gate: float[3, batch, heads, tokens]
    input share: float[batch, heads, tokens, n // block]
    coord tokens.chunk = i // block
    coord blocks.chunk = blocks

    branch compressed {
        attend tokens -> blocks where (k.blocks + 1) * block <= q.tokens + 1
        weight gate[0, batch, head, q.tokens]
    }

    branch selected {
        route picked = topk(top, share[batch, head, q.tokens, k.chunk]) where k.chunk < q.chunk
        attend tokens -> tokens where causal and (same(chunk) or picked)
        weight gate[1, batch, head, q.tokens]
    }

    branch window {
        attend tokens -> tokens where backward(size)
        weight gate[2, batch, head, q.tokens]
    }
}
"""
HEADS, DIM, BLOCK, TOP = 2, 64, 16, 3


class Means(nn.Module):
    """Blocks [batch, heads, blocks, tokens of a block, dim] to [batch, heads, blocks, dim]."""

    def __init__(self, block: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=3)


class Learned(nn.Module):
    """The same by two layers over the vectors of a block, each with a vector of its place added; at first, the mean."""

    def __init__(self, block: int) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(block, DIM))
        self.into, self.out = nn.Linear(block * DIM, 4 * DIM), nn.Linear(4 * DIM, DIM)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=3) + self.out(functional.gelu(self.into((x + self.place).flatten(3))))


class Sparse(nn.Module):
    """Attention by the pattern: takes the place of `attend` of a layer."""

    def __init__(self, mask: maskdsl.Mask, compression: type[nn.Module]) -> None:
        super().__init__()
        self.block = dict(mask.ir.parameters)["block"]
        self.attend = mask.compile()
        self.key, self.value = compression(self.block), compression(self.block)
        self.gate = nn.Linear(DIM, 3)

    def shares(self, q: Tensor, keys: Tensor) -> Tensor:
        """What each query gives to past blocks, [batch, heads, tokens, blocks]."""
        ends = (torch.arange(keys.shape[2]) + 1) * self.block
        past = ends <= torch.arange(q.shape[2])[:, None] + 1
        return (q @ keys.mT * DIM**-0.5).masked_fill(~past, -torch.inf).softmax(dim=-1).nan_to_num(0.0)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = (compress(x.unflatten(2, (-1, self.block))) for compress, x in ((self.key, k), (self.value, v)))
        gate = self.gate(q).sigmoid().movedim(-1, 0)
        share = self.shares(q.detach(), keys.detach())
        return self.attend(q, torch.cat([k, keys], dim=2), torch.cat([v, values], dim=2), gate=gate, share=share)


def train(name: str, compression: type[nn.Module], task: Task, steps: int, seed: int) -> dict[int, float]:
    """Recall by steps."""
    dense = maskdsl.parse(PATTERNS)["dense"].bind(n=task.length, heads=HEADS)
    mask = maskdsl.parse(PATTERN)["nsa"].bind(n=task.length, block=BLOCK, top=TOP, size=BLOCK, heads=HEADS)
    torch.manual_seed(seed)
    model = Transformer(task, dense, width=HEADS * DIM)
    for attention in [module for module in model.modules() if isinstance(module, Attention)]:
        attention.attend = Sparse(mask, compression)
    return fit(model, task, steps, max(1, steps // 2), 4, seed, name)


def main(arguments: list[str] | None = None) -> None:
    words = argparse.ArgumentParser(description="Native Sparse Attention with means and with a learned compression.")
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--quick", action="store_true", help="a few steps on short sequences: nothing is learnt")
    given = words.parse_args(arguments)
    task, steps = (Task(length=64, pairs=4), 1) if given.quick else (Task(length=256, pairs=16), 60)
    found = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    found.add_column("blocks are compressed to")
    for name, compression in {"means": Means, "learned vectors": Learned}.items():
        curve = train(name, compression, task, steps, given.seed)
        if not found.rows:
            for step in curve:
                found.add_column(f"recall after {step} steps", justify="right")
        found.add_row(name, *(f"{right:.1%}" for right in curve.values()))
    Console(highlight=False).print(found)


if __name__ == "__main__":
    main()
