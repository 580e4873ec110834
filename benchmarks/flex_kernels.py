"""FlexAttention's forward kernel, as the installed torch renders it for a mask, compiled ahead for a GPU.

Inductor lowers the call as for a GPU of a kind that need not be here: tensors are fake, and what it asks of the device
is answered in its place. The text of the kernel is what it would compile; `assembly.py` counts its loops as ours.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, patch

import torch
import triton
from ahead import TARGETS, Compiled, nvidia
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd
from torch._inductor import config
from torch._inductor.decomposition import select_decomp_table
from torch._inductor.graph import GraphLowering
from torch._inductor.runtime.hints import DeviceProperties
from torch._inductor.virtualized import V
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.utils._pytree import tree_map
from triton.compiler import ASTSource
from triton.runtime import driver

from maskdsl.runtime.base.module_cache import load_module

Mod = Callable[..., Tensor]
KERNEL = re.compile(r"async_compile\.triton\('(\w*flex_attention\w*)', '''(.*?)''', device_str", re.DOTALL)
DECORATOR = re.compile(r"@triton_heuristics\.template\((.*?)\n\)\n", re.DOTALL)
HOPPER = {"multi_processor_count": 132, "regs_per_multiprocessor": 65536, "max_threads_per_multi_processor": 2048}


class Rendered(BaseException):
    """Ends the compilation of a call, with what Inductor would have compiled."""


@contextmanager
def as_on(target: str) -> Iterator[None]:
    """Inductor takes this GPU to be there."""
    major, minor = divmod(TARGETS[target].arch, 10)
    properties = SimpleNamespace(
        name="",
        major=major,
        minor=minor,
        total_memory=80 << 30,
        shared_memory_per_block_optin=227 << 10,
        warp_size=32,
        **HOPPER,
    )
    told = DeviceProperties("cuda", 0, cc=TARGETS[target].arch, major=major, warp_size=32, **HOPPER)
    answers: dict[str, Callable[..., Any]] = {
        "torch.cuda.is_available": lambda: True,
        "torch.cuda.get_device_capability": lambda *_: (major, minor),
        "torch.cuda.get_device_properties": lambda *_: properties,
        "torch.cuda.current_device": lambda: 0,
        "torch.cuda.device_count": lambda: 1,
        "torch.cuda.is_bf16_supported": lambda *_, **__: True,
        "torch.cuda._lazy_init": lambda: None,
        "torch._inductor.runtime.hints.DeviceProperties.create": lambda _: told,
        "torch._inductor.scheduler.has_triton": lambda *_: True,
        "torch.utils._triton.has_triton": lambda *_: True,
    }
    with ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(patch(name, answer))
        stack.enter_context(patch.object(torch.version, "cuda", "12.8"))
        stack.enter_context(
            patch.object(driver, "_active", SimpleNamespace(get_current_target=lambda: TARGETS[target]))
        )
        stack.enter_context(config.patch({"force_disable_caches": True, "compile_threads": 1}))
        yield


def rendered(mask_mod: Mod, score_mod: Mod | None, target: str, length: int, dim: int) -> str:
    """The module that Inductor generates for a call in bf16 of 4 heads. The functions read no tensors."""

    def lowered(graph: torch.fx.GraphModule, inputs: Sequence[Any]) -> None:
        for each in graph.modules():
            for node in each.graph.nodes if isinstance(each, torch.fx.GraphModule) else ():
                node.meta |= {key: tree_map(on_gpu, node.meta[key]) for key in ("val",) if key in node.meta}
        moved = [on_gpu(each) for each in inputs]
        mode = torch._guards.detect_fake_mode(inputs)
        with as_on(target), V.set_fake_mode(mode), V.set_debug_handler(MagicMock()):
            lowering = GraphLowering(graph, example_inputs=moved, is_inference=False)
            with V.set_graph_handler(lowering):
                lowering.run(*moved)
                raise Rendered(lowering.codegen()[0].value)

    blocks = create_block_mask(mask_mod, 1, 1, length, length, device="cpu")
    backend = aot_autograd(fw_compiler=lowered, decompositions=select_decomp_table())
    call = torch.compile(
        lambda q, k, v: flex_attention(q, k, v, score_mod=score_mod, block_mask=blocks), backend=backend, fullgraph=True
    )
    try:
        call(*(torch.empty(1, 4, length, dim, dtype=torch.bfloat16) for _ in "qkv"))
    except Rendered as found:
        return str(found)
    raise AssertionError("nothing was lowered")


def on_gpu(x: Any) -> Any:
    """A fake tensor as one of a GPU."""
    if not isinstance(x, FakeTensor):
        return x
    memory = torch.empty_strided(tuple(x.shape), x.stride(), dtype=x.dtype, device="meta")
    return FakeTensor(x.fake_mode, memory, torch.device("cuda", 0))


def compile_flex(mask_mod: Mod, score_mod: Mod | None, target: str, length: int, dim: int) -> Compiled:
    """The forward kernel with the tile sizes, warps and stages that torch takes by default."""
    found = KERNEL.search(rendered(mask_mod, score_mod, target, length, dim))
    assert found is not None
    name, text = found.groups()
    decorator = DECORATOR.search(text)
    assert decorator is not None
    module: ModuleType = load_module.__wrapped__(text.replace(decorator[0], ""), "flex")
    options = eval(f"dict({decorator[1]})", {"DeviceProperties": DeviceProperties})
    meta = options["triton_meta"]
    source = ASTSource(getattr(module, name), meta["signature"], meta["constants"], meta["configs"][0])
    taken = {"num_warps": options["num_warps"], "num_stages": options["num_stages"]}
    return nvidia(triton.compile(source, target=TARGETS[target], options=taken))
