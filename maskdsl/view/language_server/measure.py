"""Measures a pattern at its defaults in another process, which is killed if it takes too long.

`python -m maskdsl.view.language_server.measure` reads one JSON object with `text`, `name`, `directory` and `pattern`
from standard input, and writes the figures of the pattern in Markdown.
"""

import asyncio
import json
import sys
from typing import Any

from numpy.typing import NDArray

from maskdsl.analysis.counts.stack_stats import stack_stats
from maskdsl.analysis.counts.stats import Figures, stats
from maskdsl.analysis.orders.binding import bind_layers, bind_mask
from maskdsl.base.diagnostics import AttnError
from maskdsl.ir.facts.route_candidates import most, selects
from maskdsl.ir.heads import DEFAULT_HEADS
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.inputs import relation_inputs
from maskdsl.ir.meaning.route_meaning import with_routes
from maskdsl.ir.meaning.synthetic_inputs import synthetic_inputs
from maskdsl.syntax.program import Program, program_from_text
from maskdsl.view import units
from maskdsl.view.terminal.show import head_count

_BLOCK = (128, 128)
SECONDS = 5.0
_MOST_KEPT = 64


class Measurements:
    """The figures of patterns, cached by their texts."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self.kept: dict[str, str] = {}

    async def text(self, text: str, name: str, directory: str | None, pattern: str) -> str:
        """The figures in Markdown, or a sentence that they take too long; empty if the pattern has errors."""
        question = json.dumps({"text": text, "name": name, "directory": directory, "pattern": pattern})
        if question not in self.kept:
            while len(self.kept) >= _MOST_KEPT:
                self.kept.pop(next(iter(self.kept)))
            self.kept[question] = await _answer_of(question, self.seconds)
        return self.kept[question]


async def _answer_of(question: str, seconds: float) -> str:
    command = (sys.executable, "-m", "maskdsl.view.language_server.measure")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL)
    try:
        answer, _ = await asyncio.wait_for(process.communicate(question.encode()), seconds)
    except TimeoutError:
        process.kill()
        await process.wait()
        return f"Its tiles take more than {seconds:g} seconds to find."
    return answer.decode()


def answer(program: Program, name: str) -> str:
    """The figures of a pattern or a stack at its defaults."""
    if name in program.stacks:
        stack = bind_layers(program, name, {}, DEFAULT_HEADS)
        inputs = {name: values for mask in stack.different for name, values in _inputs(mask).items()}
        total = stack_stats(stack, _BLOCK, inputs).total
        layers = f"{len(stack.index)} layers, {len(stack.different)} of them different"
        return f"{layers}, {units.count(stack.length)} tokens, {head_count(DEFAULT_HEADS)}\n\n{_figures(total)}"
    mask = bind_mask(program, name, {}, DEFAULT_HEADS)
    inputs = _inputs(mask)
    rest = " All pairs that routes may select:" if selects(mask) else ""
    total = stats(most(mask) if rest else mask, _BLOCK, inputs).total
    lengths = dict.fromkeys((mask.queries.length, mask.keys.length))
    tokens = " x ".join(map(units.count, lengths))
    return f"{tokens} tokens, {head_count(DEFAULT_HEADS)}.{rest}\n\n{_figures(total)}"


def _inputs(mask: MaskIR) -> dict[str, NDArray[Any]]:
    """Made-up values of the inputs that decide the tiles."""
    needed = relation_inputs(mask)
    made = {name: values for name, values in synthetic_inputs(mask).items() if name in needed}
    return {**with_routes(mask, made, None, None, needed)} if mask.routed else made


def _figures(total: Figures) -> str:
    size = f"{_BLOCK[0]} x {_BLOCK[1]}"
    return "\n".join(
        [
            "| | |",
            "| --- | --- |",
            f"| density | {units.percent(total.density)} of all pairs attend |",
            f"| tiles of {size} | {units.count(total.full_tiles)} full, {units.count(total.partial_tiles)} partial, "
            f"of {units.count(total.tiles)} |",
            f"| waste | {units.percent(total.waste)} of computed pairs are masked |",
            f"| at most | {units.times(total.speedup_bound)} as fast as dense attention |",
        ]
    )


def _main() -> None:
    """Reads one question and prints the answer."""
    question = json.load(sys.stdin)
    try:
        program = program_from_text(question["text"], question["name"], question["directory"])
        print(answer(program, question["pattern"]))
    except AttnError:
        return  # the editor shows the errors as diagnostics


if __name__ == "__main__":
    _main()
