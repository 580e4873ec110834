"""Cubes of a video, which attend as one and choose as one."""

from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from tests.catalogue.compared import Computes, Row


def video_sparse(q: Tensor, k: Tensor, v: Tensor, t: int, h: int, w: int, top: int) -> Tensor:
    """Released code: hao-ai-lab/FastVideo, fastvideo-kernel/python/fastvideo_kernel/ops.py, 2f3d407.

    Without a gate for the means. Cubes of 4 x 4 x 4 are those of vsa_utils.py, cut at the far borders.
    """
    cells = torch.cartesian_prod(*(torch.arange(length) // 4 for length in (t, h, w)))
    cube = cells.unique(dim=0, return_inverse=True)[1]
    member = one_hot(cube).to(q)
    mean_q, mean_k, mean_v = ((member / member.sum(dim=0)).mT @ x for x in (q, k, v))
    score = mean_q @ mean_k.mT / q.shape[-1] ** 0.5
    means = (score.softmax(dim=-1) @ mean_v)[:, :, cube]
    best = torch.zeros_like(score).scatter(-1, score.topk(min(top, score.shape[-1])).indices, 1).bool()
    pairs = q @ k.mT / q.shape[-1] ** 0.5
    return means + pairs.masked_fill(~best[:, :, cube][..., cube], -torch.inf).softmax(dim=-1) @ v


def _row(t: int, h: int, w: int, top: int) -> Row:
    values = {"t": t, "h": h, "w": w, "top": top}
    return Computes("routing/video_sparse", "video_sparse", values, partial(video_sparse, **values), heads=2)


ROWS: list[Row] = [_row(5, 6, 9, 3), _row(4, 3, 7, 1), _row(2, 3, 5, 4)]
