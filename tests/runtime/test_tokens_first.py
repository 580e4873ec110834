"""`layout="bnhd"`: tokens before heads, and grids with their axes, held against torch's attention and "bhnd"."""

import copy
import pickle
from functools import partial

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode

import maskdsl
from maskdsl.nn import SelfAttention

CPU = ("tiled", "reference")
SPACES = {
    "a line": ("space tokens[n = 23] attend window(7)", (23,), (23,)),
    "an image": ("space image[y = 5, x = 7] attend neighborhood((3, 5))", (5, 7), (5, 7)),
    "a video": ("space video[t = 2, y = 3, x = 5] attend window(3, axis = x)", (2, 3, 5), (2, 3, 5)),
    "four axes": ("space a[s = 2, t = 2, y = 3, x = 4] attend window(3, axis = y)", (2, 2, 3, 4), (2, 2, 3, 4)),
    "an image in order": ("space image[y = 5, x = 7] attend window((3, 3)) order image by x, y", (5, 7), (5, 7)),
    "an image that attends text": (
        "space image[y = 4, x = 6] space text[9] queries image keys text attend k.text <= q.x",
        (4, 6),
        (9,),
    ),
    "pooled keys": (
        "space image[y = 4, x = 6] space coarse = mean(image, (2, 2)) queries image keys image ++ coarse "
        "attend image -> coarse attend image -> image where window((3, 3))",
        (4, 6),
        (4, 6),
    ),
}


def bound(statements, heads=4):
    return maskdsl.parse(f"pattern p() {{ {statements} }}")["p"].bind(heads=heads)


def tensors(queries, keys, key_heads=2, dtype=torch.float64):
    """q, k, v and gradients of the output and of the log-sum-exp, tokens first."""
    shapes = (*queries, 4, 8), (*keys, key_heads, 8), (*keys, key_heads, 6), (*queries, 4, 6), (*queries, 4)
    return [torch.randn(3, *shape, dtype=dtype) for shape in shapes]


def heads_first(x, count):
    """x with one axis of tokens, behind the heads."""
    return x.flatten(1, count).transpose(1, 2)


@pytest.mark.parametrize("backend", CPU)
@pytest.mark.parametrize("name", SPACES)
def test_results_and_gradients(name, backend):
    statements, queries, keys = SPACES[name]
    mask = bound(statements)
    given = [x.requires_grad_() for x in tensors(queries, keys)[:3]]
    *_, grad, grad_lse = tensors(queries, keys)
    out, lse = mask.compile(backend, layout="bnhd")(*given, return_lse=True)
    assert out.shape == (3, *queries, 4, 6) and lse.shape == (3, *queries, 4)
    found = torch.autograd.grad((out, lse), given, (grad, grad_lse.to(lse.dtype)))

    plain = [heads_first(x, len(axes)) for x, axes in zip(given, (queries, keys, keys), strict=True)]
    expected, expected_lse = mask.compile(backend)(*plain, return_lse=True)
    torch.testing.assert_close(heads_first(out, len(queries)), expected, rtol=0, atol=0)
    torch.testing.assert_close(heads_first(lse, len(queries)), expected_lse, rtol=0, atol=0)
    grads = heads_first(grad, len(queries)), heads_first(grad_lse, len(queries)).to(lse.dtype)
    wanted = torch.autograd.grad((expected, expected_lse), given, grads)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)
    if mask.key_length == mask.given_key_length:
        seen = torch.tensor(mask.dense())
        q, k, v = plain
        theirs = scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=True)
        torch.testing.assert_close(heads_first(out, len(queries)), theirs.nan_to_num())


class Copies(TorchDispatchMode):
    """Counts what copies tensors outside of attention."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.name())
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("axes", [(23,), (5, 7)])
def test_nothing_is_copied(axes):
    statements = SPACES["a line" if len(axes) == 1 else "an image"][0]
    attention = bound(statements).compile(layout="bnhd")
    qkv = torch.randn(2, *axes, 3, 4, 8)
    with Copies() as seen, torch.no_grad():
        out = attention(*qkv.unbind(-3))
    assert "maskdsl::attention" in seen.names
    assert not [name for name in seen.names if "clone" in name or "copy" in name or "contiguous" in name]
    assert heads_first(out, len(axes)).is_contiguous()


@pytest.mark.parametrize("backend", CPU)
def test_parts_and_pages(backend):
    mask = bound("space tokens[n = 40] attend causal and backward(9)", heads=2)
    attention = mask.compile(backend, layout="bnhd")
    q, k, v = torch.randn(3, 2, 40, 2, 8, dtype=torch.float64)
    whole, whole_lse = attention(q, k, v, return_lse=True)
    some, lse = attention(q[:, 20:23], k[:, :23], v[:, :23], query_start=20, return_lse=True)
    torch.testing.assert_close(some, whole[:, 20:23])
    torch.testing.assert_close(lse, whole_lse[:, 20:23])
    table = torch.randperm(10).reshape(2, 5)
    pages = torch.zeros(2, 10, 8, 2, 8, dtype=torch.float64)  # of k and of v: [pages, page size, key heads, head dim]
    for cache, x in zip(pages, (k, v), strict=True):
        cache[table] = x.unflatten(1, (5, 8))
    last = attention(q[:, 30:31], *pages, query_start=30, key_lengths=31, page_table=table)
    torch.testing.assert_close(last, whole[:, 30:31])


def test_a_grid_and_its_tokens_are_the_same():
    attention = bound(SPACES["an image"][0]).compile(layout="bnhd")
    q, k, v = torch.randn(3, 1, 5, 7, 4, 8)
    out = attention(q, k, v)
    flat = attention(q.flatten(1, 2), k, v.flatten(1, 2))
    torch.testing.assert_close(flat, out.flatten(1, 2), rtol=0, atol=0)
    text = bound("space text[3] space image[y = 4, x = 5] tokens text ++ image attend all -> text")
    assert text.compile(layout="bnhd")(*torch.randn(3, 1, 23, 4, 8)).shape == (1, 23, 4, 8)


def test_lengths_that_follow_tensors():
    pattern = maskdsl.parse("pattern p(n = 8) { space tokens[n] attend causal }")["p"]
    attention, plain = pattern.compile(heads=2, layout="bnhd"), pattern.compile(heads=2)
    for n in (5, 9):
        q, k, v = torch.randn(3, 2, n, 2, 4)
        torch.testing.assert_close(attention(q, k, v), plain(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2))
    assert attention.at(5).layout == attention.layout == "bnhd"
    with pytest.raises(maskdsl.AttnError, match="E493"):
        attention(*torch.randn(3, 2, 3, 3, 2, 4))


def test_one_graph():
    attention = bound(SPACES["an image"][0]).compile(layout="bnhd")
    q, k, v = torch.randn(3, 2, 5, 7, 4, 8, requires_grad=True).unbind()
    run = torch.compile(partial(attention, return_lse=True), backend="aot_eager", fullgraph=True)
    for one, other in zip(run(q, k, v), attention(q, k, v, return_lse=True), strict=True):
        torch.testing.assert_close(one, other)
        (one_grad,), (other_grad,) = (torch.autograd.grad(x.sum(), q, retain_graph=True) for x in (one, other))
        torch.testing.assert_close(one_grad, other_grad)


def test_routes_and_their_states():
    text = "space tokens[n = 32] coord c = i // 8 route r = topk(1, dot(q, mean(k by c))) where k.c < q.c"
    mask = bound(f"{text} attend causal and (r or same(c))", heads=2)
    attention = mask.compile(layout="bnhd")
    q, k, v = torch.randn(3, 1, 32, 2, 8)
    state = attention.routing_state()
    state.append(k[:, :30])
    assert state.lengths.tolist() == [30]
    out = attention(q[:, 30:], k, v, query_start=30, routing_state=state)
    torch.testing.assert_close(out, attention(q, k, v)[:, 30:])
    again = pickle.loads(pickle.dumps(state))
    again.truncate(0)
    again.update(k)
    assert again.lengths.tolist() == [32]


def test_other_callers_get_the_layout_that_they_use():
    mask = bound("space tokens[n = 12] attend causal", heads=2)
    attention = mask.compile(layout="bnhd")
    torch.manual_seed(0)
    layer = SelfAttention(8, 2, attention)
    torch.manual_seed(0)
    torch.testing.assert_close(layer(torch.ones(1, 12, 8)), SelfAttention(8, 2, mask)(torch.ones(1, 12, 8)))
    q, k, v = torch.randn(3, 1, 2, 12, 4)
    starts = torch.zeros(1, 12, dtype=torch.bool)
    starts[:, [0, 5]] = True
    found, expected = (maskdsl.packed_attention(each, q, k, v, starts)[0] for each in (attention, mask.compile()))
    torch.testing.assert_close(found, expected)
    q, k, v = torch.randn(3, 12, 2, 4)
    ends = torch.tensor([0, 5, 12])
    torch.testing.assert_close(attention.varlen(q, k, v, ends), mask.compile().varlen(q, k, v, ends))


def test_copies_and_names():
    mask = bound(SPACES["an image"][0])
    attention = mask.compile(layout="bnhd")
    assert "layout='bnhd'" in repr(attention) and "layout" not in repr(mask.compile())
    q, k, v = torch.randn(3, 1, 5, 7, 4, 8)
    for other in (pickle.loads(pickle.dumps(attention)), copy.deepcopy(attention), mask.compile().in_layout("bnhd")):
        torch.testing.assert_close(other(q, k, v), attention(q, k, v), rtol=0, atol=0)
    assert attention.in_layout("bnhd") is attention and attention.in_layout("bhnd").layout == "bhnd"
    stack = maskdsl.parse("pattern p(n) { space t[n] attend causal } stack s(n) = 2 * p(n)").stack("s").bind(n=4)
    assert {each.layout for each in stack.compile(layout="bnhd")} == {"bnhd"}


def test_what_does_not_fit():
    attention = bound(SPACES["an image"][0]).compile(layout="bnhd")
    image = torch.randn(1, 5, 7, 4, 8)
    with pytest.raises(maskdsl.AttnError, match=r"E493.*\(7, 4, 8\)[\s\S]*\[batch, 5, 7, heads, head dim\]"):
        attention(image[0, 0], image, image)
    with pytest.raises(maskdsl.AttnError, match=r"E494.*`k`.*\(7, 5\).*\(5, 7\)[\s\S]*found 2 errors"):
        attention(image, image.transpose(1, 2), image.transpose(1, 2))
    with pytest.raises(maskdsl.AttnError, match="E493"):
        attention(image, image, image, layout="ordered")
    with pytest.raises(maskdsl.AttnError, match=r'E471[\s\S]*"bnhd"'):
        attention(*torch.randn(3, 1, 4, 35, 8))
    with pytest.raises(maskdsl.AttnError, match=r'E460[\s\S]*"bhnd" or "bnhd"'):
        bound(SPACES["an image"][0]).compile(layout="nhbd")
    with pytest.raises(maskdsl.AttnError, match="E248"):
        maskdsl.parse("pattern p(layout = 3) { space t[layout] attend causal }")["p"].bind()
