"""`verify`, `run` and `bench`: compute a pattern on this machine. Imports torch."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, cast

from rich.text import Text

from maskdsl.api import Mask
from maskdsl.base.arguments import BackendName
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.commands.command import NothingToTime
from maskdsl.base.libraries import missing

try:
    import torch
except ImportError as error:
    raise missing(error, "computing attention", "torch") from error

from maskdsl.api.verify import DTYPES, CannotDraw
from maskdsl.api.verify import verify as try_pattern
from maskdsl.cli.consoles import output
from maskdsl.cli.request.masks import choose, complete, read_arrays, read_request
from maskdsl.cli.request.routed_masks import tell
from maskdsl.cli.timing.bench_advice import bench_advice
from maskdsl.cli.timing.bench_shape import BenchShape as BenchShape
from maskdsl.cli.timing.contenders import Contender, Contest, compiled_call, first_line
from maskdsl.cli.timing.measurements import TimedCall, measure
from maskdsl.cli.timing.timing_report import TimingReport
from maskdsl.cli.waiting import progress, working
from maskdsl.emit.plan import make_plan
from maskdsl.runtime.backends.available import backend_names, computing, usable_backends

_TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 0.05, torch.float16: 0.02}
"""By how much the results of contenders may differ, of the largest entry."""


def verify(file: str, words: Sequence[str], cases: int, seed: int, backends: Sequence[str], as_json: bool) -> int:
    """Tries a pattern at random settings and prints the failures. Returns 1 if a case fails."""
    request = read_request(file, words)
    for name in backends:
        choose("backend", name, usable_backends())
    try:
        with progress(f"trying `{request.pattern.name}`", cases) as advance:
            verdict = try_pattern(
                request.pattern,
                cases=cases,
                seed=seed,
                parameters=request.values,
                backends=cast(Sequence[BackendName], backends) or None,
                progress=advance,
            )
    except CannotDraw as error:
        raise AttnError(NothingToTime(reason=str(error))) from None
    if as_json:
        failures = [{"case": str(each.case), "what": each.what} for each in verdict.failures]
        print(
            json.dumps(
                asdict(replace(verdict, failures=())) | {"passed": verdict.passed, "failures": failures}, indent=2
            )
        )
        return int(not verdict.passed)
    console = output()
    for failure in verdict.failures:
        console.print(Text.assemble(("failed ", "bold red"), (request.pattern.name, "bold"), f" {failure.case}"))
        console.print(f"  {failure.what}", markup=False, soft_wrap=True)
    if verdict.passed:
        tried = f"{verdict.cases} cases, {', '.join(verdict.backends)}, {', '.join(verdict.dtypes)}"
        console.print(Text.assemble(("passed ", "bold green"), (request.pattern.name, "bold"), f": {tried}"))
    return int(not verdict.passed)


def run(
    file: str,
    words: Sequence[str],
    backend: str,
    order: str | None,
    given: Sequence[str],
    shape: BenchShape,
    seconds: float,
    as_json: bool,
) -> None:
    """Times one backend and prints the result."""
    mask, inputs = _prepare(file, words, order, given, shape)
    choose("backend", backend, backend_names())
    tensors = shape.tensors(mask)
    name = mask.compile(cast(BackendName, backend)).backend
    with working(f"{name}: the first call, which compiles"):
        step = TimedCall(name, compiled_call(mask, backend, tensors, inputs), tensors, shape.backward)
    TimingReport(mask, shape, tuple(measure([step], seconds)), name).print(as_json)


def bench(
    file: str,
    words: Sequence[str],
    order: str | None,
    given: Sequence[str],
    shape: BenchShape,
    flex: bool,
    seconds: float,
    as_json: bool,
) -> None:
    """Times every backend that can compute the pattern here, SDPA, and FlexAttention if `flex`."""
    mask, inputs = _prepare(file, words, order, given, shape)
    q, k, v = shape.tensors(mask)
    contest = Contest(mask, inputs, (q, k, v), shape)
    contenders, left_out = contest.contenders(flex)
    steps: list[TimedCall] = []
    for each in contenders:
        step = _first_call(contest, each, steps)
        if isinstance(step, TimedCall):
            steps.append(step)
        else:
            left_out.append(f"{each.name}: {step}")
    timings = tuple(measure(steps, seconds))
    others = frozenset(each.name for each in contenders if not each.is_ours)
    chosen = computing("auto", make_plan(mask.ir), q, v).name
    advice = tuple(bench_advice(contest, timings))
    TimingReport(mask, shape, timings, chosen, others, tuple(left_out), advice).print(as_json)


def _first_call(contest: Contest, contender: Contender, steps: Sequence[TimedCall]) -> TimedCall | str:
    """The step of a contender after its first call; the reason if it cannot compute this or gives other results."""
    try:
        with working(f"{contender.name}: making it ready"):
            call = contender.make()
        with working(f"{contender.name}: the first call, which compiles"):
            step = TimedCall(contender.name, call, contest.tensors, contest.shape.backward)
    except Exception as error:
        if contender.is_ours:
            raise
        return first_line(error)
    if steps and not contender.has_all_candidates:
        ours, theirs = steps[0].out, step.out
        apart = torch.where(theirs.isfinite(), ours - theirs, 0).abs().amax()
        if apart > _TOLERANCES[ours.dtype] * ours.abs().amax():
            return f"its results differ by up to {apart.item():.1g}"
    return step


def _prepare(
    file: str, words: Sequence[str], order: str | None, given: Sequence[str], shape: BenchShape
) -> tuple[Mask, dict[str, Any]]:
    """The mask, and all of its inputs on the device."""
    choose("dtype", shape.dtype, list(DTYPES))
    mask = read_request(file, words).bind(shape.heads, order)
    inputs = complete(mask.ir, read_arrays(given), frozenset(each.name for each in mask.ir.given), shape.batch)
    tell(inputs)
    try:
        torch.empty(0, device=shape.device)
    except (RuntimeError, AssertionError) as error:
        raise AttnError(
            NothingToTime(reason=f"there is no device `{shape.device}`: {str(error).splitlines()[0]}")
        ) from None
    return mask, {name: torch.as_tensor(values, device=shape.device) for name, values in inputs.arrays.items()}
