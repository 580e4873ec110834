"""Native Sparse Attention: three branches, each a pattern, added with gates.

Every query sees the means of past blocks, the tokens of the past blocks whose means it scores highest, and a window.
Source: Yuan et al. 2025, "Native Sparse Attention: Hardware-Aligned and Natively Trainable Sparse Attention"
(arXiv 2502.11089). By the paper's text, but that blocks are compressed to their means, where the paper learns how, and
that blocks of compression are those of selection.

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
COMPRESSED = """
## The means of those blocks that are past as a whole.
pattern compressed(n, block) {
    space tokens[n]
    space means = mean(tokens, block)
    queries tokens
    keys means
    attend (k.means + 1) * block <= q + 1
}
"""


class NativeSparseAttention(nn.Module):
    """Causal self-attention [batch, n, width] -> [batch, n, width]. Query heads share `key_heads` heads of keys; each
    branch has keys and values of its own, and for every token and head a gate between 0 and 1.
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
        self.heads, self.key_heads, self.block = heads, key_heads, block
        selected = maskdsl.load(EXAMPLES / "routing" / "nsa_selected.attn")["nsa_selected"]
        window = maskdsl.load(EXAMPLES / "language" / "sliding_window.attn")["sliding_window"]
        self.masks = {
            "compressed": maskdsl.parse(COMPRESSED)["compressed"].bind(n=n, block=block, heads=heads),
            "selected": selected.bind(n=n, block=block, top=top, size=block, heads=heads),
            "window": window.bind(n=n, size=size, heads=heads),
        }
        self.branches = [mask.compile() for mask in self.masks.values()]
        dim = width // heads
        self.query = nn.Linear(width, heads * dim, bias=False)
        self.key_value = nn.Linear(width, 6 * key_heads * dim, bias=False)
        self.gate = nn.Linear(width, 3 * heads)
        self.out = nn.Linear(heads * dim, width, bias=False)

    def vectors(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q [batch, heads, n, dim]; k and v of the three branches [3, batch, key heads, n, dim]."""
        q = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.key_value(x).unflatten(-1, (2, 3, self.key_heads, -1)).permute(2, 3, 0, 4, 1, 5)
        return q, k, v

    @torch.no_grad()
    def scores(self, q: Tensor, k: Tensor) -> Tensor:
        """What each query gives to each block when it attends their means, added up over the heads that share keys:
        [batch, heads, n, blocks]. No gradient flows through the choice.
        """
        tokens, shared = q.shape[2], self.heads // self.key_heads
        means = torch.stack([part.mean(dim=2) for part in k.split(self.block, dim=2)], dim=2)
        score = q @ means.repeat_interleave(shared, dim=1).mT * q.shape[-1] ** -0.5
        whole = (torch.arange(means.shape[2]) + 1) * self.block <= torch.arange(tokens)[:, None] + 1
        score = score.masked_fill(~whole, -torch.inf)
        weight = score.softmax(dim=-1).nan_to_num(0.0)  # the first queries have no block
        total = weight.unflatten(1, (self.key_heads, shared)).sum(dim=2)
        return total.repeat_interleave(shared, dim=1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.vectors(x)
        inputs: list[dict[str, Tensor]] = [{}, {"compressed": self.scores(q, k[0])}, {}]
        gates = self.gate(x).sigmoid().unflatten(-1, (3, self.heads)).permute(2, 0, 3, 1)[..., None]
        found = [
            gate * branch(q, each_k, each_v, **given)
            for branch, gate, each_k, each_v, given in zip(self.branches, gates, k, v, inputs, strict=True)
        ]
        return self.out(sum(found).transpose(1, 2).flatten(-2))


@torch.no_grad()
def table(attention: NativeSparseAttention, x: Tensor) -> Table:
    """What each branch attends, in the sequences x."""
    q, k, _ = attention.vectors(x)
    found = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("branch", "most keys of a query", "of all pairs"):
        found.add_column(column, justify="left" if column == "branch" else "right")
    for name, mask in attention.masks.items():
        given = {"compressed": attention.scores(q, k[0]).numpy()} if name == "selected" else {}
        total = mask.stats(**given).total
        pairs = total.attended / (len(x) * mask.heads * x.shape[1] ** 2)
        found.add_row(name, f"{total.most_keys:,}", f"{pairs:.2%}")
    return found


def main(arguments: list[str] | None = None) -> None:
    words = argparse.ArgumentParser(description="Native Sparse Attention from three patterns.")
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
