"""The inputs that callers of masks give, as arrays."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.given_lists import holding
from maskdsl.ir.meaning.inputs import batch_entries, input_arrays
from maskdsl.ir.meaning.routed_inputs import find_in_mask
from maskdsl.ir.stack import StackIR

Arrays = dict[str, NDArray[np.generic]]


def arrays_of(mask: MaskIR | StackIR, inputs: Mapping[str, ArrayLike]) -> Arrays:
    """The inputs as NumPy arrays; the tensors of sparse inputs for their lists."""
    return {name: np.asarray(value) for name, value in holding(mask.inputs, inputs).items()}


def selected(mask: MaskIR, inputs: Mapping[str, ArrayLike]) -> Arrays:
    """The inputs as arrays, with the selections of routes in place of `q` and `k`."""
    return find_in_mask(mask, arrays_of(mask, inputs))


def decided(mask: MaskIR, inputs: Mapping[str, ArrayLike]) -> Arrays:
    """The same. Raises `AttnError` if an attending pair reads outside a table."""
    from maskdsl.analysis.indices.given_reads import check_reads  # start-up time

    arrays = selected(mask, inputs)
    input_arrays(mask, arrays, ())
    check_reads(mask, arrays, batch_entries(mask, arrays))
    return arrays
