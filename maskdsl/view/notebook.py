"""HTML for notebooks: patterns, masks, stacks, tiles and attentions as pictures of tiles beside tables of figures.

Text has the colours of the notebook, for light and dark themes. Nothing is loaded from elsewhere.
"""

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from maskdsl.analysis.counts.stack_stats import StackStats
from maskdsl.analysis.counts.stats import Figures, Stats, stats
from maskdsl.analysis.orders.best import BestOrder
from maskdsl.analysis.orders.binding import bind_mask
from maskdsl.analysis.orders.layouts import layout_text, written_layout
from maskdsl.analysis.tiles.block_map import BlockMap
from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.text import markup
from maskdsl.ir.facts.route_candidates import most, selects
from maskdsl.ir.heads import DEFAULT_HEADS
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.inputs import relation_inputs
from maskdsl.ir.meaning.route_meaning import with_routes
from maskdsl.ir.meaning.synthetic_inputs import synthetic_inputs
from maskdsl.ir.stack import StackIR
from maskdsl.syntax.program import Program
from maskdsl.syntax.tree import PatternDeclaration, StackDeclaration
from maskdsl.view import units
from maskdsl.view.cells import Scale, count_cells, fit
from maskdsl.view.head_figures import BLOCK, Counted, by, total_name
from maskdsl.view.image.png import png
from maskdsl.view.palette import LIGHT, colour_numbers
from maskdsl.view.terminal.order_table import order_lines
from maskdsl.view.terminal.show import cell_size, first_sentence, head_classes, head_count, heading, written
from maskdsl.view.terminal.stack_table import layers_text, stack_title
from maskdsl.view.terminal.stats_table import figure_lines, head_columns

_CELLS = 128
"""The most cells of a side of a picture."""
_FINENESS = 8
"""The number of tiles of a side of a cell, which shade it."""
_PIXELS = 256
"""The pixels of the longer side of a picture."""
_MOST_PICTURES = 4
_MOST_LAYERS = 8
_MOST_COLUMNS = 6
_MOST_ROWS = 12

_Arrays = Mapping[str, NDArray[Any]]


def html(*values: object) -> str:
    """The HTML of the values that a `Displayed` object shows."""
    match values:
        case (MaskIR() as mask,):
            return _frame(_title(mask), _mask(mask))
        case (MaskIR() as mask, str() as backend, str() as source):
            head = f"{_title(mask)}<div style='opacity:.7'>backend {markup(backend)}</div>"
            return _frame(head, _mask(mask) + _folded("generated source", source))
        case (StackIR() as stack,):
            return _frame(f"<b>{markup(stack_title(stack).plain)}</b>{_paragraph(stack.doc)}", _layers(stack))
        case (BlockMap() as block_map,):
            pictures = _pictures(block_map, _scale(block_map), Counted.of_tiles(block_map))
            return _frame("", _beside(pictures, _table(_tile_rows(block_map))))
        case (Program() as program, PatternDeclaration() as declaration):
            return _pattern(program, declaration)
        case (Program() as program,):
            return _frame("", "".join(_declarations(program)))
        case ("imported", MaskIR() as mask, str() as text, str() as note, dict() as inputs):
            source = f"<pre style='margin:0'>{markup(text)}</pre>"
            return _frame("", source + _paragraph(note) + _mask(mask, inputs))
        case (Figures() as figures,):
            return _frame("", _columns([""], figure_lines([figures])))
        case (Stats() as measured,):
            columns = head_columns(measured, range(len(measured.heads)))
            every = [("all heads", measured.total), *columns[:_MOST_COLUMNS]] if len(columns) > 1 else columns
            lines = figure_lines([figures for _, figures in every])
            return _frame(markup(repr(measured)), _columns([name for name, _ in every], lines))
        case (StackStats() as summed,):
            every = [
                ("all layers", summed.total),
                *(
                    (f"layer {summed.index.index(n) + 1}", each.total)
                    for n, each in enumerate(summed.different[:_MOST_COLUMNS])
                ),
            ]
            lines = figure_lines([figures for _, figures in every])
            return _frame(markup(repr(summed)), _columns([name for name, _ in every], lines))
        case (BestOrder() as best,):
            names, orders = order_lines(best, best.rows[:_MOST_ROWS])
            return _frame(markup(repr(best)), _columns(names, orders))
        case _:
            raise AssertionError(values)


def _declarations(program: Program) -> Iterator[str]:
    """A line for each pattern and each stack of a program's own files."""
    standard = program.standard.span.source
    every: list[PatternDeclaration | StackDeclaration] = [*program.patterns.values(), *program.stacks.values()]
    for each in every:
        if each.span.source is not standard:
            kind = "stack " if isinstance(each, StackDeclaration) else ""
            signature = ", ".join(parameter.span.text for parameter in each.parameters)
            name = f"{kind}<b>{markup(each.name.id)}</b>({markup(signature)})"
            yield f"<div>{name}{_paragraph(first_sentence(each.doc)) if each.doc else ''}</div>"


def _pattern(program: Program, declaration: PatternDeclaration) -> str:
    """Documentation, source and, if it can be bound at its defaults, a picture of the pattern."""
    signature = ", ".join(each.span.text for each in declaration.parameters)
    head = f"<b>{markup(declaration.name.id)}</b>({markup(signature)}){_paragraph(declaration.doc)}"
    body = _folded("source", declaration.span.text)
    if all(each.default is not None for each in declaration.parameters):
        try:
            mask = bind_mask(program, declaration.name.id, {}, DEFAULT_HEADS)
            body = _paragraph(f"at its defaults, {head_count(DEFAULT_HEADS)}:") + _mask(mask) + body
        except AttnError as error:
            body = _folded("errors at its defaults", str(error)) + body
    return _frame(head, body)


def _layers(stack: StackIR) -> str:
    """The different layers, under their numbers."""
    shown = enumerate(stack.different[:_MOST_LAYERS])
    layers = [f"<div>{layers_text(stack, number)}: {_title(mask)}</div>{_mask(mask)}" for number, mask in shown]
    if len(stack.different) > _MOST_LAYERS:
        layers.append(f"<div>and {len(stack.different) - _MOST_LAYERS} more different layers</div>")
    return "".join(layers)


def _title(mask: MaskIR) -> str:
    values = ", ".join(f"{name}={written(value)}" for name, value in mask.parameters)
    lengths = f"{units.count(mask.queries.length)} tokens"
    if mask.queries.spaces != mask.keys.spaces:
        lengths = f"{units.count(mask.queries.length)} queries, {units.count(mask.keys.length)} keys"
    size = f"{lengths}, {head_count(mask.heads)}"
    doc = _paragraph(first_sentence(mask.doc)) if mask.doc else ""
    return f"<b>{markup(mask.name)}</b>({markup(values)}) <span style='opacity:.7'>{size}</span>{doc}"


def _mask(mask: MaskIR, given: _Arrays | None = None) -> str:
    """Pictures and figures of a mask, or the error why there are none."""
    try:
        return _figures(mask, given)
    except AttnError as error:
        return _folded("no picture", str(error))


def _figures(mask: MaskIR, given: _Arrays | None) -> str:
    """Pictures and figures of a mask. Inputs that decide its tiles are made up, unless they are given."""
    inputs, notes = _inputs(mask) if given is None else (given, [])
    if selects(mask):
        notes.append("all pairs that routes may select")
        mask = most(mask)
    scale = _fitted((mask.queries.length, mask.keys.length))
    counted = Counted.beside(mask, None, inputs)
    pictures = _pictures(tiles(mask, scale.block, inputs), scale, counted)
    order = written_layout(mask)
    below = [f"order {layout_text(mask, order)}"] if order else []
    known = [each.density is not None for each in counted.heads]
    rows = _figure_rows(stats(mask, BLOCK, inputs)) if any(known) else []
    return _beside(pictures, _table(rows)) + "".join(map(_paragraph, [*below, *notes]))


def _inputs(mask: MaskIR) -> tuple[_Arrays, list[str]]:
    needed = relation_inputs(mask)
    made = {name: values for name, values in synthetic_inputs(mask).items() if name in needed}
    notes = [f"made-up values of {', '.join(made)}"] if made else []
    return (with_routes(mask, made, None, None, needed) if mask.routed else made), notes


def _fitted(lengths: tuple[int, int]) -> Scale:
    """Square cells of a power of two of tokens, like most blocks in patterns: their tiles are found fastest."""
    cell = 1 << (-(-max(lengths) // _CELLS) - 1).bit_length()
    fine = max(1, cell // _FINENESS)
    return Scale((fine, fine), (cell // fine, cell // fine), fitted=True)


def _scale(tiles: BlockMap) -> Scale:
    return fit((tiles.query_length, tiles.key_length), (_CELLS, _CELLS), tiles.block)


def _pictures(tiles: BlockMap, scale: Scale, counted: Counted) -> str:
    """A picture for each head class."""
    heads = tiles.class_of_head.shape[1]
    classes = head_classes(tiles.class_of_head, range(heads))
    shown = [
        _picture(tiles, scale, counted, members[0], heading(members, heads, "") or "a head")
        for members in list(classes.values())[:_MOST_PICTURES]
    ]
    if len(classes) > _MOST_PICTURES:
        shown.append(f"<div>and {len(classes) - _MOST_PICTURES} more</div>")
    return "".join(shown)


def _picture(tiles: BlockMap, scale: Scale, counted: Counted, head: int, who: str) -> str:
    cells = count_cells(tiles.tile_map(head), tiles.key_blocks, scale.tiles)
    numbers = colour_numbers(cells)
    source = b64encode(png(numbers, LIGHT.shades)).decode()
    height, width = (round(_PIXELS * side / max(*numbers.shape, 1)) for side in numbers.shape)
    words = counted.words(head)
    counts = f"{who}: {', '.join(words)}, tiles of {by(counted.block)}; " if words else ""
    text = f"{counts}{cell_size(scale)}"
    style = f"width:{width}px;height:{height}px;image-rendering:pixelated;display:block;max-width:none;margin:0"
    picture = f"<img alt='Map of tiles: {text}' style='{style}' src='data:image/png;base64,{source}'>"
    caption = f"<figcaption style='font-size:85%;opacity:.7;max-width:{max(width, 160)}px'>{text}</figcaption>"
    return f"<figure style='margin:0'>{picture}{caption}</figure>"


def _figure_rows(figures: Stats) -> list[tuple[str, str]]:
    total = figures.total
    return [
        ("", total_name(len(figures.heads), figures.batch)),
        ("density", units.percent(total.density)),
        (f"full tiles of {by(figures.block)}", f"{units.count(total.full_tiles)} of {units.count(total.tiles)}"),
        ("partial tiles", units.count(total.partial_tiles)),
        ("computed, then masked", units.percent(total.waste)),
        ("keys of a query", f"{units.count(total.least_keys)} to {units.count(total.most_keys)}"),
        ("speed-up at most", units.times(total.speedup_bound)),
    ]


def _tile_rows(tiles: BlockMap) -> list[tuple[str, str]]:
    heads = range(tiles.class_of_head.shape[1])
    tiles_each = tiles.query_blocks * tiles.key_blocks
    full, partial = (sum(count(head) for head in heads) for count in (tiles.full_count, tiles.partial_count))
    return [
        ("tokens", by((tiles.query_length, tiles.key_length))),
        ("tiles", f"{by(tiles.block)} tokens, {units.count(tiles_each * len(heads))} of {head_count(len(heads))}"),
        ("full tiles", units.count(full)),
        ("partial tiles", units.count(partial)),
        ("not empty", units.percent((full + partial) / (tiles_each * len(heads)))),
    ]


def _table(rows: Iterable[tuple[str, str]]) -> str:
    cells = "".join(
        f"<tr><th style='text-align:left;font-weight:normal;opacity:.7'>{markup(name)}</th>"
        f"<td style='text-align:right'>{markup(value)}</td></tr>"
        for name, value in rows
    )
    return f"<table style='margin:0;border-collapse:collapse'>{cells}</table>"


def _columns(names: Sequence[str], lines: Iterable[tuple[str, Sequence[str]]]) -> str:
    """A table with a column for each name, and a line for each name of a line and its cells."""
    right = "text-align:right;padding:0 .5em"
    head = "".join(f"<th style='{right}'>{markup(name)}</th>" for name in ("", *names))
    rows = (
        f"<tr><th style='text-align:left;font-weight:normal;opacity:.7'>{markup(name)}</th>"
        + "".join(f"<td style='{right}'>{markup(cell)}</td>" for cell in cells)
        + "</tr>"
        for name, cells in lines
    )
    return f"<table style='margin:0;border-collapse:collapse'><tr>{head}</tr>{''.join(rows)}</table>"


def _beside(*blocks: str) -> str:
    return f"<div style='display:flex;flex-wrap:wrap;gap:1em;align-items:flex-start'>{''.join(blocks)}</div>"


def _paragraph(text: str) -> str:
    return f"<div style='opacity:.7;max-width:60em'>{markup(text)}</div>" if text else ""


def _folded(title: str, text: str) -> str:
    block = f"<pre style='max-height:24em;overflow:auto;font-size:85%'>{markup(text)}</pre>"
    return f"<details><summary>{title}</summary>{block}</details>"


def _frame(head: str, body: str) -> str:
    style = "display:flex;flex-direction:column;gap:.5em;line-height:1.4"
    return f"<div style='{style}'>{f'<div>{head}</div>' if head else ''}{body}</div>"
