"""Keys that are pooled from those given, on the torch backends: against loops, at borders, with gradients."""

import copy
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import maskdsl
from maskdsl.base.diagnostics import AttnError
from maskdsl.ir.meaning.evaluate import attention
from maskdsl.ir.meaning.pooling import PoolMeaning
from maskdsl.runtime.attention import Attention
from maskdsl.runtime.compile import compile_mask

BACKENDS = ["tiled", "reference"]
TEXT = """
pattern plain(h = 7, w = 9, box = (2, 4)) {
    space image[y = h, x = w]
    space coarse = mean(image, box)
    queries image
    keys coarse
    attend all -> all
}
pattern largest(h = 7, w = 9, box = (2, 4)) {
    space image[y = h, x = w]
    space coarse = max(image, box)
    queries image
    keys coarse
    attend all -> all
}
pattern mixed(h = 7, w = 9, box = (2, 4)) {
    space text[5]
    space image[y = h, x = w]
    space coarse = mean(image, box)
    space words = max(text, 2)
    space top = max(coarse, 2)
    input gate: float[heads, coarse]
    input mark: int[batch, keys]
    queries image
    keys words ++ top ++ text ++ image ++ coarse
    attend (image -> image where window((3, 3))) or head == 1
    attend image -> coarse where q.y // box[0] != k.y
    attend (image -> words where k.words > 0) or q.x > 3
    attend image -> top
    attend image -> text where k.mark > 1
    score s + (k.gate if image -> coarse else 0.0)
    order image by hilbert(y, x)
    order coarse by -y, x
}
pattern causal_blocks(n = 50, block = 8) {
    space tokens[n]
    space past = mean(tokens, block)
    queries tokens
    keys tokens ++ past
    attend tokens -> tokens where causal and q // block == k // block
    attend tokens -> past where k.past < q // block
}
"""
MODULE = maskdsl.parse(TEXT)
SIZES = [
    {"h": 7, "w": 9, "box": (2, 4)},
    {"h": 1, "w": 9, "box": (1, 3)},
    {"h": 5, "w": 1, "box": 4},
    {"h": 4, "w": 6, "box": (9, 100)},
    {"h": 3, "w": 3, "box": 1},
]


def drawn(mask: maskdsl.Mask, batch: int, key_heads: int) -> dict[str, Tensor]:
    """q, k, v and the inputs, in float64; k and v are not contiguous."""
    q = torch.randn(batch, mask.heads, mask.query_length, 6).double()
    k, v = (torch.randn(batch, mask.given_key_length, key_heads, 12).double()[..., ::2].transpose(1, 2) for _ in "kv")
    tensors = {"q": q, "k": k, "v": v}
    for each in mask.inputs:
        shape = [dimension.size or batch for dimension in each.dimensions]
        tensors[each.name] = torch.randn(shape).double() if each.name == "gate" else torch.randint(0, 4, shape)
    return tensors


def pooled_by_loops(x: np.ndarray, lengths: tuple[int, ...], box: tuple[int, ...], function: Any) -> np.ndarray:
    """[tokens, dim] to [boxes, dim], box by box."""
    grid = x.reshape(*lengths, -1)
    counts = [range(-(-length // side)) for length, side in zip(lengths, box, strict=True)]
    parts = []
    for position in product(*counts):
        cut = tuple(slice(at * side, (at + 1) * side) for at, side in zip(position, box, strict=True))
        parts.append(function(grid[cut].reshape(-1, grid.shape[-1]), axis=0))
    return np.array(parts)


@pytest.mark.parametrize("sizes", SIZES)
def test_the_meaning_is_that_of_loops(sizes: dict[str, Any]) -> None:
    mask = MODULE["mixed"].bind(heads=2, **sizes)
    words, top, text, image, coarse = mask.ir.keys.spaces
    assert [space.name for space in mask.ir.keys.given] == ["text", "image"]
    x = np.random.default_rng(0).normal(size=(mask.given_key_length, 3))
    parts = {"text": x[:5], "image": x[5:]}
    for space, function in ((words, np.max), (coarse, np.mean), (top, np.max)):
        assert space.pooling is not None
        source = space.pooling.source
        parts[space.name] = pooled_by_loops(parts[source.name], source.lengths, space.pooling.pools.sides, function)
    expected = np.concatenate([parts[space.name] for space in (words, top, text, image, coarse)])
    np.testing.assert_allclose(PoolMeaning(mask.ir, {}).all_tokens(mask.ir.keys, x), expected)
    assert len(expected) == mask.key_length


@pytest.mark.thinned(3, "backend", "key_heads", "name", "sizes")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("key_heads", [1, 2, 4])
@pytest.mark.parametrize("name", ["plain", "largest", "mixed"])
@pytest.mark.parametrize("sizes", SIZES)
def test_results_and_gradients(name: str, sizes: dict[str, Any], key_heads: int, backend: str) -> None:
    """Against the oracle; gradients against attention over keys that were pooled before."""
    mask = MODULE[name].bind(heads=4, **sizes)
    tensors = drawn(mask, 2, key_heads)
    out, lse = mask.compile(backend)(**tensors, return_lse=True)
    q, k, v = (tensors.pop(each) for each in "qkv")
    inputs = {name: x.numpy() for name, x in tensors.items()}
    expected, expected_lse = attention(mask.ir, q.numpy(), k.numpy(), v.numpy(), inputs)
    torch.testing.assert_close(out, torch.tensor(expected))
    torch.testing.assert_close(lse, torch.tensor(expected_lse))

    leaves = {name: x.clone().requires_grad_() for name, x in (("q", q), ("k", k), ("v", v))}
    leaves |= {name: x.clone().requires_grad_(x.is_floating_point()) for name, x in tensors.items()}
    found = gradients(mask.compile(backend), leaves)
    whole = {name: by_hand(mask, x) if name in "kv" else x for name, x in leaves.items()}
    for one, other in zip(found, gradients(unpooled(mask), whole, leaves), strict=True):
        torch.testing.assert_close(one, other)


def gradients(attend: Any, given: dict[str, Tensor], leaves: dict[str, Tensor] | None = None) -> Any:
    out, lse = attend(**given, return_lse=True)
    toward = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    loss = (out * toward).sum() + (lse * toward[..., 0])[lse.isfinite()].sum()
    return torch.autograd.grad(loss, [x for x in (leaves or given).values() if x.requires_grad])


def by_hand(mask: maskdsl.Mask, x: Tensor) -> Tensor:
    """All keys, from those given, by indices, boxes one by one."""
    starts, found = 0, {}
    for space in mask.ir.keys.given:
        found[space] = x[:, :, starts : starts + space.size]
        starts += space.size

    def tokens(space: Any) -> Tensor:
        if space.pooling is None:
            return found[space]
        source = space.pooling.source
        values, positions = tokens(source), np.arange(source.size).reshape(source.lengths)
        boxes = [range(0, length, side) for length, side in zip(source.lengths, space.pooling.pools.sides, strict=True)]
        cuts = [
            positions[
                tuple(slice(at, at + side) for at, side in zip(start, space.pooling.pools.sides, strict=True))
            ].ravel()
            for start in product(*boxes)
        ]
        largest = space.pooling.kind == "max"
        parts = [values[:, :, cut].amax(2) if largest else values[:, :, cut].mean(2) for cut in cuts]
        return torch.stack(parts, dim=2)

    return torch.cat([tokens(space) for space in mask.ir.keys.spaces], dim=2)


def unpooled(mask: maskdsl.Mask) -> Attention:
    """The same mask over keys that are all given."""
    spaces = tuple(replace(space, pooling=None) for space in mask.ir.keys.spaces)
    return compile_mask(replace(mask.ir, keys=replace(mask.ir.keys, spaces=spaces)), "reference")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["plain", "largest"])
def test_gradients_by_differences(name: str, backend: str) -> None:
    mask = MODULE[name].bind(h=3, w=5, box=(2, 2))
    tensors = [x.requires_grad_() for x in drawn(mask, 1, 1).values()]
    assert torch.autograd.gradcheck(mask.compile(backend), tensors)


def test_the_gradient_of_a_maximum_is_shared_evenly() -> None:
    attend = MODULE["largest"].bind(h=2, w=2, box=2).compile("tiled")
    q, k = torch.zeros(1, 1, 4, 1), torch.zeros(1, 1, 4, 1)
    v = torch.tensor([2.0, 2.0, 1.0, 2.0]).view(1, 1, 4, 1).requires_grad_()
    attend(q, k, v).sum().backward()
    assert v.grad is not None
    torch.testing.assert_close(v.grad.flatten() / 4, torch.tensor([1, 1, 0, 1]) / 3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_box_with_nan_that_nobody_attends_changes_no_gradient(backend: str) -> None:
    text = "pattern p() { space a[6] space m = max(a, 2) queries a keys a ++ m attend a -> a where k != 3"
    attention = maskdsl.parse(text + " attend a -> m where k.m != 1 }")["p"].bind().compile(backend)
    found = []
    for hidden in (0.5, torch.nan):
        torch.manual_seed(0)
        q, k, v = torch.randn(3, 1, 1, 6, 4, dtype=torch.float64)
        k[:, :, 3] = v[:, :, 3] = hidden
        tensors = [x.requires_grad_() for x in (q, k, v)]
        found.append(torch.autograd.grad(attention(*tensors).sin().sum(), tensors))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_short_types_are_pooled_in_float32() -> None:
    """One query that attends one mean gets it, rounded once."""
    attend = maskdsl.parse(
        "pattern p(n) { space t[n]  space m = mean(t, n)  space one[1]  queries one  keys m  attend all -> all }"
    )["p"].bind(n=1001)
    x = 1 + torch.rand(1, 1, 1001, 3).bfloat16()
    out = attend.compile("reference")(x[:, :, :1], x, x)
    torch.testing.assert_close(out, x.float().mean(2, keepdim=True).bfloat16(), rtol=0, atol=0)


def test_torch_compile_has_no_graph_breaks() -> None:
    mask = MODULE["mixed"].bind(heads=2)
    attend, tensors = mask.compile("tiled"), drawn(mask, 2, 1)
    compiled = torch.compile(lambda given: attend(**given), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(tensors), attend(**tensors))


def test_vmap_and_copies() -> None:
    attend = copy.deepcopy(MODULE["plain"].bind(heads=2).compile("tiled"))
    q, k, v = (x.unflatten(0, (3, 2)) for x in drawn(MODULE["plain"].bind(heads=2), 6, 2).values())
    found = torch.vmap(attend)(q, k, v)
    torch.testing.assert_close(found, torch.stack([attend(*each) for each in zip(q, k, v, strict=True)]))


def test_equal_patterns_but_for_the_pooling_are_not_mistaken() -> None:
    plain, largest = (MODULE[name].bind() for name in ("plain", "largest"))
    tensors = drawn(plain, 1, 1)
    assert plain.compile("tiled")._compiled.handle != largest.compile("tiled")._compiled.handle
    assert not torch.equal(plain.compile("tiled")(**tensors), largest.compile("tiled")(**tensors))


def test_lengths_may_follow_tensors() -> None:
    follows = MODULE["causal_blocks"].compile("tiled", heads=2, block=8)
    for n in (1, 8, 21):
        mask = MODULE["causal_blocks"].bind(n=n, heads=2)
        tensors = drawn(mask, 1, 1)
        torch.testing.assert_close(follows(**tensors), mask.compile("reference")(**tensors))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("paged", [False, True])
def test_only_tokens_that_are_there_are_pooled(backend: str, paged: bool) -> None:
    """With `key_lengths` each entry gives what a pattern of its own length gives, whatever lies behind."""
    mask, lengths = MODULE["causal_blocks"].bind(heads=2), torch.tensor([50, 1, 20, 24])
    q, k, v = drawn(mask, 4, 1).values()
    k, v = (x.masked_fill((torch.arange(50) >= lengths[:, None])[:, None, :, None], torch.nan) for x in (k, v))
    expected = []
    for entry, length in enumerate(lengths.tolist()):
        own = MODULE["causal_blocks"].bind(n=length, heads=2).compile("reference")
        x = q[entry : entry + 1, :, :length], k[entry : entry + 1, :, :length], v[entry : entry + 1, :, :length]
        expected.append(own(*x)[:, :, -1:])
    rows = q.take_along_dim((lengths - 1).view(4, 1, 1, 1), dim=2)
    where: dict[str, Any] = {"query_start": lengths - 1, "key_lengths": lengths}
    if paged:  # 5 pages of 10 keys an entry, in any order
        where["page_table"] = torch.randperm(20).view(4, 5)
        positions = where["page_table"].flatten()
        k, v = (
            torch.empty(20, 1, 10, 6)
            .double()
            .index_copy(0, positions, x.unflatten(2, (5, 10)).movedim(2, 1).flatten(0, 1))
            for x in (k, v)
        )
    found = mask.compile(backend)(rows, k, v, **where)
    torch.testing.assert_close(found, torch.cat(expected))


def test_chunks_with_gradients() -> None:
    """The first keys alone are given: the boxes of the others are there for nobody."""
    text = "pattern p(n) { space t[n]  space m = max(t, 4)  queries t  keys m ++ t  attend all -> all }"
    module = maskdsl.parse(text)
    whole, part = module["p"].bind(n=30), module["p"].bind(n=13)
    q, k, v = (x[:, :, :13].clone().requires_grad_() for x in drawn(whole, 1, 1).values())
    found = torch.autograd.grad(whole.compile("tiled")(q, k, v, query_start=0).square().sum(), (q, k, v))
    expected = torch.autograd.grad(part.compile("tiled")(q, k, v).square().sum(), (q, k, v))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_emitted_modules_pool() -> None:
    """The text alone, in a module of its own."""
    mask = MODULE["plain"].bind()
    names: dict[str, Any] = {}
    exec(compile(mask.compile("reference").source, "plain.py", "exec"), names)
    q, k, v = drawn(mask, 2, 1).values()
    out, _ = names["attention"](q, *(names["with_pooled_keys"](x, {})[0] for x in (k, v)), {})
    torch.testing.assert_close(out, mask.compile("tiled")(q, k, v))


@pytest.mark.parametrize(
    ("code", "call"),
    [
        ("E407", lambda mask, q, k, v: mask.compile("tiled")(q, k[:, :, 1:], v[:, :, 1:])),
        (
            "E437",
            lambda mask, q, k, v: mask.compile("tiled")(q, torch.cat((k, k), 2), torch.cat((v, v), 2), query_start=0),
        ),
        ("E443", lambda mask, q, k, v: mask.compile("tiled").varlen(q[0].mT, k[0].mT, v[0].mT, torch.tensor([0, 9]))),
        ("E444", lambda mask, q, k, v: mask.with_order("coarse by x").compile("tiled")(q, k, v, layout="ordered")),
    ],
)
def test_mistakes(code: str, call: Any) -> None:
    mask = MODULE["plain"].bind()
    with pytest.raises(AttnError) as raised:
        call(mask, *drawn(mask, 1, 1).values())
    assert [each.code for each in raised.value.diagnostics][:1] == [code], str(raised.value)
