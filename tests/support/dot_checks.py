"""What is checked of patterns whose scores multiply vectors, of any backend."""

from collections.abc import Mapping

import torch
from torch import Tensor

import maskdsl
from maskdsl.ir.meaning.evaluate import attention as meaning
from tests.support.dot_patterns import BATCH, CASES, tensors


def bound(name: str) -> maskdsl.Mask:
    case = CASES[name]
    return maskdsl.parse(case.text)[name].bind(heads=case.heads, **case.parameters)


def check_gradients(name: str, backend: str) -> None:
    """The output and all gradients in float32, against the oracle in float64."""
    exact = {each: x.requires_grad_() for each, x in tensors(CASES[name]).items()}
    given = {each: x.detach().float().requires_grad_() for each, x in exact.items()}
    expected = CASES[name].oracle(**exact)
    out = bound(name).compile(backend)(**given)
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=2e-6)
    toward = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    grads = torch.autograd.grad(out, [*given.values()], toward.float())
    references = torch.autograd.grad(expected, [*exact.values()], toward)
    for each, grad, reference in zip(exact, grads, references, strict=True):
        torch.testing.assert_close(grad.double(), reference, rtol=1e-4, atol=1e-5, msg=f"the gradient of {each}")


def check_meaning(name: str) -> None:
    """The plain meaning against the oracle."""
    given = tensors(CASES[name])
    q, k, v, *_ = (x.numpy() for x in given.values())
    out, _ = meaning(bound(name).ir, q, k, v, {each: x.numpy() for each, x in given.items() if each not in "qkv"})
    torch.testing.assert_close(torch.as_tensor(out), CASES[name].oracle(**given), rtol=1e-9, atol=1e-9)


def _split(name: str) -> tuple[Tensor, Tensor, Tensor, Mapping[str, Tensor]]:
    q, k, v, *_ = given = {each: x.float() for each, x in tensors(CASES[name]).items()}
    return given[q], given[k], given[v], {each: x for each, x in given.items() if each not in (q, k, v)}


def check_chunks(name: str, backend: str) -> None:
    """Chunks of queries against the first keys, one query at a time, and pages, in a pattern that looks back."""
    attention = bound(name).compile(backend)
    q, k, v, inputs = _split(name)
    whole, n = attention(q, k, v, **inputs), q.shape[2]
    for start, end in ((0, 1), (1, 20), (20, n)):
        out = attention(q[:, :, start:end], k[:, :, :end], v[:, :, :end], query_start=start, **inputs)
        torch.testing.assert_close(out, whole[:, :, start:end])
    size, starts = 8, torch.tensor([n - 2, 11])
    pages = -(-n // size)
    table = torch.randperm(BATCH * pages).view(BATCH, pages)
    stored = []
    for x in (k, v):
        padded = torch.nn.functional.pad(x, (0, 0, 0, pages * size - n), value=torch.nan)
        split = padded.unflatten(2, (pages, size)).transpose(1, 2).flatten(0, 1)
        stored.append(split[table.flatten().argsort()])
    rows = starts[:, None] + torch.arange(2)
    last = torch.stack([x[:, at] for x, at in zip(q, rows, strict=True)])
    out = attention(last, *stored, query_start=starts, key_lengths=starts + 2, page_table=table, **inputs)
    torch.testing.assert_close(out, torch.stack([x[:, at] for x, at in zip(whole, rows, strict=True)]))


def check_packed(name: str, backend: str) -> None:
    """Packed sequences, one of them empty, with gradients, against each alone."""
    attention = bound(name).compile(backend)
    q, k, v, inputs = _split(name)
    q, k, v = (x[0].transpose(0, 1)[:30].requires_grad_() for x in (q, k, v))
    ends = [0, 11, 11, 30]
    out = attention.varlen(q, k, v, torch.tensor(ends), **inputs)
    alone = [
        attention(*(x[start:end].transpose(0, 1)[None] for x in (q, k, v)), query_start=0, **inputs)[0].transpose(0, 1)
        for start, end in ((0, 11), (11, 30))
    ]
    torch.testing.assert_close(out, torch.cat(alone))
    toward = torch.randn_like(out)
    grads = (torch.autograd.grad(x, (q, k, v), toward) for x in (out, torch.cat(alone)))
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)
