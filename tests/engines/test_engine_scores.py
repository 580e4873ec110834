"""What engines compute with the arguments that `engine_scores` gives is what the pattern computes."""

from typing import get_args

import numpy as np
import pytest
import torch
from torch.nn.attention.flex_attention import flex_attention

import maskdsl
from maskdsl.base.arguments import EngineName
from maskdsl.engines.engine_scores import ENGINES
from tests.support.engine_cases import EXAMPLES, OF_EVERY_FILE, bound, cases_of
from tests.support.engine_decoders import of_bits, of_columns, of_intervals, of_slices
from tests.support.engine_formulas import DEFAULTS, computed, flashinfer_slopes

RANDOM = np.random.default_rng(0)


def tensors(mask: maskdsl.Mask, batch: int = 1, dim: int = 16) -> list[np.ndarray]:
    lengths = mask.given_query_length, mask.given_key_length, mask.given_key_length
    return [2 * RANDOM.normal(size=(batch, mask.heads, length, dim)) for length in lengths]


def reference(mask: maskdsl.Mask, tensors: list[np.ndarray], inputs: dict[str, np.ndarray]) -> np.ndarray:
    given = {name: torch.as_tensor(np.asarray(each)) for name, each in inputs.items()}
    return mask.compile(backend="reference")(*map(torch.as_tensor, tensors), **given).numpy()


def visible(engine: str, mask: maskdsl.Mask, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """What the engine's encoding of the mask says."""
    size = mask.query_length, mask.key_length
    match engine:
        case "cudnn":
            return np.array([of_intervals(each, size[1]) for each in mask.row_intervals(99, **inputs)])
        case "flashmask":
            return np.array([of_columns(each, size[0]) for each in mask.column_intervals(**inputs)])
        case "magi":
            return of_slices(*mask.slices(**inputs), *size)[None]
        case "flashinfer":
            return of_bits(mask.bits(**inputs), *size)[None]
        case _:
            return mask.sdpa_mask(**inputs)[0].numpy()


def load(name: str, pattern: str, **parameters: int) -> maskdsl.Mask:
    return maskdsl.load(EXAMPLES / "language" / f"{name}.attn")[pattern].bind(**parameters)


CAPPED = load("gemma", "gemma2_layer", n=65, size=20, heads=2)
LOGITS = {"logit": np.array([0.5, -1.0, 3.0])}
ALIBI = load("alibi", "alibi", n=65, heads=8)
ALIBI_ODD = load("alibi", "alibi", n=61, heads=6)
SCALED = bound("pattern p(n) { space t[n] attend causal scale 0.3 }", n=65, heads=2)
GROK = bound("pattern p(n) { space t[n] attend causal scale 0.5 score 30 * tanh(s * 0.2 / 30) }", n=65, heads=2)
TABLE = bound(
    "pattern p(n) { space t[n] input table: float[heads, 2 * n] attend window(9) score s + table[head, q - k + n] }",
    n=65,
    heads=2,
)
TWO_SINKS = bound("pattern p(n) { space t[n] attend window(5) sink 0.5 sink 0.1 * head }", n=65, heads=2)
LATER = bound("pattern p(n) { space t[n] attend causal sink log(1.0 + q) }", n=65, heads=2)
CASES = [
    ("capped", CAPPED, {}, {"magi", "flashinfer"}),
    ("alibi", ALIBI, {"slope": flashinfer_slopes(8)}, {"flashinfer", "sdpa"}),
    ("alibi_odd", ALIBI_ODD, {"slope": flashinfer_slopes(6)}, {"flashinfer", "sdpa"}),
    ("alibi_other", ALIBI, {"slope": flashinfer_slopes(8) * 1.001}, {"sdpa"}),
    ("gpt_oss", load("gpt_oss", "sliding", n=65, size=20, heads=3), LOGITS, {"flashmask", "magi", "flashinfer"}),
    ("gpt_oss_full", load("gpt_oss", "full", n=65, heads=3), LOGITS, {"flashmask", "magi", "flashinfer"}),
    ("scaled", SCALED, {}, {*ENGINES}),
    ("grok", GROK, {}, {"magi", "flashinfer"}),
    ("table", TABLE, {"table": RANDOM.normal(size=(2, 130))}, {"sdpa"}),
    ("two_sinks", TWO_SINKS, {}, {"flashmask", "magi"}),
    ("sinks_by_query", LATER, {}, {"magi"}),
]


@pytest.mark.parametrize(("name", "mask", "inputs", "holds"), CASES, ids=[case[0] for case in CASES])
def test_scores_in_each_engines_terms(
    name: str, mask: maskdsl.Mask, inputs: dict[str, np.ndarray], holds: set[str]
) -> None:
    given = tensors(mask)
    expected = reference(mask, given, inputs)[0]
    for engine in ENGINES:
        if engine not in holds:
            with pytest.raises(maskdsl.AttnError, match="E656"):
                mask.engine_scores(engine, **inputs)
            continue
        arguments = mask.engine_scores(engine, **inputs)
        assert arguments, name
        out = computed(engine, *(each[0] for each in given), visible(engine, mask, inputs), arguments)
        np.testing.assert_allclose(out, expected, rtol=0, atol=1e-5)


@OF_EVERY_FILE
def test_every_pattern_that_changes_scores(file: str) -> None:
    """What an engine is told computes the same, or nothing is told."""
    for case in cases_of(file):
        mask = case.mask
        if not (mask.ir.pair_values or mask.ir.query_values):
            continue
        given = tensors(mask, case.entries)
        for engine in ENGINES:
            for batch in range(case.entries):
                try:
                    arguments = mask.engine_scores(engine, batch=batch, head_dim=16, **case.inputs)
                except maskdsl.AttnError as error:
                    assert {each.code for each in error.diagnostics} == {"E656"}
                    continue
                if mask.ir.keys.is_pooled or mask.ir.queries.is_pooled:
                    continue  # callers pool
                expected = reference(mask, given, case.inputs)[batch]
                out = computed(engine, *(each[batch] for each in given), np.array(case.dense[batch]), arguments)
                np.testing.assert_allclose(out, expected, rtol=0, atol=1e-5)


def test_in_torch() -> None:
    """FlexAttention takes the scale, SDPA the scale and biases."""
    given = tensors(SCALED)
    q, k, v = map(torch.as_tensor, given)
    expected = torch.as_tensor(reference(SCALED, given, {}))
    flex = flex_attention(q, k, v, block_mask=SCALED.block_mask(16), **SCALED.engine_scores("flex"))
    sdpa = torch.nn.functional.scaled_dot_product_attention
    torch.testing.assert_close(flex, expected)
    torch.testing.assert_close(sdpa(q, k, v, attn_mask=SCALED.sdpa_mask(), **SCALED.engine_scores("sdpa")), expected)
    inputs = {"slope": flashinfer_slopes(8)}
    given = tensors(ALIBI)
    arguments = ALIBI.engine_scores("sdpa", **inputs)
    bias = torch.as_tensor(arguments["attn_mask"]).double()
    expected = torch.as_tensor(reference(ALIBI, given, inputs))
    torch.testing.assert_close(sdpa(*map(torch.as_tensor, given), attn_mask=bias), expected, rtol=0, atol=1e-5)


PATTERN = "pattern p(n) {{ space t[n] input slope: float[heads] attend {} {} }}"


@pytest.mark.parametrize(
    "line",
    [
        "score s - slope[head] * (q - k)",
        "score s + (k - q) * slope[head]",
        "score s - float(q - k) * slope[head]",
        "score slope[head] * (k - q) + s",
        "score s + -(slope[head] * (q - k))",
        "score s - slope[head] * abs(q - k)",
        "score s - (q - k) / (1.0 / slope[head])",
        "score 2 * (0.5 * s - 0.5 * slope[head] * (q - k))",
        "let d = q - k score s - slope[head] * d",
    ],
)
def test_the_ways_to_write_alibi(line: str) -> None:
    mask = bound(PATTERN.format("causal", line), n=33, heads=4)
    assert mask.engine_scores("flashinfer", slope=flashinfer_slopes(4)) == {"pos_encoding_mode": "ALIBI"}
    with pytest.raises(maskdsl.AttnError, match="E656"):
        mask.engine_scores("flashinfer", slope=flashinfer_slopes(4)[::-1])


@pytest.mark.parametrize(
    ("relation", "line"),
    [
        ("all -> all", "score s - slope[head] * abs(q - k)"),
        ("causal", "score s + slope[head] * (q - k)"),
        ("causal", "score s - slope[head] * (q - k + 1)"),
        ("causal", "score s - slope[head] * (q - 2 * k)"),
        ("causal", "score s - slope[head] * (q - k) * (q - k)"),
        ("causal", "score s - slope[head] * (q - k) score s - slope[head] * (q - k)"),
        ("causal", "score s - slope[head] * (q - k) score 9 * tanh(s / 9)"),
        ("causal", "score 9 * tanh(s / 9) score s - slope[head] * (q - k)"),
        ("causal", "score s - slope[head] * (q - k) sink 0.0"),
        ("causal", "score slope[head] * s"),
        ("causal", "score s * s"),
        ("causal", "score s - tanh(s)"),
        ("causal", "score -9 * tanh(s / 9)"),
        ("causal", "score 9 * tanh((s + 1) / 9)"),
        ("causal", "score 9 * tanh(s / 9) + 1"),
        ("causal", "score 9 * tanh(9 * tanh(s / 9) / 9)"),
        ("causal", "scale slope[head]"),
        ("causal", "weight slope[head]"),
        ("causal", "weight 1.0 / (1.0 + k)"),
        ("causal", "normalize softmax by k"),
        ("causal", "score s * 0.5 sink 0.0 + q"),
        ("causal and k % 2 == 0", "sink 0.0"),
        ("window(3)", "sink 0.0"),
        ("backward(3 + head)", "sink 0.0"),
    ],
)
def test_what_flashinfer_is_not_told(relation: str, line: str) -> None:
    mask = bound(PATTERN.format(relation, line), n=33, heads=4)
    with pytest.raises(maskdsl.AttnError, match="E656"):
        mask.engine_scores("flashinfer", head_dim=64, slope=flashinfer_slopes(4))


def test_a_scale_takes_the_head_dimension() -> None:
    halved = bound("pattern p(n) { space t[n] attend causal score s / 2 }", n=9)
    assert halved.engine_scores("cudnn", head_dim=64) == {"softmax_scale": 0.0625}
    by_dim = bound("pattern p(n) { space t[n] attend causal scale 1.0 / float(dim) }", n=9)
    assert by_dim.engine_scores("magi", head_dim=64) == {"softmax_scale": 1 / 64}
    for mask in (halved, by_dim):
        with pytest.raises(maskdsl.AttnError, match="E657"):
            mask.engine_scores("cudnn")


def test_plain_scores_say_nothing() -> None:
    mask = bound("pattern p(n) { space t[n] input d: int[batch, t] attend same(d) score 2 * (s / 2) }", n=9)
    assert not any(mask.engine_scores(engine, d=np.zeros((1, 9), dtype=int)) for engine in get_args(EngineName))


def test_a_window_of_flashinfers_kernel_with_sinks() -> None:
    for size, left in ((1, 0), (20, 19), (64, 63), (65, -1), (900, -1)):
        mask = load("gpt_oss", "sliding", n=65, size=size, heads=3)
        arguments = mask.engine_scores("flashinfer", **LOGITS)
        assert (arguments["causal"], arguments["window_left"]) == (True, left)


def test_mistakes() -> None:
    assert get_args(EngineName) == tuple(ENGINES) == tuple(DEFAULTS)
    with pytest.raises(maskdsl.AttnError, match=r"(?s)E460.*an engine: flex, cudnn"):
        SCALED.engine_scores("cuda")
    with pytest.raises(maskdsl.AttnError, match="E410"):
        ALIBI.engine_scores("sdpa")
    branched = bound("pattern p(n) { space t[n] branch a { attend causal } branch b { attend all -> all } }", n=9)
    with pytest.raises(maskdsl.AttnError, match="E650"):
        branched.engine_scores("magi")
