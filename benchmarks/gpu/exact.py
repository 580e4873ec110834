"""What the results have to be: attention in float64 where the tensors are, from the masks and scores of FlexAttention.

Nothing of maskdsl is in it. Rows are computed some at a time, so that long sequences fit.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gpu.patterns import Entry, Inputs, Size

TOLERANCES = {torch.bfloat16: 0.02, torch.float16: 0.004, torch.float32: 1e-4}
"""The error of a row by its size, and of all rows by that of all.

Rounding P, dS and the output to bfloat16 alone makes errors of 0.003 to 0.009."""
PAIRS = 2**25
"""As many are computed at a time."""


class Wrong(Exception):
    """A result is not what it has to be."""


@dataclass(frozen=True, eq=False)
class Exact:
    """The results of the last batch entry: of its last key head, and of the query heads that share it. float64."""

    out: Tensor
    """[query heads, queries, value dim]; so are gradients of q, and of keys [keys, dim]."""
    gradients: tuple[Tensor, Tensor, Tensor]

    def check_output(self, out: Tensor) -> float:
        """The largest error of [batch, heads, queries, value dim]. Raises `Wrong` if it is too large."""
        return checked("the output", out.detach()[-1, -len(self.out) :], self.out, self.out.norm(dim=-1).mean())

    def check_gradients(self, gradients: tuple[Tensor, ...]) -> dict[str, float]:
        """The errors of the gradients of q, k and v, by name. Raises `Wrong` if one is too large."""
        q, k, v = gradients
        given = {"q": q[-1, -len(self.out) :], "k": k[-1, -1], "v": v[-1, -1]}
        return {
            name: checked(f"the gradient of {name}", each, right, right.norm(dim=-1).max())
            for (name, each), right in zip(given.items(), self.gradients, strict=True)
        }


def exact(
    entry: Entry, size: Size, tensors: list[Tensor], toward: Tensor, inputs: Inputs, scale: float | None = None
) -> Exact:
    """From q, k, v and what gradients are taken toward, [batch, heads, tokens, dim] in laid-out order."""
    q, k, v = (x.detach() for x in tensors)
    group = q.shape[1] // k.shape[1]
    keys, values = (x[-1, -1].double().requires_grad_() for x in (k, v))
    queries = q[-1, -group:].double().requires_grad_()
    rows = max(1, PAIRS // len(keys))
    out, gradients = torch.empty_like(toward[-1, -group:], dtype=torch.float64), [0.0, 0.0, 0.0]
    leaves = queries, keys, values
    for head in range(group):
        for first in range(0, queries.shape[1], rows):
            chunk = slice(first, first + rows)
            found = attended(entry, size, inputs, queries[head, chunk], keys, values, chunk, q.shape[1] - group + head)
            out[head, chunk] = found.detach()
            steps = torch.autograd.grad(found, leaves, toward[-1, head - group, chunk].double())
            gradients = [total + step for total, step in zip(gradients, steps, strict=True)]
    return Exact(out, tuple(gradients))


def attended(
    entry: Entry, size: Size, inputs: Inputs, q: Tensor, k: Tensor, v: Tensor, rows: slice, head: int
) -> Tensor:
    """The outputs of some queries of the last batch entry, [rows, dim], over all keys; each attends to one or more."""
    device = q.device
    entry_of_batch, head_of = torch.tensor(0, device=device), torch.tensor(head, device=device)
    at = torch.arange(rows.start, rows.start + len(q), device=device)[:, None]
    to = torch.arange(len(k), device=device)[None, :]
    scores = q @ k.mT * (q.shape[-1] ** -0.5 if entry.scale is None else entry.scale)
    score_mod, mask_mod = entry.score_mod(size, inputs), entry.mask_mod(size, inputs)
    if score_mod is not None:
        scores = score_mod(scores, entry_of_batch, head_of, at, to)
    if mask_mod is not None:
        scores = scores.masked_fill(~mask_mod(entry_of_batch, head_of, at, to), -torch.inf)
    return scores.softmax(-1) @ v


def checked(what: str, found: Tensor, expected: Tensor, least: Tensor) -> float:
    """The largest error of [..., dim]. Raises `Wrong` if it is too large, or no number.

    Rows count as no smaller than `least`: where the terms of a gradient cancel out, their rounding does not.
    """
    difference, sizes = found.double() - expected, expected.norm(dim=-1)
    rows = difference.norm(dim=-1) / torch.maximum(sizes, least)
    worst = float(torch.maximum(rows.max(), difference.norm() / expected.norm()))
    limit = TOLERANCES[found.dtype]
    if not worst <= limit:
        raise Wrong(f"{what} is off by {worst:.2g} of its size; {limit:g} is allowed")
    return worst
