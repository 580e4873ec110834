"""Helpers of generated torch modules. A generated module holds only those that its pattern calls."""

import math
from functools import partial
from threading import Lock

import torch

from maskdsl.codegen.tiled import block


def read(table, *indices):
    """`table[indices]`, each index moved into bounds: pairs that do not attend may ask for anything."""
    indices = [torch.as_tensor(index, device=table.device) for index in indices]
    return table[tuple(index.clamp(0, size - 1) for index, size in zip(indices, table.shape, strict=True))]


def read_open(table, *indices):
    """`table[indices]`, NaN where a pair that attends leaves the table. Of others, nothing is known of some tables."""
    indices = [torch.as_tensor(index, device=table.device) for index in indices]
    inside = torch.ones((), dtype=torch.bool, device=table.device)
    for index, size in zip(indices, table.shape, strict=True):
        inside = inside & (index >= 0) & (index < size)
    attends = getattr(table, "attends", None)
    values = table[tuple(index.clamp(0, size - 1) for index, size in zip(indices, table.shape, strict=True))]
    return torch.where(inside if attends is None else inside | ~attends, values, torch.nan)


def nonzero(divisor):
    """One in place of zero, which only tokens without the divisor's coordinate have: integers trap on it."""
    return divisor.masked_fill(divisor == 0, 1)


def rounded(number, dtype):
    """The nearest number of a type of floats: infinity beyond its range."""
    largest, step = torch.finfo(dtype).max, torch.finfo(dtype).eps
    if abs(number) >= largest * (1 + step / 4):
        return number * float("inf")
    return max(-largest, min(number, largest))


def join(*parts):
    """The values of spaces one behind the other, stretched over batch and heads where another space's vary."""
    leading = torch.broadcast_shapes(*(part.shape[:-1] for part in parts))
    return torch.cat([part.expand(*leading, part.shape[-1]) for part in parts], dim=-1)


def integer_log2(x):
    """The floor of the logarithm of integers, exactly; -1 for x < 1."""
    result = torch.where(x < 1, -1, 0)
    for shift in (32, 16, 8, 4, 2, 1):
        large = x >= 1 << shift
        result = result + shift * large
        x = torch.where(large, x >> shift, x)
    return result


def is_power_of_two(x):
    """Whether integers are 1, 2, 4, ...: one bit alone."""
    return (x > 0) & (x & (x - 1) == 0)


def gcd(a, b):
    """The greatest integer that divides both; 0 of two zeros."""
    return torch.gcd(torch.as_tensor(a), torch.as_tensor(b))


def random(*numbers):
    """Pseudo-random integers, 0 <= r < 2**31: a pure function of the low 32 bits of each number, the seed first."""
    state = torch.tensor(0)
    for number in numbers:
        state = ((state ^ (torch.as_tensor(number) & 0xFFFFFFFF)) + 0x1E3779B9) & 0xFFFFFFFF
        state = state ^ (state >> 16)
        state = (state * 0x7FEB352D) & 0xFFFFFFFF
        state = state ^ (state >> 15)
        state = (state * 0x45D9F3B) & 0xFFFFFFFF
        state = state ^ (state >> 16)
    return state >> 1


def token_value(values, batch, head, token):
    """The value that one token has, of values [batch or 1, heads or 1, tokens] or fewer axes."""
    values = values.view(*(1,) * (3 - values.dim()), *values.shape)
    return values[batch if values.shape[0] > 1 else 0, head if values.shape[1] > 1 else 0, token]


def counted_weight(weights, p):
    """Zero as the weight of pairs without probability: it may be infinite, and they contribute nothing."""
    return weights.masked_fill(p == 0, 0)


class Attended:
    """A table whose elements count only for pairs that attend, so that no other pair sends them a gradient."""

    def __init__(self, table, attends):
        self.table, self.attends = table, attends
        self.shape, self.device = table.shape, table.device

    def __getitem__(self, indices):
        return torch.where(self.attends, self.table[indices], 0)


def guarded(values, inputs, attends):
    """The values for scores and weights: floats count only for pairs that attend."""
    safe = dict(values)
    for name, value in values.items():
        if value.is_floating_point():
            safe[name] = Attended(value, attends) if name in inputs else torch.where(attends, value, 0)
    return safe


class Leaves:
    """What the scores of one tile read, its float inputs being the leaves of a small graph of their own."""

    lock = Lock()

    def __init__(self, problem, tile, shape, limits, gradients):
        self.shape, self.limits, self.columns = shape, limits, tile.group.partial
        self.taken, self.dead = [], None
        self.values = problem.pair_values(tile, tile.columns)
        for (part, name), gradient in gradients.items():
            if part == "inputs":
                self.values[name] = Leaf(self, problem.inputs[name], gradient)
            else:
                side, add = ("q", add_to_queries) if part == "queries" else ("k", add_to_keys)
                value = self.values[f"{side}_{name}"]
                self.values[f"{side}_{name}"] = self.take(value, partial(add, tile, gradient))

    def take(self, values, add):
        """Elements of a float input as a leaf, one for each pair; `add` gets the gradient of the elements."""
        leaf = values.detach().expand(self.shape).requires_grad_()
        self.taken.append((leaf, values.shape, add))
        return leaf

    def exclude(self, s):
        """Finds pairs whose score is minus infinity: like those that do not attend, they send nothing."""
        dead = s == -torch.inf
        self.dead = dead if bool(dead.any()) else None

    def counted(self, grad):
        """Zero in place of what pairs send that take no part: it may not be a number."""
        grad = block(grad.contiguous(), self.limits, self.columns, 0)
        return grad if self.dead is None else grad.masked_fill_(self.dead, 0)

    def send(self, start, *ends):
        """From the ends, each (value, slope), back to the gradient of the start and those of the inputs."""
        sloped = [(value, self.counted(slope)) for value, slope in ends if value.requires_grad]
        if not sloped:
            return torch.zeros_like(start)
        values, slopes = zip(*sloped, strict=True)
        leaves = [start, *(leaf for leaf, *_ in self.taken)]
        grads = torch.autograd.grad(values, leaves, slopes, allow_unused=True)
        with self.lock:
            for (_, shape, add), grad in zip(self.taken, grads[1:], strict=True):
                if grad is not None:
                    add(self.counted(grad).sum_to_size(shape))
        return torch.zeros_like(start) if grads[0] is None else self.counted(grads[0])


class Leaf:
    """A table whose elements, as a tile reads them, are leaves."""

    def __init__(self, leaves, table, gradient):
        self.leaves, self.table, self.gradient = leaves, table, gradient
        self.shape, self.device = table.shape, table.device

    def __getitem__(self, indices):
        strides = [math.prod(self.shape[axis + 1 :]) for axis in range(len(self.shape))]
        flat = sum(index * stride for index, stride in zip(indices, strides, strict=True))
        return self.leaves.take(self.table.view(-1)[flat], partial(add_to_table, flat, self.gradient))


def add_to_table(indices, gradient, grad):
    gradient.view(-1).index_add_(0, indices.reshape(-1), grad.reshape(-1).to(gradient.dtype))


def add_to_queries(tile, gradient, grad):
    tile.queries(gradient.unsqueeze(-1)).add_(grad)


def add_to_keys(tile, gradient, grad):
    """Rows share no keys, except those runs that they share altogether."""
    for run, span in tile.spans:
        target = tile.run_of(gradient.unsqueeze(-1), tile.units, run)
        part = grad.transpose(2, 3)[:, :, span]
        target.add_(part.sum(dim=0, keepdim=True) if target.shape[0] == 1 else part)
