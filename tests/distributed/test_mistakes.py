"""Mistakes on one process are errors on all, before anything is exchanged."""

from collections.abc import Callable
from contextlib import nullcontext

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import maskdsl
from maskdsl import AttnError
from tests.distributed.processes import on_processes

PATTERN = """
pattern packed(n = 64) {
    space tokens[n]
    input document: int[batch, tokens]
    attend causal and same(document)
}
"""
RANKS, WRONG = 2, 1
CASES: dict[str, Callable[[Tensor], Tensor]] = {
    "tokens": lambda q: q[:, :, 1:],
    "dims": lambda q: q[0],
    "batch": lambda q: q[:1],
    "head dim": lambda q: q[..., :4],
    "dtype": lambda q: q.double(),
}


def _said() -> dict[str, str]:
    """What each call raises on this process."""
    mask = maskdsl.parse(PATTERN)["packed"].bind(heads=2)
    attention, is_wrong, said = mask.compile(), dist.get_rank() == WRONG, {}
    document = torch.zeros(1, 64, dtype=torch.int64)
    for name, change in {**CASES, "plan": lambda q: q}.items():
        if name == "plan" and is_wrong:
            document = (torch.arange(64) // 8)[None]
        cp = mask.shard(RANKS, block=8, document=document).on(dist.group.WORLD)
        q = torch.randn(2, 2, len(cp.positions), 8)
        x = change(q) if is_wrong else q
        try:
            cp.attend(attention, x, x, x, document=document)
        except AttnError as error:
            said[name] = str(error)
    return said


def _looked_on() -> Tensor:
    """A first call, on which one process looks."""
    mask = maskdsl.parse(PATTERN)["packed"].bind(heads=2)
    document = torch.zeros(1, 64, dtype=torch.int64)
    cp = mask.shard(RANKS, block=8, document=document).on(dist.group.WORLD)
    q = torch.ones(2, 2, len(cp.positions), 8)
    with FlopCounterMode(display=False) if dist.get_rank() == WRONG else nullcontext():
        return cp.attend(mask.compile(), q, q, q, document=document)


def test_one_process_may_look_on() -> None:
    for out in on_processes(RANKS, _looked_on):
        torch.testing.assert_close(out, torch.ones_like(out))


def test_mistakes_of_one_process() -> None:
    right, wrong = on_processes(RANKS, _said)
    assert right.keys() == wrong.keys() == {*CASES, "plan"}
    for name in ("tokens", "dims"):
        assert "E479" in right[name] and f"rank {WRONG} raises error" in right[name] and "E479" not in wrong[name]
    for name in ("batch", "head dim", "dtype"):
        assert "E479" in right[name] and f"rank {WRONG} has another `q` than rank 0: torch.float" in right[name]
        assert right[name] == wrong[name]
    assert "another plan than rank 0" in right["plan"] and right["plan"] == wrong["plan"]
