"""`show --diff`: maps of where two patterns differ."""

import json
import shlex

from maskdsl.analysis.counts.compare import Compared, differences
from maskdsl.analysis.tiles.head_classes import region_lengths
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.commands.command import NotComparable
from maskdsl.cli.consoles import output
from maskdsl.cli.request.masks import Request, order_text, read_region, read_request
from maskdsl.cli.request.named_files import named_file
from maskdsl.cli.request.routed_masks import resolve_masks
from maskdsl.cli.request.shared_options import Ranges, SharedOptions
from maskdsl.cli.waiting import working
from maskdsl.ir.mask import MaskIR
from maskdsl.view.cells import fit
from maskdsl.view.labels import Labels
from maskdsl.view.terminal.difference_map import DifferencePicture, differences_shown
from maskdsl.view.terminal.show import NARROW, room


def show_differences(options: SharedOptions, other: str, ranges: Ranges, as_json: bool) -> None:
    """Prints maps of the pairs that only one of two patterns attends, in one order: the first `--order`, if given."""
    size = options.size()
    request = read_request(options.file, options.words)
    first = request.bind(options.heads, options.orders[0] if options.orders else None)
    second = _read_other(request, other).bind(options.heads)
    _check_alike(first.ir, second.ir)
    region = read_region(first.ir, ranges.rows, ranges.columns)
    compare = working("comparing tiles")(differences)
    compared = []
    for mask in (first, second):
        names = {each.name for each in mask.ir.inputs} | {"q", "k"}
        resolved = resolve_masks(
            [mask], [text for text in options.given if text.partition("=")[0] in names], options.seed
        )
        compared.append(Compared.of(resolved.masks[0].ir, resolved.inputs))
    console = output()
    lengths = region_lengths(first.ir, region)
    space = room(console, first.ir, 1)
    scale = fit(lengths, space, size)
    differing = compare(compared[0], compared[1], scale.block, region)
    if len(differing) > 1 and console.width >= 2 * NARROW:
        space = room(console, first.ir, len(differing))
        scale = fit(lengths, space, size)
        differing = compare(compared[0], compared[1], scale.block, region)
    if as_json:
        print(json.dumps([each.as_dict() for each in differing], indent=2))
        return
    labels = Labels.of_sides(compared[0].mask, compared[0].inputs, region)
    pictures = [DifferencePicture(each, lengths, scale, space, labels) for each in differing]
    console.print(differences_shown(console, (first.ir, second.ir), pictures, order_text(compared[0].mask)))


def _read_other(request: Request, text: str) -> Request:
    """The second pattern, from `FILE [PATTERN] [NAME=VALUE...]`. Shared parameters keep the first one's values."""
    file, *words = shlex.split(text) or [""]
    other = read_request(named_file(file), words)
    known = other.pattern.parameters
    shared = {name: value for name, value in request.values.items() if name in known}
    return Request(other.pattern, {**shared, **other.values})


def _check_alike(first: MaskIR, second: MaskIR) -> None:
    counts = [(mask.queries.length, mask.keys.length) for mask in (first, second)]
    if counts[0] != counts[1]:
        reason = ", not ".join(f"{queries} queries and {keys} keys" for queries, keys in counts)
        raise AttnError(NotComparable(first=first.name, second=second.name, reason=reason))
