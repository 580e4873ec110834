"""Every kind of dimension that an input may have: bound, made up, drawn, computed on the CPU, and told to readers."""

from pathlib import Path

import pytest

import maskdsl
from maskdsl.api.verify import verify
from maskdsl.ir.declared.inputs import DimensionKind
from maskdsl.ir.meaning.inputs import input_arrays
from maskdsl.ir.meaning.synthetic_inputs import synthetic_inputs

LANGUAGE = (Path(__file__).parents[1] / "docs" / "language.md").read_text()
WORDS = {
    DimensionKind.BATCH: "`batch`",
    DimensionKind.HEADS: "`heads`",
    DimensionKind.TOKENS: "`tokens`",
    DimensionKind.FIXED: "integer expressions",
    DimensionKind.ENTRIES: "`sparse`",
    DimensionKind.DIM: "`dim`",
    DimensionKind.FREE: "`_`",
}
LINES = {
    DimensionKind.BATCH: "input x: float[batch, tokens]  attend causal  score s + q.x",
    DimensionKind.HEADS: "input x: float[heads]  attend causal  score s * x[head]",
    DimensionKind.TOKENS: "input x: int[tokens]  attend same(x)",
    DimensionKind.FIXED: "input x: float[5]  attend causal  score s + x[(q - k) % 5]",
    DimensionKind.ENTRIES: "input e: sparse[t, t]  input x: float[e]  attend e[q, k]  score s + x[q, k]",
    DimensionKind.DIM: "input x: float[heads, 4, dim]  route r = nearest(x)  attend r",
    DimensionKind.FREE: "input x: float[heads, _, dim]  route r = nearest(x)  attend r",
}


def pattern_with(kind: DimensionKind) -> maskdsl.Pattern:
    return maskdsl.parse(f"pattern p(n = 24) {{ space t[n]  {LINES[kind]} }}")["p"]


def test_every_kind_is_here_and_in_the_language() -> None:
    assert set(LINES) == set(WORDS) == set(DimensionKind)
    section = LANGUAGE.partition("\n## Inputs\n")[2].partition("\n## ")[0]
    assert [word for word in WORDS.values() if word not in section] == []


@pytest.mark.parametrize("kind", DimensionKind)
def test_inputs_of_every_kind(kind: DimensionKind) -> None:
    pattern = pattern_with(kind)
    mask = pattern.bind(heads=2)
    declared = mask.ir.input("x")
    assert declared is not None and kind in declared.kinds
    made = synthetic_inputs(mask.ir, batch=3)
    assert "x" in input_arrays(mask.ir, made, {"x"})
    verdict = verify(pattern, cases=2, backends=("tiled", "reference"))
    assert verdict.failures == ()
