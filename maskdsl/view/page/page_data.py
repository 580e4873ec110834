"""The data of a page about a pattern, for JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from maskdsl.analysis.reasons.route_reasons import selecting
from maskdsl.base.diagnostics import AttnError, Caution
from maskdsl.base.errors.commands.page import PageTooLarge
from maskdsl.base.records import dataclass
from maskdsl.bind.bind_pattern import find_pattern
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.inputs import batch_entries, whole_arrays
from maskdsl.ir.ops import Array
from maskdsl.syntax.program import Program
from maskdsl.view import units
from maskdsl.view.head_figures import one_name, total_name
from maskdsl.view.page.blobs import Blobs
from maskdsl.view.page.clauses import branches_data, source_data
from maskdsl.view.page.page_maps import Block, classes_of_heads, measure, orders_data, usual_blocks, usual_orders
from maskdsl.view.page.page_program import Code
from maskdsl.view.page.page_ranks import plan_data
from maskdsl.view.page.page_tokens import side
from maskdsl.view.rank_cells import RankColours
from maskdsl.view.terminal.selection_tables import causality_row
from maskdsl.view.terminal.show import first_sentence, written

LARGEST_PAGE = 64 * 2**20
"""The most bytes of a page."""


@dataclass(frozen=True, eq=False)
class Subject:
    """The subject of a page: a pattern in one order or several, with all inputs that decide its tiles."""

    program: Program
    """The program that declares the pattern."""
    masks: tuple[MaskIR, ...]
    """One mask for each order; unless `fixed`, the page also shows the usual orders of the first."""
    inputs: Mapping[str, Array]
    blocks: tuple[Block, ...] = ()
    """The tile sizes; empty for the usual ones."""
    heads: Sequence[int] | None = None
    """The heads to show; None for all."""
    notes: tuple[str, ...] = ()
    fixed: bool = False
    layers: str = ""
    """The layers of a stack that this is, in words."""
    colours: tuple[RankColours, ...] = ()
    """The ranks of plans for several processes."""


def page_data(subject: Subject) -> dict[str, Any]:
    """The data of a page. Raises `AttnError` (E540, E541) if a map or the page is too large."""
    mask, blobs = subject.masks[0], Blobs()
    masks = subject.masks if subject.fixed else usual_orders(mask)
    layouts = measure(masks, subject.blocks or usual_blocks(mask), subject.inputs)
    inputs = whole_arrays(mask, subject.inputs, batch_entries(mask, subject.inputs))
    classes = _chosen(classes_of_heads(layouts), subject.heads)
    heads = [members[0] for members in classes]
    data = {
        "name": mask.name,
        "parameters": [[name, written(value)] for name, value in mask.parameters],
        "doc": first_sentence(mask.doc),
        "notes": [
            *map(_warning_note, mask.cautions),
            *subject.notes,
            *_branch_notes(mask),
            *_batch_notes(layouts[0][0].figures.batch),
        ],
        "heads": mask.heads,
        "total": total_name(mask.heads, layouts[0][0].figures.batch),
        "layers": subject.layers,
        "source": source_data(find_pattern(subject.program, mask.name)),
        "selected": _selected(mask),
        **pairs_data(subject.program, mask, inputs, classes, blobs),
        "orders": orders_data(layouts, heads, inputs, blobs),
        "plans": [plan_data(each, classes, blobs) for each in subject.colours],
        "blobs": blobs.list,
    }
    if blobs.size > LARGEST_PAGE:
        raise AttnError(PageTooLarge(size=-(-blobs.size // 2**20), limit=LARGEST_PAGE // 2**20))
    return data


def pairs_data(
    program: Program, mask: MaskIR, inputs: Mapping[str, Array], classes: list[list[int]], blobs: Blobs
) -> dict[str, Any]:
    """The data with which the page evaluates pairs, for the head classes."""
    heads = [members[0] for members in classes]
    code, one_head = Code(mask), all(len(members) == 1 for members in classes)
    relation, branches = code.add(mask.relation), branches_data(program, mask, code, inputs, one_head)
    return {
        "classes": [
            {"head": members[0], "name": _heading(members, mask.heads), "one": one_name(members, mask.heads)}
            for members in classes
        ],
        "queries": side(mask, mask.queries, inputs, heads, blobs),
        "keys": side(mask, mask.keys, inputs, heads, blobs),
        "relation": relation,
        "branches": branches,
        "code": code.instructions,
        "tables": _tables(code, inputs, blobs),
    }


def _selected(mask: MaskIR) -> list[tuple[str, list[str]]]:
    """Each route as written, with its scores written out; then whether later tokens have a say in it, and why."""
    said = selecting(mask)
    routes = [(each.text, list(each.meaning)) for each in said.routes]
    return routes + [(word, [why]) for word, why in map(causality_row, said.causality)]


def _warning_note(caution: Caution) -> str:
    """A warning as a sentence, with its line of the text."""
    line = "" if caution.span is None else f", line {caution.span.source.position(caution.span.start)[0]}"
    help = caution.fill(caution.help)
    return f"Warning {caution.code}{line}: {caution.fill(caution.message)}. {help[:1].upper()}{help[1:]}."


def _branch_notes(mask: MaskIR) -> list[str]:
    names = ", ".join(each.branch for each in mask.branches)
    return [f"The map has the pairs that some branch attends: {names}."] if names else []


def _batch_notes(entries: int) -> list[str]:
    return [f"The map is that of the first of {entries} batch entries."] if entries > 1 else []


def _chosen(classes: list[list[int]], heads: Sequence[int] | None) -> list[list[int]]:
    """The head classes, with only these heads."""
    if heads is None:
        return classes
    kept = ([head for head in members if head in heads] for members in classes)
    return [members for members in kept if members]


def _heading(members: list[int], heads: int) -> str:
    if len(members) == heads:
        return "the only head" if heads == 1 else f"all {heads} heads"
    return f"head{'s' * (len(members) > 1)} {units.numbers(members)}"


def _tables(code: Code, inputs: Mapping[str, Array], blobs: Blobs) -> dict[str, Any]:
    """The inputs that instructions read by index."""
    read = reads(*code.known)
    return {name: {"shape": inputs[name].shape, "values": blobs.add(inputs[name])} for name in sorted(read.inputs)}
