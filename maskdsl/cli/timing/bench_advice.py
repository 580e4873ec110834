"""What would make a pattern faster here, as far as `bench` knows: a compiler, threads, types, tiles, their order."""

import os
from collections.abc import Iterator, Sequence
from itertools import takewhile

import torch

from maskdsl.analysis.cost.devices import find_device
from maskdsl.analysis.counts.stats import stats
from maskdsl.analysis.orders.best import best_order
from maskdsl.cli.timing.contenders import Contest
from maskdsl.cli.timing.measurements import Timing
from maskdsl.cli.waiting import working
from maskdsl.emit.plan import make_plan
from maskdsl.ir.facts.route_candidates import selects
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.inputs import relation_inputs
from maskdsl.runtime.backends.available import BACKENDS, computing
from maskdsl.runtime.backends.native.library import native_library
from maskdsl.runtime.backends.protocol import Backend
from maskdsl.view import units

_WASTEFUL = 1.5
"""Computed pairs for each attended one from which tiles are worth a word."""
_BETTER = 0.8
"""The share of computed pairs that another order has at most to be named."""
_SHORT = 1e-4
"""Seconds of a call of which most is not arithmetic."""
_NOTICEABLE = 1.1
"""The ratio of times from which one counts as faster."""


def bench_advice(contest: Contest, timings: Sequence[Timing]) -> Iterator[str]:
    """Yields lines, the most important first."""
    q, _, v = contest.tensors
    plan = make_plan(contest.mask.ir)
    chosen = computing("auto", plan, q, v)
    times = {each.name: each.typical for each in timings}
    on_cpu = q.device.type == "cpu"
    if on_cpu:
        yield from _of_kernels(contest, chosen)
    faster = [name for name in times if name in BACKENDS and times[name] * _NOTICEABLE < times[chosen.name]]
    if faster:
        name = min(faster, key=times.__getitem__)
        ratio = units.times(times[chosen.name] / times[name])
        yield f'`compile("{name}")` is {ratio} as fast as `{chosen.name}`, which "auto" takes'
    if on_cpu:
        yield from _of_threads()
    if times[chosen.name] < _SHORT:
        yield "calls this short are mostly Python: several sequences in one call, as a batch, cost little more"
    planned = chosen.planned(plan)
    yield from _of_tiles(contest, planned.mask, chosen.tile(planned))


def _of_kernels(contest: Contest, chosen: Backend) -> Iterator[str]:
    """Why no backend computes this that comes before the one that does."""
    built = native_library()
    if built.functions is None:
        yield f"no kernels in C: {built.why_not}; {built.advice}"
    plan, (q, _, v) = make_plan(contest.mask.ir), contest.tensors
    before = takewhile(lambda each: each is not chosen, BACKENDS.values())
    for backend in (each for each in before if each.runs_on_cpu() and not each.computes(plan, q, v)):
        if backend.computes(plan, q.float(), v.float()):
            yield f"`{backend.name}` computes this for float32, not for {contest.shape.dtype}"
        else:
            yield f"`{backend.name}` does not compute such scores or weights; `{chosen.name}` does"


def _of_threads() -> Iterator[str]:
    used, there = torch.get_num_threads(), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    if used < there:
        yield f"torch uses {used} of {there} processors: torch.set_num_threads({there}), or OMP_NUM_THREADS={there}"


def _of_tiles(contest: Contest, mask: MaskIR, block: tuple[int, int]) -> Iterator[str]:
    """Pairs that are computed and masked, and an order of tokens with fewer."""
    if selects(mask) or mask.branches:
        return
    needed = relation_inputs(mask)
    inputs = {name: values for name, values in contest.arrays().items() if name in needed}
    with working("counting pairs"):
        total = stats(mask, block, inputs).total
    if not total.attended or total.computed < _WASTEFUL * total.attended:
        return
    computed = total.computed / total.attended
    said = f"tiles of {block[0]} x {block[1]} compute {computed:.1f} pairs for each that attends"
    with working("comparing orders"):
        best = best_order(mask, inputs, [block], find_device("H100"))
    in_order = 1 / max(1 - best.rows[0].waste, 1e-9)
    yield f"{said}, {in_order:.1f} with `order {best.order}`" if in_order < _BETTER * computed else said
