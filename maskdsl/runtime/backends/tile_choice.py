"""Which choice of its ladder a kernel starts with: the first that fits the GPU or, where asked for, the fastest.

A choice is compiled before it is taken, with the arguments of the call that asks, and what it needs is held against
what the GPU has: nothing is started that cannot run, nor what spills registers where smaller tiles would not. Each
question is answered once in a process.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, lru_cache, partial
from threading import RLock
from types import FunctionType
from typing import Any

import torch

from maskdsl.analysis.cost.tile_table import Architecture, KernelName, TileChoice, architecture_of, first_choice, ladder
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.backends import NoConfiguration
from maskdsl.emit.plan import KernelPlan
from maskdsl.runtime.backends.tuning import TuningKey, failures, fastest

_TENSOR_MEMORY = 512
"""Columns of tensor memory that a program may have, on GPUs that have any."""

Start = Callable[[Callable[..., Any], TileChoice], object]
"""Calls a function of a generated module, or one that stands in for it, with a choice for one of its kernels."""


class Chooser:
    """The answers so far, for every generated module."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, bool, TuningKey], TileChoice] = {}
        self.lock = RLock()

    def choose(self, plan: KernelPlan, question: TuningKey, function: FunctionType, start: Start) -> TileChoice:
        """For the kernel in question, which `function` of a generated module starts; `start` calls what it is given."""
        key = function.__code__.co_filename, plan.tune, question
        with self.lock:
            if key not in self.answers:
                self.answers[key] = _answer(plan, question, function, start)
            return self.answers[key]


CHOOSER = Chooser()


def _answer(plan: KernelPlan, question: TuningKey, function: FunctionType, start: Start) -> TileChoice:
    kernel, device = question.kernel, question.device
    rungs = ladder(architecture(device), kernel, max(question.dims), question.dtype.itemsize, plan.work)
    real = function.__globals__[kernel]

    @cache
    def tried(choice: TileChoice) -> _CompileTrial:
        trial = _CompileTrial(real, largest_shared_memory(device))
        start(_alone(function, kernel, trial), choice)
        return trial

    def fits(choice: TileChoice) -> bool:
        return tried(choice).fits

    if not any(map(fits, rungs)):
        last = tried(rungs[-1]).failure
        assert last is not None
        raise no_configuration(str(kernel), plan.mask.name, device, last) from last
    if plan.tune:
        starts = {choice: partial(start, _alone(function, kernel, real), choice) for choice in filter(fits, rungs)}
        found = fastest(question, function, starts)
        if found is not None:
            return found
    return first_choice(rungs, fits, lambda choice: tried(choice).keeps_registers)


def no_configuration(kernel: str, pattern: str, device: torch.device, failure: Exception) -> AttnError:
    """What is said where Triton refuses the last choice for a kernel of a pattern."""
    text = " ".join([f"{type(failure).__name__}:", *str(failure).split()])
    return AttnError(NoConfiguration(kernel=kernel, pattern=pattern, device=str(device), failure=text))


@contextmanager
def without_choice(kernel: str, pattern: str, device: torch.device) -> Iterator[None]:
    """For kernels that are of one size: what Triton raises for them is a declared error."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except failures() as failure:
        raise no_configuration(kernel, pattern, device, failure) from failure


class _CompileTrial:
    """Stands in for a kernel: compiles it for what it is started with, and starts nothing."""

    def __init__(self, kernel: Any, shared: int) -> None:
        self.kernel = kernel
        self.shared = shared
        self.failure: Exception | None = None
        """Why it cannot be compiled or started."""
        self.keeps_registers = True
        """No thread keeps any of its numbers in memory."""

    @property
    def fits(self) -> bool:
        return self.failure is None

    def __getitem__(self, grid: object) -> "_CompileTrial":
        return self

    def __call__(self, *arguments: object, **options: object) -> None:
        try:
            compiled = self.kernel.warmup(*arguments, grid=(1,), **options)
            if compiled is not None:  # the interpreter has nothing to compile
                self.keep(compiled)
        except failures() as failure:
            self.failure = failure

    def keep(self, compiled: Any) -> None:
        """What it needs, held against what there is."""
        needed = compiled.metadata
        for what, found, limit in (
            ("bytes of shared memory", needed.shared, self.shared),
            ("columns of tensor memory", getattr(needed, "tmem_size", 0) or 0, _TENSOR_MEMORY),
        ):
            if found > limit:
                raise RuntimeError(f"needs {found} {what}, of which there are {limit}")
        _ = compiled.run  # Triton loads a kernel when its launcher is asked for; only then it says what spills
        self.keeps_registers = compiled.n_spills == 0


class _Idle:
    """Stands in for a kernel and does nothing."""

    def __getitem__(self, grid: object) -> "_Idle":
        return self

    def __call__(self, *arguments: object, **options: object) -> None:
        """Nothing."""


def _alone(function: FunctionType, kernel: KernelName, stand_in: object) -> FunctionType:
    """The function of a generated module with this for one kernel, and nothing for all others."""
    kernels = {name: _Idle() for name in function.__globals__ if name.endswith("_kernel")}
    names = {**function.__globals__, **kernels, str(kernel): stand_in}
    copy = FunctionType(function.__code__, names, function.__name__, function.__defaults__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def architecture(device: torch.device) -> Architecture:
    if device.type == "cpu":
        return Architecture.INTERPRETER
    return Architecture.GFX942 if torch.version.hip else architecture_of(torch.cuda.get_device_capability(device))


@lru_cache(maxsize=64)
def largest_shared_memory(device: torch.device) -> int:
    """Bytes that one program may have."""
    if device.type == "cpu":
        return 0
    from triton.runtime import driver  # late: an optional dependency, and slow

    properties: dict[str, int] = driver.active.utils.get_device_properties(device.index)
    return properties["max_shared_mem"]
