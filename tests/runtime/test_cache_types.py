"""Keys and values of other types than the queries, against the same values as float32; and scales of 8-bit ones."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor

import maskdsl
from maskdsl.base.diagnostics import AttnError
from maskdsl.runtime.backends.available import usable_backends

TEXT = """
pattern window(n = 90) { space t[n]  attend causal and (backward(9) or k < 2) }
pattern biased(n = 90) {
    space t[n]
    input slope: float[heads]
    attend causal
    score 3.0 * tanh(s / 3.0)
    score s - slope[head] * float(q - k)
    sink 0.2
}
pattern routed(n = 90) {
    space t[n]
    coord chunk = i // 8
    route past = topk(2, dot(q, mean(k by chunk))) where k.chunk < q.chunk
    attend causal and (past or same(chunk))
}
pattern summed(n = 90) { space t[n]  branch a { attend causal }  branch b { attend k == 0 } }
"""
MODULE = maskdsl.parse(TEXT)
BACKENDS = usable_backends()
HEADS, DIM = 4, 16
E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2
FULL, HALF, BRAIN = torch.float32, torch.float16, torch.bfloat16
TYPES = [
    *((FULL, HALF), (FULL, BRAIN), (BRAIN, HALF), (HALF, BRAIN), (BRAIN, FULL), (torch.float64, BRAIN)),
    *((FULL, E4M3), (BRAIN, E4M3), (HALF, E5M2), (FULL, E5M2)),
]
ROOM = {torch.float64: 1e-12, FULL: 2e-6, HALF: 1e-3, BRAIN: 8e-3}


def expected_of(name: str, q: Tensor, k: Tensor, v: Tensor, scales: dict[str, Any], **options: Any) -> Any:
    """By the reference, of keys and values that are multiplied in float32, or float64 for such queries."""
    wide = torch.promote_types(q.dtype, FULL)
    by_head = {each: torch.as_tensor(x).to(wide).reshape(-1, 1, 1) for each, x in scales.items()}
    k, v = k.to(wide) * by_head.get("key_scale", 1), v.to(wide) * by_head.get("value_scale", 1)
    return MODULE[name].bind(heads=HEADS).compile("reference")(q.to(wide), k, v, return_lse=True, **options)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", list(MODULE))
@pytest.mark.parametrize("types", TYPES, ids=str)
@pytest.mark.parametrize("scaled", [None, "numbers", "heads"])
@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.thinned(3, "backend", "name", "types", "scaled", "count")
def test_as_the_same_values_in_float32(
    name: str, backend: str, types: tuple[torch.dtype, torch.dtype], scaled: str | None, count: int
) -> None:
    """In a cache and in pages; what is behind the last key is NaN."""
    dtype, cached = types
    q, (k, v) = torch.randn(2, HEADS, count, DIM).to(dtype), torch.randn(2, 2, 2, 90, DIM).to(cached)
    lengths = torch.tensor([77, 20])
    options: dict[str, Any] = {"query_start": lengths - count, "key_lengths": lengths}
    if name == "biased":
        options["slope"] = torch.rand(HEADS)
    scales: dict[str, Any] = {}
    if scaled is not None:
        scales = {"key_scale": 0.37, "value_scale": torch.tensor(2.3)}
    if scaled == "heads":
        scales = {"key_scale": torch.tensor([0.37, 1.9]), "value_scale": torch.tensor([3.1, 0.2])}
    expected, expected_lse = expected_of(name, q, k, v, scales, **options)
    for x in (k, v):
        x[0, :, 77:], x[1, :, 20:] = torch.nan, torch.nan
    attention, room = MODULE[name].bind(heads=HEADS).compile(backend), ROOM[dtype]
    room *= 2 if name == "summed" else 1  # each branch is rounded
    pages = [torch.cat([x.unflatten(2, (9, 10)).transpose(1, 2).flatten(0, 1)] * 2) for x in (k, v)]
    for x in pages:
        x[18:] = torch.nan
    table = torch.arange(18).view(2, 9)
    table[0, 8], table[1, 2:] = 30, torch.arange(20, 27)
    for tensors, where in (((k, v), {}), (pages, {"page_table": table})):
        out, lse = attention(q, *tensors, return_lse=True, **options, **scales, **where)
        assert out.dtype == dtype and lse.dtype == torch.promote_types(dtype, FULL)
        torch.testing.assert_close(out.double(), expected.double(), rtol=room, atol=room)
        torch.testing.assert_close(lse.double(), expected_lse.double(), rtol=ROOM[lse.dtype], atol=ROOM[lse.dtype])


@pytest.mark.parametrize("backend", BACKENDS)
def test_packed_queries_and_prepared_steps(backend: str) -> None:
    """As the partial calls that they stand for."""
    attention = MODULE["window"].bind(heads=HEADS).compile(backend)
    pages, table = torch.randn(2, 18, 2, 10, DIM).to(E4M3), torch.randperm(18).view(2, 9)
    scales: dict[str, Any] = {"key_scale": torch.tensor([0.4, 1.2]), "value_scale": 0.7}
    q, lengths = torch.randn(6, HEADS, DIM).to(BRAIN), torch.tensor([50, 3])
    where: dict[str, Any] = {"page_table": table, "key_lengths": lengths}
    out = attention.varlen(q, *pages, torch.tensor([0, 5, 6]), **where, **scales)
    for rows, number in ((slice(0, 5), 0), (slice(5, 6), 1)):
        one = {"page_table": table[number, None], "key_lengths": lengths[number, None]}
        start = int(lengths[number]) - (rows.stop - rows.start)
        alone = attention(q[rows].transpose(0, 1)[None], *pages, query_start=start, **one, **scales)
        torch.testing.assert_close(out[rows], alone[0].transpose(0, 1))
    step = attention.prepare_decode(q[:2, :, None], *pages, **where, **scales)
    expected = attention(q[:2, :, None], *pages, query_start=lengths - 1, **where, **scales)
    for _ in range(2):
        assert torch.equal(step(), expected)


def test_tokens_before_heads() -> None:
    attention = MODULE["window"].bind(heads=HEADS).compile(layout="bnhd")
    q, (k, v) = torch.randn(2, 3, HEADS, DIM), torch.randn(2, 2, 90, 2, DIM).to(E5M2)
    scales = {"key_scale": torch.tensor([0.37, 1.9]), "value_scale": torch.tensor([3.1, 0.2])}
    out = attention(q, k, v, query_start=70, **scales)
    heads_first = [x.transpose(1, 2) for x in (q, k, v)]
    expected, _ = expected_of("window", *heads_first, scales, query_start=70)
    torch.testing.assert_close(out.transpose(1, 2), expected)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"key_scale": torch.ones(4)}, r"E474.*`key_scale` is float32 \[4\] on cpu, for 2 key heads"),
        ({"value_scale": torch.tensor([1, 2])}, "E474.*`value_scale` is int64"),
        ({"key_scale": "2"}, "E474.*`key_scale` is"),
        ({"key_scale": float("nan")}, "E474"),
        ({"key_scale": 2.0, "query_start": None}, "E474.*`key_scale` is given in a call without a cache"),
        ({"query_start": None}, "E40[23]"),
        ({"k": torch.ones(1, 2, 90, DIM, dtype=torch.int8)}, "E402.*`k` is int8"),
        ({"q": torch.ones(1, HEADS, 90, DIM).to(E4M3)}, "E402.*`q` is float8_e4m3fn"),
        ({"q": torch.ones(1, HEADS, 90, DIM).requires_grad_()}, "E486.*`q` requires one"),
        ({"value_scale": torch.ones(2).requires_grad_()}, "E486.*`value_scale` requires one"),
    ],
)
def test_mistakes(changed: dict[str, Any], says: str) -> None:
    k, v = torch.randn(2, 1, 2, 90, DIM).to(E4M3)
    given: dict[str, Any] = {"q": torch.randn(1, HEADS, 90, DIM), "k": k, "v": v, "query_start": 0, **changed}
    with pytest.raises(AttnError) as caught:
        MODULE["window"].bind(heads=HEADS).compile()(**given)
    assert re.search(says, str(caught.value), re.DOTALL), caught.value


@pytest.mark.skipif("native" not in BACKENDS, reason="the kernel in C needs a compiler")
@pytest.mark.parametrize("cached", [HALF, BRAIN, FULL, E4M3, E5M2], ids=str)
def test_the_kernel_in_c_reads_pages_as_they_are(cached: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every number of 8 bits, and none is converted by torch."""
    for name in ("attend_gathered", "gathered_pages"):
        monkeypatch.delattr(f"maskdsl.runtime.decode.decode_call.{name}")
    pages = torch.randn(2, 18, 2, 10, DIM).to(cached)
    if cached.itemsize == 1:
        numbers = torch.arange(256, dtype=torch.uint8).view(cached)
        pages[1].view(-1)[:256] = torch.where(numbers.float().isfinite(), numbers.float(), 0).to(cached)
    q, table, lengths = torch.randn(2, HEADS, 1, DIM).to(BRAIN), torch.randperm(18).view(2, 9), torch.tensor([90, 31])
    where: dict[str, Any] = {"query_start": lengths - 1, "key_lengths": lengths, "page_table": table}
    attention = maskdsl.parse("pattern all(n = 90) { space t[n]  attend causal }")["all"].bind(heads=HEADS)
    out = attention.compile("native")(q, *pages, **where)
    keys, values = pages.double()[:, table].transpose(2, 3).flatten(3, 4).repeat_interleave(2, dim=2)
    for entry, count in enumerate(lengths.tolist()):
        scores = q[entry].double() @ keys[entry, :, :count].mT * DIM**-0.5
        expected = scores.softmax(dim=-1) @ values[entry, :, :count]
        torch.testing.assert_close(out[entry].double(), expected, rtol=ROOM[BRAIN], atol=ROOM[BRAIN])
