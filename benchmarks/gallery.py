"""Measures and draws every example, and writes `docs/gallery.md`: `make gallery`.

With names of patterns behind it, `python benchmarks/gallery.py swin`, it records those anew and keeps all others. From
what is recorded in `benchmarks/results/gallery.json`, `--pictures` draws everything and measures nothing, and `--page`
only writes the page. Pictures are in `docs/gallery`.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from cpu import machine
from gallery_page import page
from gallery_pictures import HEADS, LEGEND, PICTURES, draw, legend
from measures import best
from rich.progress import track
from settings import SETTINGS

import maskdsl
from maskdsl.analysis.orders.layouts import layout_text, written_layout
from maskdsl.analysis.orders.search import SAVING
from maskdsl.api import Mask, Pattern
from maskdsl.ir.facts.route_candidates import most, selects
from maskdsl.ir.meaning.inputs import relation_inputs
from maskdsl.ir.meaning.synthetic_inputs import synthetic_inputs
from maskdsl.view.terminal.show import called

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples"
RESULTS = HERE / "results" / "gallery.json"
PAGE = HERE.parent / "docs" / "gallery.md"
FOLDER = HERE.parent / "docs" / "gallery"
GPU = "H100"
TIMES = 5
"""Of which the best counts."""

Result = dict[str, Any]
Arrays = Mapping[str, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="patterns to record anew; all of them without any")
    parser.add_argument("--page", action="store_true", help="write the page alone, from what is recorded")
    parser.add_argument("--pictures", action="store_true", help="draw all pictures anew, in the orders recorded")
    options = parser.parse_args()
    declared = dict(patterns())
    if options.pictures:
        redraw(declared)
    elif not options.page:
        record(declared, options.names)
    PAGE.write_text(page(json.loads(RESULTS.read_text()), declared))


def patterns() -> Iterator[tuple[str, Pattern]]:
    """All of them by name, `language/gemma: local_layer`."""
    for file in sorted(EXAMPLES.rglob("*.attn")):
        module = maskdsl.load(file)
        yield from ((f"{file.parent.name}/{file.stem}: {name}", module[name]) for name in module)


def record(declared: Mapping[str, Pattern], names: list[str]) -> None:
    """Measures and draws the patterns of these names, or all; what is no example any more is forgotten."""
    known = json.loads(RESULTS.read_text())["results"] if names else {}
    for key in track([key for key in declared if not names or declared[key].name in names], "measuring"):
        known[key] = measured(declared[key], SETTINGS.get(key, {})) | drawn(key, declared[key])
    results = {key: known[key] for key in declared if key in known}
    RESULTS.write_text(json.dumps({"machine": machine(), "gpu": GPU, "results": results}, indent=1) + "\n")
    (FOLDER / LEGEND).write_bytes(legend())


def redraw(declared: Mapping[str, Pattern]) -> None:
    """Draws all pictures in the orders recorded."""
    for key, result in track(json.loads(RESULTS.read_text())["results"].items(), "drawing"):
        mask = bound(declared[key], PICTURES.get(key, {}))
        others = (ordered(mask, order) for order in result["picture"]["orders"][1:])
        (FOLDER / file_name(key)).write_bytes(draw([mask, *others], made_up(mask)).png)
    (FOLDER / LEGEND).write_bytes(legend())


def measured(pattern: Pattern, parameters: Mapping[str, object]) -> Result:
    """Everything about a pattern at one setting but its picture."""
    mask = bound(pattern, parameters)
    inputs = made_up(mask)
    found = mask.best_order(gpu=GPU, **inputs).order
    own = laid_out(mask, inputs)
    other = laid_out(ordered(mask, found), inputs)
    order = layout_text(mask.ir, written_layout(mask.ir))
    better = found != order and other["seconds"] < SAVING * own["seconds"]
    return {
        "call": called(mask.name, mask.ir.parameters).plain,
        "heads": HEADS,
        "lengths": [mask.query_length, mask.key_length],
        "made_up": list(inputs),
        "selects": selects(pattern.bind(heads=HEADS, **parameters).ir),
        "seconds": best(lambda: bound(pattern, parameters).tiles(**inputs), TIMES),
        "own": {"order": order, **own},
        "best": {"order": found, **other} if better else None,
    }


def bound(pattern: Pattern, parameters: Mapping[str, object]) -> Mask:
    """The mask; with all candidates, where pairs are found in queries and keys."""
    mask = pattern.bind(heads=HEADS, **parameters)
    return replace(mask, ir=most(mask.ir)) if selects(mask.ir) else mask


def ordered(mask: Mask, order: str) -> Mask:
    """The mask in another order."""
    other = mask.with_order(order)
    return replace(other, ir=most(other.ir)) if selects(other.ir) else other


def laid_out(mask: Mask, inputs: Arrays) -> Result:
    """Exact figures in the order of the mask, and what is predicted."""
    total = mask.stats(**inputs).total
    predicted = mask.predict(GPU, **inputs)
    return {
        "density": total.density,
        "block_density": total.block_density,
        "speedup_bound": total.speedup_bound,
        "seconds": predicted.forward_seconds,
        "speedup": predicted.forward_speedup,
    }


def drawn(key: str, pattern: Pattern) -> Result:
    """Draws a pattern at a small setting: as it is and, if that is another one, in the best order there."""
    mask = bound(pattern, PICTURES.get(key, {}))
    inputs = made_up(mask)
    drawing = draw([mask], inputs)
    found = mask.best_order(drawing.cell, gpu=GPU, **inputs)
    own = layout_text(mask.ir, written_layout(mask.ir))
    if found.order != own and found.speedup > 1:
        drawing = draw([mask, ordered(mask, found.order)], inputs)
    (FOLDER / file_name(key)).write_bytes(drawing.png)
    return {
        "picture": {
            "file": file_name(key),
            "call": called(mask.name, mask.ir.parameters).plain,
            "cell": drawing.cell,
            "heads": drawing.heads,
            "orders": [own, *([found.order] if drawing.rows > 1 else [])],
        }
    }


def file_name(key: str) -> str:
    """`language-gemma-local_layer.png`"""
    return key.replace("/", "-").replace(": ", "-") + ".png"


def made_up(mask: Mask) -> Arrays:
    """Values for the inputs that decide the tiles."""
    needed = relation_inputs(mask.ir)
    return {name: values for name, values in synthetic_inputs(mask.ir).items() if name in needed}


if __name__ == "__main__":
    main()
