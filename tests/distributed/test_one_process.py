"""Plans on a group of one process: the methods, layouts, and what is refused."""

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

import maskdsl
from maskdsl import AttnError, Mask

PATTERNS = """
pattern local(n = 300) {
    space tokens[n]
    attend window(50)
}
pattern pooled(n = 256) {
    space tokens[n]
    space blocks = mean(tokens, 32)
    queries tokens
    keys tokens ++ blocks
    attend tokens -> tokens where window(20)
    attend tokens -> blocks
}
pattern documents(n = 200) {
    space tokens[n]
    input document: int[batch, tokens]
    attend same(document)
}
pattern by_key(n = 100) {
    space tokens[n]
    attend causal
    normalize softmax by k
}
pattern by_key_in_a_branch(n = 100) {
    space tokens[n]
    branch one {
        attend causal
    }
    branch other {
        attend window(9)
        normalize softmax by k
    }
}
pattern changed_inputs(n = 60) {
    space tokens[n]
    input rate: float[key_heads, tokens]
    input slope: float[heads]
    input worth: float[batch, tokens]
    attend causal and q.worth > k.worth - 2.0
    score s * sqrt(dim) + rate[key_head, k] + slope[head] * float(q - k)
}
pattern routed(n = 96) {
    space tokens[n]
    coord chunk = i // 8
    route past = topk(2, dot(q, mean(k by chunk))) where k.chunk < q.chunk
    attend past or same(chunk)
}
pattern across(n = 100, m = 80) {
    space text[n]
    space image[m]
    queries text
    keys image
    attend q.text // 10 == k.image // 8
}
"""


def _mask(name: str, **values: int) -> Mask:
    return maskdsl.parse(PATTERNS)[name].bind(heads=2, **values)


def _tensors(mask: Mask) -> tuple[torch.Tensor, ...]:
    queries, keys = mask.given_query_length, mask.given_key_length
    return tuple(torch.randn(3, 2, length, 16) for length in (queries, keys, keys))


@pytest.mark.parametrize("layout", ["bhnd", "bnhd"])
def test_one_process_computes_all(group: dist.ProcessGroup, layout: str) -> None:
    mask = _mask("local")
    attention, cp = mask.compile(layout=layout), mask.shard(1).on(init_device_mesh("cpu", (1,)))
    q, k, v = _tensors(mask)
    if layout == "bnhd":
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    for given, expected in zip(
        cp.attend(attention, q, k, v, return_lse=True), attention(q, k, v, return_lse=True), strict=True
    ):
        torch.testing.assert_close(given, expected)


def test_tokens_are_rolled_along_the_sequence(group: dist.ProcessGroup) -> None:
    mask = _mask("local")
    cp, x = mask.shard(1).on(group), torch.randn(2, 300, 5)
    assert torch.equal(cp.gather(cp.roll(cp.scatter(x, 1), -1, 1), 1), x.roll(-1, 1))


def test_attention_follows_the_lengths_of_the_plan(group: dist.ProcessGroup) -> None:
    mask = _mask("local", n=280)
    attention = maskdsl.parse(PATTERNS)["local"].compile(heads=2)
    q, k, v = _tensors(mask)
    torch.testing.assert_close(mask.shard(1).on(group).attend(attention, q, k, v), attention(q, k, v))


def test_as_many_processes_as_ranks(group: dist.ProcessGroup) -> None:
    with pytest.raises(AttnError, match="the plan is for 2 processes, but the group has 1"):
        _mask("local").shard(2).on(group)
    with pytest.raises(AttnError, match="the mesh has 2 dimensions"):
        _mask("local").shard(1).on(init_device_mesh("cpu", (1, 1)))


@pytest.mark.parametrize("wrong", ["cp", None, 1], ids=str)
def test_no_group(wrong: Any) -> None:
    """As `dist.group.WORLD` is None before there are processes."""
    with pytest.raises(AttnError, match=rf"E460.*`group` is {wrong!r}"):
        _mask("local").shard(1).on(wrong)


def test_no_attention(group: dist.ProcessGroup) -> None:
    mask = _mask("local")
    cp, attention, vectors = mask.shard(1).on(group), mask.compile(), _tensors(mask)
    for wrong in (mask, attention.forward, attention.prepare()):
        with pytest.raises(AttnError, match=r"E460.*`attention` is"):
            cp.attend(wrong, *vectors)


def test_other_patterns_and_lengths(group: dist.ProcessGroup) -> None:
    mask = _mask("local")
    cp, (q, k, v) = mask.shard(1).on(group), _tensors(mask)
    with pytest.raises(AttnError, match="the attention is of `local`, but the plan has"):
        cp.attend(_mask("local", n=200).compile(), q, k, v)
    changed = maskdsl.parse(PATTERNS.replace("window(50)", "window(71)"))["local"].bind(heads=2)
    with pytest.raises(AttnError, match="the attention is of `local`, but the plan has"):
        cp.attend(changed.compile(), q, k, v)
    with pytest.raises(AttnError, match="299 tokens, but the plan has 300"):
        cp.attend(mask.compile(), q[:, :, 1:], k, v)
    with pytest.raises(AttnError, match="299 tokens, but the plan has 300"):
        cp.scatter(q[:, :, 1:], 2)


@pytest.mark.parametrize("write", ["torch", "numpy", "inference"])
def test_inputs_that_are_written_into(group: dist.ProcessGroup, write: str) -> None:
    """A plan has copies, and each call compares the values."""
    mask = _mask("documents")
    attention, (q, k, v) = mask.compile(), _tensors(mask)
    with torch.inference_mode(write == "inference"):
        document = torch.arange(200).expand(3, -1) // 70
        cp = mask.shard(1, document=document).on(group)
        for _ in range(2):
            cp.attend(attention, q, k, v, document=document)
        if write == "numpy":
            document.numpy()[:] //= 2
        else:
            document.floor_divide_(2)
        with pytest.raises(AttnError, match="`document` decides which keys are needed"):
            cp.attend(attention, q, k, v, document=document)


@pytest.mark.parametrize("name", ["by_key", "pooled"])
def test_what_needs_more_than_the_keys_of_queries(group: dist.ProcessGroup, name: str) -> None:
    mask = _mask(name)
    attention, (q, k, v) = mask.compile(), _tensors(mask)
    torch.testing.assert_close(mask.shard(1).on(group).attend(attention, q, k, v), attention(q, k, v))


def test_inputs_are_those_that_were_planned_for(group: dist.ProcessGroup) -> None:
    mask = _mask("documents")
    attention, (q, k, v) = mask.compile(), _tensors(mask)
    document = torch.arange(200).expand(3, -1) // 70
    cp = mask.shard(1, document=document).on(group)
    for _ in range(2):
        torch.testing.assert_close(
            cp.attend(attention, q, k, v, document=document), attention(q, k, v, document=document)
        )
    with pytest.raises(AttnError, match="`document` decides which keys are needed, but the plan has other values"):
        cp.attend(attention, q, k, v, document=document // 2)
    changed = document.clone()
    cp.attend(attention, q, k, v, document=changed)
    changed[0, 0] = 2
    with pytest.raises(AttnError, match="`document` decides which keys are needed"):
        cp.attend(attention, q, k, v, document=changed)
    with pytest.raises(AttnError, match="document"):
        cp.attend(attention, q, k, v)
    with pytest.raises(AttnError, match="documents"):
        cp.attend(attention, q, k, v, document=document, documents=document)


def test_inputs_are_given_as_in_one_process(group: dist.ProcessGroup) -> None:
    """By key head, with sides of size 1, and NaN in those that decide."""
    mask = maskdsl.parse(PATTERNS)["changed_inputs"].bind(heads=4, key_heads=2)
    attention, (q, k, v) = mask.compile(), torch.randn(3, 3, 4, 60, 16).unbind()
    k, v = k[:, :2], v[:, :2]
    worth = torch.randn(1, 60)
    worth[0, 7] = torch.nan
    inputs = {"rate": torch.randn(2, 60), "slope": torch.randn(1), "worth": worth}
    cp = mask.shard(1, **inputs).on(group)
    torch.testing.assert_close(cp.attend(attention, q, k, v, **inputs), attention(q, k, v, **inputs))
    inputs |= {"rate": torch.randn(2, 60), "worth": worth.expand(3, 60)}  # which decides as before
    torch.testing.assert_close(cp.attend(attention, q, k, v, **inputs), attention(q, k, v, **inputs))
    with pytest.raises(AttnError, match="`worth` decides which keys are needed"):
        cp.attend(attention, q, k, v, **(inputs | {"worth": worth + 1}))
    with pytest.raises(AttnError, match="`worth` decides which keys are needed"):
        cp.attend(attention, q, k, v, **(inputs | {"worth": worth[0]}))


def test_routes_select_what_was_planned_for(group: dist.ProcessGroup) -> None:
    mask = _mask("routed")
    attention, (q, k, v) = mask.compile(), _tensors(mask)
    expected = attention(q, k, v)
    torch.testing.assert_close(mask.shard(1).on(group).attend(attention, q, k, v), expected)  # whatever they select
    cp = mask.shard(1, q=q, k=k).on(group)
    torch.testing.assert_close(cp.attend(attention, q, k, v), expected)
    with pytest.raises(AttnError, match=r"`past` decides which keys are needed[^$]*plan without `q` and `k`"):
        cp.attend(attention, -q, k, v)


def test_lists_are_given_as_in_one_process(group: dist.ProcessGroup) -> None:
    """With numbers of their entries, in the order of the lists."""
    text = "input edge: sparse[tokens, tokens] input length: float[edge] attend edge[q, k] score s + length[q, k]"
    mask = maskdsl.parse(f"pattern edges(n = 50) {{ space tokens[n] {text} }}")["edges"].bind(heads=2)
    edges, length = torch.randint(0, 50, (2, 200)).unique(dim=1).flip(1), torch.randn(200, dtype=torch.float64)
    given = {"edge": edges, "length": length[: edges.shape[1]].requires_grad_()}
    q, k, v = torch.randn(3, 2, 2, 50, 8, dtype=torch.float64).unbind()
    attention, cp = mask.compile("tiled"), mask.shard(1, block=8, edge=edges).on(group)
    local = [cp.scatter(x, 2) for x in (q, k, v)]
    found, expected = cp.gather(cp.attend(attention, *local, **given), 2), attention(q, k, v, **given)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    grads = [torch.autograd.grad(x.sin().sum(), given["length"])[0] for x in (found, expected)]
    torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-12)
