"""The checks that `debug=True` adds to a call, on the host: NaN in scores of routes, table reads out of bounds."""

from collections.abc import Iterable, Sequence

import numpy as np
from torch import Tensor
from torch._compile import _disable_dynamo

from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.selection import NotANumber
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.nan_scores import nan_scores
from maskdsl.runtime.compiled.compiled_mask import Bound


@_disable_dynamo  # as `torch.compiler.disable`, which takes a second to import, at the first call
def check_scores(mask: MaskIR, q: Tensor, k: Tensor, tensors: Iterable[Tensor]) -> None:
    """Raises `NotANumber` if a candidate's score is NaN. `tensors` are all inputs, routed ones included."""
    inputs = dict(zip((each.name for each in mask.unmultiplied), map(_as_array, tensors), strict=True))
    errors = [
        NotANumber(
            route=each.route,
            batch=each.batch,
            head=each.head,
            query=each.query,
            key=each.key,
            count=each.count,
            span=each.span,
        )
        for each in nan_scores(mask, inputs, _as_array(q), _as_array(k))
    ]
    if errors:
        raise AttnError(errors[0])


@_disable_dynamo
def check_reads(compiled: Bound, q: Tensor, k: Tensor, v: Tensor, tensors: Sequence[Tensor]) -> None:
    """Raises `AttnError` if an attending pair reads outside a table. Has no time limit, and waits for the device."""
    compiled.check(q, k, v, tensors)
    compiled.open_reads.check(tensors, q.shape[0], debug=True)


def _as_array(x: Tensor) -> "np.ndarray[tuple[int, ...], np.dtype[np.generic]]":
    x = x.detach().cpu()
    return (x.double() if x.is_floating_point() else x).numpy()
