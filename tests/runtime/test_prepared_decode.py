"""Steps of decoding that are prepared once, against calls of the attention: the same bits."""

import copy
import pickle
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import maskdsl
from maskdsl.base.diagnostics import AttnError
from maskdsl.runtime.backends.available import usable_backends

TEXT = """
pattern window(n = 90) { space t[n]  attend causal and (backward(9) or k < 2) }
pattern documents(n = 90) { space t[n]  input document: int[batch, t]  attend causal and same(document) sink 0.2 }
pattern sloped(n = 90) { space t[n]  input slope: float[heads]  attend causal score s - slope[head] * float(q - k) }
pattern sum(n = 90) { space t[n]  branch a { attend causal }  branch b { attend k == 0 } }
pattern routed(n = 90) {
    space t[n]
    coord chunk = i // 8
    route past = topk(2, dot(q, mean(k by chunk))) where k.chunk < q.chunk
    attend causal and (past or same(chunk))
}
"""
MODULE = maskdsl.parse(TEXT)
BACKENDS = usable_backends()
HEADS, DIM, BATCH = 4, 16, 3


def inputs_of(name: str) -> dict[str, Tensor]:
    match name:
        case "documents":
            return {"document": torch.randint(0, 2, (BATCH, 90)).sort(dim=1).values}
        case "sloped":
            return {"slope": torch.rand(HEADS)}
        case _:
            return {}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", list(MODULE))
@pytest.mark.parametrize("paged", [False, True])
@pytest.mark.parametrize("layout", ["bhnd", "bnhd"])
@pytest.mark.thinned(2, "backend", "name", "paged", "layout")
def test_the_same_bits(name: str, backend: str, paged: bool, layout: Any) -> None:
    """While lengths, keys, pages and queries change where they are."""
    attention = MODULE[name].bind(heads=HEADS).compile(backend, layout=layout)
    k, v = torch.randn(2, 30, 2, 10, DIM) if paged else torch.randn(2, BATCH, 2, 90, DIM)
    q, lengths = torch.randn(BATCH, HEADS, 2, DIM), torch.tensor([2, 40, 88], dtype=torch.int32)
    table = torch.randperm(27).view(BATCH, 9).int() if paged else None
    if layout == "bnhd":
        q, k, v = (x.transpose(1, 2).contiguous() for x in (q, k, v))
    given = inputs_of(name)
    state = attention.routing_state(BATCH) if name == "routed" else None
    step = attention.prepare_decode(
        q, k, v, key_lengths=lengths, page_table=table, return_lse=True, routing_state=state, **given
    )
    outs = []
    for number in range(4):
        other = torch.randn_like(q) if number % 2 else None
        out, lse = step(other)
        where: dict[str, Any] = {"query_start": lengths - 2, "key_lengths": lengths, "page_table": table}
        expected = attention(q if other is None else other, k, v, return_lse=True, **where, **given)
        if state is None:
            assert torch.equal(out, expected[0]) and torch.equal(lse, expected[1])
        torch.testing.assert_close(out, expected[0])
        outs.append(out.data_ptr())
        assert step.out is out
        lengths += torch.tensor([1, 5, 0], dtype=torch.int32)
        q.normal_()
        if state is None:
            k.normal_()
        if table is not None and state is None:
            table.copy_(torch.randperm(27).view(BATCH, 9))
    assert len(set(outs)) == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_output_and_given_starts(backend: str) -> None:
    attention, (k, v) = MODULE["window"].bind(heads=HEADS).compile(backend), torch.randn(2, 1, 2, 90, DIM)
    q, out = torch.randn(1, HEADS, 1, DIM), torch.empty(1, HEADS, 1, DIM)
    lengths, starts = torch.tensor([80]), torch.tensor([70])
    step = attention.prepare_decode(q, k, v, key_lengths=lengths, query_start=starts, out=out)
    for start in (70, 60, 3):
        starts.fill_(start)
        assert step() is out and torch.equal(out, attention(q, k, v, query_start=start, key_lengths=80))


def test_wrong_values_are_told_in_every_step() -> None:
    for backend in BACKENDS:
        attention = MODULE["window"].bind(heads=HEADS).compile(backend)
        pages, table, lengths = torch.randn(2, 4, 2, 16, DIM), torch.tensor([[0, 1]]).int(), torch.tensor([20])
        step = attention.prepare_decode(torch.randn(1, HEADS, 1, DIM), *pages, key_lengths=lengths, page_table=table)
        step()
        for length, page, says in ((33, 1, "E480.*holds 33"), (0, 1, "E436.*-1"), (20, 4, "E481.*page 4")):
            lengths.fill_(length)
            table[0, 1] = page
            with pytest.raises(AttnError, match=re.compile(says, re.DOTALL)):
                step()
        lengths.fill_(16)  # what is behind the last key may be anything
        assert step().isfinite().all()


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["window", "documents"])
def test_copies_are_prepared_anew(copied: Any, backend: str, name: str) -> None:
    """Whatever calls of the first one have made, which copies cannot take along."""
    attention, (k, v) = MODULE[name].bind(heads=HEADS).compile(backend), torch.randn(2, BATCH, 2, 90, DIM)
    q, given = torch.randn(BATCH, HEADS, 1, DIM), inputs_of(name)
    step = attention.prepare_decode(q, k, v, key_lengths=torch.tensor([2, 40, 88]), **given)
    expected = step().clone()
    other = copied(step)
    assert torch.equal(other(), expected) and torch.equal(other(q), expected)
    if copied is not copy.copy:
        given.get("document", q).zero_()
        assert torch.equal(other(), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_arrays_are_copied(backend: str) -> None:
    attention = MODULE["documents"].bind(heads=HEADS).compile(backend)
    q, (k, v) = torch.randn(BATCH, HEADS, 1, DIM), torch.randn(2, BATCH, 2, 90, DIM)
    document = inputs_of("documents")["document"].numpy()
    step = attention.prepare_decode(q, k, v, key_lengths=torch.tensor([2, 40, 88]), document=document)
    expected = step().clone()
    document[:] = 1 - document.max(axis=1, keepdims=True) - (np.arange(90) % 2)
    assert torch.equal(step(), expected)


def test_mistakes() -> None:
    attention, (k, v) = MODULE["documents"].bind(heads=HEADS).compile(), torch.randn(2, BATCH, 2, 90, DIM)
    q, lengths, document = (
        torch.randn(BATCH, HEADS, 1, DIM),
        torch.tensor([9, 9, 9]),
        inputs_of("documents")["document"],
    )
    step = attention.prepare_decode(q, k, v, key_lengths=lengths, document=document)
    for other, says in (
        (q[:1], r"E489.*\[1, 4, 1, 16\]"),
        (q.double(), "E489.*float64"),
        (q[..., :8], "E489"),
        ("q", "E415"),
    ):
        with pytest.raises(AttnError, match=re.compile(says, re.DOTALL)):
            step(other)
    with pytest.raises(AttnError, match=r"E486.*`q`"):
        step(q.clone().requires_grad_())
    with pytest.raises(AttnError, match=r"E486.*`k`"):
        attention.prepare_decode(q, k.clone().requires_grad_(), v, key_lengths=lengths, document=document)
    with pytest.raises(AttnError, match="E410"):
        attention.prepare_decode(q, k, v, key_lengths=lengths)
    with pytest.raises(AttnError, match=r"E415.*`key_lengths` is not a tensor but not given"):
        attention.prepare_decode(q, k, v, document=document)
    with pytest.raises(AttnError, match="E488"):
        attention.prepare_decode(q, k, v, key_lengths=lengths, document=document, out=q)
    step()
    document[0, 3] += 1
    with pytest.raises(AttnError, match=r"E465.*`document` has changed"):
        step()


def test_under_autocast_as_the_attention() -> None:
    attention, (k, v) = MODULE["window"].bind(heads=HEADS).compile(), torch.randn(2, 1, 2, 90, DIM)
    q, lengths = torch.randn(1, HEADS, 1, DIM), torch.tensor([80])
    step = attention.prepare_decode(q, k, v, key_lengths=lengths)
    step()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = attention(q, k, v, query_start=79, key_lengths=lengths)
        assert torch.equal(step().to(expected.dtype), expected)
