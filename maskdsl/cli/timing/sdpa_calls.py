"""What people write with torch's scaled_dot_product_attention (SDPA) in place of a pattern."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from maskdsl.analysis.reach.key_bands import KeyBand
from maskdsl.api import Mask
from maskdsl.emit.plan import make_plan
from maskdsl.ir.expressions import Side
from maskdsl.ir.meaning.evaluate import dense
from maskdsl.runtime.compiled.compiled_mask import Bound

Call = Callable[[], Tensor]
_ROWS = 64
"""Queries of a block of a window."""


def all_keys(q: Tensor, k: Tensor, v: Tensor, is_causal: bool) -> Call:
    """SDPA of all pairs, or of those that do not look ahead."""
    return lambda: scaled_dot_product_attention(q, k, v, is_causal=is_causal, enable_gqa=q.shape[1] != k.shape[1])


def with_mask(
    mask: Mask, inputs: Mapping[str, Tensor], arrays: Mapping[str, np.ndarray], q: Tensor, k: Tensor, v: Tensor
) -> Call:
    """SDPA with the pairs of a mask as booleans, pooled keys made first. `arrays` decide the pairs."""
    rows = [
        torch.stack([torch.tensor(dense(mask.ir, head, batch, arrays)) for head in range(q.shape[1])])
        for batch in range(q.shape[0])
    ]
    allowed = torch.stack(rows).to(q.device)
    kernel = Bound(make_plan(mask.ir), "reference").default_kernel
    values = kernel.values([inputs[each.name] for each in mask.ir.given], q.device)

    def call() -> Tensor:
        sides = (Side.QUERY, q), (Side.KEY, k), (Side.KEY, v)
        queries, keys, others = (kernel.all_tokens(side, x, values) for side, x in sides)
        return scaled_dot_product_attention(queries, keys, others, attn_mask=allowed, enable_gqa=True)

    return call


def in_blocks(band: KeyBand, q: Tensor, k: Tensor, v: Tensor) -> Call:
    """SDPA of blocks of queries, each against all keys that one of them attends, with a mask: for windows.

    Heads that share keys are rows of one block.
    """
    length, (batch, key_heads) = band.length, k.shape[:2]
    group, blocks = q.shape[1] // key_heads, -(-length // _ROWS)
    starts = torch.arange(blocks)[:, None] * _ROWS
    queries, keys = starts + torch.arange(_ROWS), starts + torch.arange(-band.before, _ROWS + band.after)
    behind = queries[:, :, None] - keys[:, None]
    inside = (behind <= band.before) & (behind >= -band.after) & ((keys >= 0) & (keys < length))[:, None]
    allowed = inside.repeat(1, group, 1)[None].to(q.device)
    ahead = blocks * _ROWS - length

    def windows(x: Tensor) -> Tensor:
        padded = pad(x.flatten(0, 1), (0, 0, band.before, band.after + ahead))
        unfolded: Tensor = padded.unfold(1, keys.shape[1], _ROWS)
        return unfolded.mT

    def call() -> Tensor:
        rows = pad(q, (0, 0, 0, ahead)).reshape(batch * key_heads, group, blocks, _ROWS, q.shape[3]).transpose(1, 2)
        out = scaled_dot_product_attention(rows.flatten(2, 3), windows(k), windows(v), allowed)
        out = out.reshape(batch, key_heads, blocks, group, _ROWS, v.shape[3]).transpose(2, 3)
        return out.reshape(batch, q.shape[1], blocks * _ROWS, v.shape[3])[:, :, :length]

    return call
