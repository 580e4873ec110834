"""Tensors as people have them: of other strides, parts of larger buffers, expanded; and where their gradients are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np
import torch
from torch import Tensor

AROUND = {"f": np.nan, "i": 2**31 - 1, "b": True}
"""What stands in a buffer around the numbers that are meant, by the kind of its type."""


@dataclass(frozen=True)
class Held:
    given: Tensor
    leaf: Tensor
    """What `given` is a view of."""
    to_leaf: Callable[[np.ndarray], np.ndarray]
    """From a gradient of `given` to that of `leaf`."""


def held(random: Random, x: np.ndarray, learns: bool = False, narrow: Sequence[int] = ()) -> Held:
    """These numbers, somehow. Along axes that are `narrow`, one number may stand for all that are equal."""
    if x.dtype == np.int64 and random.random() < 0.5:
        x = x.astype(np.int32)
    if not x.ndim:
        return plain(random, x, learns)
    same = [axis for axis in range(x.ndim) if x.shape[axis] > 1 and is_same(x, axis)]
    if same and random.random() < 0.7:
        axis = random.choice(same)
        found = expanded(x, axis, learns)
        return replace(found, given=found.leaf) if axis in narrow and random.random() < 0.7 else found
    return random.choice([plain, permuted, inside])(random, x, learns)


def plain(random: Random, x: np.ndarray, learns: bool) -> Held:
    leaf = torch.tensor(x, requires_grad=learns)
    return Held(leaf, leaf, lambda grad: grad)


def permuted(random: Random, x: np.ndarray, learns: bool) -> Held:
    axes = list(range(x.ndim))
    random.shuffle(axes)
    leaf = torch.tensor(np.ascontiguousarray(x.transpose(axes)), requires_grad=learns)
    return Held(leaf.permute(*np.argsort(axes).tolist()), leaf, lambda grad: grad.transpose(axes))


def inside(random: Random, x: np.ndarray, learns: bool) -> Held:
    """A part of a larger buffer, perhaps every second entry of it."""
    steps = [random.choice([1, 1, 2]) for _ in x.shape]
    first = [random.randint(0, 2) for _ in x.shape]
    position = tuple(slice(a, a + n * step, step) for a, n, step in zip(first, x.shape, steps, strict=True))
    lengths = [a + n * step + random.randint(0, 2) for a, n, step in zip(first, x.shape, steps, strict=True)]
    buffer = np.full(lengths, AROUND[x.dtype.kind], x.dtype)
    buffer[position] = x
    leaf = torch.tensor(buffer, requires_grad=learns)

    def to_leaf(grad: np.ndarray) -> np.ndarray:
        found = np.zeros(lengths)
        found[position] = grad
        return found

    return Held(leaf[position], leaf, to_leaf)


def expanded(x: np.ndarray, axis: int, learns: bool) -> Held:
    leaf = torch.tensor(np.ascontiguousarray(x.take([0], axis)), requires_grad=learns)
    return Held(leaf.expand(*x.shape), leaf, lambda grad: grad.sum(axis, keepdims=True))


def is_same(x: np.ndarray, axis: int) -> bool:
    return np.array_equal(x, np.broadcast_to(x.take([0], axis), x.shape), equal_nan=x.dtype.kind == "f")
