"""The scripts among the examples: native sparse attention against its definition, and training runs of a few steps."""

from importlib.util import module_from_spec, spec_from_file_location
from itertools import product
from types import ModuleType

import pytest
import torch
from torch import nn
from torch.nn import functional

import maskdsl
from tests.catalogue.routing_sources.branches_of_blocks import nsa_given

EVERY_TRAINING = ("dense", "window", "moba", "clusters")


def script(name: str) -> ModuleType:
    spec = spec_from_file_location(name, f"examples/{name}.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def dense(q, k, v, pairs):
    """Softmax over these pairs; zeros for queries without any."""
    shared = q.shape[1] // k.shape[1]
    k, v = (each.repeat_interleave(shared, dim=1) for each in (k, v))
    some = pairs.any(dim=-1, keepdim=True)
    score = (q @ k.mT * q.shape[-1] ** -0.5).masked_fill(~pairs & some, -torch.inf)
    return torch.where(some, score.softmax(dim=-1) @ v, 0.0)


@pytest.mark.parametrize("n", [29, 5])
def test_native_sparse_attention(n):
    torch.manual_seed(n)
    sizes = {"block": 6, "top": 2, "size": 4}
    attention = script("nsa").NativeSparseAttention(32, n, heads=4, key_heads=2, **sizes).double()
    x = torch.randn(2, n, 32, dtype=torch.float64, requires_grad=True)
    leaves = [x, *attention.parameters()]
    found = attention(x)
    q, k, v, gate = attention.vectors(x)
    expected = attention.out(nsa_given(*sizes.values(), q, k, v, gate).transpose(1, 2).flatten(-2))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    toward = torch.randn_like(found)
    grads = (torch.autograd.grad(each, leaves, toward, materialize_grads=True) for each in (found, expected))
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_what_native_sparse_attention_prints(capsys):
    script("nsa").main(["--tokens", "192"])
    out = capsys.readouterr().out
    assert all(name in out for name in ("compressed", "selected", "window", "192 tokens: forward"))


@pytest.mark.parametrize("names", [("clusters",), pytest.param(EVERY_TRAINING, marks=pytest.mark.long)])
def test_training_by_routes(names, tmp_path, capsys):
    training = script("train_routed")
    assert set(training.COLOURS) == set(EVERY_TRAINING)
    training.main(["--quick", "--only", *names, "--out", str(tmp_path / "curves.png")])
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines()]
    assert [row[0] for row in rows if row and row[0] in training.COLOURS] == list(names)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--steps", "0", "1 or more"),
        ("--out", "absent/curves.png", "in a folder that exists"),
        ("--out", "curves.gif", ".png, .svg or .pdf"),
    ],
)
def test_mistakes_are_told_before_training(option, value, said, capsys):
    with pytest.raises(SystemExit):
        script("train_routed").main([option, value])
    assert said in capsys.readouterr().err


def test_answers_lie_beyond_the_window():
    """Of what both layers of the window draw from, and the token before it, which keys are mixed with."""
    training = script("train_routed")
    task = training.Task()
    tokens, answers = task.batch(3, torch.Generator().manual_seed(0))
    assert tokens.shape == answers.shape == (3, task.length)
    reach = 2 * (task.patterns["window"]["size"] - 1 + 1)
    for row, right in zip(tokens.tolist(), answers.tolist(), strict=True):
        asked = [position for position, answer in enumerate(right) if answer >= 0]
        assert len(asked) == task.pairs
        for position in asked:
            pair = row.index(row[position])
            assert row[pair + 1] == task.keys + right[position]
            assert position - (pair + 1) > reach


def test_a_gate_learns_the_largest_probabilities_of_tiles():
    gate = script("train_gate")
    q, k = torch.randn(2, 2, gate.HEADS, 3 * gate.BLOCK, gate.DIM, generator=torch.Generator().manual_seed(0))
    found = gate.maxima(q, k)["gate"]
    for batch, head, row in product(range(2), range(gate.HEADS), range(3)):
        queries = range(row * gate.BLOCK, (row + 1) * gate.BLOCK)
        scores = [q[batch, head, i] @ k[batch, head, : i + 1].T / gate.DIM**0.5 for i in queries]
        shares = torch.stack([functional.pad(each.softmax(0), (0, 3 * gate.BLOCK - len(each))) for each in scores])
        for column in range(3):
            tile = shares[:, column * gate.BLOCK :][:, : gate.BLOCK]
            torch.testing.assert_close(found[batch, head, row, column], tile.max())
    torch.manual_seed(0)
    learner = gate.Gate()
    optimizer = torch.optim.Adam(learner.parameters(), 1e-2)
    losses = []
    for _ in range(30):
        loss = learner.loss(q, k)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert 0 <= losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("name", ["train_gate", pytest.param("train_indexer", marks=pytest.mark.long)])
def test_training_what_selects(name, capsys):
    script(name).main(["--quick"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    shares = {" ".join(row[:-2]): float(row[-2][:-1]) for row in rows if row and row[-1].endswith("%")}
    (dense,) = (share for way, share in shares.items() if way == "(dense)")
    assert {"untrained", "trained"} <= {way.split()[0] for way in shares}
    assert all(0 < share < dense for way, share in shares.items() if way != "(dense)")


def test_a_learned_compression_gets_gradients_through_the_pattern():
    """Of dense attention over the same pairs, written out; and it begins as the mean."""
    compression = script("train_compression")
    n, block = 40, 8
    mask = maskdsl.parse(compression.PATTERN)["nsa"].bind(n=n, block=block, top=1, size=4, heads=compression.HEADS)
    torch.manual_seed(0)
    sparse = compression.Sparse(mask, compression.Learned).double()
    x = torch.randn(2, 3, 5, block, compression.DIM, dtype=torch.float64)
    torch.testing.assert_close(sparse.key(x) - sparse.key.out.bias, x.mean(dim=3))
    nn.init.normal_(sparse.key.out.weight, std=0.1)
    shape = 2, compression.HEADS, n, compression.DIM
    q, k, v = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for _ in range(3))
    keys, values = sparse.key(k.unflatten(2, (-1, block))), sparse.value(v.unflatten(2, (-1, block)))
    i, blocks = torch.arange(n), torch.arange(n // block)
    past = (blocks + 1) * block <= i[:, None] + 1
    shares = sparse.shares(q, keys)
    assert (shares.sum(dim=-1) - past.any(dim=-1).double()).abs().max() < 1e-9
    earlier = blocks < i[:, None] // block
    best = functional.one_hot(shares.masked_fill(~earlier, -1).argmax(dim=-1), n // block).bool() & earlier
    own = i[:, None] // block == i // block
    selected = (best.repeat_interleave(block, dim=-1) | own) & (i <= i[:, None])
    window = (i <= i[:, None]) & (i > i[:, None] - 4)
    gates = sparse.gate(q).sigmoid()
    parts = (keys, values, past.expand(2, 2, n, n // block)), (k, v, selected), (k, v, window.expand(2, 2, n, n))
    wanted = sum(gates[..., [part]] * dense(q, *each) for part, each in enumerate(parts))
    found = sparse(q, k, v)
    torch.testing.assert_close(found, wanted)
    leaves = [q, k, v, *sparse.parameters()]
    toward = torch.randn_like(found)
    for one, other in zip(*(torch.autograd.grad(each, leaves, toward) for each in (found, wanted)), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.long
def test_training_a_compression(capsys):
    script("train_compression").main(["--quick"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows if row and row[-1].endswith("%")] == ["means", "learned"]
