"""`show` and `stats`: draw and measure a pattern without computing attention."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING

from maskdsl.analysis.cost.devices import Device
from maskdsl.analysis.counts.stack_stats import stack_stats
from maskdsl.analysis.counts.stats import stats as measure
from maskdsl.analysis.tiles.head_classes import region_lengths
from maskdsl.analysis.tiles.mask_tiles import class_of_head, tiles
from maskdsl.api import BoundStack, Mask
from maskdsl.base.diagnostics import AttnError, warn
from maskdsl.base.errors.commands.command import NotForStacks
from maskdsl.base.errors.language.warnings import SlowerThanDense
from maskdsl.cli.consoles import note, output
from maskdsl.cli.request.masks import (
    Request,
    StackRequest,
    order_text,
    order_words,
    picture_text,
    read_gpus,
    read_region,
)
from maskdsl.cli.request.routed_masks import DrawnMask, ResolvedMasks, ResolvedStack, drawn_masks
from maskdsl.cli.request.shared_options import Ranges, SharedOptions
from maskdsl.cli.waiting import working
from maskdsl.ir.facts.route_candidates import most
from maskdsl.ir.meaning.routed_inputs import find_in_layers
from maskdsl.view import units
from maskdsl.view.cells import fit
from maskdsl.view.head_figures import BLOCK, Counted, total_name
from maskdsl.view.labels import Labels
from maskdsl.view.terminal.selection_tables import SelectionView, guarantee_lines
from maskdsl.view.terminal.show import OrderedTiles, head_classes, room, shown, title
from maskdsl.view.terminal.stack_table import layers_table, layers_text, predicted_layers_table, stack_title
from maskdsl.view.terminal.stats_table import head_columns, prediction_table, stats_table

if TYPE_CHECKING:
    from maskdsl.cli.request.rank_options import RankOptions

_SLOWER = 0.95
"""The speed-up over dense attention below which a pattern is slower; predictions are no finer."""
_MOST_COLUMNS = 6
"""The most columns of a table."""
_NAMES, _COLUMN = 24, 14
"""The width in characters of the names of figures, and of each column."""


def show(options: SharedOptions, ranges: Ranges, planned: RankOptions | None) -> None:
    """Prints the map in every order; for a stack, the maps of its different layers. By ranks, if plans are wanted."""
    chosen, size, subject = options.chosen(), options.size(), options.subject()
    if isinstance(subject, Request):
        resolved = options.resolve_masks(subject)
        with working("pricing schemes"):
            drawn = drawn_masks(resolved.masks, resolved.inputs, planned)
        _show_masks(drawn, chosen, size, ranges)
        densities = []
        if resolved.selections:
            with working("counting pairs"):
                densities = [each.density for each in measure(resolved.masks[0].ir, inputs=resolved.inputs).heads]
        _show_routes(resolved, densities, chosen)
        return
    stack = subject.bind(options.heads)
    layers = options.resolve_stack(stack)
    output().print(stack_title(stack.ir))
    for number, drawn in enumerate(drawn_layers(stack, options.orders, layers, planned)):
        output().print(f"\n{layers_text(stack.ir, number)}:")
        _show_masks([branch for each in drawn for branch in each.pictured()], chosen, size, ranges)


def _show_masks(
    drawn: Sequence[DrawnMask], chosen: Sequence[int], size: tuple[int, int] | None, ranges: Ranges
) -> None:
    """Prints the maps of one mask in several orders, or of its branches."""
    console, first = output(), drawn[0].mask.ir
    region = read_region(first, ranges.rows, ranges.columns)
    with working("counting pairs"):
        counted = [Counted.beside(each.mask.ir, size, each.inputs) for each in drawn]
        classes = [class_of_head(each.mask.ir, each.inputs) for each in drawn]
    pictures = sum(len(head_classes(each, chosen)) for each in classes)
    space = room(console, first, pictures, strips=drawn[0].plan is not None)
    scale = fit(region_lengths(first, region), space, size)
    with working("finding tiles"):
        maps = [
            OrderedTiles(
                picture_text(each.mask.ir),
                each.mask.ir,
                tiles(each.mask.ir, scale.block, each.inputs, region=region),
                figures,
                scale,
                space,
                Labels.of_sides(each.mask.ir, each.inputs, region),
                each.colours(region),
            )
            for each, figures in zip(drawn, counted, strict=True)
        ]
    entries = max(map(len, classes))
    if entries > 1:
        note(f"the first of {entries} batch entries")
    console.print(shown(maps, chosen))


def _show_routes(resolved: ResolvedMasks, densities: Sequence[float], chosen: Sequence[int]) -> None:
    """Prints what routes selected, or what holds for every selection. `densities` are the densities of the heads."""
    console = output()
    if resolved.guarantee is not None:
        for line in guarantee_lines(resolved.guarantee):
            console.print(line, markup=False)
    for selection in resolved.selections:
        console.print()
        console.print(SelectionView(selection, densities, chosen))


def layer_in_orders(stack: BoundStack, number: int, orders: Sequence[str], resolved: ResolvedStack) -> list[Mask]:
    """One of the stack's different masks in its own order or in each of `orders`; with all candidates if open."""
    masks = [stack.different[number].with_order(order_words(order)) for order in orders] or [stack.different[number]]
    return [replace(mask, ir=most(mask.ir)) if resolved.open else mask for mask in masks]


def drawn_layers(
    stack: BoundStack, orders: Sequence[str], resolved: ResolvedStack, planned: RankOptions | None
) -> Iterator[list[DrawnMask]]:
    """The different masks of a stack, each in its own order or in each of `orders`, with one plan for all."""
    with working("pricing schemes"):
        plan = None if planned is None else planned.of_stack(resolved)[0]
    for number, inputs in enumerate(find_in_layers(resolved.stack, resolved.inputs)):
        masks = layer_in_orders(stack, number, orders, resolved)
        yield [DrawnMask(mask, inputs, plan, number) for mask in masks]


def stats(options: SharedOptions, head_dim: int, gpus: Sequence[str], as_json: bool) -> None:
    """Prints figures and predictions for every order; for a stack, a line for each different layer and for all."""
    chosen, size, devices = options.chosen(), options.size() or BLOCK, read_gpus(gpus)
    heads, subject = options.heads, options.subject()
    if isinstance(subject, StackRequest):
        if options.head or options.orders:
            option = "--head" if options.head else "--order"
            raise AttnError(NotForStacks(option=option, name=subject.stack.name))
        stack = subject.bind(heads)
        _print_stack_stats(stack, options.resolve_stack(stack), size, head_dim, devices, as_json)
        return
    resolved = options.resolve_masks(subject)
    masks, inputs = resolved.masks, resolved.inputs
    named = {order_text(mask.ir): mask.ir for mask in masks}
    if resolved.least:
        named = {f"at most, {order}": mask for order, mask in named.items()}
        named |= {f"at least, {order_text(mask.ir)}": mask.ir for mask in resolved.least}
    with working("counting pairs"):
        measured = {order: measure(mask, size, inputs, head_dim=head_dim) for order, mask in named.items()}
    from maskdsl.analysis.cost.predict import predict_mask  # start-up time

    predicted = {
        order: [predict_mask(mask, device, inputs, head_dim=head_dim) for device in devices]
        for order, mask in named.items()
    }
    speedups = {each.device.name: each.forward_speedup for each in next(iter(predicted.values()))}
    warn_of_slowness(masks[0], speedups)
    if as_json:
        head = {"pattern": masks[0].name, "parameters": dict(masks[0].ir.parameters), "heads": heads.count}
        by_order = [
            {"order": order, **figures.as_dict(), "gpus": [each.as_dict() for each in predicted[order]]}
            for order, figures in measured.items()
        ]
        print(json.dumps(finite({**head, "orders": by_order, **routes_dict(resolved)}), indent=2))
        return
    columns = []
    for order, figures in measured.items():
        suffix = f", {order}" if len(measured) > 1 else ""
        columns += [(name + suffix, each) for name, each in head_columns(figures, chosen)]
        if not options.head and heads.count * figures.batch > 1:
            columns.append((total_name(heads.count, figures.batch) + suffix, figures.total))
    console = output()
    console.print(title(masks[0].ir))
    console.print(f"tiles of {size[0]} x {size[1]} tokens, head dimension {head_dim}, 2 bytes an element", style="dim")
    room = min(_MOST_COLUMNS, max(1, (console.width - _NAMES) // _COLUMN))
    console.print(stats_table(columns[:room]))
    _show_routes(resolved, [each.density for each in next(iter(measured.values())).heads], chosen)
    for order, predictions in predicted.items():
        if predictions:
            console.print(f"predicted from datasheets, not measured, {order}", style="dim")
            console.print(prediction_table(predictions))
    if len(columns) > room:
        note(f"{len(columns) - room} more columns are left out; --json has the figures of every head")


def warn_of_slowness(mask: Mask, speedups: Mapping[str, float]) -> None:
    """Warns (W014) of the GPUs, by name, on which the forward pass is predicted to be slower than dense attention."""
    slow = ", ".join(f"{units.times(each)} as fast on {name}" for name, each in speedups.items() if each < _SLOWER)
    caution = SlowerThanDense(span=mask.ir.span, name=mask.name, speedups=slow)
    if slow and caution not in mask.pattern.program.allowed:
        warn([caution])


def routes_dict(resolved: ResolvedMasks) -> dict[str, object]:
    """What routes selected, and what holds for every selection, for JSON."""
    values: dict[str, object] = {}
    if resolved.selections:
        values["routes"] = [each.as_dict() for each in resolved.selections]
    if resolved.guarantee is not None:
        values["guaranteed"] = resolved.guarantee.as_dict()
    return values


def _print_stack_stats(
    stack: BoundStack,
    resolved: ResolvedStack,
    size: tuple[int, int],
    head_dim: int,
    devices: Sequence[Device],
    as_json: bool,
) -> None:
    with working("counting pairs"):
        figures = stack_stats(resolved.stack, size, resolved.inputs, head_dim=head_dim)
    from maskdsl.analysis.cost.predict import predict_stack  # start-up time

    predicted = [predict_stack(resolved.stack, device, resolved.inputs, head_dim=head_dim) for device in devices]
    if as_json:
        head = {"stack": stack.name, "parameters": dict(stack.ir.parameters), "heads": stack.heads}
        layers = [{"pattern": mask.name, "parameters": dict(mask.ir.parameters)} for mask in stack.different]
        gpus = [each.as_dict() for each in predicted]
        print(json.dumps(finite({**head, "layers": layers, **figures.as_dict(), "gpus": gpus}), indent=2))
        return
    console = output()
    console.print(stack_title(stack.ir))
    console.print(f"tiles of {size[0]} x {size[1]} tokens, head dimension {head_dim}, 2 bytes an element", style="dim")
    console.print(layers_table(stack.ir, figures))
    if predicted:
        console.print("forward and speed-up: predicted from datasheets, not measured", style="dim")
        console.print(predicted_layers_table(stack.ir, predicted))


def finite(value: object) -> object:
    """The value with None in place of NaN and infinite numbers, which JSON does not have."""
    match value:
        case dict():
            return {name: finite(each) for name, each in value.items()}
        case list():
            return [finite(each) for each in value]
        case float() if not isfinite(value):
            return None
        case _:
            return value
