"""A guessed pattern: its text, and whether it attends exactly the pairs of a mask. Nothing is trusted unverified."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskdsl.analysis.orders.binding import bind_mask
from maskdsl.api import Mask, Pattern
from maskdsl.api.recognition.bands import BandAxis, Pairs
from maskdsl.api.recognition.lines import line_relations
from maskdsl.api.recognition.predicates import CHUNK
from maskdsl.base.records import dataclass
from maskdsl.bind import find_pattern
from maskdsl.ir.meaning.evaluate import allowed
from maskdsl.ir.meaning.inputs import input_arrays, relation_inputs
from maskdsl.syntax.program import program_from_text

_SAMPLE_ROWS = 16


@dataclass(frozen=True)
class Tokens:
    """The tokens of a pattern: parameters with their values, and the statements that declare spaces and coordinates."""

    parameters: Mapping[str, int]
    statements: tuple[str, ...]
    compares_positions: bool = False
    """Whether positions in queries and in other keys are compared on purpose."""


def line_tokens(queries: int, keys: int) -> Tokens:
    """A line of tokens; queries and keys of different numbers are tokens of two spaces."""
    if queries == keys:
        return Tokens({"n": queries}, ("space tokens[n]",))
    spaces = "space target[n]", "space source[m]", "queries target", "keys source"
    return Tokens({"n": queries, "m": keys}, spaces, compares_positions=True)


@dataclass(frozen=True)
class Values:
    """The values of an input, and its type as it is declared: `int[tokens]`."""

    declared: str
    values: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Guess:
    """A relation between tokens, with the inputs that it reads."""

    relation: str
    tokens: Tokens
    inputs: Mapping[str, Values] = field(default_factory=dict)
    heads: int = 1

    @property
    def values(self) -> dict[str, NDArray[Any]]:
        """The inputs by name."""
        return {name: each.values for name, each in self.inputs.items()}

    @property
    def text(self) -> str:
        """The pattern as an `.attn` text."""
        values = ", ".join(f"{name} = {length}" for name, length in self.tokens.parameters.items())
        inputs = [f"input {name}: {each.declared}" for name, each in self.inputs.items()]
        allowance = "  # allow: W001" if self.tokens.compares_positions and not inputs else ""
        lines = [*self.tokens.statements, *inputs, f"attend {self.relation}{allowance}"]
        return "\n".join([f"pattern imported({values}) {{", *(f"    {line}" for line in lines), "}", ""])

    @cached_property
    def mask(self) -> Mask:
        """The bound pattern. Warnings about a guess would be none of the user's business."""
        program = program_from_text(self.text, name="<imported>")
        pattern = Pattern(program, find_pattern(program, "imported"))
        return Mask(pattern, bind_mask(program, pattern.name, {}, self.heads, None))

    def attends(self, pairs: Pairs) -> bool:
        """Whether it attends exactly these pairs [batch, heads, queries, keys].

        A sample of rows is compared first, and rejects most guesses.
        """
        mask, (_, _, queries, keys) = self.mask.ir, pairs.shape
        inputs = input_arrays(mask, self.values, relation_inputs(mask))
        step = max(1, CHUNK // keys)
        sample = np.arange(0, queries, -(-queries // _SAMPLE_ROWS))
        chunks = [sample, *(np.arange(start, min(start + step, queries)) for start in range(0, queries, step))]
        return all(
            np.array_equal(allowed(mask, rows[:, None], np.arange(keys), head, entry, inputs), pairs[entry, head, rows])
            for rows in chunks
            for entry, head in np.ndindex(pairs.shape[:2])
        )


def first_relation(pairs: Pairs, axis: BandAxis) -> str | None:
    """The first relation along an axis that holds for exactly these pairs [length, length]."""
    space = "tokens[n]" if axis.name == "i" else f"tokens[{axis.name} = n]"
    tokens = Tokens({"n": len(pairs)}, (f"space {space}",))
    guesses = line_relations(pairs, axis)
    return next((each for each in guesses if Guess(each, tokens).attends(pairs[None, None])), None)
