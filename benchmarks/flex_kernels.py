"""FlexAttention's kernels, as the installed torch renders them for a call, compiled ahead for a GPU.

Inductor lowers the call as for a GPU of a kind that need not be here: tensors are fake, and what it asks of the device
is answered in its place. The text of a kernel is what it would compile; `assembly.py` counts its loops as ours. One
kernel computes all gradients: its programs are of dQ or of dK and dV.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, patch

import torch
import triton
from ahead import TARGETS, Compiled, amd, nvidia
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd
from torch._functorch import config as functorch
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
KERNEL = re.compile(r"async_compile\.triton\('(triton_tem_\w*)', '''(.*?)''', device_str", re.DOTALL)
DECORATOR = re.compile(r"@triton_heuristics\.template\((.*?)\n\)\n", re.DOTALL)
BLOCK = re.compile(r"\b(BLOCK_\w+) : tl\.constexpr = (\d+)")
HOPPER = {"multi_processor_count": 132, "regs_per_multiprocessor": 65536, "max_threads_per_multi_processor": 2048}
RENDERED_AS = {"gfx942": "sm80"}
"""Targets that torch renders its templates for as for another: on AMD they differ in launch configurations alone."""


@dataclass(frozen=True)
class FlexCall:
    """A call of FlexAttention in bf16, of one batch entry. Its functions may read tensors of the CPU."""

    mask_mod: Mod | None
    score_mod: Mod | None
    length: int
    dim: int
    scale: float | None = None
    heads: int = 4


@dataclass(frozen=True)
class FlexKernel:
    """A kernel as rendered, compiled."""

    options: Mapping[str, int]
    """Its blocks, by their names in the template, warps and stages."""
    compiled: Compiled


class RenderedAll(BaseException):
    """Ends the compilation of a call once all is known that Inductor would have compiled."""


@contextmanager
def as_on(target: str) -> Iterator[None]:
    """Inductor takes this GPU to be there."""
    gpu = TARGETS[RENDERED_AS.get(target, target)]
    major, minor = divmod(gpu.arch, 10)
    properties = SimpleNamespace(
        name="",
        major=major,
        minor=minor,
        total_memory=80 << 30,
        shared_memory_per_block_optin=227 << 10,
        warp_size=32,
        **HOPPER,
    )
    told = DeviceProperties("cuda", 0, cc=gpu.arch, major=major, warp_size=32, **HOPPER)
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
        stack.enter_context(patch.object(driver, "_active", SimpleNamespace(get_current_target=lambda: gpu)))
        stack.enter_context(config.patch({"force_disable_caches": True, "compile_threads": 1}))
        yield


@cache
def rendered(call: FlexCall, target: str, options: frozenset[tuple[str, int]] = frozenset()) -> tuple[str, str]:
    """The modules that Inductor generates for a call, forward and backward, with these kernel options."""
    texts: list[str] = []

    def lowered(graph: torch.fx.GraphModule, inputs: Sequence[Any]) -> torch.fx.GraphModule:
        for each in graph.modules():
            for node in each.graph.nodes if isinstance(each, torch.fx.GraphModule) else ():
                node.meta |= {key: tree_map(on_gpu, node.meta[key]) for key in ("val",) if key in node.meta}
        moved = [on_gpu(each) for each in inputs]
        mode = torch._guards.detect_fake_mode(inputs)
        with as_on(target), V.set_fake_mode(mode), V.set_debug_handler(MagicMock()):
            lowering = GraphLowering(graph, example_inputs=moved, is_inference=False)
            with V.set_graph_handler(lowering):
                lowering.run(*moved)
                texts.append(lowering.codegen()[0].value)
        if len(texts) == 2:
            raise RenderedAll
        return graph

    length = call.length
    blocks = create_block_mask(call.mask_mod, None, None, length, length, device="cpu") if call.mask_mod else None
    given = {"score_mod": call.score_mod, "block_mask": blocks, "scale": call.scale, "kernel_options": dict(options)}
    torch._dynamo.reset()
    attend = torch.compile(
        lambda q, k, v: flex_attention(q, k, v, **given),
        backend=aot_autograd(fw_compiler=lowered, decompositions=select_decomp_table()),
        fullgraph=True,
    )
    drawn = [torch.empty(1, call.heads, length, call.dim, dtype=torch.bfloat16, requires_grad=True) for _ in "qkv"]
    # tensors are of the CPU until they are lowered, where FlexAttention refuses to be differentiated
    with (
        functorch.patch(force_non_lazy_backward_lowering=True),
        patch("torch.nn.attention.flex_attention._validate_device", lambda *_: None),
    ):
        try:
            attend(*drawn)
        except RenderedAll:
            forward, backward = texts
            return forward, backward
    raise AssertionError("nothing was lowered")


def on_gpu(x: Any) -> Any:
    """A fake tensor as one of a GPU."""
    if not isinstance(x, FakeTensor):
        return x
    memory = torch.empty_strided(tuple(x.shape), x.stride(), dtype=x.dtype, device="meta")
    return FakeTensor(x.fake_mode, memory, torch.device("cuda", 0))


@cache
def compile_flex(
    call: FlexCall, target: str, is_backward: bool = False, options: frozenset[tuple[str, int]] = frozenset()
) -> FlexKernel:
    """One of the two kernels, with kernel options (`fwd_BLOCK_M`); without, with the blocks that torch takes."""
    found = KERNEL.search(rendered(call, target, options)[is_backward])
    assert found is not None
    name, text = found.groups()
    decorator = DECORATOR.search(text)
    assert decorator is not None
    module: ModuleType = load_module.__wrapped__(text.replace(decorator[0], ""), "flex")
    arguments = eval(f"dict({decorator[1]})", {"DeviceProperties": DeviceProperties})
    meta = arguments["triton_meta"]
    source = ASTSource(getattr(module, name), meta["signature"], meta["constants"], meta["configs"][0])
    launch = {each: arguments[each] for each in ("num_warps", "num_stages")}
    compiled = triton.compile(source, target=TARGETS[target], options=launch)
    blocks = {name: int(value) for name, value in BLOCK.findall(text)}
    return FlexKernel({**blocks, **launch}, nvidia(compiled) if TARGETS[target].backend == "cuda" else amd(compiled))
