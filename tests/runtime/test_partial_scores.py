"""Routes of every form in partial calls: the rows of calls with all queries, or an error where queries are missing."""

from typing import Any

import pytest
import torch
from torch import Tensor

import maskdsl
from maskdsl.base.diagnostics import AttnError
from tests.support.routed_parts import rows_of, tensors

TEXT = """
pattern shares(n = 45) {
    space tokens[n]
    coord kernel = i // 4
    coord chunk = i // 8
    let seen = softmax(dot(q, mean(k by kernel, span = 2)) / sqrt(dim) where k.kernel * 4 + 8 <= q + 1)
    route picked = topk(3, max(sum(seen, heads = key_head) by k.chunk)) where k.chunk <= q.chunk
        always k.chunk <= q.chunk and (k.chunk < 1 or q.chunk - k.chunk < 2)
    attend causal and picked
}
pattern bounds(n = 45) {
    space tokens[n]
    coord page = i // 4
    route picked = topk(3, dot(max(q, 0.0), max(k by page)) + dot(min(q, 0.0), min(k by page)))
        where k.page <= q.page
        always same(page)
    attend causal and picked
}
pattern changed(n = 45) {
    space tokens[n]
    coord chunk = i // 8
    route picked = topk(2, max(dot(q, max(max(k, 0.1) where i % 3 > 0 by chunk, span = 2)) by k.chunk))
        where k.chunk <= q.chunk
    attend causal and picked
}
pattern indexer(n = 45, index_heads = 3, width = 5) {
    space tokens[n]
    input iq: float[batch, index_heads, tokens, width]
    input ik: float[batch, tokens, width]
    route best = topk(6, sum(max(dot(iq[batch, j, q], ik[batch, k]), 0.0) for j in 0 .. index_heads)) where causal
    attend best
}
pattern two_routes(n = 45) {
    space tokens[n]
    coord chunk = i // 8
    let chunks = (n - 1) // 8 + 1
    input worth: float[batch, heads, chunks]
    route picked = topk(2, sum(dot(q, mean(k by chunk)), heads = key_head)) where k.chunk <= q.chunk
    route kept = topk(1, worth[batch, head, k.chunk]) where k.chunk <= q.chunk and not picked
    attend causal and (picked or kept)
}
pattern normalized(n = 45) {
    space tokens[n]
    coord chunk = i // 8
    let gate = dot(q, mean(k by chunk))
    route picked = topp(0.25, weights = (gate - min(gate)) / (max(gate) - min(gate)), reach = False) always same(chunk)
    attend picked
}
pattern rows(n = 45) {
    space tokens[n]
    coord row = i // 2
    coord chunk = i // 6
    let share = softmax(dot(sum(q by row), sum(k by row)))
    route picked = topp(0.6, weights = sum(share by (q.chunk, k.chunk))) where k.row <= q.row always same(chunk)
    attend causal and picked
}
pattern counted(n = 45) {
    space tokens[n]
    coord chunk = i // 6
    let mean_key = mean(k by chunk)
    route picked = topk(1 + q.chunk // 2, dot(mean(q by chunk), mean_key) + dot(mean_key, mean_key))
        where k.chunk <= q.chunk
    attend picked and causal
}
pattern of_keys(n = 45) {
    space tokens[n]
    coord chunk = i // 6
    let gate = dot(q, mean(k by chunk))
    route picked = topp(0.25, weights = gate - min(gate, per = k.chunk), per = k.chunk) always same(chunk)
    attend picked
}
pattern of_queries(n = 45) {
    space tokens[n]
    input c: float[heads, dim]
    route picked = topk(7, dot(q, c[head]))
    attend picked
}
"""
MODULE = maskdsl.parse(TEXT)
BY_QUERY = ("shares", "bounds", "changed", "indexer", "two_routes", "normalized")
BY_GROUP = ("rows", "counted")
BY_ALL = ("of_keys", "of_queries")


def given_to(mask: maskdsl.Mask) -> dict[str, Tensor]:
    """Random inputs for 3 entries with a head dimension of 16."""
    sizes = {"batch": 3, "dim": 16}
    shapes = {each.name: [sizes.get(str(x.kind), x.size) for x in each.dimensions] for each in mask.ir.given}
    return {name: torch.randn(shape).double() for name, shape in shapes.items()}


def first_tokens(mask: maskdsl.Mask, given: dict[str, Tensor], entry: int) -> dict[str, Tensor]:
    """The inputs of one entry, as a shorter pattern takes them."""
    found = {}
    for each in mask.ir.given:
        x = given[each.name]
        for axis, dimension in enumerate(each.dimensions):
            start = entry if dimension.kind == "batch" else 0
            size = {"batch": 1, "dim": 16}.get(str(dimension.kind), dimension.size)
            x = x.narrow(axis, start, size)
        found[each.name] = x
    return found


@pytest.mark.parametrize("kept", ["cache", "pages", "state"])
@pytest.mark.parametrize("name", BY_QUERY)
def test_the_last_queries_of_entries_of_different_lengths(name: str, kept: str) -> None:
    """As if the pattern ended with the keys; what is behind them is nonsense."""
    mask = MODULE[name].bind(heads=4)
    (q, k, v), given = tensors(45), given_to(mask)
    attention, lengths = mask.compile("tiled"), torch.tensor([45, 9, 26])
    expected = []
    for entry, length in enumerate(lengths.tolist()):
        short = MODULE[name].bind(heads=4, n=length)
        own = (x[entry : entry + 1, :, :length] for x in (q, k, v))
        expected.append(short.compile("reference")(*own, **first_tokens(short, given, entry))[:, :, -3:])
        k[entry, :, length:], v[entry, :, length:] = torch.nan, torch.nan
    where: dict[str, Any] = {"query_start": lengths - 3, "key_lengths": lengths}
    if kept == "state":
        state = attention.routing_state(3)
        state.append(k[:, :, :5], **given)
        where["routing_state"] = state
    if kept == "pages":
        where["page_table"] = torch.randperm(27).view(3, 9)
        pages = torch.full((2, 27, 2, 5, 16), torch.nan).double()
        for x, whole in zip(pages, (k, v), strict=True):
            x[where["page_table"]] = whole.unflatten(2, (9, 5)).transpose(1, 2)
        k, v = pages
    found = attention(rows_of(q, lengths - 3, 3), k, v, **where, **given)
    torch.testing.assert_close(found, torch.cat(expected), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", BY_QUERY)
def test_a_state_follows_one_query_at_a_time(name: str) -> None:
    mask = MODULE[name].bind(heads=4)
    (q, k, v), given, attention = tensors(45), given_to(mask), mask.compile("tiled")
    state = attention.routing_state(3)
    for length in (7, 8, 9, 16, 17, 24):
        start: dict[str, Any] = {"query_start": length - 1, "key_lengths": length}
        found = attention(q[:, :, length - 1 : length], k, v, **start, routing_state=state, **given)
        if length == 17:
            state.truncate(13)
        expected = attention(q[:, :, length - 1 : length], k, v, **start, **given)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("size", [1, 6, 12])
@pytest.mark.parametrize("name", [*BY_QUERY, *BY_GROUP])
def test_chunks_give_the_rows_of_the_whole(name: str, size: int) -> None:
    """Groups of queries are whole in chunks of 6; in smaller ones they are missed."""
    mask = MODULE[name].bind(heads=4)
    (q, k, v), given, attention = tensors(45), given_to(mask), mask.compile("tiled")
    whole = mask.compile("reference")(q, k, v, **given)
    for start in range(0, 45, max(size, 5)):
        call = q[:, :, start : start + size], k, v
        if name in BY_GROUP and size == 1:
            with pytest.raises(AttnError, match=r"(?s)E453.*`picked`"):
                attention(*call, query_start=start, **given)
            continue
        found = attention(*call, query_start=start, **given)
        torch.testing.assert_close(found, whole[:, :, start : start + size], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", BY_ALL)
def test_queries_that_compete_with_all_others(name: str) -> None:
    mask = MODULE[name].bind(heads=4)
    (q, k, v), given, attention = tensors(45), given_to(mask), mask.compile("tiled")
    whole = mask.compile("reference")(q, k, v, **given)
    torch.testing.assert_close(attention(q, k, v, query_start=0, **given), whole, rtol=0, atol=1e-9)
    for start, end in ((0, 42), (6, 45), (44, 45)):
        with pytest.raises(AttnError, match=r"(?s)E453.*`picked`"):
            attention(q[:, :, start:end], k, v, query_start=start, **given)


@pytest.mark.parametrize("name", [*BY_QUERY, *BY_GROUP, *BY_ALL])
def test_packed_sequences(name: str) -> None:
    """Each sequence selects within itself."""
    mask, sizes = MODULE[name].bind(heads=4), [45, 9, 26]
    (q, k, v), given = tensors(45), given_to(mask)
    ends = torch.tensor([0, *sizes]).cumsum(0)
    packed = (torch.cat([x[n, :, :size].transpose(0, 1) for n, size in enumerate(sizes)]) for x in (q, k, v))
    found = mask.compile("tiled").varlen(*packed, ends, **given)
    for entry, (start, size) in enumerate(zip(ends.tolist(), sizes, strict=False)):
        short = MODULE[name].bind(heads=4, n=size)
        own = (x[entry : entry + 1, :, :size] for x in (q, k, v))
        expected = short.compile("reference")(*own, **first_tokens(short, given, entry))
        torch.testing.assert_close(found[start : start + size].transpose(0, 1)[None], expected, rtol=0, atol=1e-9)


def test_queries_are_pooled_by_an_input_under_a_condition() -> None:
    text = """
    pattern p(n = 12) {
        space tokens[n]
        input part: int[tokens]
        route picked = topk(2, dot(mean(q where i % 3 > 0 by part), k))
        attend picked
    }"""
    mask, part = maskdsl.parse(text)["p"].bind(heads=4), torch.arange(12) // 4
    q, k, v = tensors(12)
    whole = mask.compile("reference")(q, k, v, part=part)
    found = mask.compile("tiled")(q[:, :, 4:8], k, v, query_start=4, part=part)
    torch.testing.assert_close(found, whole[:, :, 4:8], rtol=0, atol=1e-9)


def test_candidates_read_balanced_clusters() -> None:
    text = """
    pattern p(n = 12) {
        space tokens[n]
        coord chunk = i // 3
        input rows: float[heads, 2, dim]
        route cluster = balanced(4, rows)
        route picked = topk(2, max(dot(q, mean(k by chunk)) by k)) where not cluster
        attend picked
    }"""
    mask, (q, k, v) = maskdsl.parse(text)["p"].bind(heads=4), tensors(12)
    rows = torch.randn(4, 2, q.shape[3], dtype=torch.float64)
    whole = mask.compile("reference")(q, k, v, rows=rows)
    found = mask.compile("tiled")(q, k, v, query_start=0, rows=rows)
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-9)
