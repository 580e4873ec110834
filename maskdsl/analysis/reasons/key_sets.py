"""Which keys a query attends along one axis, as a phrase: `0 to 2`, `0, 4, ..., 60`."""

from itertools import pairwise

import numpy as np

from maskdsl.ir.facts.intervals import Array

_MOST_RUNS = 3


def _phrase(holds: Array) -> str | None:
    """The indices at which the array is true, in words; None if they are too scattered for that."""
    at = np.flatnonzero(holds)
    if not at.size:
        return "nothing"
    runs = np.split(at, np.flatnonzero(np.diff(at) > 1) + 1)
    if len(runs) <= _MOST_RUNS:
        return " or ".join(f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
    steps = {int(b - a) for a, b in pairwise(at)}
    return f"{at[0]}, {at[1]}, ..., {at[-1]}" if len(steps) == 1 else None


def because(name: str, index: int, holds: Array) -> str | None:
    """Whether the index of a key is one of those that attend: `k.t = 5 is outside 0 to 2`. None as for `_phrase`."""
    allowed = _phrase(holds)
    if allowed is None:
        return None
    if allowed == "nothing":
        return f"no {name} is allowed"
    if allowed == str(index):
        return f"{name} = {index}, and no other"
    if allowed.isdigit():
        return f"{name} = {index} is not {allowed}"
    return f"{name} = {index} is {'in' if holds[index] else 'outside'} {allowed}"
