"""Lists of entries as callers give them: every form is one relation, and what fits none is a declared error."""

from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
import pytest
import torch

import maskdsl
from maskdsl.base.diagnostics import AttnError
from maskdsl.ir.meaning.given_lists import hold
from maskdsl.ir.values.entries import EntryList, entry_numbers

PATTERNS = maskdsl.parse("""
pattern graph(n = 12) {
    space tokens[n]
    input edge: sparse[tokens, tokens]
    input bias: float[edge]
    attend edge[q, k] and bias[q, k] > 0.0
}
pattern plain(n = 12) {
    space tokens[n]
    input edge: sparse[tokens, tokens]
    attend edge[q, k]
}
pattern blocks(n = 12) {
    space tokens[n]
    input chosen: sparse[batch, heads, 3, 4]
    attend chosen[batch, head, q // 4, k // 3]
}
""")
PLAIN = PATTERNS["plain"].bind()
RANDOM = np.random.default_rng(0)
EDGES = RANDOM.random((12, 12)) < 0.2
PAIRS = np.array(np.nonzero(EDGES))
SHUFFLED = PAIRS[:, RANDOM.permutation(PAIRS.shape[1])]
STARTS, COLUMNS = np.append(0, np.cumsum(EDGES.sum(1))), PAIRS[1]


class Csr(NamedTuple):
    """What the compiler reads of a sparse matrix of SciPy."""

    indptr: np.ndarray
    indices: np.ndarray
    format: str = "csr"


class Coo:
    """A sparse matrix of SciPy that is no list of entries."""

    format = "coo"

    def tocsr(self):
        raise AssertionError("an error names it: nothing converts it unasked")


PADDED = np.arange(13) * 12, np.where(EDGES, np.arange(12), -1).reshape(-1)

FORMS = {
    "pairs": PAIRS,
    "shuffled pairs": SHUFFLED,
    "pairs of 32 bits": torch.as_tensor(SHUFFLED, dtype=torch.int32),
    "strided pairs": torch.as_tensor(SHUFFLED.T.copy()).T,
    "pairs twice": np.concatenate([SHUFFLED, SHUFFLED[:, ::3]], axis=1),
    "lists": [*map(list, SHUFFLED.tolist())],
    "rows": (STARTS, COLUMNS),
    "rows of tensors": (torch.as_tensor(STARTS, dtype=torch.int32), torch.as_tensor(COLUMNS)),
    "rows with holes": PADDED,
    "rows backwards": (STARTS, np.concatenate([COLUMNS[a:b][::-1] for a, b in pairwise(STARTS)])),
    "more columns than the rows have": (STARTS, np.append(COLUMNS, [-1, 5])),
    "torch": torch.sparse_csr_tensor(
        torch.as_tensor(STARTS), torch.as_tensor(COLUMNS), torch.ones(len(COLUMNS)), (12, 12)
    ),
    "scipy": Csr(STARTS.astype(np.int32), COLUMNS.astype(np.int32)),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_is_the_same_relation(form):
    assert (PLAIN.dense(edge=form) == EDGES).all()
    assert PLAIN.tiles(block=4, edge=form) == PLAIN.tiles(block=4, edge=PAIRS)
    q, k, v = torch.randn(3, 1, 1, 12, 8)
    mask = torch.as_tensor(EDGES)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, mask).nan_to_num(0)
    torch.testing.assert_close(PLAIN.compile()(q, k, v, edge=form), expected)


@pytest.mark.parametrize("form", [np.zeros((2, 0), int), ([0] * 13, []), [[], []]])
def test_a_list_without_entries(form):
    assert not PLAIN.dense(edge=form).any()
    graph = PATTERNS["graph"].bind()
    assert not graph.dense(edge=form, bias=np.zeros(0)).any()
    q = torch.randn(1, 1, 12, 8)
    assert not graph.compile()(q, q, q, edge=form, bias=torch.zeros(0)).any()


def test_numbers_are_in_the_order_of_the_list():
    graph, numbers = PATTERNS["graph"].bind(), RANDOM.normal(size=SHUFFLED.shape[1])
    expected = np.zeros((12, 12), dtype=bool)
    expected[tuple(SHUFFLED)] = numbers > 0
    assert (graph.dense(edge=SHUFFLED, bias=numbers) == expected).all()
    assert graph.tiles(block=2, edge=SHUFFLED, bias=numbers).classes().astype(bool).sum() == sum(
        expected[a : a + 2, b : b + 2].any() for a, b in product(range(0, 12, 2), repeat=2)
    )


def test_numbers_of_entries_in_several_lists():
    declared = PATTERNS["blocks"].bind(heads=2).ir.inputs[0]
    dense = RANDOM.random((3, 2, 3, 4)) < 0.5
    starts = np.zeros((3, 2, 4), dtype=int)
    starts[..., 1:] = dense.sum(-1).cumsum(-1)
    columns = np.full((3, 2, 12), -1)
    for entry in np.ndindex(3, 2):
        columns[entry][: dense[entry].sum()] = np.nonzero(dense[entry])[1]
    held = hold(declared, (starts, columns)).tensor
    assert held.shape == (3, 2, 2 + 4 + 12) and len(EntryList.of(held).columns) == dense.sum()
    for batch, head in np.ndindex(3, 2):
        counted = np.cumsum(dense[batch, head].ravel()).reshape(3, 4) - 1
        rows, cols = np.indices((5, 6)) - 1  # some outside
        inside = (rows >= 0) & (rows < 3) & (cols >= 0) & (cols < 4)
        wanted = np.where(inside, np.where(dense[batch, head], counted, -1)[rows.clip(0, 2), cols.clip(0, 3)], -1)
        assert (entry_numbers(held, np.asarray(batch), np.asarray(head), rows, cols) == wanted).all()


WRONG = {
    "E393 a float": np.zeros((2, 3)),
    "E393 of three rows": np.zeros((3, 3), int),
    "E393 coordinates": torch.as_tensor(EDGES).to_sparse(),
    "E393 a table": torch.as_tensor(EDGES),
    "E393 a pair of floats": (np.zeros(13), np.zeros(3)),
    "E393 a name": "edges",
    "E393 rows in no tuple": [STARTS, COLUMNS],
    "E393 coordinates of SciPy": Coo(),
    "E394 starts": (np.zeros(12, int), np.zeros(3, int)),
    "E394 columns": (np.zeros(13, int), np.zeros((3, 2), int)),
    "E395 begin with": (np.arange(1, 14), np.zeros(13, int)),
    "E395 fall": (np.array([0, 2, 1, *[3] * 10]), np.zeros(3, int)),
    "E395 end with": (np.arange(13), np.zeros(3, int)),
    "E396 column 12": np.array([[0], [12]]),
    "E396 row -1": np.array([[-1], [0]]),
    "E396 column -1": np.array([[0], [-1]]),
    "E396 column -2": (np.arange(13), np.full(12, -2)),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_list_is_an_error(wrong):
    code, _, said = wrong.partition(" ")
    q = torch.randn(1, 1, 12, 8)
    for call in (lambda **given: PLAIN.tiles(**given), lambda **given: PLAIN.compile()(q, q, q, **given)):
        with pytest.raises(AttnError) as raised:
            call(edge=WRONG[wrong])
        assert [each.code for each in raised.value.diagnostics] == [code]
        assert said.split()[-1] in str(raised.value) or code in ("E393", "E394")


def test_matrices_in_other_forms_are_told_how_to_change():
    for matrix, says in ((WRONG["E393 coordinates"], r"edge\.to_sparse_csr\(\)"), (Coo(), r"edge\.tocsr\(\)")):
        with pytest.raises(AttnError, match=says):
            PLAIN.dense(edge=matrix)


def test_lists_of_equal_bytes_are_told_apart():
    attention, q = PLAIN.compile(), torch.randn(1, 1, 12, 8)
    for pairs in (np.array([[1], [2]]), np.array([[1, 0], [2, 0]], dtype=np.int32)):
        rows = attention(q, q, q, edge=pairs).any(-1).nonzero()[:, 2]
        assert rows.tolist() == sorted(pairs[0])


def test_numbers_that_do_not_fit_are_errors():
    graph, q = PATTERNS["graph"].bind(), torch.randn(1, 1, 12, 8)
    twice = np.concatenate([PAIRS, PAIRS[:, :1]], axis=1)
    for pairs, count, code in ((twice, twice.shape[1], "E397"), (PAIRS, 3, "E398")):
        for call in (graph.dense, lambda **given: graph.compile()(q, q, q, **given)):
            with pytest.raises(AttnError, match=code):
                call(edge=pairs, bias=np.zeros(count))


def test_lists_in_front_have_one_form():
    blocks = PATTERNS["blocks"].bind(heads=2)
    for wrong in (np.zeros((2, 3), int), (np.zeros((1, 3, 4), int), np.zeros((1, 3, 5), int))):
        with pytest.raises(AttnError, match=r"E39[34]"):
            blocks.dense(chosen=wrong)
