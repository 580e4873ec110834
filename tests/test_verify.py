"""The engine behind `maskdsl verify`: right patterns pass, a broken backend is found and its case made small."""

from pathlib import Path

import pytest
import torch

import maskdsl
from maskdsl.api.verify import CannotDraw, verify
from maskdsl.runtime.backends.reference_backend import Reference

EXAMPLES = Path(__file__).parents[1] / "examples"

PATTERNS = [
    ("language/longformer", "longformer"),
    ("language/bigbird", "bigbird"),
    ("language/prefix_lm", "prefix_packed"),
    ("language/t5", "t5"),
    ("language/cross_attention", "aligned"),
    ("vision/clear", "clear"),
    ("vision/cswin", "cswin"),
    ("vision/neighborhood", "na2"),
    ("vision/swin_bias", "swin_bias"),
    ("vision/hilbert_window", "hilbert_window"),
]


@pytest.mark.parametrize(("file", "name"), PATTERNS, ids=[name for _, name in PATTERNS])
def test_examples_pass(file: str, name: str) -> None:
    done: list[int] = []
    verdict = verify(maskdsl.load(EXAMPLES / f"{file}.attn")[name], cases=6, seed=5, progress=done.append)
    assert verdict.passed, verdict.failures
    assert done == [1, 2, 3, 4, 5, 6]
    assert set(verdict.backends) >= {"tiled", "reference"}


def test_a_wrong_value_is_found_and_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Reference.prepared

    def wrong(self, call, *like):  # type: ignore[no-untyped-def]
        def attend(*tensors):  # type: ignore[no-untyped-def]
            out, lse = right(self, call, *like)(*tensors)
            return torch.where(torch.arange(out.shape[2])[:, None] >= 5, out + 1, out), lse

        return attend

    monkeypatch.setattr(Reference, "prepared", wrong)
    pattern = maskdsl.parse("pattern p(n, size = 9) { space tokens[n] attend window(size) }")["p"]
    verdict = verify(pattern, cases=50, seed=1, backends=("reference",))
    (failure,) = verdict.failures
    assert not verdict.passed
    assert "reference: the output" in failure.what
    assert failure.case.parameters["n"] == 6
    assert (failure.case.heads, failure.case.batch, failure.case.dim) == (1, 1, 16)
    assert "n=6" in str(failure.case)


def test_a_wrong_gradient_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Reference.backward

    def wrong(self, call, saved, wanted):  # type: ignore[no-untyped-def]
        grads = right(self, call, saved, wanted)
        return grads._replace(v=grads.v / 2)

    monkeypatch.setattr(Reference, "backward", wrong)
    pattern = maskdsl.parse("pattern p(n) { space tokens[n] attend causal }")["p"]
    (failure,) = verify(pattern, cases=50, seed=1, backends=("reference",)).failures
    assert "derivative" in failure.what


def test_a_wrong_gradient_of_an_input_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Reference.backward

    def wrong(self, call, saved, wanted):  # type: ignore[no-untyped-def]
        grads = right(self, call, saved, wanted)
        return grads._replace(values={name: grad / 2 for name, grad in grads.values.items()})

    monkeypatch.setattr(Reference, "backward", wrong)
    text = "pattern p(n) { space tokens[n] input bias: float[n] attend causal score s + bias[q - k] }"
    (failure,) = verify(maskdsl.parse(text)["p"], cases=50, seed=1, backends=("reference",)).failures
    assert "derivative" in failure.what


def test_branches_of_which_only_some_have_a_log_sum_exp_pass() -> None:
    text = """pattern mixed(n = 4) {
        space tokens[n]
        branch a { attend causal }
        branch b { attend causal  normalize none }
    }"""
    verdict = verify(maskdsl.parse(text)["mixed"], cases=2, seed=0)
    assert verdict.passed, verdict.failures


def test_parameters_given_are_kept() -> None:
    pattern = maskdsl.parse("pattern p(n, size) { space tokens[n] attend window(size) }")["p"]
    assert verify(pattern, cases=3, parameters={"n": 17, "size": 4}).passed


def test_a_pattern_that_never_fits_is_said() -> None:
    text = 'pattern p(n) { space tokens[n] assert n > 100_000, "long ones only" attend causal }'
    with pytest.raises(CannotDraw, match="`p`"):
        verify(maskdsl.parse(text)["p"], cases=1)


def test_parameters_that_make_it_too_long_are_named_with_the_limit() -> None:
    pattern = maskdsl.load(EXAMPLES / "language/longformer.attn")["longformer"]
    with pytest.raises(maskdsl.AttnError, match=r"E459.*`longformer` has 256 tokens .* at most 160"):
        verify(pattern, cases=1, parameters={"n": 256, "size": 32})


def test_results_that_a_type_does_not_hold_are_not_drawn() -> None:
    text = "pattern p(n) { space tokens[n] attend causal score exp(3.0 * s) normalize none }"
    verdict = verify(maskdsl.parse(text)["p"], cases=20, seed=0)
    assert verdict.passed and "float16" in verdict.dtypes, verdict.failures
