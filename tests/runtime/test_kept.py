"""What is kept between calls serves all of them, whatever the call was like that made it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.nn.functional import scaled_dot_product_attention

import maskdsl
from maskdsl.runtime.backends.available import usable_backends
from maskdsl.runtime.base.kept import Kept

LENGTH, HEADS = 24, 4
BACKENDS = usable_backends()
TEXT = """
pattern shuffled(n = {n}, size = {size}) {{
    space tokens[n]
    coord z = shuffle(i, 7)
    attend causal and (backward(size) or window(size, axis = z)) if head < 2 else backward(size)
}}
"""
MODES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "inference": torch.inference_mode,
    "no gradients": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "another device": lambda: torch.device("meta"),
    "shapes alone": FakeTensorMode,
}


def mask_of(size: int) -> maskdsl.Mask:
    """One that no other test has, so that nothing of it is kept yet."""
    return maskdsl.parse(TEXT.format(n=LENGTH, size=size))["shuffled"].bind(heads=HEADS)


def padded_step(attention: maskdsl.Attention, dense: np.ndarray, key_heads: int) -> None:
    """Two sequences in pages of one token, the second of which lacks some: output and gradients are torch's own."""
    counts = torch.tensor([LENGTH, LENGTH - 5])
    q = torch.randn(2, HEADS, LENGTH, 8, dtype=torch.float64, requires_grad=True)
    k, v = (torch.randn(2, key_heads, LENGTH, 8, dtype=torch.float64, requires_grad=True) for _ in "kv")
    slots = torch.arange(LENGTH).expand(2, -1)
    there = slots < counts[:, None]
    table = torch.where(there, slots + LENGTH * torch.arange(2)[:, None], -1)
    pages = [x.transpose(1, 2).flatten(0, 1)[:, :, None] for x in (k, v)]
    out = attention(q, *pages, query_start=0, key_lengths=counts, page_table=table)
    attends = torch.as_tensor(dense) & there[:, None, None]
    expected = scaled_dot_product_attention(q, k, v, attn_mask=attends, enable_gqa=True).nan_to_num()
    real = there[:, None, :, None]
    found, right = (torch.autograd.grad((x * real).sin().sum(), (q, k, v)) for x in (out, expected))
    torch.testing.assert_close([out * real, *found], [expected * real, *right])


def dense_of(mask: maskdsl.Mask) -> np.ndarray:
    return np.stack([mask.dense(head=head) for head in range(HEADS)])


def test_handles_name_all_that_results_depend_on() -> None:
    pattern = maskdsl.parse("pattern p(n = 9, size = 3) { space t[n] attend backward(size) order by -i }")["p"]
    bindings: list[dict[str, Any]] = [{}, {"size": 5}, {"heads": 2}, {"order": "declared"}]
    handles = [pattern.bind(**each).compile("tiled")._compiled.handle for each in bindings]
    handles += [pattern.bind().compile(backend)._compiled.handle for backend in ("auto", "reference")]
    options: list[dict[str, Any]] = [*bindings, {"backend": "tiled"}, {"backend": "reference"}]
    handles += [pattern.compile(follow="n", **each)._compiled.handle for each in options]
    assert len(set(handles)) == len(handles) == 12


@pytest.mark.parametrize("key_heads", [(1, 2, 4), (2, 4, 1), (4, 1, 2)])
def test_heads_that_share_keys_are_others_in_the_next_call(key_heads: tuple[int, ...]) -> None:
    mask = mask_of(5 + key_heads[0])
    attention, dense = mask.compile(), dense_of(mask)
    for number in key_heads:
        padded_step(attention, dense, number)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("key_heads", [(1, 4), (4, 1), (2, 1)])
def test_so_they_are_in_the_next_chunk(key_heads: tuple[int, ...], backend: str) -> None:
    """Of so many queries that their rows hold those of one head."""
    mask = maskdsl.parse("pattern p(n = 48) { space t[n]  attend causal }")["p"].bind(heads=4)
    attention, dense = mask.compile(backend), mask.compile("reference")
    for number in key_heads:
        q, (k, v) = torch.randn(2, 4, 40, 8), torch.randn(2, 2, number, 48, 8)
        expected = dense(q.double(), k.double(), v.double(), query_start=8)
        torch.testing.assert_close(attention(q, k, v, query_start=8).double(), expected, rtol=1e-5, atol=1e-5)


def test_types_of_one_attention() -> None:
    attention = mask_of(6).compile()
    for dtype in (torch.float64, torch.float32, torch.float16):
        out = attention(*torch.randn(3, 1, HEADS, LENGTH, 8).to(dtype))
        assert out.dtype == dtype and not out.isnan().any()


def test_threads_share_one_attention() -> None:
    """First calls at once, and backward passes, which are in threads of their own."""
    mask = mask_of(9)
    attention, dense = mask.compile(), dense_of(mask)
    torch.manual_seed(0)
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda key_heads: padded_step(attention, dense, key_heads), (1, 2, 4, 4, 2, 1)))


@pytest.mark.parametrize("mode", MODES)
def test_training_behind_calls_in_any_mode(mode: str) -> None:
    mask = mask_of(10 + [*MODES].index(mode))
    attention = mask.compile()
    q = torch.randn(1, HEADS, LENGTH, 8, dtype=torch.float64)
    with MODES[mode]():
        x = torch.randn(q.shape, device="cpu") if mode == "shapes alone" else q
        attention(x, x, x)
        attention(x, x, x, query_start=0)
        attention.varlen(*(x[0].transpose(0, 1),) * 3, torch.tensor([0, LENGTH], device="cpu"))
    padded_step(attention, dense_of(mask), 2)


@pytest.mark.parametrize("mode", MODES)
def test_kept_tensors_are_ordinary(mode: str) -> None:
    def make() -> list[Tensor]:
        x = torch.as_tensor(np.arange(4.0))
        return [x, torch.arange(4), x[:, None] @ x[None], kept.keep("inner", lambda: x + 1)]

    kept = Kept()
    with MODES[mode]():
        kept.keep("outer", make)
    for x in kept.keep("outer", make):
        assert type(x) is Tensor and not x.is_inference() and not x.requires_grad and x.device.type == "cpu"
    assert kept.keep("outer", make)[2].dtype == torch.float64


def test_kept_tensors_have_no_level_of_transforms() -> None:
    kept = Kept()

    def function(x: Tensor) -> Tensor:
        return x * kept.keep("ones", lambda: torch.ones(3) + 1).sum()

    for transformed in (torch.vmap(function), torch.func.grad(lambda x: function(x).sum())):
        transformed(torch.ones(2))
        assert not torch._C._functorch.is_functorch_wrapped_tensor(kept.keep("ones", lambda: None))
        kept.kept.clear()


def test_a_routing_state_begun_without_gradients_goes_on() -> None:
    text = """
    pattern routed(n = 32) {
        space tokens[n]
        coord chunk = i // 4
        route past = topk(2, dot(q, mean(k by chunk))) where k.chunk < q.chunk
        attend causal and (past or same(chunk))
    }
    """
    attention = maskdsl.parse(text)["routed"].bind(heads=2).compile()
    q, k, v = torch.randn(3, 1, 2, 32, 8)
    whole = attention(q, k, v)
    state = attention.routing_state()
    for length in range(1, 33):
        with torch.inference_mode() if length % 2 else nullcontext():
            options = {"query_start": length - 1, "key_lengths": torch.tensor([length])}
            out = attention(q[:, :, length - 1 : length], k, v, routing_state=state, **options)
        torch.testing.assert_close(out, whole[:, :, length - 1 : length])
