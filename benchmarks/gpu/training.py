"""Training steps of some layers: projections, attention and their gradients, by the clock, the host's time included.

Each step has new documents. What is made of them, our tiles and FlexAttention's block mask, is made once a step, and
handed to all layers.
"""

from collections.abc import Callable
from functools import partial

import torch
from contact.child import Keep
from contact.names import FLEX, OURS
from torch import Tensor, nn

from gpu.contest import Record, outcome
from gpu.exact import Wrong
from gpu.patterns import Entry, Inputs, Size, named
from gpu.peers import SDPA, Compute, block_mask_of, flex_with, our_backend, sdpa
from gpu.timing import Step, Timer, device

FARTHEST = 0.1
"""How far from the first contender's the gradients of another may be, by their size: both round in every layer."""

Attend = Callable[[], Compute]
"""Called once a step."""


class Layer(nn.Module):
    """What surrounds attention: a norm, projections and a residual. Tokens are [batch, tokens, heads * dim]."""

    def __init__(self, heads: int, dim: int, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self.heads, width = heads, heads * dim
        self.norm = nn.LayerNorm(width, dtype=dtype, device=device)
        self.inward = nn.Linear(width, 3 * width, bias=False, dtype=dtype, device=device)
        self.outward = nn.Linear(width, width, bias=False, dtype=dtype, device=device)

    def forward(self, x: Tensor, attend: Compute) -> Tensor:
        heads = self.inward(self.norm(x)).unflatten(-1, (3, self.heads, -1)).transpose(1, 3)
        out = attend(*(each.contiguous() for each in heads.unbind(2)))
        return x + self.outward(out.transpose(1, 2).flatten(2))


def step(keep: Keep, seconds: float, pattern: str, layers: int, length: int, heads: int, dim: int) -> Record:
    """The step of a plan, on the GPU, in bfloat16."""
    size = Size(length, heads, device())
    return measure(named(pattern), size, layers, dim, torch.bfloat16, Timer(size.device, seconds))


def measure(entry: Entry, size: Size, layers: int, dim: int, dtype: torch.dtype, timer: Timer) -> Record:
    """Seconds of a step by contender. Their gradients are compared with each other: rows hold them against float64."""
    torch.manual_seed(0)
    model = nn.ModuleList([Layer(size.heads, dim, dtype, size.device) for _ in range(layers)])
    x = torch.randn(1, size.length, size.heads * dim, dtype=dtype, device=size.device)
    inputs = entry.inputs(size)
    record: Record = {"pattern": entry.name, "layers": layers, "length": size.length, "contenders": {}}
    steps: dict[str, Step] = {}
    first: list[Tensor] = []
    for name, prepare in contenders(entry, size, inputs).items():
        entering = partial(enter, name, prepare, model, x, inputs, steps, first)
        record["contenders"][name] = outcome(entering)
    for name, seconds in timer.in_turn(steps, by_clock=True).items():
        record["contenders"][name]["seconds"] = seconds
    return record


def enter(
    name: str,
    prepare: Callable[[], Attend],
    model: nn.ModuleList,
    x: Tensor,
    inputs: Inputs,
    steps: dict[str, Step],
    first: list[Tensor],
) -> Record:
    """One contender; `first` has the gradients of the first one that ran."""
    attend = prepare()

    def trained() -> list[Tensor]:
        for tensor in inputs.values():
            tensor.add_(1)  # others of the same lengths: no map of an earlier step may be taken
        compute, hidden = attend(), x
        for layer in model:
            hidden = layer(hidden, compute)
        return list(torch.autograd.grad(hidden.float().square().mean(), list(model.parameters())))

    gradients = trained()
    first[:] = first or gradients
    right, given = (torch.cat([x.double().flatten() for x in each]) for each in (first, gradients))
    error = float((given - right).norm() / right.norm())
    if not error <= FARTHEST:
        raise Wrong(f"gradients are {error:.2g} of their size from those of the first contender")
    steps[name] = trained
    return {"error": error}


def contenders(entry: Entry, size: Size, inputs: Inputs) -> dict[str, Callable[[], Attend]]:
    known: dict[str, Callable[[], Attend]] = {OURS: partial(ours, entry, size, inputs)}
    if entry.is_causal is not None:
        known |= {name: partial(by_sdpa, name, bool(entry.is_causal)) for name in SDPA}
    return known | {FLEX: partial(flex, entry, size, inputs)}


def ours(entry: Entry, size: Size, inputs: Inputs) -> Attend:
    attention = entry.mask(size).compile(our_backend(size.device))
    return lambda: partial(attention.prepare(**inputs), layout="ordered")  # type: ignore[return-value]


def by_sdpa(name: str, is_causal: bool) -> Attend:
    compute = sdpa(SDPA[name], is_causal, False)
    return lambda: compute


def flex(entry: Entry, size: Size, inputs: Inputs) -> Attend:
    mask_mod, score_mod = entry.mask_mod(size, inputs), entry.score_mod(size, inputs)
    return lambda: flex_with(block_mask_of(mask_mod, size), score_mod, entry.scale, size.device)
