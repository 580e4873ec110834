"""What `verify` compares at a case with what the oracle says: tiles, results and gradients. Yields what is wrong."""

import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from maskdsl.api.bound_patterns import Mask
from maskdsl.ir.declared.sequences import Sequence as TokenSequence
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.meaning.evaluate import attention
from maskdsl.ir.ops import Array

_TOLERANCES = {"float64": 1e-10, "float32": 2e-5, "bfloat16": 3e-2, "float16": 4e-3}
"""Of results, relative to the largest value: a few units in the last place of each dtype, times the sums' growth."""
_STEP = 1e-5
_GRADIENT_TOLERANCE = 1e-5


def wrong_tiles(mask: Mask, inputs: dict[str, Array], attends: Array, block: tuple[int, int]) -> Iterator[str]:
    tiles = mask.tiles(block=block, **inputs)
    for batch, head in np.ndindex(attends.shape[:2]):
        rows, columns = (_permutation(mask, each, inputs, batch, head) for each in (mask.ir.queries, mask.ir.keys))
        laid_out = attends[batch, head][np.ix_(rows, columns)]
        expected = _classes(laid_out, block)
        classes = tiles.classes(head=head, batch=min(batch, len(tiles.class_of_head) - 1))
        if not np.array_equal(classes, expected):
            row, column = np.argwhere(classes != expected)[0]
            yield (
                f"tiles: head {head}, batch {batch}, tile ({row}, {column}) has class {classes[row, column]}, "
                f"and {expected[row, column]} is right"
            )


def _permutation(mask: Mask, sequence: TokenSequence, inputs: dict[str, Array], batch: int, head: int) -> Array:
    positions = Coordinates(mask.ir, sequence, inputs, batch, head).permutation()
    return np.arange(sequence.length) if positions is None else positions


def _classes(attends: Array, block: tuple[int, int]) -> Array:
    rows = [np.arange(start, min(start + block[0], attends.shape[0])) for start in range(0, attends.shape[0], block[0])]
    columns = [
        np.arange(start, min(start + block[1], attends.shape[1])) for start in range(0, attends.shape[1], block[1])
    ]
    return np.array(
        [[int(tile.any()) + int(tile.all()) for c in columns for tile in [attends[np.ix_(r, c)]]] for r in rows]
    )


def unequal(what: str, result: Tensor, expected: Array, dtype: str) -> Iterator[str]:
    values = result.detach().double().numpy()
    if np.isnan(values).any():
        yield f"{what} is NaN at {tuple(int(n) for n in np.argwhere(np.isnan(values))[0])}"
        return
    infinite = np.isinf(expected)
    if not np.array_equal(np.isinf(values), infinite):
        index = tuple(int(n) for n in np.argwhere(np.isinf(values) != infinite)[0])
        yield f"{what} is {values[index]} at {index}, not {expected[index]}"
        return
    largest = max(1.0, float(np.abs(expected[~infinite]).max(initial=0)))
    error = np.abs(np.where(infinite, 0, values - np.where(infinite, 0, expected)))
    if error.max(initial=0) > _TOLERANCES[dtype] * largest:
        index = tuple(int(n) for n in np.unravel_index(error.argmax(), error.shape))
        yield f"{what} is {values[index]:.9g} at {index}, and {expected[index]:.9g} is right ({dtype})"


def wrong_gradient(
    name: str,
    mask: Mask,
    inputs: dict[str, Array],
    leaves: Mapping[str, Tensor],
    results: tuple[Tensor, Tensor],
    toward: tuple[Array, Array],
    random: np.random.Generator,
) -> Iterator[str]:
    """Compares the derivative along a random direction with a finite difference of the oracle.

    `leaves` are q, k, v and the float inputs on which no relation and no order depends: others have jumps.
    """
    finite = torch.isfinite(results[1])
    loss = (results[0] * torch.tensor(toward[0])).sum() + (results[1] * torch.tensor(toward[1]))[finite].sum()
    torch.autograd.backward(loss)
    directions = {label: random.normal(size=leaf.shape) for label, leaf in leaves.items()}
    gradients = {label: leaf.grad for label, leaf in leaves.items() if leaf.grad is not None}
    for label in ("q", "k", "v"):
        if label not in gradients:
            yield f"{name}: the gradient of {label} is missing"
            return
    for label, gradient in gradients.items():
        if gradient.isnan().any():
            yield f"{name}: the gradient of {label} is NaN"
            return
    derivative = sum(float((gradient * torch.tensor(directions[label])).sum()) for label, gradient in gradients.items())

    def value(step: float) -> float:
        moved = {label: leaf.detach().numpy() + step * directions[label] for label, leaf in leaves.items()}
        q, k, v = (moved.pop(label) for label in "qkv")
        out, lse = attention(mask.ir, q, k, v, {**inputs, **moved})
        return float((out * toward[0]).sum() + np.where(np.isfinite(lse), lse * toward[1], 0).sum())

    expected = (value(_STEP) - value(-_STEP)) / (2 * _STEP)
    size = math.sqrt(sum(float((gradient**2).sum()) for gradient in gradients.values()))
    if abs(derivative - expected) > _GRADIENT_TOLERANCE * max(1.0, size, abs(expected)):
        yield f"{name}: the derivative along a random direction is {derivative:.9g}, and {expected:.9g} is right"
