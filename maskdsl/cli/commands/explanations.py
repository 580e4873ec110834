"""`explain`: what a pattern does and costs, or why one pair attends or does not."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass

from maskdsl.analysis.counts.clause_tiles import clause_tiles
from maskdsl.analysis.counts.stats import stats
from maskdsl.analysis.reasons.pair_reasons import explain_pair
from maskdsl.analysis.reasons.route_reasons import selecting
from maskdsl.analysis.reasons.score_reasons import scored
from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.api import Mask, Pattern
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.commands.command import NoSuchToken, NotAToken
from maskdsl.cli.commands.show_and_stats import finite
from maskdsl.cli.consoles import output
from maskdsl.cli.request.masks import Request, order_text, read_block, read_heads, read_request
from maskdsl.cli.request.routed_masks import ResolvedMasks, resolve_masks
from maskdsl.cli.waiting import working
from maskdsl.ir.declared.sequences import Sequence as Tokens
from maskdsl.ir.heads import Heads
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.inputs import input_arrays, relation_inputs
from maskdsl.ir.routes import Pools
from maskdsl.ir.values.group_scores import GroupScores
from maskdsl.syntax import tree
from maskdsl.view.terminal.explain import Explained, explained
from maskdsl.view.terminal.pair_text import pair_text
from maskdsl.view.terminal.show import title


def explain(
    file: str,
    words: Sequence[str],
    heads: Heads,
    order: str | None,
    block: str,
    pair: tuple[str, str] | None,
    head: int,
    given: Sequence[str],
    seed: int | None,
    as_json: bool,
) -> None:
    """Prints an explanation of the pattern, or of one pair of its tokens."""
    size = read_block(block)
    read_heads([head], heads.count)
    request = read_request(file, words)
    mask = request.bind(heads, order)
    positions = None if pair is None else _read_pair(mask.ir, pair)
    resolved = resolve_masks([mask], given, seed, by_line=True)
    if positions is not None:
        _explain_pair(mask, resolved, *positions, head, as_json)
    else:
        _explain_pattern(request, mask, resolved, size, as_json)


def _explain_pair(bound: Mask, resolved: ResolvedMasks, query: int, key: int, head: int, as_json: bool) -> None:
    mask = resolved.masks[0].ir
    arrays = input_arrays(mask, resolved.inputs, relation_inputs(mask, resolved.inputs, by_line=True))
    explanation = explain_pair(bound.pattern.program, bound.ir, query, key, head, 0, arrays)
    if as_json:
        print(json.dumps(finite(explanation.as_dict()), indent=2))
        return
    console = output()
    console.print(title(bound.ir))
    console.print(pair_text(explanation), soft_wrap=True)


def _explain_pattern(
    request: Request, bound: Mask, resolved: ResolvedMasks, size: tuple[int, int], as_json: bool
) -> None:
    from maskdsl.analysis.counts.growth import growth  # imports sympy: start-up time

    mask = resolved.masks[0].ir
    with working("counting pairs"):
        explanation = Explained(
            bound.ir,
            order_text(mask),
            stats(mask, size, resolved.inputs),
            clause_tiles(mask, tiles(mask, size, resolved.inputs), resolved.inputs),
            growth(request.pattern.program, bound.ir),
            _deciding(bound.ir),
            _macro_words(request.pattern),
            tuple(scored(request.pattern.program, each) for each in bound.ir.branches or (bound.ir,)),
            selecting(bound.ir),
        )
    if as_json:
        print(json.dumps(finite(explanation.as_dict()), indent=2))
        return
    output().print(explained(explanation))


def _deciding(mask: MaskIR) -> tuple[str, ...]:
    """The inputs and routes that decide which pairs attend, without what is made of them."""
    made = {each.name for each in mask.routed if isinstance(each, Pools | GroupScores)}
    made |= {each.name for each in mask.inputs if each.source is not None}
    return tuple(sorted(relation_inputs(mask) - made))


def _read_pair(mask: MaskIR, pair: tuple[str, str]) -> tuple[int, int]:
    """The declared positions of a query and a key, each given as a number or as a cell of a grid."""
    query, key = pair
    return read_token(query, mask.queries, "query"), read_token(key, mask.keys, "key")


def read_token(text: str, sequence: Tokens, side: str) -> int:
    """The position of a token: `4093`; `3,17`, a cell of the first space with so many axes; or `image:3,17`."""
    name, _, cell = text.rpartition(":")
    try:
        positions = [int(each) for each in cell.split(",")]
    except ValueError:
        raise AttnError(NotAToken(text=text, ways=_ways(sequence))) from None
    if len(positions) == 1 and not name:
        if not 0 <= positions[0] < sequence.length:
            raise AttnError(
                NoSuchToken(side=side, text=text, sizes=f"there are {sequence.length} tokens, numbered from 0")
            )
        return positions[0]
    for space, offset in zip(sequence.spaces, sequence.offsets, strict=True):
        if len(space.axes) == len(positions) and name in ("", space.name):
            if not all(0 <= position < length for position, length in zip(positions, space.lengths, strict=True)):
                sizes = " x ".join(f"{axis.length} ({axis.name})" for axis in space.axes)
                raise AttnError(
                    NoSuchToken(side=side, text=text, sizes=f"`{space.name}` has {sizes} tokens, numbered from 0")
                )
            number = 0
            for position, length in zip(positions, space.lengths, strict=True):
                number = number * length + position
            return offset + number
    raise AttnError(NotAToken(text=text, ways=_ways(sequence)))


def _ways(sequence: Tokens) -> str:
    """How the tokens of a sequence can be named: by position, and by cell of each space that is a grid."""
    ways = [f"a position, 0 to {sequence.length - 1}"]
    several = len(sequence.spaces) > 1
    for space in sequence.spaces:
        if several or len(space.axes) > 1:
            axes, cell = ", ".join(axis.name for axis in space.axes), ",".join(str(each - 1) for each in space.lengths)
            ways.append(f"a cell ({axes}) of `{space.name}`, up to {f'{space.name}:' if several else ''}{cell}")
    return "; or ".join(ways)


def _macro_words(pattern: Pattern) -> dict[str, str]:
    """The documentation of the macros that a pattern's statements call, by name."""
    kinds = tree.AttendStatement | tree.RequireStatement | tree.LetStatement
    macros = pattern.program.macros(pattern.declaration.span.source)
    called = dict.fromkeys(
        node.function.id
        for statement in pattern.declaration.statements
        if isinstance(statement, kinds)
        for node in _nodes(statement)
        if isinstance(node, tree.Call)
    )
    return {name: macros[name].doc for name in called if name in macros and macros[name].doc}


def _nodes(value: object) -> Iterator[object]:
    """A node of the tree and everything below it."""
    if isinstance(value, tuple):
        for each in value:
            yield from _nodes(each)
    elif is_dataclass(value) and isinstance(value, tree.Node):
        yield value
        for field in fields(value):
            yield from _nodes(getattr(value, field.name))
