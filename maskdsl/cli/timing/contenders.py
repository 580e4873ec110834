"""Who computes a pattern in `bench`: the backends that can, SDPA in the forms that fit, compiled FlexAttention."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

from maskdsl.analysis.reach.key_bands import key_band
from maskdsl.api import Mask
from maskdsl.base.arguments import BackendName
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.records import dataclass
from maskdsl.cli.timing.bench_shape import BenchShape
from maskdsl.cli.timing.sdpa_calls import Call, all_keys, in_blocks, with_mask
from maskdsl.emit.plan import make_plan
from maskdsl.ir.facts.route_candidates import most, selects
from maskdsl.ir.meaning.routed_inputs import find_in_mask
from maskdsl.runtime.backends.available import BACKENDS
from maskdsl.view import units

_LARGEST_DENSE = 2**31
"""The most bytes of scores for which dense computation is tried."""
_FLEX, _SDPA_MASK = "FlexAttention, compiled", "SDPA, mask"
_NARROW = 2
"""How many times as long as a window the keys are at least, for its blocks to be tried."""


class Contender(NamedTuple):
    name: str
    make: Callable[[], Call]
    """Makes ready all that is not timed. It, and a first call, may raise: then the contender is left out."""
    is_ours: bool = False
    has_all_candidates: bool = False
    """Whether it attends all candidates of routes, and so computes something else."""


@dataclass(frozen=True)
class Contest:
    """What is compared, and on what tensors."""

    mask: Mask
    inputs: Mapping[str, Tensor]
    tensors: tuple[Tensor, Tensor, Tensor]
    shape: BenchShape

    def contenders(self, with_flex: bool) -> tuple[list[Contender], list[str]]:
        """All of them, and those that are left out from the start, with the reason."""
        taken, left_out = self._backends()
        for name, contender in (*self._sdpa(), (_FLEX, self._flex(with_flex))):
            if isinstance(contender, Contender):
                taken.append(contender)
            else:
                left_out.append(f"{name}: {contender}")
        return taken, left_out

    def arrays(self) -> dict[str, np.ndarray]:
        """The inputs, and what the pattern draws itself."""
        given = {name: values.cpu().numpy() for name, values in self.inputs.items()}
        return given if selects(self.mask.ir) else dict(find_in_mask(self.mask.ir, given))

    def _backends(self) -> tuple[list[Contender], list[str]]:
        taken, left_out = list[Contender](), list[str]()
        for backend in BACKENDS.values():
            if self.shape.device.startswith("cpu") and not backend.runs_on_cpu():
                continue
            if backend.is_dense and self._too_large():
                left_out.append(f"{backend.name}: {self._too_large()}")
            elif not backend.computes(make_plan(self.mask.ir), self.tensors[0], self.tensors[2]):
                left_out.append(f"{backend.name}: it does not compute this pattern for {self.shape.dtype}")
            else:
                make = partial(compiled_call, self.mask, backend.name, self.tensors, self.inputs)
                taken.append(Contender(backend.name, make, is_ours=True))
        return taken, left_out

    def _sdpa(self) -> list[tuple[str, Contender | str]]:
        """SDPA over a mask, and over the band of keys that the pattern attends, if it is one."""
        ir = self.mask.ir
        if ir.branches or ir.pair_values or ir.query_values or not ir.has_sums:
            return [(_SDPA_MASK, "the pattern changes scores")]
        routed = selects(ir)
        if routed:
            masked: Contender | str = "routes select in each call"
        else:
            make = partial(with_mask, self.mask, self.inputs, self.arrays(), *self.tensors)
            masked = self._too_large() or Contender(_SDPA_MASK, make)
        band = key_band(most(ir), self.arrays())
        if band is None:
            return [(_SDPA_MASK, masked)]
        if band.is_full or band.is_causal:
            name = "SDPA, is_causal" if band.is_causal else "SDPA"
            make = partial(_ready, all_keys(*self.tensors, is_causal=band.is_causal))
        elif _NARROW * (band.before + band.after + 1) <= band.length:
            name, make = "SDPA, blocks", partial(in_blocks, band, *self.tensors)
        else:
            return [(_SDPA_MASK, masked)]
        name = "SDPA, all candidates" if routed else name
        return [(name, Contender(name, make, has_all_candidates=routed)), (_SDPA_MASK, masked)]

    def _flex(self, wanted: bool) -> Contender | str:
        if not wanted:
            return "--no-flex"
        if self.shape.backward and self.shape.device.startswith("cpu"):
            return "it has no gradients on a CPU"
        return Contender(_FLEX, self._flex_call)

    def _flex_call(self) -> Call:
        q, k, v = self.tensors
        attention = self.mask.compile()
        given = {"batch": self.shape.batch, "head_dim": self.shape.head_dim}
        arguments = attention.to_flex(device=q.device, **given, **self.inputs).arguments  # type: ignore[arg-type]
        compiled = torch.compile(flex_attention, dynamic=False)
        return lambda: compiled(q, k, v, **arguments)

    def _too_large(self) -> str:
        scores = self.shape.score_bytes(self.mask)
        return f"its scores would take {units.size(scores)}" if scores > _LARGEST_DENSE else ""


def compiled_call(mask: Mask, backend: str, tensors: Sequence[Tensor], inputs: Mapping[str, Any]) -> Call:
    """A call of the attention of a mask, by this backend."""
    attention = mask.compile(cast(BackendName, backend))

    def call() -> Tensor:
        out: Tensor = attention(*tensors, return_lse=False, layout="declared", **inputs)
        return out

    return call


def _ready(call: Call) -> Call:
    return call


def first_line(error: Exception) -> str:
    """What went wrong, in one line."""
    said = error.diagnostics[0].fill(error.diagnostics[0].message) if isinstance(error, AttnError) else str(error)
    return f"{type(error).__name__}: {said.strip().splitlines()[0] if said.strip() else 'no reason given'}"
