"""How many random cases a test draws: `make test` draws half of what it says, `make test-long` four times as many."""

import os

FACTOR = float(os.environ.get("MASKDSL_EXAMPLES", "1"))
LEAST = 2


def examples(count: int) -> int:
    """As many of `count` as this run draws."""
    return max(min(count, LEAST), round(count * FACTOR))
