"""Inputs made from lengths, positions, padding, trees and graphs, against loops over their definitions."""

from typing import NamedTuple

import networkx
import numpy as np
import pytest
import torch

import maskdsl
from maskdsl import AttnError, inputs


def test_documents_by_their_lengths():
    expected = torch.tensor([0, 0, 0, 2, 2], dtype=torch.int32)
    for given in ([3, 0, 2], (3, 0, 2), torch.tensor([3, 0, 2])):
        made = inputs.documents(lengths=given)
        assert made.dtype is torch.int32 and torch.equal(made, expected)
    assert torch.equal(inputs.documents(cu_seqlens=torch.tensor([0, 3, 3, 5], dtype=torch.int32)), expected)
    assert inputs.documents(lengths=[]).shape == (0,)
    assert inputs.documents(cu_seqlens=torch.tensor([0])).shape == (0,)


@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 3)])
def test_nothing_gives_empty_inputs(shape):
    nothing = torch.zeros(shape, dtype=torch.int32)
    made = [*inputs.tree(nothing), inputs.documents(position_ids=nothing)]
    assert all(each.dtype is torch.int32 and each.shape == shape for each in made)
    packed = inputs.documents(lengths=nothing)
    assert packed.dtype is torch.int32 and packed.shape == (*shape[:-1], 0)
    assert inputs.tree([])[0].shape == (0,) and inputs.tree([[], []])[0].shape == (2, 0)


def test_documents_of_a_batch():
    made = inputs.documents(lengths=[[3, 2], [1, 1, 3]])
    assert made.tolist() == [[0, 0, 0, 1, 1], [0, 1, 2, 2, 2]]
    assert torch.equal(
        inputs.documents(lengths=torch.tensor([[3, 2], [1, 4]])), inputs.documents(lengths=[[3, 2], [1, 4]])
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_lists_of_tensors_and_of_arrays(kind):
    made = inputs.documents(lengths=[kind([3, 2]), kind([1, 1, 3])])
    assert made.tolist() == [[0, 0, 0, 1, 1], [0, 1, 2, 2, 2]]
    assert inputs.documents(lengths=[kind([1, 2])[0], kind([1, 2])[1]]).tolist() == [0, 1, 1]
    assert inputs.documents(position_ids=[kind([0, 1]), kind([0, 0])]).tolist() == [[0, 0], [0, 1]]
    assert inputs.tree([kind([-1, 0]), kind([-1, -1])])[1].tolist() == [[2, 2], [1, 2]]


def test_documents_by_positions():
    positions = torch.tensor([[0, 1, 2, 0, 1, 0], [5, 6, 0, 1, 2, 3]])
    assert inputs.documents(position_ids=positions).tolist() == [[0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 1, 1]]
    assert inputs.documents(position_ids=positions[0]).tolist() == [0, 0, 0, 1, 1, 2]


def test_documents_of_a_pattern():
    text = "pattern packed(n) { space tokens[n]  input document: int[tokens]  attend causal and same(document) }"
    mask = maskdsl.parse(text)["packed"].bind(n=9)
    seen = mask.dense(document=inputs.documents(lengths=[4, 5]).numpy())
    expected = np.zeros((9, 9), dtype=bool)
    expected[:4, :4], expected[4:, 4:] = np.tri(4, dtype=bool), np.tri(5, dtype=bool)
    assert (seen == expected).all()


def test_padding():
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]])
    for given in (mask, mask.bool(), mask.float()):
        start, length = inputs.padding(given)
        assert start.tolist() == [2, 0, 1, 0, 0] and length.tolist() == [2, 3, 2, 0, 4]
        assert start.dtype is length.dtype is torch.int32
    assert [each.shape for each in inputs.padding(torch.ones(3, 0))] == [(3,), (3,)]


def ancestors(parents: list[int]) -> np.ndarray:
    """Whether the key is the query or above it."""
    seen = np.eye(len(parents), dtype=bool)
    for node in range(len(parents)):
        above = parents[node]
        while above >= 0:
            seen[node, above] = True
            above = parents[above]
    return seen


@pytest.mark.parametrize("seed", range(8))
def test_trees(seed):
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 30))
    parents = np.array([random.integers(-1, node) for node in range(count)])
    names = random.permutation(count)  # parents may stand behind their children
    shuffled = np.empty(count, dtype=int)
    shuffled[names] = [-1 if parent < 0 else names[parent] for parent in parents]
    enter, leave = inputs.tree(torch.from_numpy(np.stack([shuffled, parents])))
    text = """
    pattern tree(n) {
        space tokens[n]
        input enter: int[batch, tokens]
        input leave: int[batch, tokens]
        attend k.enter <= q.enter and q.enter < k.leave
    }
    """
    mask = maskdsl.parse(text)["tree"].bind(n=count)
    for entry, each in enumerate((shuffled, parents)):
        assert (mask.dense(batch=entry, enter=enter.numpy(), leave=leave.numpy()) == ancestors(each.tolist())).all()
    assert torch.equal(inputs.tree(parents.tolist())[0], enter[1])


def test_a_long_chain():
    enter, leave = inputs.tree(torch.arange(-1, 49_999))
    assert torch.equal(enter, torch.arange(50_000, dtype=torch.int32)) and (leave == 50_000).all()


class Matrix(NamedTuple):
    """What is read of a sparse matrix of SciPy."""

    row: np.ndarray
    col: np.ndarray
    shape: tuple[int, int]

    def tocoo(self) -> "Matrix":
        return self


def test_neighbours_of_a_graph():
    pairs = torch.tensor([[3, 0, 0, 2, 0], [0, 3, 1, 2, 3]])
    graph = networkx.DiGraph()
    graph.add_nodes_from("abcd")
    graph.add_edges_from([("d", "a"), ("a", "d"), ("a", "b"), ("c", "c")])
    matrix = torch.zeros(4, 4).index_put((pairs[0], pairs[1]), torch.tensor(1.0))
    forms = [
        pairs,
        pairs.tolist(),
        pairs.int().numpy(),
        matrix.to_sparse(),
        matrix.to_sparse_csr(),
        Matrix(pairs[0].numpy(), pairs[1].numpy(), (4, 4)),
        graph,
    ]
    mask = maskdsl.parse("pattern p(n = 4) { space t[n]  input edge: sparse[t, t]  attend edge[q, k] }")["p"].bind()
    for form in forms:
        starts, columns = inputs.neighbours(form)
        assert (starts.tolist(), columns.tolist()) == ([0, 2, 2, 3, 4], [1, 3, 2, 0])
        assert (mask.dense(edge=(starts, columns)) == (matrix != 0).numpy()).all()
    both = inputs.neighbours(networkx.path_graph(3))
    assert [each.tolist() for each in both] == [[0, 1, 3, 4], [1, 0, 2, 1]]
    assert [each.tolist() for each in inputs.neighbours(torch.zeros(2, 0, dtype=torch.int64), 2)] == [[0, 0, 0], []]
    assert [each.tolist() for each in inputs.neighbours([[], []])] == [[0], []]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: inputs.neighbours(torch.zeros(3, 2, dtype=torch.int64)), "integers [2, edges]"),
        (lambda: inputs.neighbours(torch.zeros(2, 2)), "integers"),
        (lambda: inputs.neighbours([[0, 1], [1, 4]], 4), "nodes from 0 to 3, and 4 is among them"),
        (lambda: inputs.neighbours([[0, 1], [1, -1]]), "nodes from 0 to 1, and -1 is among them"),
        (lambda: inputs.documents(), "exactly one of them is given"),
        (lambda: inputs.documents(lengths=[1], cu_seqlens=torch.tensor([0, 1])), "exactly one of them is given"),
        (lambda: inputs.documents(lengths=[1, -1]), "0 or more"),
        (lambda: inputs.documents(lengths=[1.5]), "`lengths` is"),
        (lambda: inputs.documents(lengths=["a"]), "integers"),
        (lambda: inputs.documents(lengths=7), "integers"),
        (lambda: inputs.documents(lengths=[[1, 2], [2, 2]]), "the same sum"),
        (lambda: inputs.documents(cu_seqlens=torch.tensor([1, 2])), "begin with 0"),
        (lambda: inputs.documents(cu_seqlens=torch.tensor([0, 3, 2])), "`cu_seqlens` is tensor([0, 3, 2])"),
        (lambda: inputs.documents(cu_seqlens=torch.tensor([0, 3, 2])), "do not fall"),
        (lambda: inputs.documents(cu_seqlens=torch.tensor([0, 2**62])), "up to 67,108,864 tokens"),
        (lambda: inputs.documents(lengths=[2**62]), "up to 67,108,864 tokens"),
        (lambda: inputs.documents(lengths=[2**62] * 4), "up to 67,108,864 tokens"),  # their sum wraps to 0
        (lambda: inputs.documents(lengths=[[1, 2], None]), "`lengths` is [[1, 2], None]"),
        (lambda: inputs.documents(lengths=[[1, 2], [2, -1]]), "`lengths` is [[1, 2], [2, -1]]"),
        (lambda: inputs.documents(lengths=[[1, 2], [2, 1.5]]), "`lengths` is [[1, 2], [2, 1.5]]"),
        (lambda: inputs.documents(position_ids=torch.zeros(2, 2, 2, dtype=torch.int64)), "[batch, tokens]"),
        (lambda: inputs.documents(position_ids=torch.zeros(4)), "integers"),
        (lambda: inputs.padding(torch.tensor([[1, 0, 1]])), "not between them"),
        (lambda: inputs.padding(torch.tensor([1, 0])), "[batch, tokens]"),
        (lambda: inputs.padding(torch.tensor([[float("-inf"), 0, 0]])), "booleans, or 0 and 1"),
        (lambda: inputs.padding(torch.tensor([[float("nan"), 1, 1]])), "booleans, or 0 and 1"),
        (lambda: inputs.padding(torch.tensor([[2, 1]])), "booleans, or 0 and 1"),
        (lambda: inputs.tree([0, -1]), "above node 0 there is a cycle"),
        (lambda: inputs.tree([1, 0, -1]), "`parents` is [1, 0, -1]"),
        (lambda: inputs.tree([[-1, 0], [-1, 1]]), "above node 1 of sequence 1 there is a cycle"),
        (lambda: inputs.tree([-1, 2]), "-1, of roots, to 1: node 1 has 2"),
        (lambda: inputs.tree([-1, 2]), "`parents` is [-1, 2]"),
    ],
)
def test_mistakes(call, said):
    with pytest.raises(AttnError) as raised:
        call()
    assert said in str(raised.value)
