"""The tensors of a measurement."""

import torch
from torch import Tensor

from maskdsl.api import Mask
from maskdsl.api.verify import DTYPES
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.commands.command import NothingToTime
from maskdsl.base.records import dataclass
from maskdsl.ir.heads import Heads


@dataclass(frozen=True)
class BenchShape:
    """The tensors of a measurement, and whether it has a backward pass."""

    heads: Heads
    head_dim: int
    batch: int
    dtype: str
    device: str
    backward: bool

    def tensors(self, mask: Mask) -> list[Tensor]:
        """q, k and v, [batch, heads, tokens, head dim]. Raises `AttnError` (E511) if memory does not suffice."""
        key_heads = self.heads.key_heads or self.heads.count
        keys = key_heads, mask.given_key_length
        shapes = (self.heads.count, mask.given_query_length), keys, keys
        generator = torch.Generator().manual_seed(0)
        try:
            return [
                torch.randn(self.batch, heads, length, self.head_dim, generator=generator)
                .to(self.device, DTYPES[self.dtype])
                .requires_grad_(self.backward)
                for heads, length in shapes
            ]
        except RuntimeError:  # includes torch's out-of-memory errors
            numbers = self.batch * self.head_dim * sum(heads * length for heads, length in shapes)
            reason = f"q, k and v have {numbers:,} elements, for which there is not enough memory"
            raise AttnError(NothingToTime(reason=reason)) from None

    def score_bytes(self, mask: Mask) -> int:
        """The bytes of the scores of all pairs."""
        return self.batch * self.heads.count * mask.query_length * mask.key_length * DTYPES[self.dtype].itemsize

    def __str__(self) -> str:
        work = "forward and backward" if self.backward else "forward"
        return f"{work}, batch {self.batch}, head dimension {self.head_dim}, {self.dtype}, {self.device}"
