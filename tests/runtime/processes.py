"""What each of two processes does for `test_processes.py`."""

from collections.abc import Callable
from functools import partial

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

import maskdsl
from maskdsl.base.diagnostics import AttnError

BY_HEAD = """
pattern by_head(n = 64) {
    space tokens[n]
    input slope: float[heads]
    attend causal if head < heads // 2 else causal and backward(8)
    score s - slope[head] * float(q - k)
}
"""

BY_HEAD_AND_ENTRY = BY_HEAD.replace("score s", "score s + k.gate").replace(
    "    attend",
    """    input gate: float[batch, tokens]
    input document: int[batch, tokens]
    require same(document)
    attend""",
)


def heads_of_a_whole(rank: int, world: int) -> None:
    """Each process has its heads; together they are the attention, and the gradients of what all share add up."""
    torch.manual_seed(0)
    whole = maskdsl.parse(BY_HEAD)["by_head"].bind(heads=4, key_heads=2).compile()
    q, k, v = (torch.randn(2, heads, 64, 8, dtype=torch.float64) for heads in (4, 2, 2))
    grad = torch.randn_like(q)
    slope = torch.rand(4, dtype=torch.float64)
    leaves = [x.clone().requires_grad_() for x in (q, k, v, slope)]
    expected = whole(*leaves[:3], slope=leaves[3])
    expected.backward(grad)
    part = maskdsl.parse(BY_HEAD)["by_head"].bind(heads=4, key_heads=2, first_head=rank * 2, local_heads=2)
    own = [x.chunk(world, 1)[rank].clone().requires_grad_() for x in (q, k, v)]
    shared = slope.clone().requires_grad_()
    out = part.compile()(*own, slope=shared)
    out.backward(grad.chunk(world, 1)[rank])
    torch.testing.assert_close(out, expected.chunk(world, 1)[rank], rtol=0, atol=1e-12)
    for one, other in zip(own, leaves[:3], strict=True):
        torch.testing.assert_close(one.grad, other.grad.chunk(world, 1)[rank], rtol=0, atol=1e-12)
    dist.all_reduce(shared.grad)
    torch.testing.assert_close(shared.grad, leaves[3].grad, rtol=0, atol=1e-12)


def context_parallel(rank: int, world: int) -> None:
    """Inside of torch's context parallelism each process has a part of the tokens, which no attention can know."""
    from torch.distributed.tensor.experimental import context_parallel as parallel

    following = maskdsl.parse(BY_HEAD)["by_head"].compile(heads=4)
    q, k, v = (torch.randn(1, 4, 64, 8) for _ in range(3))
    calls: list[Callable[[], object]] = [
        lambda: following(q, k, v, slope=torch.rand(4)),
        lambda: following(q[:, :, :2], k, v, query_start=0, slope=torch.rand(4)),
        lambda: torch.compile(following, backend="aot_eager")(q, k, v, slope=torch.rand(4)),
    ]
    for call in calls:
        call()
    with parallel(init_device_mesh("cpu", (world,)), buffers=[q, k, v], buffer_seq_dims=[2, 2, 2]):
        assert q.shape[2] == 64 // world
        for number, call in enumerate(calls):
            try:
                call()
            except AttnError as error:
                assert [each.code for each in error.diagnostics] == ["E491"], error
            else:
                raise AssertionError(f"call {number} was silent")
    for call in calls:
        call()


def sharded_tensors(rank: int, world: int) -> None:
    """DTensors give what whole tensors do, with gradients; tokens of several processes are refused."""
    from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

    torch.manual_seed(0)
    mesh, pattern = init_device_mesh("cpu", (world,)), maskdsl.parse(BY_HEAD_AND_ENTRY)["by_head"]
    for key_heads, layout in ((2, "bhnd"), (1, "bnhd")):
        attention = pattern.bind(heads=4).compile(layout=layout)
        q, k, v = (torch.randn(2, heads, 64, 8, dtype=torch.float64) for heads in (4, key_heads, key_heads))
        vectors = [x if layout == "bhnd" else x.transpose(1, 2).contiguous() for x in (q, k, v)]
        given = [*vectors, torch.rand(4, dtype=torch.float64)]
        gate, document = torch.rand(2, 64, dtype=torch.float64), torch.randint(0, 2, (2, 64)).tolist()
        leaves = [x.clone().requires_grad_() for x in given]
        expected = attention(*leaves[:3], slope=leaves[3], gate=gate, document=document, return_lse=True)
        grads = torch.autograd.grad(sum(x.sin().sum() for x in expected), leaves)
        heads_at = 1 if layout == "bhnd" else 2
        for placement in (Shard(0), Shard(heads_at), Replicate()):
            of_keys = Replicate() if placement == Shard(heads_at) and key_heads < world else placement
            placements = placement, of_keys, of_keys
            shared = [distribute_tensor(x, mesh, [each]) for x, each in zip(vectors, placements, strict=True)]
            plain = given[3].clone()  # an input that every process has whole
            shards = [x.requires_grad_() for x in (*shared, plain)]
            found = attention(*shards[:3], slope=plain, gate=gate, document=document, return_lse=True)
            assert all(isinstance(x, DTensor) for x in found) and found[0].placements == (placement,)
            loss = sum(x.sin().sum() for x in found)
            again = torch.autograd.grad(loss.full_tensor(), shards)
            for one, other in zip((*expected, *grads), (*found, *again), strict=True):
                whole = other.full_tensor() if isinstance(other, DTensor) else other
                torch.testing.assert_close(whole, one, rtol=0, atol=1e-12)
    inputs = {"slope": given[3], "gate": gate, "document": document}
    by_heads = [distribute_tensor(x, mesh, [Shard(2) if x is vectors[0] else Replicate()]) for x in vectors]
    part = pattern.compile(heads=4, layout="bnhd")(*by_heads, **inputs, query_start=0)  # at any length
    torch.testing.assert_close(part.full_tensor(), expected[0], rtol=0, atol=1e-12)
    split, first = [distribute_tensor(x, mesh, [Shard(1)]) for x in vectors], [given[0][:1], *given[1:3]]
    uneven = [distribute_tensor(x, mesh, [Shard(0)]) for x in first]
    entries = [distribute_tensor(x, mesh, [Shard(0)]) for x in vectors]
    for wrong, options, said in (
        (split, {}, "plan.on"),
        (uneven, {}, "let the processes divide it"),
        (entries, {"dropout_p": 0.5, "seed": 1}, "reads the numbers of entries"),
        (entries, {"out": q}, "beside `out`"),
        ([vectors[0], *entries[1:]], {}, "E492"),
    ):
        try:
            attention(*wrong, **inputs, **options)
        except AttnError as error:
            assert said in str(error), error
        else:
            raise AssertionError(f"{said} was silent")


def other_calls_of_sharded_tensors(rank: int, world: int) -> None:
    """Prepared calls, graphs of torch.compile and packed sequences give of DTensors what they do of whole tensors."""
    from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

    torch.manual_seed(0)
    mesh, pattern = init_device_mesh("cpu", (world,)), maskdsl.parse(BY_HEAD)["by_head"]
    attention, following = pattern.bind(heads=4, key_heads=2).compile(), pattern.compile(heads=4, key_heads=2)
    q, k, v = (torch.randn(2, heads, 64, 8, dtype=torch.float64) for heads in (4, 2, 2))
    slope, ends = torch.rand(4, dtype=torch.float64), torch.tensor([0, 25, 64])
    graph = torch.compile(attention, fullgraph=True, backend="aot_eager")
    calls: dict[str, tuple[Callable[..., torch.Tensor], tuple[torch.Tensor, ...]]] = {
        "prepared": (attention.prepare(slope=slope), (q, k, v)),
        "prepared, with dropout": (partial(attention.prepare(slope=slope), dropout_p=0.3, seed=5), (q, k, v)),
        "in a graph": (partial(graph, slope=slope), (q, k, v)),
        "packed": (
            lambda q, k, v: following.varlen(q, k, v, ends, slope=slope),
            tuple(x[0].transpose(0, 1).contiguous() for x in (q, k, v)),
        ),
    }
    for name, (call, whole) in calls.items():
        leaves = [x.clone().requires_grad_() for x in whole]
        plain = attention if name == "in a graph" else call
        expected = plain(*leaves, slope=slope) if plain is attention else plain(*leaves)
        grads = torch.autograd.grad(expected.sin().sum(), leaves)
        for placement in (Shard(1), Replicate()):
            shards = [distribute_tensor(x, mesh, [placement]).requires_grad_() for x in whole]
            found = call(*shards)
            assert isinstance(found, DTensor) and found.placements == (placement,), name
            again = torch.autograd.grad(found.sin().sum().full_tensor(), shards)
            for one, other in zip((expected, *grads), (found, *again), strict=True):
                torch.testing.assert_close(other.full_tensor(), one, rtol=0, atol=1e-12)
    packed = calls["packed"][1]
    by_heads = [distribute_tensor(x, mesh, [Shard(1)]) for x in packed]
    results = [following.varlen(*each, ends, slope=slope, return_lse=True) for each in (packed, by_heads)]
    torch.testing.assert_close(results[1][1].full_tensor(), results[0][1], rtol=0, atol=1e-12)
    for call, whole, axis in ((calls["in a graph"][0], (q, k, v), 2), (calls["packed"][0], packed, 0)):
        try:
            call(*(distribute_tensor(x, mesh, [Shard(axis)]) for x in whole))
        except Exception as error:  # torch.compile wraps it
            assert "E477" in str(error) and "plan.on" in str(error), error
        else:
            raise AssertionError("shards of tokens were taken")


def check() -> None:
    for each in (heads_of_a_whole, context_parallel, sharded_tensors, other_calls_of_sharded_tensors):
        each(dist.get_rank(), dist.get_world_size())
