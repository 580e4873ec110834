"""Trains a tiny transformer on associative recall with dense, windowed and routed attention, and plots the four curves.

A sequence holds pairs of a key and a value somewhere in its first half, among noise; its last quarter asks for the keys
again, and the model is to name their values (multi-query associative recall: Arora et al. 2023, "Zoology: Measuring and
Improving Recall in Efficient Language Models"). No answer is within reach of the window, whatever the layers. Routed
attention computes about as few pairs, but chooses them by content.

    python examples/train_routed.py            # minutes on two cores
    python examples/train_routed.py --quick    # seconds, to see it run
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from time import process_time

import matplotlib

matplotlib.use("agg")  # before anything asks for a screen

import torch
from matplotlib import pyplot
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional

import maskdsl

PATTERNS = """
pattern dense(n) {
    space tokens[n]
    attend causal
}

pattern window(n, size) {
    space tokens[n]
    attend backward(size)
}

## MoBA: the own block, and the past blocks whose mean key answers best (examples/routing/moba.attn).
pattern moba(n, block, top) {
    space tokens[n]
    coord chunk = i // block
    route past = topk(top - 1, dot(q, mean(k by chunk))) where k.chunk < q.chunk
    attend causal and same(chunk)
    attend past
}

## Those whose nearest centroid is the same (examples/routing/clusters.attn), whose moving averages are learnt as in the
## Routing Transformer.
pattern clusters(n, clusters) {
    space tokens[n]
    input centroids: float[heads, clusters, dim]
    route cluster = nearest(centroids)
    attend causal and cluster
    order by cluster
}
"""
COLOURS = {"dense": "#555555", "window": "#d55e00", "moba": "#0072b2", "clusters": "#009e73"}


@dataclass(frozen=True)
class Task:
    """Sequences of `length` tokens: keys, values and noise have names of their own, in this order."""

    length: int = 512
    pairs: int = 24
    keys: int = 32
    values: int = 32
    noise: int = 8

    @property
    def asked_from(self) -> int:
        """The first place of a question; the last of a pair is before the middle."""
        return self.length * 3 // 4

    @property
    def patterns(self) -> dict[str, dict[str, int]]:
        """Parameters of each, by the length: no query of MoBA or the window sees more than 5 / 32 of the keys."""
        return {
            "dense": {},
            "window": {"size": self.length // 8},
            "moba": {"block": self.length // 32, "top": 5},
            "clusters": {"clusters": 16},
        }

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Tokens int [size, length], and the answers: their values' numbers, -1 where nothing is asked."""

        def drawn(count: int, among: int) -> Tensor:
            """Different numbers below `among`."""
            return torch.rand(size, among, generator=generator).argsort(dim=1)[:, :count]

        keys = drawn(self.pairs, self.keys)
        values = torch.randint(self.values, (size, self.pairs), generator=generator)
        positions = 2 * drawn(self.pairs, self.length // 4)
        questions = self.asked_from + drawn(self.pairs, self.length - self.asked_from)
        tokens = torch.randint(self.noise, (size, self.length), generator=generator) + self.keys + self.values
        tokens = (
            tokens.scatter(1, positions, keys).scatter(1, positions + 1, self.keys + values).scatter(1, questions, keys)
        )
        return tokens, torch.full_like(tokens, -1).scatter(1, questions, values)

    def tests(self, size: int, seed: int) -> list[tuple[Tensor, Tensor]]:
        """Eight batches that no training with this seed sees."""
        generator = torch.Generator().manual_seed(seed + 2)
        return [self.batch(size, generator) for _ in range(8)]


class Centroids(nn.Module):
    """Rows of unit variance [heads, clusters, dim], moving averages of the vectors nearest to them."""

    rows: Tensor

    def __init__(self, heads: int, clusters: int, dim: int, decay: float = 0.99) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("rows", functional.layer_norm(torch.randn(heads, clusters, dim), (dim,)))

    @torch.no_grad()
    def learn(self, *vectors: Tensor) -> None:
        """From queries and keys, [batch, heads, tokens, dim]."""
        found = torch.cat(vectors, dim=2).transpose(0, 1).flatten(1, 2)
        nearest = functional.one_hot((found @ self.rows.mT).argmax(dim=-1), self.rows.shape[1]).to(found)
        count = nearest.sum(dim=1)[..., None]
        mean = nearest.mT @ found / count.clamp(min=1)
        moved = torch.where(count > 0, torch.lerp(mean, self.rows, self.decay), self.rows)
        self.rows = functional.layer_norm(moved, moved.shape[-1:])


class Attention(nn.Module):
    """Queries and keys are one projection, keys mixed with those of the token before (a short convolution, as FlashMoBA
    has it): a value can then be found by the key in front of it. Routing by centroids normalises both.
    """

    def __init__(self, width: int, mask: maskdsl.Mask) -> None:
        super().__init__()
        self.mask, self.attend = mask, mask.compile()
        self.into = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.mix = nn.Parameter(torch.full((2, width), 0.5))
        self.gain = nn.Parameter(torch.full((mask.heads, 1, 1), 2.0))
        clusters = dict(mask.ir.parameters).get("clusters")
        self.centroids = Centroids(mask.heads, clusters, width // mask.heads) if isinstance(clusters, int) else None

    def vectors(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k, v: [batch, heads, tokens, dim]."""
        q, v = self.into(x).chunk(2, dim=-1)
        before = functional.pad(q, (0, 0, 1, 0))[:, :-1]
        k = self.mix[0] * before + self.mix[1] * q
        q, k, v = (each.unflatten(-1, (self.mask.heads, -1)).transpose(1, 2) for each in (q, k, v))
        if self.centroids is not None:
            q, k = (functional.layer_norm(each, each.shape[-1:]) for each in (q, k))
        return q * self.gain, k, v

    def inputs(self) -> dict[str, Tensor]:
        return {} if self.centroids is None else {"centroids": self.centroids.rows}

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.vectors(x)
        if self.centroids is not None and self.training:
            self.centroids.learn(q / self.gain, k)
        return self.out(self.attend(q, k, v, **self.inputs()).transpose(1, 2).flatten(-2))


class Block(nn.Module):
    def __init__(self, width: int, mask: maskdsl.Mask) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), Attention(width, mask))
        wide = nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        self.tokenwise = nn.Sequential(nn.LayerNorm(width), *wide)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)
        return x + self.tokenwise(x)


class Transformer(nn.Sequential):
    """Tokens [batch, length] to the logits of values [batch, length, values]. It knows no positions."""

    def __init__(self, task: Task, mask: maskdsl.Mask, width: int = 128, layers: int = 2) -> None:
        names = nn.Embedding(task.keys + task.values + task.noise, width)
        blocks = (Block(width, mask) for _ in range(layers))
        super().__init__(names, *blocks, nn.LayerNorm(width), nn.Linear(width, task.values))


@dataclass(frozen=True)
class Curve:
    steps: list[int]
    recall: list[float]
    """Of sequences that are not trained on, after these steps."""
    density: float
    """The share of all pairs that the first layer attends in one of them."""
    seconds: float
    """Of processors, tests included."""


def train(name: str, task: Task, steps: int, every: int, batch: int, seed: int) -> Curve:
    """The same weights to begin with and the same sequences for every pattern."""
    torch.manual_seed(seed)
    model = Transformer(task, maskdsl.parse(PATTERNS)[name].bind(n=task.length, heads=2, **task.patterns[name]))
    begin = process_time()
    found = fit(model, task, steps, every, batch, seed, name)
    seconds = process_time() - begin
    return Curve(list(found), list(found.values()), density(model, task.tests(batch, seed)[0][0][:1]), seconds)


def fit(model: Transformer, task: Task, steps: int, every: int, batch: int, seed: int, name: str) -> dict[int, float]:
    """Trains the model, and gives its recall after every so many steps."""
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.1)
    trained, tests = torch.Generator().manual_seed(seed + 1), task.tests(batch, seed)
    found = {0: recall(model, tests)}
    for step in track(range(1, steps + 1), description=f"{name:9}", transient=True):
        tokens, answers = task.batch(batch, trained)
        loss = functional.cross_entropy(model(tokens).flatten(0, 1), answers.flatten(), ignore_index=-1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % every == 0 or step == steps:
            found[step] = recall(model, tests)
    return found


@torch.no_grad()
def recall(model: Transformer, tests: list[tuple[Tensor, Tensor]]) -> float:
    """The share of questions answered rightly."""
    model.eval()
    right = torch.cat([(model(tokens).argmax(dim=-1) == answers)[answers >= 0] for tokens, answers in tests])
    model.train()
    return right.float().mean().item()


@torch.no_grad()
def density(model: Transformer, tokens: Tensor) -> float:
    norm, attention = model[1].attention
    q, k, _ = attention.vectors(norm(model[0](tokens)))
    routed = {"q": q, "k": k, **attention.inputs()} if attention.mask.ir.routed else {}
    return float(attention.mask.stats(**{name: each.numpy() for name, each in routed.items()}).total.density)


def table(curves: dict[str, Curve], task: Task) -> Table:
    found = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("attention", "pairs attended", "steps", "recall", "CPU seconds"):
        found.add_column(column, justify="left" if column == "attention" else "right")
    for name, curve in curves.items():
        row = f"{curve.density:.1%}", str(curve.steps[-1]), f"{curve.recall[-1]:.1%}", f"{curve.seconds:.0f}"
        found.add_row(name, *row)
    found.add_section()
    found.add_row("chance", "", "", f"{1 / task.values:.1%}", "")
    return found


def plot(curves: dict[str, Curve], task: Task, path: Path) -> None:
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for name, curve in curves.items():
        label = f"{name}: {curve.density:.0%} of all pairs"
        axes.plot(curve.steps, [100 * each for each in curve.recall], color=COLOURS[name], linewidth=2, label=label)
    axes.axhline(100 / task.values, color="#999999", linestyle=":", linewidth=1, label="chance")
    axes.set(xlabel="steps", ylabel="answers right, %", ylim=(-2, 102), xlim=(0, None))
    axes.set_title(f"Associative recall: {task.pairs} pairs among {task.length} tokens, answers beyond the window")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="center right")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main(arguments: list[str] | None = None) -> None:
    words = argparse.ArgumentParser(description="Associative recall with dense, windowed and routed attention.")
    words.add_argument("--steps", type=int, default=150, help="of training, each of 4 sequences")
    words.add_argument("--only", choices=list(COLOURS), nargs="+", default=list(COLOURS), help="some of the patterns")
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--out", type=Path, default=Path("train_routed.png"), help="the picture")
    words.add_argument("--quick", action="store_true", help="a few steps on short sequences: nothing is learnt")
    given = words.parse_args(arguments)
    if given.steps < 1:
        words.error("--steps must be 1 or more")
    if not given.out.parent.is_dir() or given.out.suffix not in (".png", ".svg", ".pdf"):
        words.error(f"{given.out} is no .png, .svg or .pdf in a folder that exists")
    task = Task()
    steps, every, batch = given.steps, 10, 4
    if given.quick:
        task, steps, every, batch = replace(task, length=128, pairs=8), 3, 1, 2
    curves = {name: train(name, task, steps, every, batch, given.seed) for name in given.only}
    Console(highlight=False).print(table(curves, task))
    plot(curves, task, given.out)
    print(f"wrote {given.out}")


if __name__ == "__main__":
    main()
