"""The reference backend: dense attention over every pair of tokens, in plain torch."""

from functools import partial

from torch import Tensor

from maskdsl.emit.plan import KernelPlan
from maskdsl.emit.torch.reference_module import emit_reference
from maskdsl.runtime.backends.protocol import Backend
from maskdsl.runtime.base.call import Attend, KernelCall


class Reference(Backend):
    """Dense torch. Takes none of the other code paths (gather, two passes), so that they can be tested against it."""

    name = "reference"
    gathers = False
    regroups = False
    is_dense = True

    def emit(self, plan: KernelPlan) -> str:
        return emit_reference(plan)

    def prepared(self, call: KernelCall, q: Tensor, k: Tensor, v: Tensor) -> Attend:
        return partial(call.module.attention, inputs=call.values)
