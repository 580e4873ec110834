"""What the processes of a group agree on before they exchange tensors: a mistake on one of them is an error on all."""

from collections.abc import Callable, Mapping
from zlib import crc32

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from maskdsl.base.diagnostics import AttnError, shown
from maskdsl.base.errors.calls.arguments import WrongArgument
from maskdsl.base.errors.calls.sharding import OtherCall
from maskdsl.distributed.shard_plan import RankPlan

_MISTAKE = "mistake"
_ALIKE = "all processes plan from the same inputs, and call `attend` with the same arguments but for their tokens"


def group_of(given: object) -> dist.ProcessGroup:
    """The group of an argument: itself, that of a mesh of one dimension, or of all processes for None.

    Raises `AttnError` for anything else, and before there are processes.
    """
    group = dist.group.WORLD if given is None else given
    if isinstance(group, DeviceMesh):
        return group.get_group()
    if isinstance(group, dist.ProcessGroup):
        return group
    expected = (
        "a process group, such as `dist.group.WORLD` after `dist.init_process_group`, or one dimension of a mesh, "
        'such as `mesh["cp"]`'
    )
    raise AttnError(WrongArgument(name="group", found=shown(given), expected=expected))


def check_alike(describe: Callable[[], Mapping[str, str]], group: dist.ProcessGroup) -> None:
    """Raises on every process where `describe` raises `AttnError` on one, or does not return the same on all."""
    mistake: AttnError | None = None
    try:
        mine = dict(describe())
    except AttnError as error:
        mistake, mine = error, {_MISTAKE: str(error).partition("\n")[0]}
    every: list[dict[str, str]] = [{} for _ in range(dist.get_world_size(group))]
    dist.all_gather_object(every, mine, group)
    if mistake is not None:
        raise mistake
    for rank, other in enumerate(every):
        if _MISTAKE in other:
            raise AttnError(OtherCall(how=f"rank {rank} raises {other[_MISTAKE]}", advice=_ALIKE))
    for rank, other in enumerate(every):
        for name, first in every[0].items():
            if other[name] != first:
                how = f"rank {rank} has another {name} than rank 0: {other[name]}, and not {first}"
                raise AttnError(OtherCall(how=how, advice=_ALIKE))


def is_computed() -> bool:
    """Whether a call computes numbers now: torch does not trace it. Modes that only look on may be of one process."""
    modes = torch._C._TorchDispatchModeKey
    traced = any(torch._C._get_dispatch_mode(each) is not None for each in (modes.FAKE, modes.PROXY, modes.FUNCTIONAL))
    return not traced and not torch._C._are_functorch_transforms_active()


def described(
    plan: RankPlan, layer: int, vectors: Mapping[str, Tensor], inputs: Mapping[str, Tensor]
) -> dict[str, str]:
    """A call of a layer of the plan but for the tokens of a rank: vectors are [batch, heads, tokens, dim]."""
    said = {"plan": _digest(plan), "attention": f"`{plan.masks[layer].name}`"}
    for name, x in vectors.items():
        said[f"`{name}`"] = f"{x.dtype} [{x.shape[0]}, {x.shape[1]}, tokens, {x.shape[3]}]"
    return said | {f"`{name}`": f"{x.dtype} {[*x.shape]}" for name, x in inputs.items()}


def _digest(plan: RankPlan) -> str:
    """A plan in a word, with all that decides which rows move."""
    homes = [side for each in plan.best.homes for side in (each.queries, each.keys)]
    inputs = [x for given in plan.inputs for x in given.values()]
    number = crc32(f"{plan.block} {[(each.name, each.parameters) for each in plan.masks]}".encode())
    for x in (*homes, *inputs):
        number = crc32(np.ascontiguousarray(x).data, number)
    return f"{plan.scheme}, number {number:08x}"
