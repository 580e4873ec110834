"""`verify`, `run` and `bench`: compute a pattern on this machine. Imports torch."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from statistics import median
from time import perf_counter
from typing import Any, cast

from rich import box
from rich.table import Table
from rich.text import Text

from maskdsl.api import Mask
from maskdsl.base.arguments import BackendName
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.commands.command import NothingToTime
from maskdsl.base.libraries import missing
from maskdsl.base.records import dataclass

try:
    import torch
    from torch import Tensor
    from torch.nn.functional import scaled_dot_product_attention
except ImportError as error:
    raise missing(error, "computing attention", "torch") from error

from maskdsl.api.verify import DTYPES, CannotDraw
from maskdsl.api.verify import verify as try_pattern
from maskdsl.cli.consoles import output
from maskdsl.cli.request.masks import choose, complete, order_text, read_arrays, read_request
from maskdsl.cli.request.routed_masks import tell
from maskdsl.cli.waiting import progress, working
from maskdsl.emit.plan import make_plan
from maskdsl.ir.expressions import Side
from maskdsl.ir.heads import Heads
from maskdsl.ir.meaning.evaluate import dense
from maskdsl.runtime.attention import Attention
from maskdsl.runtime.backends.available import BACKENDS, backend_names, usable_backends
from maskdsl.runtime.compiled_mask import Bound
from maskdsl.view import units
from maskdsl.view.terminal.show import title

LARGEST_DENSE = 2**31
"""The most bytes of scores for which dense computation is tried."""
_MOST_REPEATS = 1000
"""The most repetitions of one measurement."""


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


@dataclass(frozen=True)
class BenchShape:
    """The tensors of a measurement."""

    heads: Heads
    head_dim: int
    batch: int
    dtype: str
    device: str
    backward: bool

    def tensors(self, mask: Mask) -> list[Tensor]:
        """q, k and v, [batch, heads, tokens, head dim]. Raises `AttnError` (E511) if memory does not suffice."""
        key_heads = self.heads.key_heads or self.heads.count
        keys = key_heads, mask.given_key_length
        shapes = (self.heads.count, mask.given_query_length), keys, keys
        generator = torch.Generator().manual_seed(0)
        try:
            return [
                torch.randn(self.batch, heads, length, self.head_dim, generator=generator)
                .to(self.device, DTYPES[self.dtype])
                .requires_grad_(self.backward)
                for heads, length in shapes
            ]
        except RuntimeError:  # includes torch's out-of-memory errors
            numbers = self.batch * self.head_dim * sum(heads * length for heads, length in shapes)
            reason = f"q, k and v have {numbers:,} elements, for which there is not enough memory"
            raise AttnError(NothingToTime(reason=reason)) from None

    def __str__(self) -> str:
        work = "forward and backward" if self.backward else "forward"
        return f"{work}, batch {self.batch}, head dimension {self.head_dim}, {self.dtype}, {self.device}"


@dataclass(frozen=True)
class _Timing:
    """The times of one backend, in seconds."""

    name: str
    first: float
    typical: float
    best: float
    repeats: int


_Call = Callable[[], Tensor]


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
    attention = mask.compile(cast(BackendName, backend))
    tensors = shape.tensors(mask)
    timing = _timed(attention.backend, _compiled_call(attention, tensors, inputs), tensors, shape, seconds)
    _report(mask, shape, [timing], [], as_json)


def bench(
    file: str,
    words: Sequence[str],
    order: str | None,
    given: Sequence[str],
    shape: BenchShape,
    seconds: float,
    as_json: bool,
) -> None:
    """Times every backend that can compute the pattern here, and torch's dense attention."""
    mask, inputs = _prepare(file, words, order, given, shape)
    q, k, v = shape.tensors(mask)
    timings: list[_Timing] = []
    left_out: list[str] = []
    scores = shape.batch * shape.heads.count * mask.query_length * mask.key_length * q.element_size()
    for backend in BACKENDS.values():
        name = backend.name
        if shape.device.startswith("cpu") and not backend.runs_on_cpu():
            continue
        if backend.is_dense and scores > LARGEST_DENSE:
            left_out.append(f"{name}: its scores would take {units.size(scores)}")
        else:
            timings.append(
                _timed(name, _compiled_call(mask.compile(name), (q, k, v), inputs), (q, k, v), shape, seconds)
            )
    call, why = _dense_call(mask, inputs, q, k, v, scores)
    if call is None:
        left_out.append(f"torch, dense: {why}")
    else:
        timings.append(_timed("torch, dense", call, (q, k, v), shape, seconds))
    _report(mask, shape, timings, left_out, as_json)


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


def _compiled_call(attention: Attention, tensors: Sequence[Tensor], inputs: Mapping[str, Any]) -> _Call:
    def call() -> Tensor:
        out: Tensor = attention(*tensors, return_lse=False, layout="declared", **inputs)
        return out

    return call


def _dense_call(
    mask: Mask, inputs: Mapping[str, Tensor], q: Tensor, k: Tensor, v: Tensor, scores: int
) -> tuple[_Call | None, str]:
    """torch's dense attention with the mask as booleans, or the reason why it is left out."""
    if mask.ir.branches or mask.ir.pair_values or mask.ir.query_values or not mask.ir.has_sums:
        return None, "the pattern changes scores"
    if scores > LARGEST_DENSE:
        return None, f"its scores would take {units.size(scores)}"
    arrays = {name: values.cpu().numpy() for name, values in inputs.items()}
    rows = [
        torch.stack([torch.tensor(dense(mask.ir, head, batch, arrays)) for head in range(q.shape[1])])
        for batch in range(q.shape[0])
    ]
    allowed = torch.stack(rows).to(q.device)
    kernel = Bound(make_plan(mask.ir), "reference").default_kernel
    values = kernel.values([inputs[each.name] for each in mask.ir.given], q.device)

    def call() -> Tensor:
        sides = (Side.QUERY, q), (Side.KEY, k), (Side.KEY, v)
        queries, keys, others = (kernel.all_tokens(side, x, values) for side, x in sides)
        return scaled_dot_product_attention(queries, keys, others, attn_mask=allowed, enable_gqa=True)

    return call, ""


def _timed(name: str, call: _Call, tensors: Sequence[Tensor], shape: BenchShape, seconds: float) -> _Timing:
    """Times the first call, which compiles and finds tiles, then as many as fit into the time, at least three."""

    def once() -> float:
        begin = perf_counter()
        out = call()
        if shape.backward:
            torch.autograd.backward(out, torch.ones_like(out))
            for tensor in tensors:
                tensor.grad = None
        if out.is_cuda:
            torch.cuda.synchronize()
        return perf_counter() - begin

    with working(f"{name}: the first call, which compiles"):
        first = once()
    repeats = max(3, min(_MOST_REPEATS, round(seconds / first)))
    times: list[float] = []
    with progress(name, repeats) as advance:
        while len(times) < repeats:
            times.append(once())
            advance(len(times))
    return _Timing(name, first, median(times), min(times), repeats)


def _report(mask: Mask, shape: BenchShape, timings: Sequence[_Timing], left_out: Sequence[str], as_json: bool) -> None:
    rates = [shape.batch * mask.query_length / each.typical for each in timings]
    if as_json:
        head = {"pattern": mask.name, "parameters": dict(mask.ir.parameters), "order": order_text(mask.ir)}
        machine = {**asdict(shape), "threads": torch.get_num_threads()}
        measured = [asdict(each) | {"tokens_per_second": rate} for each, rate in zip(timings, rates, strict=True)]
        print(json.dumps({**head, **machine, "seconds": measured, "left_out": list(left_out)}, indent=2))
        return
    console = output()
    console.print(title(mask.ir))
    console.print(f"{order_text(mask.ir)}, {shape}, {torch.get_num_threads()} threads", style="dim", markup=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for name in ("first call", "median", "best", "calls", "tokens per second"):
        table.add_column(name, justify="right")
    for each, rate in zip(timings, rates, strict=True):
        times = (units.duration(time) for time in (each.first, each.typical, each.best))
        table.add_row(each.name, *times, str(each.repeats), units.about(rate))
    console.print(table)
    for line in left_out:
        console.print(f"left out: {line}", style="dim", markup=False)
