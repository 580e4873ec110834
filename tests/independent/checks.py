"""What the product says about one program, held against its truth."""

import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor

import maskdsl
from tests.independent import vectors
from tests.independent.drawing import Drawn
from tests.independent.held import held
from tests.independent.layers import layers_of
from tests.independent.meaning import Meaning
from tests.independent.truth import Numbers, Truth

Results = tuple[np.ndarray, np.ndarray | None]
"""The output, and the log-sum-exp if there is one."""
SLOW = 5.0
"""Seconds of the product that are too many for so small a program."""


class Differs(AssertionError):
    """The product says something else."""


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
    attended = seen = full = partial = 0
    parts = [each.attends for each in truth.branches or [truth]]
    for batch, head in np.ndindex(truth.drawn.batch, truth.drawn.heads):
        expected = truth.attends[batch, head]
        seen += int(expected.sum()) if batch < stats.batch else 0
        attended += sum(int(each[batch, head].sum()) for each in parts) if batch < stats.batch else 0
        equal("meaning", mask.dense(head=head, batch=batch, **inputs), expected)
        unknown = batch >= stats.batch and (expected != truth.attends[0, head]).any()  # no input has that many entries
        if truth.meaning.laid_out_freely or unknown:
            continue
        laid = expected[np.ix_(*(truth.meaning.layout(side, head, batch) for side in "qk"))]
        classes = classes_of(laid, block)
        found = tiles.classes(head, batch if len(tiles.class_of_head) > 1 else 0)
        equal(f"tiles of {block}, head {head}, batch {batch}", found, classes)
        if batch < stats.batch:
            full, partial = full + int((classes == 2).sum()), partial + int((classes == 1).sum())
    total = stats.total
    if truth.meaning.laid_out_freely:
        full, partial = total.full_tiles, total.partial_tiles
    found_counts = total.attended, total.seen, total.full_tiles, total.partial_tiles
    equal("pairs, full and partial tiles", np.array(found_counts), np.array([attended, seen, full, partial]))


def classes_of(attends: np.ndarray, block: tuple[int, int]) -> np.ndarray:
    rows, columns = (range(0, length, size) for length, size in zip(attends.shape, block, strict=True))
    parts = [[attends[r : r + block[0], c : c + block[1]] for c in columns] for r in rows]
    return np.array([[2 if part.all() else int(part.any()) for part in row] for row in parts])


def check_stack(module: maskdsl.Module, truth: Truth, random: Random) -> None:
    """The layers of a stack, and where information reaches through them, for the first batch entry."""
    drawn = truth.drawn
    if "layers" not in module.stacks or drawn.batch > 1 or truth.relation is not truth.inputs:
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
            options = {"name": name, "values": values, "key_heads": drawn.key_heads}
            meaning = Meaning.of(truth.meaning.file, drawn.heads, truth.inputs, **options)
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


def check_backend(mask: maskdsl.Mask, truth: Truth, backend: str, random: Random) -> None:
    """The whole, and gradients of some of its tensors."""
    assert truth.numbers is not None
    gradients = truth.numbers[2]
    began = time.process_time()
    arrays = dict(zip("qkv", truth.tensors, strict=True)) | {each.name: truth.inputs[each.name] for each in mask.inputs}
    arrays = {name: truth.held(x) for name, x in arrays.items()}
    some = random.random() < 0.5
    tensors = {
        name: held(
            random,
            x,
            learns=x.dtype.kind == "f" and (not some or random.random() < 0.5),
            narrow=truth.meaning.shared_axes(name),
        )
        for name, x in arrays.items()
    }
    results = called(mask.compile(backend), truth, **{name: x.given for name, x in tensors.items()})
    compared(backend, results, truth.numbers, truth.rooms)
    grads = [held(random, truth.held(x)).given for x in truth.grads]
    if results[0].requires_grad:
        torch.autograd.backward(results, grads[: len(results)])
    for name, x in tensors.items():
        if x.leaf.requires_grad:
            grad = np.zeros(x.leaf.shape) if x.leaf.grad is None else x.leaf.grad.numpy()
            room = x.to_leaf(truth.rooms[2][name])
            near(f"{backend}: gradient of {name}", grad, x.to_leaf(gradients[name]), room)
    took = time.process_time() - began
    if took > SLOW and backend != "triton":
        raise Differs(f"{backend}: {took:.1f} s")


def called(attention: Callable[..., Any], truth: Truth, *tensors: Tensor, **others: Any) -> tuple[Tensor, ...]:
    """The output, and the log-sum-exp where there is one."""
    assert truth.numbers is not None
    if truth.numbers[1] is None:
        refused("log-sum-exp", {"E497"}, lambda: attention(*tensors, return_lse=True, **others, **truth.options))
        return (attention(*tensors, **others, **truth.options),)
    return attention(*tensors, return_lse=True, **others, **truth.options)  # type: ignore[no-any-return]


def compared(what: str, found: tuple[Tensor, ...], expected: Sequence[Any], rooms: Sequence[Any]) -> None:
    """The output, and the log-sum-exp if it was found."""
    for name, one, other, room in zip(("output", "log-sum-exp"), found, expected, rooms, strict=False):
        near(f"{what}: {name}", one.detach().numpy(), other, room)


def check_no_entries(mask: maskdsl.Mask, truth: Truth, backend: str) -> None:
    """A batch of nothing."""
    arrays = zip("qkv", map(truth.held, truth.tensors), strict=True)
    tensors = {name: torch.tensor(x[:0], requires_grad=True) for name, x in arrays}
    inputs = {
        name: torch.tensor(truth.held(x[:0] if truth.meaning.by_entry(name) else x))
        for name, x in truth.inputs.items()
        if name in {each.name for each in mask.inputs}
    }
    results = called(mask.compile(backend), truth, **tensors, **inputs)
    sum(x.sum() for x in results).backward()  # type: ignore[union-attr]
    shapes = [x.shape for x in (*results, *(x.grad for x in tensors.values() if x.grad is not None))]
    expected = [x.shape for x in (*truth.grads[: len(results)], *truth.tensors)]
    if [(0, *shape[1:]) for shape in expected] != shapes:
        raise Differs(f"{backend}: no entries: {shapes}")


def check_ordered(mask: maskdsl.Mask, truth: Truth, backend: str) -> None:
    """Tensors and results in the order that tokens are laid out in, where all heads and entries have the same."""
    assert truth.numbers is not None
    meaning, drawn = truth.meaning, truth.drawn
    if meaning.finds or meaning.laid_out_freely or any(space.source for space in meaning.spaces.values()):
        return
    if any(map(vectors.has_vectors, (meaning, *meaning.branches))):  # they are those of tokens as declared
        return
    every = list(np.ndindex(drawn.heads, drawn.batch))
    orders = [{tuple(meaning.layout(side, *each)) for each in every} for side in "qk"]
    if any(len(each) > 1 for each in orders):
        return
    rows, columns = (list(*each) for each in orders)
    orders_of = zip(map(truth.held, truth.tensors), (rows, columns, columns), strict=True)
    q, k, v = (torch.tensor(x[:, :, order]) for x, order in orders_of)
    inputs = {each.name: torch.tensor(truth.held(truth.inputs[each.name])) for each in mask.inputs}
    results = called(mask.compile(backend), truth, q, k, v, layout="ordered", **inputs)

    def ordered(numbers: Numbers) -> Results:
        out, lse, _ = numbers
        return out[:, :, rows], None if lse is None else lse[..., rows]

    compared(f"{backend}: ordered", results, ordered(truth.numbers), ordered(truth.rooms))


def check_parts(mask: maskdsl.Mask, truth: Truth, backend: str, random: Random) -> None:
    """Some queries, over keys in one piece, over pages in any order among others of NaN, and packed sequences."""
    assert truth.numbers is not None
    attention = mask.compile(backend)
    inputs = {each.name: torch.tensor(truth.held(truth.inputs[each.name])) for each in mask.inputs}
    q, k, v = (torch.tensor(truth.held(x)) for x in truth.tensors)
    codes = codes_of_parts(truth)
    if any(truth.meaning.spaces[name].source for name in truth.meaning.orders["q"]):
        where = {"query_start": torch.zeros(len(q), dtype=torch.int64)}
        refused(f"{backend}: some queries", {"E333"} | codes, lambda: attention(q, k, v, **where, **inputs))
        return
    batch, _, length, _ = q.shape
    count = length if truth.meaning.finds and random.random() < 0.4 else random.randint(1, length)
    starts = torch.tensor([random.randint(0, length - count) for _ in range(batch)])
    rows = (starts[:, None] + torch.arange(count))[:, None]
    own = q.take_along_dim(rows[..., None], 2)

    def of_rows(numbers: Numbers) -> Results:
        out, lse, _ = numbers
        at = rows[..., None].numpy()
        sums = (
            None if lse is None else np.take_along_axis(lse, at[..., 0] if lse.ndim == 3 else at[:, None, ..., 0], -1)
        )
        return np.take_along_axis(out, at, 2), sums

    size = random.randint(1, 5)
    table, pages = paged(random, (k, v), size)
    calls = {"some queries": (k, v, {}), "pages": (*pages, {"page_table": table, "page_size": size})}
    lengths = torch.full((batch,), k.shape[2])
    for name, (keys, values, others) in calls.items():
        where = {"query_start": starts, "key_lengths": lengths, **others}
        misses = truth.misses_queries(rows[:, 0].tolist()) or (codes and not truth.has_plain_routes)
        missing = codes | ({"E453"} if misses else set())
        if missing:
            refused(f"{backend}: {name}", missing, lambda a=(own, keys, values), b=where | inputs: attention(*a, **b))
            continue
        try:
            results = called(attention, truth, own, keys, values, **where, **inputs)
        except maskdsl.AttnError as error:
            if truth.has_plain_routes or error.diagnostics[0].code != "E453":
                raise
            continue  # a selection by all queries
        compared(f"{backend}: {name}", results, of_rows(truth.numbers), of_rows(truth.rooms))
    if not any(space.source for space in truth.meaning.spaces.values()):  # packed keys cannot be pooled
        ends = [torch.arange(batch + 1) * x.shape[2] for x in (q, k)]
        if not truth.meaning.crosses and ("E498" in codes or random.random() < 0.5):
            ends = ends[:1]
        packed = [x.transpose(1, 2).flatten(0, 1) for x in (q, k, v)]
        if "E380" in codes:
            refused(f"{backend}: varlen", {"E380"}, lambda: attention.varlen(*packed, *ends, **inputs))
            return
        whole, *sums = called(attention.varlen, truth, *packed, *ends, **inputs)
        apart = [whole.unflatten(0, (batch, -1)).transpose(1, 2)]
        apart += [x.unflatten(-1, (batch, -1)).movedim(-2, 0) for x in sums]
        compared(f"{backend}: varlen", tuple(apart), truth.numbers, truth.rooms)


def codes_of_parts(truth: Truth) -> set[str]:
    """The errors of calls with some of the queries: those of softmaxes by key, and of pools in scores."""
    each = [truth.meaning, *truth.meaning.branches]
    by_key = any(one.normalize == ("softmax", "k") for one in each)
    pools = any(map(vectors.pools_scores, each))
    return {code for code, holds in (("E498", by_key), ("E380", pools)) if holds}


def refused(what: str, codes: set[str], call: Callable[[], object]) -> None:
    try:
        call()
    except maskdsl.AttnError as error:
        if error.diagnostics[0].code in codes:
            return
        raise
    raise Differs(f"{what}: none of {sorted(codes)}")


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


def near(what: str, found: np.ndarray, expected: np.ndarray, room: np.ndarray) -> None:
    finite = np.isfinite(expected)
    wrong = (
        np.isnan(found)
        | (np.isfinite(found) != finite)
        | (finite & (np.abs(found - np.where(finite, expected, 0)) > room))
    )
    if wrong.any():
        position = tuple(np.argwhere(wrong)[0].tolist())
        raise Differs(f"{what} at {position}: {found[position]} is not {expected[position]} to {room[position]:.2g}")
