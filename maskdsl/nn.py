"""A layer of plain torch: self-attention over a pattern, with its projections. Imports torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from maskdsl.base.arguments import COUNT, FLAG, HEAD_DIM, POSITIVE, TEXT, BackendName, integer, optional, takes
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls import libraries as errors
from maskdsl.integrations.layers import LayerPatterns, OneChoice
from maskdsl.ir.heads import Heads

__all__ = ["SelfAttention"]

_MOST_FEATURES = 2**20


class SelfAttention(nn.Module):
    """Self-attention over [batch, tokens, embed_dim], of which each token attends those that a pattern says.

    `pattern` is a `Pattern`, bound for the length of each call, which its parameter `follow` is, with these
    `parameters`; or a `Mask` or a compiled attention, which have theirs. With `key_heads` several heads share keys and
    values. `rope` is the base, such as 10000.0, of rotary position embeddings over the number of the token; None leaves
    queries and keys as they are. Projections are `q_proj`, `k_proj`, `v_proj` and `out_proj`, with a `bias` or without;
    they are all of the state. Raises `AttnError`.
    """

    @takes(
        embed_dim=integer(1, _MOST_FEATURES),
        heads=COUNT,
        key_heads=optional(COUNT),
        head_dim=optional(HEAD_DIM),
        bias=FLAG,
        rope=optional(POSITIVE),
        backend=TEXT,
    )
    def __init__(
        self,
        embed_dim: int,
        heads: int,
        pattern: OneChoice,
        *,
        key_heads: int | None = None,
        head_dim: int | None = None,
        bias: bool = True,
        rope: float | None = None,
        follow: str = "n",
        backend: BackendName = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **parameters: Any,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.key_heads = heads if key_heads is None else key_heads
        _check(embed_dim, head_dim, heads, self.key_heads)
        self.head_dim = embed_dim // heads if head_dim is None else head_dim
        if rope is not None and self.head_dim % 2:
            raise AttnError(errors.OddHeadDim())
        self.rope = rope
        patterns = LayerPatterns("SelfAttention", pattern, parameters, follow, backend)
        patterns.check()
        self.attention = patterns.compile(pattern, Heads(heads, self.key_heads))
        given: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        self.q_proj = nn.Linear(embed_dim, heads * self.head_dim, **given)
        self.k_proj = nn.Linear(embed_dim, self.key_heads * self.head_dim, **given)
        self.v_proj = nn.Linear(embed_dim, self.key_heads * self.head_dim, **given)
        self.out_proj = nn.Linear(heads * self.head_dim, embed_dim, **given)

    @classmethod
    def like(cls, other: nn.MultiheadAttention, pattern: OneChoice, **options: Any) -> SelfAttention:
        """With the weights of torch's own layer, and the same result where the pattern is its mask."""
        if not other._qkv_same_embed_dim or other.bias_k is not None or other.add_zero_attn or other.dropout:
            raise AttnError(errors.OtherAttention())
        where: dict[str, Any] = {"device": other.out_proj.weight.device, "dtype": other.out_proj.weight.dtype}
        bias = other.in_proj_bias is not None
        made = cls(other.embed_dim, other.num_heads, pattern, bias=bias, **where, **options)
        projections = made.q_proj, made.k_proj, made.v_proj
        with torch.no_grad():
            for each, weight in zip(projections, other.in_proj_weight.chunk(3), strict=True):
                each.weight.copy_(weight)
            for each, own in zip(projections, other.in_proj_bias.chunk(3) if bias else (), strict=bias):
                each.bias.copy_(own)
            made.out_proj.load_state_dict(other.out_proj.state_dict())
        return made

    def forward(self, x: Tensor, /, **inputs: Any) -> Tensor:
        """[batch, tokens, embed_dim] to the same; `inputs` are those that the pattern declares."""
        q, k, v = (
            projection(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        if self.rope is not None:
            turn = _turns(x.shape[1], self.head_dim, self.rope, x.device)
            q, k = _turned(q, *turn), _turned(k, *turn)
        out = self.attention(q, k, v, **inputs)
        result: Tensor = self.out_proj(out.transpose(1, 2).flatten(2))
        return result

    def extra_repr(self) -> str:
        shared = f", key_heads={self.key_heads}" if self.key_heads != self.heads else ""
        return f"heads={self.heads}{shared}"


def _check(embed_dim: int, head_dim: int | None, heads: int, key_heads: int) -> None:
    """Raises if features and heads do not go together."""
    if head_dim is None and embed_dim % heads:
        raise AttnError(errors.UnevenHeads(what=f"{embed_dim} features", heads=heads))
    if heads % key_heads:
        raise AttnError(errors.UnevenHeads(what=f"{heads} heads", heads=key_heads))


def _turns(tokens: int, dim: int, base: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines [tokens, dim] of the angles by which pairs of features (n, n + dim / 2) are turned."""
    rates = base ** (-torch.arange(0, dim, 2, device=device, dtype=torch.float32) / dim)
    angles = torch.outer(torch.arange(tokens, device=device, dtype=torch.float32), rates).repeat(1, 2)
    return angles.cos(), angles.sin()


def _turned(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotary position embedding (Su et al. 2021), as Llama has it, in float32."""
    first, second = x.float().chunk(2, dim=-1)
    return (x.float() * cosines + torch.cat([-second, first], dim=-1) * sines).to(x.dtype)
