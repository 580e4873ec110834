"""Attention of images and points by position: tables, vectors, and logits that are given."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import fold, softplus, unfold

from tests.catalogue.compared import Computes
from tests.catalogue.sources.windows import near, numbered, swin


def swin_bias(h: int, w: int, size: int, shift: int) -> Callable[..., Tensor]:
    def compute(q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
        """Released code: microsoft/Swin-Transformer, models/swin_transformer.py, 055c506.

        `SwinTransformerBlock` with its `WindowAttention`: pairs of two regions lose 100.
        """
        rolled = np.roll(numbered(h, w), (-shift, -shift), (0, 1))
        windows = torch.as_tensor(near(rolled, size, size))
        y, x = torch.cartesian_prod(torch.arange(size), torch.arange(size)).T
        place = (y[:, None] - y + size - 1) * (2 * size - 1) + x[:, None] - x + size - 1
        apart = ~torch.as_tensor(swin(1, h, w, size, shift))[windows[:, :, None], windows[:, None, :]]
        scores = q[:, :, windows] * q.shape[-1] ** -0.5 @ k[:, :, windows].mT
        scores = scores + table.flatten(1)[:, None, place] - 100.0 * apart
        out = torch.empty_like(q)
        out[:, :, windows] = scores.softmax(-1) @ v[:, :, windows]
        return out

    return compute


def gpsa(q: Tensor, k: Tensor, v: Tensor, gate: Tensor, place: Tensor) -> Tensor:
    """Released code: huggingface/pytorch-image-models, timm/models/convit.py, 066e490.

    `GPSA.get_attention`, of a square image. The sum of both is normalized once more.
    """
    side = int(q.shape[2] ** 0.5)
    along = torch.arange(side)[None, :] - torch.arange(side)[:, None]
    right = along.repeat(side, side)
    down = along.repeat_interleave(side, dim=0).repeat_interleave(side, dim=1)
    offsets = torch.stack([right, down, right**2 + down**2], dim=-1).to(q.dtype)
    position = (offsets @ place.T).permute(2, 0, 1).softmax(-1)
    content = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)
    share = gate.view(1, -1, 1, 1).sigmoid()
    mixed = (1 - share) * content + share * position
    return mixed / mixed.sum(dim=-1, keepdim=True) @ v


def outlook(h: int, w: int, size: int, stride: int) -> Callable[..., Tensor]:
    def compute(q: Tensor, k: Tensor, v: Tensor, logits: Tensor) -> Tensor:
        """Released code: huggingface/pytorch-image-models, timm/models/volo.py, 0173a13.

        `OutlookAttention`: values are unfolded, zeros beyond the border included, weighed and folded again.
        """
        batch, heads, tokens, dim = v.shape
        sizes = {"kernel_size": size, "padding": size // 2, "stride": stride}
        cut = unfold(v.mT.reshape(batch, heads * dim, h, w), **sizes)
        windows = cut.view(batch, heads, dim, size**2, -1).permute(0, 1, 4, 3, 2)
        weighed = (logits.softmax(-1) @ windows).permute(0, 1, 4, 3, 2).reshape(batch, heads * dim * size**2, -1)
        return fold(weighed, (h, w), **sizes).view(batch, heads, dim, tokens).mT

    return compute


def aggregated(h: int, w: int, size: int, pool: int) -> Callable[..., Tensor]:
    def compute(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        query_embedding: Tensor,
        temperature: Tensor,
        local_bias: Tensor,
        pool_bias: Tensor,
        learnable_tokens: Tensor,
        learnable_bias: Tensor,
    ) -> Tensor:
        """Released code: DaiShiResearch/TransNeXt, classification/attention_native.py, c8a9974.

        `AggregatedAttention`, from its normalized queries and keys, those of its pooled map behind the others.
        """
        batch, heads, tokens, dim = q.shape

        def windows(x: Tensor) -> Tensor:
            """[batch, heads, tokens, places, dim], with zeros beyond the border."""
            image = x[:, :, :tokens].mT.reshape(batch, heads * dim, h, w)
            cut = unfold(image, size, padding=size // 2)
            return cut.view(batch, heads, dim, size**2, tokens).permute(0, 1, 4, 3, 2)

        inside = unfold(torch.ones(1, 1, h, w, dtype=q.dtype), size, padding=size // 2)[0].T
        length = (inside.sum(dim=-1, keepdim=True) + pool**2).log()
        scaled = (q + query_embedding[:, None]) * softplus(temperature)[:, None, None] * length
        local = (windows(k) @ scaled.unsqueeze(-1)).squeeze(-1) + local_bias[:, None]
        pooled = scaled @ k[:, :, tokens:].mT + pool_bias
        p = torch.cat([local.masked_fill(inside == 0, -torch.inf), pooled], dim=-1).softmax(-1)
        near, far = p.split([size**2, pool**2], dim=-1)
        learned = q @ learnable_tokens.mT + learnable_bias[:, None]
        return ((learned + near).unsqueeze(-2) @ windows(v)).squeeze(-2) + far @ v[:, :, tokens:]

    return compute


def planes(t: int, h: int, w: int, size: int, shift: int) -> Callable[..., Tensor]:
    def compute(q: Tensor, k: Tensor, v: Tensor, q_table: Tensor, k_table: Tensor, v_table: Tensor) -> Tensor:
        """Released code: LHDuan/ConDaFormer, pcr/models/condaformer/modules.py, 1fa596e.

        `forward_qkv_one_pass`: a third of the heads for each plane, with windows that are one voxel high, and the same
        tables for all thirds. A voxel is a quantum.
        """
        points = torch.cartesian_prod(*map(torch.arange, (t, h, w))).to(q.dtype)
        third = q.shape[1] // 3
        outs = []
        for plane, flat in enumerate((2, 1, 0)):
            window = torch.full((3,), float(size), dtype=q.dtype)
            window[flat] = 1
            moved = points + (window / 2 if shift else 0)
            voxel = moved // window
            attends = (voxel[:, None] == voxel).all(dim=-1)
            quanta = moved % window // 1
            apart = (quanta[:, None] - quanta + size - 1).long()
            by_query, by_key, by_value = (
                sum(table[apart[..., axis], axis] for axis in range(3)).movedim(2, 0)
                for table in (q_table, k_table, v_table)
            )
            heads = slice(plane * third, (plane + 1) * third)
            queries, keys, values = q[:, heads] * q.shape[-1] ** -0.5, k[:, heads], v[:, heads]
            scores = queries @ keys.mT + torch.einsum("bhid,hijd->bhij", queries, by_query)
            scores = scores + torch.einsum("bhjd,hijd->bhij", keys, by_key)
            p = scores.masked_fill(~attends, -torch.inf).softmax(-1)
            outs.append(p @ values + torch.einsum("bhij,hijd->bhid", p, by_value))
        return torch.cat(outs, dim=1)

    return compute


ROWS = [
    Computes("vision/convit", "gpsa", {"h": side, "w": side}, gpsa, heads=2, inputs={"gate": (2,), "place": (2, 3)})
    for side in (4, 3)
]
for values in ({"h": 6, "w": 9, "size": 3, "shift": 1}, {"h": 8, "w": 8, "size": 4, "shift": 0}):
    side = 2 * values["size"] - 1
    inputs = {"table": (2, side, side)}
    ROWS.append(Computes("vision/swin_bias", "swin_bias", values, swin_bias(**values), heads=2, inputs=inputs))
for h, w, size, stride in ((5, 4, 3, 1), (7, 4, 3, 2)):
    centres = -(-h // stride) * -(-w // stride)
    values = {"h": h, "w": w, "size": size, "stride": stride}
    inputs = {"logits": (2, 2, centres, size**2, size**2)}
    ROWS.append(Computes("vision/volo", "outlook", values, outlook(**values), heads=2, inputs=inputs))
for values in ({"h": 5, "w": 4, "size": 3, "pool": 2}, {"h": 3, "w": 6, "size": 5, "pool": 1}):
    places, pooled = values["size"] ** 2, values["pool"] ** 2
    inputs = {
        "query_embedding": (2, 8),
        "temperature": (2,),
        "local_bias": (2, places),
        "pool_bias": (2, values["h"] * values["w"], pooled),
        "learnable_tokens": (2, places, 8),
        "learnable_bias": (2, places),
    }
    ROWS.append(Computes("vision/transnext", "transnext", values, aggregated(**values), heads=2, inputs=inputs))
for heads, values in (
    (3, {"t": 3, "h": 5, "w": 4, "size": 2, "shift": 0}),
    (6, {"t": 5, "h": 4, "w": 6, "size": 4, "shift": 1}),
    (3, {"t": 7, "h": 2, "w": 4, "size": 5, "shift": 1}),
):
    inputs = dict.fromkeys(("q_table", "k_table", "v_table"), (2 * values["size"] - 1, 3, heads // 3, 8))
    ROWS.append(Computes("vision/condaformer", "planes", values, planes(**values), heads=heads, inputs=inputs))
