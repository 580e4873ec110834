"""The Triton backend without a GPU and without the interpreter: what it refuses, and the text that it generates."""

import ast
import os
import re
from dataclasses import fields
from inspect import signature
from pathlib import Path

import pytest
import torch
from triton.backends.amd.compiler import HIPOptions
from triton.backends.nvidia.compiler import CUDAOptions
from triton.runtime.jit import JITFunction

import maskdsl
from maskdsl.base.diagnostics import AttnError
from maskdsl.bind.expression.names import OF_CALLS
from maskdsl.emit import skeleton
from maskdsl.emit.plan import make_plan
from maskdsl.emit.triton.attention_module import emit_triton
from maskdsl.emit.triton.decoding.decode_module import emit_decode
from maskdsl.emit.triton.selection.selection_module import emit_selection
from maskdsl.ir.expressions import Apply, walk
from maskdsl.ir.ops import Op
from maskdsl.runtime.backends import triton_backend
from maskdsl.runtime.backends.available import BACKENDS
from tests.support.skeletons import filled

GOLDENS = Path(__file__).parent / "goldens"
WINDOW = """
## Text that all see, and an image that sees itself in a window and relative to a table of biases.
pattern mixed(text = 20, h = 16, w = 16, size = 5) {
    space words[text]
    space image[y = h, x = w]
    tokens words ++ image
    input document: int[batch, tokens]
    input bias: float[heads, 2 * h - 1]
    attend all -> words
    attend image -> image where window((size, size))
    require same(document)
    score s + bias[head, q.y - k.y + h - 1] if image -> image else s
    order image by y // 4, x // 4
}
"""


def layer(n: int = 32) -> maskdsl.Mask:
    return maskdsl.parse("pattern p(n) { space t[n] attend causal }")["p"].bind(n=n)


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter takes tensors of the CPU")
def test_tensors_of_the_cpu_need_the_interpreter() -> None:
    q = torch.randn(1, 1, 32, 16)
    with pytest.raises(AttnError, match=r"E424.*on cpu"):
        layer().compile("triton")(q, q, q)


def test_no_large_head_dims() -> None:
    q = torch.randn(1, 1, 32, 257)
    with pytest.raises(AttnError, match=r"E425.*head dimension of 257"):
        layer().compile("triton")(q, q, q)


@pytest.mark.parametrize(("found", "dtype", "says"), [((), torch.float32, "none"), ((3, 4), torch.float64, "3.4")])
def test_triton_is_there(
    monkeypatch: pytest.MonkeyPatch, found: tuple[int, ...], dtype: torch.dtype, says: str
) -> None:
    monkeypatch.setattr(triton_backend, "triton_version", lambda: found)
    monkeypatch.setattr(triton_backend, "interpreted", lambda: True)
    q = torch.randn(1, 1, 32, 16, dtype=dtype)
    with pytest.raises(AttnError, match=f"E426.*{says} is installed"):
        triton_backend.check(q, q)


def test_auto_computes_by_tiles_on_the_cpu() -> None:
    q = torch.randn(1, 2, 32, 16)
    attention = layer().compile()
    assert not triton_backend.Triton().serves(attention._compiled.plan, q, q)
    torch.testing.assert_close(attention(q, q, q), layer().compile("reference")(q, q, q))
    assert "forward_kernel" in attention._compiled.kernel_of(BACKENDS["triton"]).source


def test_everything_has_every_operator() -> None:
    masks = [pattern.bind(heads=2).ir for pattern in maskdsl.load(Path(__file__).with_name("everything.attn")).values()]
    parts = [(mask.relation, *mask.scores, mask.weight, mask.scale) for mask in masks]
    roots = [root for each in parts for root in each if root is not None]
    assert {node.op for root in roots for node in walk(root) if isinstance(node, Apply)} == set(Op)


EXAMPLES = Path(__file__).parents[2] / "examples"
REVIEWED = {
    "mixed": maskdsl.parse(WINDOW)["mixed"],
    **{
        name: maskdsl.load(EXAMPLES / file)[name]
        for file, name in (
            ("language/sliding_window.attn", "sliding_window"),  # tiles in closed form
            ("language/longformer.attn", "longformer"),  # lists of tiles
            ("language/packed.attn", "packed"),  # tiles found on the device
            ("language/gemma.attn", "gemma2_layer"),  # a soft cap
            ("language/alibi.attn", "alibi"),  # gradients of slopes
            ("vision/neighborhood.attn", "na2"),  # two axes by arithmetic
            ("vision/swin_bias.attn", "swin_bias"),  # gradients of a table
            ("vision/hilbert_window.attn", "hilbert_window"),  # coordinates from tables
        )
    },
}


SKELETONS = {
    "triton": ("forward", "backward", "key_gradient", "pieces", "block_ends", "program_order", "device_tiles"),
    "decode": ("decode", "decode_pairs"),
}


def generated(name: str, stage: str) -> str:
    plan = make_plan(REVIEWED[name].bind(heads=4).ir)
    return emit_triton(plan) if stage == "triton" else emit_decode(plan)


@pytest.mark.parametrize("stage", SKELETONS)
@pytest.mark.parametrize("name", REVIEWED)
def test_kernels_need_torch_and_triton_alone(name: str, stage: str) -> None:
    nodes = list(ast.walk(ast.parse(generated(name, stage))))
    names = [each.name for node in nodes if isinstance(node, ast.Import) for each in node.names]
    names += [str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)]
    of_triton = {"triton", "triton.language", "triton.tools.tensor_descriptor"}
    assert {"torch", "triton"} <= {*names} <= {"torch", "typing", *of_triton}


@pytest.mark.parametrize("stage", SKELETONS)
@pytest.mark.parametrize("name", REVIEWED)
def test_kernels_are_as_reviewed(name: str, stage: str, request: pytest.FixtureRequest) -> None:
    """The filled holes, as goldens; the skeletons themselves are reviewed in `codegen`."""
    text = filled(generated(name, stage), SKELETONS[stage])
    golden = GOLDENS / f"{name}_{stage}.txt"
    if request.config.getoption("--update-golden"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text)
    assert golden.exists(), f"{golden.name} is missing: run `make golden`"
    assert text == golden.read_text()


def test_names_of_skeletons_are_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words of skeletons are cached: every route has a kernel of its own."""
    read: list[str] = []
    monkeypatch.setattr(skeleton, "words_of", lambda text: read.append(text) or set())
    routes = " ".join(f"route r{n} = topk(1, dot(q, k))" for n in range(9))
    mask = maskdsl.parse(f"pattern p() {{ space t[8] {routes} attend r0 }}")["p"].bind()
    skeleton.skeleton_words.cache_clear()
    emit_selection(make_plan(mask.ir))
    assert len(read) == len(set(read)) > 3
    skeleton.skeleton_words.cache_clear()


def launch_names() -> set[str]:
    """The launch options of the installed Triton, which are passed beside a kernel's arguments."""
    options = {field.name for kind in (CUDAOptions, HIPOptions) for field in fields(kind)}
    return options | {name for name in signature(JITFunction.run).parameters if name not in ("args", "kwargs")}


def test_no_argument_of_a_kernel_is_called_as_what_a_launch_takes() -> None:
    for name in sorted(launch_names() - OF_CALLS):
        text = f"input {name}: int[4, 3] input bias: float[4] attend {name}[q % 4, k % 3] > 0 score s + bias[q % 4]"
        mask = maskdsl.parse(f"pattern p(n = 20) {{ space t[n] {text} }}")["p"].bind()
        for module in (emit_triton(make_plan(mask.ir)), emit_decode(make_plan(mask.ir))):
            functions = [node for node in ast.walk(ast.parse(module)) if isinstance(node, ast.FunctionDef)]
            kernels = [each for each in functions if each.name.endswith("_kernel")]
            assert kernels
            assert not [each.name for each in kernels for argument in each.args.args if argument.arg == name]


def test_constant_sinks_and_factors_are_as_wide_as_scores() -> None:
    """A variable that is given a number has 32 bits in Triton, also in calls in float64."""
    text = "pattern p() { space t[40] attend causal sink 0.1 weight 0.3 }"
    source = maskdsl.parse(text)["p"].bind().compile("triton").source
    assert not re.findall(r"^ +(?:sink|factor)\w* = -?[0-9].*$", source, re.MULTILINE)
    assert source.count("zeros_like(s) + 0.1") == source.count("zeros_like(s) + 0.3") > 0
