"""What two processes do for `test_processes.py`: `python -m tests.runtime.processes RANK WORLD FILE`."""

import sys
from collections.abc import Callable

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
    """A DTensor is refused, with what to give in its place."""
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    attention = maskdsl.parse(BY_HEAD)["by_head"].bind(heads=4).compile()
    mesh = init_device_mesh("cpu", (world,))
    for placement in (Shard(0), Shard(1), Shard(2), Replicate()):
        q = distribute_tensor(torch.randn(2, 4, 64, 8), mesh, [placement])
        try:
            attention(q, q, q, slope=torch.rand(4))
        except AttnError as error:
            assert {each.code for each in error.diagnostics} == {"E492"}, error
        else:
            raise AssertionError(f"{placement} was silent")


if __name__ == "__main__":
    rank, world, file = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=world)
    for each in (heads_of_a_whole, context_parallel, sharded_tensors):
        each(rank, world)
    dist.destroy_process_group()
