"""Whatever name a pattern gives to an input or a coordinate, it is no other variable of a generated kernel."""

import ast
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

import maskdsl
from maskdsl.base.diagnostics import AttnError
from maskdsl.emit.plan import KernelPlan, make_plan
from maskdsl.emit.skeleton import skeleton_words
from maskdsl.emit.triton.attention_module import emit_triton
from maskdsl.emit.triton.decoding.decode_module import emit_decode
from maskdsl.emit.triton.selection.selection_module import emit_selection

FRESH = "zz_fresh"
SKELETONS = (
    *("forward", "backward", "key_gradient", "pieces", "block_ends", "program_order", "device_tiles", "decode"),
    *("decode_pairs",),
    *("routing", "scores", "selectors", "selection", "selection_functions"),
)
PATTERNS = {
    # tiles in closed form; the gradients of a table, through a score and a weight
    "table": "input {0}: float[heads, 20]  input b: float[20]  attend causal  score s + {0}[head, q] * {0}[0, k]"
    "  score tanh(s) * b[q - k]  weight sigmoid({0}[0, q] + b[k])",
    # lists of tiles; the gradients of tokens' values, and of a table beside them
    "token": "input c: float[t]  input {0}: float[20]  attend (q - k) % 3 < 2  score s * q.c + k.c * {0}[abs(q - k)]",
    # tiles found on the device, an order of tokens, and tables of their coordinates
    "coord": "input c: int[t]  coord {0} = c // 2  attend q.{0} == k.{0}  score s + float(q.{0})  order by {0}",
    "decides": "input {0}: bool[heads, 4, 4]  attend {0}[head, q // 5, k // 5]  score s / 2.0",
    "route": "coord {0} = i // 4  input w: float[heads, 5]  attend r"
    "  route r = topk(1, w[head, k.{0}] + dot(q, mean(k by {0}))) where k.{0} <= q.{0}",
    "routing": "input {0}: float[heads, 5]  input c: int[t]  coord d = c % 5  attend r"
    "  route r = topk(1, {0}[head, k.d] * dot(q, mean(k by d)))",
}
EMITTERS: tuple[Callable[[KernelPlan], str], ...] = (emit_triton, emit_decode, emit_selection)


def modules(kind: str, name: str) -> list[ast.Module]:
    mask = maskdsl.parse(f"pattern p(n = 20) {{ space t[n]  {PATTERNS[kind].format(name)} }}")["p"].bind(heads=2)
    emitters = EMITTERS if mask.ir.routed else EMITTERS[:2]
    return [ast.parse(emit(make_plan(mask.ir))) for emit in emitters]


def names(module: ast.Module) -> dict[str, set[str]]:
    """The names in each function: kernels, and what launches them."""
    functions = (node for node in module.body if isinstance(node, ast.FunctionDef))
    return {each.name: {name for node in ast.walk(each) for name in names_of(node)} for each in functions}


def names_of(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Name(id=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
            yield name


def check(kind: str, name: str) -> None:
    """No two variables of a function have become one, beside a name as long: lengths decide where lines are broken."""
    plain = name[:-1] + ("y" if name.endswith("z") else "z")
    for module, other in zip(modules(kind, plain), modules(kind, name), strict=True):
        for (function, variables), others in zip(names(module).items(), names(other).values(), strict=True):
            assert len(others) >= len(variables), (name, function)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("table", "b_stride_0"),
        ("table", "b_width"),
        ("table", "full_start"),
        ("table", "ds_bound"),
        ("token", "head_token_c"),
        ("token", "token_c_batch_stride"),
        ("decides", "head_high"),
        ("decides", "q_i_low"),
        ("routing", "key_rows"),
        ("routing", "query_vectors_0"),
        ("routing", "r_scores"),
    ],
)
def test_names_of_generated_code(kind: str, name: str) -> None:
    check(kind, name)


@pytest.mark.long
@pytest.mark.parametrize("kind", PATTERNS)
def test_every_name_of_generated_code(kind: str) -> None:
    generated = {name for module in modules(kind, FRESH) for each in names(module).values() for name in each}
    printed = {name for name in generated if name.startswith("bound_")}  # a printer avoids those that are taken
    for name in sorted(generated - skeleton_words(*SKELETONS) - printed):
        with suppress(AttnError):  # a word of the language
            check(kind, name)
