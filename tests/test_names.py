"""Whatever name a pattern gives to an input, a coordinate, an axis or a route, generated code means the same."""

import io
import keyword
import tokenize
from pathlib import Path

import pytest
import torch

import maskdsl
from maskdsl.api import Mask
from maskdsl.base.diagnostics import AttnError
from maskdsl.bind.expression.names import OF_CALLS, RESERVED
from maskdsl.cli.stages import STAGES
from maskdsl.emit.plan import HELPERS, OF_PYTHON, unused
from maskdsl.ir.meaning.synthetic_inputs import synthetic_inputs
from maskdsl.syntax.mistakes import RESERVED_WORDS

FRESH = "zz_fresh"
KINDS = {
    "token": "input {0}: int[t]  coord c = ({0} + i) % 5  attend q.{0} == k.{0} or q.c == k.c  score s * float(k.{0})",
    "float": "input {0}: float[batch, heads, t]  attend causal  score s + k.{0}  weight sigmoid(q.{0}) / (-0.5)",
    "table": "input {0}: float[heads, 6]  attend causal  score max(s, {0}[head, abs(q - k)]) + float(q // 2)",
    "open": "input at: int[t]  input {0}: float[6]  attend causal  score s + {0}[q.at + k.at]",
    "coord": "coord {0} = i // 2 + ilog2(i + 1)  coord d = shuffle(i, 3)  attend q.{0} <= k.{0} and q.d % 3 != k.d % 2",
    "route": "coord chunk = i // 2  input w: float[heads]  route {0} = topk(1, w[head] * dot(q, mean(k by chunk)))"
    "  attend {0} or same(chunk)",
    "routed": "coord {0} = i // 2  input w: float[t]  route r = topk(1, k.w * dot(q, mean(k by {0})))"
    "  attend r or same({0})",
    "routing": "coord c = i // 2  input {0}: float[heads, 3]  route r = topk(1, {0}[head, k.c] + dot(q, mean(k by c)))"
    "  attend r or same(c)",
}
PYTHON = sorted(
    {"__", "__a", *keyword.softkwlist, *OF_PYTHON} - RESERVED - RESERVED_WORDS - OF_CALLS - {"true", "false"}
)


def mask_of(kind: str, name: str) -> Mask:
    return maskdsl.parse(f"pattern p(n = 6) {{ space t[n]  {KINDS[kind].format(name)} }}")["p"].bind(heads=2)


def results(mask: Mask) -> list[torch.Tensor]:
    """Outputs and gradients; inputs by where they are declared, as they are made up by name."""
    generator = torch.Generator().manual_seed(0)
    inputs = {}
    for name, values in synthetic_inputs(mask.ir).items():
        drawn = torch.rand(values.shape, generator=generator)
        inputs[name] = drawn if values.dtype.kind == "f" else (3 * drawn).int()
    found = []
    for backend in ("reference", "tiled"):
        q, k, v = (torch.rand(1, 2, 6, 4, generator=generator.manual_seed(n)).requires_grad_() for n in range(3))
        out = mask.compile(backend)(q, k, v, **inputs)
        out.sum().backward()
        found += [out.detach(), k.grad]
    return found


def compiles(mask: Mask) -> None:
    for stage in STAGES:
        if stage.is_python:
            try:
                text = stage.text(mask, {})
            except AttnError:  # flex, for routes
                continue
            compile(text, stage.name, "exec")


def test_no_generated_name_is_one_of_python() -> None:
    for name in PYTHON:
        chosen = unused(name, {f"{name}_2"})
        assert chosen.isidentifier() and chosen not in OF_PYTHON and chosen != f"{name}_2"


@pytest.mark.parametrize("name", ["_", "__debug__", "lambda"])
@pytest.mark.parametrize("kind", KINDS)
def test_names_that_code_cannot_take(kind: str, name: str) -> None:
    mask = mask_of(kind, name)
    for found, expected in zip(results(mask), results(mask_of(kind, FRESH)), strict=True):
        torch.testing.assert_close(found, expected)


def test_names_of_helpers() -> None:
    expected = results(mask_of("open", FRESH))
    for name in HELPERS:
        for found, other in zip(results(mask_of("open", name)), expected, strict=True):
            torch.testing.assert_close(found, other, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_modules_of_such_names_are_modules(kind: str) -> None:
    compiles(mask_of(kind, "_"))


@pytest.mark.parametrize("name", ["\u00e9", "\uff51", "\u017f", "a\u0301", "\u1d62"])
def test_names_are_ascii(name: str) -> None:
    """So that no two are one to Python, which compares them normalised (NFKC)."""
    with pytest.raises(AttnError) as raised:
        mask_of("token", name)
    assert {each.code for each in raised.value.diagnostics} <= {"E101", "E106", "E110"}


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_every_name_of_the_skeletons(kind: str) -> None:
    expected = results(mask_of(kind, FRESH))
    names = {"num_warps", "num_stages", "grid", "value_2", "q_i", "k_i", "q_2", "s_2", *PYTHON}
    for path in Path("codegen").glob("*.py"):
        tokens = tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
        names |= {token.string for token in tokens if token.type == tokenize.NAME}
    for name in sorted(names - RESERVED - RESERVED_WORDS - OF_CALLS):
        try:
            mask = mask_of(kind, name)
        except AttnError:
            continue
        for found, other in zip(results(mask), expected, strict=True):
            torch.testing.assert_close(found, other, msg=name)
