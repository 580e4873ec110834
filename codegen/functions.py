"""Helpers of generated torch modules. A generated module holds only those that its pattern calls."""

import torch


def read(table, *indices):
    """`table[indices]`, each index moved into bounds: pairs that do not attend may ask for anything."""
    indices = [torch.as_tensor(index, device=table.device) for index in indices]
    return table[tuple(index.clamp(0, size - 1) for index, size in zip(indices, table.shape, strict=True))]


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
