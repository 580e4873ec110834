"""The loops of kernels over tiles: over lists of runs, rows in pieces among them, or over ranges in closed form.

Loops over rows are flat: around a nested loop `ptxas` serializes the matrix products of Hopper, and the pipeline of
loads drains at the end of each run. Loops over columns are nested, which takes fewer registers.
"""

from collections.abc import Iterable

from maskdsl.analysis.closed.closed_form import Limit, Limits
from maskdsl.analysis.cost.tile_table import KernelName
from maskdsl.base.records import dataclass
from maskdsl.emit.plan import KernelPlan
from maskdsl.emit.skeleton import read_skeleton
from maskdsl.emit.torch.pattern_functions import helper, separated
from maskdsl.emit.triton.forward_body import MaybeHoles, scores_may_be_large
from maskdsl.emit.triton.gradients.input_gradients import Leaves
from maskdsl.emit.triton.token_coordinates import KernelNames
from maskdsl.emit.triton.triton_printer import TritonPrinter
from maskdsl.ir.expressions import Side
from maskdsl.ir.mask import Normalize

_ROW_LOOPS = ("tile_parameters", "row", "full_tiles", "partial_tiles", "bounds")
_COLUMN_LOOPS = ("tile_parameters", "column", "row", "full_runs", "full_run", "partial_runs", "partial_run", "bounds")
_NO_LIMITS: MaybeHoles = {"limits": []}
_FORWARD_PIECES = ("piece_parameters", "piece_results", "piece_arguments")
_QUERY_PIECES = ("query_piece_parameters", "query_pieces", "row_pieces", "join_rows")
_KEY_PIECES = ("key_piece_parameters", "key_pieces", "column_pieces", "join_columns")


@dataclass(frozen=True)
class Loops:
    """The holes of the loops of the forward and the backward kernels."""

    names: KernelNames

    def holes(self) -> MaybeHoles:
        plan = self.names.plan
        closed = plan.row_limits is not None
        holes = self.row_holes()
        holes["tile_arguments"] = [] if closed else None
        holes["count"] = ["count = -(-query_length // block[0]) * heads * batch"] if closed else None
        without_lists = closed and plan.column_limits is not None
        holes |= dict.fromkeys(("tiles_import", "tiles"), [] if without_lists else None)
        text = read_skeleton("forward")
        of_columns = [["@triton.jit", *helper(text, name)] for name in ("load_row", "load_program", "load_run")]
        only_columns = [*separated(of_columns), "", ""]
        return {**holes, "tile_functions": [] if without_lists else only_columns if closed else None}

    def gradient_holes(self) -> MaybeHoles:
        holes = {f"query_{name}": lines for name, lines in self.row_holes().items()}
        holes |= {f"key_{name}": lines for name, lines in self.column_holes().items()}
        kernels = {KernelName.QUERY_GRADIENT: _QUERY_PIECES, KernelName.KEY_GRADIENT: _KEY_PIECES}
        for kernel, names in kernels.items():
            kept = splits(self.names.plan, kernel)
            holes |= {name: None if kept else [] for name in names}
        return {**holes, "tile_arguments": self.gradient_arguments()}

    def gradient_arguments(self) -> list[str] | None:
        plan = self.names.plan
        rows = '-(-query_length // row_options["QUERY_BLOCK"]) * heads * batch'
        columns = '-(-key_length // column_options["KEY_BLOCK"]) * key_heads * batch'
        lines = []
        for kind, limits, count in (("row", plan.row_limits, rows), ("column", plan.column_limits, columns)):
            listed = f"{kind}_tiles[:7], len({kind}_tiles.programs) * {kind}_tiles.entries"
            lines.append(f"{kind}_arguments, {kind}s = {listed if limits is None else f'(), {count}'}")
        return lines

    def row_holes(self) -> MaybeHoles:
        """The flat loops over a row of tiles; over lists, where the row has no limits."""
        limits = self.names.plan.row_limits
        if limits is None:
            return {**dict.fromkeys(_ROW_LOOPS), **self.device_lines("row", "row", "row_index", "head"), **_NO_LIMITS}
        # Where rows have no lower limits, full tiles begin at the first block.
        around = [
            "for tile in range(live_start, live_end - (full_end - full_start)):",
            "    block = tl.where(tile < full_start, tile, tile + (full_end - full_start))",
        ]
        return {
            "tile_parameters": [],
            "row": [
                "rows = tl.cdiv(query_length, QUERY_BLOCK)",
                *_program_lines("row", "head", "heads", falls=any(_lengthen(limits))),
                *self.limit_lines(limits, Side.QUERY),
            ],
            "full_tiles": ["for block in range(full_start, full_end):"],
            "partial_tiles": around if limits.low else ["for block in range(full_end, live_end):"],
            **self.pair_holes(limits, Side.QUERY),
        }

    def column_holes(self) -> MaybeHoles:
        """The loops over a column of tiles: over its runs, and over the tiles of a run."""
        limits = self.names.plan.column_limits
        if limits is None:
            lines = self.device_lines("column", "column", "number", "key_head")
            return {**dict.fromkeys(_COLUMN_LOOPS), **lines, **_NO_LIMITS}
        return {
            "tile_parameters": [],
            "column": [
                "columns = tl.cdiv(key_length, KEY_BLOCK)",
                *_program_lines("column", "key_head", "key_heads", falls=all(_lengthen(limits))),
            ],
            "row": self.limit_lines(limits, Side.KEY),
            "full_runs": ["first_run, end_run = 0, 1"],
            "full_run": ["for block in range(full_start, full_end):"],
            "partial_runs": ["first_run, end_run = 0, 2  # before the full tiles and after them"],
            "partial_run": [
                "start = tl.where(run == 0, live_start, full_end)",
                "end = tl.where(run == 0, full_start, live_end)",
                "for block in range(start, end):",
            ],
            **self.pair_holes(limits, Side.KEY),
        }

    def device_lines(self, hole: str, row: str, number: str, head: str) -> MaybeHoles:
        """Statements for a program's row where lists are found on the device: they have a program for each entry."""
        if not self.names.plan.finds_device_tiles:
            return {}
        return {hole: [f"{number} = tl.program_id(0)", f"batch, {head}, {row} = load_row(programs, {number})"]}

    def pair_holes(self, limits: Limits, side: Side) -> MaybeHoles:
        """The limits of each token of `side`, and which pairs of a partial tile lie within them.

        They are compared with places in the block, which are constants: that takes the fewest instructions. They are
        cut to what there is, so that the subtraction cannot overflow. The last query of a key's window is compared with
        queries: of two subtractions that kernel, with two results in registers, would keep more than it has on Hopper.
        """
        other = "key" if side is Side.QUERY else "query"
        positions, block = f"{side}_positions[:, None]", f"{other.upper()}_BLOCK"
        printed = Ends(self.names, positions, positions, prefix=f"{side.letter}_")
        low, _ = printed.extremes("maximum", limits.low)
        high, _ = printed.extremes("minimum", limits.high)
        end = f"{other}_length - 1"
        before = [f"low = tl.maximum({low}, 0)"] if low else []
        before.append(f"high = tl.maximum(tl.minimum({high}, {end}), -1)" if high else f"high = {end}")
        of_key = side is Side.KEY and low and high
        last = "queries[None, :] <= high" if of_key else f"places <= high - block * {block}"
        return {
            "limits": [*printed.lines, *before],
            "bounds": [
                f"places = tl.arange(0, {block})[None, :]",
                f"attends = {last}",
                *([f"attends &= low - block * {block} <= places"] if low else []),
            ],
            "predicate": [],
        }

    def limit_lines(self, limits: Limits, side: Side) -> list[str]:
        """Statements for a row's ranges of blocks: [live_start, live_end) not empty, [full_start, full_end) full."""
        row, other = ("row", "key") if side is Side.QUERY else ("column", "query")
        size, length, block = f"{side.upper()}_BLOCK", f"{other}_length", f"{other.upper()}_BLOCK"
        first, last = f"first_{side}", f"last_{side}"
        printed = Ends(self.names, first, last)
        some_low, all_low = printed.extremes("maximum", limits.low)
        all_high, some_high = printed.extremes("minimum", limits.high)
        lines = [f"{first} = {row} * {size}"]
        if any(f"{last}" in text for text in (some_low, all_low, some_high, all_high) if text):
            lines.append(f"{last} = tl.minimum({first} + {size}, {side}_length) - 1")
        lines += printed.lines
        lines.append(f"# The {other} blocks of the {row}: live ones are partial or full, full ones need no mask.")
        # Limits are cut to what there is before anything is added to them, which could overflow.
        live_end = f"tl.minimum({some_high}, {length} - 1) + 1" if some_high else length
        full_end = f"(tl.minimum({all_high}, {length} - 1) + 1)" if all_high else length
        if some_low and all_low:
            first_full = f"tl.cdiv(tl.minimum(tl.maximum({all_low}, 0), {length}), {block})"
            lines.append(f"live_start = tl.maximum({some_low}, 0) // {block}")
            lines.append(f"live_end = tl.maximum(tl.cdiv({live_end}, {block}), live_start)")
            lines.append(f"full_start = tl.minimum({first_full}, live_end)")
        else:
            lines += ["live_start, full_start = 0, 0", f"live_end = tl.maximum(tl.cdiv({live_end}, {block}), 0)"]
        lines.append(f"full_end = tl.minimum(tl.maximum({full_end} // {block}, full_start), live_end)")
        return lines


def _lengthen(limits: Limits) -> list[bool]:
    """Whether each limit leaves more to later tokens."""
    return [*(limit.rises for limit in limits.high), *(not limit.rises for limit in limits.low)]


def _program_lines(row: str, head: str, heads: str, falls: bool) -> list[str]:
    """Statements for a program's row, head and batch entry; `falls` says that the last row comes first."""
    number = f"{row}s - 1 - tl.program_id(0) % {row}s" if falls else f"tl.program_id(0) % {row}s"
    return [
        f"# Programs start in order: long {row}s, which come first, would be the tail of the grid.",
        f"{row} = {number}",
        f"{head} = tl.program_id(0) // {row}s % {heads}",
        f"batch = tl.program_id(0) // {row}s // {heads}",
    ]


class Ends:
    """Prints limits at the first and at the last token of a block."""

    def __init__(self, names: KernelNames, first: str, last: str, prefix: str = "") -> None:
        self.first, self.last = first, last
        self.lines: list[str] = []
        self.printers = {name: self.printer(names, name, prefix or f"{name}_") for name in (first, last)}

    def printer(self, names: KernelNames, name: str, prefix: str) -> TritonPrinter:
        printer = TritonPrinter(
            names.plan.mask,
            names.leaf,
            coordinates=lambda side, _: name,
            spaces=lambda side, space: space,
            inputs={},
            relation=True,
            taken={*names.taken, *names.coordinates.values(), *names.numbers, *names.inputs.values()},
            prefix=prefix,
        )
        printer.lines = self.lines
        return printer

    def extremes(self, function: str, limits: Iterable[Limit]) -> tuple[str, str]:
        """The least and the greatest limit of the block's tokens; `function` joins several limits of a token."""
        low, high = "", ""
        for limit in limits:
            least, greatest = (self.first, self.last) if limit.rises else (self.last, self.first)
            low = self.joined(function, low, self.printers[least].print(limit.value)[0])
            high = self.joined(function, high, self.printers[greatest].print(limit.value)[0])
        return low, high

    def joined(self, function: str, one: str, other: str) -> str:
        return f"tl.{function}({one}, {other})" if one else other


def wrapped_tuple(start: str, items: list[str]) -> list[str]:
    """A statement that ends in a tuple: on one line if it fits, else one item a line."""
    line = f"{start}({', '.join(items)}{',' * (len(items) == 1)})"
    return [line] if len(line) <= 112 else [f"{start}(", *(f"    {item}," for item in items), ")"]


def splits(plan: KernelPlan, kernel: KernelName) -> bool:
    """Whether a kernel can compute rows in pieces.

    That is so where tiles are listed on the host, for a softmax, if its result is all that it sums over a row.
    """
    limits = plan.column_limits if kernel is KernelName.KEY_GRADIENT else plan.row_limits
    if limits is not None or plan.finds_device_tiles or plan.mask.normalize is Normalize.NONE:
        return False
    match kernel:
        case KernelName.FORWARD:
            return True
        case KernelName.QUERY_GRADIENT:
            sums = scores_may_be_large(plan) or plan.mask.factor is not None
            return not sums and not Leaves(KernelNames(plan)).nodes
        case KernelName.KEY_GRADIENT:
            return not Leaves(KernelNames(plan)).nodes


def forward_piece_holes(plan: KernelPlan, unit: str) -> MaybeHoles:
    """Of `codegen/forward.py`; `unit` is the text of UNIT."""
    some = any(splits(plan, kernel) for kernel in KernelName)
    functions: MaybeHoles = {"piece_functions": [], "store_piece": None if some else []}
    if splits(plan, KernelName.FORWARD):
        joined = f"start_join_kernel(tiles, piece_results, piece_sums, out, lse, {unit})"
        return {**functions, **dict.fromkeys((*_FORWARD_PIECES, "pieces")), "join_pieces": [joined]}
    whole = {"pieces": ["real = queries < query_length"]}
    return {**functions, **{name: [] for name in (*_FORWARD_PIECES, "join_pieces")}, **whole}


def piece_holes(plan: KernelPlan) -> MaybeHoles:
    """Of `codegen/pieces.py`, which a module has if any of its kernels splits rows."""
    gradients = splits(plan, KernelName.QUERY_GRADIENT) or splits(plan, KernelName.KEY_GRADIENT)
    forward = splits(plan, KernelName.FORWARD)
    return {"above": [], "join_kernel": None if forward else [], "sum_kernel": None if gradients else []}
