"""Picks a kernel's tile choice from its ladder: the first that fits the GPU, or with `tune=True` the fastest.

Each choice is compiled with the arguments of the call before it is taken, and its shared memory is compared with the
GPU's. A choice that cannot run is never started, nor is one that spills registers where smaller tiles do not. Each
question is answered once per process.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, lru_cache, partial
from threading import RLock
from types import FunctionType
from typing import Any

import torch

from maskdsl.analysis.cost.descriptors import with_descriptors
from maskdsl.analysis.cost.tile_table import Architecture, KernelName, TileChoice, architecture_of, first_choice, ladder
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.backends import NoConfiguration
from maskdsl.emit.plan import KernelPlan
from maskdsl.runtime.backends.tuning import TuningKey, failures, fastest

_TENSOR_MEMORY = 512
"""Columns of tensor memory that one program may use, on GPUs that have tensor memory."""

Start = Callable[[Callable[..., Any], TileChoice], object]
"""Calls a function of a generated module, or its stand-in, with a tile choice for one of its kernels."""


class Chooser:
    """A process-wide cache of the tile choices made, for every generated module."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, bool, TuningKey], TileChoice] = {}
        self.lock = RLock()

    def choose(self, plan: KernelPlan, question: TuningKey, function: FunctionType, start: Start) -> TileChoice:
        """The tile choice for the kernel of `question`, which `function` of a generated module starts.

        `start` calls a stand-in of `function` with a choice. Raises `NoConfiguration` if no choice runs.
        """
        key = function.__code__.co_filename, plan.tune, question
        with self.lock:
            if key not in self.answers:
                self.answers[key] = _answer(plan, question, function, start)
            return self.answers[key]


CHOOSER = Chooser()


def _answer(plan: KernelPlan, question: TuningKey, function: FunctionType, start: Start) -> TileChoice:
    kernel, device = question.kernel, question.device
    asked = architecture(device), kernel, max(question.dims), question.dtype.itemsize
    choices = choices_of(plan, *asked, question.descriptors)
    real = function.__globals__[kernel]

    @cache
    def tried(choice: TileChoice) -> _CompileTrial:
        trial = _CompileTrial(real, largest_shared_memory(device), choice.descriptors)
        start(_with_only(function, kernel, trial), choice)
        return trial

    def fits(choice: TileChoice) -> bool:
        return tried(choice).fits

    if not any(map(fits, choices)):
        last = tried(choices[-1]).failure
        assert last is not None
        raise no_configuration(str(kernel), plan.mask.name, device, last) from last
    if plan.tune:
        runnable = filter(fits, choices)
        starts = {choice: partial(start, _with_only(function, kernel, real), choice) for choice in runnable}
        winner = fastest(question, function, starts)
        if winner is not None:
            return winner
    return first_choice(choices, fits, lambda choice: tried(choice).spilled)


def choices_of(
    plan: KernelPlan, architecture: Architecture, kernel: KernelName, dim: int, element_size: int, descriptors: bool
) -> tuple[TileChoice, ...]:
    """The ladder of a plan's kernel, with tensor descriptors where they are better, if there may be any.

    `dim` and `element_size` are those of `ladder`.
    """
    asked = architecture, kernel, dim, element_size
    choices = ladder(*asked, plan.work)
    if not descriptors:
        return choices
    has_lists, changes_scores = plan.row_limits is None, bool(plan.mask.pair_values)
    return with_descriptors(choices, *asked, has_lists=has_lists, changes_scores=changes_scores)


def no_configuration(kernel: str, pattern: str, device: torch.device, failure: Exception) -> AttnError:
    """The error for a kernel that Triton refuses with every choice; `failure` is that of the last one."""
    text = " ".join([f"{type(failure).__name__}:", *str(failure).split()])
    return AttnError(NoConfiguration(kernel=kernel, pattern=pattern, device=str(device), failure=text))


@contextmanager
def without_choice(kernel: str, pattern: str, device: torch.device) -> Iterator[None]:
    """A context for kernels of one size: Triton's failures become `NoConfiguration`."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except failures() as failure:
        raise no_configuration(kernel, pattern, device, failure) from failure


class _CompileTrial:
    """Stands in for a kernel: compiles it for its arguments and runs nothing."""

    def __init__(self, kernel: Any, shared: int, descriptors: bool) -> None:
        self.kernel = kernel
        self.shared = shared
        self.descriptors = descriptors
        self.failure: Exception | None = None
        """The error of compilation, or of a resource that the GPU lacks."""
        self.spilled = 0
        """Words of a thread that are not in registers."""

    @property
    def fits(self) -> bool:
        """Whether the kernel can be compiled and started."""
        return self.failure is None

    def __getitem__(self, grid: object) -> "_CompileTrial":
        return self

    def __call__(self, *arguments: object, **options: object) -> None:
        try:
            compiled = self.kernel.warmup(*arguments, grid=(1,), **options)
            if compiled is not None:  # the interpreter has nothing to compile
                self.keep(compiled)
                if self.descriptors:  # a driver encodes them for a launch, here of no program, and may refuse to
                    _ = self.kernel[0, 1, 1](*arguments, **options)
        except failures() as failure:
            self.failure = failure

    def keep(self, compiled: Any) -> None:
        """Records register spills. Raises RuntimeError if the kernel needs more memory than there is."""
        needed = compiled.metadata
        for what, count, limit in (
            ("bytes of shared memory", needed.shared, self.shared),
            ("columns of tensor memory", getattr(needed, "tmem_size", 0) or 0, _TENSOR_MEMORY),
        ):
            if count > limit:
                raise RuntimeError(f"needs {count} {what}, of which there are {limit}")
        _ = compiled.run  # loads the kernel: Triton knows `n_spills` only afterwards
        self.spilled = compiled.n_spills


class _Idle:
    """Stands in for a kernel and does nothing."""

    def __getitem__(self, grid: object) -> "_Idle":
        return self

    def __call__(self, *arguments: object, **options: object) -> None:
        """Nothing."""


def _with_only(function: FunctionType, kernel: KernelName, stand_in: object) -> FunctionType:
    """A copy of a generated module's function in which `stand_in` replaces one kernel, and `_Idle` all others."""
    kernels = {name: _Idle() for name in function.__globals__ if name.endswith("_kernel")}
    names = {**function.__globals__, **kernels, str(kernel): stand_in}
    copy = FunctionType(function.__code__, names, function.__name__, function.__defaults__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def architecture(device: torch.device) -> Architecture:
    """The architecture for the tile table; a CPU is the interpreter."""
    if device.type == "cpu":
        return Architecture.INTERPRETER
    return Architecture.GFX942 if torch.version.hip else architecture_of(torch.cuda.get_device_capability(device))


@lru_cache(maxsize=64)
def largest_shared_memory(device: torch.device) -> int:
    """Bytes of shared memory that one program may use; 0 on a CPU."""
    if device.type == "cpu":
        return 0
    from triton.runtime import driver  # late: an optional dependency, and slow

    properties: dict[str, int] = driver.active.utils.get_device_properties(device.index)
    return properties["max_shared_mem"]
