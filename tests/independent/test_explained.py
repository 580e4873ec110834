"""What `explain` says of pairs of random programs is what the second meaning says."""

import warnings
from random import Random

import pytest

import maskdsl
from tests.independent.checks import Differs, loaded
from tests.independent.drawing import draw
from tests.independent.explained import check_explained
from tests.independent.meaning import Meaning
from tests.independent.selection import Unclear
from tests.independent.truth import Truth, truth_of

FIRST, PIECE, PAIRS = 2_000_000, 25, 8


def bound(seed: int) -> tuple[maskdsl.Mask, Truth] | None:
    """A random program and its truth; None if it does not bind, or rounding decides what attends."""
    drawn = draw(seed)
    try:
        with warnings.catch_warnings(action="ignore", category=maskdsl.AttnWarning):
            mask = loaded(drawn)["drawn"].bind(heads=drawn.heads, key_heads=drawn.key_heads, **drawn.values)
        truth = truth_of(drawn, seed)
        truth.attends  # noqa: B018  # computed, or unclear
    except (maskdsl.AttnError, Unclear):
        return None
    return mask, truth


@pytest.mark.parametrize("piece", [0, *(pytest.param(each, marks=pytest.mark.long) for each in range(1, 20))])
def test_explanations_are_what_the_second_meaning_says(piece: int) -> None:
    known = [each for seed in range(PIECE) if (each := bound(FIRST + piece * PIECE + seed)) is not None]
    assert len(known) > PIECE * 0.6
    for mask, truth in known:
        check_explained(mask, truth, Random(piece), PAIRS)


@pytest.mark.parametrize("name", ["attends", "coordinate", "selected"])
def test_wrong_explanations_are_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second meaning that is wrong in one place differs from some explanation."""
    right = getattr(Meaning, name)
    wrong = {
        "attends": lambda self, q, k: not right(self, q, k),
        "coordinate": lambda self, token, name: right(self, token, name) + (name == "i"),
        "selected": lambda self, route, q, k: not right(self, route, q, k),
    }
    words = {"attends": "causal", "coordinate": ".i ", "selected": "topk("}
    chosen = (seed for seed in range(300) if words[name] in draw(seed).text)
    known = next(each for seed in chosen if (each := bound(seed)) is not None)
    monkeypatch.setattr(Meaning, name, wrong[name])
    with pytest.raises(Differs):
        check_explained(*known, Random(0), 30)
