"""Packed queries over pages in one call, against each sequence alone over keys that lie one behind the other."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor

import maskdsl
from maskdsl.base.diagnostics import AttnError
from maskdsl.runtime.backends.available import usable_backends
from maskdsl.runtime.methods import paged_varlen

TEXT = """
pattern window(n = 150, size = 9) { space t[n]  attend causal and (backward(size) or k < 2) }
pattern everything(n = 150) {
    space t[n]
    input document: int[batch, t]
    input slope: float[batch, heads]
    input bias: float[heads, 2 * n - 1]
    attend causal
    require same(document)
    score s - slope[batch, head] * float(q - k) + bias[head, q - k + n - 1]
    sink 0.3
    order by t % 5
}
pattern numbered(n = 150) { space t[n]  attend causal where (q + k + batch) % 3 != 0 }
pattern sum(n = 150) {
    space t[n]
    branch near { attend causal and backward(5) }
    branch even { attend causal and k % 2 == 0 }
}
pattern routed(n = 150) {
    space t[n]
    coord chunk = i // 8
    route past = topk(2, dot(q, mean(k by chunk))) where k.chunk < q.chunk
    attend causal and (past or same(chunk))
}
pattern chain(n = 150) {
    space t[n]
    input enter: int[batch, t]
    input leave: int[batch, t]
    attend causal where k.enter <= q.enter < k.leave
}
pattern crossed(n = 90, m = 150) { space a[n]  space b[m]  queries a  keys b  attend abs(q * 3 // 2 - k) < 6 }
"""
MODULE = maskdsl.parse(TEXT)
BACKENDS = usable_backends()
COUNTS, KEYS = [38, 1, 0, 5, 1, 90, 3], [130, 1, 7, 5, 77, 90, 0]
"""A chunk of a prompt, a first token, nothing, drafts, a single token, a prompt; and queries of no keys."""
HEADS, DIM = 4, 16


def inputs_of(name: str, count: int) -> dict[str, Tensor]:
    match name:
        case "everything":
            document = torch.randint(0, 2, (count, 150)).sort(dim=1).values
            return {"document": document, "slope": torch.rand(count, HEADS), "bias": torch.randn(HEADS, 299)}
        case "chain":  # each token is below one of the three before it, but for a few roots
            parents = torch.stack([torch.arange(150) - torch.randint(1, 4, (150,)) for _ in range(count)])
            enter, leave = maskdsl.inputs.tree(parents.clamp(min=-1))
            return {"enter": enter, "leave": leave}
        case _:
            return {}


def in_pages(sequences: list[Tensor], size: int) -> tuple[Tensor, Tensor]:
    """Keys [key heads, keys, dim] in pages, and a table that ends in a page of nobody; all other memory is NaN."""
    counts = [-(-x.shape[1] // size) for x in sequences]
    order = torch.randperm(sum(counts) + 3)
    pages = torch.full((len(order), sequences[0].shape[0], size, DIM), torch.nan, dtype=sequences[0].dtype)
    table = order[-1].expand(len(sequences), max(counts) + 1).clone()
    first = 0
    for row, (x, count) in enumerate(zip(sequences, counts, strict=True)):
        table[row, :count] = order[first : first + count]
        for page, some in zip(order[first : first + count], x.split(size, dim=1), strict=False):
            pages[page, :, : some.shape[1]] = some
        first += count
    return pages, table


def drawn(keys: list[int], size: int, key_heads: int, dtype: torch.dtype = torch.float64) -> Any:
    """Keys and values of each sequence, both in pages, and the table."""
    k, v = ([torch.randn(key_heads, each, DIM).to(dtype) for each in keys] for _ in "kv")
    state = torch.random.get_rng_state()
    pages_k, table = in_pages(k, size)
    torch.random.set_rng_state(state)
    pages_v, _ = in_pages(v, size)
    return k, v, pages_k, pages_v, table


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", list(MODULE))
@pytest.mark.parametrize("size", [1, 16, 64])
@pytest.mark.parametrize("key_heads", [1, 4])
@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.thinned(3, "backend", "name", "size", "key_heads", "waits")
def test_each_sequence_alone(
    name: str, backend: str, size: int, key_heads: int, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also as on a GPU, which is not waited for."""
    if not waits:
        monkeypatch.setattr(paged_varlen, "is_on_host", lambda _: False)
    mask, cross = MODULE[name].bind(heads=HEADS), name == "crossed"
    counts = COUNTS if cross else COUNTS[:-1]
    keys = KEYS[: len(counts)]
    k, v, *pages, table = drawn(keys, size, key_heads)
    q = torch.randn(sum(counts) + 2, HEADS, DIM).double()
    ends, given = torch.tensor([0, *counts]).cumsum(0).int(), inputs_of(name, len(counts))
    given = {each: x.double() if x.is_floating_point() else x for each, x in given.items()}
    where: dict[str, Any] = {"page_table": table, "key_lengths": torch.tensor(keys)}
    out, lse = mask.compile(backend).varlen(q, *pages, ends, **where, **given, return_lse=True)
    assert not out[sum(counts) :].any() and (lse[..., sum(counts) :] == -torch.inf).all()
    for number, (count, length) in enumerate(zip(counts, keys, strict=True)):
        rows = slice(int(ends[number]), int(ends[number + 1]))
        own = {each: x if each == "bias" else x[number : number + 1] for each, x in given.items()}
        alone, alone_lse = of_entry(mask, number if name == "numbered" else 0)(
            q[rows].transpose(0, 1)[None],
            k[number][None],
            v[number][None],
            query_start=0 if cross else length - count,
            return_lse=True,
            **own,
        )
        torch.testing.assert_close(out[rows], alone[0].transpose(0, 1))
        torch.testing.assert_close(lse[..., rows], alone_lse[0])


def of_entry(mask: maskdsl.Mask, number: int) -> Any:
    """The reference, where the only batch entry has this number."""
    if number == 0:
        return mask.compile("reference")
    text = TEXT.replace("(q + k + batch)", f"(q + k + {number})")
    return maskdsl.parse(text)[mask.name].bind(heads=HEADS).compile("reference")


TREE = """
pattern tree(drafts = 64, n = 4160) {
    space context[n - drafts]
    space draft[drafts]
    queries draft
    keys context ++ draft
    input enter: int[batch, draft]
    input leave: int[batch, draft]
    attend draft -> context
    attend draft -> draft where k.enter <= q.enter < k.leave
}
"""


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", ["bhnd", "bnhd"])
def test_a_tree_of_drafts_for_each_sequence(backend: str, layout: Any) -> None:
    """Contexts and trees of different sizes, one of a single draft; the expected come from the parents alone."""
    parents = [[-1, 0, 0, 1, 1, 2], [-1], [-1, 0, 1, 0]]
    contexts = [33, 64, 0]
    most = max(map(len, parents))
    numbers = [maskdsl.inputs.tree(torch.tensor([each])) for each in parents]
    enter, leave = (
        torch.cat([torch.nn.functional.pad(x[i], (0, most - x[i].shape[1])) for x in numbers]) for i in (0, 1)
    )
    counts = [*map(len, parents)]
    keys = [context + count for context, count in zip(contexts, counts, strict=True)]
    k, v, *pages, table = drawn(keys, 16, 2)
    pages = [x.transpose(1, 2).contiguous() if layout == "bnhd" else x for x in pages]
    q, ends = torch.randn(sum(counts), HEADS, DIM).double(), torch.tensor([0, *counts]).cumsum(0)
    attention = maskdsl.parse(TREE)["tree"].compile(backend, heads=HEADS, follow=("drafts", "n"), layout=layout)
    where: dict[str, Any] = {"page_table": table, "key_lengths": torch.tensor(keys)}
    out = attention.varlen(q, *pages, ends, **where, enter=enter, leave=leave)
    for number, above in enumerate(parents):
        for draft in range(len(above)):
            path, node = [], draft
            while node >= 0:
                path.append(contexts[number] + node)
                node = above[node]
            path += range(contexts[number])
            row = q[ends[number] + draft].view(1, HEADS, 1, DIM)
            taken = (x[number][None, :, path].repeat_interleave(2, dim=1) for x in (k, v))
            alone = torch.nn.functional.scaled_dot_product_attention(row, *taken)
            torch.testing.assert_close(out[ends[number] + draft], alone[0, :, 0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_tokens_before_heads_and_views(backend: str) -> None:
    """Pages as serving engines have them: keys and values of a token in one buffer, queries in a fused projection."""
    mask, counts, keys = MODULE["window"].bind(heads=HEADS), [3, 1, 20], [40, 17, 20]
    *_, pages_k, pages_v, table = drawn(keys, 16, 2)
    where: dict[str, Any] = {"page_table": table.int(), "key_lengths": torch.tensor(keys).int()}
    fused = torch.randn(24, HEADS + 3, DIM).double()
    q, ends = fused[:, 1 : HEADS + 1], torch.tensor([0, *counts]).cumsum(0)
    expected = mask.compile("reference").varlen(q.clone(), pages_k, pages_v, ends, **where)
    both = torch.cat([pages_k, pages_v], dim=-1).transpose(1, 2).contiguous()
    for layout, pages in (("bnhd", both), ("bhnd", both.transpose(1, 2))):
        attention = mask.compile(backend, layout=layout)  # type: ignore[arg-type]
        torch.testing.assert_close(attention.varlen(q, pages[..., :DIM], pages[..., DIM:], ends, **where), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_lengths_follow_the_room_of_the_table(backend: str) -> None:
    pattern = maskdsl.parse("pattern p(n) { space t[n]  attend causal and backward(7) }")["p"]
    *_, pages_k, pages_v, table = drawn([20, 9], 4, 2)
    q, ends = torch.randn(5, HEADS, DIM).double(), torch.tensor([0, 4, 5])
    where: dict[str, Any] = {"page_table": table, "key_lengths": torch.tensor([20, 9])}
    found = pattern.compile(backend, follow="n", heads=HEADS).varlen(q, pages_k, pages_v, ends, **where)
    torch.testing.assert_close(
        found, pattern.bind(n=99, heads=HEADS).compile().varlen(q, pages_k, pages_v, ends, **where)
    )


def test_dropout_drops_by_sequence() -> None:
    mask = MODULE["window"].bind(heads=HEADS)
    k, v, *pages, table = drawn([20, 9, 33], 4, 2)
    q, ends = torch.randn(7, HEADS, DIM).double(), torch.tensor([0, 4, 5, 7])
    where: dict[str, Any] = {"page_table": table, "key_lengths": torch.tensor([20, 9, 33])}
    rows = [torch.cat([each.transpose(0, 1) for each in x]) for x in (k, v)]
    expected = mask.compile().varlen(q, *rows, ends, torch.tensor([0, 20, 29, 62]), dropout_p=0.4, seed=3)
    torch.testing.assert_close(mask.compile().varlen(q, *pages, ends, **where, dropout_p=0.4, seed=3), expected)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"page_table": None}, "E484.*`page_table` is not given"),
        ({"key_lengths": None}, "E484.*`key_lengths` is not given"),
        ({"cu_seqlens_k": torch.tensor([0, 20, 29])}, "E484.*`cu_seqlens_k` is given"),
        ({"page_table": torch.zeros(2, 5)}, "E431.*`page_table` is float32"),
        ({"page_table": torch.zeros(3, 5, dtype=torch.int32)}, r"E432.*`page_table` has the shape \(3, 5\)"),
        ({"page_table": [0, 1]}, r"E432.*`page_table` has the shape \(2,\)"),
        ({"page_table": torch.zeros(2, 3, dtype=torch.int32)}, "E480.*holds 20.*0 to 12 keys.*has 3 pages"),
        ({"page_table": [[0, 1, 2, 3, 99], [5, 6, 7, 0, 0]]}, "E481.*batch entry 0 from 16 on to page 99"),
        ({"key_lengths": torch.tensor([20.0, 9.0])}, "E431.*`key_lengths` is float32"),
        ({"key_lengths": [20, 9, 1]}, r"E432.*`key_lengths` has the shape \(3,\)"),
        ({"key_lengths": [-1, 9]}, "E480.*holds -1"),
        ({"key_lengths": [3, 9]}, "E485.*sequence 0 has 4 queries and 3 keys"),
        ({"query_start": [16, 99, 1]}, "E432.*`query_start`"),
        ({"query_start": [147, 8]}, "E436.*4 queries from position 147 on"),
        ({"cu_seqlens_q": torch.tensor([0, 4, 9])}, "E440.*end at 5 at most"),
        ({"cu_seqlens_q": torch.tensor([[0, 4, 5]])}, "E439"),
        ({"q": torch.randn(1, 5, HEADS, DIM)}, "E442.*`q`"),
        ({"k": torch.ones(9, 2, 4, DIM, dtype=torch.int8)}, "E402.*`k` is int8"),
        ({"k": torch.randn(9, 2, DIM)}, "E401"),
        ({"k": torch.randn(9, 2, 0, DIM), "v": torch.randn(9, 2, 0, DIM)}, "E482"),
    ],
)
def test_mistakes(changed: dict[str, Any], says: str) -> None:
    *_, pages_k, pages_v, table = drawn([20, 9], 4, 2, torch.float32)
    given: dict[str, Any] = {"q": torch.randn(5, HEADS, DIM), "k": pages_k, "v": pages_v}
    given |= {"cu_seqlens_q": torch.tensor([0, 4, 5]), "page_table": table, "key_lengths": [20, 9]}
    with pytest.raises(AttnError) as caught:
        MODULE["window"].bind(heads=HEADS).compile().varlen(**{**given, **changed})
    assert re.search(says, str(caught.value), re.DOTALL), caught.value


def test_lengths_beyond_the_pattern() -> None:
    *_, pages_k, pages_v, table = drawn([160], 16, 2)
    with pytest.raises(AttnError, match=re.compile("E480.*holds 160.*bound with 150 keys", re.DOTALL)):
        MODULE["window"].bind(heads=HEADS).compile().varlen(
            torch.randn(1, HEADS, DIM).double(), pages_k, pages_v, [0, 1], page_table=table, key_lengths=[160]
        )


def test_no_gradients() -> None:
    *_, pages_k, pages_v, table = drawn([20], 4, 2)
    q = torch.randn(1, HEADS, DIM).double().requires_grad_()
    call = MODULE["window"].bind(heads=HEADS).compile().varlen
    with pytest.raises(AttnError, match=re.compile("E486.*`q` requires one.*no_grad", re.DOTALL)):
        call(q, pages_k, pages_v, [0, 1], page_table=table, key_lengths=[20])
    with torch.no_grad():
        call(q, pages_k, pages_v, [0, 1], page_table=table, key_lengths=[20])
    with pytest.raises(AttnError, match="E410"):
        MODULE["everything"].bind(heads=HEADS).compile().varlen(
            q.detach(), pages_k, pages_v, [0, 1], page_table=table, key_lengths=[20]
        )


@pytest.mark.parametrize("name", ["window", "chain", "sum"])
def test_graphs_of_torch(name: str) -> None:
    """One graph serves other lengths, pages and counts; an exported program gives the same."""
    attention, given = MODULE[name].bind(heads=HEADS).compile(), inputs_of(name, 3)
    pages = torch.randn(2, 30, 2, 10, DIM)

    class Served(torch.nn.Module):
        def forward(self, q: Tensor, ends: Tensor, lengths: Tensor, table: Tensor) -> Tensor:
            where = {"page_table": table, "key_lengths": lengths}
            return attention.varlen(q, *pages, ends, **where, **given)

    served = Served()
    graph = torch.compile(served, fullgraph=True, backend="aot_eager")
    calls = [
        (torch.randn(20, HEADS, DIM), torch.tensor(ends), torch.tensor(lengths), torch.randperm(30).view(3, 10))
        for ends, lengths in (([0, 5, 6, 20], [70, 20, 33]), ([0, 0, 19, 20], [9, 100, 1]))
    ]
    exported = torch.export.export(served, calls[0]).module()
    for call in calls:
        expected = served(*call)
        torch.testing.assert_close(graph(*call), expected)
        torch.testing.assert_close(exported(*call), expected)
