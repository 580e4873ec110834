"""Packed queries of sequences whose keys lie in pages: prefills, their chunks, drafts and single tokens in one call.

On the host, sequences with as many queries as others are the batch entries of one partial call. Where that would wait
for a GPU, they are cut into blocks of as many queries.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from maskdsl.ir.declared.inputs import DimensionKind, Input
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.routes import Draw, route_expressions
from maskdsl.runtime.compiled.compiled_mask import Bound
from maskdsl.runtime.decode.paging import is_on_host, page_rows, room
from maskdsl.runtime.methods.paged_call import PagedCall
from maskdsl.runtime.methods.paged_checks import check_positions, check_tensors_of_pages

_MOST_ROWS = 64
"""The most rows of a block of queries: those of a tile of the split-KV kernel."""


class _CallRows(NamedTuple):
    """The queries of one partial call."""

    tokens: Tensor
    """Their numbers among all queries, [entries, queries]."""
    sequences: Tensor
    """The sequence of each batch entry, [entries]."""
    starts: Tensor
    """The position of the first query of each, [entries]."""
    key_lengths: Tensor
    """The number of keys of each, [entries]."""


class _CallResults(NamedTuple):
    """What a partial call computed."""

    out: Tensor
    """[entries, queries, heads, dim]."""
    lse: Tensor | None
    """[entries, queries, heads], or with the branches before the heads; None if it is not wanted."""

    def of(self, entries: Tensor) -> "_CallResults":
        """Those of some entries."""
        return _CallResults(self.out[entries], None if self.lse is None else self.lse[entries])


def attend_paged(call: PagedCall) -> tuple[Tensor, Tensor | None]:
    """The output [all queries, heads, dim of v] and the log-sum-exp [heads, all queries], as `varlen` returns them.

    Raises `AttnError`.
    """
    check_tensors_of_pages(call)
    compiled = _bound(call)
    check_positions(call, compiled)
    mask, signature, counts = compiled.plan.mask, call.attention._signature, torch.diff(call.ends.long())
    starts = call.starts
    if starts is None:
        starts = call.key_lengths.long() - counts if mask.is_layer else torch.zeros_like(counts)
    takes_all = bool(signature.sparse) or _reads_batch(compiled)
    needs_host = takes_all or signature.is_routed or signature.multiplies or call.follows_each
    if not (needs_host or is_on_host(call.ends)):
        return _in_blocks(call, starts.long(), mask.queries.length)
    groups = dict[tuple[int, int], list[int]]()
    keys = call.key_lengths.long() if call.follows_each else torch.zeros_like(counts)
    for sequence, (count, length) in enumerate(torch.stack([counts, keys], dim=1).tolist()):
        if count:
            groups.setdefault((count, length), []).append(sequence)
    everyone = torch.arange(len(counts), device=call.q.device)
    computed = list[tuple[Tensor, _CallResults]]()
    for (count, length), numbers in groups.items():
        members = torch.tensor(numbers, device=call.q.device)
        sequences = everyone if takes_all else members
        tokens = call.ends.long()[sequences, None] + torch.arange(count, device=call.q.device)
        first = starts[sequences].clamp(0, max(mask.queries.length - count, 0))  # others' queries are in the pattern
        rows = _CallRows(tokens.clamp(max=len(call.q) - 1), sequences, first, call.key_lengths[sequences])
        results = _each_length(call, rows, length) if call.follows_each else _attended(call, rows)
        if takes_all:
            tokens, results = tokens[members], results.of(members)
        computed.append((tokens, results))
    return _together(call, computed)


def _bound(call: PagedCall) -> Bound:
    """The mask that says what the call may be."""
    most, longest = 1, room(call.heads_first()[1], call.positions)
    if is_on_host(call.ends) or call.follows_each:
        most = max(1, int(torch.diff(call.ends.long()).max()))
    if call.follows_each:
        longest = max(1, int(call.key_lengths.max()))
    return call.attention._compiled.bound(most, longest)


def _reads_batch(compiled: Bound) -> bool:
    """Whether something depends on the number of the sequence, other than through inputs."""
    count = len(compiled.plan.mask.branches)
    plans = [compiled.sum_of((number,)).plan for number in range(count)] or [compiled.plan]
    routed = [each for plan in plans for each in plan.mask.routed]
    drawn = any(isinstance(each, Draw) for each in routed)
    of_routes = reads(*(each for one in routed for each in route_expressions(one)))
    return drawn or of_routes.batch or any(plan.reads_batch for plan in plans)


_reads_batch._dynamo_marked_constant = True  # type: ignore[attr-defined]  # as `assume_constant_result` does it


def _together(call: PagedCall, computed: Sequence[tuple[Tensor, _CallResults]]) -> tuple[Tensor, Tensor | None]:
    """The results of all queries, from those of some with their numbers; of others zeros."""
    total = len(call.q)
    if len(computed) == 1 and computed[0][0].numel() == total:  # all queries, in their order
        out, lse = (None if x is None else x.flatten(0, 1) for x in computed[0][1])
    else:
        out = call.q.new_zeros(*call.q.shape[:2], call.v.shape[3])
        lses = [(tokens, each.lse) for tokens, each in computed if each.lse is not None]
        branches = call.attention.branches
        heads = (len(branches), call.q.shape[1]) if branches else (call.q.shape[1],)
        kind = lses[0][1].dtype if lses else torch.promote_types(call.q.dtype, torch.float32)
        lse = call.q.new_full((total, *heads), -torch.inf, dtype=kind) if call.wants_lse else None
        for tokens, each in computed:
            out[tokens] = each.out
        for tokens, some in lses:
            assert lse is not None
            lse[tokens] = some
    assert out is not None
    return out, None if lse is None else lse.movedim(0, -1)


def _attended(call: PagedCall, rows: _CallRows) -> _CallResults:
    """One partial call of the attention."""
    heads_first, attention = call.attention.layout == "bhnd", call.attention
    q = call.q[rows.tokens]
    declared = {each.name: each for each in attention.declared_inputs}
    results = attention(
        q.transpose(1, 2) if heads_first else q,
        call.k,
        call.v,
        query_start=rows.starts,
        key_lengths=rows.key_lengths,
        page_table=call.page_table[rows.sequences],
        return_lse=call.wants_lse,
        key_scale=call.key_scale,
        value_scale=call.value_scale,
        **{
            name: _of_entries(declared[name], x, rows.sequences) if name in declared else x
            for name, x in call.inputs.items()
        },
    )
    out, lse = results if call.wants_lse else (results, None)
    out = out.transpose(1, 2) if heads_first else out
    return _CallResults(out, None if lse is None else lse.movedim(-1 if heads_first else -2, 1))


def _of_entries(declared: Input, x: Any, entries: Tensor) -> Any:
    """An input with these batch entries; the lists of sparse inputs as they are."""
    if not isinstance(x, Tensor) or DimensionKind.BATCH not in declared.kinds or x.dim() != len(declared.held):
        return x
    axis = declared.kinds.index(DimensionKind.BATCH)
    return x if x.shape[axis] == 1 else x.index_select(axis, entries)


# Sequences of patterns that follow the lengths of each


def _each_length(call: PagedCall, rows: _CallRows, length: int) -> _CallResults:
    """As `_attended`, by the pattern with as many queries as the rows have, and so many keys, in pages of 1."""
    device, count = call.q.device, len(rows.sequences)
    heads_first = call.attention.layout == "bhnd"
    positions = torch.arange(length, device=device).expand(count, -1)
    table = call.page_table[rows.sequences].long()
    here = positions < rows.key_lengths[:, None]
    table = table.masked_fill(table >= len(call.k), -1)
    pages = [x if heads_first else x.transpose(1, 2) for x in (call.k, call.v)]
    (k, there), (v, _) = (page_rows(x, positions, table) for x in pages)
    single = [x.transpose(1, 2).flatten(0, 1)[:, :, None] for x in (k, v)]
    k, v = single if heads_first else (x.transpose(1, 2) for x in single)
    numbers = torch.arange(count * length, device=device).view(count, length).masked_fill(~(here & there), -1)
    given = call.attention._compiled.bound(rows.tokens.shape[1], length).plan.mask.given
    cut = {
        each.name: _of_entries(each, _first_tokens(each, call.inputs[each.name]), rows.sequences)
        for each in given
        if each.name in call.inputs
    }
    single_keys = call._replace(k=k, v=v, page_table=numbers, inputs={**call.inputs, **cut})
    everyone = torch.arange(count, device=device)
    lengths = torch.full_like(rows.key_lengths, length)
    return _attended(single_keys, _CallRows(rows.tokens, everyone, torch.zeros_like(rows.starts), lengths))


def _first_tokens(declared: Input, x: Any) -> Any:
    """An input of as many tokens as are declared: the first ones."""
    if not isinstance(x, Tensor) or x.dim() != len(declared.held):
        return x
    for axis, side in enumerate(declared.held):
        if side.kind is DimensionKind.TOKENS and side.size is not None and x.shape[axis] > side.size:
            x = x.narrow(axis, 0, side.size)
    return x


# Without waiting for a GPU


def _in_blocks(call: PagedCall, starts: Tensor, length: int) -> tuple[Tensor, Tensor | None]:
    """The results from one partial call of blocks of as many queries, for a pattern of `length` queries.

    There are as many blocks as any sequences of so many queries can need. The last block of a sequence that ends with
    the pattern begins earlier.
    """
    ends, device, total = call.ends.long(), call.q.device, len(call.q)
    sequences, heads = len(ends) - 1, call.q.shape[1]
    key_heads = call.k.shape[1 if call.attention.layout == "bhnd" else 2]
    size = max(1, min(_MOST_ROWS * key_heads // heads, length, total))
    last = (-(-torch.diff(ends) // size)).cumsum(0)
    before = torch.cat([last.new_zeros(1), last[:-1]])
    blocks = torch.arange(-(-total // size) + sequences, device=device)
    sequence = torch.searchsorted(last, blocks, right=True).clamp(max=sequences - 1)
    first = (starts[sequence] + (blocks - before[sequence]) * size).clamp(0, length - size)
    tokens = (ends[sequence] + first - starts[sequence])[:, None] + torch.arange(size, device=device)
    lengths = call.key_lengths[sequence].masked_fill(blocks >= last[-1], 0)
    results = _attended(call, _CallRows(tokens.clamp(0, max(total - 1, 0)), sequence, first, lengths))
    token = torch.arange(total, device=device)
    of = torch.searchsorted(ends[1:].contiguous(), token, right=True)
    real, of = of < sequences, of.clamp(max=sequences - 1)
    position = starts[of] + token - ends[of]
    absent = ~(real & (position >= 0) & (position < length))
    block = (before[of] + (token - ends[of]) // size).clamp(0, len(blocks) - 1)
    row = (position - first[block]).clamp(0, size - 1)
    out = results.out[block, row].masked_fill(absent[:, None, None], 0)
    if results.lse is None:
        return out, None
    lse = results.lse[block, row].movedim(0, -1)
    return out, lse.masked_fill(absent, -torch.inf)
