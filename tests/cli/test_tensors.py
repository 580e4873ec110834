"""`--tensors`: what routes select in the tensors of a safetensors file; files that cannot be read."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from maskdsl.base.diagnostics import AttnError
from maskdsl.cli.request import tensor_files as tensors
from maskdsl.cli.request.tensor_files import read_tensors

MOBA = "examples/routing/moba.attn"
SIZES = ("n=256", "block=32", "top=2", "--heads", 2)


def vectors(heads=2, tokens=256, dim=8):
    """Of which the third block of keys answers best."""
    k = np.zeros((1, 1, tokens, dim), dtype=np.float32)
    k[:, :, 64:96] = 1
    return {"q": np.ones((1, heads, tokens, dim), dtype=np.float32), "k": k}


@pytest.fixture
def file(tmp_path):
    """Writes arrays, and gives the path."""

    def write(**arrays):
        path = str(tmp_path / "tensors.safetensors")
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
        return path

    return write


def test_show_draws_what_was_selected(maskdsl, file):
    ended = maskdsl("show", MOBA, *SIZES, "--block", 32, "--tensors", file(**vectors(), v=np.zeros(3)))
    assert (ended.code, ended.err) == (0, "")
    assert "7 full, 8 partial" in ended.out
    lines = ended.out.splitlines()
    assert "past: each of 256 query groups selected 0 to 1 of 8 key groups, on average 0.875" in lines
    row = next(line.split() for line in lines if line.lstrip().startswith("1 "))
    # Later blocks all select the third one; of the first three, the lower of two equal ones.
    assert row[:7] == ["1", "17.4", "%", "0", "28", "160", "1.93"]
    assert "100 % are selected by both" in ended.out


@pytest.mark.parametrize("columns", [50, 79, 80, 200])
def test_nothing_is_cut_off_in_narrow_windows(maskdsl, columns):
    out = maskdsl("show", MOBA, "n=256", "block=16", "--random", 1, "--heads", 8, columns=columns).out
    table = out[out.index("past: each of") :]
    assert "\N{HORIZONTAL ELLIPSIS}" not in table and max(map(len, table.splitlines())) <= columns
    assert ("most" in table, "head 7" in table) == (columns >= 72, columns >= 80)


def test_stats_has_all_of_it_as_json(maskdsl, file):
    ended = maskdsl("stats", MOBA, *SIZES, "--json", "--tensors", file(**vectors()))
    (past,) = json.loads(ended.out)["routes"]
    assert past["heads"][1]["load"] == {
        "least": 0,
        "mean": 28.0,
        "most": 160,
        "variation": pytest.approx(1.93, abs=0.01),
    }
    assert past["heads"][1]["profile"] == [64, 0, 160, 0, 0, 0, 0, 0]
    assert past["overlap"] == [[1, 1], [1, 1]] and past["mean_overlap"] == 1
    assert "guaranteed" not in json.loads(ended.out)


def test_without_tensors_density_is_guaranteed(maskdsl):
    ended = maskdsl("show", MOBA, *SIZES)
    words = " ".join(ended.out.split())
    assert "`past`: each of 256 query groups selects 0 to 1 of 8 key groups, of which 7 are candidates" in words
    assert "whatever is selected in finite scores: 1 to 64 keys a query, density 17.4 %" in words
    assert "--tensors" in ended.err
    found = json.loads(maskdsl("stats", MOBA, *SIZES, "--json").out)["guaranteed"]
    assert found["total"]["least_attended"] == found["total"]["most_attended"] == 2 * (8 * 32 * 33 // 2 + 7 * 32 * 32)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
def test_kinds_of_floats(tmp_path, kind):
    path = str(tmp_path / "a.safetensors")
    x = torch.randn(2, 3, dtype=kind)
    save_torch({"x": x, "other": torch.zeros(5, dtype=torch.int8), "flag": torch.tensor([True, False])}, path)
    found = read_tensors(path, ["x", "flag", "absent"])
    assert list(found) == ["x", "flag"]
    np.testing.assert_array_equal(found["x"], x.double().numpy())
    assert found["flag"].dtype == bool


def test_inputs_come_by_name_and_options_go_before(maskdsl, file, tmp_path):
    path = file(gate=np.zeros((1, 2, 4, 4), dtype=np.float32))
    words = ("examples/routing/seer.attn", "seer", "n=32", "block=8", "top=1", "--heads", 2)
    ended = maskdsl("stats", *words, "--json", "--tensors", path)
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out)["routes"][0]["heads"][0]["profile"] == [4, 0, 0, 0]  # of equal ones the first
    gate = np.zeros((1, 2, 4, 4))
    gate[..., 1] = 1
    np.save(tmp_path / "gate.npy", gate)
    ended = maskdsl("stats", *words, "--json", "--tensors", path, "--input", f"gate={tmp_path / 'gate.npy'}")
    assert json.loads(ended.out)["routes"][0]["heads"][0]["profile"] == [1, 3, 0, 0]


def test_nan_is_told(maskdsl, file):
    given = vectors()
    given["k"][0, 0, 70] = np.nan
    ended = maskdsl("show", MOBA, *SIZES, "--tensors", file(**given))
    assert ended.code == 0
    words = " ".join(ended.err.split())
    assert "NaN 160 times in batch entry 0, head 0, first for query group 96 and key group 2: never selected" in words


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"q": None}, "E551", "has no tensor `q`"),
        ({"k": None, "keys": np.zeros(3)}, "E551", "`keys`"),
        ({"q": np.zeros((1, 3, 256, 8))}, "E554", "add --heads 3"),
        ({"q": np.zeros((1, 2, 255, 8))}, "E407", "255 tokens"),
        ({"q": np.zeros((2, 256, 8))}, "E401", "(2, 256, 8)"),
        ({"q": np.zeros((2, 2, 256, 8))}, "E408", "batch"),
        ({"k": np.zeros((1, 2, 256, 4))}, "E408", "head dim"),
        ({"k": np.zeros((1, 5, 256, 8))}, "E406", "5 heads"),
        ({"q": np.zeros((1, 2, 256, 8), dtype=np.int32)}, "E402", "int32"),
        ({"past": np.zeros((1, 2, 256, 3), dtype=bool)}, "E412", "past"),
    ],
)
def test_unfit_tensors(maskdsl, file, change, code, said):
    given = {name: array for name, array in {**vectors(), **change}.items() if array is not None}
    ended = maskdsl("show", MOBA, *SIZES, "--tensors", file(**given))
    assert ended.code == 2
    assert f"error[{code}]" in ended.err and said in " ".join(ended.err.split())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "header too small"),
        (b"\xff" * 64, "its header would be"),
        ((1 << 23).to_bytes(8, "little") + b"{}", "invalid header length"),
        ((2).to_bytes(8, "little") + b"[]", "header"),
        ((70).to_bytes(8, "little") + b'{"q":{"dtype":"F32","shape":[9999999,99],"data_offsets":[0,3999999984]}}', ""),
    ],
)
def test_files_that_are_none(maskdsl, tmp_path, content, said):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    ended = maskdsl("show", MOBA, *SIZES, "--tensors", path)
    assert ended.code == 2 and "error[E550]" in ended.err and said in " ".join(ended.err.split())


def test_files_that_are_not_there(maskdsl, tmp_path):
    for path in (tmp_path / "absent.safetensors", tmp_path):
        ended = maskdsl("show", MOBA, *SIZES, "--tensors", path)
        assert ended.code == 2 and "error[E550]" in ended.err


def test_types_and_sizes_that_are_not_read(tmp_path, monkeypatch):
    path = str(tmp_path / "a.safetensors")
    save_torch({"q": torch.zeros(4, dtype=torch.float8_e5m2), "k": torch.zeros(4)}, path)
    with pytest.raises(AttnError, match=r"E552.*F8_E5M2"):
        read_tensors(path, ["q"])
    monkeypatch.setattr(tensors, "MOST", 15)
    with pytest.raises(AttnError, match=r"E553.*16 bytes"):
        read_tensors(path, ["k"])


def test_layers_of_stacks(maskdsl, file, tmp_path):
    path = tmp_path / "stack.attn"
    path.write_text(
        """
        pattern near(n) { space tokens[n] attend backward(8) }
        pattern far(n) {
            space tokens[n]
            input chunk: int[tokens]
            route past = topk(1, dot(q, mean(k by chunk))) where k.chunk < q.chunk
            attend causal and (past or same(chunk))
        }
        stack both(n = 256) = near(n) + 2 * far(n)
        """
    )
    chunk = np.arange(256) // 32
    whole = file(**vectors(), chunk=chunk)
    words = str(path), "both", "--heads", 2, "--tensors"
    ended = maskdsl("stats", *words, whole, "--json")
    assert (ended.code, ended.err) == (0, "")
    own = 8 * 32 * 33 // 2 + 7 * 32 * 32
    assert [each["total"]["attended"] for each in json.loads(ended.out)["different"]] == [2 * (8 * 256 - 28), 2 * own]
    shown = maskdsl("show", *words, whole, "--block", 32, "--json")
    assert json.loads(shown.out)["different"][1]["orders"][0]["heads"][0]["full"] == 7
    assert maskdsl("show", *words, whole, "--out", tmp_path / "a.svg").code == 0
    for given, code in (({"chunk": None}, "E551"), ({"q": None}, "E551"), ({"q": np.zeros((1, 3, 256, 8))}, "E554")):
        arrays = {name: x for name, x in {**vectors(), "chunk": chunk, **given}.items() if x is not None}
        ended = maskdsl("show", *words, file(**arrays))
        assert ended.code == 2 and f"error[{code}]" in ended.err
