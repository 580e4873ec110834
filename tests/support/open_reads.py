"""Patterns that read tables at indices that inputs decide, with tensors for them, and what is right."""

import torch
from torch import Tensor

import maskdsl

N, WIDTH = 40, 6
MODULE = maskdsl.parse(f"""
pattern documents(n = {N}, w = {WIDTH}) {{
    space tokens[n]
    input document: int[tokens]
    input bias: float[heads, w]
    input gain: float[w]
    attend causal and same(document)
    score s + bias[head, q - k] * s
    weight gain[q - k]
}}
pattern gates(n = 8) {{
    space tokens[n]
    input g: int[tokens]
    input w: float[4]
    attend causal and k.g != 9
    score s + w[k.g]
}}
pattern by_table(n = 8) {{
    space tokens[n]
    input g: int[batch, tokens]
    input w: bool[4]
    attend w[k.g]
}}
pattern by_float(n = {N}) {{
    space tokens[n]
    input g: int[tokens]
    input w: float[4]
    attend w[k.g] < 9.0 or q == k
}}
pattern labels(n = 8) {{
    space tokens[n]
    input g: int[tokens]
    input names: int[4]
    coord c = names[g]
    attend same(c)
}}
""")


def vectors(n: int, heads: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 1, heads, n, 16, generator=generator, dtype=torch.float64)
    return q, k, v


def leaves() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    tables = [torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((2, WIDTH), (WIDTH,))]
    return [x.requires_grad_() for x in (*vectors(N), *tables)]


def documents(size: int) -> Tensor:
    return torch.arange(N) // size


def plain(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, gain: Tensor, document: Tensor) -> Tensor:
    """By the definition, with a table that is as long as any distance, NaN behind its end."""
    apart = torch.arange(N)[:, None] - torch.arange(N)
    attends = (apart >= 0) & (document[:, None] == document)
    behind = torch.full((N - WIDTH,), torch.nan, dtype=torch.float64)
    bias, gain = torch.cat([bias, behind.expand(2, -1)], dim=1), torch.cat([gain, behind])
    position = torch.where(attends, apart, 0)
    s = q @ k.transpose(-1, -2) / 4
    s = torch.where(attends, s + bias[:, position] * s, -torch.inf)
    p = torch.softmax(s, dim=-1) * torch.where(attends, gain[position], 0)
    return p @ v
