"""Trains SeerAttention's gate on what a dense model attends, and attends the blocks that it then selects.

A small transformer learns associative recall with dense attention (train_routed.py), and is frozen. Its gates score
blocks of keys for blocks of queries: the mean query of a block goes through one linear layer, the largest, the least
and the mean key of a block through another (Gao et al. 2024, "SeerAttention: Learning Intrinsic Sparse Attention in
Your LLMs", arXiv 2410.13276). They learn the largest probability in each tile of the dense attention. Then every block
of queries attends the blocks that its gate scores best, and no dense attention is computed.

    python examples/train_gate.py            # two minutes on one core
    python examples/train_gate.py --quick    # seconds, to see it run
"""

from pathlib import Path

import torch
from learned_scores import DIM, HEADS, Learner, Study, given, probabilities
from torch import Tensor, nn
from torch.nn import functional

import maskdsl

EXAMPLES = Path(__file__).parent
BLOCK, TOP = 8, 12


def in_blocks(x: Tensor) -> Tensor:
    """[batch, heads, tokens, dim] to [batch, heads, blocks, tokens of a block, dim]."""
    return x.unflatten(2, (-1, BLOCK))


def means(q: Tensor, k: Tensor) -> dict[str, Tensor]:
    """What scores blocks without a gate: the product of their means."""
    return {"gate": in_blocks(q).mean(dim=3) @ in_blocks(k).mean(dim=3).mT}


def maxima(q: Tensor, k: Tensor) -> dict[str, Tensor]:
    """What gates learn: the largest probability in each tile, [batch, heads, blocks, blocks]."""
    return {"gate": functional.max_pool2d(probabilities(q, k), BLOCK)}


class Gate(Learner):
    """Scores of blocks for blocks, [batch, heads, blocks, blocks]; each head has layers of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(HEADS, DIM, DIM) * DIM**-0.5)
        self.key = nn.Parameter(torch.randn(HEADS, 3 * DIM, DIM) * (3 * DIM) ** -0.5)

    def inputs(self, q: Tensor, k: Tensor) -> dict[str, Tensor]:
        keys = in_blocks(k)
        pooled = torch.cat([keys.amax(dim=3), keys.amin(dim=3), keys.mean(dim=3)], dim=-1)
        queries = in_blocks(q).mean(dim=3)
        return {"gate": (queries @ self.query) @ (pooled @ self.key).mT * DIM**-0.5}

    def loss(self, q: Tensor, k: Tensor) -> Tensor:
        """How far the shares that it gives to past blocks are from those of the maxima (Kullback and Leibler)."""
        score = self.inputs(q, k)["gate"]
        past = torch.ones(score.shape[-2:], dtype=torch.bool).tril()
        share = score.masked_fill(~past, -torch.inf).log_softmax(dim=-1)
        wanted = functional.normalize(maxima(q, k)["gate"], p=1, dim=-1)
        return functional.kl_div(share[..., past], wanted[..., past], reduction="sum") / share[..., 0].numel()


def main(arguments: list[str] | None = None) -> None:
    task, steps, seed = given("SeerAttention's gate, trained on dense attention.", arguments)
    seer = maskdsl.load(EXAMPLES / "routing" / "seer.attn")["seer"]
    mask = seer.bind(n=task.length, block=BLOCK, top=TOP, heads=HEADS)
    study = Study(mask, task, steps, seed, "blocks are scored by")
    gates = [Gate() for _ in range(study.layers)]
    study.select("their means", [means] * study.layers)
    study.select("untrained gates", [gate.inputs for gate in gates])
    losses = study.learn(gates, 3 * steps, 2e-2)
    study.select("trained gates", [gate.inputs for gate in gates])
    study.select("the largest probabilities", [maxima] * study.layers)
    study.print(losses)


if __name__ == "__main__":
    main()
