"""`emit`: prints what a stage of the compiler makes of a pattern, or writes what another engine takes."""

from collections.abc import Sequence

import numpy as np

from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.inputs import MissingInput
from maskdsl.base.errors.commands.command import NoArraysFile
from maskdsl.cli.consoles import note, output
from maskdsl.cli.engine_arrays import ENGINES, score_arrays
from maskdsl.cli.request.masks import choose, read_request
from maskdsl.cli.request.routed_masks import resolve_masks
from maskdsl.cli.stages import STAGES
from maskdsl.cli.written_files import writing
from maskdsl.ir.heads import Heads


def emit(file: str, words: Sequence[str], stage: str, heads: Heads, order: str | None, given: Sequence[str]) -> None:
    """Prints the text of one stage; code is coloured on a terminal."""
    choose("stage", stage, [each.name for each in STAGES])
    (chosen,) = (each for each in STAGES if each.name == stage)
    mask = read_request(file, words).bind(heads, order)
    if chosen.reads_inputs:
        resolved = resolve_masks([mask], given, None)
        text = chosen.made(resolved.masks[0], resolved.inputs)
    else:
        text = chosen.made(mask, {})
    console = output()
    if chosen.language and console.is_terminal and not console.no_color:
        from rich.syntax import Syntax  # imports pygments: start-up time

        console.print(Syntax(text, chosen.language, theme="ansi_dark", background_color="default", word_wrap=True))
    else:
        print(text, end="")


def emit_arrays(
    file: str, words: Sequence[str], engine: str | None, out: str | None, heads: Heads, given: Sequence[str]
) -> None:
    """Writes the arrays that an engine takes to an .npz file."""
    if engine is None or out is None or not out.endswith(".npz"):
        raise AttnError(NoArraysFile(engine=engine or "flex"))
    choose("engine", engine, [*ENGINES])
    resolved = resolve_masks([read_request(file, words).bind(heads)], given, None)
    (mask,) = resolved.masks
    arrays = ENGINES[engine](mask, resolved.inputs)
    try:
        arrays |= score_arrays(engine, mask, resolved.inputs)
    except AttnError as error:
        for each in error.diagnostics:
            is_missing = isinstance(each, MissingInput)
            instead = "give it: --input {name}=FILE.npy" if is_missing else each.help
            note(f"pairs alone are written: {each.fill(each.message)}; {each.fill(instead)}")
    with writing(out):
        np.savez(out, **arrays)  # type: ignore[arg-type]
    print(f"wrote {out}: " + ", ".join(f"{name} {list(each.shape)}" for name, each in arrays.items()))
