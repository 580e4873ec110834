"""Queries that stand anywhere in longer sequences of keys, against the rows of whole attention."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

import maskdsl
from maskdsl.base.diagnostics import AttnError
from maskdsl.runtime.backends.available import usable_backends
from maskdsl.runtime.decode.paging import existing_pages

EXAMPLES = Path(__file__).parents[2] / "examples"
TEXT = """
pattern layer(n = 60, size = 9) { space t[n]  attend window(size) and causal or k < 2 }
pattern everything(h = 5, w = 7, text = 6) {
    space words[text]
    space image[y = h, x = w]
    tokens words ++ image
    input document: int[batch, tokens]
    input slope: float[heads]
    input gate: float[batch, heads, image]
    coord row = i // 4
    attend words -> all
    attend (image -> image where window((3, 3))) or q.row == k.row + head
    require same(document)
    score s - slope[head] * float(abs(q.i - k.i)) + 0.1 * float(q.row) if image -> all else s
    weight sigmoid(q.gate - k.gate) if image -> image else 1.0
    order image by hilbert(y, x)
}
pattern crossed(n = 20, m = 33) { space a[n]  space b[m]  queries a  keys b  attend abs(q * 3 // 2 - k) < 6 }
"""
MODULE = maskdsl.parse(TEXT)
BACKENDS = usable_backends()


def inputs(mask: maskdsl.Mask, batch: int) -> dict[str, Tensor]:
    if mask.name != "everything":
        return {}
    document = torch.randint(0, 2, (batch, mask.key_length)).sort(dim=1).values
    slope, gate = torch.rand(mask.heads).double(), torch.randn(batch, mask.heads, 35).double()
    return {"document": document, "slope": slope, "gate": gate}


def tensors(mask: maskdsl.Mask, batch: int, key_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    q = torch.randn(batch, mask.heads, mask.query_length, 16).double()
    k, v = (torch.randn(batch, key_heads, mask.key_length, 16).double() for _ in range(2))
    return q, k, v


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", list(MODULE))
@pytest.mark.parametrize("count", [1, 3, 11])
def test_rows_of_the_whole(name: str, backend: str, count: int) -> None:
    """One start for all entries, and one for each."""
    mask = MODULE[name].bind(heads=4)
    q, k, v = tensors(mask, 3, 2)
    given = inputs(mask, 3)
    out, lse = mask.compile("reference")(q, k, v, return_lse=True, **given)
    attention = mask.compile(backend)
    last = mask.query_length - count
    for start in (0, last, torch.tensor([last, 0, last // 2])):
        starts = torch.as_tensor(start).expand(3)
        positions = starts[:, None] + torch.arange(count)
        rows = q.take_along_dim(positions[:, None, :, None], dim=2)
        found, found_lse = attention(rows, k, v, return_lse=True, query_start=start, **given)
        torch.testing.assert_close(found, out.take_along_dim(positions[:, None, :, None], dim=2))
        torch.testing.assert_close(found_lse, lse.take_along_dim(positions[:, None, :], dim=2))


@pytest.mark.parametrize("backend", BACKENDS)
def test_keys_that_are_not_there_yet(backend: str) -> None:
    """A cache shorter than the pattern, and entries that have filled it to different lengths; the rest is nonsense."""
    mask = MODULE["layer"].bind(heads=2)
    q, k, v = tensors(mask, 2, 2)
    lengths = torch.tensor([31, 17])
    k[0, :, 31:], v[0, :, 31:], k[1, :, 17:], v[1, :, 17:] = torch.nan, torch.nan, torch.nan, torch.nan
    starts = lengths - 4
    rows = q.take_along_dim((starts[:, None] + torch.arange(4))[:, None, :, None], dim=2)
    found = mask.compile(backend)(rows, k[:, :, :40], v[:, :, :40], query_start=starts, key_lengths=lengths)
    for entry, length in enumerate(lengths.tolist()):
        short = MODULE["layer"].bind(heads=2, n=length).compile("reference")
        whole = short(*(x[entry : entry + 1, :, :length] for x in (q, k, v)))
        torch.testing.assert_close(found[entry], whole[0, :, -4:])


@pytest.mark.parametrize("backend", BACKENDS)
def test_keys_in_pages(backend: str) -> None:
    """Pages anywhere in memory, some shared, two that the window has left; what is behind the end is nonsense."""
    mask = maskdsl.parse("pattern w(n = 64) { space t[n]  attend window(9) and causal }")["w"].bind(heads=4)
    q, k, v = tensors(mask, 2, 2)
    k[1, :, :16], v[1, :, :16] = k[0, :, :16], v[0, :, :16]
    expected = mask.compile("reference")(q, k, v)[:, :, 37:39]
    table = torch.tensor([[5, 1, 7, 3, 9, -1], [5, 1, 2, 8, 6, 0]])
    pages = [torch.full((10, 2, 8, 16), torch.nan).double() for _ in range(2)]
    for entry, row in enumerate(table.tolist()):
        for number, page in enumerate(row[:5]):
            for x, whole in zip(pages, (k, v), strict=True):
                x[page] = whole[entry, :, number * 8 : number * 8 + 8]
    for x in pages:
        x[9, :, 7:], x[6, :, 7:] = torch.nan, torch.nan
    table[0, :2] = -1
    lengths = torch.tensor([39, 39])
    where: dict[str, Any] = {"page_table": table, "page_size": 8, "key_lengths": lengths, "query_start": 37}
    found = mask.compile(backend)(q[:, :, 37:39], *pages, **where)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_of_chunks(backend: str) -> None:
    """Those of a loss over some rows, with the inputs' own, through pages too."""
    mask = MODULE["everything"].bind(heads=4)
    given = inputs(mask, 2)
    leaves = [x.requires_grad_() for x in (*tensors(mask, 2, 2), given["slope"], given["gate"])]
    q, k, v, *_ = leaves
    whole = mask.compile("reference")(q, k, v, **given)[:, :, 20:29]
    slopes = torch.randn_like(whole)
    expected = torch.autograd.grad(whole, leaves, slopes)
    found = mask.compile(backend)(q[:, :, 20:29], k, v, query_start=20, **given)
    for one, other in zip(torch.autograd.grad(found, leaves, slopes), expected, strict=True):
        torch.testing.assert_close(one, other)


def test_decoding_compiles() -> None:
    mask = MODULE["layer"].bind(heads=2)
    q, k, v = (x.float() for x in tensors(mask, 1, 2))
    attention = mask.compile()

    def step(q: Tensor, k: Tensor, v: Tensor, start: Tensor) -> Tensor:
        return attention(q, k, v, query_start=start) * 2

    compiled = torch.compile(step, fullgraph=True, backend="eager")
    with torch.no_grad():
        for start in (3, 40):
            arguments = q[:, :, start : start + 1], k, v, torch.tensor(start)
            torch.testing.assert_close(compiled(*arguments), step(*arguments))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"query_start": 57}, "E436.*4 queries from position 57 on do not fit into the 60"),
        ({"query_start": -1}, "E436.*from position -1 on"),
        ({"query_start": torch.tensor([1, 2, 3])}, "E432.*`query_start` has the shape"),
        ({"query_start": torch.tensor(1.0)}, "E431.*`query_start` is float32"),
        ({"query_start": 1.5}, "E431.*`query_start` is float"),
        ({"query_start": True}, "E431.*`query_start` is bool"),
        ({"query_start": "3"}, "E415.*`query_start` is not a tensor but str"),
        ({"query_start": 0, "key_lengths": [3, 4, 5]}, "E432.*`key_lengths`"),
        ({"page_size": 16.0}, "E460.*`page_size` is 16.0"),
        ({"query_start": 0, "key_lengths": torch.tensor([[3]])}, "E432.*`key_lengths`"),
        ({"page_size": 16}, "E433"),
        ({"page_size": 16, "page_table": torch.zeros(2, 1, dtype=torch.int32)}, "E434.*is 16, but.*hold 60"),
        ({"page_table": torch.zeros(2, dtype=torch.int32)}, "E432.*`page_table`"),
        ({"query_start": 0, "layout": "ordered"}, "E438"),
        ({"query_start": 0, "key_lengths": [3, 1000]}, "E480.*holds 1000.*0 to 60.*bound with 60 keys"),
        ({"query_start": 0, "key_lengths": [61, 3]}, "E480.*holds 61"),
        ({"query_start": 0, "key_lengths": [-5, 3]}, "E480.*holds -5"),
    ],
)
def test_mistakes(changed: dict[str, Any], says: str) -> None:
    mask = MODULE["layer"].bind(heads=2)
    q, k, v = tensors(mask, 2, 2)
    with pytest.raises(AttnError) as caught:
        mask.compile()(q[:, :, :4], k, v, **changed)
    assert re.search(says, str(caught.value), re.DOTALL), caught.value


@pytest.mark.parametrize(
    ("table", "changed", "says"),
    [
        ([[0, 1]], {"key_lengths": [20]}, "E480.*holds 20.*0 to 16 keys.*the table has 2 pages"),
        ([[0, 99]], {"key_lengths": [9]}, "E481.*batch entry 0 from 8 on to page 99, but there are 4 pages"),
        ([[0, 4]], {}, "E481.*page 4"),
        ([[0, 99]], {"key_lengths": [8]}, None),
        ([[0, -3]], {"key_lengths": [16]}, None),
    ],
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_pages_that_do_not_exist(
    backend: str, table: list[list[int]], changed: dict[str, Any], says: str | None
) -> None:
    """Pages behind the last key of an entry may be anything."""
    q, k, v = (torch.randn(*shape, 16).double() for shape in ((1, 2, 1), (4, 2, 8), (4, 2, 8)))
    attention = MODULE["layer"].bind(heads=2).compile(backend)
    where: dict[str, Any] = {"query_start": 12, "page_table": torch.tensor(table), "page_size": 8, **changed}
    if says is None:
        assert attention(q, k, v, **where).isfinite().all()
    else:
        with pytest.raises(AttnError, match=re.compile(says, re.DOTALL)):
            attention(q, k, v, **where)


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_missing_pages_hold_no_keys(backend: str, recorded: bool) -> None:
    """In the midst of others, too."""
    mask = maskdsl.parse("pattern p(n = 12) { space t[n]  attend causal }")["p"].bind(heads=2)
    q, k, v = (x.requires_grad_(recorded) for x in torch.randn(3, 1, 2, 12, 8, dtype=torch.float64))
    pages = [x[0].unflatten(1, (3, 4)).transpose(0, 1) for x in (k, v)]
    out = mask.compile(backend)(q[:, :, 7:], *pages, query_start=7, page_table=torch.tensor([[0, -1, 2]]))
    attends = torch.ones(5, 12, dtype=torch.bool).tril(7)
    attends[:, 4:8] = False
    torch.testing.assert_close(out, scaled_dot_product_attention(q[:, :, 7:], k, v, attn_mask=attends))


@pytest.mark.parametrize("backend", BACKENDS)
def test_keys_of_a_short_entry_beside_a_long_one(backend: str) -> None:
    mask = maskdsl.parse("pattern p(n = 12) { space t[n]  attend causal }")["p"].bind(heads=2)
    q, k, v = torch.randn(2, 2, 1, 8), *torch.randn(2, 2, 2, 12, 8)
    starts = torch.tensor([2, 9])
    attends = (torch.arange(12) <= starts[:, None])[:, None, None]
    out = mask.compile(backend)(q, k, v, query_start=starts)
    torch.testing.assert_close(out, scaled_dot_product_attention(q, k, v, attn_mask=attends))


@pytest.mark.parametrize("backend", BACKENDS)
def test_inputs_of_all_tokens_are_those_of_each_space(backend: str) -> None:
    text = """pattern p() {
        space text[3]  space image[y = 2, x = 4]
        tokens text ++ image
        input worth: float[tokens]
        attend causal
        score s + k.worth
    }"""
    q, k, v = torch.randn(3, 1, 1, 11, 8, dtype=torch.float64)
    worth = torch.randn(11, dtype=torch.float64)
    out = maskdsl.parse(text)["p"].bind().compile(backend)(q[:, :, 5:], k, v, query_start=5, worth=worth)
    hidden = torch.ones(6, 11, dtype=torch.bool).triu(6)
    bias = worth.expand(6, 11).masked_fill(hidden, -torch.inf)
    torch.testing.assert_close(out, scaled_dot_product_attention(q[:, :, 5:], k, v, attn_mask=bias))


def test_pages_of_nothing() -> None:
    q, k, v = (torch.randn(*shape, 16) for shape in ((1, 2, 1), (4, 2, 0), (4, 2, 0)))
    with pytest.raises(AttnError, match="E482"):
        MODULE["layer"].bind(heads=2).compile()(q, k, v, page_table=torch.tensor([[0]]), page_size=0)


def test_what_a_gpu_is_not_waited_for_is_never_read() -> None:
    """There, numbers of pages are not looked at beforehand; kernels are given none that does not exist."""
    table = torch.tensor([[0, 3, 4], [2**31 - 1, -1, -7]], dtype=torch.int32)
    assert (existing_pages(table, 4) < 0).tolist() == [[False, False, True], [True, True, True]]
    assert existing_pages(table, 4)[0, :2].tolist() == [0, 3]


def test_lengths_beyond_the_pattern() -> None:
    mask = MODULE["layer"].bind(heads=2)
    q, k, v = tensors(MODULE["layer"].bind(n=70, heads=2), 1, 2)
    with pytest.raises(AttnError, match=r"E435.*has 70 queries"):
        mask.compile()(q, k[:, :, :60], v[:, :, :60], query_start=0)
    with pytest.raises(AttnError, match=r"E437.*has 70 keys"):
        mask.compile()(q[:, :, :3], k, v, query_start=0)


def test_inputs_cannot_be_called_like_these() -> None:
    text = "pattern p(n = 4) { space t[n]  input page_table: int[t]  attend k.page_table > 0 }"
    with pytest.raises(AttnError, match="E248"):
        maskdsl.parse(text)["p"].bind()


def test_coordinates_may_read_the_batch_entry() -> None:
    text = "pattern p(n = 12) { space t[n]  coord c = i * (batch + 1) % 5  attend q.c >= k.c }"
    mask = maskdsl.parse(text)["p"].bind()
    q, k, v = tensors(mask, 3, 1)
    whole = mask.compile("reference")(q, k, v)
    for backend in BACKENDS:
        found = mask.compile(backend)(q[:, :, 4:9], k, v, query_start=4)
        torch.testing.assert_close(found, whole[:, :, 4:9])
