"""The stages that `emit --stage` prints, listed once as data: a function from a mask to text for each."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from maskdsl.analysis.tiles.block_map import BlockMap, Runs
from maskdsl.analysis.tiles.mask_tiles import tiles as find_tiles
from maskdsl.api import Mask
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.normalization import AllQueriesNeeded
from maskdsl.base.records import dataclass
from maskdsl.emit.native_text import emit_native
from maskdsl.emit.plan import KernelPlan, declared_plan, make_plan
from maskdsl.emit.torch.flex_module import emit_flex
from maskdsl.emit.torch.products_module import emit_products
from maskdsl.emit.torch.reference_module import emit_reference
from maskdsl.emit.torch.routing_module import emit_routing
from maskdsl.emit.torch.tiled_module import emit_tiled
from maskdsl.emit.triton.attention_module import emit_triton
from maskdsl.emit.triton.decoding.decode_module import emit_decode
from maskdsl.emit.triton.selection.selection_module import emit_selection
from maskdsl.ir.mask import Normalize
from maskdsl.ir.mask_printer import print_expression, print_mask
from maskdsl.ir.meaning.inputs import branch_inputs
from maskdsl.ir.rewrites.transpose import transposed

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Stage:
    """A stage of the compiler, and the text of what it makes of a mask."""

    name: str
    makes: str
    text: Callable[[Mask, Arrays], str]
    language: Literal["", "python", "c"] = ""
    """What it is written in, where that is a programming language."""
    reads_inputs: bool = False
    is_whole: bool = False
    """Whether one text has all branches of a pattern; otherwise there is a text of each, under its name."""

    @property
    def is_python(self) -> bool:
        return self.language == "python"

    def made(self, mask: Mask, inputs: Arrays) -> str:
        """What the stage makes of a mask, of all of its branches."""
        if self.is_whole or not mask.branches:
            return self.text(mask, inputs)
        texts = ((each, self.text(each, branch_inputs(each.ir, inputs))) for each in mask.branches)
        return "\n".join(f"# branch {branch.branch}\n\n{text}" for branch, text in texts)


def _tree_text(mask: Mask, inputs: Arrays) -> str:
    return "\n".join(_outline(mask.pattern.declaration)) + "\n"


def _outline(value: object, name: str = "") -> Iterator[str]:
    """Dataclasses as indented lines, leaves after their names, without spans."""
    prefix = f"{name}: " if name else ""
    if isinstance(value, tuple):
        yield f"{prefix}{'()' if not value else ''}".rstrip()
        for item in value:
            yield from (f"  {line}" for line in _outline(item))
    elif is_dataclass(value):
        shown = [field.name for field in fields(value) if field.repr]
        if all(
            not isinstance(getattr(value, each), tuple) and not is_dataclass(getattr(value, each)) for each in shown
        ):
            yield prefix + repr(value)
            return
        yield f"{prefix}{type(value).__name__}"
        for each in shown:
            yield from (f"  {line}" for line in _outline(getattr(value, each), each))
    else:
        yield f"{prefix}{value!r}"


def _ir_text(mask: Mask, inputs: Arrays) -> str:
    return print_mask(mask.ir)


def _tiles_text(mask: Mask, inputs: Arrays) -> str:
    """The runs of every row of tiles."""
    tiles = find_tiles(mask.ir, inputs=inputs)
    size = f"{tiles.query_blocks} x {tiles.key_blocks} tiles of {tiles.block[0]} x {tiles.block[1]}"
    return "\n".join([size, *_head_class_lines(tiles)]) + "\n"


def _head_class_lines(tiles: BlockMap) -> Iterator[str]:
    for number, head_class in enumerate(tiles.head_classes):
        uses = [
            f"batch {batch}, head {head}"
            for batch, head in zip(*(tiles.class_of_head == number).nonzero(), strict=True)
        ]
        if len(tiles.head_classes) > 1:
            yield f"{'; '.join(uses)}:"
        for row in range(tiles.query_blocks):
            yield f"row {row}: full {_runs_text(head_class.full, row)}, partial {_runs_text(head_class.partial, row)}"


def _runs_text(runs: Runs, row: int) -> str:
    """`0-3 7`: the columns of one row, both ends included."""
    of_row = slice(runs.row_start[row], runs.row_start[row + 1])
    pairs = zip(runs.start[of_row].tolist(), (runs.end[of_row] - 1).tolist(), strict=True)
    return " ".join(str(first) if first == last else f"{first}-{last}" for first, last in pairs) or "none"


def _plan_text(mask: Mask, inputs: Arrays) -> str:
    plan = make_plan(mask.ir)
    lines = [f"tiles of {plan.query_block} queries x {plan.key_block} keys"]
    lines += _names_line("coordinates of a query", plan.query_names, plan)
    lines += _names_line("coordinates of a key", plan.key_names, plan)
    lines += [f"inputs that decide the tiles: {', '.join(plan.tile_inputs) or 'none'}"]
    lines += [f"inputs read by index: {', '.join(plan.table_names) or 'none'}"]
    lines += [f"evaluated for a pair: {print_expression(each)}" for each in plan.pair_expressions]
    lines += [f"evaluated for a query: {print_expression(each)}" for each in mask.ir.query_values]
    return "\n".join(lines) + "\n"


def _names_line(what: str, names: Sequence[str], plan: KernelPlan) -> list[str]:
    return [f"{what}: {', '.join(plan.identifiers.get(name, name) for name in names) or 'none'}"]


def _products_text(mask: Mask, inputs: Arrays) -> str:
    return emit_products(make_plan(mask.ir))


def _kernel_text(emit: Callable[[KernelPlan], str]) -> Callable[[Mask, Arrays], str]:
    """The text of a stage of kernels: those of the transposed mask where each key has its softmax."""

    def text(mask: Mask, inputs: Arrays) -> str:
        if mask.ir.normalize is not Normalize.BY_KEY:
            return emit(make_plan(mask.ir))
        return _TRANSPOSED + emit(make_plan(transposed(mask.ir)))

    return text


_TRANSPOSED = """# `normalize softmax by k`: queries here are the keys of the pattern, and keys are its queries.
# Its log-sum-exps make probabilities of the pattern's scores: see maskdsl/ir/rewrites/transpose.py.
"""


def _decode_text(mask: Mask, inputs: Arrays) -> str:
    if mask.ir.normalize is Normalize.BY_KEY:
        raise AttnError(AllQueriesNeeded(pattern=mask.ir.name, span=mask.ir.span))
    return emit_decode(make_plan(mask.ir))


def _flex_text(mask: Mask, inputs: Arrays) -> str:
    return emit_flex(declared_plan(make_plan(mask.ir)))


STAGES: tuple[Stage, ...] = (
    Stage("tree", "what was parsed", _tree_text, is_whole=True),
    Stage("ir", "what the bound pattern means", _ir_text, is_whole=True),
    Stage("tiles", "the class of every tile, as runs", _tiles_text, reads_inputs=True),
    Stage("plan", "what the code generators read", _plan_text),
    Stage("routing", "code that selects pairs", lambda mask, inputs: emit_routing(make_plan(mask.ir)), "python"),
    Stage("selection", "the same for a GPU", lambda mask, inputs: emit_selection(make_plan(mask.ir)), "python"),
    Stage("products", "code that multiplies vectors", _products_text, "python"),
    Stage("reference", "dense torch", _kernel_text(emit_reference), "python"),
    Stage("tiled", "torch over tiles", _kernel_text(emit_tiled), "python"),
    Stage("native", "the kernel for a CPU", lambda mask, inputs: emit_native(mask.ir), "c", is_whole=True),
    Stage("triton", "the kernel for a GPU", _kernel_text(emit_triton), "python"),
    Stage("flex", "functions for FlexAttention", _flex_text, "python"),
    Stage("decode", "the kernel for decoding", _decode_text, "python"),
)
"""All stages, from text to code."""
