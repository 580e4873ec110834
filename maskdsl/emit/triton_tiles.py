"""The pattern's code in the kernel that finds tiles on the device: bounds of the relation over blocks of tokens."""

from dataclasses import dataclass
from functools import cached_property

from maskdsl.emit.triton_bounds import BoundNames, ends
from maskdsl.emit.triton_coordinates import KINDS, KernelNames, plain_names, words_of
from maskdsl.emit.triton_loops import MaybeHoles, wrapped_tuple
from maskdsl.ir.bounds import Bounder
from maskdsl.ir.expressions import TRUE, Expression, InSpace, Side, walk
from maskdsl.ir.mask import DimensionKind, Input
from maskdsl.ir.ops import Type
from maskdsl.plan import tables_of

SHARED = ("columns", "whole_columns", "variant", "head", "batch", "query_length", "key_length")
VARYING = {"heads": DimensionKind.HEADS, "batch": DimensionKind.BATCH}


@dataclass(frozen=True)
class TileBody:
    """The third part of a generated module, of patterns whose tiles depend on inputs."""

    names: KernelNames

    @property
    def relation(self) -> Expression:
        return self.names.plan.mask.relation

    @cached_property
    def coordinates(self) -> tuple[tuple[Side, str], ...]:
        return tuple((side, name) for side in KINDS for name in plain_names([self.relation], side))

    @cached_property
    def reads(self) -> tuple[Input, ...]:
        """Inputs that the relation reads by index."""
        read = tables_of([self.relation])
        return tuple(each for each in self.names.plan.mask.inputs if each.name in read)

    def holes(self) -> MaybeHoles:
        verdict = self.verdict()
        values = {text: text for text in [*self.bound_names(), *(self.names.inputs[each.name] for each in self.reads)]}
        numbers = {name: value for name, value in self.numbers().items() if name in words_of("\n".join(verdict))}
        parameters = [f"{name}," for name in (*values, *numbers)]
        listed = ", ".join(f'"{name}"' for name in numbers)
        return {
            "above": [],
            "tiles_numbers": [f"TILES_NUMBERS += [{listed}]"] if numbers else [],
            "judge_parameters": parameters,
            "verdict": verdict,
            "tiles_parameters": parameters,
            "shared": wrapped_tuple("shared = ", [*SHARED, *values, *numbers]),
            "tiles_prepare": self.preparation(),
            "tiles_arguments": [f"{name}={value}," for name, value in {**values, **numbers}.items()],
        }

    # In the kernel

    def verdict(self) -> list[str]:
        """Bounds of coordinates, and what follows from them."""
        lines = ["wide_batch = batch.to(tl.int64)"] if self.reads else []
        if any(isinstance(node, InSpace) for node in walk(self.relation)):
            for kind in KINDS.values():
                lines.append(f"last_{kind} = tl.minimum(first_{kind} + {kind.upper()}_BLOCK, {kind}_length) - 1")
        for side, name in self.coordinates:
            kind, text = KINDS[side], self.names.coordinates[side, name]
            truth = " != 0" if self.names.type(side, name) is Type.BOOL else ""
            place = f"variant * tl.cdiv({kind}_length, {kind.upper()}_BLOCK) + {kind}_block"
            lines += [f"{text}_{end} = tl.load({text}_{end}s + {place}){truth}" for end in ("low", "high")]
        bounds = Bounder(ends, self.names.leaf).bounds(self.relation)
        printer = BoundNames(self.names).printer(taken=[name[:-1] for name in self.bound_names()])
        for name, bound in (("certain", bounds.low), ("possible", bounds.high)):
            if bound != TRUE:
                printer.statement(f"{name} &= ", bound)
        return lines + printer.lines

    def bound_names(self) -> list[str]:
        return [f"{self.names.coordinates[each]}_{end}s" for each in self.coordinates for end in ("low", "high")]

    def numbers(self) -> dict[str, str]:
        return {**self.names.numbers, **self.names.input_numbers(self.reads)}

    # Around it

    def preparation(self) -> list[str]:
        plan, names = self.names.plan, self.names
        lines = names.coordinate_calls("device")
        lines += [f"{word} = 1" for word, kind in VARYING.items() if not plan.depends(kind, [self.relation])]
        for side, name in self.coordinates:
            text, number = names.coordinates[side, name], int(side is Side.KEY)
            values = f'{names.kind(side)}_values["{plan.identifiers[name]}"]'
            arguments = [values, f"layout[{number}]", "batch", "heads", names.dtype(side, name), f"block[{number}]"]
            lines += called(f"{text}_lows, {text}_highs = extremes", arguments)
        return lines + names.input_lines(self.reads)


def called(function: str, arguments: list[str]) -> list[str]:
    """A call on one line if it fits."""
    line = f"{function}({', '.join(arguments)})"
    return [line] if len(line) <= 112 else [f"{function}(", *(f"    {each}," for each in arguments), ")"]
