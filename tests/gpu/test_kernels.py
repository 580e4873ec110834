"""Kernels on a GPU, against float64: every example, head dims, grouped heads, awkward lengths.

They run in Triton's interpreter too, at small sizes: see `test_interpreted.py`.
"""

from pathlib import Path

import pytest
import torch

import maskdsl
from tests.gpu.tensors import DEVICE, REASON, RUNS, check, compare, given, surrounded
from tests.support.awkward_lengths import EXAMPLES, LARGE, PATTERNS, SMALL, awkward

pytestmark = pytest.mark.skipif(not RUNS, reason=REASON)

LENGTHS = LARGE if DEVICE.type == "cuda" else SMALL
HALF = torch.float16 if DEVICE.type == "cpu" else torch.bfloat16
"""The interpreter has no products of bfloat16."""
BAND = "pattern band(n) { space tokens[n]  attend window(19) and causal }"
GAPS = "pattern gaps(n) { space tokens[n]  attend k < q - 3 and (q + k) % 5 != 0 }"


def band(length: int, heads: int = 2, text: str = BAND) -> maskdsl.Mask:
    (pattern,) = maskdsl.parse(text).values()
    return pattern.bind(n=length, heads=heads)


TYPES = (torch.float32, HALF)


SLOW = ("outlook", "planes")
"""Patterns with many branches or tables, which take long in the interpreter."""


def marks(number: int) -> tuple[pytest.MarkDecorator, ...]:
    """In the interpreter, which is slow, a sixth of the examples is always run, and all of them where there is time."""
    always = number % 6 == 0 and PATTERNS[number][1] not in SLOW
    return () if DEVICE.type == "cuda" or always else (pytest.mark.long,)


EVERY = [
    pytest.param(*pattern, dtype, id=f"{pattern[0].stem}-{pattern[1]}-{dtype}", marks=marks(number))
    for number, pattern in enumerate(PATTERNS)
    for dtype in (TYPES if DEVICE.type == "cuda" else TYPES[number % 2 :][:1])
]
"""Each in both types; in the interpreter in one or the other."""


@pytest.mark.parametrize(("file", "name", "dtype"), EVERY)
def test_every_example(file: Path, name: str, dtype: torch.dtype) -> None:
    check(awkward(maskdsl.load(file)[name], LENGTHS), dtype)


@pytest.mark.parametrize("dtype", [torch.float32, HALF], ids=str)
@pytest.mark.parametrize("dim", [16, 40, 64, 72, 96, 128, 192, 256])
def test_head_dims(dim: int, dtype: torch.dtype) -> None:
    check(band(LENGTHS["n"]), dtype, dims=(dim, dim))


@pytest.mark.parametrize("dims", [(16, 72), (128, 64), (1, 1), (24, 256)])
def test_values_of_another_dim(dims: tuple[int, int]) -> None:
    check(band(LENGTHS["n"]), torch.float32, dims=dims)


@pytest.mark.parametrize("heads", [(1, 1), (6, 1), (6, 2), (6, 6)])
@pytest.mark.parametrize("batch", [1, 3])
def test_grouped_heads(heads: tuple[int, int], batch: int) -> None:
    check(band(33, heads[0]), HALF, batch=batch, heads=heads)


BY_ENTRY = "pattern packed(n) { space tokens[n]  input document: int[batch, tokens]  attend causal and same(document) }"


@pytest.mark.parametrize("dtype", [torch.float16, HALF] if DEVICE.type == "cuda" else [HALF], ids=str)
@pytest.mark.parametrize("name", ["bigbird", "longlora", "moba", "documents by entry"])
def test_lists_of_batches_and_heads(name: str, dtype: torch.dtype) -> None:
    """Lists of tiles that differ between heads, between batch entries, or both, in half precision."""
    files = {"bigbird": "language/bigbird", "longlora": "language/longlora", "moba": "routing/moba"}
    pattern = (
        maskdsl.load(EXAMPLES / f"{files[name]}.attn")[name] if name in files else maskdsl.parse(BY_ENTRY)["packed"]
    )
    check(awkward(pattern, LENGTHS, heads=4), dtype, batch=3, heads=(4, 2), dims=(64, 64))


@pytest.mark.parametrize("text", [BAND, GAPS], ids=["band", "gaps"])
@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 63, 64, 65, 127, 129])
def test_lengths(length: int, text: str) -> None:
    """Queries that attend nothing are among them."""
    check(band(length, text=text), torch.float32)


@pytest.mark.parametrize("layout", ["declared", "ordered"])
@pytest.mark.parametrize("order", ["by x // 4, y", "by hilbert(y, x)", "by shuffle(i, 5)"])
def test_orders(order: str, layout: str) -> None:
    pattern = maskdsl.load(EXAMPLES / "vision/neighborhood.attn")["na2"]
    mask = pattern.bind(h=LENGTHS["h"], w=LENGTHS["w"], kernel=(5, 3), heads=2, order=order)
    check(mask, torch.float32, layout=layout)


@pytest.mark.parametrize("name", ["t5", "alibi"])
def test_every_run_has_the_same_bits(name: str) -> None:
    """Gradients of inputs are sums over all pairs, whose order is fixed."""
    mask = awkward(maskdsl.load(EXAMPLES / "language" / f"{name}.attn")[name], LENGTHS)
    inputs = given(mask, 1)
    tensors = [surrounded((1, 2, LENGTHS["n"], 32), torch.float32, seed) for seed in range(3)]
    attention = mask.compile("triton")
    first, second = (
        torch.autograd.grad(attention(*tensors, **inputs).square().sum(), [*tensors, *inputs.values()])
        for _ in range(2)
    )
    assert all(map(torch.equal, first, second))


@pytest.mark.parametrize("dtype", [torch.float32, HALF], ids=str)
@pytest.mark.parametrize("count", [1, 3, 17])
@pytest.mark.parametrize("name", ["causal_dense", "sliding_window", "alibi"])
def test_decoding(name: str, count: int, dtype: torch.dtype) -> None:
    """Queries that stand somewhere in a longer sequence, elsewhere in each batch entry, give what they give in it."""
    files = {"causal_dense": "causal", "sliding_window": "sliding_window", "alibi": "alibi"}
    pattern = maskdsl.load(EXAMPLES / "language" / f"{files[name]}.attn")[name]
    length = LENGTHS["n"]
    mask = pattern.bind(n=length, heads=4, **({"size": 9} if name == "sliding_window" else {}))
    inputs = given(mask, 2)
    q, k, v = (surrounded((2, heads, length, 32), dtype, heads) for heads in (4, 2, 2))
    wide = [x.detach().double() for x in (q, k, v)]
    whole = mask.compile("reference")(*wide, **{key: x.detach().double() for key, x in inputs.items()})
    starts = torch.tensor([11, length - count], device=DEVICE, dtype=torch.int32)
    asked = torch.arange(count, device=DEVICE) + starts[:, None]
    taken = torch.stack([x[:, positions] for x, positions in zip(q, asked, strict=True)])
    expected = torch.stack([x[:, positions] for x, positions in zip(whole, asked, strict=True)])
    with torch.no_grad():
        found = mask.compile("triton")(taken, k, v, query_start=starts, **inputs)
        compare("the output", found, expected, dtype)
        last = mask.compile("triton")(q[:, :, length - count :], k, v, query_start=length - count, **inputs)
        compare("the output", last, whole[:, :, length - count :], dtype)


@pytest.mark.parametrize("page", [16, 64])
def test_pages(page: int) -> None:
    """Keys in pages anywhere in memory, sequences of different lengths; what belongs to none is NaN."""
    length = LENGTHS["n"]
    pattern = maskdsl.load(EXAMPLES / "language/streaming.attn")["streaming"]
    mask = pattern.bind(n=length, size=19, sinks=4, heads=4)
    q, k, v = (surrounded((2, heads, length, 32), torch.float32, heads).detach() for heads in (4, 2, 2))
    whole = mask.compile("reference")(q.double(), k.double(), v.double())
    lengths = torch.tensor([length, length // 2], device=DEVICE)
    each = -(-length // page)
    table = torch.randperm(2 * each + 3, device=DEVICE)[: 2 * each].view(2, each)
    paged = torch.full((2, 2 * each + 3, 2, page, 32), torch.nan, device=DEVICE)
    for entry, count in enumerate(lengths.tolist()):
        positions = torch.arange(count, device=DEVICE)
        for kept, x in zip(paged, (k, v), strict=True):
            kept[table[entry, positions // page], :, positions % page] = x[entry, :, :count].transpose(0, 1)
    last = torch.stack([x[:, count - 1 : count] for x, count in zip(q, lengths.tolist(), strict=True)])
    expected = torch.stack([x[:, count - 1 : count] for x, count in zip(whole, lengths.tolist(), strict=True)])
    found = mask.compile("triton")(
        last, *paged, query_start=lengths - 1, key_lengths=lengths, page_table=table, page_size=page
    )
    compare("the output", found, expected, torch.float32)
