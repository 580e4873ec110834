"""NSA: three branches, and the shares of one are what another selects by."""

from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import pad

from tests.catalogue.compared import Computes, Row


def nsa(block: int, top: int, size: int, q: Tensor, k: Tensor, v: Tensor, gate: Tensor) -> Tensor:
    """Released code: fla-org/native-sparse-attention, native_sparse_attention/ops/naive.py, bd67af5."""
    ended = q.shape[2] // block * block
    coarse = [x[:, :, :ended].unflatten(2, (-1, block)).mean(dim=3) for x in (k, v)]
    return nsa_given(block, top, size, q, *(torch.cat(each, dim=2) for each in zip((k, v), coarse, strict=True)), gate)


def nsa_given(block: int, top: int, size: int, q: Tensor, k: Tensor, v: Tensor, gate: Tensor) -> Tensor:
    """Released code: fla-org/native-sparse-attention, native_sparse_attention/ops/naive.py, bd67af5.

    Behind the tokens come the keys and values of the blocks that are whole, in place of means.
    """
    n, shared = q.shape[2], q.shape[1] // k.shape[1]
    token, number = torch.arange(n), torch.arange(-(-n // block))
    own, causal = token[:, None] // block, token[:, None] >= token
    (k, coarse_k), (v, coarse_v) = (x.split([n, n // block], dim=2) for x in (k, v))
    coarse, share = _attend(q, coarse_k, coarse_v, ((number + 1) * block <= token[:, None] + 1)[:, : n // block])
    share = pad(share.detach(), (0, len(number) - n // block)).masked_fill(own == number, 1.0)
    found = share.unflatten(1, (-1, shared)).sum(dim=2).topk(min(top, len(number)), dim=-1).indices
    chosen = torch.zeros(*found.shape[:3], len(number), dtype=torch.bool).scatter_(-1, found, True)
    fine, _ = _attend(q, k, v, chosen.repeat_interleave(shared, dim=1)[..., token // block] & causal)
    near, _ = _attend(q, k, v, causal & (token[:, None] - token < size))
    return (gate[..., None] * torch.stack([coarse, fine, near])).sum(dim=0)


def _attend(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
    """The output and the probabilities: zeros for queries without keys."""
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    some = allowed.any(dim=-1, keepdim=True)
    score = (q @ k.mT * q.shape[-1] ** -0.5).masked_fill(~allowed & some, -torch.inf)
    share = score.softmax(dim=-1) * some
    return share @ v, share


ROWS: list[Row] = [
    Computes(
        "routing/nsa",
        source.__name__,
        {"n": n, "block": block, "top": top, "size": size},
        partial(source, block, top, size),
        heads=4,
        key_heads=2,
        inputs={"gate": (3, 2, 4, n)},
    )
    for source in (nsa, nsa_given)
    for n, block, top, size in [(45, 8, 2, 5), (45, 8, 99, 11), (5, 8, 1, 3)]
]
