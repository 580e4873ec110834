"""Trains the indexer of DeepSeek sparse attention on what a dense model attends, and attends the keys that it selects.

A small transformer learns associative recall with dense attention (train_routed.py), and is frozen. An indexer for each
layer has small heads of its own: a query's product with a key counts where it is positive, and is weighted by head and
query (DeepSeek-AI 2025, "DeepSeek-V3.2: Pushing the Frontier of Open Large Language Models", arXiv 2512.02556). Its
softmax learns the dense probabilities, summed over the heads of the model. Then each query attends the few keys that
its indexer scores best, and no dense attention is computed.

    python examples/train_indexer.py            # two minutes on one core
    python examples/train_indexer.py --quick    # seconds, to see it run
"""

from pathlib import Path

import torch
from learned_scores import DIM, HEADS, Learner, Study, given, probabilities
from torch import Tensor, nn
from torch.nn import functional

import maskdsl

EXAMPLES = Path(__file__).parent
INDEX_HEADS, WIDTH, TOP = 4, 16, 16


class Indexer(Learner):
    """Queries, keys and weights of its own, of those of all heads of a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(HEADS * DIM, INDEX_HEADS * WIDTH, bias=False)
        self.key = nn.Sequential(nn.Linear(HEADS * DIM, WIDTH, bias=False), nn.LayerNorm(WIDTH))
        self.weight = nn.Linear(HEADS * DIM, INDEX_HEADS, bias=False)

    def inputs(self, q: Tensor, k: Tensor) -> dict[str, Tensor]:
        q, k = (x.transpose(1, 2).flatten(2) for x in (q, k))
        queries = self.query(q).unflatten(-1, (INDEX_HEADS, WIDTH)).transpose(1, 2)
        return {"iq": queries, "ik": self.key(k), "iw": self.weight(q).mT}

    def loss(self, q: Tensor, k: Tensor) -> Tensor:
        """How far its shares of past keys are from the dense probabilities of all heads (Kullback and Leibler)."""
        index = self.inputs(q, k)
        products = (index["iq"] @ index["ik"][:, None].mT * WIDTH**-0.5).relu()
        score = (index["iw"][..., None] * products).sum(dim=1)
        past = torch.ones(score.shape[-2:], dtype=torch.bool).tril()
        share = score.masked_fill(~past, -torch.inf).log_softmax(dim=-1)
        wanted = probabilities(q, k).mean(dim=1)
        return functional.kl_div(share[..., past], wanted[..., past], reduction="sum") / share[..., 0].numel()


def main(arguments: list[str] | None = None) -> None:
    task, steps, seed = given("The indexer of DeepSeek sparse attention, trained on dense attention.", arguments)
    dsa = maskdsl.load(EXAMPLES / "routing" / "dsa.attn")["dsa"]
    mask = dsa.bind(n=task.length, top=TOP, index_heads=INDEX_HEADS, width=WIDTH, heads=HEADS)
    study = Study(mask, task, steps, seed, "keys are scored by")
    indexers = [Indexer() for _ in range(study.layers)]
    study.select("untrained indexers", [indexer.inputs for indexer in indexers])
    losses = study.learn(indexers, 3 * steps, 1e-2)
    study.select("trained indexers", [indexer.inputs for indexer in indexers])
    study.print(losses)


if __name__ == "__main__":
    main()
