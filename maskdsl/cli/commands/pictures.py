"""`show --out`: pictures of tiles, of single pairs, or of what one query attends, as PNG, SVG or PDF files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from maskdsl.analysis.tiles.mask_tiles import class_of_head, tiles
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.commands import pictures as errors
from maskdsl.base.errors.commands.command import NotForStacks
from maskdsl.base.records import dataclass
from maskdsl.cli.commands.explanations import read_token
from maskdsl.cli.commands.show_and_stats import drawn_layers
from maskdsl.cli.consoles import note
from maskdsl.cli.request.masks import StackRequest, order_text, picture_text
from maskdsl.cli.request.routed_masks import DrawnMask, ResolvedMasks, drawn_masks
from maskdsl.cli.request.shared_options import SharedOptions
from maskdsl.cli.waiting import working
from maskdsl.cli.written_files import writing
from maskdsl.view import units
from maskdsl.view.cells import Scale
from maskdsl.view.head_figures import Counted
from maskdsl.view.image.figure import Title, mask_title
from maskdsl.view.image.map_figure import Drawn, map_scene, scale_for
from maskdsl.view.image.pdf import pdf
from maskdsl.view.image.pixels import pixels
from maskdsl.view.image.query_figure import Query, around_scene
from maskdsl.view.image.scene import Scene
from maskdsl.view.image.svg import svg
from maskdsl.view.terminal.selection_tables import between
from maskdsl.view.terminal.show import called, head_classes
from maskdsl.view.terminal.stack_table import layers_text, stack_title

if TYPE_CHECKING:
    from maskdsl.cli.request.rank_options import RankOptions

_WRITERS: Mapping[str, Callable[[Scene], bytes]] = {".png": pixels, ".svg": svg, ".pdf": pdf}
_MOST_PIXELS, _MOST_BOXES = 4096, 1024
"""The most cells of a side of a picture of pairs, in pixels and as boxes. Of more tokens, some share a cell."""
_MOST_AROUND = 1 << 16
"""The most keys that are drawn around a query."""


@dataclass(frozen=True)
class PictureRequest:
    """What a command line asks of a picture."""

    options: SharedOptions
    mask: bool
    around: str | None
    stacked: bool
    planned: RankOptions | None = None
    """The plans by whose ranks cells are coloured."""
    most: int = _MOST_PIXELS
    """The most cells of a side of a picture of pairs."""


def picture(wanted: PictureRequest, out: str) -> None:
    """Writes the picture to a file. Raises `AttnError`."""
    writer = _WRITERS.get(Path(out).suffix.lower())
    if writer is None:
        raise AttnError(errors.UnknownPicture(file=out, known=" or ".join(_WRITERS)))
    scene = _drawn_scene(wanted if writer is pixels else replace(wanted, most=_MOST_BOXES))
    written = writer(scene)
    with writing(out):
        Path(out).write_bytes(written)


def _drawn_scene(wanted: PictureRequest) -> Scene:
    chosen = wanted.options.chosen()
    subject = wanted.options.subject()
    if isinstance(subject, StackRequest):
        return _stack_scene(wanted, subject, chosen)
    resolved = wanted.options.resolve_masks(subject)
    notes = ["all pairs that routes may select"] if resolved.guarantee is not None else []
    if wanted.around is not None:
        return _query_scene(resolved, wanted.around, chosen, notes)
    with working("pricing schemes"):
        masks = drawn_masks(resolved.masks, resolved.inputs, wanted.planned)
    scale = _scale_of(wanted, masks[0], len(masks), chosen)
    drawn = [_drawn(each, picture_text(each.mask.ir), scale, wanted.options.size(), resolved) for each in masks]
    return map_scene(mask_title(resolved.masks[0].ir), drawn, scale, chosen, wanted.stacked, notes)


def _stack_scene(wanted: PictureRequest, subject: StackRequest, chosen: Sequence[int]) -> Scene:
    """The picture of the different layers of a stack, side by side."""
    if wanted.around is not None:
        raise AttnError(NotForStacks(option="--around", name=subject.stack.name))
    stack = subject.bind(wanted.options.heads)
    resolved = wanted.options.resolve_stack(stack)
    layers = [*drawn_layers(stack, wanted.options.orders, resolved, wanted.planned)]
    scale = _scale_of(wanted, layers[0][0], sum(map(len, layers)), chosen)
    drawn = []
    for number, masks in enumerate(layers):
        for each in masks:
            mask = each.mask.ir
            words = f"{layers_text(stack.ir, number)}: {called(mask.name, mask.parameters).plain}, {order_text(mask)}"
            drawn.append(_drawn(each, words, scale, wanted.options.size(), None))
    name = called(stack.name, stack.ir.parameters).plain
    size = stack_title(stack.ir).plain.removeprefix(name).strip()
    return map_scene(Title(name, size), drawn, scale, chosen, wanted.stacked, [])


def _scale_of(wanted: PictureRequest, first: DrawnMask, maps: int, chosen: Sequence[int]) -> Scale:
    """The sizes of cells for so many maps; for more if heads differ and each needs its own."""
    lengths = first.mask.query_length, first.mask.key_length
    if wanted.mask:
        side = max(1, -(-max(lengths) // wanted.most))
        if side > 1:
            most = f"{units.count(wanted.most)} cells a side at most"
            note(f"each cell of the picture is {side} x {side} pairs, since it has {most}")
        return Scale((side, side), (1, 1), fitted=False)
    block = wanted.options.size()
    scale = scale_for(lengths, maps, block)
    if wanted.stacked:
        return scale
    classes = len(head_classes(class_of_head(first.mask.ir, first.inputs), chosen))
    return scale if classes == 1 else scale_for(lengths, maps * classes, block)


@working("finding tiles")
def _drawn(
    given: DrawnMask, order: str, scale: Scale, size: tuple[int, int] | None, resolved: ResolvedMasks | None
) -> Drawn:
    """The tiles of a mask, with the density of each head in words; with bounds if routes have all candidates.

    Tiles are counted that have `size` tokens if users gave it.
    """
    mask, inputs = given.mask.ir, given.inputs
    counted = Counted.beside(mask, size, inputs)
    density = [counted.words(head)[1:] for head in range(mask.heads)]
    if resolved is not None and resolved.guarantee is not None:
        bounds = [
            between(units.percent(each.least_density), units.percent(each.most_density))
            for each in resolved.guarantee.heads
        ]
        density = [
            tuple(f"{line.replace('density', 'candidates')}, selected {some} of all pairs" for line in lines)
            for lines, some in zip(density, bounds, strict=True)
        ]
    return Drawn(order, mask, tiles(mask, scale.block, inputs), counted, tuple(density), given.colours())


def _query_scene(resolved: ResolvedMasks, around: str, chosen: Sequence[int], notes: Sequence[str]) -> Scene:
    """The picture of what one query attends, in declared order."""
    mask = resolved.masks[0].ir
    position = read_token(around, mask.queries, "query")
    if mask.keys.length > _MOST_AROUND:
        raise AttnError(errors.TooLargeToDraw(pattern=mask.name, count=mask.keys.length, limit=_MOST_AROUND))
    return around_scene(mask, Query.at(mask, position), chosen, resolved.inputs, notes)
