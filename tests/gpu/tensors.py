"""Tensors that punish carelessness, and comparison with float64 row by row."""

import torch
from torch import Tensor

import maskdsl
from maskdsl.ir.meaning.inputs import relation_inputs
from maskdsl.ir.meaning.synthetic_inputs import synthetic_inputs
from maskdsl.runtime.backends.triton_backend import interpreted

DEVICE = torch.device("cpu" if interpreted() or not torch.cuda.is_available() else "cuda")
"""Where kernels run: on a GPU, or in Triton's interpreter."""
RUNS = DEVICE.type == "cuda" or interpreted()
REASON = "no GPU, and kernels are not interpreted"
TOLERANCES = {torch.float64: 1e-12, torch.float32: 5e-5, torch.float16: 4e-3, torch.bfloat16: 2e-2}
"""The error of a row by its size, and of all rows by that of all."""
MARGIN = 40
MILD = {"place": 1 / 4096}
"""Factors of inputs that multiply squares of distances: scores of thousands have gradients of rounding errors."""
UNIT = ("transnext",)
"""Patterns of queries and keys of length 1, whose scores are many times their products."""

empty, new_empty, empty_like = torch.empty, Tensor.new_empty, torch.empty_like


def poisoned(tensor: Tensor) -> Tensor:
    return tensor.fill_(torch.nan) if tensor.is_floating_point() and tensor.device.type != "meta" else tensor


def surrounded(shape: tuple[int, ...], dtype: torch.dtype, seed: int, size: float = 1.0) -> Tensor:
    """Normal numbers times `size`, [batch, heads, tokens, dim], with NaN in front of and behind each head's tokens."""
    batch, heads, length, dim = shape
    generator = torch.Generator().manual_seed(seed)
    whole = torch.full((batch, heads, length + 2 * MARGIN, dim), torch.nan, dtype=dtype, device=DEVICE)
    inner = whole[:, :, MARGIN : MARGIN + length]
    inner.copy_(size * torch.randn(shape, generator=generator, dtype=torch.float64))
    return inner.requires_grad_()


def given(mask: maskdsl.Mask, batch: int, dim: int = 16) -> dict[str, Tensor]:
    """Plausible inputs, floats as float32 and with gradients, unless they only decide which pairs attend."""
    arrays = synthetic_inputs(mask.ir, batch=batch, dim=dim)
    deciding = relation_inputs(mask.ir)
    tensors = {name: torch.as_tensor(array, device=DEVICE) for name, array in arrays.items()}
    floats = {name: x.float() * MILD.get(name, 1.0) for name, x in tensors.items() if x.is_floating_point()}
    return tensors | {name: x.requires_grad_(name not in deciding) for name, x in floats.items()}


def check(
    mask: maskdsl.Mask,
    dtype: torch.dtype,
    *,
    batch: int = 1,
    heads: tuple[int, int] = (2, 1),
    dims: tuple[int, int] = (16, 16),
    layout: str = "declared",
) -> None:
    """Output, log-sum-exp and gradients of the kernels, against the reference in float64 on the same numbers.

    `heads` are those of queries and of keys, unless the pattern knows the latter; `dims` those of keys and of values.
    """
    key_heads = heads[1] if mask.ir.whole is None else mask.ir.whole.key_count
    shapes = (
        (batch, heads[0], mask.given_query_length, dims[0]),
        (batch, key_heads, mask.given_key_length, dims[0]),
        (batch, key_heads, mask.given_key_length, dims[1]),
    )
    unit = dims[0] ** -0.5 if mask.ir.name in UNIT else 1.0
    tensors = [surrounded(shapes[n], dtype, n, size) for n, size in enumerate((unit, unit, 1.0))]
    inputs = given(mask, batch, dims[0])
    floats = [name for name, x in inputs.items() if x.requires_grad]
    tensors += [inputs[name] for name in floats]
    wide = [tensor.detach().double().requires_grad_() for tensor in tensors]
    wide_inputs = {**inputs, **dict(zip(floats, wide[3:], strict=True))}
    kernels, reference = mask.compile("triton"), mask.compile("reference")
    if kernels.has_lse:
        out, lse = kernels(*tensors[:3], return_lse=True, layout=layout, **inputs)
        expected, expected_lse = reference(*wide[:3], return_lse=True, layout=layout, **wide_inputs)
        compare("the log-sum-exp", lse.unsqueeze(-1), expected_lse.unsqueeze(-1), dtype, cancels=True)
    else:
        out = kernels(*tensors[:3], layout=layout, **inputs)
        expected = reference(*wide[:3], layout=layout, **wide_inputs)
    compare("the output", out, expected, dtype)
    generator = torch.Generator().manual_seed(9)
    toward = torch.randn(expected.shape, generator=generator, dtype=torch.float64).to(DEVICE, dtype)
    gradients = torch.autograd.grad(out, tensors, toward, retain_graph=bool(floats))
    right = torch.autograd.grad(expected, wide, toward.double())
    for name, own, other in zip([*"qkv", *floats], gradients, right, strict=True):
        compare(f"the gradient of {name}", own, other, dtype, cancels=True)
    if floats:
        again = torch.autograd.grad(out, tensors, toward)
        assert all(map(torch.equal, gradients, again)), "two backward passes differ"


def compare(what: str, found: Tensor, expected: Tensor, dtype: torch.dtype, cancels: bool = False) -> None:
    """Rows of both, [..., dim]. Where their terms cancel out, rounding errors are still those of the largest terms."""
    found, expected = found.detach().double(), expected.detach()
    infinite = expected.isinf()
    assert torch.equal(found.isinf(), infinite), f"{what} is infinite elsewhere"
    found, expected = found.masked_fill(infinite, 0), expected.masked_fill(infinite, 0)
    difference, sizes = found - expected, expected.norm(dim=-1)
    least = max(1.0, float(sizes.max())) if cancels else 1e-9
    rows = difference.norm(dim=-1) / sizes.clamp(min=least)
    worst = torch.maximum(rows.max(), difference.norm() / expected.norm().clamp(min=least))
    assert worst <= TOLERANCES[dtype], f"{what} is off by {worst:.3g} of its size"
