"""For scripts that train what selects, train_gate.py and train_indexer.py: a model that learns with dense attention and
is frozen, modules that learn from what its layers attend, and attention to what they select.
"""

import argparse
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from train_routed import PATTERNS, Attention, Task, Transformer, fit, recall

import maskdsl

HEADS, DIM, BATCH = 2, 64, 4
Inputs = Callable[[Tensor, Tensor], dict[str, Tensor]]
"""What a pattern is given, of queries and keys [batch, heads, tokens, dim]."""


class Learner(ABC, nn.Module):
    """Learns from the queries and keys of a layer what its dense attention does."""

    @abstractmethod
    def inputs(self, q: Tensor, k: Tensor) -> dict[str, Tensor]:
        """What the pattern selects by."""

    @abstractmethod
    def loss(self, q: Tensor, k: Tensor) -> Tensor:
        """How far that is from what dense attention does."""


class _Watched(nn.Module):
    """Dense attention that another module learns from; the loss of the last call is kept."""

    loss: Tensor

    def __init__(self, learner: Learner, attend: nn.Module) -> None:
        super().__init__()
        self.learner, self.attend = learner, attend

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self.loss = self.learner.loss(q, k)
        return self.attend(q, k, v)


class _Selected(nn.Module):
    """Attention to what is selected by these inputs; the pairs of the first sequence of all are counted."""

    density: float | None = None

    def __init__(self, inputs: Inputs, mask: maskdsl.Mask) -> None:
        super().__init__()
        self.inputs, self.mask, self.attend = inputs, mask, mask.compile()

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        given = self.inputs(q, k)
        if self.density is None:
            first = {name: each[:1].numpy() for name, each in {"q": q, "k": k, **given}.items()}
            self.density = float(self.mask.stats(**first).total.density)
        return self.attend(q, k, v, **given)


def probabilities(q: Tensor, k: Tensor) -> Tensor:
    """Of dense causal attention."""
    future = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).triu(1)
    return (q @ k.mT * q.shape[-1] ** -0.5).masked_fill(future, -torch.inf).softmax(dim=-1)


def _attentions(model: Transformer) -> list[Attention]:
    return [module for module in model.modules() if isinstance(module, Attention)]


def _replace(model: Transformer, attends: Sequence[nn.Module]) -> list[nn.Module]:
    """One for each layer; gives what was there."""
    before = [attention.attend for attention in _attentions(model)]
    for attention, attend in zip(_attentions(model), attends, strict=True):
        attention.attend = attend
    return before


class Study:
    """A frozen model, and a table of what it recalls when it attends what is selected in one way or another."""

    def __init__(self, mask: maskdsl.Mask, task: Task, steps: int, seed: int, title: str) -> None:
        self.mask, self.task, self.seed = mask, task, seed
        dense = maskdsl.parse(PATTERNS)["dense"].bind(n=task.length, heads=HEADS)
        torch.manual_seed(seed)
        self.model = Transformer(task, dense, width=HEADS * DIM)
        self.layers = len(_attentions(self.model))
        fit(self.model, task, steps, steps, BATCH, seed, "dense")
        self.model.requires_grad_(False)
        self.table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        self.table.add_column(title)
        for column in ("pairs attended", "recall"):
            self.table.add_column(column, justify="right")
        self._add("(dense)", float(dense.stats().total.density), self._recall())

    def _recall(self) -> float:
        return recall(self.model, self.task.tests(BATCH, self.seed))

    def _add(self, name: str, density: float | None, right: float) -> None:
        self.table.add_row(name, f"{density:.1%}", f"{right:.1%}")

    def select(self, name: str, inputs: Sequence[Inputs]) -> None:
        """A row: each layer attends what is selected by its inputs."""
        selected = [_Selected(each, self.mask) for each in inputs]
        dense = _replace(self.model, selected)
        right = self._recall()
        self._add(name, selected[0].density, right)
        _replace(self.model, dense)

    def learn(self, learners: Sequence[Learner], steps: int, rate: float) -> list[float]:
        """Trains one for each layer, and nothing else of the model; gives the loss of each step."""
        watched = [
            _Watched(learner, each.attend) for learner, each in zip(learners, _attentions(self.model), strict=True)
        ]
        dense = _replace(self.model, watched)
        optimizer = torch.optim.AdamW(nn.ModuleList(learners).parameters(), weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
        generator, losses = torch.Generator().manual_seed(self.seed + 3), []
        for _ in track(range(steps), description="learning ", transient=True):
            tokens, _ = self.task.batch(BATCH, generator)
            self.model(tokens)
            loss = torch.stack([each.loss for each in watched]).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        _replace(self.model, dense)
        return losses

    def print(self, losses: list[float]) -> None:
        console = Console(highlight=False)
        console.print(self.table)
        console.print(f"loss: {losses[0]:.2f} at first, {losses[-1]:.2f} after {len(losses)} steps")


def given(description: str, arguments: list[str] | None) -> tuple[Task, int, int]:
    """The task, the steps of the model, and the seed, from the command line."""
    words = argparse.ArgumentParser(description=description)
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--quick", action="store_true", help="a few steps on short sequences: nothing is learnt")
    read = words.parse_args(arguments)
    return (Task(length=128, pairs=8), 2, read.seed) if read.quick else (Task(), 60, read.seed)
