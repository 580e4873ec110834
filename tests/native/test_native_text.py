"""`emit --stage native`: one text for most patterns, filled for others, below a comment that names one."""

import pytest

import maskdsl
from maskdsl.cli.stages import STAGES
from maskdsl.emit import native_text
from maskdsl.emit.native_scores import NativeText, plain_native
from maskdsl.runtime.backends.native.c_compiler import c_compiler, shared_library
from tests.support.compiled_c import NEEDS_COMPILER, TEXT

PATTERNS = """
## Ends */ int main(void) { return 0; } /* and begins \\
## / a comment.
pattern near(n = 8, size = 3) { space t[n] attend backward(size) }
pattern branched(n = 8) {
    space t[n]
    branch near { attend backward(3) }
    branch past { attend causal }
}
"""
FILLED = """
pattern by_key(n = 8) { space t[n] attend causal normalize softmax by k }
pattern gated(n = 8) { space t[n] input gate: float[t] attend causal weight sigmoid(k.gate) }
pattern capped(n = 8, cap = 3.0) { space t[n] attend causal score cap * tanh(s) }
pattern half(n = 8) {
    space t[n]
    input gate: float[t]
    branch near { attend backward(3) }
    branch past { attend causal score s * k.gate }
}
"""
(NATIVE,) = (stage for stage in STAGES if stage.name == "native")


def texts(source: str) -> dict[str, str]:
    return {name: NATIVE.made(pattern.bind(), {}) for name, pattern in maskdsl.parse(source).items()}


def test_it_names_the_pattern_and_is_the_same_below() -> None:
    names = ("near(n=8, size=3)", "branched(n=8)")
    for name, text in zip(names, texts(PATTERNS).values(), strict=True):
        comment, end, below = text.partition(" */\n\n")
        assert comment.startswith("/* Attention") and f"\n * Pattern: {name}\n" in comment
        assert end and below == plain_native().text


def test_holes_are_filled_with_scores_and_weights() -> None:
    made = texts(FILLED)
    assert "    return key_0;\n" in made["gated"] and "gate" not in made["gated"].partition(" */\n\n")[2]
    assert "= hyperbolic_tangent(s);\n" in made["capped"]
    for name in ("by_key", "half"):
        assert plain_native().text in made[name] and made[name].count("maskdsl_native_version") == 2
    assert " * Branch: past\n" in made["half"]


def test_numbers_of_patterns_are_arguments() -> None:
    capped = maskdsl.parse(FILLED)["capped"]
    one, other = (NATIVE.made(capped.bind(cap=cap), {}).partition(" */\n\n")[2] for cap in (3.0, 7.25))
    assert one == other and "7.25" not in other


@NEEDS_COMPILER
def test_it_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_text, "plain_native", lambda: NativeText(TEXT))
    for text in texts(PATTERNS).values():
        assert b"maskdsl_native_version" in shared_library(f"{text}int main;\n", c_compiler())
