"""Every launch configuration that a ladder has, forced: what is taken first on one GPU is the only one on another.

They run in Triton's interpreter too, with its own ladder.
"""

from collections.abc import Callable
from types import FunctionType

import pytest
import torch

import maskdsl
from maskdsl.analysis.cost.descriptors import with_descriptors
from maskdsl.analysis.cost.tile_table import KernelName, TileChoice, TileWork, ladder
from maskdsl.emit.plan import KernelPlan
from maskdsl.runtime.backends import triton_backend
from maskdsl.runtime.backends.tile_choice import CHOOSER, architecture
from maskdsl.runtime.backends.triton_backend import uses_descriptors
from maskdsl.runtime.backends.tuning import TuningKey
from tests.gpu.tensors import DEVICE, REASON, RUNS, check
from tests.support.awkward_lengths import EXAMPLES, LARGE, SMALL, awkward

pytestmark = pytest.mark.skipif(not RUNS, reason=REASON)

LENGTHS, HALF, DIMS = (LARGE, torch.bfloat16, (64, 128)) if DEVICE.type == "cuda" else (SMALL, torch.float16, (16,))
PATTERNS = {"causal_dense": "causal", "longformer": "longformer"}
"""By file: tiles in closed form, and in lists."""


def configurations(name: str, kernel: KernelName, dim: int) -> tuple[TileChoice, ...]:
    """Those of a ladder, with tensor descriptors too where calls take them."""
    asked = architecture(DEVICE), kernel, dim, HALF.itemsize
    choices = ladder(*asked, TileWork.WIDE)
    if not uses_descriptors(architecture(DEVICE)):
        return choices
    return with_descriptors(choices, *asked, has_lists=name == "longformer", changes_scores=False)


FORCED = [
    pytest.param(name, dim, kernel, choice, id=f"{name}-{dim}-{kernel}-{'x'.join(map(str, choice))}")
    for name in PATTERNS
    for dim in DIMS
    for kernel in KernelName
    for choice in configurations(name, kernel, dim)
]


class Forced:
    """Takes one configuration for one kernel, whatever else would be better."""

    def __init__(self, kernel: KernelName, choice: TileChoice) -> None:
        self.kernel, self.choice, self.asked = kernel, choice, False

    def choose(
        self, plan: KernelPlan, question: TuningKey, function: FunctionType, start: Callable[..., object]
    ) -> TileChoice:
        if question.kernel is not self.kernel:
            return CHOOSER.choose(plan, question, function, start)
        self.asked = True
        return self.choice


@pytest.mark.parametrize(("name", "dim", "kernel", "choice"), FORCED)
def test_every_launch_configuration(
    name: str, dim: int, kernel: KernelName, choice: TileChoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    forced = Forced(kernel, choice)
    monkeypatch.setattr(triton_backend, "CHOOSER", forced)
    mask = awkward(maskdsl.load(EXAMPLES / "language" / f"{PATTERNS[name]}.attn")[name], LENGTHS)
    try:
        check(mask, HALF, dims=(dim, dim))
    except Exception as error:
        if type(error).__name__ == "OutOfResources":
            # The table holds choices of all GPUs; calls take the first one that fits, so that others may be too large.
            pytest.skip(f"this GPU is too small: {error}")
        raise
    assert forced.asked
