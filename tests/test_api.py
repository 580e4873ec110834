"""The Python interface, as people use it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import maskdsl
from maskdsl.base.diagnostics import AttnError

EXAMPLES = Path(__file__).parents[1] / "examples"
LONGFORMER = EXAMPLES / "language" / "longformer.attn"


def test_load_bind_compile_call() -> None:
    module = maskdsl.load(LONGFORMER)
    pattern = module["longformer"]
    assert pattern.name == "longformer"
    assert list(pattern.parameters) == ["n", "size", "dilation", "globals"]
    assert pattern.parameters["size"] == "512"
    assert pattern.doc.startswith("Longformer:")
    mask = pattern.bind(n=100, size=10, heads=2)
    assert (mask.query_length, mask.key_length, mask.heads, mask.inputs) == (100, 100, 2, ())
    tiles = mask.tiles(block=(16, 32))
    assert tiles.classes().shape == (7, 4)
    assert tiles.full_count() + tiles.partial_count() == np.count_nonzero(tiles.classes())
    attention = mask.compile()
    q, k, v = (torch.randn(2, heads, 100, 32) for heads in (2, 1, 1))
    out, lse = attention(q, k, v, return_lse=True)
    scores = (q @ k.transpose(2, 3) / 32**0.5).masked_fill(~torch.tensor(mask.dense()), -torch.inf)
    torch.testing.assert_close(out, scores.softmax(dim=-1) @ v)
    torch.testing.assert_close(lse, scores.logsumexp(dim=-1))
    assert "def attention" in attention.source


def test_all_in_one() -> None:
    attention = maskdsl.compile(LONGFORMER, "longformer", heads=2, n=64, backend="reference", order="by i % 2")
    assert attention.backend == "reference"
    assert attention.mask.heads == 2
    assert attention.mask.queries.order


def test_inputs_are_given_by_name() -> None:
    mask = maskdsl.load(EXAMPLES / "language" / "packed.attn")["packed"].bind(n=12)
    document = [0] * 5 + [1] * 7
    assert mask.dense(document=document).sum() == 5 * 6 // 2 + 7 * 8 // 2
    assert mask.stats(block=(4, 4), document=document).total.attended == 43
    with pytest.raises(AttnError, match="input `document` is missing"):
        mask.tiles()
    with pytest.raises(AttnError, match="did you mean `document`"):
        mask.dense(documents=document)
    with pytest.raises(AttnError, match=r"has the shape \(11,\)"):
        mask.tiles(document=document[1:])


def test_files_that_use_others(tmp_path: Path) -> None:
    (tmp_path / "parts.attn").write_text(
        "def near(size) = window(size)\npattern own(n) { space t[n] attend near(3) }\n"
    )
    (tmp_path / "main.attn").write_text('use "parts.attn"\npattern both(n = 9) { space t[n] attend near(5) }\n')
    module = maskdsl.load(tmp_path / "main.attn")
    assert list(module) == ["own", "both"]
    assert len(module) == 2
    assert module["both"].bind().dense().sum() == 9 * 5 - 6
    assert module["own"].bind(n=4).dense().sum() == 10


def test_representations() -> None:
    module = maskdsl.load(LONGFORMER)
    assert repr(module) == "Module(longformer, longformer_at)"
    assert repr(module["longformer"]) == "Pattern(longformer(n, size, dilation, globals))"
    mask = module["longformer"].bind(n=10, heads=3)
    assert repr(mask) == "Mask(longformer(n=10, size=512, dilation=1, globals=1), heads=3, 10 x 10)"


def test_what_needs_no_torch_does_not_import_it() -> None:
    program = (
        "import sys, maskdsl\n"
        f"mask = maskdsl.load({str(LONGFORMER)!r})['longformer'].bind()\n"
        "mask.stats(); mask.tiles(); mask.with_order('by i % 2').tiles()\n"
        "slow = {'torch', 'triton', 'sympy', 'networkx', 'hypothesis', 'rich', 'click'} & set(sys.modules)\n"
        "assert not slow, slow\n"
        "assert 'compile' in dir(maskdsl)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_an_unknown_name_of_the_package() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        maskdsl.nothing  # noqa: B018
