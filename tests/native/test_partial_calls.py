"""Calls with some of the queries on the kernel in C alone, against the dense reference in float64."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

import maskdsl
from maskdsl.runtime.backends.native import native_backend, row_blocks
from maskdsl.runtime.backends.native.library import library
from maskdsl.runtime.decode import decode_call

pytestmark = pytest.mark.skipif(library() is None, reason="no C compiler works here")

TOLERANCES = {torch.float32: 2e-5, torch.bfloat16: 4e-2, torch.float16: 4e-3}
PAST = "coord chunk = i // 16 route past = topk(2, dot(q, mean(k by chunk))) where k.chunk < q.chunk"
PATTERNS = {
    "causal": "attend causal",
    "window": "attend window(5) or k == 0",
    "by head": "attend abs(q - k) <= 3 + 5 * head",
    "gaps": "attend causal and q % 5 != 2 and k % 3 != 1",
    "capped": "attend causal score 3.0 * tanh(s / 3.0)",
    "ordered": "attend (q - k) % 4 == 0 and causal order by i % 4",
    "sinks": "input s: float[heads] attend backward(4) and k % 2 == 0 sink s[head]",
    "two sinks": "input s: float[heads] attend backward(40) sink s[head] sink 0.02 * float(q)",
    "factor": "input w: float[batch, t] attend causal weight q.w",
    "slopes": "attend causal score s - 2.0 ** (-(head + 1)) * (q - k)",
    "slopes of a window": "attend backward(33) score s - 2.0 ** (-(head + 1)) * (q - k)",
    "table": "input r: float[heads, 9] attend window(4) score s + r[head, k - q + 4]",
    "buckets": "input r: float[8, heads] attend causal score s + r[min(ilog2(q - k + 1), 7), head]",
    "table of entries": "input r: float[batch, heads, 9] attend window(4) score s + r[batch, head, k - q + 4]",
    "capped, then biased": "input r: float[9] attend window(4) score 2.0 * tanh(s / 2.0) score s + r[k - q + 4]",
    "biased groups": "input r: float[49, 49] attend q // 49 == k // 49 score s + r[q % 49, k % 49]",
    "biased, by head": "attend abs(q - k) <= 3 + 5 * head score s - 0.1 * float((q - k) ** 2 % 7)",
    "documents": "input doc: int[batch, t] attend same(doc) and causal",
    "documents of heads": "input doc: int[batch, heads, t] attend same(doc) or k == q",
    "documents, biased": "input doc: int[batch, t] attend same(doc) score s - 0.1 * float(abs(q - k))",
    "lengths": "input length: int[batch] attend causal and k < length[batch]",
    "entries": "attend causal and (q + k + batch) % 3 != 0",
    "everything": (
        "input doc: int[batch, t] input s: float[batch, heads] input w: float[t] attend same(doc) and causal"
        " score s - 0.05 * float(q - k) * float(head + 1) sink s[batch, head] weight q.w"
    ),
}
ROUTED = {
    "two routes": f"{PAST} route near = topk(1, dot(q, max(k by chunk))) attend causal and (past or near or k == q)",
    "single keys": "route near = topk(8, dot(q, k)) where k <= q attend near",
    "left out": f"{PAST} attend causal and not past",
    "chosen, biased": f"{PAST} attend causal and (past or same(chunk)) score s - 0.1 * float(q - k)",
}
PATTERNS |= ROUTED
N, BATCH = 200, 2


def inputs_of(mask: Any, n: int) -> dict[str, Tensor]:
    """Inputs of patterns of n tokens."""
    made: dict[str, Tensor] = {}
    for each in mask.ir.given:
        sizes = [{"batch": BATCH, "heads": mask.heads, "t": n}.get(side.text, side.size) for side in each.dimensions]
        if each.name == "doc":
            made["doc"] = (torch.arange(n) // 23 + torch.randint(0, 2, sizes)).expand(sizes).contiguous()
        elif each.name == "length":
            made["length"] = torch.tensor([71, 199])
        else:
            made[each.name] = torch.randn(sizes)
    return made


def in_pages(k: Tensor, v: Tensor, page: int) -> tuple[Tensor, Tensor, Tensor]:
    """Keys and values in pages in any order, and the table."""
    pages = -(-k.shape[2] // page)
    table, stored = torch.randperm(len(k) * pages).view(len(k), pages), []
    for x in (k, v):
        whole = pad(x, (0, 0, 0, pages * page - x.shape[2]), value=torch.nan)
        rows = whole.unflatten(2, (pages, page)).transpose(1, 2).flatten(0, 1)
        stored.append(torch.empty_like(rows).index_copy_(0, table.view(-1), rows))
    return *stored, table  # type: ignore[return-value]


def agree(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], tolerance: float) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other.double(), rtol=tolerance, atol=tolerance)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the kernel computes partial calls."""
    in_chunk = decode_call._in_chunk

    def forbidden(attend: Any, compiled: Any, *others: Any, **options: Any) -> tuple[Tensor, Tensor]:
        assert compiled.backend == "reference", "not the kernel in C"
        return in_chunk(attend, compiled, *others, **options)

    monkeypatch.setattr(decode_call, "_in_chunk", forbidden)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize(("heads", "key_heads", "dim"), [(4, 4, 64), (8, 2, 32), (2, 1, 33)])
@pytest.mark.parametrize("count", [1, 5, 70])
@pytest.mark.parametrize("paged", [None, 16, 5])
@pytest.mark.parametrize("room", [0, 90])
@pytest.mark.thinned(9, "pattern", "dtype", "heads", "count", "paged", "room")
@pytest.mark.usefixtures("alone")
def test_some_queries_agree_with_the_reference(
    pattern: str,
    dtype: torch.dtype,
    heads: int,
    key_heads: int,
    dim: int,
    count: int,
    paged: int | None,
    room: int,
) -> None:
    """With `room` the pattern is longer than the keys that there are: behind these there is no memory to read."""
    mask = maskdsl.parse(f"pattern p(n) {{ space t[n] {PATTERNS[pattern]} }}")["p"].bind(n=N + room, heads=heads)
    q = torch.randn(BATCH, heads, count, dim).to(dtype)
    k, v = (torch.randn(BATCH, key_heads, N, size).to(dtype) for size in (dim, 16))
    starts, lengths = torch.tensor([N - count, 57]), torch.tensor([N, 57 + count])
    given: dict[str, Any] = {"query_start": starts, "key_lengths": lengths, **inputs_of(mask, N + room)}
    expected = mask.compile("reference")(q.double(), k.double(), v.double(), return_lse=True, **given)
    for x, length in zip((*k, *v), [*lengths, *lengths], strict=True):
        x[:, length:] = torch.nan  # what does not exist is not read
    if paged is not None:
        k, v, given["page_table"] = in_pages(k, v, paged)
    agree(mask.compile("native")(q, k, v, return_lse=True, **given), expected, TOLERANCES[dtype])


@pytest.mark.parametrize("pattern", ["causal", "slopes", "buckets", "documents", "sinks", "everything"])
@pytest.mark.parametrize("chunk", [1, 7, 90])
@pytest.mark.usefixtures("alone")
def test_step_by_step_it_is_the_whole(pattern: str, chunk: int) -> None:
    mask = maskdsl.parse(f"pattern p(n) {{ space t[n] {PATTERNS[pattern]} }}")["p"].bind(n=N, heads=4)
    q, k, v = (torch.randn(BATCH, heads, N, 16) for heads in (4, 2, 2))
    given: Mapping[str, Any] = inputs_of(mask, N)
    attention = mask.compile("native")
    whole = attention(q, k, v, return_lse=True, **given)
    for start in range(0, N, chunk):
        end = min(start + chunk, N)
        found = attention(q[:, :, start:end], k, v, query_start=start, key_lengths=end, return_lse=True, **given)
        agree(found, (whole[0][:, :, start:end], whole[1][:, :, start:end]), 2e-5)


@pytest.mark.usefixtures("alone")
def test_inputs_that_are_written_into_are_read_anew() -> None:
    """Lists are cached by values, not by tensors."""
    text = "space t[n] input doc: int[batch, t] input r: float[heads] attend same(doc) score s - r[head] * float(q - k)"
    mask = maskdsl.parse(f"pattern p(n) {{ {text} }}")["p"].bind(n=N, heads=2)
    q, k, v = (torch.randn(BATCH, 2, size, 16) for size in (1, N, N))
    attention, reference = mask.compile("native"), mask.compile("reference")
    doc, r = torch.arange(N).expand(BATCH, N) // 50, torch.rand(2)
    buffer = doc.clone()
    for change in (0, 1, 0, 2, 1):
        buffer.copy_(doc + torch.arange(N) // 30 * change)
        for start in (0, 99, 199):
            given = {"doc": buffer, "r": r, "query_start": start}
            agree(
                attention(q, k, v, return_lse=True, **given),
                reference(q.double(), k.double(), v.double(), return_lse=True, **given),
                2e-5,
            )
        r += 1
    copy = doc + torch.arange(N) // 30  # the values of an earlier call, whose tensor has others by now
    given = {"doc": copy, "r": r, "query_start": 60}
    agree(
        attention(q, k, v, return_lse=True, **given),
        reference(q.double(), k.double(), v.double(), return_lse=True, **given),
        2e-5,
    )


@pytest.mark.usefixtures("alone")
def test_biases_that_do_not_fit_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all differ, those of earlier blocks are forgotten."""
    mask = maskdsl.parse("pattern p(n) { space t[n] attend causal score s - 0.01 * float(q * k % 13) }")["p"].bind(
        n=N, heads=2
    )
    monkeypatch.setattr(row_blocks, "MOST_BIASES", 3 * 16 * N * 2)
    q, k, v = (torch.randn(1, 2, N, 16) for _ in range(3))
    attention = mask.compile("native")
    out, lse = mask.compile("reference")(q.double(), k.double(), v.double(), return_lse=True)
    for start in (*range(0, N, 5), 3):
        found = attention(q[:, :, start : start + 5], k, v, query_start=start, return_lse=True)
        agree(found, (out[:, :, start : start + 5], lse[:, :, start : start + 5]), 2e-5)


@pytest.mark.usefixtures("alone")
def test_keys_of_missing_pages() -> None:
    """They are not attended, as if there were none."""
    mask = maskdsl.parse("pattern p(n) { space t[n] attend causal }")["p"].bind(n=48)
    q, pages = torch.randn(1, 2, 1, 16), torch.randn(2, 2, 2, 16, 16)
    k, v = (x[[1, 0]].transpose(0, 1).flatten(1, 2).unsqueeze(0) for x in pages)
    given = {"query_start": 47, "page_table": torch.tensor([[1, -1, 0]])}
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(mask.compile("native")(q, *pages, **given), expected)


LONG = {
    "causal": "attend causal",
    "comb": "attend causal and (q - k) % 700 < 40",
    "sinks": "input s: float[heads] attend causal and k % 3 != 1 sink s[head]",
    "slopes": "attend causal score s - 0.001 * float(head + 1) * float(q - k)",
    "by head": "attend causal and k // 1000 % 2 == head % 2",
    "far": "attend k < 16 or backward(20)",
    "nobody": "attend k > q + 10000",
}


@pytest.mark.parametrize("pattern", LONG)
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize(("heads", "key_heads", "count"), [(4, 1, 1), (2, 2, 3), (8, 1, 40)])
@pytest.mark.parametrize("page", [None, 64])
@pytest.mark.thinned(4, "pattern", "dtype", "heads", "page")
@pytest.mark.filterwarnings("ignore::maskdsl.AttnWarning")
@pytest.mark.usefixtures("alone")
def test_threads_share_long_rows(
    pattern: str, dtype: torch.dtype, heads: int, key_heads: int, count: int, page: int | None
) -> None:
    """Sums of the parts of a row, in one order: the results are the same whatever the threads."""
    n, threads = 5000, torch.get_num_threads()
    mask = maskdsl.parse(f"pattern p(n) {{ space t[n] {LONG[pattern]} }}")["p"].bind(n=n, heads=heads)
    q = torch.randn(BATCH, heads, count, 32).to(dtype)
    k, v = (torch.randn(BATCH, key_heads, n, size).to(dtype) for size in (32, 16))
    lengths = torch.tensor([n, 2211])
    given: dict[str, Any] = {"query_start": lengths - count, "key_lengths": lengths, **inputs_of(mask, n)}
    expected = mask.compile("reference")(q.double(), k.double(), v.double(), return_lse=True, **given)
    if page is not None:
        k, v, given["page_table"] = in_pages(k, v, page)
    attention, results = mask.compile("native"), []
    try:
        for number in (1, 2, 5):
            torch.set_num_threads(number)
            results.append(attention(q, k, v, return_lse=True, **given))
    finally:
        torch.set_num_threads(threads)
    agree(results[0], expected, TOLERANCES[dtype])
    for each in results[1:]:
        assert torch.equal(each[0], results[0][0]) and torch.equal(each[1], results[0][1])


@pytest.mark.parametrize("pattern", [each for each in PATTERNS if each not in ROUTED])
def test_packed_sequences(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole ones, and the last queries of some."""
    monkeypatch.setattr(native_backend, "_by_tiles", None)  # the kernel alone computes all of these
    mask = maskdsl.parse(f"pattern p(n) {{ space t[n] {PATTERNS[pattern]} }}")["p"].bind(n=90, heads=4)
    ends = torch.tensor([0, 90, 131])
    q, k, v = (torch.randn(131, heads, 16) for heads in (4, 2, 2))
    given = inputs_of(mask, 90)
    attention, reference = mask.compile("native"), mask.compile("reference")
    expected = reference.varlen(q.double(), k.double(), v.double(), ends, return_lse=True, **given)
    agree(attention.varlen(q, k, v, ends, return_lse=True, **given), expected, 2e-5)
    some = torch.cat([torch.arange(85, 90), torch.arange(100, 131)])
    found = attention.varlen(q[some], k, v, torch.tensor([0, 5, 36]), ends, **given)
    torch.testing.assert_close(found.double(), expected[0][some], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    "lines", ["attend all -> all score max(s, 0.0) normalize none", "attend all -> all where k > 9 weight exp(-k.g)"]
)
def test_long_rows_of_other_scores(lines: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs that are not divided by a sum are those of all parts, and weights count in each."""
    monkeypatch.setattr(native_backend, "_by_tiles", None)
    n = 5000
    text = f"pattern p(m, n) {{ space a[m] space b[n] queries a keys b input g: float[b] {lines} }}"
    mask = maskdsl.parse(text)["p"].bind(m=5, n=n, heads=2)
    q, k, v = (torch.randn(1, 2, size, 16) for size in (5, n, n))
    given = {each.name: torch.rand(n) for each in mask.inputs}
    expected = mask.compile("reference")(q.double(), k.double(), v.double(), **given)
    torch.testing.assert_close(mask.compile("native")(q, k, v, **given).double(), expected, rtol=2e-5, atol=1e-3)


TERMS = {
    "of queries": "input x: float[batch, heads, t] attend causal score s * (1.5 + q.x)",
    "of keys": "input x: float[heads, t] attend backward(60) score s * sigmoid(k.x) if k.x > 0.0 else 0.3 * s",
    "of pairs": "input x: float[heads, 9] attend window(4) score s * x[head, k - q + 4] + (0.5 if q == k else 0.0)",
    "of all": (
        "input x: float[t] input doc: int[batch, t] attend same(doc) score s * k.x - abs(q.x) * float(q - k) * 0.1"
    ),
    "weights": (
        "input x: float[t] input y: float[heads] attend causal weight exp(-abs(q.x - k.x)) score s * k.x sink y[head]"
    ),
    "without a softmax": "input x: float[heads] attend causal score max(s - x[head], 0.0) / 9.0 normalize none",
}


@pytest.mark.parametrize("pattern", TERMS)
@pytest.mark.parametrize("count", [1, 70])
@pytest.mark.usefixtures("alone")
def test_scores_of_terms(pattern: str, count: int) -> None:
    """What scores read of tokens is that of the queries of the call, and of the keys that some attend."""
    mask = maskdsl.parse(f"pattern p(n) {{ space t[n] {TERMS[pattern]} }}")["p"].bind(n=N + 9, heads=4)
    q, k, v = (torch.randn(BATCH, heads, size, 16) for heads, size in ((4, count), (2, N), (2, N)))
    starts, lengths = torch.tensor([N - count, 57]), torch.tensor([N, 57 + count])
    given: dict[str, Any] = {"query_start": starts, "key_lengths": lengths, **inputs_of(mask, N + 9)}
    expected = mask.compile("reference")(q.double(), k.double(), v.double(), **given)
    for x, length in zip((*k, *v), [*lengths, *lengths], strict=True):
        x[:, length:] = torch.nan
    for page in (None, 16):
        pages = in_pages(k, v, page) if page else (k, v)
        table = {"page_table": pages[2]} if page else {}
        found = mask.compile("native")(q, *pages[:2], **given, **table)
        torch.testing.assert_close(found.double(), expected, rtol=3e-5, atol=3e-5)
