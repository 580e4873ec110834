"""A way in which the product is broken on purpose, and the tests that have to notice it."""

from typing import NamedTuple

COMPARE = "tests.independent.compare"


class Mutant(NamedTuple):
    name: str
    file: str
    old: str
    """What stands in the file exactly once."""
    new: str
    tests: tuple[str, ...]
    """Nodes of pytest, or what follows `python -m`: `COMPARE`, the first seed, how many."""

    def applied(self, text: str) -> str:
        """The file with the fault."""
        assert text.count(self.old) == 1, f"{self.name}: {text.count(self.old)} places in {self.file}"
        return text.replace(self.old, self.new)


def compared(first: int, count: int, *options: str) -> tuple[str, ...]:
    return (COMPARE, str(first), str(count), *options)


def of(module: str, *tests: str) -> tuple[str, ...]:
    return tuple(f"tests/{module}.py::{each}" for each in tests)
