"""Routes that select few single keys for each query give lists: the same selections, and memory that follows these."""

import gc
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import maskdsl
from maskdsl.analysis.tiles.list_bounds import BoundedList
from maskdsl.emit.plan import make_plan
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.route_meaning import with_routes
from maskdsl.ir.rewrites import listed_routes
from maskdsl.ir.rewrites.listed_routes import with_lists
from maskdsl.runtime.base.call_cache import CallStates
from maskdsl.runtime.compiled.compiled_mask import Bound
from maskdsl.runtime.kernels.route_finder import RouteFinder

N = 40
PATTERNS = maskdsl.parse("""
pattern knn(n) {
    space tokens[n]
    route best = topk(3, dot(q, k))
    attend best
}
pattern past(n, top = 7) {
    space tokens[n]
    route best = topk(top, dot(q, k)) where causal and k % 3 != 0
    attend best
}
pattern shared(n) {
    space tokens[n]
    input a: float[batch, tokens, 4]
    route best = topk(5, dot(a[batch, q], a[batch, k]))
    attend best or q < 3
}
pattern of_key_heads(n) {
    space tokens[n]
    route best = topk(4, sum(dot(q, k), heads = key_head)) where causal
    attend best and k > 1 or same(i)
}
pattern context(n) {
    space tokens[n]
    space whole = mean(tokens, n)
    queries tokens
    keys tokens ++ whole
    route best = topk(4, dot(q, k)) where tokens -> tokens
    attend best
    attend tokens -> whole
}
pattern by_key(n) {
    space tokens[n]
    route best = topk(4, dot(q, k))
    attend best
    normalize softmax by k
}
pattern branched(n) {
    space tokens[n]
    route best = topk(4, dot(q, k)) where causal
    branch near { attend causal and backward(3) }
    branch far { attend best }
    branch doubled { attend best weight 0.5 }
}
""")
UNLISTED = maskdsl.parse("""
pattern blocks(n) { space tokens[n] coord c = i // 4 route r = topk(2, dot(q, mean(k by c))) attend r }
pattern segments(n) { space tokens[n] coord c = i // 4 route r = topk(2, dot(mean(q by c), k)) attend r }
pattern counted(n) { space tokens[n] route r = topk(1 + q // 4, dot(q, k)) attend r }
pattern always(n) { space tokens[n] route r = topk(3, dot(q, k)) always same(i) attend r }
pattern heads_compete(n) { space tokens[n] route r = topk(3, dot(q, k), per = head) attend r }
pattern share(n) { space tokens[n] route r = topp(0.3, dot(q, k)) attend r }
pattern nothing(n) { space tokens[n] route r = topk(0, dot(q, k)) attend r or same(i) }
""")


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists at lengths of tests too."""
    monkeypatch.setattr(listed_routes, "_KEYS_EACH", 1)


def tensors(mask: MaskIR, batch: int = 2) -> tuple[list[torch.Tensor], dict[str, Any]]:
    """q, k and v of 4 and 2 heads, and inputs: small integers, so that many scores are equal."""
    random = torch.Generator().manual_seed(0)
    q, k, v = (torch.randint(-2, 3, (batch, heads, N, 8), generator=random).double() for heads in (4, 2, 2))
    return [q, k, v], {each.name: torch.randint(-2, 3, (batch, N, 4), generator=random).double() for each in mask.given}


def bound(name: str) -> Any:
    return PATTERNS[name].bind(n=N, heads=4, key_heads=2)


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("name", [name for name in PATTERNS if name != "branched"])
def test_both_meanings_give_the_same_list(name: str) -> None:
    mask = with_lists(bound(name).ir)
    (q, k, _), inputs = tensors(mask)
    q[0, 0, 3], k[0, 0, 5] = torch.nan, torch.nan
    assert [each.sparse for each in mask.inputs if each.name == "best"] == [True]
    finder = RouteFinder.of(make_plan(mask), CallStates())
    pooled = make_plan(mask).mask.keys.length - N
    all_keys = torch.cat([k, k.mean(dim=2, keepdim=True)], dim=2) if pooled else k
    found = dict(
        zip([each.name for each in finder.declared], finder.find(q, all_keys, [*inputs.values()]), strict=True)
    )
    expected = with_routes(mask, {name: x.numpy() for name, x in inputs.items()}, q.numpy(), k.numpy())
    assert np.array_equal(found["best"].numpy(), expected["best"])
    assert [found[each.name].shape for each in finder.declared] == [x.shape for x in finder.blank(q)]


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("name", [*PATTERNS])
def test_calls_give_what_tables_give(name: str) -> None:
    """Output, gradients, log-sum-exp and selections, against the reference, which has tables."""
    mask = bound(name)
    (q, k, v), inputs = tensors(mask.ir)
    results = []
    for backend in ("tiled", "reference"):
        leaves = [x.clone().requires_grad_() for x in (q, k, v)]
        attention = mask.compile(backend)
        out, *_, selected = attention(*leaves, **inputs, return_routes=True)
        grads = torch.autograd.grad(out, leaves, torch.ones_like(out))
        results.append((out, *grads, selected["best"]))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)
    compiled = Bound(make_plan(mask.ir), "tiled")
    assert compiled.listed is not None
    assert Bound(make_plan(mask.ir), "reference").listed is Bound(make_plan(mask.ir), "triton").listed is None


@pytest.mark.usefixtures("everywhere")
def test_graphs_and_lengths_that_follow() -> None:
    pattern = PATTERNS["past"]
    (q, k, v), _ = tensors(pattern.bind(n=N, heads=4).ir)
    expected = pattern.bind(n=N, heads=4).compile("reference")(q, k, v)
    following = pattern.compile("tiled", follow="n", heads=4)
    for attention in (pattern.bind(n=N, heads=4).compile("tiled"), following):
        torch.testing.assert_close(attention(q, k, v), expected)
        graph = torch.compile(attention, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(graph(q, k, v), expected)
    shorter = [x[:, :, :30] for x in (q, k, v)]
    torch.testing.assert_close(following(*shorter), pattern.bind(n=30, heads=4).compile("reference")(*shorter))
    part = following.at(N)(q[:, :, 20:25], k[:, :, :25], v[:, :, :25], query_start=20)
    torch.testing.assert_close(part, expected[:, :, 20:25])


@pytest.mark.usefixtures("everywhere")
def test_what_gives_tables() -> None:
    for name in UNLISTED:
        mask = UNLISTED[name].bind(n=N).ir
        assert with_lists(mask) is mask
    read = "pattern p(n) { space tokens[n] route a = topk(3, dot(q, k)) "
    read += "route b = topk(2, dot(q, k)) where not a attend a or b }"
    mask = with_lists(maskdsl.parse(read)["p"].bind(n=N).ir)
    assert {each.name: each.sparse for each in mask.inputs if each.name in "ab"} == {"a": False, "b": True}
    assert with_lists(mask) is mask


def test_queries_gather_where_there_are_lists() -> None:
    for top, keys in ((1, 64), (1, 63), (31, 1024), (32, 1024)):
        mask = PATTERNS["past"].bind(n=keys, top=top).ir
        assert (with_lists(mask) is mask) == (top * 32 >= keys - keys % 32)


MEMORY = """
import sys
import torch, maskdsl
from tests.support.memory import peak
n, heads, index_heads = 16384, int(sys.argv[2]), 2
pattern = maskdsl.load(sys.argv[1])[sys.argv[3]]
options = {"index_heads": index_heads, "width": 8} if pattern.name == "dsa" else {}
sizes = ((n, 16), (256, 4))
large, small = (pattern.bind(n=n, top=top, heads=heads, **options).compile("tiled") for n, top in sizes)
q, k, v = torch.randn(3, 1, heads, n, 8)
shapes = {"iq": (1, index_heads, n, 8), "ik": (1, n, 8), "iw": (1, index_heads, n)}
inputs = {each: torch.randn(shapes[each]) for each in large.inputs}
small(*(x[:, :, :256] for x in (q, k, v)), **{each: torch.ones(
    [256 if side == n else side for side in shapes[each]]) for each in inputs})
before = peak()
large(q, k, v, **inputs)
print(peak() - before)
"""


@pytest.mark.parametrize(("name", "heads"), [("knn", 2), pytest.param("dsa", 2, marks=pytest.mark.long)])
def test_memory_does_not_grow_with_all_pairs(name: str, heads: int) -> None:
    """A table takes 268 MB a head; blocks of scores take about 30 MB, and what follows the selection 10 MB a head."""
    file = Path(__file__).parents[2] / "examples" / "routing" / f"{name}.attn"
    ended = subprocess.run(
        [sys.executable, "-c", MEMORY, str(file), str(heads), name], capture_output=True, text=True, check=True
    )
    assert int(ended.stdout) < 130e6


def test_lists_are_freed_with_the_tiles_of_a_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """No cycle of closures keeps the entries of one head while the tiles of the next are found."""
    made: list[weakref.ref[BoundedList]] = []
    of = BoundedList.of

    def recorded(held: np.ndarray) -> BoundedList:
        gc.disable()
        assert sum(each() is not None for each in made) <= 1
        entries = of(held)
        made.append(weakref.ref(entries))
        return entries

    monkeypatch.setattr(BoundedList, "of", staticmethod(recorded))
    x = torch.randn(1, 4, 256, 8)
    try:
        maskdsl.parse("pattern p(n) { space tokens[n] route r = topk(2, dot(q, k)) attend r }")["p"].bind(
            n=256, heads=4
        ).compile("tiled")(x, x, x)
    finally:
        gc.enable()
    assert len(made) == 4
    assert not any(each() for each in made)


@pytest.mark.parametrize("values", [3, 100, 10**6])
@pytest.mark.parametrize("columns", [16 * 24, 555])
def test_columns_of_sets_are_the_best(columns: int, values: int) -> None:
    """Among many columns, few sets of which have the best; with ties, and rows of which few or none can be chosen."""
    module = RouteFinder.of(make_plan(with_lists(PATTERNS["knn"].bind(n=512).ir)), CallStates()).module
    score = torch.randint(values, (2, 3, 50, columns), generator=torch.Generator().manual_seed(0)).float()
    score[0, 0, :7, 4:] = -torch.inf
    score[0, 0, 0] = -torch.inf
    expected = module.chosen_columns(module.best(score, 5), 5)
    assert torch.equal(module.best_columns(score, 5), expected)
