"""Random programs, held against a second meaning of the language; `make fuzz` runs as many as one likes."""

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from maskdsl.runtime.backends.native.library import library
from maskdsl.runtime.backends.native.native_backend import Native
from tests.independent.checks import Differs
from tests.independent.compare import COMPUTED, campaign, check
from tests.independent.drawing import Drawn, draw
from tests.independent.programs import Declared
from tests.independent.truth import Truth, truth_of

FIRST, PIECE = 1_000_000, 8
"""Seeds that no campaign runs."""
LONGEST = 20
"""Seconds in which each program is checked, in calls with some of the queries as well."""


@pytest.mark.parametrize("piece", [0, *(pytest.param(piece, marks=pytest.mark.long) for piece in (1, 2, 3, 4))])
def test_programs_are_what_the_second_meaning_says(piece: int) -> None:
    counts, longest = campaign(FIRST + piece * PIECE, PIECE, ("tiled", "reference"))
    assert not counts["different"] and longest < LONGEST, counts
    assert counts["equal"] > PIECE * 0.6, counts  # the binder refuses little of what is drawn


@pytest.mark.skipif(library() is None, reason="no C compiler works here")
@pytest.mark.parametrize("piece", [0, pytest.param(1, marks=pytest.mark.long)])
def test_programs_by_the_kernels_in_c(piece: int) -> None:
    """In float32, to the last roundings. A third of the programs are such as the kernels compute."""
    in_c: Counter[str] = Counter()
    counts, longest = campaign(FIRST + 2 * piece * PIECE, 2 * PIECE, ("native",), in_c=in_c)
    assert not counts["different"] and longest < LONGEST, counts
    assert counts["equal"] > 1.2 * PIECE and min(in_c[each] for each in COMPUTED) >= PIECE // 4, (counts, in_c)


def test_the_room_for_roundings_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """An output that is off by a thousandth of its size is noticed."""
    text = "pattern drawn() { space t[6] attend causal }"
    drawn = Drawn(text, 2, 1, 1, {})
    assert check(drawn, 1, ("native",)) == "equal"
    own = Native.prepared

    def wrong(self: Native, *arguments: Any) -> Any:
        attend = own(self, *arguments)
        return lambda *tensors: (lambda out, lse: (out * 1.001, lse))(*attend(*tensors))

    monkeypatch.setattr(Native, "prepared", wrong)
    with pytest.raises(Differs, match="output"):
        check(drawn, 1, ("native",))


def test_what_differs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A meaning that is wrong in one place is noticed."""
    whole = (each for each in map(draw, range(100)) if "branch" not in each.text)
    wanted = (each for each in whole if {"score", "causal"} <= {*each.text.split()})
    drawn = next(each for each in wanted if truth_of(each, 0).attends.any())
    monkeypatch.setattr("tests.independent.meaning.Meaning.attends", lambda self, q, k: (q.i + k.i) % 2 == 0)
    with pytest.raises(Differs):
        check(drawn, 0, ("tiled",))


def test_a_seed_is_the_same_program_in_every_process() -> None:
    """Whatever order Python's sets have there."""
    code = (
        "from tests.independent.hostile import text_of; from tests.independent.drawing import draw; "
        "print([draw(seed) for seed in range(60)], [text_of(seed, 2000) for seed in range(15)])"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, stdout=subprocess.PIPE, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


TIES = (
    *("max(s, 0.0)", "max(0.0, s, 1.0)", "clamp(s, 0.0, 1.0)", "min(s, 0)", "max(s, sqrt(dim) - 2.0)"),
    *(
        "max(s, float(head))",
        "clamp(s, float(head), 1.0)",
        "min(s, float(k % 2))",
        "max(s, s * 1.0)",
        "max(s, k.worth)",
    ),
)


@pytest.mark.parametrize("score", TIES)
def test_ties_of_min_and_max(score: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores of small integers: what a kink sends where, in two branches of which one is as the other."""
    lines = f"attend all -> all score s + {score} normalize none"
    text = f"pattern drawn() {{ space t[5] input worth: float[tokens] branch a {{ {lines} }} branch b {{ {lines} }} }}"
    drawn = Drawn(text, 2, 1, 1, {"worth": Declared("float", (5,))})

    def of_integers(drawn: Drawn, seed: int, infinite: bool = True, kind: str = "float64") -> Truth:
        random, truth = np.random.default_rng(seed), truth_of(drawn, seed, infinite=False, kind=kind)
        q, k = (random.integers(-1, 2, x.shape).astype(float) for x in truth.tensors[:2])
        return replace(truth, tensors=(q, k, truth.tensors[2]), inputs={"worth": np.round(truth.inputs["worth"])})

    monkeypatch.setattr("tests.independent.compare.truth_of", of_integers)
    assert check(drawn, 3, ("tiled", "reference")) == "equal"
