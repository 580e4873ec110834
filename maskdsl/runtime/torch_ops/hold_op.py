"""The operator `maskdsl::hold`: lists of entries that calls give, to the tensors of sparse inputs.

Lists become tensors on the host. Results for the last lists are kept, for as long as these do not change.
"""

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from threading import Lock
from typing import Any
from weakref import ref

import numpy as np
import torch
from torch import Tensor
from torch.compiler import is_compiling

from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.sparse_inputs import NumbersOfNoList
from maskdsl.ir.declared.inputs import Input
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.given_lists import hold
from maskdsl.runtime.base.kept import in_no_mode
from maskdsl.runtime.base.validate import Signature
from maskdsl.runtime.compiled.compiled_mask import Bound, CompiledMask
from maskdsl.runtime.compiled.compiled_mask import find as find_compiled
from maskdsl.runtime.torch_ops.attention_op import LIBRARY

_MOST_KEPT = 16


def held_inputs(
    handle: str, signature: Signature, inputs: Sequence[Any], lengths: tuple[int, int], device: torch.device
) -> list[Tensor]:
    """The inputs of a call of the mask of a handle, with the tensors of sparse inputs in place of their lists.

    Their numbers are in the same order. Raises `AttnError` for lists that do not fit.
    """
    given = dict(zip(signature.inputs, inputs, strict=True))
    for name, (front, numbers) in signature.sparse.items():
        if _is_held(given[name], front):
            continue
        lists = _tensors(given[name]) if is_compiling() else given[name]
        if is_compiling():
            given[name], order = _HOLD(lists, handle, name, *lengths)
            most = lists[-1].shape[-1]
        else:
            mask = find_compiled(handle).bound(*lengths).plan.mask
            given[name], order, most = _kept(mask, name, lists, device)
        for each in numbers:
            given[each] = _arranged(name, each, given[each], order, most)
    return list(given.values())


def _is_held(value: Any, front: int) -> bool:
    """Whether a value is the tensor of a sparse input already, with so many dimensions before rows and columns."""
    return isinstance(value, Tensor) and value.layout is torch.strided and value.dim() == front + 1


def lengths_of_longest(compiled: CompiledMask, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor) -> tuple[int, int]:
    """The lengths at which a pattern is bound for packed sequences; any for one of fixed lengths."""
    if isinstance(compiled, Bound):
        return 0, 0
    mask = compiled.bound_to_longest(cu_seqlens_q, cu_seqlens_k).plan.mask
    return mask.queries.length, mask.keys.length


def _tensors(value: Any) -> list[Tensor]:
    """The tensors of a list, in graphs: pairs, or row starts and columns."""
    if isinstance(value, tuple):
        return [*value]
    return [value.crow_indices(), value.col_indices()] if value.layout is torch.sparse_csr else [value]


def _arranged(name: str, numbers: str, x: Tensor, order: Tensor | None, most: int) -> Tensor:
    """Numbers of entries in the order of the sparse input's tensor."""
    if x.dim() and x.shape[-1] != most:
        raise AttnError(NumbersOfNoList(name=numbers, sparse=name, found=x.shape[-1], expected=most))
    if not x.dim():
        return x  # the check of shapes tells
    if not most:
        return x.new_zeros(*x.shape[:-1], 1)
    if order is None:
        return x
    if order.dim() == 1:
        return x.index_select(-1, order)
    return torch.take_along_dim(x, order, dim=-1)


# Lists that are kept


class _LastLists:
    """The tensors of the last lists, by the identity and the version of the lists."""

    def __init__(self) -> None:
        self.known: OrderedDict[object, tuple[Any, ...]] = OrderedDict()
        self.lock = Lock()

    def find(self, key: object, pieces: Sequence[Any]) -> tuple[Any, ...] | None:
        with self.lock:
            references, *result = self.known.get(key, (None,))
            if references is None or any(each() is not piece for each, piece in zip(references, pieces, strict=True)):
                return None
            self.known.move_to_end(key)
            return tuple(result)

    def add(self, key: object, pieces: Sequence[Any], *result: Any) -> None:
        with self.lock:
            self.known[key] = ([ref(each) for each in pieces], *result)
            while len(self.known) > _MOST_KEPT:
                self.known.popitem(last=False)


_LAST = _LastLists()


def _kept(mask: MaskIR, name: str, value: Any, device: torch.device) -> tuple[Tensor, Tensor | None, int]:
    """The tensor of a sparse input, the places of its entries in the list (None: as given), and the list's length."""
    declared, numbers = _declared(mask, name)
    pieces = value if isinstance(value, tuple) else (value,)
    tensors = [each for each in pieces if isinstance(each, Tensor)]
    if any(each.is_inference() for each in tensors):
        return _made(declared, numbers, value, device)
    versions = tuple((id(each), each._version) if isinstance(each, Tensor) else _digest(each) for each in pieces)
    key = declared, numbers, device, versions
    known = _LAST.find(key, tensors)
    if known is None:
        known = _made(declared, numbers, value, device)
        _LAST.add(key, tensors, *known)
    return known


def _digest(value: Any) -> object:
    """What tells arrays and lists with other values apart."""
    given = (value.indptr, value.indices) if hasattr(value, "indptr") else (value,)
    try:
        arrays = [np.ascontiguousarray(each) for each in given]
    except (TypeError, ValueError, RuntimeError):
        return object()  # no list of entries: never known
    return tuple((each.dtype, each.shape, blake2b(each.tobytes()).digest()) for each in arrays)


def _made(declared: Input, numbers: str | None, value: Any, device: torch.device) -> tuple[Tensor, Tensor | None, int]:
    held = hold(declared, value, numbers)
    with in_no_mode():
        tensor = torch.as_tensor(held.tensor, device=device)
        order = None if held.is_in_order else torch.as_tensor(held.order, device=device)
    return tensor, order, held.count


def _declared(mask: MaskIR, name: str) -> tuple[Input, str | None]:
    """A sparse input, and the name of an input with numbers of its entries."""
    declared = mask.input(name)
    assert declared is not None
    return declared, next((each.name for each in mask.inputs if each.lists == name), None)


# The operator, for graphs


def _hold(lists: Sequence[Tensor], handle: str, name: str, queries: int, keys: int) -> tuple[Tensor, Tensor]:
    """The kernel of `maskdsl::hold`: the tensor of a sparse input, and the places of its entries in the list."""
    declared, numbers = _declared(find_compiled(handle).bound(queries, keys).plan.mask, name)
    held = hold(declared, tuple(lists) if len(lists) > 1 else lists[0], numbers)
    device, order = lists[0].device, np.require(held.order, requirements="W")
    return torch.as_tensor(held.tensor, device=device), torch.as_tensor(order, device=device)


def _fake_hold(lists: Sequence[Tensor], handle: str, name: str, queries: int, keys: int) -> tuple[Tensor, Tensor]:
    # `int` fixes symbolic lengths: the mask is bound at them.
    declared, _ = _declared(find_compiled(handle).bound(int(queries), int(keys)).plan.mask, name)
    rows, most = declared.dimensions[-2].size, lists[-1].shape[-1]
    assert rows is not None
    front, most = lists[-1].shape[:-1] if len(lists) > 1 else (), max(most, 1)
    shapes = (*front, rows + most + 3), (*front, most)
    held, order = (torch.empty(shape, dtype=torch.int64, device=lists[0].device) for shape in shapes)
    return held, order


LIBRARY.define(
    "hold(Tensor[] lists, str handle, str name, SymInt queries, SymInt keys) -> (Tensor held, Tensor order)",
    tags=(torch.Tag.pt2_compliant_tag,),
)
_HOLD = torch.ops.maskdsl.hold.default
LIBRARY.impl("hold", _hold, "CompositeExplicitAutograd")
torch.library.register_fake("maskdsl::hold", _fake_hold, lib=LIBRARY)
