"""The page of the gallery from what is recorded: `docs/gallery.md`. Nothing here measures."""

import re
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from gallery_pictures import HEADS, LEGEND

from maskdsl.api import Pattern
from maskdsl.ir.declared.sequences import Space
from maskdsl.view.terminal.show import first_sentence
from maskdsl.view.units import count, duration, numbers, percent, times

Result = dict[str, Any]

HEAD = """# Gallery

Every pattern of [examples](../examples) at the largest setting of its paper or of its users, with {heads} heads.
`make gallery` writes this page.

- *Held to* says what tests compare the pattern with: a port of the paper's released *code*, a module of an installed
  *library*, the *paper* alone where no code is public, or a *definition*.
- *Density* is the share of all pairs that attend, *blocks* that of tiles of 128 x 128 tokens that are not empty, and
  *bound* how much faster than dense attention these tiles can be. All three are exact.
- *Best order* is the order of tokens in which the forward kernel should take the least time, with the blocks that are
  left in it; nothing stands there where no other order is better than the pattern's own.
- *Predicted* is how much faster than dense attention the forward kernel should be on an {gpu}, in the pattern's own
  order and in the best one. **It is a prediction by a model of the GPU, and nothing of it has been measured.**
- *Found in* is the time to bind the pattern and find its exact tiles, the best of several, on {cores} cores of
  {processor}.

Where pairs are found in queries and keys, all that may be selected is counted and drawn; what a call selects is less.

In pictures queries go down, keys to the right. ![Colours from light grey over yellow and brown to
blue](gallery/{legend}) From left to right: an empty cell, partial ones with few to most of their pairs, a full one.
Values of inputs that decide the tiles, such as the document of each token, are made up.
"""
COMPARISONS = {
    "Released code": "code",
    "Library": "library",
    "No public code": "paper",
    "By definition": "definition",
}
"""What tests compare a pattern with: how its documentation begins that line, and what the table says."""
GROUPS = {"language": "Language", "routing": "Routing", "video": "Video", "vision": "Vision"}


def page(record: Result, patterns: Mapping[str, Pattern]) -> str:
    """The text of the page. `record` is what `gallery.json` holds."""
    results = record["results"]
    facts = {"cores": record["machine"]["cores"], "processor": record["machine"]["processor"], "gpu": record["gpu"]}
    heads = next(iter(results.values()))["heads"]
    parts = [HEAD.format(heads=heads, legend=LEGEND, **facts)]
    for group, keys in groupby(results, key=lambda key: key.split("/")[0]):
        own = {key: results[key] for key in keys}
        parts.append("\n".join([f"## {GROUPS[group]}", "", *table(own, patterns), ""]))
        parts += ["\n".join(section(key, result, patterns)) for key, result in own.items()]
    return "\n".join(parts)


def table(results: Mapping[str, Result], patterns: Mapping[str, Pattern]) -> Iterator[str]:
    """One line for each pattern of a group."""
    yield "| pattern | held to | tokens | density | blocks | bound | best order | predicted | found in |"
    yield "| --- | --- | --: | --: | --: | --: | --: | --: | --: |"
    for key, result in results.items():
        own, best = result["own"], result["best"]
        predicted = [times(each["speedup"]) for each in (own, best) if each]
        cells = [
            f"[{title(key)}](#{anchor(key)})",
            COMPARISONS.get(compared(patterns[key].doc).partition(":")[0].rstrip("."), ""),
            lengths(result),
            percent(own["density"]),
            percent(own["block_density"]),
            times(own["speedup_bound"]),
            percent(best["block_density"]) if best else "",
            ", ".join(predicted),
            duration(result["seconds"]),
        ]
        yield f"| {' | '.join(cells)} |"


def section(key: str, result: Result, patterns: Mapping[str, Pattern]) -> Iterator[str]:
    """Everything about one pattern."""
    file = f"examples/{key.split(':')[0]}.attn"
    yield from (f"### {title(key)}", "", f"[{file}](../{file}): {first_sentence(patterns[key].doc)}", "")
    yield from (source(key, patterns), "")
    if told := compared(patterns[key].doc):
        yield from (told, "")
    yield f"`{result['call']}`, {lengths(result)} tokens; exact tiles in {duration(result['seconds'])}."
    if result.get("selects"):
        yield "Pairs are found in queries and keys: all that may be selected is shown."
    if result["made_up"]:
        yield f"Made-up inputs: {', '.join(f'`{name}`' for name in result['made_up'])}."
    yield from ("", "| order | density | blocks | bound | predicted |", "| --- | --: | --: | --: | --: |")
    for each in (result["own"], result["best"]):
        if each:
            figures = percent(each["density"]), percent(each["block_density"]), times(each["speedup_bound"])
            yield f"| {order(each['order'])} | {' | '.join(figures)} | {times(each['speedup'])} |"
    yield from ("", *picture(result["picture"], patterns[key]), "", *text(patterns[key]), "")


def text(pattern: Pattern) -> Iterator[str]:
    """The pattern as its file has it, without the documentation above it."""
    yield from ("```attn", *pattern.declaration.span.text.splitlines(), "```")


def picture(drawn: Result, pattern: Pattern) -> Iterator[str]:
    """The picture, and below it what it shows: its axes, the size of a cell, its heads and orders."""
    yield f"![Tiles of {drawn['call'].split('(')[0]}](gallery/{drawn['file']})"
    yield ""
    parts = [f"`{drawn['call']}`", axes(pattern), f"each cell {drawn['cell'][0]} x {drawn['cell'][1]} tokens"]
    if len(drawn["heads"]) > 1:
        parts.append("heads " + " · ".join(map(numbers, drawn["heads"])))
    if len(drawn["orders"]) > 1:
        above, below = map(order, drawn["orders"])
        parts.append(f"above {above}, below {below}")
    yield "; ".join(parts) + "."


def axes(pattern: Pattern) -> str:
    """What goes down and to the right: the spaces of queries and of keys, with their axes."""
    mask = pattern.bind(heads=HEADS).ir
    down, right = (" ++ ".join(map(space, each.spaces)) for each in (mask.queries, mask.keys))
    return f"`{down}` down and to the right" if down == right else f"queries `{down}` down, keys `{right}` to the right"


def space(each: Space) -> str:
    """`image[y = 14, x = 14]`, or `tokens[4096]`."""
    sides = [f"{axis.name} = {axis.length}" for axis in each.axes] if len(each.axes) > 1 else [str(each.size)]
    return f"{each.name}[{', '.join(sides)}]"


def lengths(result: Result) -> str:
    queries, keys = result["lengths"]
    return count(queries) if queries == keys else f"{count(queries)} x {count(keys)}"


def order(text: str) -> str:
    return "as declared" if text == "declared" else f"`{text}`"


def title(key: str) -> str:
    """`swin`, or `gemma: local_layer` in a file of another name."""
    stem, name = key.split("/")[1].split(": ")
    return name if stem == name else f"{stem}: {name}"


def anchor(key: str) -> str:
    """What GitHub makes of the title."""
    return title(key).lower().replace(":", "").replace(" ", "-")


def source(key: str, patterns: Mapping[str, Pattern]) -> str:
    """`Source: ...`, or which pattern of the same file names it."""
    if said := named_source(patterns[key].doc):
        return said
    file = key.split(":")[0]
    others = (each for name, each in patterns.items() if name.split(":")[0] == file and named_source(each.doc))
    other = next(others, None)
    return (
        f"Source: see `{other.name}`, in the same file." if other else "Source: none; it is an example of the language."
    )


def compared(doc: str) -> str:
    """The line that says what tests compare the pattern with, or nothing: `Released code: repository, file, commit.`"""
    found = re.search(rf"^({'|'.join(COMPARISONS)})\b.*$", doc, re.MULTILINE)
    return found.group() if found else ""


def named_source(doc: str) -> str:
    """From the word on to the first line that ends a sentence."""
    found = re.search(r"^Sources?: .*?[.]$", doc, re.MULTILINE | re.DOTALL)
    return " ".join(found.group().split()) if found else ""
