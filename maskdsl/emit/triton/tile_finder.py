"""Plan to the code that fills `codegen/block_ends.py` and `device_tiles.py`.

Bounds of the relation over blocks classify tiles.
"""

from functools import cached_property

from maskdsl.base.records import dataclass
from maskdsl.emit.plan import unused
from maskdsl.emit.skeleton import words_of
from maskdsl.emit.triton.block_bounds import BoundNames, ends, positions
from maskdsl.emit.triton.forward_body import MaybeHoles
from maskdsl.emit.triton.tile_loops import wrapped_tuple
from maskdsl.emit.triton.token_coordinates import KernelNames, sizes_and_strides
from maskdsl.ir.declared.inputs import DimensionKind, Input
from maskdsl.ir.expressions import PAIR, TRUE, Constant, Coordinate, Expression, Leaf, Side
from maskdsl.ir.facts.bounds import Bounder, Bounds
from maskdsl.ir.facts.boxes import Boxes, Counts
from maskdsl.ir.facts.ranges import expression_range
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.ops import Type
from maskdsl.ir.routes import Route, TopCount

_SHARED = ("columns", "whole_columns", "head_class", "head", "batch", "query_length", "key_length")
_VARYING = {"heads": DimensionKind.HEADS, "batch": DimensionKind.BATCH}


@dataclass(frozen=True)
class TileBody:
    """The holes of the skeletons that find tiles on the device, for patterns whose tiles depend on inputs."""

    names: KernelNames

    @property
    def relation(self) -> Expression:
        return self.names.plan.mask.relation

    @cached_property
    def coordinates(self) -> tuple[tuple[Side, str], ...]:
        """The coordinates whose minimum and maximum in each block are in tables."""
        return tuple((side, name) for side in PAIR for name in self.names.bounded(side))

    def is_laid_out(self, side: Side) -> bool:
        """Whether a side has an order; without one, laid-out positions are the declared ones."""
        return any(self.names.sequence(side).order)

    def ends(self, node: Leaf) -> Bounds:
        if isinstance(node, Coordinate) and node.name == "i" and not self.is_laid_out(node.side):
            return positions(node.side)
        return ends(node)

    @cached_property
    def bounds(self) -> tuple[Bounds, tuple[Counts, ...]]:
        """The bounds of the relation, and the prefix counts of boolean tables that they read."""
        plan, ranges = self.names.plan, BoundNames(self.names).ranges
        laid_out = {side: positions(side) for side in PAIR if not plan.order_varies and self.is_laid_out(side)}
        boxes = Boxes(plan.mask, lambda each: expression_range(each, ranges), laid_out)
        bounds = Bounder(self.ends, self.names.leaf, boxes.bounds).bounds(self.relation)
        read = reads(*bounds).inputs
        return bounds, tuple(each for name, each in boxes.used.items() if name in read)

    @cached_property
    def reads(self) -> tuple[Input, ...]:
        """The inputs that the bounds read by index."""
        return self.names.plan.mask.named(reads(*self.bounds[0]).inputs)

    @cached_property
    def extremes(self) -> dict[tuple[Side, str], str]:
        """The variable of the extremes of each coordinate of each kind of tokens."""
        chosen: dict[tuple[Side, str], str] = {}
        for side, name in self.coordinates:
            chosen.setdefault((self.names.plan.mask.kind(side), name), f"{self.names.coordinates[side, name]}_ends")
        return chosen

    @cached_property
    def counts(self) -> dict[Counts, str]:
        """The pointers of the prefix counts that the bounds read."""
        taken = {*self.names.taken, *self.names.coordinates.values(), *self.names.inputs.values(), *self.names.numbers}
        chosen: dict[Counts, str] = {}
        for each in self.bounds[1]:
            text = f"{self.names.plan.input_identifiers[each.table.name]}_counts"
            chosen[each] = unused(text, {*taken, *chosen.values()})
        return chosen

    @property
    def kept(self) -> list[str]:
        """The variables of what `block_bounds` returns, one or more."""
        tables = [self.names.inputs[each.name] for each in self.reads]
        return [*self.extremes.values(), *self.counts.values(), *tables]

    def holes(self) -> MaybeHoles:
        verdict = self.verdict()
        tables = [self.names.inputs[each.name] for each in self.reads]
        values = {text: text for text in [*self.bound_names(), *tables, *self.counts.values()]}
        numbers = {name: value for name, value in self.numbers().items() if name in words_of("\n".join(verdict))}
        parameters = [f"{name}," for name in (*values, *numbers)]
        listed = ", ".join(f'"{name}"' for name in numbers)
        return {
            "above": [],
            "extremes": None if self.coordinates else [],
            "bounds": self.bound_lines(),
            "tiles_numbers": [f"TILES_NUMBERS += [{listed}]"] if numbers else [],
            "judge_parameters": parameters,
            "verdict": verdict,
            "tiles_parameters": parameters,
            "shared": wrapped_tuple("shared = ", [*_SHARED, *values, *numbers]),
            "tiles_prepare": self.preparation(),
            "tiles_arguments": [f"{value}," for value in (*values.values(), *numbers.values())],
            "most_runs": self.most_runs(),
        }

    # In the kernel

    def verdict(self) -> list[str]:
        """Statements for the bounds of coordinates, then of the relation: `certain` and `possible`."""
        lines = ["wide_batch = batch.to(tl.int64)"] if self.reads or self.counts else []
        for side in PAIR:
            if positions(side).high in reads(*self.bounds[0]).leaves:
                lines.append(f"last_{side} = tl.minimum(first_{side} + {side.upper()}_BLOCK, {side}_length) - 1")
        for side, name in self.coordinates:
            text = self.names.coordinates[side, name]
            truth = " != 0" if self.names.type(side, name) is Type.BOOL else ""
            offset = f"head_class * tl.cdiv({side}_length, {side.upper()}_BLOCK) + {side}_block"
            lines += [f"{text}_{end} = tl.load({text}_{end}s + {offset}){truth}" for end in ("low", "high")]
        counts = {each.input: text for each, text in self.counts.items()}
        printer = BoundNames(self.names).printer([name[:-1] for name in self.bound_names()], counts)
        for name, bound in zip(("certain", "possible"), self.bounds[0], strict=True):
            if bound != TRUE:
                printer.statement(f"{name} &= ", bound)
        return lines + printer.lines

    def bound_names(self) -> list[str]:
        return [f"{self.names.coordinates[each]}_{end}s" for each in self.coordinates for end in ("low", "high")]

    def numbers(self) -> dict[str, str]:
        numbers = {**self.names.numbers, **self.names.input_numbers(self.reads)}
        for each, text in self.counts.items():
            numbers |= sizes_and_strides(text, len(each.table.dimensions))
        return numbers

    # Around it

    def shared_lines(self) -> list[str]:
        return [f"{word} = 1" for word, kind in _VARYING.items() if kind not in self.names.plan.tiles_vary]

    def bound_lines(self) -> list[str]:
        """The statements of `block_bounds`."""
        plan, names = self.names.plan, self.names
        lines = ["batch, heads = shape[:2]", *names.coordinate_calls("device"), *self.shared_lines()]
        for (kind, name), text in self.extremes.items():
            arguments = [f'{kind}_values["{plan.identifiers[name]}"]', f"layout[{int(kind is Side.KEY)}]", "batch"]
            side = next(each for each in PAIR if plan.mask.kind(each) is kind)
            lines += _called(f"{text} = extremes", [*arguments, "heads", names.dtype(side, name)])
        for counts, text in self.counts.items():
            table = f'inputs["{plan.input_identifiers[counts.table.name]}"]'
            for axis, side in counts.laid_out:
                table += f".index_select({axis}, layout[{int(side is Side.KEY)}].flatten())"
            lines.append(f"{text} = counts_before({table}, {counts.axes})")
        return [*lines, *names.input_lines(self.reads), *wrapped_tuple("return ", self.kept)]

    def preparation(self) -> list[str]:
        """The statements of `find_tiles` that take what `block_bounds` has returned."""
        lines = self.shared_lines()
        *others, last = wrapped_tuple("", self.kept)
        lines += [*others, f"{last} = bounds"]
        for side, name in self.coordinates:
            ends = ", ".join(f"{self.names.coordinates[side, name]}_{end}s" for end in ("low", "high"))
            text = self.extremes[self.names.plan.mask.kind(side), name]
            lines.append(f"{ends} = extremes_of({text}, block[{int(side is Side.KEY)}])")
        return lines

    def most_runs(self) -> list[str]:
        """Statements that raise the limit of runs: each group that a route selects adds one to the rows it overlaps."""
        read = reads(self.relation).inputs
        routes = [each for each in self.names.plan.mask.routed if isinstance(each, Route) and each.name in read]
        lines = []
        for route in routes:
            match route.selector:
                case TopCount(count=Constant(value=count)):
                    selected = route.queries.count * int(count)
                    by_row, by_column = int(count), -(-selected // route.keys.count)
                    lines.append(f"most_runs += -(-{selected} // rows) + ({by_row} if by_row else {by_column})")
        return lines


def _called(function: str, arguments: list[str]) -> list[str]:
    """A call: on one line if it fits, else one argument a line."""
    line = f"{function}({', '.join(arguments)})"
    return [line] if len(line) <= 112 else [f"{function}(", *(f"    {each}," for each in arguments), ")"]
