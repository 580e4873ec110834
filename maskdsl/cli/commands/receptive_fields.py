"""`field`: how far information travels through layers."""

import json
from collections.abc import Sequence

from maskdsl.analysis.reach.receptive_field import as_stack
from maskdsl.analysis.reach.receptive_field import field as find_field
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.commands.command import NoPictures
from maskdsl.cli.consoles import output
from maskdsl.cli.request.masks import read_subject
from maskdsl.cli.request.routed_masks import resolve_stack
from maskdsl.cli.waiting import working
from maskdsl.cli.written_files import writing
from maskdsl.ir.heads import Heads
from maskdsl.view.image.field_figure import save_figure
from maskdsl.view.terminal.field_text import field_view
from maskdsl.view.terminal.show import title
from maskdsl.view.terminal.stack_table import stack_title


def field(
    file: str,
    words: Sequence[str],
    heads: Heads,
    layers: int | None,
    token: int | None,
    given: Sequence[str],
    seed: int | None,
    as_json: bool,
    out: str | None,
) -> None:
    """Prints the receptive field of a token, and what connects all tokens."""
    bound = read_subject(file, words).bind(heads)
    stack = as_stack(bound.ir)
    resolved = resolve_stack(stack, given, seed)
    with working("following tokens through layers"):
        result = find_field(resolved.stack, token=token, layers=layers, inputs=resolved.inputs)
    tokens = stack.different[0].queries
    if out is not None:
        try:
            with writing(out):
                save_figure(result, stack.name, tokens, out)
        except ImportError:
            raise AttnError(NoPictures()) from None
    if as_json:
        values = {"parameters": dict(stack.parameters), "layers": [mask.name for mask in stack.layers]}
        print(json.dumps(result.as_dict() | values, indent=2))
        return
    head = stack_title(stack) if stack is bound.ir else title(stack.different[0])
    console = output()
    console.print(field_view(head, result, [mask.name for mask in stack.layers], tokens, console.width))
