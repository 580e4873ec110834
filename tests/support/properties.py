"""The properties as functions of one random case, so that tests draw cases and the mutation check breaks them."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from maskdsl.analysis.counts.stats import stats
from maskdsl.analysis.tiles.interval_program import Column, compile_program
from maskdsl.analysis.tiles.list_bounds import Bounded, bounded
from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.base.source import Source
from maskdsl.emit.plan import make_plan
from maskdsl.ir.declared.inputs import HEAD_DIM
from maskdsl.ir.expressions import Batch, Coordinate, Head, InSpace, Read, Score, Side, walk
from maskdsl.ir.facts.intervals import Interval, point
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.meaning.evaluate import Pairs, attention, dense
from maskdsl.ir.simplify import for_head, simplify
from maskdsl.runtime.attention import Attention
from maskdsl.runtime.compile import compile_mask
from maskdsl.runtime.compiled.compiled_mask import Bound
from maskdsl.syntax.format import format_file
from maskdsl.syntax.parse import parse
from maskdsl.testing import RandomPattern, inputs_for, patterns, tensors_for

ROOM, SINGLE_ROOM = 1e-9, 1e-4
"""Relative to the largest value: float64 and float32, with sums in another order."""
USUAL = 1e30
"""Values beyond, such as log-sum-exps of scores that are all the least number, have room by their own size alone."""


@dataclass(frozen=True, eq=False)
class Case:
    """A pattern with inputs, and how it is cut and called."""

    pattern: RandomPattern
    mask: MaskIR
    inputs: dict[str, np.ndarray]
    batch: int
    block: tuple[int, int]

    @cached_property
    def dense(self) -> np.ndarray:
        """bool [batch, heads, queries, keys]."""
        heads = range(self.mask.heads)
        return np.array([[dense(self.mask, h, b, self.inputs) for h in heads] for b in range(self.batch)])

    def positions(self, batch: int, head: int) -> tuple[np.ndarray, np.ndarray]:
        """The declared position of every laid-out place of both sides."""
        found = []
        for sequence in (self.mask.queries, self.mask.keys):
            order = Coordinates(self.mask, sequence, self.inputs, batch, head).permutation()
            found.append(np.arange(sequence.length) if order is None else order)
        return found[0], found[1]

    def __repr__(self) -> str:
        return f"\n{self.pattern}\n# batch = {self.batch}, block = {self.block}, inputs = {self.inputs}"


@st.composite
def cases(draw, batches=(1, 2), **options):
    pattern = draw(patterns(**options))
    mask = pattern.bind().ir
    batch = draw(st.sampled_from(batches))
    block = draw(st.tuples(st.integers(1, 20), st.integers(1, 20)))
    return Case(pattern, mask, draw(inputs_for(mask, batch)), batch, block)


def sample(strategy, number: int):
    """One value of a strategy, by number. Hypothesis varies one value in a run; these have nothing in common."""
    found = []

    @seed(number)
    @settings(max_examples=2, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=HealthCheck)
    @given(strategy)
    def collect(value):
        found.append(value)  # first the simplest that there is

    collect()
    return found[-1]


# Text


def check_round_trip(pattern: RandomPattern) -> None:
    """Formatting changes neither the tree nor the mask, and nothing the second time."""
    formatted = format_file(parse(Source("<drawn>", pattern.text)))
    assert parse(Source("<formatted>", formatted)) == parse(Source("<drawn>", pattern.text)), formatted
    assert format_file(parse(Source("<again>", formatted))) == formatted
    assert replace(pattern, text=formatted).bind().ir == pattern.bind().ir


# Intervals


def check_intervals(case: Case, seed: int) -> None:
    """On random boxes, the interval of every part of every expression holds every value that it takes there."""
    random = np.random.default_rng(seed)
    batch, head = int(random.integers(case.batch)), int(random.integers(case.mask.heads))
    nodes = {node: None for each in expressions(case.mask) for node in walk(each) if not reads_score(node)}
    inputs = {**case.inputs, HEAD_DIM: np.asarray(int(random.integers(1, 99)))}
    tables = {node.input: bounded(node, inputs[node.input]) for node in nodes if isinstance(node, Read)}
    lengths = case.mask.queries.length, case.mask.keys.length
    q, k = (np.unique(random.integers(length, size=random.integers(1, 6))) for length in lengths)
    pairs = Pairs(case.mask, q[:, None], k[None, :], head, batch, inputs)
    for node in nodes:
        bounds = bounds_of(node, pairs, tables)
        values = pairs.evaluate(node, np.asarray(False))
        anything = bounds.low != bounds.low
        held = anything | ((bounds.low <= values) & (values <= bounds.high))
        assert held.all(), (node, bounds, values[~np.broadcast_to(held, values.shape)])


def expressions(mask: MaskIR):
    """All that the pattern says of pairs."""
    clauses = [clause.relation for clause in (*mask.attend, *mask.require)]
    return [*clauses, *mask.pair_expressions, *mask.query_values]


def reads_score(expression) -> bool:
    return any(isinstance(node, Score) for node in walk(expression))


def bounds_of(expression, pairs: Pairs, tables: dict[str, Bounded]) -> Interval:
    """The expression's interval where every leaf is the interval of its values."""
    leaves = {}

    def leaf(node):
        match node:
            case Coordinate(side=side) | InSpace(side=side):
                return Column(side, leaves.setdefault(node, len(leaves)))
            case Head() | Batch():
                return Column(Side.QUERY, leaves.setdefault(node, len(leaves)))
        return None

    program = compile_program(expression, tables, leaf)
    intervals = []
    for node in leaves:
        values = pairs.evaluate(node, np.asarray(False))
        low, high = values.min(), values.max()
        intervals.append(point(np.asarray(low)) if isinstance(node, Head | Batch) else Interval(low, high))
    return program.run(lambda column: intervals[column.index])


# Tiles and numbers


def tile_classes(attended: np.ndarray, block: tuple[int, int]) -> np.ndarray:
    """By looking at every pair."""
    starts = [range(0, length, size) for length, size in zip(attended.shape, block, strict=True)]
    cut = [[attended[r : r + block[0], c : c + block[1]] for c in starts[1]] for r in starts[0]]
    return np.array([[2 if tile.all() else int(tile.any()) for tile in row] for row in cut], dtype=np.int8)


def check_tiles(case: Case) -> None:
    """The class of every tile, for every head and batch entry, in laid-out order."""
    found = tiles(case.mask, case.block, case.inputs, batch=case.batch)
    for batch, head in np.ndindex(case.batch, case.mask.heads):
        laid_out = case.dense[batch, head][np.ix_(*case.positions(batch, head))]
        classes = found.classes(head, batch if len(found.class_of_head) > 1 else 0)
        np.testing.assert_array_equal(classes, tile_classes(laid_out, case.block))


def check_stats(case: Case) -> None:
    """Pairs, tiles and keys per query, counted one by one."""
    found = stats(case.mask, case.block, case.inputs, batch=case.batch)
    for head, figures in enumerate(found.heads):
        masks = [case.dense[b, head][np.ix_(*case.positions(b, head))] for b in range(found.batch)]
        classes = [tile_classes(each, case.block) for each in masks]
        keys = np.concatenate([each.sum(axis=1) for each in masks])
        assert figures.attended == keys.sum()
        assert figures.partial_tiles == sum((each == 1).sum() for each in classes)
        assert figures.full_tiles == sum((each == 2).sum() for each in classes)
        assert (figures.least_keys, figures.most_keys) == (keys.min(), keys.max())
        assert (figures.median_keys, figures.empty_rows) == (np.median(keys), (keys == 0).sum())
        assert figures.computed == sum(computed(c, m, case.block) for c, m in zip(classes, masks, strict=True))
    assert found.total.attended == sum(figures.attended for figures in found.heads)


def computed(classes: np.ndarray, attended: np.ndarray, block: tuple[int, int]) -> int:
    return sum(
        attended[row * block[0] : (row + 1) * block[0], column * block[1] : (column + 1) * block[1]].size
        for row, column in np.argwhere(classes > 0)
    )


# Numbers of backends


@dataclass(frozen=True, eq=False)
class Result:
    """The output, the log-sum-exp, and the gradients of q, k, v and of the inputs of type float."""

    out: np.ndarray
    lse: np.ndarray
    gradients: tuple[np.ndarray, ...] = ()


def run(case: Case, backend: str, q, k, v, seed: int = 0, mask: MaskIR | None = None, layout="declared") -> Result:
    """Forward and backward, along a random direction."""
    attention_of = Attention(Bound(make_plan(mask or case.mask, *case.block), backend, checks_reads=True))
    tensors = [torch.tensor(each, requires_grad=True) for each in (q, k, v)]
    inputs = {name: torch.tensor(value, requires_grad=value.dtype == np.float64) for name, value in case.inputs.items()}
    out, lse = attention_of(*tensors, return_lse=True, layout=layout, **inputs)
    random = np.random.default_rng(seed)
    loss = (out * torch.tensor(random.normal(size=out.shape))).sum()
    loss = loss + (lse * torch.tensor(random.normal(size=lse.shape)))[lse.detach().isfinite()].sum()
    if loss.requires_grad:
        loss.backward()
    sources = [*tensors, *(each for each in inputs.values() if each.requires_grad)]
    gradients = [np.zeros(each.shape) if each.grad is None else each.grad.numpy() for each in sources]
    return Result(out.detach().numpy(), lse.detach().numpy(), tuple(gradients))


def assert_close(found: np.ndarray, expected: np.ndarray, what: str, room: float = ROOM) -> None:
    assert not np.isnan(found).any(), f"{what}: NaN"
    np.testing.assert_array_equal(np.isinf(found), np.isinf(expected), err_msg=what)
    found, expected = (each[np.isfinite(expected)] for each in (found, expected))
    size = np.abs(expected)
    usual = size < USUAL
    size[usual] = size[usual].max(initial=1)
    np.testing.assert_allclose(found / size, expected / size, rtol=0, atol=room, err_msg=what)


def check_backends(case: Case, q, k, v) -> None:
    """Both torch backends give what the meaning says, and the same gradients."""
    out, lse = attention(case.mask, q, k, v, case.inputs)
    results = {name: run(case, name, q, k, v) for name in ("reference", "tiled")}
    for name, result in results.items():
        assert_close(result.out, out, f"{name}: output")
        assert_close(result.lse, lse, f"{name}: log-sum-exp")
    pairs = zip(results["tiled"].gradients, results["reference"].gradients, strict=True)
    for number, (found, expected) in enumerate(pairs):
        assert_close(found, expected, f"gradient {number}")


def check_order(case: Case, order: str, q, k, v) -> None:
    """Another order changes neither results nor gradients; tokens in laid-out order give results in laid-out order."""
    plain, ordered = case.pattern.bind(order="declared").ir, case.pattern.bind(order=order).ir
    expected = run(case, "tiled", q, k, v, mask=plain)
    found = run(case, "tiled", q, k, v, mask=ordered)
    assert_close(found.out, expected.out, "output")
    assert_close(found.lse, expected.lse, "log-sum-exp")
    for one, other in zip(found.gradients, expected.gradients, strict=True):
        assert_close(one, other, "gradient")


def check_layout(case: Case, q, k, v) -> None:
    """With the pattern's own order: q, k and v laid out by the caller."""
    if case.mask.keys.is_pooled:  # keys are given in declared order
        return
    expected = run(case, "tiled", q, k, v)
    positions = [case.positions(b, h) for b, h in np.ndindex(case.batch, case.mask.heads)]
    rows, columns = (np.array(side).reshape(case.batch, case.mask.heads, -1) for side in zip(*positions, strict=True))
    k, v = (np.repeat(each, case.mask.heads // each.shape[1], axis=1) for each in (k, v))
    laid_q, laid_k, laid_v = (
        np.take_along_axis(each, order[..., None], axis=2) for each, order in ((q, rows), (k, columns), (v, columns))
    )
    for backend in ("tiled", "reference"):
        found = run(case, backend, laid_q, laid_k, laid_v, layout="ordered")
        assert_close(found.out, np.take_along_axis(expected.out, rows[..., None], axis=2), f"{backend}: output")
        assert_close(found.lse, np.take_along_axis(expected.lse, rows, axis=2), f"{backend}: log-sum-exp")


@st.composite
def calls(draw, dim=4, **options):
    """A case, and tensors for it."""
    case = draw(cases(**options))
    shared = draw(st.sampled_from([each for each in (1, 2, 3) if case.mask.heads % each == 0]))
    return case, *draw(tensors_for(case.mask, case.batch, dim, case.mask.heads // shared))


def check_decoding(case: Case, backend: str, seed: int, q, k, v) -> None:
    """Some queries, from another one on in each batch entry, get what they get among all."""
    random, length = np.random.default_rng(seed), case.mask.queries.length
    count = int(random.integers(1, length + 1))
    starts = random.integers(0, length - count + 1, case.batch)
    positions = (starts[:, None] + np.arange(count))[:, None]
    inputs = {name: torch.tensor(value) for name, value in case.inputs.items()}
    rows, keys, values = (torch.tensor(x) for x in (np.take_along_axis(q, positions[..., None], axis=2), k, v))
    expected, expected_lse = attention(case.mask, q, k, v, case.inputs)
    attention_of = compile_mask(case.mask, backend)
    out, lse = attention_of(rows, keys, values, query_start=torch.tensor(starts), return_lse=True, **inputs)
    assert_close(out.numpy(), np.take_along_axis(expected, positions[..., None], axis=2), f"{backend}: some rows")
    assert_close(lse.numpy(), np.take_along_axis(expected_lse, positions, axis=2), f"{backend}: their log-sum-exp")


def check_triton(case: Case, q, k, v) -> None:
    """Generated kernels give what the meaning says, in both precisions, and all gradients; needs the interpreter."""
    attention_of = compile_mask(case.mask, "triton")
    inputs = {name: torch.tensor(value) for name, value in case.inputs.items()}
    for dtype, room in (torch.float64, ROOM), (torch.float32, SINGLE_ROOM):
        tensors = [torch.tensor(each, dtype=dtype) for each in (q, k, v)]
        out, lse = attention(case.mask, *(each.double().numpy() for each in tensors), case.inputs)
        found_out, found_lse = attention_of(*tensors, return_lse=True, **inputs)
        assert_close(found_out.double().numpy(), out, f"triton, {dtype}: output", room)
        assert_close(found_lse.double().numpy(), lse, f"triton, {dtype}: log-sum-exp", room)
    pairs = zip(*(run(case, backend, q, k, v).gradients for backend in ("triton", "reference")), strict=True)
    for number, (found, expected) in enumerate(pairs):
        assert_close(found, expected, f"triton, gradient {number}")
    check_decoding(case, "triton", 0, q, k, v)


# Expressions


def check_simplify(case: Case) -> None:
    """Simplifying changes no value, of no part of any expression, whole or for one head."""
    mask = case.mask
    for head in range(mask.heads):
        pairs = all_pairs(case, head)
        nodes = {node: None for each in expressions(mask) for node in walk(each) if not reads_score(node)}
        for node in nodes:
            expected = pairs.evaluate(node, np.asarray(False))
            for simpler in (simplify(node), for_head(node, head)):
                found = pairs.evaluate(simpler, np.asarray(False))
                np.testing.assert_array_equal(found, expected, err_msg=f"{node} is not {simpler}")


def check_clauses(case: Case) -> None:
    """The relation is any of the `attend` lines and all of the `require` lines."""
    for head in range(case.mask.heads):
        pairs = all_pairs(case, head)
        attend, require = (
            [pairs.evaluate(clause.relation, np.asarray(False)) for clause in clauses]
            for clauses in (case.mask.attend, case.mask.require)
        )
        expected = np.logical_or.reduce(attend) & np.logical_and.reduce([np.ones(pairs.shape, dtype=bool), *require])
        np.testing.assert_array_equal(case.dense[0, head], expected)


def all_pairs(case: Case, head: int) -> Pairs:
    lengths = case.mask.queries.length, case.mask.keys.length
    inputs = {**case.inputs, HEAD_DIM: np.asarray(7)}
    return Pairs(case.mask, np.arange(lengths[0])[:, None], np.arange(lengths[1])[None, :], head, 0, inputs)
