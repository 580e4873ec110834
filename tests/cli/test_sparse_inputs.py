"""Lists of entries in files: pairs, row starts and columns, and what SciPy saves; made-up ones where none is given."""

from pathlib import Path

import numpy as np
import pytest

TEXT = """
pattern graph(n = 200) {
    space tokens[n]
    input edge: sparse[tokens, tokens]
    input bias: float[edge]
    attend edge[q, k] and k != 7
    score s + bias[q, k]
}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    dense = np.random.default_rng(0).random((200, 200)) < 0.02
    dense[3, 5], dense[3, 6] = True, False
    pairs, starts = np.array(np.nonzero(dense)), np.append(0, np.cumsum(dense.sum(1)))
    np.save(tmp_path / "pairs.npy", pairs[:, ::-1])
    np.savez(tmp_path / "rows.npz", starts=starts, columns=pairs[1])
    matrix = {"indptr": starts, "indices": pairs[1], "format": np.array(b"csr"), "shape": np.array(dense.shape)}
    np.savez(tmp_path / "scipy.npz", **matrix, data=np.ones(len(pairs[1])))
    np.savez(tmp_path / "other.npz", one=pairs, two=pairs)
    (tmp_path / "graph.attn").write_text(TEXT)
    return tmp_path


def test_every_file_is_the_same_relation(maskdsl, folder):
    file = str(folder / "graph.attn")
    shown = {
        maskdsl("show", file, "--input", f"edge={folder / name}").out for name in ("pairs.npy", "rows.npz", "scipy.npz")
    }
    assert len(shown) == 1
    edge = f"edge={folder / 'pairs.npy'}"
    reason = maskdsl("explain", file, "--input", edge, "--pair", "3", "6").out
    assert "row 3 has no entry in column 6" in reason
    assert "row 3 has an entry in column 5" in maskdsl("explain", file, "--input", edge, "--pair", "3", "5").out


def test_files_that_are_none(maskdsl, folder):
    found = maskdsl("show", str(folder / "graph.attn"), "--input", f"edge={folder / 'other.npz'}")
    assert "E507" in found.err and "starts=" in found.err


def test_lists_are_made_up(maskdsl, folder):
    assert "made-up values for `edge`" in maskdsl("stats", str(folder / "graph.attn")).err
    ended = maskdsl("run", str(folder / "graph.attn"), "--input", f"edge={folder / 'rows.npz'}")
    assert ended.code == 0 and "made-up values for `bias`" in ended.err  # as many as the list has entries
