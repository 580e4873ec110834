"""Sharded attention where models are trained: in graphs of torch.compile, under checkpoints, in layers of FSDP2."""

from collections.abc import Callable

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint

import maskdsl
from maskdsl import AttnError
from maskdsl.distributed.homes import ShardScheme
from maskdsl.sharding.sharded_tokens import ShardedTokens
from tests.distributed.processes import on_processes

PATTERNS = """
pattern documents(n = 201) {
    space tokens[n]
    input document: int[batch, tokens]
    input bias: float[heads, tokens]
    attend same(document) and causal
    attend q < 3
    score s + k.bias
}
pattern two(n = 120) {
    space tokens[n]
    input gate: float[batch, tokens]
    branch near {
        attend window(20)
        weight q.gate
    }
    branch far {
        attend causal and (q - k) % 7 == 0
        weight 1.0 - q.gate
    }
}
"""
TRAVELLING = ShardScheme("contiguous", travelling=True)
Call = Callable[[Tensor, Tensor, Tensor, dict[str, Tensor]], tuple[Tensor, ...]]
Sharded = tuple[maskdsl.Attention, ShardedTokens, list[Tensor], dict[str, Tensor]]


def _sharded(name: str, scheme: ShardScheme) -> Sharded:
    """The attention, its plan on all processes, whole tensors and inputs."""
    torch.manual_seed(0)
    mask = maskdsl.parse(PATTERNS)[name].bind(heads=4, key_heads=2)
    tensors = [torch.randn(2, heads, mask.query_length, 8, dtype=torch.float64) for heads in (4, 2, 2)]
    inputs = {each.name: torch.randn(2, mask.query_length, dtype=torch.float64) for each in mask.inputs}
    if name == "documents":
        document = torch.randint(0, 3, (2, mask.query_length)).sort(-1).values
        inputs = {"document": document, "bias": torch.randn(4, mask.query_length, dtype=torch.float64)}
    arrays = {name: x.numpy() for name, x in inputs.items()}
    plan = mask.shard(dist.get_world_size(), per_node=2, head_dim=8, dtype="float64", block=32, scheme=scheme, **arrays)
    for x in (*tensors, *inputs.values()):
        x.requires_grad_(x.is_floating_point())
    return mask.compile("tiled"), plan.on(dist.group.WORLD), tensors, inputs


def _results(call: Call, tensors: list[Tensor], inputs: dict[str, Tensor]) -> list[Tensor]:
    """What a call returns, and the gradients of everything."""
    leaves = [x for x in (*tensors, *inputs.values()) if x.is_floating_point()]
    for x in leaves:
        x.grad = None
    outs = call(*tensors, inputs)
    torch.manual_seed(1)
    torch.autograd.backward(outs, [torch.randn(each.shape, dtype=each.dtype) for each in outs])
    return [*outs, *(x.grad for x in leaves if x.grad is not None)]


def _differences(backend: str) -> list[tuple[str, str, float]]:
    found = []
    by_heads = ShardScheme("least loaded", 32, groups=dist.get_world_size())
    for name, scheme in (("documents", TRAVELLING), ("two", by_heads)):
        attention, cp, tensors, inputs = _sharded(name, scheme)
        options = {"dropout_p": 0.3, "seed": 5} if name == "two" else {}

        def whole(q: Tensor, k: Tensor, v: Tensor, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
            return attention(q, k, v, return_lse=True, **options, **inputs)  # noqa: B023

        def sharded(q: Tensor, k: Tensor, v: Tensor, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
            local = [cp.scatter(x, 2, keys=x is not q) for x in (q, k, v)]  # noqa: B023
            out, lse = cp.attend(attention, *local, return_lse=True, **options, **inputs)  # noqa: B023
            return cp.gather(out, 2), cp.gather(lse, lse.dim() - 1)  # noqa: B023

        expected = _results(whole, tensors, inputs)
        torch._dynamo.reset()
        calls: dict[str, Call] = {
            "compiled": torch.compile(sharded, fullgraph=True, backend=backend),
            "checkpointed": lambda *given: checkpoint(sharded, *given, use_reentrant=False),
            "checkpointed anew": lambda *given: checkpoint(sharded, *given, use_reentrant=True),
        }
        for kind, call in calls.items():
            pairs = zip(expected, _results(call, tensors, inputs), strict=True)
            worst = max(float((one - other).detach().nan_to_num(0.0).abs().max()) for one, other in pairs)
            found.append((name, kind, worst))
    return found


class _Layer(nn.Module):
    """Attention with projections. Without `cp`, in one process."""

    def __init__(self, attention: maskdsl.Attention, cp: ShardedTokens | None) -> None:
        super().__init__()
        self.qkv = nn.Linear(12, 4 * 8 + 2 * 2 * 8, dtype=torch.float64)
        self.out = nn.Linear(32, 12, dtype=torch.float64)
        self.attention, self.cp = attention, cp

    def forward(self, x: Tensor, document: Tensor, bias: Tensor) -> Tensor:
        heads = self.qkv(x).unflatten(-1, (8, 8)).transpose(1, 2)
        q, k, v = torch.split(heads, [4, 2, 2], dim=1)
        if self.cp is None:
            out = self.attention(q, k, v, document=document, bias=bias)
        else:
            out = self.cp.attend(self.attention, q, k, v, document=document, bias=bias)
        return x + self.out(out.transpose(1, 2).flatten(2))


def _fully_sharded(compiled: bool) -> float:
    """What differs most, of gradients of parameters, between layers of FSDP2 on all processes and one process."""
    torch._dynamo.reset()
    attention, cp, _, inputs = _sharded("documents", TRAVELLING)
    given = {name: x.detach() for name, x in inputs.items()}
    layers = [_Layer(attention, None) for _ in range(2)]
    sharded = [_Layer(attention, cp) for _ in layers]
    x, mesh = torch.randn(2, 201, 12, dtype=torch.float64), init_device_mesh("cpu", (dist.get_world_size(),))
    for one, other in zip(layers, sharded, strict=True):
        other.load_state_dict(one.state_dict())
        if compiled:
            other.compile(fullgraph=True, backend="aot_eager")
        fully_shard(other, mesh=mesh)
    whole, local = x, cp.scatter(x, 1)
    for one, other in zip(layers, sharded, strict=True):
        whole, local = one(whole, **given), other(local, **given)
    whole.sin().sum().backward()
    (local.sin().sum() * dist.get_world_size()).backward()  # FSDP takes the mean over processes
    worst = []
    for one, other in zip(nn.ModuleList(layers).parameters(), nn.ModuleList(sharded).parameters(), strict=True):
        assert one.grad is not None and isinstance(other.grad, DTensor)
        worst.append(float((one.grad - other.grad.full_tensor()).abs().max()))
    return max(worst)


def _stale() -> str:
    """What a compiled call says of documents that were not planned for."""
    attention, cp, tensors, inputs = _sharded("documents", TRAVELLING)
    torch._dynamo.reset()
    local = [cp.scatter(x.detach(), 2) for x in tensors]
    compiled = torch.compile(lambda *given, **inputs: cp.attend(attention, *given, **inputs), backend="aot_eager")
    compiled(*local, **inputs)
    try:
        compiled(*local, document=inputs["document"] // 2, bias=inputs["bias"])
    except AttnError as error:
        return str(error)
    return "nothing"


def _all(backend: str) -> tuple[list[tuple[str, str, float]], list[float], str]:
    return _differences(backend), [_fully_sharded(compiled) for compiled in (False, True)], _stale()


def _check(found: list[tuple[str, str, float]], fully_sharded: list[float], stale: str) -> None:
    assert [each for each in found if each[2] > 1e-12] == []
    assert max(fully_sharded) < 1e-10
    assert "E469" in stale


def test_one_process_trains_as_without_a_plan() -> None:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        _check(*_all("aot_eager"))
    finally:
        dist.destroy_process_group()


@pytest.mark.long
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_two_processes_train_as_one_does(backend: str) -> None:
    for results in on_processes(2, _all, backend):
        _check(*results)
