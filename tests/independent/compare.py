"""Holds the product against the second meaning: `python -m tests.independent.compare FIRST COUNT [--triton]`.

Every seed is a program. What differs is shrunk and printed, as a file and a call to paste.
"""

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from random import Random

import numpy as np
import torch

import maskdsl
from tests.independent.derivatives import Number, plain
from tests.independent.layers import layers_of
from tests.independent.meaning import Meaning
from tests.independent.pooling import pooled_keys, spread, vectors
from tests.independent.programs import Drawn, arrays, draw
from tests.independent.reader import read
from tests.independent.records import add, commit
from tests.independent.selection import Unclear, needs_others
from tests.independent.tokens import Token

DIM = 4
ROOM = 1e-8
"""Relative to the largest number: float64, with sums in another order."""
LARGEST = 1e290
"""Gradients beyond it may leave float64 where sums are in another order."""
SLOW = 5.0
"""Seconds of the product that are too many for so small a program."""


class Differs(AssertionError):
    """The product says something else."""


@dataclass(frozen=True)
class PairNumbers:
    """The final score of a pair, the product that it comes from, the weight, and the inputs that were read."""

    score: Number
    dot: Number
    weight: object
    leaves: dict[tuple[str, tuple[int, ...]], Number]


@dataclass(frozen=True)
class Truth:
    """All numbers of one program, from pairs one by one."""

    drawn: Drawn
    inputs: dict[str, np.ndarray]
    tensors: tuple[np.ndarray, np.ndarray, np.ndarray]
    """q [batch, heads, queries, DIM], k and v [batch, key heads, given keys, DIM]."""

    @cached_property
    def meaning(self) -> Meaning:
        drawn = self.drawn
        learned = frozenset(name for name, declared in drawn.inputs.items() if declared.kind == "float")
        file = read(drawn.text, drawn.files)
        found = Meaning.of(file, drawn.heads, self.inputs, learned, values=drawn.values, key_heads=drawn.key_heads)
        found.vectors = vectors(found, self.tensors)
        return found

    @cached_property
    def relation(self) -> dict[str, np.ndarray]:
        """The inputs of the relation, as the product takes them."""
        if not self.meaning.routes:
            return self.inputs
        return self.inputs | dict(zip("qk", self.tensors[:2], strict=True))

    @cached_property
    def attends(self) -> np.ndarray:
        """bool [batch, heads, queries, keys]."""
        entries = range(self.drawn.batch), range(self.drawn.heads)
        return np.array([[self.meaning.dense(head, batch) for head in entries[1]] for batch in entries[0]])

    def misses_queries(self, rows: list[list[int]]) -> bool:
        """Whether a route cannot be found for these queries of each batch entry alone."""
        for entry, present in enumerate(rows):
            for head in range(self.drawn.heads):
                self.meaning.head, self.meaning.batch = head, entry
                if any(needs_others(self.meaning, route, {*present}) for route in self.meaning.routes):
                    return True
        return False

    @cached_property
    @np.errstate(all="ignore")
    def numbers(self) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]] | None:
        """The output, the log-sum-exp and all gradients along `grads`; None where a score is NaN or plus infinity."""
        drawn, meaning = self.drawn, self.meaning
        q, k, v = self.tensors
        grad_out, grad_lse = self.grads
        out, lse = np.zeros_like(grad_out), np.full(grad_lse.shape, -np.inf)
        found = {name: np.zeros_like(x) for name, x in (("q", q), ("k", k), ("v", v))}
        found |= {name: np.zeros(x.shape) for name, x in self.inputs.items() if name in meaning.learned}
        for batch, head in np.ndindex(drawn.batch, drawn.heads):
            meaning.head, meaning.batch = head, batch
            shared = head * drawn.key_heads // drawn.heads
            keys, key_backs = pooled_keys(meaning, k[batch, shared])
            values, value_backs = pooled_keys(meaning, v[batch, shared])
            for row, query in enumerate(meaning.tokens["q"]):
                columns = np.flatnonzero(self.attends[batch, head, row])
                pairs = [self.pair(query, meaning.tokens["k"][n], q[batch, head, row], keys[n]) for n in columns]
                scores = np.array([pair.score.value for pair in pairs])
                weights = np.array([plain(pair.weight) for pair in pairs], dtype=float)
                if np.isnan(scores).any() or (scores == np.inf).any() or not np.isfinite(weights).all():
                    return None
                if not len(columns) or scores.max() == -np.inf:
                    continue
                highest = scores.max()
                p = np.exp(scores - highest)
                lse[batch, head, row] = highest + np.log(p.sum())
                p /= p.sum()
                out[batch, head, row] = (p * weights) @ values[columns]
                outer, outer_lse = grad_out[batch, head, row], grad_lse[batch, head, row]
                along = values[columns] @ outer
                slopes = p * (along * weights - outer @ out[batch, head, row] + outer_lse)
                for place, (column, pair) in enumerate(zip(columns, pairs, strict=True)):
                    spread(value_backs[column], p[place] * weights[place] * outer, found["v"][batch, shared])
                    through = pair.score.gradients() if slopes[place] else {}
                    slope = through.get(pair.dot, 0.0) * slopes[place]
                    found["q"][batch, head, row] += slope * keys[column]
                    spread(key_backs[column], slope * q[batch, head, row], found["k"][batch, shared])
                    by_weight = pair.weight.gradients() if isinstance(pair.weight, Number) else {}
                    for (name, index), leaf in pair.leaves.items():
                        found[name][index] += through.get(leaf, 0.0) * slopes[place]
                        found[name][index] += by_weight.get(leaf, 0.0) * p[place] * along[place]
        if not all((np.abs(x) < LARGEST).all() for x in found.values()):
            return None
        return out, lse, found

    def pair(self, query: Token, key: Token, q: np.ndarray, k: np.ndarray) -> "PairNumbers":
        leaves: dict[tuple[str, tuple[int, ...]], Number] = {}
        self.meaning.leaves = leaves
        score, dot = self.meaning.score(query, key, float(q @ k), DIM)
        return PairNumbers(score, dot, self.meaning.weight(query, key), leaves)

    @cached_property
    def grads(self) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng(7)
        batch, heads, queries, _ = self.tensors[0].shape
        return random.normal(size=(batch, heads, queries, DIM)), random.normal(size=(batch, heads, queries))


# What the product says


def truth_of(drawn: Drawn, seed: int) -> Truth:
    inputs = arrays(drawn, seed)
    random = np.random.default_rng(seed + 1)
    meaning = Meaning.of(read(drawn.text, drawn.files), drawn.heads, inputs, values=drawn.values)
    given = sum(space.size for space in meaning.given_keys)
    q = random.normal(size=(drawn.batch, drawn.heads, len(meaning.tokens["q"]), DIM))
    k, v = (random.normal(size=(drawn.batch, drawn.key_heads, given, DIM)) for _ in range(2))
    if random.random() < 0.3:
        q, k = np.round(q), np.round(k)  # so that there are ties
    return Truth(drawn, inputs, (q, k, v))


def check(drawn: Drawn, seed: int, backends: tuple[str, ...]) -> str:
    """What became of one program: "equal", "refused" by the binder, "no numbers", or "unclear". Raises `Differs`."""
    try:
        module = loaded(drawn)
        with warnings.catch_warnings(action="ignore", category=maskdsl.AttnWarning):
            mask = module["drawn"].bind(heads=drawn.heads, key_heads=drawn.key_heads, **drawn.values)
    except maskdsl.AttnError as error:
        return "refused " + min(each.code for each in error.diagnostics)
    truth = truth_of(drawn, seed)
    try:
        truth.attends  # noqa: B018  # computed, or unclear
    except Unclear:
        return "unclear"
    check_tiles(mask, truth, Random(seed))
    check_stack(module, truth, Random(seed))
    if truth.numbers is None:
        return "no numbers"
    for backend in backends:
        check_backend(mask, truth, backend)
        check_parts(mask, truth, backend, Random(seed))
    return "equal"


def loaded(drawn: Drawn) -> maskdsl.Module:
    with warnings.catch_warnings(action="ignore", category=maskdsl.AttnWarning):
        if not drawn.files:
            return maskdsl.parse(drawn.text)
        with tempfile.TemporaryDirectory() as folder:
            for name, text in {**drawn.files, "drawn.attn": drawn.text}.items():
                (Path(folder) / name).write_text(text)
            return maskdsl.load(Path(folder) / "drawn.attn")


def check_tiles(mask: maskdsl.Mask, truth: Truth, random: Random) -> None:
    block = random.randint(1, 9), random.randint(1, 9)
    inputs = truth.relation
    tiles, stats = mask.tiles(block, **inputs), mask.stats(block, **inputs)
    attended = full = partial = 0
    for batch, head in np.ndindex(truth.drawn.batch, truth.drawn.heads):
        expected = truth.attends[batch, head]
        attended += int(expected.sum()) if batch < stats.batch else 0
        equal("meaning", mask.dense(head=head, batch=batch, **inputs), expected)
        if truth.meaning.laid_out_freely:
            continue
        laid = expected[np.ix_(*(truth.meaning.layout(side, head, batch) for side in "qk"))]
        classes = classes_of(laid, block)
        found = tiles.classes(head, batch if len(tiles.variant_of) > 1 else 0)
        equal(f"tiles of {block}, head {head}, batch {batch}", found, classes)
        if batch < stats.batch:
            full, partial = full + int((classes == 2).sum()), partial + int((classes == 1).sum())
    total = stats.total
    if truth.meaning.laid_out_freely:
        full, partial = total.full_tiles, total.partial_tiles
    found_counts = total.attended, total.full_tiles, total.partial_tiles
    equal("pairs, full and partial tiles", np.array(found_counts), np.array([attended, full, partial]))


def classes_of(attends: np.ndarray, block: tuple[int, int]) -> np.ndarray:
    rows, columns = (range(0, length, size) for length, size in zip(attends.shape, block, strict=True))
    parts = [[attends[r : r + block[0], c : c + block[1]] for c in columns] for r in rows]
    return np.array([[2 if part.all() else int(part.any()) for part in row] for row in parts])


def check_stack(module: maskdsl.Module, truth: Truth, random: Random) -> None:
    """The layers of a stack, and where information reaches through them, for the first batch entry."""
    drawn = truth.drawn
    if "layers" not in module.stacks or drawn.batch > 1 or truth.meaning.routes:
        return
    given = {"times": random.randint(0, 3)} if random.random() < 0.5 else {}
    try:
        with warnings.catch_warnings(action="ignore", category=maskdsl.AttnWarning):
            bound = module.stack("layers").bind(heads=drawn.heads, key_heads=drawn.key_heads, **given)
    except maskdsl.AttnError:
        return
    layers = layers_of(truth.meaning.file, "layers", drawn.heads, given)
    assert len(bound) == len(layers), (len(bound), layers)
    kept: dict[str, np.ndarray] = {}
    hops = []
    for mask, (name, values) in zip(bound.layers, layers, strict=True):
        key = repr((name, values))
        if key not in kept:
            meaning = Meaning.of(truth.meaning.file, drawn.heads, truth.inputs, name=name, values=values)
            kept[key] = np.array([meaning.dense(head, 0) for head in range(drawn.heads)])
            for head, expected in enumerate(kept[key]):
                own = {each.name: truth.inputs[each.name] for each in mask.inputs}
                equal(f"layer {key}, head {head}", mask.dense(head=head, **own), expected)
        hops.append(kept[key].any(axis=0) | np.eye(bound.length, dtype=bool))
    token = random.randrange(bound.length)
    own = {each.name: truth.inputs[each.name] for each in bound.inputs}
    growth = bound.field(token, len(hops), **own).as_dict()["growth"]
    reach = np.eye(bound.length, dtype=bool)
    for found, hop in zip(growth, [None, *hops], strict=True):
        reach = reach if hop is None else hop @ reach
        counts = [found[way][what] for way in ("draws_from", "read_by") for what in ("tokens", "at_most")]
        expected = [reach[token].sum()] * 2 + [reach[:, token].sum()] * 2
        equal(f"field of {token} after {found['layers']} layers", np.array(counts), np.array(expected))


def check_backend(mask: maskdsl.Mask, truth: Truth, backend: str) -> None:
    assert truth.numbers is not None
    out, lse, gradients = truth.numbers
    began = time.process_time()
    tensors = [torch.tensor(x, requires_grad=True) for x in truth.tensors]
    inputs = {
        each.name: torch.tensor(truth.inputs[each.name], requires_grad=truth.inputs[each.name].dtype == np.float64)
        for each in mask.inputs
    }
    found, found_lse = mask.compile(backend)(*tensors, return_lse=True, **inputs)
    near(f"{backend}: output", found.detach().numpy(), out)
    near(f"{backend}: log-sum-exp", found_lse.detach().numpy(), lse)
    grad_out, grad_lse = (torch.tensor(x) for x in truth.grads)
    if found.requires_grad:
        torch.autograd.backward([found, found_lse], [grad_out, grad_lse])
    leaves = dict(zip("qkv", tensors, strict=True)) | {name: x for name, x in inputs.items() if x.requires_grad}
    for name, leaf in leaves.items():
        grad = np.zeros(leaf.shape) if leaf.grad is None else leaf.grad.numpy()
        near(f"{backend}: gradient of {name}", grad, gradients[name])
    took = time.process_time() - began
    if took > SLOW and backend != "triton":
        raise Differs(f"{backend}: {took:.1f} s")


def check_parts(mask: maskdsl.Mask, truth: Truth, backend: str, random: Random) -> None:
    """Some queries, over keys in one piece, over pages in any order among others of NaN, and packed sequences."""
    assert truth.numbers is not None
    out, lse, _ = truth.numbers
    attention = mask.compile(backend)
    inputs = {each.name: torch.tensor(truth.inputs[each.name]) for each in mask.inputs}
    q, k, v = map(torch.tensor, truth.tensors)
    batch, _, length, _ = q.shape
    count = length if truth.meaning.routes and random.random() < 0.4 else random.randint(1, length)
    starts = torch.tensor([random.randint(0, length - count) for _ in range(batch)])
    rows = (starts[:, None] + torch.arange(count))[:, None]
    own = q.take_along_dim(rows[..., None], 2)
    expected = [np.take_along_axis(out, rows[..., None].numpy(), 2), np.take_along_axis(lse, rows.numpy(), 2)]
    size = random.randint(1, 5)
    table, pages = paged(random, (k, v), size)
    calls = {"some queries": (k, v, {}), "pages": (*pages, {"page_table": table, "page_size": size})}
    lengths = torch.full((batch,), k.shape[2])
    for name, (keys, values, others) in calls.items():
        where = {"query_start": starts, "key_lengths": lengths, **others}
        if truth.misses_queries(rows[:, 0].tolist()):
            refused(f"{backend}: {name}", "E453", lambda a=(own, keys, values), b=where | inputs: attention(*a, **b))
            continue
        found = attention(own, keys, values, return_lse=True, **where, **inputs)
        for what, one, other in zip(("output", "log-sum-exp"), found, expected, strict=True):
            near(f"{backend}: {name}: {what}", one.numpy(), other)
    if not any(space.source for space in truth.meaning.spaces.values()):  # packed keys cannot be pooled
        ends = [torch.arange(batch + 1) * x.shape[2] for x in (q, k)]
        packed = (x.transpose(1, 2).flatten(0, 1) for x in (q, k, v))
        found = attention.varlen(*packed, *ends, return_lse=True, **inputs)
        near(f"{backend}: varlen: output", found[0].unflatten(0, (batch, -1)).transpose(1, 2).numpy(), out)
        near(f"{backend}: varlen: log-sum-exp", found[1].unflatten(1, (batch, -1)).transpose(0, 1).numpy(), lse)


def refused(what: str, code: str, call: Callable[[], object]) -> None:
    try:
        call()
    except maskdsl.AttnError as error:
        if error.diagnostics[0].code == code:
            return
        raise
    raise Differs(f"{what}: no {code}")


def paged(random: Random, tensors: tuple[torch.Tensor, ...], size: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """A table of pages, and [pages, heads, size, dim] of each tensor; what no token stands in is NaN."""
    batch, heads, length, dim = tensors[0].shape
    each = -(-length // size)
    numbers = list(range(batch * each + 3))
    random.shuffle(numbers)
    table = torch.tensor(numbers[: batch * each]).reshape(batch, each)
    found = []
    for x in tensors:
        pages = torch.full((len(numbers), heads, size, dim), torch.nan, dtype=x.dtype)
        for entry, row in enumerate(table.tolist()):
            for number, page in enumerate(row):
                part = x[entry, :, number * size : (number + 1) * size]
                pages[page, :, : part.shape[1]] = part
        found.append(pages)
    return table, found


def equal(what: str, found: np.ndarray, expected: np.ndarray) -> None:
    if found.shape != expected.shape or not (found == expected).all():
        raise Differs(f"{what}: first at {np.argwhere(found != expected)[:1].tolist()}\n{found}\nis not\n{expected}")


def near(what: str, found: np.ndarray, expected: np.ndarray) -> None:
    finite = np.isfinite(expected)
    room = ROOM * max(1.0, np.abs(expected[finite]).max(initial=0.0))
    wrong = (
        np.isnan(found)
        | (np.isfinite(found) != finite)
        | (finite & (np.abs(found - np.where(finite, expected, 0)) > room))
    )
    if wrong.any():
        place = tuple(np.argwhere(wrong)[0].tolist())
        raise Differs(f"{what} at {place}: {found[place]} is not {expected[place]}")


# Shrinking, and campaigns


def smaller(drawn: Drawn) -> Iterator[Drawn]:
    """The program without one of its lines, or with fewer heads or entries."""
    lines = drawn.text.splitlines()
    for number in range(len(lines) - 2, 0, -1):
        text = "\n".join([*lines[:number], *lines[number + 1 :]]) + "\n"
        word = lines[number].split()
        rest = {name: shape for name, shape in drawn.inputs.items() if word[0] != "input" or word[1] != f"{name}:"}
        yield replace(drawn, text=text, inputs=rest)


def shrunk(drawn: Drawn, seed: int, backends: tuple[str, ...]) -> Drawn:
    for candidate in smaller(drawn):
        if differs(candidate, seed, backends):
            return shrunk(candidate, seed, backends)
    return drawn


def differs(drawn: Drawn, seed: int, backends: tuple[str, ...]) -> str | None:
    try:
        check(drawn, seed, backends)
    except Differs as error:
        return str(error)
    except Exception:
        return None
    return None


def campaign(first: int, count: int, backends: tuple[str, ...], stop: bool = False) -> tuple[Counter[str], float]:
    """Programs `first` to `first + count`. Prints what differs; the counts, and the longest time of one in seconds.

    With `stop`, the first that differs is the last, and is printed as it is drawn.
    """
    counts: Counter[str] = Counter()
    longest = 0.0
    for seed in range(first, first + count):
        drawn = draw(seed)
        began = time.process_time()
        try:
            counts[check(drawn, seed, backends)] += 1
        except Exception as error:
            counts["different"] += 1
            least = shrunk(drawn, seed, backends) if isinstance(error, Differs) and not stop else drawn
            print(f"--- seed {seed}: {differs(least, seed, backends) or repr(error)}")
            print(f"# heads={least.heads}, key_heads={least.key_heads}, batch={least.batch}\n{least.text}", flush=True)
            if stop:
                break
        longest = max(longest, time.process_time() - began)
    return counts, longest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("--triton", action="store_true", help="in Triton's interpreter: TRITON_INTERPRET=1")
    parser.add_argument("--stop", action="store_true", help="at the first that differs, which is not shrunk")
    parser.add_argument("--record", type=Path, help="a file of results that this one is added to")
    asked = parser.parse_args()
    backends = ("triton",) if asked.triton else ("tiled", "reference")
    counts, longest = campaign(asked.first, asked.count, backends, asked.stop)
    found = {
        "first": asked.first,
        "count": asked.count,
        "backends": backends,
        "outcomes": dict(sorted(counts.items())),
        "longest_s": round(longest, 2),
    }
    print(json.dumps(found))
    if asked.record is not None:
        add({**found, "commit": commit()}, asked.record)
    sys.exit(counts["different"] > 0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
