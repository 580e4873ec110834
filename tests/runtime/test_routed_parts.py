"""Routes in decoding, chunks, pages and packed sequences: what a query selects among the keys that are there."""

from typing import Any

import pytest
import torch
from torch import Tensor

import maskdsl
from maskdsl.base.diagnostics import AttnError
from maskdsl.runtime.backends.available import usable_backends
from tests.support.routed_parts import EXAMPLES, MODULE, PATTERNS, inputs, load, rows_of, tensors

BACKENDS = usable_backends()


def cut(name: str, given: dict[str, Tensor], entry: int, length: int) -> dict[str, Tensor]:
    """Those of one entry, for the first tokens alone."""
    if name != "pieces":
        return given
    return {"chunk": given["chunk"][entry : entry + 1, :length], "worth": given["worth"][:, :length]}


@pytest.mark.thinned(2, "backend", "name", "count")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("name", "file", "parameters"), PATTERNS)
@pytest.mark.parametrize("count", [1, 6])
def test_as_if_the_pattern_ended_with_the_keys(
    name: str, file: str, parameters: dict[str, Any], count: int, backend: str
) -> None:
    """The last queries of entries of different lengths; what is behind their keys is nonsense."""
    attention = load(name, 45, file, **parameters).compile(backend)
    (q, k, v), given = tensors(45), inputs(name, 45)
    lengths = torch.tensor([45, 7, 26])
    expected = []
    for entry, length in enumerate(lengths.tolist()):
        short = load(name, length, file, **parameters).compile("reference")
        own = (x[entry : entry + 1, :, :length] for x in (q, k, v))
        expected.append(short(*own, **cut(name, given, entry, length))[:, :, -count:])
        k[entry, :, length:], v[entry, :, length:] = torch.nan, torch.nan
    starts = lengths - count
    found = attention(rows_of(q, starts, count), k, v, query_start=starts, key_lengths=lengths, **given)
    torch.testing.assert_close(found, torch.cat(expected))


PAST = [
    *(each for each in PATTERNS if each[0] in ("pieces", "moba", "sharing")),
    ("regions", "", {}),
    ("seer", "seer", {"block": 8, "top": 3}),
]


@pytest.mark.parametrize(("name", "file", "parameters"), PAST)
def test_prefill_in_chunks_gives_the_rows_of_the_whole(name: str, file: str, parameters: dict[str, Any]) -> None:
    """Where candidates are behind the query, the cache is filled as the chunks go; the last chunk is smaller."""
    n = 48 if name == "regions" else 45
    mask = load(name, n, file, **parameters)
    (q, k, v), given = tensors(n), inputs(name, n)
    expected = mask.compile("reference")(q, k, v, **given)
    attention = mask.compile("tiled")
    for start in range(0, n, 12):
        end = min(start + 12, n)
        chunk = q[:, :, start:end], k[:, :, :end], v[:, :, :end]
        found = attention(*chunk, query_start=start, **given)
        torch.testing.assert_close(found, expected[:, :, start:end])


@pytest.mark.parametrize("name", ["heavy", "members", "regions"])
def test_groups_of_queries_that_are_all_in_the_call(name: str) -> None:
    """All queries that there are: those behind the last key do not exist."""
    attention, (q, k, v), given = load(name, 48).compile("tiled"), tensors(48), inputs(name, 48)
    lengths = torch.tensor([33, 33, 33])
    short = load(name, 33).compile("reference")
    expected = short(*(x[:, :, :33] for x in (q, k, v)), **given)
    found = attention(q[:, :, :33], k, v, query_start=0, key_lengths=lengths, **given)
    torch.testing.assert_close(found, expected)
    for start, count in ((0, 32), (1, 32), (32, 1)):
        with pytest.raises(AttnError, match=r"(?s)E453.*queries that are not in this call.*this route"):
            attention(q[:, :, start : start + count], k, v, query_start=start, key_lengths=lengths, **given)


def test_cross_attention_to_the_keys_that_are_there() -> None:
    mask = MODULE["two"].bind(heads=4)
    q, k, v = torch.randn(2, 4, 20, 16), *torch.randn(2, 2, 4, 40, 16)
    short = MODULE["two"].bind(heads=4, n=21).compile("reference")
    expected = short(q, k[:, :, :21], v[:, :, :21])[:, :, 3:9]
    found = mask.compile("tiled")(q[:, :, 3:9], k, v, query_start=3, key_lengths=[21, 21])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["pieces", "clustered"])
def test_keys_in_pages(name: str, backend: str) -> None:
    """As the same keys in one piece; pages that nobody has written are nonsense."""
    attention, (q, k, v), given = load(name, 45).compile(backend), tensors(45), inputs(name, 45)
    lengths = torch.tensor([45, 7, 26])
    starts = lengths - 2
    expected = attention(rows_of(q, starts, 2), k, v, query_start=starts, key_lengths=lengths, **given)
    table = torch.randperm(18).view(3, 6)
    pages = [torch.full((18, 2, 8, 16), torch.nan).double() for _ in range(2)]
    for entry, length in enumerate(lengths.tolist()):
        for x, whole in zip(pages, (k, v), strict=True):
            for position in range(length):
                x[table[entry, position // 8], :, position % 8] = whole[entry, :, position]
    where: dict[str, Any] = {"query_start": starts, "key_lengths": lengths, "page_table": table}
    torch.testing.assert_close(attention(rows_of(q, starts, 2), *pages, **where, **given), expected)


@pytest.mark.parametrize("name", ["pieces", "told", "clustered", "heavy", "members"])
def test_packed_sequences_select_within_themselves(name: str) -> None:
    given = inputs(name, 45)
    sizes = [45, 7, 26]
    ends = torch.tensor([0, *sizes]).cumsum(0)
    q, k, v = torch.randn(80, 4, 16).double(), *torch.randn(2, 80, 2, 16).double()
    q[78:], k[78:], v[78:] = torch.nan, torch.nan, torch.nan
    found = load(name, 45).compile("tiled").varlen(q, k, v, ends, **given)
    for entry, (start, length) in enumerate(zip(ends.tolist(), sizes, strict=False)):
        short = load(name, length).compile("reference")
        own = (x[start : start + length].transpose(0, 1)[None] for x in (q, k, v))
        expected = short(*own, **cut(name, given, entry, length))
        torch.testing.assert_close(found[start : start + length].transpose(0, 1)[None], expected)


def test_packed_queries_are_the_last_of_their_sequences() -> None:
    mask = load("moba", 45, "moba", block=8, top=3)
    q, k, v = tensors(45, batch=1)
    expected = mask.compile("reference")(q, k, v)[0, :, -5:].transpose(0, 1)
    ends_q, ends_k = torch.tensor([0, 2, 7]), torch.tensor([0, 30, 75])
    k, v = (torch.cat([torch.randn(30, 2, 16).double(), x[0].transpose(0, 1)]) for x in (k, v))
    packed = torch.cat([torch.randn(2, 4, 16).double(), q[0, :, -5:].transpose(0, 1)])
    found = mask.compile("tiled").varlen(packed, k, v, ends_q, ends_k)
    torch.testing.assert_close(found[2:], expected)


def test_gradients_through_what_is_selected() -> None:
    attention = load("moba", 45, "moba", block=8, top=3)
    leaves = [x.requires_grad_() for x in tensors(45)]
    q, k, v = leaves
    whole = attention.compile("reference")(q, k, v)[:, :, 20:29]
    slopes = torch.randn_like(whole)
    expected = torch.autograd.grad(whole, leaves, slopes)
    found = attention.compile("tiled")(q[:, :, 20:29], k, v, query_start=20)
    for one, other in zip(torch.autograd.grad(found, leaves, slopes), expected, strict=True):
        torch.testing.assert_close(one, other)


def test_decoding_compiles() -> None:
    attention, (q, k, v) = load("moba", 45, "moba", block=8, top=3).compile(), tensors(45)

    def step(q: Tensor, start: Tensor) -> Tensor:
        return attention(q, k, v, query_start=start, key_lengths=start.expand(3) + 1) * 2

    compiled = torch.compile(step, fullgraph=True, backend="eager")
    with torch.no_grad():
        for start in (3, 40):
            arguments = q[:, :, start : start + 1], torch.tensor(start)
            torch.testing.assert_close(compiled(*arguments), step(*arguments))


def test_lengths_that_follow_the_tensors_compile() -> None:
    moba = maskdsl.load(EXAMPLES / "moba.attn")["moba"]
    attention = moba.compile(follow="n", heads=4, block=8, top=3)

    def step(q: Tensor, k: Tensor) -> Tensor:
        return attention(q, k, k) + attention(q[:, :, -2:], k, k, query_start=q.shape[2] - 2).sum()

    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend="eager")
    for length in (30, 45):
        q, k, _ = (x[:, :, :length].detach().requires_grad_() for x in tensors(45))
        results = [torch.autograd.grad(call(q, k).sin().sum(), (q, k)) for call in (compiled, step)]
        torch.testing.assert_close(*results)


def test_calls_without_queries_or_keys() -> None:
    attention, (q, k, v) = load("moba", 45, "moba", block=8, top=3).compile("tiled"), tensors(45)
    assert attention(q[:, :, :0], k, v, query_start=3).shape == (3, 4, 0, 16)
    assert attention(q[:0], k[:0], v[:0], query_start=3).shape == (0, 4, 45, 16)
    nothing = attention(q[:, :, :2], k, v, query_start=3, key_lengths=[0, 0, 0])
    assert not nothing.any()
