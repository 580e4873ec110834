"""The arrays that `emit --engine` writes: what each engine takes, under the names of its arguments."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.api import Mask
from maskdsl.base.arguments import EngineName
from maskdsl.engines.block_lists import block_lists
from maskdsl.ir.meaning.inputs import batch_entries

_Arrays = dict[str, NDArray[Any]]
_Inputs = Mapping[str, NDArray[Any]]


def _flex(mask: Mask, inputs: _Inputs) -> _Arrays:
    """Of tiles of 128 x 128 tokens."""
    return block_lists(tiles(mask.ir.declared, inputs=inputs))


def _cudnn(mask: Mask, inputs: _Inputs) -> _Arrays:
    """Queries of all batch entries behind each other."""
    made = [mask.row_intervals(2**31 - 1, batch=batch, **inputs) for batch in _entries(mask, inputs)]
    heads, functions = (max(each.shape[axis] for each in made) for axis in (0, 1))
    wide = [np.pad(each, ((0, 0), (0, functions - each.shape[1]), (0, 0)), mode="edge") for each in made]
    return {"mask_func": np.concatenate([np.broadcast_to(each, (heads, *each.shape[1:])) for each in wide], axis=2)}


def _flashmask(mask: Mask, inputs: _Inputs) -> _Arrays:
    made = [mask.column_intervals(batch=batch, **inputs) for batch in _entries(mask, inputs)]
    return {"startend_row_indices": np.stack(np.broadcast_arrays(*made))}


def _magi(mask: Mask, inputs: _Inputs) -> _Arrays:
    """Tokens of all batch entries behind each other."""
    made = [mask.slices(None, batch=batch, **inputs) for batch in _entries(mask, inputs)]
    q_ranges = np.concatenate([each[0] + number * mask.query_length for number, each in enumerate(made)])
    k_ranges = np.concatenate([each[1] + number * mask.key_length for number, each in enumerate(made)])
    return {"q_ranges": q_ranges, "k_ranges": k_ranges, "attn_type_map": np.concatenate([each[2] for each in made])}


def _flashinfer(mask: Mask, inputs: _Inputs) -> _Arrays:
    """uint8 [batch, heads, bytes]."""
    heads, entries = range(mask.heads), _entries(mask, inputs)
    packed = [[mask.bits(head, batch=batch, **inputs) for head in heads] for batch in entries]
    return {"packed_custom_mask": np.array(packed)}


def _sdpa(mask: Mask, inputs: _Inputs) -> _Arrays:
    return {"attn_mask": mask.sdpa_mask(batch=None, **inputs).numpy()}


def score_arrays(engine: str, mask: Mask, inputs: _Inputs) -> _Arrays:
    """The arguments for scores; one for each batch entry, [batch, ...], if they differ. Raises as `engine_scores`."""
    name = cast(EngineName, engine)
    made = [mask.engine_scores(name, batch=batch, head_dim=None, **inputs) for batch in _entries(mask, inputs)]
    arrays = {argument: [np.asarray(each[argument]) for each in made] for argument in made[0]}
    return {
        argument: some[0] if all(np.array_equal(each, some[0]) for each in some) else np.stack(some)
        for argument, some in arrays.items()
    }


def _entries(mask: Mask, inputs: _Inputs) -> range:
    return range(batch_entries(mask.ir, inputs))


ENGINES: dict[str, Callable[[Mask, _Inputs], _Arrays]] = {
    "flex": _flex,
    "cudnn": _cudnn,
    "flashmask": _flashmask,
    "magi": _magi,
    "flashinfer": _flashinfer,
    "sdpa": _sdpa,
}
