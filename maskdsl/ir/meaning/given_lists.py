"""The lists of entries that callers give for sparse inputs, as the tensors of `ir/values/entries.py`."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskdsl.base.diagnostics import AttnError, Diagnostic, shown
from maskdsl.base.errors.calls.sparse_inputs import (
    EntryOutside,
    NotAList,
    NumbersOfNoList,
    RepeatedEntry,
    UnsortedStarts,
    WrongLists,
)
from maskdsl.base.records import dataclass
from maskdsl.ir.declared.inputs import DimensionKind, Input
from maskdsl.ir.values.entries import HEAD, entry_codes

Array = NDArray[Any]

_FORMS = (
    "give pairs, integers [2, entries], (row starts, columns), or a sparse matrix in compressed rows: "
    "`torch.sparse_csr_tensor` or `scipy.sparse.csr_array`"
)
_FORMS_IN_FRONT = "give (row starts, columns): integers [..., rows + 1] and [..., most], padded with -1"


def holding(inputs: Iterable[Input], given: Mapping[str, Any]) -> dict[str, Any]:
    """The given inputs, with the tensor of each sparse one in place of its list, and numbers in the order of entries.

    Sparse inputs that are such tensors already stay as they are, with their numbers. Raises `AttnError`.
    """
    result, inputs = dict(given), tuple(inputs)
    for declared in inputs:
        if declared.sparse and declared.name in given and not _is_held(declared, given[declared.name]):
            numbers = [each for each in inputs if each.lists == declared.name and each.name in given]
            held = hold(declared, given[declared.name], numbers[0].name if numbers else None)
            result[declared.name] = held.tensor
            for each in numbers:
                result[each.name] = held.arranged(each, np.asarray(given[each.name]))
    return result


def _is_held(declared: Input, value: Any) -> bool:
    """Whether a value is the tensor of a sparse input, not a list that callers give."""
    rows = declared.dimensions[-2].size
    if isinstance(value, tuple | list) or not _is_dense(value) or getattr(value, "ndim", 0) != len(declared.held):
        return False
    array = np.asarray(value)
    return array.shape[-1] > HEAD + (rows or 0) + 1 and bool((array[..., 0] == rows).all())


def _is_dense(value: object) -> bool:
    """Whether a value is no sparse matrix, of torch or SciPy."""
    return not hasattr(value, "tocsr") and "sparse" not in str(getattr(value, "layout", ""))


@dataclass(frozen=True, eq=False)
class Held:
    """The tensor of a sparse input, and where its entries stand in the list that it is made from."""

    name: str
    tensor: Array
    order: Array
    """int64 [..., most]: the position of each entry in the given list."""
    count: int
    """The entries of the given list, with padding. Without any, the tensor has room for one."""

    @property
    def is_in_order(self) -> bool:
        """Whether the entries stand as they are given."""
        return bool((self.order == np.arange(self.order.shape[-1])).all())

    def arranged(self, declared: Input, numbers: Array) -> Array:
        """Numbers in the order of entries: [..., most]. Raises `NumbersOfNoList`."""
        count = (numbers.shape or (self.count,))[-1]
        if count != self.count:
            error = NumbersOfNoList(
                name=declared.name, sparse=self.name, found=count, expected=self.count, span=declared.span
            )
            raise AttnError(error)
        if numbers.ndim < self.order.ndim:
            return numbers  # the check of shapes tells
        if not self.count:
            return np.zeros((*numbers.shape[:-1], 1), dtype=numbers.dtype)
        return np.take_along_axis(numbers, self.order[(None,) * (numbers.ndim - self.order.ndim)], axis=-1)


def hold(declared: Input, value: object, numbers: str | None = None) -> Held:
    """The tensor of what a caller gives for a sparse input. Raises `AttnError` (E393 to E397).

    `numbers` is the name of an input with numbers of its entries, which then must not be there twice.
    """
    rows, columns = (each.size for each in declared.dimensions[-2:])
    assert rows is not None and columns is not None
    lists = _listed(declared, value)
    if isinstance(lists, tuple):
        row, column = _by_rows(declared, *lists, rows)
    else:
        row, column = lists
    least = -1 if isinstance(lists, tuple) else 0
    errors = [*_outside(declared, "row", row, 0, rows), *_outside(declared, "column", column, least, columns)]
    if errors:
        raise AttnError(*errors)
    count = column.shape[-1]
    if not count:
        row, column = (np.full((*column.shape[:-1], 1), fill) for fill in (0, -1))
    end = entry_codes(np.asarray(rows), 0)
    codes = np.where(column >= 0, entry_codes(row, column), end)
    if (codes[..., 1:] >= codes[..., :-1]).all():
        order = np.broadcast_to(np.arange(codes.shape[-1]), codes.shape)
    else:
        order = np.argsort(codes, axis=-1, kind="stable")
        codes = np.take_along_axis(codes, order, axis=-1)
    if numbers is not None:
        _check_once(declared, codes, int(end), numbers)
    return Held(declared.name, _tensor(codes, rows), order, count)


def _tensor(codes: Array, rows: int) -> Array:
    """The tensor of sorted entries [..., most]."""
    flat, bounds = codes.reshape(-1, codes.shape[-1]), entry_codes(np.arange(rows + 1), 0)
    starts = np.array([np.searchsorted(each, bounds) for each in flat], dtype=np.int64).reshape(-1, rows + 1)
    longest = int(np.diff(starts, axis=-1).max(initial=0))
    head = np.broadcast_to(np.array([rows, longest.bit_length()]), (len(flat), HEAD))
    columns = np.where(flat < bounds[-1], flat & (2**31 - 1), -1)
    tensor = np.concatenate([head, starts, columns], axis=-1)
    return np.asarray(tensor.reshape(*codes.shape[:-1], tensor.shape[-1]))


def _outside(declared: Input, what: str, numbers: Array, least: int, size: int) -> Iterator[Diagnostic]:
    low, high = numbers.min(initial=0), numbers.max(initial=0)
    if numbers.size and (low < least or high >= size):
        worst = int(high if high >= size else low)
        yield EntryOutside(name=declared.name, what=what, found=worst, last=size - 1, span=declared.span)


def _check_once(declared: Input, codes: Array, end: int, numbers: str) -> None:
    twice = (codes[..., 1:] == codes[..., :-1]) & (codes[..., 1:] < end)
    if twice.any():
        row, column = divmod(int(codes[..., 1:][twice][0]), 2**31)
        error = RepeatedEntry(name=declared.name, row=row, column=column, numbers=numbers, span=declared.span)
        raise AttnError(error)


def _listed(declared: Input, value: Any) -> Array | tuple[Array, Array]:
    """Pairs, or row starts and columns, of integers. Raises `NotAList`."""
    in_front = len(declared.dimensions) > 2

    def fault(what: str, matrix: object = None) -> AttnError:
        hint = _FORMS_IN_FRONT if in_front else _FORMS
        if matrix is not None and not in_front:
            hint = f"give `{declared.name}.{'tocsr' if hasattr(matrix, 'tocsr') else 'to_sparse_csr'}()`; or {_FORMS}"
        return AttnError(NotAList(name=declared.name, found=what, hint=hint, span=declared.span))

    if str(getattr(value, "layout", "")) == "torch.sparse_csr":
        value = value.crow_indices(), value.col_indices()
    elif getattr(value, "format", None) == "csr":
        value = value.indptr, value.indices
    elif not _is_dense(value):
        raise fault(f"a sparse matrix of the format {getattr(value, 'format', None) or value.layout}", value)
    if isinstance(value, tuple) and len(value) == 2:
        starts, columns = (_integers(each) for each in value)
        if starts is None or columns is None:
            raise fault("a pair with something else than integers")
        return starts, columns
    pairs = _integers(value)
    if pairs is None:
        raise fault(f"a tensor of {value.dtype}".replace("torch.", "") if hasattr(value, "dtype") else shown(value))
    if in_front or pairs.ndim != 2 or len(pairs) != 2:
        raise fault(f"a tensor of the shape {tuple(pairs.shape)}")
    return pairs


def _integers(value: Any) -> Array | None:
    """Integers of any library as int64, and any list without entries; None for anything else."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):
        return None
    if array.dtype.kind not in "iu" and (array.size or hasattr(value, "dtype")):
        return None
    return array.astype(np.int64)


def _by_rows(declared: Input, starts: Array, columns: Array, rows: int) -> tuple[Array, Array]:
    """Row and column of every entry, [..., most]; the column is -1 where there is none."""
    errors = [
        *_wrong_shape(declared, "row starts", starts, rows + 1, f"{rows} + 1"),
        *_wrong_shape(declared, "columns", columns, None, "most"),
    ]
    if not errors and starts.shape[:-1] != columns.shape[:-1]:
        expected = f"[{', '.join(map(str, (*starts.shape[:-1], 'most')))}]"
        shape = tuple(columns.shape)
        errors.append(
            WrongLists(name=declared.name, what="columns", found=shape, expected=expected, span=declared.span)
        )
    if errors:
        raise AttnError(*errors)
    _check_starts(declared, starts, columns.shape[-1])
    positions, flat = np.arange(columns.shape[-1]), starts.reshape(-1, rows + 1)
    row = np.array([np.searchsorted(each[1:], positions, side="right") for each in flat], dtype=np.int64)
    row = row.reshape(columns.shape)
    return np.minimum(row, rows - 1), np.where(row < rows, columns, -1)


def _wrong_shape(declared: Input, what: str, array: Array, last: int | None, text: str) -> Iterator[Diagnostic]:
    front = declared.dimensions[:-2]
    sizes = [
        (None, 1) if each.size is None else (each.size, 1)[: 1 + (each.kind is DimensionKind.HEADS)] for each in front
    ]
    expected = [*sizes, (last,)]
    if len(array.shape) != len(expected) or any(
        None not in fitting and length not in fitting for fitting, length in zip(expected, array.shape, strict=True)
    ):
        sides = f"[{', '.join([*(each.text for each in front), text])}]"
        shape = tuple(array.shape)
        yield WrongLists(name=declared.name, what=what, found=shape, expected=sides, span=declared.span)


def _check_starts(declared: Input, starts: Array, most: int) -> None:
    falls = starts[..., 1:] < starts[..., :-1]
    if starts[..., 0].any():
        what = f"begin with {int(starts[..., 0][starts[..., 0] != 0].flat[0])}"
    elif falls.any():
        what = f"fall behind row {int(np.argwhere(falls)[0][-1])}"
    elif (starts[..., -1] > most).any():
        what = f"end with {int(starts[..., -1].max())}, and there are {most} columns"
    else:
        return
    raise AttnError(UnsortedStarts(name=declared.name, what=what, span=declared.span))
