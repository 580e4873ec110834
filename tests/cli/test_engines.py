"""`emit --engine`: what other engines take, in files."""

import numpy as np
import pytest

from maskdsl.cli.engine_arrays import ENGINES
from maskdsl.cli.request.completions import ENGINES as NAMES
from tests.support.engine_decoders import of_bits, of_columns, of_intervals, of_slices

PACKED = """pattern packed(n = 64) {
    space tokens[n]
    input document: int[batch, tokens]
    attend causal and same(document)
}
"""


def test_every_engine_can_be_named():
    assert tuple(ENGINES) == NAMES


@pytest.mark.parametrize("engine", NAMES)
def test_every_engine_is_written(maskdsl, tmp_path, engine):
    length = 200
    document = np.sort(np.random.default_rng(0).integers(0, 5, (2, length))).astype(np.int32)
    np.save(tmp_path / "ids.npy", document)
    pattern, file = tmp_path / "packed.attn", tmp_path / "mask.npz"
    pattern.write_text(PACKED)
    words = ["emit", pattern, f"n={length}", "--engine", engine, "--out", file]
    ended = maskdsl(*words, "--input", f"document={tmp_path / 'ids.npy'}")
    assert (ended.code, ended.err) == (0, "")
    arrays = dict(np.load(file))
    assert all(name in ended.out for name in arrays)
    query, key = np.indices((length, length))
    attended = [(key <= query) & (each[query] == each[key]) for each in document]
    match engine:
        case "flex":
            assert arrays["kv_num_blocks"].shape == (2, 1, 2) and arrays["kv_num_blocks"].tolist()[0][0] == [1, 2]
        case "cudnn":
            decoded = of_intervals(arrays["mask_func"][0], length)
            assert np.array_equal(decoded, np.concatenate(attended))
        case "flashmask":
            indices = arrays["startend_row_indices"]
            assert all(np.array_equal(of_columns(indices[n, 0], length), attended[n]) for n in range(2))
        case "magi":
            decoded = of_slices(arrays["q_ranges"], arrays["k_ranges"], arrays["attn_type_map"], *(2 * [2 * length]))
            assert np.array_equal(decoded[:length, :length], attended[0])
            assert np.array_equal(decoded[length:, length:], attended[1])
        case "flashinfer":
            packed = arrays["packed_custom_mask"]
            assert all(np.array_equal(of_bits(packed[n, 0], length, length), attended[n]) for n in range(2))
        case "sdpa":
            assert np.array_equal(arrays["attn_mask"][:, 0], np.array(attended))


def test_an_engine_and_a_file_go_together(maskdsl, local, tmp_path):
    for words in (["--engine", "magi"], ["--out", "x.npz"], ["--engine", "magi", "--out", "x.txt"]):
        ended = maskdsl("emit", local, *words)
        assert ended.code and "E523" in ended.err
    assert "there is no engine `cuda`" in maskdsl("emit", local, "--engine", "cuda", "--out", tmp_path / "x.npz").err
    ended = maskdsl("emit", local, "--engine", "magi", "--out", tmp_path / "absent" / "x.npz")
    assert "E512" in ended.err


SCORES = """pattern capped(n = 64) {
    space tokens[n]
    input logit: float[heads]
    attend causal
    scale 0.125
    score 50 * tanh(s / 50)
    sink logit[head]
}
"""


def test_what_is_done_to_scores_is_written(maskdsl, tmp_path):
    np.save(tmp_path / "logit.npy", np.array([0.5, -2.0], dtype=np.float32))
    pattern, file = tmp_path / "capped.attn", tmp_path / "mask.npz"
    pattern.write_text(SCORES)
    words = ["emit", pattern, "--heads", "2", "--out", file, "--engine"]
    given = ["--input", f"logit={tmp_path / 'logit.npy'}"]
    assert maskdsl(*words, "magi", *given).err == ""
    arrays = dict(np.load(file))
    assert (arrays["softmax_scale"], arrays["softcap"]) == (0.125, 50)
    assert arrays["sink"].tolist() == [[0.5, -2.0]]
    for engine, extra, wanted in (("cudnn", given, "soft cap of `capped`"), ("magi", [], "logit=FILE.npy")):
        ended = maskdsl(*words, engine, *extra)
        assert ended.code == 0 and "note: pairs alone are written" in ended.err and wanted in ended.err
        assert "softmax_scale" not in np.load(file)


def test_biases_of_each_batch_entry(maskdsl, tmp_path):
    table = np.random.default_rng(0).normal(size=(2, 9)).astype(np.float32)
    np.save(tmp_path / "table.npy", table)
    pattern, file = tmp_path / "bias.attn", tmp_path / "mask.npz"
    pattern.write_text(
        "pattern bias(n = 9) { space t[n] input b: float[batch, t] attend causal score s + b[batch, k] }"
    )
    ended = maskdsl("emit", pattern, "--engine", "sdpa", "--out", file, "--input", f"b={tmp_path / 'table.npy'}")
    assert (ended.code, ended.err) == (0, "")
    query, key = np.indices((9, 9))
    expected = np.where(key <= query, table[:, None], -np.inf)
    assert np.array_equal(np.load(file)["attn_mask"], expected[:, None])
