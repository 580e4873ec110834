"""Calls of packed sequences: `varlen`, a method of both attention modules."""

from typing import Any, Literal, overload

from torch import Tensor

from maskdsl.runtime.base.processes import distributed_tensor
from maskdsl.runtime.base.validate import arguments, check_options, check_sums, integers_of
from maskdsl.runtime.decode.cache_types import scales_of
from maskdsl.runtime.methods.attention_facts import AttentionModule
from maskdsl.runtime.methods.given_out import check_out, written
from maskdsl.runtime.methods.paged_call import PagedCall
from maskdsl.runtime.methods.paged_checks import of_pages
from maskdsl.runtime.methods.paged_varlen import attend_paged
from maskdsl.runtime.torch_ops.dropped_mask import drops
from maskdsl.runtime.torch_ops.hold_op import held_inputs, lengths_of_longest

NOT_GIVEN: Any = None
"""The default of required arguments, so that a missing one is a declared error: graphs cannot trace `takes`."""
NO_DROPOUT = 0
"""The default of `dropout_p`, no float: with `dynamic=True` torch.compile traces calls twice for a default float."""


class VarlenAttention(AttentionModule):
    """An attention that computes packed sequences of different lengths in one call."""

    @overload
    def varlen(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        cu_seqlens_q: Tensor,
        cu_seqlens_k: Tensor | None = ...,
        *,
        query_start: Tensor | None = ...,
        key_lengths: Tensor | None = ...,
        page_table: Tensor | None = ...,
        key_scale: float | Tensor | None = ...,
        value_scale: float | Tensor | None = ...,
        out: Tensor | None = ...,
        dropout_p: float = ...,
        seed: int | Tensor | None = ...,
        return_lse: Literal[False] = ...,
        **inputs: Any,
    ) -> Tensor: ...

    @overload
    def varlen(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        cu_seqlens_q: Tensor,
        cu_seqlens_k: Tensor | None = ...,
        *,
        query_start: Tensor | None = ...,
        key_lengths: Tensor | None = ...,
        page_table: Tensor | None = ...,
        key_scale: float | Tensor | None = ...,
        value_scale: float | Tensor | None = ...,
        out: Tensor | None = ...,
        dropout_p: float = ...,
        seed: int | Tensor | None = ...,
        return_lse: Literal[True],
        **inputs: Any,
    ) -> tuple[Tensor, Tensor]: ...

    @overload
    def varlen(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        cu_seqlens_q: Tensor,
        cu_seqlens_k: Tensor | None = ...,
        *,
        query_start: Tensor | None = ...,
        key_lengths: Tensor | None = ...,
        page_table: Tensor | None = ...,
        key_scale: float | Tensor | None = ...,
        value_scale: float | Tensor | None = ...,
        out: Tensor | None = ...,
        dropout_p: float = ...,
        seed: int | Tensor | None = ...,
        return_lse: bool,
        **inputs: Any,
    ) -> Tensor | tuple[Tensor, Tensor]: ...

    def varlen(
        self,
        q: Tensor = NOT_GIVEN,
        k: Tensor = NOT_GIVEN,
        v: Tensor = NOT_GIVEN,
        cu_seqlens_q: Tensor = NOT_GIVEN,
        cu_seqlens_k: Tensor | None = None,
        *,
        query_start: Tensor | None = None,
        key_lengths: Tensor | None = None,
        page_table: Tensor | None = None,
        key_scale: float | Tensor | None = None,
        value_scale: float | Tensor | None = None,
        out: Tensor | None = None,
        dropout_p: float = NO_DROPOUT,
        seed: int | Tensor | None = None,
        return_lse: bool = False,
        **inputs: Any,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attention within packed sequences of different lengths; q is [all queries, heads, head dim], k and v as well.

        Sequence n has the queries `cu_seqlens_q[n]` to `cu_seqlens_q[n + 1]`, and keys by `cu_seqlens_k` (by default
        the same); both are integers [sequences + 1], as in FlashAttention. Each sequence is the first tokens of the
        pattern, which must be as long as the longest one; a pattern whose length follows the tensors takes that length.
        `inputs` have one batch entry per sequence. Queries are the last tokens of their sequence (in cross-attention,
        the first), or begin at `query_start`, integers [sequences]. Returns the output [all queries, heads, head dim of
        v]; `return_lse` adds the log-sum-exp [heads, all queries].

        With a `page_table`, integers [sequences, pages], and `key_lengths`, integers [sequences], k and v are pages as
        in a partial call, and there is no `cu_seqlens_k`: prefills, chunks of prompts, drafts and single tokens go in
        one call. `key_lengths` counts the keys of the queries too. The pattern is the longest sequence there may be; if
        its length follows the tensors, it is as long as the table has room for, and if queries and keys are different
        tokens, as in trees of drafts, each sequence has its own lengths. Such a call has no gradients, and on a GPU it
        does not wait for lengths, but for patterns with routes or products, that read `batch` or follow both lengths.

        Pages may be of another type, with scales, and the output is written into `out`, if it is given: see `forward`.
        Raises `AttnError` for arguments that do not fit.
        """
        has_dropout = not (type(dropout_p) is int and dropout_p == 0 and seed is None) and drops(dropout_p, seed)
        if has_dropout or (type(q) is not Tensor and isinstance(q, distributed_tensor())):
            named = {"cu_seqlens_k": cu_seqlens_k, "query_start": query_start, "return_lse": return_lse, **inputs}
            named |= {"key_lengths": key_lengths, "page_table": page_table, "out": out}
            named |= {"key_scale": key_scale, "value_scale": value_scale}
            if has_dropout:
                vectors = q, k, v, cu_seqlens_q
                dropped: Tensor | tuple[Tensor, Tensor] = self._dropped("varlen", vectors, dropout_p, seed, named)
                return dropped
            from maskdsl.runtime.methods.distributed_call import attend_packed_shards  # start-up time

            named["cu_seqlens_q"] = cu_seqlens_q
            return attend_packed_shards(self, VarlenAttention, (q, k, v), named)
        q, k, v, tensors = arguments(self._signature, q, k, v, inputs)
        check_options("declared", return_lse=return_lse)
        if return_lse:
            check_sums(self._signatures)
        if out is not None:
            named = {"q": q, "k": k, "v": v, **dict(zip(self.inputs, tensors, strict=True))}
            check_out(out, (*q.shape[:-1], v.shape[-1]), named)
        cu_seqlens_q = integers_of("cu_seqlens_q", cu_seqlens_q, q.device)
        if query_start is not None:
            query_start = integers_of("query_start", query_start, q.device)
        if page_table is not None or key_lengths is not None:
            pages = of_pages(key_lengths, page_table, cu_seqlens_k, q.device)
            given = dict(zip(self.inputs, tensors, strict=True))
            call = PagedCall(
                self, q, k, v, cu_seqlens_q, query_start, *pages, given, return_lse, key_scale, value_scale
            )
            result, paged_lse = attend_paged(call)
            return written(out, result) if paged_lse is None else (written(out, result), paged_lse)
        scales_of(key_scale, value_scale, k, None)
        ends = cu_seqlens_q if cu_seqlens_k is None else integers_of("cu_seqlens_k", cu_seqlens_k, q.device)
        if self._signature.sparse:
            lengths = lengths_of_longest(self._compiled, cu_seqlens_q, ends)
            tensors = held_inputs(self._single.handle.in_graphs(), self._signature, tensors, lengths, q.device)
        packed = q, k, v, cu_seqlens_q, ends, query_start
        if not self._summands:
            result, lse = self._single.packed(*packed, tensors)
        else:
            results = [each.packed(*packed, [tensors[n] for n in wanted]) for each, wanted in self._summands]
            result, lse = self._sum_of(results, dim=0)
        return (written(out, result), lse) if return_lse else written(out, result)
