"""What results have to be: float64, at sampled queries against all keys, and whole gradients of short sequences."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from gpu_patterns import Entry, Inputs, Size
from numpy.typing import NDArray
from torch import Tensor

from maskdsl.ir.declared.inputs import DimensionKind
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.meaning.evaluate import Pairs, attend

TOLERANCES = {torch.bfloat16: 0.02, torch.float32: 1e-4}
"""The error of a row by its size, and of all rows by that of all.

Rounding P, dS and the output to bfloat16 alone makes errors of 0.003 to 0.009."""
ROWS = 8

Array = NDArray[np.float64]


class Wrong(Exception):
    """A result is not what it has to be."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Some queries of one head and batch entry, and their outputs."""

    batch: int
    head: int
    rows: Array
    """int64: places in laid-out order."""
    expected: Array
    """float64 [rows, value dim]."""

    def check(self, out: Tensor) -> float:
        """The error of [batch, heads, queries, value dim]. Raises `Wrong` if it is too large."""
        found = out.detach()[self.batch, self.head][torch.as_tensor(self.rows, device=out.device)]
        expected = torch.as_tensor(self.expected, device=out.device)
        return checked("the output", found, expected, expected.norm(dim=-1).mean())


def samples(mask: MaskIR, q: Tensor, k: Tensor, v: Tensor, inputs: Inputs, seed: int = 0) -> list[Sample]:
    """Rows of two heads, the first and the last query among them; tensors are in laid-out order."""
    random = np.random.default_rng(seed)
    batch, heads, length, _ = q.shape
    found = []
    for entry, head in ((0, 0), (batch - 1, heads - 1)):
        drawn = random.choice(length, min(ROWS, length), replace=False)
        rows = np.unique([0, *drawn, length - 1])
        found.append(Sample(entry, head, rows, outputs(mask, (entry, head), rows, q, k, v, inputs)))
    return found


def outputs(
    mask: MaskIR, position: tuple[int, int], rows: NDArray[np.int64], q: Tensor, k: Tensor, v: Tensor, inputs: Inputs
) -> Array:
    """The outputs of the queries at `rows`, computed from their own pairs alone; `position` is (batch entry, head)."""
    batch, head = position
    arrays = {name: tensor.cpu().numpy() for name, tensor in inputs.items()}
    queries, keys = (
        declared(Coordinates(mask, sequence, arrays, batch, head), sequence.length)
        for sequence in (mask.queries, mask.keys)
    )
    shared = head // (q.shape[1] // k.shape[1])
    wide_q, wide_k, wide_v = (
        x.detach().double().cpu().numpy() for x in (q[position], k[batch, shared], v[batch, shared])
    )
    first = mask.queries.length - len(wide_q)  # fewer queries than the pattern has are its last ones
    pairs = Pairs(mask, queries[first + rows][:, None], keys[None, :], head, batch, arrays)
    return attend(pairs, wide_q[rows] @ wide_k.T, wide_v, q.shape[-1])[0]


def declared(coordinates: Coordinates, length: int) -> NDArray[np.int64]:
    """The declared position of each laid-out place."""
    positions = coordinates.permutation()
    return np.arange(length) if positions is None else positions


def gradients(
    entry: Entry, size: Size, q: Tensor, k: Tensor, v: Tensor, toward: Tensor, inputs: Inputs
) -> tuple[Tensor, ...]:
    """Those of q, k and v in the last head of the last batch entry: float64, over all pairs."""
    mask = entry.mask(replace(size, heads=1))
    kinds = {each.name: [dimension.kind for dimension in each.dimensions] for each in mask.inputs}
    own = {name: tensor[-1:] if DimensionKind.HEADS in kinds[name][:1] else tensor for name, tensor in inputs.items()}
    tensors = [x[-1:, -1:].detach().double().requires_grad_() for x in (q, k, v)]
    out = mask.compile("reference")(*tensors, layout="ordered", **own)
    assert isinstance(out, Tensor)
    return torch.autograd.grad(out, tensors, toward[-1:, -1:].double())


def check_gradients(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> dict[str, float]:
    """The errors of the gradients, by name. Raises `Wrong` if one is too large."""
    return {
        name: checked(f"the gradient of {name}", own[-1, -1], other[0, 0], other[0, 0].norm(dim=-1).max())
        for name, own, other in zip("qkv", found, expected, strict=True)
    }


def checked(what: str, found: Tensor, expected: Tensor, least: Tensor) -> float:
    """The largest error of [rows, dim]. Raises `Wrong` if it is too large, or no number.

    Rows count as no smaller than `least`: where the terms of a gradient cancel out, their rounding does not.
    """
    difference, sizes = found.double() - expected, expected.norm(dim=-1)
    rows = difference.norm(dim=-1) / torch.maximum(sizes, least)
    worst = float(torch.maximum(rows.max(), difference.norm() / expected.norm()))
    limit = TOLERANCES[found.dtype]
    if not worst <= limit:
        raise Wrong(f"{what} is off by {worst:.2g} of its size; {limit:g} is allowed")
    return worst
