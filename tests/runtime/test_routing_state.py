"""What a routing state selects, against what is selected when everything is found anew."""

import pickle
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor

import maskdsl
from maskdsl.base.diagnostics import AttnError
from maskdsl.runtime.decode.paging import call_positions
from maskdsl.runtime.routing.find_op import with_partial_routed
from tests.support.routed_parts import MODULE, PATTERNS, inputs, load

N = 45
STEPS = 8


class Cache:
    """Keys of three entries, or keys in pages of 8, as a server fills them; what is not written is NaN."""

    def __init__(self, dtype: torch.dtype, paged: bool) -> None:
        self.k = torch.full((3, 2, N, 16), torch.nan, dtype=dtype)
        self.lengths = torch.zeros(3, dtype=torch.int64)
        self.table = torch.randperm(18).view(3, 6) if paged else None

    def write(self, counts: list[int]) -> Tensor:
        """New random keys: [3, 2, most, 16]."""
        new = torch.randn(3, 2, max(counts), 16).to(self.k.dtype)
        for entry, count in enumerate(counts):
            count = min(count, N - int(self.lengths[entry]))
            start = int(self.lengths[entry])
            self.k[entry, :, start : start + count] = new[entry, :, :count]
            self.lengths[entry] += count
        return new

    @property
    def keys(self) -> Tensor:
        if self.table is None:
            return self.k
        pages = torch.full((18, 2, 8, 16), torch.nan, dtype=self.k.dtype)
        for entry, numbers in enumerate(self.table.tolist()):
            for position, number in enumerate(numbers):
                part = self.k[entry, :, position * 8 : position * 8 + 8]
                pages[number, :, : part.shape[1]] = part
        return pages

    @property
    def where(self) -> dict[str, Any]:
        starts = (self.lengths - 2).clamp(min=0)
        return {"query_start": starts, "key_lengths": self.lengths, "page_table": self.table}


def compare(attention: Any, state: Any, cache: Cache, given: dict[str, Tensor]) -> None:
    """The same is found, to the bit."""
    q = torch.randn(3, 4, 2, 16).to(cache.k.dtype)
    where = call_positions(q, page_size=None, **cache.where)
    assert where is not None
    tensors = [given[name] for name in attention.inputs]
    expected = with_partial_routed(attention._single.handle.name, q, cache.keys, tensors, where)
    found = [*tensors, *state._find(attention._single.handle.name, q, cache.keys, tensors, where)]
    assert len(found) == len(expected)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize(("name", "file", "parameters"), PATTERNS)
@pytest.mark.parametrize(("dtype", "paged"), [(torch.float64, False), (torch.bfloat16, True)])
def test_any_history_selects_as_from_scratch(
    name: str, file: str, parameters: dict[str, Any], dtype: torch.dtype, paged: bool
) -> None:
    """Keys come one by one and many at once, to some entries more than to others; some are taken back and rewritten."""
    torch.manual_seed(hash((name, str(dtype))) % 1000)
    attention, given = load(name, N, file, **parameters).compile("tiled"), inputs(name, N)
    state, cache = attention.routing_state(3), Cache(dtype, paged)
    for step in range(STEPS):
        cache.write(torch.randint(0, 9 if step % 3 == 0 else 2, (3,)).tolist())
        if step % 4 == 2:
            cache.lengths = (cache.lengths - torch.randint(0, 4, (3,))).clamp(min=0)
            state.truncate(cache.lengths)
            cache.write([1, 2, 3])
        if step % 5 == 4:
            chosen = torch.randint(0, 3, (3,))
            state.reorder(chosen)
            cache.k, cache.lengths = cache.k[chosen], cache.lengths[chosen]
            given |= {"chunk": given["chunk"][chosen]} if "chunk" in given else {}
        compare(attention, state, cache, given)
    assert torch.equal(state.lengths, cache.lengths)
    q, keys = torch.randn(3, 4, 2, 16).to(dtype), cache.keys
    out = attention(q, keys, keys, routing_state=state, **cache.where, **given)
    assert torch.equal(out, attention(q, keys, keys, **cache.where, **given))


def test_missing_pages_are_of_no_group() -> None:
    attention = load("moba", N, "moba", block=8, top=3).compile("tiled")
    q, k = torch.randn(1, 4, 1, 16), torch.randn(6, 2, 8, 16)
    k[0] = 9  # what would be chosen
    where: dict[str, Any] = {"query_start": 44, "page_table": torch.tensor([[1, -1, 2, 3, 4, 5]])}
    found = attention(q, k, k, routing_state=attention.routing_state(), **where)
    assert torch.equal(found, attention(q, k, k, **where))


def test_keys_may_be_told_as_they_are_made() -> None:
    """Without a cache; more than one new key of some entries."""
    attention = load("moba", N, "moba", block=8, top=3).compile("tiled")
    state, cache = attention.routing_state(3), Cache(torch.float32, paged=False)
    state.append(cache.write([30, 30, 30]))
    counts = [3, 0, 2]
    state.append(cache.write(counts), counts)
    assert state.lengths.tolist() == [33, 30, 32]
    other = state.clone()
    other.append(torch.randn(3, 2, 5, 16))
    nothing = torch.full_like(cache.k, torch.nan)
    q, where = torch.randn(3, 4, 1, 16), {"query_start": cache.lengths - 1, "key_lengths": cache.lengths}
    position = call_positions(q, page_table=None, page_size=None, **where)
    assert position is not None
    (table, _), (expected, _) = (
        state._find(attention._single.handle.name, q, nothing, [], position),
        with_partial_routed(attention._single.handle.name, q, cache.k, [], position),
    )
    assert torch.equal(table, expected)


def test_copies_and_pickles_know_the_same_keys() -> None:
    attention = load("moba", N, "moba", block=8, top=3).compile("tiled")
    state, k = attention.routing_state(), torch.randn(1, 2, N, 16)
    state.append(k[:, :, :30])
    q, where = torch.randn(1, 4, 1, 16), {"query_start": 39, "key_lengths": [40]}
    expected = attention(q, k, k, **where)
    for copied in (deepcopy(state), pickle.loads(pickle.dumps(state)), state.clone()):
        assert torch.equal(attention(q, k, k, routing_state=copied, **where), expected)
        assert copied.lengths.tolist() == [40]
    assert state.lengths.tolist() == [30]


def test_what_is_forgotten() -> None:
    """Whole groups where they are known, else everything."""
    attention = load("moba", N, "moba", block=8, top=3).compile("tiled")
    state = attention.routing_state(2)
    state.append(torch.randn(2, 2, 45, 16))
    state.truncate([45, 21])
    assert state.lengths.tolist() == [45, 16]
    state.truncate(3)
    assert state.lengths.tolist() == [0, 0]
    attention = load("clustered", N).compile("tiled")
    state = attention.routing_state(1)
    state.append(torch.randn(1, 2, 45, 16), centroids=torch.randn(4, 3, 16))
    state.truncate(40)
    assert state.lengths.tolist() == [0]


BLOCKS = """
pattern blocks(n = 45, top = 3) {
    space tokens[n]
    coord chunk = i // 8
    route past = topk(top, dot(q, mean(k by chunk))) where k.chunk < q.chunk
    attend causal and (past or same(chunk))
}
"""


def test_mistakes() -> None:
    attention = load("moba", N, "moba", block=8, top=3).compile("tiled")
    state = attention.routing_state(3)
    q, k = torch.randn(3, 4, 1, 16), torch.randn(3, 2, N, 16)
    with pytest.raises(AttnError, match="E455"):
        load("knn", N, "knn", top=5).compile("tiled")(q, k, k, query_start=3, routing_state=state)
    pattern = maskdsl.parse(BLOCKS)["blocks"]
    other = pattern.bind(heads=4).compile("tiled").routing_state(3)
    with pytest.raises(AttnError, match="E455"):
        pattern.bind(heads=4, top=2).compile("tiled")(q, k, k, query_start=3, routing_state=other)
    with pytest.raises(AttnError, match="E458"):
        attention(q[:2], k[:2], k[:2], query_start=3, routing_state=state)
    with pytest.raises(AttnError, match="E458"):
        state.append(k[:1])
    with pytest.raises(AttnError, match=r"E432.*`lengths`"):
        state.truncate([1, 2])
    with pytest.raises(AttnError, match=r"E431.*`lengths`"):
        state.truncate(1.5)
    with pytest.raises(AttnError, match=r"E411.*`nothing`"):
        state.update(k, nothing=3)
    state.append(k)
    with pytest.raises(AttnError, match="46 keys"):
        state.append(k[:, :, :1])
    pooled = "pattern p(n = 8) { space t[n] space c = mean(t, 2) queries t keys t ++ c attend all -> all }"
    with pytest.raises(AttnError, match="E454"):
        maskdsl.parse(pooled)["p"].bind().compile().routing_state()
    assert not MODULE["two"].bind(heads=4).compile().routing_state(2).lengths.any()


def test_another_default_device_has_no_say() -> None:
    """Where candidates are all there are: a constant of generated code, which once stood on that device."""
    mask = maskdsl.load("examples/routing/biformer.attn")["biformer"].bind(h=8, w=1, regions=1, top=22, heads=2)
    attention = mask.compile()
    q, k, v = (torch.randn(3, 2, 8, 16) for _ in "qkv")
    expected = attention(q, k, v)
    with torch.device("meta"):
        found = attention(q, k, v, routing_state=attention.routing_state(3))
    torch.testing.assert_close(found, expected)
