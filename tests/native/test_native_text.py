"""`emit --stage native`: one text for all patterns, below a comment that names one."""

import pytest

import maskdsl
from maskdsl.cli.stages import STAGES
from maskdsl.emit import native_text
from maskdsl.emit.skeleton import read_c
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
pattern by_key(n = 8) { space t[n] attend causal normalize softmax by k }
"""
(NATIVE,) = (stage for stage in STAGES if stage.name == "native")


def texts() -> list[str]:
    return [NATIVE.made(pattern.bind(), {}) for pattern in maskdsl.parse(PATTERNS).values()]


def test_it_names_the_pattern_and_is_the_same_below() -> None:
    names = ("near(n=8, size=3)", "branched(n=8)", "by_key(n=8)")
    for name, text in zip(names, texts(), strict=True):
        comment, end, below = text.partition(" */\n\n")
        assert comment.startswith("/* Attention") and f"\n * Pattern: {name}\n" in comment
        assert end and below == read_c("native")


@NEEDS_COMPILER
def test_it_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_text, "read_c", lambda name: TEXT)
    for text in texts():
        assert b"maskdsl_native_version" in shared_library(f"{text}int main;\n", c_compiler())
