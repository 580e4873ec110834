"""How many random cases a test draws: what it says in `make test`, fewer or more in `make test-fast`, `test-long`."""

import os

FACTOR = float(os.environ.get("MASKDSL_EXAMPLES", "1"))
LEAST = 2


def examples(count: int) -> int:
    """Of `count` in `make test`, as many as this run draws."""
    return max(min(count, LEAST), round(count * FACTOR))
