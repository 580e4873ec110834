"""Who computes a case: ours, FlexAttention as it comes and with better options, and torch's own attention."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from contact.names import CUDNN, FLASH, FLEX, FLEX_TUNED, OURS, OURS_TUNED
from torch import Tensor
from torch._dynamo import config as dynamo
from torch._functorch import config as functorch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

from gpu.patterns import Entry, Inputs, Mod, Size, named
from maskdsl.runtime.backends.available import usable_backends

SDPA = {FLASH: SDPBackend.FLASH_ATTENTION, CUDNN: SDPBackend.CUDNN_ATTENTION}
NAMES = (
    *("fwd_BLOCK_M", "fwd_BLOCK_N", "fwd_num_warps", "fwd_num_stages"),
    *("bwd_BLOCK_M1", "bwd_BLOCK_N1", "bwd_BLOCK_M2", "bwd_BLOCK_N2", "bwd_num_warps", "bwd_num_stages"),
)
OPTIONS = tuple(
    dict(zip(NAMES, values, strict=True))
    for values in (
        (128, 64, 8, 3, 64, 128, 128, 64, 8, 3),
        (128, 128, 8, 2, 64, 128, 128, 64, 8, 2),
        (64, 64, 4, 3, 64, 64, 64, 64, 4, 3),
        (64, 64, 4, 2, 32, 64, 64, 32, 4, 2),
    )
)
"""What FlexAttention is tuned by: of these the fastest is taken, of forward and of backward passes for themselves."""
FEW = 2
"""As many of the options are tried where there is little time: each is compiled."""

Compute = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """A pattern at a length, a head dim and a type. Key heads are as many as the size has, unless they are given."""

    entry: Entry
    size: Size
    batch: int
    dim: int
    dtype: torch.dtype
    key_heads: int | None = None

    @staticmethod
    def of(row: dict[str, Any], device: torch.device) -> "Case":
        """From a row as a plan has it."""
        size = Size(row["length"], row["heads"], device)
        dtype = getattr(torch, row["dtype"])
        return Case(named(row["pattern"]), size, row["batch"], row["head_dim"], dtype, row["key_heads"])

    @property
    def is_grouped(self) -> bool:
        return self.key_heads not in (None, self.size.heads)

    def tensors(self) -> tuple[list[Tensor], Tensor]:
        """q, k and v, and what gradients are taken toward."""
        generator = torch.Generator(self.size.device).manual_seed(0)
        heads = self.size.heads, *[self.key_heads or self.size.heads] * 2, self.size.heads
        drawn = [
            torch.randn(
                (self.batch, each, self.size.length, self.dim),
                dtype=self.dtype,
                device=self.size.device,
                generator=generator,
            )
            for each in heads
        ]
        return [each.requires_grad_() for each in drawn[:3]], drawn[3]


Prepare = Callable[[], list[Compute]]
"""Makes ready what computes: alternatives, of which the fastest counts."""


def contenders(case: Case, inputs: Inputs, tunes: bool) -> Iterator[tuple[str, Prepare]]:
    """Everybody who can compute a case. `tunes` says whether there is time to measure all options of all."""
    yield OURS, lambda: [ours(case, inputs)]
    yield FLEX, lambda: [flex(case, inputs)]
    yield FLEX_TUNED, lambda: [flex(case, inputs, options) for options in (OPTIONS if tunes else OPTIONS[:FEW])]
    if tunes:
        yield OURS_TUNED, lambda: [ours(case, inputs, tune=True)]
    if case.entry.is_causal is not None:
        for name, backend in SDPA.items():
            yield name, partial(lambda backend: [sdpa(backend, bool(case.entry.is_causal), case.is_grouped)], backend)


def our_backend(device: torch.device) -> str:
    """Kernels where they run: on a GPU, or in Triton's interpreter."""
    return "triton" if device.type == "cuda" or "triton" in usable_backends() else "tiled"


def ours(case: Case, inputs: Inputs, tune: bool = False) -> Compute:
    attention = case.entry.mask(case.size).compile(our_backend(case.size.device), tune=tune)
    return partial(attention, layout="ordered", **inputs)  # type: ignore[return-value]


def flex(case: Case, inputs: Inputs, options: dict[str, Any] | None = None) -> Compute:
    """FlexAttention with its block mask made."""
    score_mod = case.entry.score_mod(case.size, inputs)
    block_mask = block_mask_of(case.entry.mask_mod(case.size, inputs), case.size)
    return flex_with(block_mask, score_mod, case.entry.scale, case.size.device, options)


def block_mask_of(mask_mod: Mod | None, size: Size, queries: int | None = None) -> BlockMask | None:
    """FlexAttention's map of a mask; None of none. Queries are as many as keys, unless it is said."""
    if mask_mod is None:
        return None
    create = compiled(create_block_mask) if size.device.type == "cuda" else create_block_mask
    return create(mask_mod, None, None, queries or size.length, size.length, device=size.device)


def flex_with(
    block_mask: BlockMask | None,
    score_mod: Mod | None,
    scale: float | None,
    device: torch.device,
    options: dict[str, Any] | None = None,
) -> Compute:
    """FlexAttention, compiled on a GPU for exactly these shapes; elsewhere without its kernels, and forward alone."""
    given = {"score_mod": score_mod, "block_mask": block_mask, "scale": scale, "kernel_options": options}
    is_gpu = device.type == "cuda"
    compute = compiled(flex_attention) if is_gpu else flex_attention

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return compute(*((q, k, v) if is_gpu else (q.detach(), k.detach(), v.detach())), enable_gqa=True, **given)

    return attend


@cache
def compiled(function: Any) -> Any:
    """Once for all its callers: a backward pass can be run again, and nothing falls back to what is not compiled."""
    functorch.donated_buffer = False
    dynamo.recompile_limit, dynamo.fail_on_recompile_limit_hit = 64, True
    return torch.compile(function, dynamic=False)


def sdpa(backend: SDPBackend, is_causal: bool, is_grouped: bool) -> Compute:
    """torch's `scaled_dot_product_attention`, in one of its backends or not at all."""

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with sdpa_kernel(backend):
            return scaled_dot_product_attention(q, k, v, is_causal=is_causal, enable_gqa=is_grouped)

    return attend
