"""`SelfAttention`: a torch layer with projections that computes a pattern."""

from __future__ import annotations

from typing import Any

from maskdsl.base.arguments import CHANCE, COUNT, FLAG, HEAD_DIM, POSITIVE, TEXT, BackendName, integer, optional, takes
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls import libraries as errors
from maskdsl.base.libraries import missing

try:
    import torch
    from torch import Tensor, nn
except ImportError as error:
    raise missing(error, "`maskdsl.nn`", "torch") from error

from maskdsl.integrations.layers import LayerPatterns, OneChoice
from maskdsl.ir.heads import Heads

__all__ = ["SelfAttention"]

_MOST_FEATURES = 2**20


class SelfAttention(nn.Module):
    """Self-attention over [batch, tokens, embed_dim] in which the pattern decides which tokens attend which.

    `pattern` is a `Pattern`, bound for the length of each call, which is its parameter `follow`, with these
    `parameters`; or a `Mask` or a compiled attention, which have a length. `key_heads` divides `heads`: query heads
    share keys and values. `head_dim` is by default `embed_dim / heads`. `rope` is the base, such as 10000.0, of rotary
    position embeddings; None applies none. `dropout` is the chance of a pair to be dropped in training, with seeds of
    torch's random numbers. The state is the linear layers `q_proj`, `k_proj`, `v_proj` and `out_proj`, with or without
    `bias`. Raises `AttnError` for sizes that do not fit each other, and for what compiling refuses.
    """

    @takes(
        embed_dim=integer(1, _MOST_FEATURES),
        heads=COUNT,
        key_heads=optional(COUNT),
        head_dim=optional(HEAD_DIM),
        bias=FLAG,
        rope=optional(POSITIVE),
        dropout=CHANCE,
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
        dropout: float = 0.0,
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
        self.dropout = dropout
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
        """A layer with copies of the weights of torch's `nn.MultiheadAttention`, and its result under the same mask.

        `options` are those of the constructor. Raises `AttnError` for layers with added biases or zero keys, and with
        other dims of keys and values.
        """
        if not other._qkv_same_embed_dim or other.bias_k is not None or other.add_zero_attn:
            raise AttnError(errors.OtherAttention())
        factory: dict[str, Any] = {
            "device": other.out_proj.weight.device,
            "dtype": other.out_proj.weight.dtype,
        }
        bias = other.in_proj_bias is not None
        options = {"dropout": other.dropout, **options}
        layer = cls(other.embed_dim, other.num_heads, pattern, bias=bias, **factory, **options)
        projections = layer.q_proj, layer.k_proj, layer.v_proj
        with torch.no_grad():
            for each, weight in zip(projections, other.in_proj_weight.chunk(3), strict=True):
                each.weight.copy_(weight)
            for each, values in zip(projections, other.in_proj_bias.chunk(3) if bias else (), strict=bias):
                each.bias.copy_(values)
            layer.out_proj.load_state_dict(other.out_proj.state_dict())
        return layer

    def forward(self, x: Tensor, /, **inputs: Any) -> Tensor:
        """Maps x [batch, tokens, embed_dim] to the same shape; `inputs` are the pattern's, by name."""
        q, k, v = (
            projection(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        if self.rope is not None:
            turn = _turns(x.shape[1], self.head_dim, self.rope, x.device)
            q, k = _turned(q, *turn), _turned(k, *turn)
        if self.training and self.dropout:
            inputs |= {"dropout_p": self.dropout, "seed": torch.randint(2**31, (), device=x.device)}
        out = self.attention(q, k, v, **inputs)
        result: Tensor = self.out_proj(out.transpose(1, 2).flatten(2))
        return result

    def extra_repr(self) -> str:
        shared = f", key_heads={self.key_heads}" if self.key_heads != self.heads else ""
        return f"heads={self.heads}{shared}"


def _check(embed_dim: int, head_dim: int | None, heads: int, key_heads: int) -> None:
    """Raises `UnevenHeads` if heads do not divide features, or key heads do not divide heads."""
    if head_dim is None and embed_dim % heads:
        raise AttnError(errors.UnevenHeads(what=f"{embed_dim} features", heads=heads))
    if heads % key_heads:
        raise AttnError(errors.UnevenHeads(what=f"{heads} heads", heads=key_heads))


def _turns(tokens: int, dim: int, base: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines, float32 [tokens, dim], of the angles by which feature pairs (n, n + dim / 2) are rotated."""
    rates = base ** (-torch.arange(0, dim, 2, device=device, dtype=torch.float32) / dim)
    angles = torch.outer(torch.arange(tokens, device=device, dtype=torch.float32), rates).repeat(1, 2)
    return angles.cos(), angles.sin()


def _turned(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """x with rotary position embeddings (Su et al. 2021, in Llama's layout of pairs), computed in float32."""
    first, second = x.float().chunk(2, dim=-1)
    return (x.float() * cosines + torch.cat([-second, first], dim=-1) * sines).to(x.dtype)
