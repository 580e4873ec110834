"""What sources need to call modules and masks of transformers with tensors of the tests."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor


class Given(torch.nn.Module):
    """Stands in a library's module for a layer whose result is known: makes it of what the layer is called with."""

    def __init__(self, make: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: Tensor) -> Tensor:
        return self.make(x)


def joined(x: Tensor) -> Tensor:
    """[batch, tokens, heads * dim] of [batch, heads, tokens, dim]."""
    return x.transpose(1, 2).flatten(2)


def split(x: Tensor, heads: int) -> Tensor:
    """[batch, heads, tokens, dim] of [batch, tokens, heads * dim]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def projecting(x: Tensor) -> Given:
    """A projection that gives `x`, [batch, heads, tokens, dim], whatever it projects."""
    return Given(lambda _: joined(x))


def pairs(mask_function: Callable[..., Tensor], n: int) -> np.ndarray:
    """What a mask function of transformers allows in the first sequence, [queries, keys]."""
    positions = torch.arange(n)
    zero = torch.tensor(0)
    return mask_function(zero, zero, positions[:, None], positions).expand(n, n).numpy()


def added(mask_function: Callable[..., Tensor], n: int) -> Tensor:
    """The same as numbers to be added to scores: 0 or minus infinity."""
    return torch.zeros(n, n).double().masked_fill(~torch.from_numpy(pairs(mask_function, n)), -torch.inf)
