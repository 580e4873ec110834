"""The tiled backend against the dense reference on random patterns: results, gradients, layouts, types, poison."""

from random import Random

import numpy as np
import pytest
import torch
from torch import Tensor

import maskdsl
from maskdsl.api import Mask
from maskdsl.emit.plan import make_plan
from maskdsl.runtime.attention import Attention
from maskdsl.runtime.backends import schedule
from maskdsl.runtime.backends.available import usable_backends
from maskdsl.runtime.compiled.compiled_mask import Bound
from tests.runtime.random_patterns import bound, inputs_of

TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 5e-3}


def drawn(random: Random, *shape: int) -> Tensor:
    """A float64 tensor [batch, heads, tokens, dim], contiguous or not."""
    batch, heads, length, dim = shape
    match random.randrange(3):
        case 0:
            return torch.randn(batch, length, heads, dim, dtype=torch.float64).transpose(1, 2)
        case 1:
            return torch.randn(batch, heads, length, 2 * dim, dtype=torch.float64)[..., ::2]
        case _:
            return torch.randn(shape, dtype=torch.float64)


def draw(seed: int) -> tuple[Mask, list[Tensor], dict[str, Tensor]]:
    """A mask, q, k, v and its inputs."""
    torch.manual_seed(seed)
    random = Random(seed)
    mask = bound(seed)
    batch, dim = random.choice([1, 2, 3]), random.choice([4, 8])
    key_heads = random.choice([number for number in range(1, mask.heads + 1) if mask.heads % number == 0])
    shapes = [(mask.heads, mask.query_length, dim), (key_heads, mask.key_length, dim), (key_heads, mask.key_length, 5)]
    return mask, [drawn(random, batch, *shape) for shape in shapes], inputs_of(mask, batch)


def leaves_of(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same values, those of float type asking for gradients."""
    return {name: x.detach().clone().requires_grad_(x.is_floating_point()) for name, x in tensors.items()}


@pytest.mark.parametrize("seed", range(60))
def test_results_and_all_gradients(seed: int) -> None:
    mask, tensors, inputs = draw(seed)
    given = dict(zip("qkv", tensors, strict=True)) | inputs
    toward, toward_lse = torch.randn(*tensors[0].shape[:3], 5, dtype=torch.float64), torch.randn(tensors[0].shape[:3])
    found = []
    small = Attention(Bound(make_plan(mask.ir, 8, 16), "tiled"))
    for attention in (mask.compile("reference"), mask.compile("tiled"), small):
        leaves = leaves_of(given)
        out, lse = attention(**leaves, return_lse=True)
        loss = (out * toward).sum() + (torch.where(lse.isfinite(), lse, 0) * toward_lse).sum()
        asked = [leaf for leaf in leaves.values() if leaf.requires_grad]
        gradients = torch.autograd.grad(loss, asked, allow_unused=True, materialize_grads=True)
        found.append((out.detach(), lse.detach(), *gradients))
    for expected, *results in zip(*found, strict=True):
        for result in results:
            assert not result.isnan().any()
            torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-9)
    assert torch.equal(mask.compile("tiled")(*tensors, **inputs).isnan(), torch.zeros_like(toward, dtype=torch.bool))


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("seed", [3, 11, 17, 29, 31, 47])
def test_types(seed: int, dtype: torch.dtype) -> None:
    mask, tensors, inputs = draw(seed)
    tensors = [tensor.to(dtype) for tensor in tensors]
    expected, expected_lse = mask.compile("reference")(*(x.double() for x in tensors), **inputs, return_lse=True)
    for tensor in tensors:
        tensor.requires_grad_()
    out, lse = mask.compile("tiled")(*tensors, **inputs, return_lse=True)
    assert out.dtype == dtype and lse.dtype == torch.float32
    largest = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=TOLERANCES[dtype] * largest)
    torch.testing.assert_close(lse.double(), expected_lse, rtol=TOLERANCES[dtype], atol=TOLERANCES[dtype])
    for tensor, gradient in zip(tensors, torch.autograd.grad(out.sum(), tensors), strict=True):
        assert gradient.dtype == dtype and gradient.shape == tensor.shape and gradient.isfinite().all()


ORDERED = [seed for seed in range(60) if any(bound(seed).ir.queries.order)]


@pytest.mark.parametrize("backend", usable_backends())
@pytest.mark.parametrize("seed", ORDERED[:12])
def test_the_ordered_layout_is_the_declared_one_permuted(seed: int, backend: str) -> None:
    mask, (q, k, v), inputs = draw(seed)
    k, v = (x.repeat_interleave(mask.heads // x.shape[1], dim=1) for x in (k, v))
    expected, expected_lse = mask.compile(backend)(q, k, v, **inputs, return_lse=True)
    attention = mask.compile(backend)
    layout = attention._compiled.states.find(attention._compiled.plan, inputs, len(q)).layout(q.device)
    queries, keys = (None if each is None else each.expand(*q.shape[:2], -1).unsqueeze(-1) for each in layout)
    moved = [x if each is None else x.take_along_dim(each, 2) for x, each in ((q, queries), (k, keys), (v, keys))]
    out, lse = attention(*moved, **inputs, return_lse=True, layout="ordered")
    assert queries is not None
    torch.testing.assert_close(out, expected.take_along_dim(queries, 2))
    torch.testing.assert_close(lse, expected_lse.take_along_dim(queries.squeeze(-1), 2))


@pytest.mark.parametrize("seed", range(60, 80))
def test_what_is_not_a_number_reaches_only_those_who_attend_it(seed: int) -> None:
    mask, (q, k, v), inputs = draw(seed)
    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    attends = torch.as_tensor(
        np.array([[mask.dense(head=h, batch=b, **arrays) for h in range(mask.heads)] for b in range(len(q))])
    )
    expected, expected_lse = mask.compile("reference")(q, k, v, **inputs, return_lse=True)
    q, k, v = (x.contiguous().clone() for x in (q, k, v))
    one, two = torch.randint(0, mask.key_length, (2,)).tolist()
    q[~attends.any(dim=-1)] = torch.nan
    k[:, :, one], v[:, :, two] = torch.nan, torch.nan
    for tensor in (q, k, v):
        tensor.requires_grad_()
    out, lse = mask.compile("tiled")(q, k, v, **inputs, return_lse=True)
    clean = ~(attends[..., one] | attends[..., two])
    torch.testing.assert_close(out[clean], expected[clean])
    torch.testing.assert_close(lse[~attends[..., one]], expected_lse[~attends[..., one]])
    assert out[attends[..., two]].isnan().all()
    gradient = torch.autograd.grad(out[clean].sum(), q)[0]
    assert gradient[clean].isfinite().all()
    assert not gradient[~attends.any(dim=-1)].any()


LINES = ("attend causal", "attend all -> all", "attend window(9) attend globals_first(1)", "attend q % 7 != 0")


@pytest.mark.parametrize("line", LINES)
def test_long_rows_are_merged_from_pieces(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "LONGEST", 200)
    monkeypatch.setattr(schedule, "PIECE", 90)
    length = 500
    mask = maskdsl.parse(f"pattern p(n) {{ space tokens[n] {line} score s - 0.001 * abs(q - k) }}")["p"].bind(n=length)
    tensors = [torch.randn(1, 1, length, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    toward = torch.randn(1, 1, length, 4, dtype=torch.float64)
    found = []
    for backend in usable_backends():
        out, lse = mask.compile(backend)(*tensors, return_lse=True)
        loss = (out * toward).sum() + lse[lse.isfinite()].sum()
        found.append((out, lse, *torch.autograd.grad(loss, tensors)))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("backend", usable_backends())
def test_tokens_without_a_divisor_do_not_divide_by_it(backend: str) -> None:
    text = """pattern p() {
        space text[3]
        space image[y = 4, x = 5]
        tokens text ++ image
        coord image.w = y + 1
        attend image -> image where q.x // q.w <= k.x % k.w
        attend text -> all
    }"""
    mask = maskdsl.parse(text)["p"].bind()
    q, k, v = torch.randn(3, 1, 1, 23, 4, dtype=torch.float64)
    _, lse = mask.compile(backend)(torch.zeros_like(q), k, v, return_lse=True)
    torch.testing.assert_close(lse[0, 0].exp(), torch.as_tensor(mask.dense().sum(axis=1)).double())


NESTED = (
    "q - (k % 4 - head) < 5",
    "q % 5 - (k - head) % 7 < 2",
    "(q - k) % (k % 3 + 2) == 1",
    "q // (k % 3 + 1) // 2 % 2 == 0",
    "min(q, k + head) - 2 < max(q % 5, 3)",
    "q % 6 * (k % (q % 3 + 2)) < 5",
    "-(q - k) ** 2 % 5 == 1",
    "not (q < k) == (q % 3 == k % 2)",
)


@pytest.mark.parametrize("backend", usable_backends())
@pytest.mark.parametrize("relation", NESTED)
def test_what_is_nested_stays_so_in_generated_code(relation: str, backend: str) -> None:
    """Values are one for each key, so that results say who attends whom."""
    mask = maskdsl.parse(f"pattern p(n) {{ space t[n] attend {relation} }}")["p"].bind(n=20, heads=2)
    q, v = torch.zeros(1, 2, 20, 4), torch.eye(20).expand(1, 2, -1, -1)
    out = mask.compile(backend)(q, q, v)
    assert [(out[0, head] > 0).tolist() for head in range(2)] == [mask.dense(head=head).tolist() for head in range(2)]


def test_a_compiled_module_may_call_it() -> None:
    attention = maskdsl.parse("pattern p() { space tokens[20] attend window(5) }")["p"].bind(heads=2).compile()
    q, k, v = torch.randn(3, 1, 2, 20, 8)
    compiled = torch.compile(lambda q: attention(2 * q, k, v) + 1, backend="eager")
    torch.testing.assert_close(compiled(q), attention(2 * q, k, v) + 1)


@pytest.mark.parametrize("backend", usable_backends())
def test_a_batch_without_entries(backend: str) -> None:
    text = "pattern p() { space tokens[9] input document: int[batch, tokens] attend same(document) order by document }"
    attention = maskdsl.parse(text)["p"].bind(heads=2).compile(backend)
    q, k, v = (torch.randn(0, 2, 9, dim, dtype=torch.bfloat16, requires_grad=True) for dim in (4, 4, 3))
    out, lse = attention(q, k, v, document=torch.zeros(0, 9, dtype=torch.int64), return_lse=True)
    assert (out.shape, out.dtype, lse.shape, lse.dtype) == ((0, 2, 9, 3), q.dtype, (0, 2, 9), torch.float32)
    assert [each.shape for each in torch.autograd.grad(out.sum(), (q, v))] == [q.shape, v.shape]


@pytest.mark.parametrize("backend", usable_backends())
def test_autocast_computes_in_its_type(backend: str) -> None:
    attention = maskdsl.parse("pattern p() { space tokens[9] attend window(3) }")["p"].bind().compile(backend)
    q, k, v = torch.randn(3, 1, 1, 9, 4, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = attention(q, k, v.bfloat16())
        precise = attention(q.double(), k.double(), v.double())
        gradients = torch.autograd.grad(out.float().square().sum(), (q, k, v))
    expected = attention(*(x.bfloat16() for x in (q, k, v)))
    assert torch.equal(out, expected) and out.dtype == torch.bfloat16 and precise.dtype == torch.float64
    for found, each in zip(gradients, torch.autograd.grad(expected.float().square().sum(), (q, k, v)), strict=True):
        assert torch.equal(found, each)


def test_views_that_repeat_memory() -> None:
    attention = maskdsl.parse("pattern p() { space tokens[90] attend window(9) }")["p"].bind(heads=2).compile("tiled")
    one, two = torch.randn(1, 2, 90, 4, requires_grad=True), torch.randn(3, 1, 1, 4, requires_grad=True)
    q, k = one.expand(3, -1, -1, -1), two.expand(-1, 2, 90, -1)
    v = torch.randn(3, 2, 90, 4)
    gradients = torch.autograd.grad(attention(q, k, v).square().sum(), (one, two))
    expected = torch.autograd.grad(attention(q.contiguous(), k.contiguous(), v).square().sum(), (one, two))
    torch.testing.assert_close(gradients, expected)
