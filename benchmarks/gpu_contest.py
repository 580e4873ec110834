"""One case: a pattern at a length and head dim, computed by all who can, checked and then timed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from gpu_patterns import Entry, Inputs, Size
from gpu_reference import Sample, Wrong, check_gradients, gradients, samples
from gpu_timing import Budget, Skipped, Timer
from torch import Tensor
from torch._functorch import config as functorch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

from maskdsl.runtime.backends.available import usable_backends

OURS, FLEX, FLASH = "maskdsl", "FlexAttention", "SDPA flash"
FORWARD_FLOPS, BACKWARD_FLOPS = 4, 10
"""Of an attending pair, for each head dim: two products of matrices, and five."""
LONGEST_GRADIENTS = 4096
"""The longest sequences whose gradients are compared: those are computed over all pairs."""

Record = dict[str, Any]
Compute = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    entry: Entry
    size: Size
    batch: int
    dim: int
    dtype: torch.dtype

    @property
    def record(self) -> Record:
        """What the case is, for the results."""
        return {
            "pattern": self.entry.name,
            "length": self.size.length,
            "head_dim": self.dim,
            "batch": self.batch,
            "heads": self.size.heads,
        }

    def __str__(self) -> str:
        return f"{self.entry.name}, {self.size.length:,} tokens, head dim {self.dim}"

    def tensors(self) -> tuple[list[Tensor], Tensor]:
        """q, k and v, and what gradients are taken toward."""
        generator = torch.Generator(self.size.device).manual_seed(0)
        shape = self.batch, self.size.heads, self.size.length, self.dim
        drawn = [torch.randn(shape, dtype=self.dtype, device=self.size.device, generator=generator) for _ in range(4)]
        return [each.requires_grad_() for each in drawn[:3]], drawn[3]


def measure(case: Case, timer: Timer, budget: Budget) -> Record:
    """Every contender's errors and times, or why there are none."""
    inputs = case.entry.inputs(case.size)
    mask = case.entry.mask(case.size)
    figures = mask.stats(**{name: tensor.cpu().numpy() for name, tensor in inputs.items()}).total
    pairs = figures.attended * case.batch
    tensors, toward = case.tensors()
    trial = Trial(
        tensors,
        toward,
        samples(mask.ir, *tensors, inputs),
        gradients(case.entry, case.size, *tensors, toward, inputs) if case.size.length <= LONGEST_GRADIENTS else None,
    )
    found = {
        name: outcome(partial(compete, prepare, trial, timer, budget, pairs * case.dim))
        for name, prepare in contenders(case, inputs)
    }
    return {**case.record, "pairs": pairs, "density": figures.density, "contenders": found}


@dataclass(frozen=True, eq=False)
class Trial:
    """The tensors of a case, and what is known about its results."""

    tensors: list[Tensor]
    toward: Tensor
    samples: list[Sample]
    gradients: tuple[Tensor, ...] | None


def compete(prepare: Callable[[], Compute], trial: Trial, timer: Timer, budget: Budget, work: int) -> Record:
    """One contender: right first, then fast. Raises whatever it raises."""
    budget.check()
    compute = prepare()
    out = compute(*trial.tensors)
    errors = {"output": max(sample.check(out) for sample in trial.samples)}
    budget.check()
    record: Record = {"errors": errors, "forward": timed(timer, partial(compute, *trial.tensors), work * FORWARD_FLOPS)}
    record["backward"] = outcome(partial(backward, out, trial, timer, budget, errors, work * BACKWARD_FLOPS))
    return record


def backward(out: Tensor, trial: Trial, timer: Timer, budget: Budget, errors: dict[str, float], flops: int) -> Record:
    budget.check()
    if not out.requires_grad:
        raise RuntimeError("no backward pass on this device")  # FlexAttention on a CPU
    step = partial(torch.autograd.grad, out, trial.tensors, trial.toward, retain_graph=True)
    found = step()
    if trial.gradients is not None:
        errors.update(check_gradients(found, trial.gradients))
    return timed(timer, step, flops)


def timed(timer: Timer, step: Callable[[], object], flops: int) -> Record:
    """Seconds, and useful work: that of attending pairs alone."""
    seconds = timer.median(step)
    return {"seconds": seconds, "tflops": flops / seconds / 1e12}


def outcome(step: Callable[[], Record]) -> Record:
    """What a step gives, or why it gives nothing: nobody's failure ends the run."""
    try:
        return step()
    except Exception as error:
        return reason(error)


def reason(error: Exception) -> Record:
    first = str(error).strip().splitlines()[:1]
    match error:
        case Skipped():
            return {"skipped": first[0]}
        case Wrong():
            return {"wrong": first[0]}
        case _:
            return {"failed": ": ".join([type(error).__name__, *first])}


# Contenders


def contenders(case: Case, inputs: Inputs) -> Iterator[tuple[str, Callable[[], Compute]]]:
    """Names, and functions that make those ready that compute."""
    yield OURS, partial(ours, case, inputs)
    yield FLEX, partial(flex, case, inputs)
    if case.entry.is_causal is not None:
        yield FLASH, partial(flash, case)


def own_backend(device: torch.device) -> str:
    """Kernels where they run: on a GPU, or in Triton's interpreter."""
    return "triton" if device.type == "cuda" or "triton" in usable_backends() else "tiled"


def ours(case: Case, inputs: Inputs) -> Compute:
    attention = case.entry.mask(case.size).compile(own_backend(case.size.device))
    return partial(attention, layout="ordered", **inputs)  # type: ignore[return-value]


def flex(case: Case, inputs: Inputs) -> Compute:
    """FlexAttention, compiled on a GPU for exactly these shapes."""
    torch._dynamo.reset()  # it computes without its kernels where it has been compiled too often
    create, compute = compiled_flex() if case.size.device.type == "cuda" else (create_block_mask, flex_attention)
    mask_mod = case.entry.mask_mod(case.size, inputs)
    score_mod = case.entry.score_mod(case.size, inputs)
    length = case.size.length
    block_mask = None if mask_mod is None else create(mask_mod, None, None, length, length, device=case.size.device)
    flex = partial(compute, score_mod=score_mod, block_mask=block_mask, scale=case.entry.scale)
    return flex if case.size.device.type == "cuda" else without_gradients(flex)


def without_gradients(compute: Compute) -> Compute:
    return lambda q, k, v: compute(q.detach(), k.detach(), v.detach())


def compiled_flex() -> tuple[Any, Any]:
    """`create_block_mask` and `flex_attention`, whose backward pass can be run again."""
    functorch.donated_buffer = False
    return torch.compile(create_block_mask), torch.compile(flex_attention, dynamic=False)


def flash(case: Case) -> Compute:
    def compute(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return scaled_dot_product_attention(q, k, v, is_causal=bool(case.entry.is_causal))

    return compute


def compile_ahead(case: Case) -> None:
    """Runs everything of a case once, so that its kernels are on disk. What fails here fails again when it is timed."""
    outcome(partial(run_once, case))


def run_once(case: Case) -> Record:
    inputs = case.entry.inputs(case.size)
    tensors, toward = case.tensors()
    for _, prepare in contenders(case, inputs):
        outcome(partial(differentiate, prepare, tensors, toward))
    return {}


def differentiate(prepare: Callable[[], Compute], tensors: list[Tensor], toward: Tensor) -> Record:
    torch.autograd.grad(prepare()(*tensors), tensors, toward)
    return {}
