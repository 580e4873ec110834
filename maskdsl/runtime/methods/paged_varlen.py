"""Packed queries of sequences whose keys lie in pages: prefills, their chunks, drafts and single tokens in one call.

On the host, sequences with as many queries as others are the batch entries of one partial call. Where that would wait
for a GPU, they are cut into blocks of as many queries.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from maskdsl.base.diagnostics import AttnError, Diagnostic
from maskdsl.base.errors.calls.lengths import NotThreeAxes
from maskdsl.base.errors.calls.serving import FewerKeys, ForwardOnly, PagesOfSequences
from maskdsl.ir.declared.inputs import DimensionKind, Input
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.routes import Draw, route_expressions
from maskdsl.runtime.base.validate import check_given, check_tensors, integers_of, wrong_heads
from maskdsl.runtime.calls.varlen import check_starts, malformed_ends, misplaced_ends
from maskdsl.runtime.compiled_mask import Bound
from maskdsl.runtime.decode.paging import CallPositions, absent_keys, is_on_host, malformed, page_rows, room
from maskdsl.runtime.methods.attention_facts import AttentionModule
from maskdsl.runtime.torch_ops.attention_op import needs_recording

_MOST_ROWS = 64
"""The most rows of a block of queries: those of a tile of the split-KV kernel."""


class PagedCall(NamedTuple):
    """A call of packed queries over pages. Tensors of positions are integers."""

    attention: AttentionModule
    q: Tensor
    """[all queries, heads, dim]."""
    k: Tensor
    """Pages, in the layout of the attention; v as well."""
    v: Tensor
    ends: Tensor
    """Where the queries of each sequence begin, [sequences + 1]."""
    starts: Tensor | None
    """The position of its first query, [sequences]; None for the last tokens of a sequence."""
    key_lengths: Tensor
    """The number of its keys, [sequences]."""
    page_table: Tensor
    """The page of each stretch of keys, [sequences, pages]."""
    inputs: Mapping[str, Any]
    """By name: tensors, or the lists of sparse inputs."""
    wants_lse: bool
    key_scale: float | Tensor | None
    value_scale: float | Tensor | None


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
    _check_tensors(call)
    compiled = _bound(call)
    _check_values(call, compiled)
    mask, signature, counts = compiled.plan.mask, call.attention._signature, torch.diff(call.ends.long())
    starts = call.starts
    if starts is None:
        starts = call.key_lengths.long() - counts if mask.is_layer else torch.zeros_like(counts)
    takes_all = bool(signature.sparse) or _reads_batch(compiled)
    needs_host = takes_all or signature.is_routed or signature.multiplies or _follows_each(call)
    if not (needs_host or is_on_host(call.ends)):
        return _in_blocks(call, starts.long(), mask.queries.length)
    groups = dict[tuple[int, int], list[int]]()
    keys = call.key_lengths.long() if _follows_each(call) else torch.zeros_like(counts)
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
        results = _each_length(call, rows, length) if _follows_each(call) else _attended(call, rows)
        if takes_all:
            tokens, results = tokens[members], results.of(members)
        computed.append((tokens, results))
    return _together(call, computed)


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


def _follows_each(call: PagedCall) -> bool:
    """Whether the pattern follows the numbers of queries and of keys, as in trees of drafts behind a context.

    Then spaces begin elsewhere in each sequence, so that one longer pattern cannot stand for all.
    """
    return call.attention._signature.follows == 2


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


# Checks


def of_pages(
    key_lengths: object, page_table: object, cu_seqlens_k: object, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The lengths and the table that the arguments of a call give. Raises `AttnError` if one of them is missing."""
    if cu_seqlens_k is not None:
        raise AttnError(PagesOfSequences(missing="cu_seqlens_k", found="given"))
    for name, value in (("key_lengths", key_lengths), ("page_table", page_table)):
        if value is None:
            raise AttnError(PagesOfSequences(missing=name, found="not given"))
    return integers_of("key_lengths", key_lengths, device), integers_of("page_table", page_table, device)


def _reads_batch(compiled: Bound) -> bool:
    """Whether something depends on the number of the sequence, other than through inputs."""
    count = len(compiled.plan.mask.branches)
    plans = [compiled.sum_of((number,)).plan for number in range(count)] or [compiled.plan]
    routed = [each for plan in plans for each in plan.mask.routed]
    drawn = any(isinstance(each, Draw) for each in routed)
    of_routes = reads(*(each for one in routed for each in route_expressions(one)))
    return drawn or of_routes.batch or any(plan.reads_batch for plan in plans)


def _bound(call: PagedCall) -> Bound:
    """The mask that says what the call may be."""
    most, longest = 1, room(_heads_first(call)[1], _positions(call))
    if is_on_host(call.ends) or _follows_each(call):
        most = max(1, int(torch.diff(call.ends.long()).max()))
    if _follows_each(call):
        longest = max(1, int(call.key_lengths.max()))
    return call.attention._compiled.bound(most, longest)


def _positions(call: PagedCall) -> CallPositions:
    starts = torch.zeros_like(call.key_lengths) if call.starts is None else call.starts
    return CallPositions(starts, call.key_lengths, call.page_table, None)


def _heads_first(call: PagedCall) -> tuple[Tensor, Tensor, Tensor]:
    """One query of each sequence, in no memory, and pages, with heads before tokens."""
    entries = call.q.new_empty(()).expand(len(call.ends) - 1, call.q.shape[1], 1, call.q.shape[2])
    k, v = ((x if call.attention.layout == "bhnd" else x.transpose(1, 2)) for x in (call.k, call.v))
    return entries, k, v


def _check_tensors(call: PagedCall) -> None:
    """Raises for shapes, types and devices, and where a gradient is asked."""
    if call.q.dim() != 3:
        raise AttnError(NotThreeAxes(name="q", shape=tuple(call.q.shape)))
    errors: list[Diagnostic] = [*malformed_ends("cu_seqlens_q", call.ends, len(call.ends), call.q)]
    if errors:
        raise AttnError(*errors)
    if call.k.dim() == call.v.dim() == 4:
        entries, k, v = _heads_first(call)
    else:
        entries, k, v = call.q[None], call.k, call.v
    check_tensors(entries, k, v, "declared", paged=True, mixed=True)
    errors = [*malformed(entries, k, _positions(call))]
    if errors:
        raise AttnError(*errors)
    signature = call.attention._signature
    sizes = {DimensionKind.BATCH: len(call.ends) - 1, DimensionKind.DIM: call.q.shape[2]}
    check_given(signature, [call.inputs[each.name] for each in signature.declared], sizes)
    named = {"q": call.q, "k": call.k, "v": call.v, **call.inputs}
    for name, x in named.items():
        if isinstance(x, Tensor) and needs_recording(x):
            hint = "call it under `torch.no_grad()`; for training give the keys themselves, and `cu_seqlens_k`"
            raise AttnError(ForwardOnly(what="`varlen` over pages", name=name, hint=hint))


def _check_values(call: PagedCall, compiled: Bound) -> None:
    """Raises for heads, and for positions, lengths and pages, as far as it shows without waiting for a GPU."""
    (entries, k, _), mask = _heads_first(call), compiled.plan.mask
    errors: list[Diagnostic] = [*wrong_heads(compiled.plan, entries, k)]
    if is_on_host(call.ends):
        errors += misplaced_ends("cu_seqlens_q", call.ends, len(call.q), mask.queries.length)
        errors = errors or [*absent_keys(compiled, k, _positions(call))] or [*_fewer_keys(call, mask.is_layer)]
    if errors:
        raise AttnError(*errors)
    if call.starts is not None:
        check_starts(compiled, call.starts, call.ends)


def _fewer_keys(call: PagedCall, is_layer: bool) -> Iterator[Diagnostic]:
    """The error of a sequence whose queries cannot all be its last tokens."""
    counts = torch.diff(call.ends.long())
    short = ((counts > call.key_lengths) & (counts > 0)).nonzero()
    if is_layer and call.starts is None and len(short):
        number = int(short[0])
        yield FewerKeys(number=number, queries=int(counts[number]), keys=int(call.key_lengths[number]))
