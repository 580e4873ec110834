"""What a `Mask` gives to other attention engines: exact tiles and runs in their encodings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.api.given_inputs import Arrays, decided
from maskdsl.base.arguments import BATCH, BLOCK, COUNT, ENGINE, HEAD_DIM, INDEX, EngineName, optional, takes
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.arguments import OutsideMap, WrongArgument
from maskdsl.ir.expressions import Side
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.inputs import batch_entries, relation_inputs

if TYPE_CHECKING:
    import torch
    from torch.nn.attention.flex_attention import BlockMask

    from maskdsl.analysis.runs.token_runs import TokenRuns


class EngineEncodings:
    """The methods of `Mask` for other engines: which pairs attend, in declared order, as callers hold q, k and v.

    `batch` is the batch entry. What a pattern does to scores is in none of them but `engine_scores`.
    """

    ir: MaskIR

    @takes(block=BLOCK, batch=optional(BATCH))
    def block_mask(
        self,
        block: int | tuple[int, int] = (128, 128),
        *,
        device: torch.device | str = "cpu",
        batch: int | None = None,
        **inputs: ArrayLike,
    ) -> BlockMask:
        """The `BlockMask` of torch's FlexAttention, of the exact tiles of `block` (queries, keys) tokens, on `device`.

        It has one head where heads are alike. `BACKEND="FLASH"` takes blocks of (256, 128). `batch` is the number of
        batch entries, by default that of the inputs. `Attention.to_flex` gives the `score_mod` too. Raises `AttnError`
        for pooled keys and routes.
        """
        from maskdsl.ir.rewrites.plain_scores import plain_scores  # start-up time
        from maskdsl.runtime.compile import compile_mask  # imports torch: start-up time

        compiled = compile_mask(plain_scores(self.ir, relation_inputs(self.ir)), backend="reference")
        made = compiled.to_flex(block=block, device=device, batch=batch, **inputs)  # type: ignore[arg-type]
        return made.block_mask

    @takes(batch=optional(BATCH))
    def sdpa_mask(self, *, batch: int | None = None, **inputs: ArrayLike) -> torch.Tensor:
        """All pairs, bool [1 or batch, 1 or heads, queries, keys], on the CPU: `attn_mask` of torch's SDPA.

        True where a pair attends. Dense: it takes n x n memory, so it is for short sequences. `batch` is the number of
        batch entries, by default that of the inputs.
        """
        import torch  # start-up time

        from maskdsl.analysis.runs.token_runs import token_runs  # start-up time
        from maskdsl.engines.dense_masks import dense_masks  # start-up time

        arrays = self._arrays(inputs, 0, "SDPA")
        runs = [token_runs(self.ir, arrays, entry) for entry in self._entries(arrays, batch)]
        return torch.as_tensor(dense_masks(runs, self.ir.keys.length))

    @takes(most=COUNT, batch=INDEX)
    def row_intervals(self, most: int = 3, *, batch: int = 0, **inputs: ArrayLike) -> NDArray[np.int32]:
        """Intervals of keys, int32 [1 or heads, functions, queries]: `mask_func` of cuDNN frontend's Flex Attention.

        Functions F0 <= F1 <= ... of a query give the keys [0, F0), [F1, F2) and so on. There are as few as it takes,
        an odd number. Raises `AttnError` if that are more than `most`.
        """
        from maskdsl.engines.row_intervals import row_intervals  # start-up time

        return row_intervals(self._runs(inputs, batch, "cuDNN's Flex Attention"), most)

    @takes(batch=INDEX)
    def column_intervals(self, *, batch: int = 0, **inputs: ArrayLike) -> NDArray[np.int32]:
        """Masked queries, int32 [1 or heads, keys, 4]: `startend_row_indices` of FlashMask, for `causal=False`.

        No query in [LTS, LTE) and [UTS, UTE) attends the key. Raises `AttnError` if a key needs more than these.
        """
        from maskdsl.engines.column_intervals import column_intervals  # start-up time

        runs = self._runs(inputs, batch, "FlashMask", Side.KEY)
        return column_intervals(runs, self.ir.queries.length)

    @takes(head=optional(INDEX), batch=INDEX)
    def slices(
        self, head: int | None = None, *, batch: int = 0, **inputs: ArrayLike
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int8]]:
        """Disjoint slices: `q_ranges` and `k_ranges`, int32 [n, 2], and `attn_type_map`, int8 [n], of MagiAttention.

        Kinds are 0 full, 1 causal (to the bottom right), 2 inverse causal (from the top left) and 3 both. Raises
        `AttnError` if heads differ and `head` is not given.
        """
        from maskdsl.engines.slices import slices  # start-up time

        self._check_head(head)
        return slices(self._runs(inputs, batch, "MagiAttention"), head)

    @takes(block=BLOCK, head=INDEX, batch=INDEX)
    def block_sparse(
        self, block: int | tuple[int, int], head: int = 0, *, batch: int = 0, **inputs: ArrayLike
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Block-sparse rows (BSR) of whole blocks: `indptr` and `indices` of FlashInfer, int32.

        Raises `AttnError` if some block is attended in part, or the keys are no multiple of its width.
        """
        from maskdsl.engines.block_sparse import block_sparse  # start-up time

        self._check_head(head)
        size = cast("tuple[int, int]", block)
        arrays = self._arrays(inputs, batch, "FlashInfer")
        return block_sparse(tiles(self.ir.declared, block=size, inputs=arrays, entry=batch), head)

    @takes(head=INDEX, batch=INDEX)
    def bits(self, head: int = 0, *, batch: int = 0, **inputs: ArrayLike) -> NDArray[np.uint8]:
        """One bit for each pair, uint8: `packed_custom_mask` of FlashInfer. Takes n x n bits: for short sequences.

        Pairs are query by query, without a gap between queries; the first pair is the lowest bit of the first byte.
        """
        from maskdsl.engines.block_sparse import bits  # start-up time

        self._check_head(head)
        runs = self._runs(inputs, batch, "FlashInfer")
        return bits(runs.head_classes[runs.class_of_head[head]], self.ir.keys.length)

    @takes(engine=ENGINE, batch=INDEX, head_dim=optional(HEAD_DIM))
    def engine_scores(
        self, engine: EngineName, /, *, batch: int = 0, head_dim: int | None = None, **inputs: ArrayLike
    ) -> dict[str, Any]:
        """What the pattern does to scores, as the arguments of an engine's call: none if it leaves them as they are.

        A scale, a soft cap, ALiBi and sinks under the engine's names: floats, texts, and float32 arrays by head. Give
        them beside the engine's encoding of the pairs. SDPA's `attn_mask`, float32 [1 or heads, queries, keys], holds
        the pairs too, and takes n x n memory. `head_dim` is needed where scores are multiplied and the pattern has no
        `scale`, or reads `dim`. Raises `AttnError` for what the engine has no argument for.
        """
        from maskdsl.engines.engine_scores import ENGINES, engine_scores  # start-up time

        return engine_scores(engine, self.ir, self._arrays(inputs, batch, ENGINES[engine].name), batch, head_dim)

    @takes(position=INDEX, head=optional(INDEX), batch=optional(BATCH))
    def live_keys(
        self, position: int, /, *, head: int | None = None, batch: int | None = None, **inputs: ArrayLike
    ) -> NDArray[np.int64]:
        """The keys that a query from this position on attends, as runs, int64 [runs, 2]: others can leave a cache.

        In any batch entry, and for any head if `head` is None. `batch` is the number of batch entries, by default that
        of the inputs.
        """
        from maskdsl.analysis.runs.token_runs import token_runs  # start-up time
        from maskdsl.engines.live_keys import live_keys  # start-up time

        self._check_head(head)
        if position > self.ir.queries.length:
            raise AttnError(OutsideMap(what="query", number=position, last=self.ir.queries.length))
        arrays = decided(self.ir, inputs)
        entries = [token_runs(self.ir, arrays, entry) for entry in self._entries(arrays, batch)]
        return live_keys(entries, position, head, self.ir.keys.length)

    @takes(head=optional(INDEX), batch=optional(BATCH))
    def last_queries(
        self, *, head: int | None = None, batch: int | None = None, **inputs: ArrayLike
    ) -> NDArray[np.int64]:
        """The last query that attends each key, int64 [keys], -1 if none does: after it the key can leave a cache.

        In any batch entry, and of any head if `head` is None. `batch` is the number of batch entries, by default that
        of the inputs.
        """
        from maskdsl.analysis.runs.token_runs import token_runs  # start-up time
        from maskdsl.engines.live_keys import last_queries  # start-up time

        self._check_head(head)
        arrays = decided(self.ir, inputs)
        return last_queries(
            [token_runs(self.ir, arrays, each, Side.KEY) for each in self._entries(arrays, batch)], head
        )

    def _entries(self, arrays: Arrays, batch: int | None) -> range:
        """So many batch entries, or those of the inputs. Raises `AttnError` if inputs have others."""
        given = batch_entries(self.ir, arrays)
        if batch is not None and given not in (1, batch):
            raise AttnError(WrongArgument(name="batch", found=str(batch), expected=f"{given}, as the inputs have"))
        return range(batch or given)

    def _check_head(self, head: int | None) -> None:
        if head is not None and head >= self.ir.heads:
            raise AttnError(OutsideMap(what="head", number=head, last=self.ir.heads - 1))

    def _arrays(self, inputs: Mapping[str, ArrayLike], batch: int, engine: str) -> Arrays:
        """The inputs. Raises `AttnError` for what no encoding is of: several branches, or no batch entry."""
        from maskdsl.base.errors.calls.engines import BranchedMask  # start-up time

        if self.ir.branches:
            raise AttnError(BranchedMask(pattern=self.ir.name, engine=engine, span=self.ir.span))
        arrays = decided(self.ir, inputs)
        entries = batch_entries(self.ir, arrays)
        if batch >= entries > 1:
            raise AttnError(OutsideMap(what="batch entry", number=batch, last=entries - 1))
        return arrays

    def _runs(self, inputs: Mapping[str, ArrayLike], batch: int, engine: str, side: Side = Side.QUERY) -> TokenRuns:
        from maskdsl.analysis.runs.token_runs import token_runs  # start-up time

        return token_runs(self.ir, self._arrays(inputs, batch, engine), batch, side)
