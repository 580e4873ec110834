"""Calls with some of the queries on the kernel in C: decoding, chunks of prompts, keys in pages.

Rows are of the blocks that the queries are in; where they are few, with those of all heads that share keys.
"""

from array import array
from functools import lru_cache, partial
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from maskdsl.emit.native_scores import native_of_terms
from maskdsl.emit.plan import KernelPlan
from maskdsl.ir.rewrites.chosen_pairs import ChosenPairs
from maskdsl.runtime.backends.native.call_terms import set_terms, some_terms
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
from maskdsl.runtime.backends.native.structures import LANES, LARGEST_ROW, CallStructure
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


def attend_some(
    call: KernelCall, q: Tensor, k: Tensor, v: Tensor, positions: TokenPositions
) -> tuple[Tensor, Tensor] | None:
    """The output and the log-sum-exp; None where the kernel does not compute them."""
    terms = call.plan.score_terms
    text = None if terms is None else call.state.keep("native text", lambda: native_of_terms(terms))
    functions = native_functions() if text is None else native_functions() and filled_functions(text.text)
    if functions is None:
        return None
    (batch, heads, count, _), key_heads = q.shape, k.shape[1]
    starts, lengths, table = positions
    kept: list[object] = []
    if chooses(call.plan):
        pairs = call.plan.chosen_pairs
        assert pairs is not None
        block = call.state.keep("choices of blocks", lambda: lru_cache(_BLOCKS)(partial(choice_tiles, pairs)))
        chosen = lists_of_queries(block, starts, choices(call, pairs), heads, key_heads)
        if chosen is None:
            return None
        kept.append(chosen)
        made = structure_of_choices(call, chosen, block(starts[0] // LARGEST_ROW).grid, q, k, v)
    else:
        blocks = call.state.keep(("row blocks", batch, heads), lambda: RowBlocks(call, batch, heads))
        lists = blocks.lists(starts, count, heads // key_heads)
        if lists is None:
            return None
        made = _structure(call, blocks, lists, q, k, v)
        kept.append(lists)
        if lists.form.biases is not None:
            bias = lists.form.biases.values(call.values)
            set_biases(made, bias)
            kept.append(bias)
        if text is not None:
            rows = torch.tensor(starts)[:, None] + torch.arange(count)
            arrays = some_terms(call, heads, rows, _keys_of(lists, blocks.grid.keys))
            numbers = array("f", text.numbers)
            set_terms(made, arrays)
            made.numbers, _ = numbers.buffer_info()
            kept += arrays, numbers
    if call.plan.mask.query_values:
        rows = torch.tensor(starts)[:, None, None] + torch.arange(count)
        kept.append(set_query_values(made, call, q, rows))
    of_entries = array("i", lengths)
    made.lengths, _ = of_entries.buffer_info()
    if table is not None:
        made.page, made.pages, made.pages_batch = k.shape[2], table.data_ptr(), table.stride(0)
    lse = blank_lse(q)
    out = forward(functions, made, q, k, v, lse)
    return None if out is None else (out, lse)


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
    form, key = lists.form, (q.shape, v.shape[3], q.dtype)
    if key not in form.structures:
        form.structures[key] = structure_of(call, form.lists, blocks.grid, q, k, v)
        form.structures[key].fold = q.shape[1] // k.shape[1] if form.fold else 1
    made = CallStructure.from_buffer_copy(form.structures[key])
    made.rows = lists.address
    return made
