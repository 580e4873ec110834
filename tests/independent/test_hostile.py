"""Hostile texts end in time with a result or declared errors; `make hostile` runs as many as one likes."""

import pytest

from maskdsl.cli.stages import STAGES
from tests.independent.hostile import limited, text_of, tried
from tests.independent.mutations import MARKER

FIRST, PIECE, MOST = 1_000_000, 50, 2000
"""Seeds that no campaign runs, and characters of a text."""


@pytest.mark.parametrize("piece", [0, *(pytest.param(piece, marks=pytest.mark.long) for piece in (1, 2))])
def test_hostile_texts(piece: int) -> None:
    first = FIRST + piece * PIECE
    with limited() as folder:
        found = {seed: tried(text_of(seed, MOST), seed, folder) for seed in range(first, first + PIECE)}
    assert not {seed: each for seed, each in found.items() if each.outcome == "failed"}
    outcomes = [each.outcome for each in found.values()]
    assert outcomes.count("looked at") + outcomes.count("called") >= PIECE * 0.1, outcomes


@pytest.mark.parametrize(
    ("fails", "kind"), [(KeyError("x"), "KeyError"), (RecursionError(), "RecursionError"), (None, "TooSlow")]
)
def test_what_fails_is_found(monkeypatch: pytest.MonkeyPatch, fails: Exception | None, kind: str) -> None:
    def show(*words: object, **named: object) -> None:
        while fails is None:
            pass
        raise fails

    monkeypatch.setattr("tests.independent.hostile.show", show)
    monkeypatch.setattr("tests.independent.hostile.stats", show)
    monkeypatch.setattr("tests.independent.hostile.SECONDS", 0.2)
    with limited() as folder:
        found = tried("pattern a(n = 8) { space t[n] attend causal }", 0, folder)
    assert found.outcome == "failed" and found.kind.startswith(kind)


def test_words_in_code_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "tests.independent.hostile.emitted", lambda stage, mask: f'"""a {MARKER}"""\nprint("{MARKER}")\n'
    )
    monkeypatch.setattr("tests.independent.hostile.STAGES", [each for each in STAGES if each.is_python])
    with limited() as folder:
        found = tried("pattern a(n = 8) { space t[n] attend causal }", 0, folder)
    assert found.kind.startswith("Wrong") and "stand in code" in found.kind
