"""Attentions that four processes compute, and how each is cut: random programs and every example, made from a seed."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

import maskdsl
from maskdsl.api.sharded_layers import ShardPlan
from maskdsl.api.verify import Case as Setting
from maskdsl.api.verify import _draw_parameters, prepared
from maskdsl.api.verify import draw as draw_setting
from maskdsl.distributed.exchange import Homes, cost
from maskdsl.distributed.homes import schemes
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.meaning.synthetic_inputs import synthetic_inputs
from tests.independent.checks import loaded
from tests.independent.drawing import arrays
from tests.independent.drawing import draw as draw_program
from tests.independent.truth import LARGEST

RANKS, PER_NODE = 4, 2
FEWEST, DRAWS = 48, 60
"""Tokens of an example, if one of so many settings has as many: each rank then holds several blocks."""
SMALL: dict[str, tuple[dict[str, Any], int, int]] = {
    "language/alibi: alibi": ({"n": 61}, 4, 2),
    "language/bigbird: bigbird": ({"n": 66, "block": 6, "random_blocks": 2, "span": 1}, 4, 2),
    "language/block_diffusion: block_diffusion": ({"n": 27, "block": 5}, 4, 1),
    "language/combiner: combiner_summary": ({"n": 61, "block": 7}, 4, 2),
    "language/cross_attention: aligned": ({"targets": 57, "sources": 74, "size": 13}, 4, 2),
    "language/dependency: dependency": ({"n": 41}, 4, 2),
    "language/differential: differential": ({"n": 53}, 4, 2),
    "language/gpt_oss: sliding": ({"n": 59, "size": 19}, 4, 2),
    "language/longformer: longformer": ({"n": 71, "size": 6, "dilation": 1, "globals": 2}, 4, 4),
    "language/longt5: local_biased": ({"n": 47, "radius": 7, "buckets": 5, "distance": 9}, 4, 2),
    "language/packed: packed": ({"n": 83}, 4, 2),
    "language/stochastic: causal_stochastic": ({"n": 67, "size": 9, "seed": 3}, 2, 1),
    "language/transformer_xl: transformer_xl": ({"n": 53}, 4, 2),
    "language/tree: tree": ({"prefix": 27, "drafts": 34}, 3, 1),
    "routing/biformer: biformer": ({"h": 6, "w": 9, "regions": 3, "top": 2}, 4, 2),
    "routing/clusters: clusters": ({"n": 57}, 4, 2),
    "routing/moba: moba": ({"n": 61, "block": 8, "top": 2}, 4, 2),
    "routing/nsa: nsa": ({"n": 60, "block": 8, "top": 2, "size": 9}, 4, 2),
    "routing/nsa: nsa_given": ({"n": 60, "block": 8, "top": 2, "size": 9}, 4, 2),
    "video/radial: radial": ({"frames": 7, "tokens_per_frame": 9, "block": 7, "text": 2, "sink": False}, 3, 1),
    "vision/cswin: cswin": ({"h": 6, "w": 12, "stripe": 3}, 4, 2),
    "vision/fit: read": ({"groups": 4, "size": 15, "latents": 7}, 3, 1),
    "vision/gated_swin_rmt: swat": ({"h": 6, "w": 10, "size": 4, "shift": 2}, 4, 2),
    "vision/hilbert_window: hilbert_layout": ({"h": 7, "w": 9, "kernel": 3}, 4, 2),
    "vision/neighborhood: na2": ({"h": 7, "w": 9, "kernel": (3, 5), "dilation": (2, 1), "stride": (1, 1)}, 2, 1),
    "vision/polyline: polyline": ({"h": 9, "w": 7}, 4, 2),
}
"""Examples of all kinds for a short run: their parameters, heads and key heads."""


@dataclass(frozen=True)
class ShardedCase:
    """One attention with all that decides its numbers. It is small; the arrays are made where they are needed."""

    name: str
    source: Path | int
    """A file, or the seed of a random program."""
    pattern: str
    parameters: Mapping[str, Any]
    heads: int
    key_heads: int
    batch: int
    dim: int
    order: str | None
    seed: int

    @cached_property
    def mask(self) -> maskdsl.Mask:
        module = maskdsl.load(self.source) if isinstance(self.source, Path) else loaded(draw_program(self.source))
        sizes = {"heads": self.heads, "key_heads": self.key_heads, "order": self.order}
        with warnings.catch_warnings(action="ignore", category=maskdsl.AttnWarning):
            return module[self.pattern].bind(**sizes, **self.parameters)

    @cached_property
    def inputs(self) -> dict[str, np.ndarray]:
        """Of the whole call. Integers of tokens of an example number documents, in half of the cases in any order."""
        if isinstance(self.source, int):
            return arrays(draw_program(self.source), self.seed)
        given = synthetic_inputs(self.mask.ir, self.seed, self.batch, self.dim)
        random = np.random.default_rng(self.seed)
        fixed = {each.name for each in self.mask.inputs if each.sparse or not each.dimensions or each.lists is not None}
        if random.random() < 0.5:
            return given
        return {name: x if name in fixed else random.permuted(x) for name, x in given.items()}

    @cached_property
    def tensors(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """q, k and v; those of tokens that are given."""
        random = np.random.default_rng(self.seed + 1)
        lengths = self.mask.given_query_length, self.mask.given_key_length, self.mask.given_key_length
        heads = self.heads, self.key_heads, self.key_heads
        shapes = ((self.batch, count, length, self.dim) for count, length in zip(heads, lengths, strict=True))
        q, k, v = (random.normal(size=shape) for shape in shapes)
        return q, k, v

    @property
    def options(self) -> dict[str, Any]:
        """Of the call: some drop pairs."""
        random = Random(f"{self.seed} drops pairs")
        return {"dropout_p": 0.3, "seed": random.randint(-9, 2**40)} if random.random() < 0.15 else {}

    @property
    def in_stages(self) -> bool:
        """Whether ranks attend what they hold while the rest is on its way, however little that is."""
        return Random(f"{self.seed} in stages").random() < 0.5

    def plan(self) -> ShardPlan:
        """Any scheme, of blocks so small that ranks have several; in a third of the cases, with random homes."""
        random = Random(f"{self.seed} is cut")
        length = self.mask.query_length
        block = max(1, length // random.choice([4, 7, 11, 18, 30]))
        blocks = -(-length // block)
        every = list(schemes(blocks, block, RANKS, PER_NODE, self.heads, self.key_heads))
        rules = {each.rule for each in every}
        rule = random.choice(sorted(rules))
        scheme = random.choice([each for each in every if each.rule == rule])
        scheme = replace(scheme, travelling=random.random() < 0.5)
        sizes = {"per_node": PER_NODE, "head_dim": self.dim, "dtype": "float64", "block": block, "scheme": scheme}
        given = {"q": self.tensors[0], "k": self.tensors[1]} if self.mask.ir.routed and random.random() < 0.3 else {}
        plan = self.mask.shard(RANKS, **sizes, **self.inputs, **given)
        return with_random_homes(plan, self.seed) if random.random() < 1 / 3 else plan


def with_random_homes(plan: ShardPlan, seed: int) -> ShardPlan:
    """The plan with any team for each block: some may hold none."""
    random = np.random.default_rng(seed)
    teams = plan.ranks // plan.head_groups
    queries = random.integers(0, teams, len(plan.best.queries), dtype=np.int32)
    keys = [random.integers(0, teams, len(each.key_tokens), dtype=np.int32) for each in plan.best.works]
    homes = tuple(
        Homes(teams, plan.head_groups, queries, queries if work.is_self else at)
        for work, at in zip(plan.best.works, keys, strict=True)
    )
    costs = tuple(cost(work, at, plan.layer, plan.cluster) for work, at in zip(plan.best.works, homes, strict=True))
    return replace(plan, best=replace(plan.best, homes=homes, costs=costs))


def example_patterns() -> Iterator[tuple[str, Path, maskdsl.Pattern]]:
    """The name, the file and the pattern of each example."""
    for path in maskdsl.examples().values():
        module = maskdsl.load(path)
        for name in module:
            if isinstance(module[name], maskdsl.Pattern):
                yield f"{path.parent.name}/{path.stem}: {name}", path, module[name]


def small_examples() -> Iterator[ShardedCase]:
    """Those of `SMALL`."""
    for number, (name, path, pattern) in enumerate(example_patterns()):
        if name in SMALL:
            parameters, *heads = SMALL[name]
            yield ShardedCase(name, path, pattern.name, parameters, *heads, 1 + number % 2, 8, None, number)


def every_example(seed: int) -> Iterator[ShardedCase]:
    """Each at a setting with several heads and enough tokens, if one is drawn soon."""
    for name, path, pattern in example_patterns():
        with warnings.catch_warnings(action="ignore", category=maskdsl.AttnWarning):
            random = np.random.default_rng(seed)
            at = _long_setting(pattern, random) or draw_setting(pattern, random, {})
        sizes = at.heads, at.key_heads, at.batch, at.dim
        yield ShardedCase(name, path, pattern.name, at.parameters, *sizes, at.order, at.seed)


def _long_setting(pattern: maskdsl.Pattern, random: np.random.Generator) -> Setting | None:
    """One that fits the pattern and its inputs."""
    for _ in range(DRAWS):
        key_heads = int(random.choice([1, 2, 2]))
        at = Setting(
            _draw_parameters(pattern, random),
            heads=key_heads * int(random.choice([2, 2, 3])),
            key_heads=key_heads,
            batch=int(random.choice([1, 2])),
            dim=int(random.choice([4, 8])),
            order=[None, None, "declared", "by shuffle(i, 3)"][random.integers(4)],
            seed=int(random.integers(2**31)),
        )
        with suppress(maskdsl.AttnError):
            mask = pattern.bind(heads=at.heads, key_heads=key_heads, order=at.order, **at.parameters)
            lengths = mask.query_length, mask.key_length
            if max(lengths) >= FEWEST and min(lengths) > RANKS and prepared(pattern, at) is not None:
                return at
    return None


def drawn_programs(first: int) -> Iterator[ShardedCase]:
    """The programs from a seed on that the binder takes.

    But for factors of the output near the largest float: then that of some of the keys may not be finite.
    """
    for seed in count(first):
        drawn = draw_program(seed)
        sizes = drawn.heads, drawn.key_heads, drawn.batch, 4
        case = ShardedCase(f"program {seed}", seed, "drawn", drawn.values, *sizes, None, seed)
        with suppress(maskdsl.AttnError):
            case.mask  # noqa: B018  # bound, or refused
            factors = [each.factor for each in case.mask.ir.branches or [case.mask.ir] if each.factor is not None]
            read = [case.inputs[name] for name in case.inputs.keys() & reads(*factors).inputs]
            if not any((np.isfinite(x) & (np.abs(x) > LARGEST["float64"])).any() for x in read):
                yield case
