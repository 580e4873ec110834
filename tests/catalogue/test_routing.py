"""Every routing example against its rule written a second time (`routing_oracles.py`), on every backend."""

from pathlib import Path

import numpy as np
import pytest
import torch

import maskdsl
from maskdsl.ir.mask import DimensionKind, Input, MaskIR
from maskdsl.ir.ops import Type
from tests.catalogue import routing_oracles as rules

EXAMPLES = Path(__file__).parents[2] / "examples" / "routing"

CASES = [
    ("moba", "moba", {"n": 45, "block": 8, "top": 3}, rules.moba),
    ("moba", "moba", {"n": 5, "block": 8, "top": 1}, rules.moba),
    (
        "vmoba",
        "vmoba",
        {"t": 3, "h": 5, "w": 4, "block_t": 2, "block_h": 2, "block_w": 3, "mass": 0.3},
        rules.vmoba,
    ),
    ("biformer", "biformer", {"h": 7, "w": 9, "regions": 3, "top": 2}, rules.biformer),
    ("biformer", "biformer", {"h": 2, "w": 1, "regions": 3, "top": 9}, rules.biformer),
    (
        "routing_transformer",
        "routing_transformer",
        {"n": 37, "clusters": 3, "size": 11},
        rules.routing_transformer,
    ),
    ("clusters", "clusters", {"n": 33}, rules.clusters),
    ("seer", "seer", {"n": 41, "block": 6, "top": 2}, rules.seer),
    ("seer", "seer_above", {"n": 41, "block": 6, "threshold": 0.5}, rules.seer_above),
    ("proxy", "proxy", {"n": 41, "block": 6, "top": 2, "groups": 2}, rules.proxy),
    ("proxy", "proxy", {"n": 23, "block": 6, "top": 0, "groups": 1}, rules.proxy),
    ("proxy", "proxy_budget", {"n": 41, "block": 6, "groups": 4}, rules.proxy_budget),
    (
        "permuted_blocks",
        "permuted_blocks",
        {"n": 45, "segment": 12, "block": 4, "top": 3},
        rules.permuted_blocks,
    ),
    (
        "permuted_blocks",
        "permuted_blocks",
        {"n": 31, "segment": 10, "block": 4, "top": 3},
        rules.permuted_blocks,
    ),
    ("dhsa", "dhsa", {"n": 40, "top": 2}, rules.dhsa),
    ("infllm", "infllm", {"n": 45, "block": 6, "top": 2, "sinks": 1, "size": 5}, rules.infllm),
    ("infllm", "nosa", {"n": 45, "block": 6, "top": 2, "sinks": 1, "size": 5, "fixed": 2}, rules.nosa),
    ("nsa_selected", "nsa_selected", {"n": 45, "block": 6, "top": 2, "size": 5}, rules.nsa_selected),
    ("knn", "knn", {"n": 29, "top": 5}, rules.knn),
    ("knn", "knn", {"n": 3, "top": 5}, rules.knn),
    ("sparsifiner", "sparsifiner", {"n": 29, "top": 5}, rules.sparsifiner),
    ("vertical_slash", "vertical_slash", {"n": 37, "columns": 3, "diagonals": 4}, rules.vertical_slash),
    ("antidiagonal", "antidiagonal", {"n": 45, "block": 8, "stride": 4, "mass": 0.6}, rules.antidiagonal),
]
HEADS, KEY_HEADS, BATCH, DIM = 4, 2, 2, 16
IDS = [f"{name}-{number}" for number, (_, name, _, _) in enumerate(CASES)]


def array(declared: Input, random: np.random.Generator) -> np.ndarray:
    sizes = {DimensionKind.BATCH: BATCH, DimensionKind.DIM: DIM, DimensionKind.FREE: 5}
    shape = [sizes.get(each.kind, each.size or 0) for each in declared.dimensions]
    if declared.type is Type.FLOAT:
        return random.normal(size=shape)
    if declared.is_coordinate:  # chunks of random lengths, numbered from 0
        return np.cumsum(random.random(shape) < 0.2, axis=-1)
    return random.integers(0, 4, shape)


def tensors(mask: MaskIR, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    random = np.random.default_rng(seed)
    q = random.normal(size=(BATCH, mask.heads, mask.queries.length, DIM))
    k, v = random.normal(size=(2, BATCH, KEY_HEADS, mask.keys.given_length, DIM))
    return q, k, v, {each.name: array(each, random) for each in mask.given}


def expected(rule, mask: MaskIR, parameters, q, k, inputs) -> np.ndarray:
    renamed = {"top_count" if name == "top" else name: value for name, value in parameters.items()}
    entries = []
    for batch in range(BATCH):
        own = {
            each.name: inputs[each.name][batch] if each.dimensions[0].kind is DimensionKind.BATCH else inputs[each.name]
            for each in mask.given
        }
        entries.append(rule(q[batch], k[batch], **renamed, **own))
    return np.stack(entries)


@pytest.mark.parametrize(("file", "name", "parameters", "rule"), CASES, ids=IDS)
def test_the_same_pairs(file, name, parameters, rule):
    mask = maskdsl.load(EXAMPLES / f"{file}.attn")[name].bind(heads=HEADS, **parameters)
    for seed in range(3):
        q, k, _, inputs = tensors(mask.ir, seed)
        wanted = expected(rule, mask.ir, parameters, q, k, inputs)
        for batch, head in np.ndindex(BATCH, HEADS):
            np.testing.assert_array_equal(
                mask.dense(head=head, batch=batch, q=q, k=k, **inputs),
                wanted[batch, head],
                f"batch {batch} head {head}",
            )


@pytest.mark.parametrize("backend", ["reference", "tiled"])
@pytest.mark.parametrize(("file", "name", "parameters", "rule"), CASES, ids=IDS)
def test_outputs_and_gradients(file, name, parameters, rule, backend):
    mask = maskdsl.load(EXAMPLES / f"{file}.attn")[name].bind(heads=HEADS, **parameters)
    q, k, v, inputs = tensors(mask.ir, 7)
    wanted = torch.as_tensor(expected(rule, mask.ir, parameters, q, k, inputs))
    leaves = [torch.as_tensor(x).requires_grad_() for x in (q, k, v)]
    given = {each: torch.as_tensor(value) for each, value in inputs.items()}
    out = mask.compile(backend)(*leaves, **given)
    grad_out = torch.as_tensor(np.random.default_rng(1).normal(size=out.shape))
    found = [out, *torch.autograd.grad(out, leaves, grad_out)]
    right = plain_attention(*leaves, wanted)
    for one, other in zip(found, [right, *torch.autograd.grad(right, leaves, grad_out)], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def plain_attention(q, k, v, attends):
    """Dense attention over these pairs; zeros for queries without any."""
    k, v = (x.repeat_interleave(HEADS // KEY_HEADS, dim=1) for x in (k, v))
    score = (q @ k.transpose(-1, -2) * DIM**-0.5).masked_fill(~attends, -torch.inf)
    some = attends.any(dim=-1, keepdim=True)
    return torch.where(some, score.masked_fill(~some, 0).softmax(dim=-1), 0) @ v


@pytest.mark.parametrize("shifted", [False, True])
def test_windows_of_other_layers(shifted):
    lengths, window = (5, 6, 9), (2, 4, 3)
    names = "t", "h", "w", "window_t", "window_h", "window_w"
    values = dict(zip(names, (*lengths, *window), strict=True))
    found = maskdsl.load(EXAMPLES / "proxy_tokens.attn")["windows"].bind(**values, shifted=shifted).dense()
    cells = list(np.ndindex(*lengths))

    def window_of(cell):
        parts = []
        for at, length, size in zip(cell, lengths, window, strict=True):
            shift = size // 2 if shifted else 0
            rolled = [*range(shift, length), *range(shift)].index(at)
            parts.append((rolled // size, rolled >= length - shift))
        return parts

    for (i, one), (j, other) in ((a, b) for a in enumerate(cells) for b in enumerate(cells)):
        assert found[i, j] == (window_of(one) == window_of(other)), (one, other)


def test_layers_that_the_caller_chooses():
    stack = maskdsl.load(EXAMPLES / "layer_choice.attn").stack("layer_choice").bind(n=64, size=8, dense=(0, 1, 0))
    assert [mask.name for mask in stack.layers] == ["window_layer", "causal_dense", "window_layer"]
    assert stack.layers[0] is stack.layers[2]
