"""Native Sparse Attention: a layer of the three branches of `routing/nsa.attn`, with a learned compression and gates.

Every query sees past blocks as one key each, the tokens of the blocks that it gives the largest shares, and a window.
Source: Yuan et al. 2025, "Native Sparse Attention: Hardware-Aligned and Natively Trainable Sparse Attention"
(arXiv 2502.11089). By the paper's text, but that all branches share keys and values, as in
fla-org/native-sparse-attention, and that blocks of compression are those of selection.

    python examples/nsa.py [--tokens 4096]
"""

import argparse
from pathlib import Path
from time import perf_counter

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import maskdsl

EXAMPLES = Path(__file__).parent


class Compression(nn.Module):
    """One vector for each whole block [..., n, dim] -> [..., n // block, dim], of its tokens and their places in it."""

    def __init__(self, dim: int, block: int) -> None:
        super().__init__()
        self.block = block
        self.place = nn.Parameter(torch.zeros(block, dim))
        self.layers = nn.Sequential(nn.Linear(block * dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        whole = x.shape[-2] // self.block * self.block
        blocks = x[..., :whole, :].unflatten(-2, (-1, self.block))
        return self.layers((blocks + self.place).flatten(-2))


class NativeSparseAttention(nn.Module):
    """Causal self-attention [batch, n, width] -> [batch, n, width].

    Query heads share `key_heads` heads of keys, and have a gate between 0 and 1 for each token and branch.
    """

    def __init__(
        self,
        width: int,
        n: int,
        heads: int = 4,
        key_heads: int = 2,
        block: int = 64,
        top: int = 8,
        size: int = 256,
    ) -> None:
        super().__init__()
        self.heads, self.key_heads = heads, key_heads
        pattern = maskdsl.load(EXAMPLES / "routing" / "nsa.attn")["nsa_given"]
        self.mask = pattern.bind(n=n, block=block, top=top, size=size, heads=heads, key_heads=key_heads)
        self.attention = self.mask.compile()
        dim = width // heads
        self.query = nn.Linear(width, heads * dim, bias=False)
        self.key_value = nn.Linear(width, 2 * key_heads * dim, bias=False)
        self.compress_key, self.compress_value = Compression(dim, block), Compression(dim, block)
        self.gate = nn.Linear(width, 3 * heads, bias=False)
        self.out = nn.Linear(heads * dim, width, bias=False)

    def vectors(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """q [batch, heads, n, dim], k and v of the tokens and blocks, and the gates [branches, batch, heads, n]."""
        q = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.key_value(x).unflatten(-1, (2, self.key_heads, -1)).permute(2, 0, 3, 1, 4)
        k = torch.cat([k, self.compress_key(k)], dim=2)
        v = torch.cat([v, self.compress_value(v)], dim=2)
        gate = self.gate(x).sigmoid().unflatten(-1, (3, self.heads)).permute(2, 0, 3, 1)
        return q, k, v, gate

    def forward(self, x: Tensor) -> Tensor:
        q, k, v, gate = self.vectors(x)
        return self.out(self.attention(q, k, v, gate=gate).transpose(1, 2).flatten(-2))


@torch.no_grad()
def table(attention: NativeSparseAttention, x: Tensor) -> Table:
    """What each branch attends, in the sequences x."""
    q, k, _, gate = (each.numpy() for each in attention.vectors(x))
    found = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("branch", "most keys of a query", "of all pairs"):
        found.add_column(column, justify="left" if column == "branch" else "right")
    for name, mask in zip(("compressed", "selected", "window"), attention.mask.branches, strict=True):
        tensors = {"q": q, "k": k} if name == "selected" else {}
        total = mask.stats(gate=gate, **tensors).total
        pairs = total.attended / (len(x) * mask.heads * x.shape[1] ** 2)
        found.add_row(name, f"{total.most_keys:,}", f"{pairs:.2%}")
    return found


def main(arguments: list[str] | None = None) -> None:
    words = argparse.ArgumentParser(description="Native Sparse Attention, one pattern of three branches.")
    words.add_argument("--tokens", type=int, default=4096)
    tokens = words.parse_args(arguments).tokens
    torch.manual_seed(0)
    attention, x = NativeSparseAttention(256, tokens), torch.randn(1, tokens, 256)
    console = Console(highlight=False)
    console.print(table(attention, x))
    attention(x)  # compiles
    begin = perf_counter()
    out = attention(x)
    middle = perf_counter()
    out.square().mean().backward()
    console.print(f"{tokens:,} tokens: forward {middle - begin:.2f} s, backward {perf_counter() - middle:.2f} s")


if __name__ == "__main__":
    main()
