"""Calls with some of the queries on the kernel in C: decoding, chunks of prompts, keys in pages.

Rows are of the blocks that the queries are in; where they are few, with those of all heads that share keys.
"""

from array import array
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

from maskdsl.emit.native_scores import NativeText, native_of_terms
from maskdsl.emit.plan import KernelPlan
from maskdsl.ir.rewrites.chosen_pairs import ChosenPairs
from maskdsl.runtime.backends.native.call_terms import set_terms, some_terms, wide
from maskdsl.runtime.backends.native.choice_tiles import choice_tiles
from maskdsl.runtime.backends.native.native_calls import (
    blank_lse,
    filled_functions,
    forward,
    native_functions,
    set_biases,
    set_query_values,
    structure_of,
    structure_of_choices,
)
from maskdsl.runtime.backends.native.query_choices import lists_of_queries
from maskdsl.runtime.backends.native.row_blocks import QueryLists, RowBlocks
from maskdsl.runtime.backends.native.structures import CACHE_TYPES, LANES, LARGEST_ROW, CallStructure
from maskdsl.runtime.base.call import KernelCall, TokenPositions

_BLOCKS = 64
"""Blocks of queries whose tiles are cached, of tables of choices."""


def chooses(plan: KernelPlan) -> bool:
    """Whether queries are gathered by what they choose: then tiles do not follow from the table."""
    return plan.chosen_pairs is not None and not plan.mask.scores and plan.score_terms is None


def choices(call: KernelCall, pairs: ChosenPairs) -> NDArray[Any]:
    """The table of choices, bool [batch, heads or those that share one, rows, columns]."""
    table = call.inputs[pairs.table].detach()
    return (table if table.dim() == 4 else table.unsqueeze(1)).numpy()


class _Made(NamedTuple):
    """The structure of a call, without its tensors, and what it points to."""

    structure: CallStructure
    kept: list[object]


def attend_some(
    call: KernelCall, q: Tensor, k: Tensor, v: Tensor, positions: TokenPositions, target: Tensor | None
) -> tuple[Tensor, Tensor] | None:
    """The output, in `target` if that is given with dims together, and the log-sum-exp; None where the kernel does not
    compute them."""
    if not {k.dtype, v.dtype} <= CACHE_TYPES.keys():
        return None
    terms = call.plan.score_terms
    text = None if terms is None else call.state.keep("native text", lambda: native_of_terms(terms))
    functions = native_functions() if text is None else native_functions() and filled_functions(text.text)
    if functions is None:
        return None
    if chooses(call.plan):
        made = _by_choices(call, q, k, v, positions.starts)
    else:
        made = _by_blocks(call, q, k, v, positions.starts, text)
    if made is None:
        return None
    structure, kept = made
    if call.plan.mask.query_values:
        kept.append(set_query_values(structure, call, q, _rows(positions.starts, q)[:, None]))
    lengths, table = array("i", positions.lengths), positions.table
    structure.lengths, _ = lengths.buffer_info()
    if table is not None:
        structure.page, structure.pages, structure.pages_batch = k.shape[2], table.data_ptr(), table.stride(0)
    lse = blank_lse(q)
    out = forward(functions, structure, q, k, v, lse, target)
    return None if out is None else (out, lse)


def _rows(starts: Sequence[int], q: Tensor) -> Tensor:
    """The positions of queries, [batch, queries]."""
    return torch.tensor(starts)[:, None] + torch.arange(q.shape[2])


def _by_choices(call: KernelCall, q: Tensor, k: Tensor, v: Tensor, starts: Sequence[int]) -> _Made | None:
    """Of a table of choices: from the tiles of blocks of queries."""
    pairs = call.plan.chosen_pairs
    assert pairs is not None
    block = call.state.keep("choices of blocks", lambda: lru_cache(_BLOCKS)(partial(choice_tiles, pairs)))
    chosen = lists_of_queries(block, starts, choices(call, pairs), q.shape[1], k.shape[1])
    if chosen is None:
        return None
    return _Made(structure_of_choices(call, chosen, block(starts[0] // LARGEST_ROW).grid, q, k, v), [chosen])


def _by_blocks(
    call: KernelCall, q: Tensor, k: Tensor, v: Tensor, starts: tuple[int, ...], text: NativeText | None
) -> _Made | None:
    """From the lists of blocks of queries; `text` is that of the kernel, where scores have terms."""
    (batch, heads, count, _), key_heads = q.shape, k.shape[1]
    blocks = call.state.keep(("row blocks", batch, heads), lambda: RowBlocks(call, batch, heads))
    lists = blocks.lists(starts, count, heads // key_heads)
    if lists is None:
        return None
    made = _Made(_structure(call, blocks, lists, q, k, v), [lists])
    if lists.form.biases is not None:
        bias = lists.form.biases.values(wide(call.values))
        set_biases(made.structure, bias)
        made.kept.append(bias)
    if text is not None:
        arrays = some_terms(call, heads, _rows(starts, q), _keys_of(lists, blocks.grid.keys))
        set_terms(made.structure, arrays)
        numbers = array("f", text.numbers)
        made.structure.numbers, _ = numbers.buffer_info()
        made.kept.extend((arrays, numbers))
    return made


def _keys_of(lists: QueryLists, count: int) -> slice:
    """The keys from the first to the last that some row takes, of `count` keys."""
    runs = lists.form.lists.runs
    if not len(runs):
        return slice(0, 0)
    last = int((runs["panel"] + runs["panels"]).max())
    return slice(int(runs["panel"].min()) * LANES, min(last * LANES, count))


def _structure(
    call: KernelCall, blocks: RowBlocks, lists: QueryLists, q: Tensor, k: Tensor, v: Tensor
) -> CallStructure:
    """The structure of a call, without its tensors."""
    form, key = lists.form, (q.shape, k.shape[1], v.shape[3])
    if key not in form.structures:
        form.structures[key] = structure_of(call, form.lists, blocks.grid, q, k, v)
        form.structures[key].fold = q.shape[1] // k.shape[1] if form.fold else 1
    made = CallStructure.from_buffer_copy(form.structures[key])
    made.rows = lists.address
    return made
